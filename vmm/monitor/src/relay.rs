//! One client of the control socket: its request, then bytes to and from the guest.
//!
//! A relay holds at most one buffer's worth in each direction; a side that does
//! not read stops the other, nothing else.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

use abi::exec;
use abi::layout::EXEC_PORT;
use event_manager::EventSet;
use virtio::vsock::{ConnectionId, Stage, Vsock};

use crate::control::{MAX_REQUEST, Request, Run, Status};

/// Most bytes moved at once.
const CHUNK: usize = 64 * 1024;

/// What a client is waiting for.
#[derive(Debug)]
enum Wish {
    /// It has not said yet.
    Unknown,
    /// The moment programs can be run.
    Ready,
    /// A program's frames, on this connection.
    Program(ConnectionId),
    /// Nothing more: the last bytes are on their way.
    Nothing,
}

/// What the loop has to do for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Wait for these events.
    Events(EventSet),
    /// Drop it.
    Over,
    /// End the machine.
    Stop,
}

#[derive(Debug)]
pub(crate) struct Relay {
    stream: UnixStream,
    wish: Wish,
    to_guest: Vec<u8>,
    to_client: Vec<u8>,
    /// Whether the last pump changed the guest's connection, which has to be served then.
    touched: bool,
}

impl Relay {
    /// A client that just connected; `stream` does not block.
    pub(crate) fn new(stream: UnixStream) -> Relay {
        Relay {
            stream,
            wish: Wish::Unknown,
            to_guest: Vec::new(),
            to_client: Vec::new(),
            touched: false,
        }
    }

    /// Whether the last pump gave the vsock device something to do.
    pub(crate) fn touched(&self) -> bool {
        self.touched
    }

    pub(crate) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Moves what can be moved. `status` is called when a client asks for it.
    pub(crate) fn pump(&mut self, vsock: Option<&mut Vsock>, status: &dyn Fn() -> Status) -> Need {
        self.touched = false;
        let alive = self.receive();
        match self.wish {
            Wish::Unknown if alive.is_ok() => {
                if let Some(need) = self.begin(vsock, status) {
                    return need;
                }
            }
            Wish::Ready if status().ready => self.answer(&status()),
            Wish::Program(id) => match vsock {
                Some(vsock) if alive.is_ok() => {
                    if self.converse(vsock, id).is_err() {
                        return Need::Over;
                    }
                }
                Some(vsock) => {
                    vsock.close(id);
                    self.touched = true;
                }
                None => self.wish = Wish::Nothing,
            },
            Wish::Unknown | Wish::Ready | Wish::Nothing => {}
        }
        if alive.is_err() || self.deliver().is_err() {
            return Need::Over;
        }
        match self.wish {
            Wish::Nothing if self.to_client.is_empty() => Need::Over,
            _ => Need::Events(self.events()),
        }
    }

    /// Ends the guest's side, if there is one.
    pub(crate) fn hang_up(&self, vsock: Option<&mut Vsock>) {
        if let (Wish::Program(id), Some(vsock)) = (&self.wish, vsock) {
            vsock.close(*id);
        }
    }

    fn events(&self) -> EventSet {
        let mut events = EventSet::READ_HANG_UP;
        events.set(EventSet::IN, self.to_guest.len() < CHUNK);
        events.set(EventSet::OUT, !self.to_client.is_empty());
        events
    }

    /// Reads what the client sent, as far as there is room. An error is its end.
    fn receive(&mut self) -> Result<(), ErrorKind> {
        let room = CHUNK.saturating_sub(self.to_guest.len());
        if room == 0 {
            return Ok(());
        }
        let mut buffer = [0; 16 * 1024];
        let length = buffer.len().min(room);
        match self.stream.read(&mut buffer[..length]) {
            Ok(0) => Err(ErrorKind::UnexpectedEof),
            Ok(length) => {
                self.to_guest.extend_from_slice(&buffer[..length]);
                Ok(())
            }
            Err(error) if again(error.kind()) => Ok(()),
            Err(error) => Err(error.kind()),
        }
    }

    /// Starts what the client asks for, once its line is there.
    fn begin(&mut self, vsock: Option<&mut Vsock>, status: &dyn Fn() -> Status) -> Option<Need> {
        let Some(end) = self.to_guest.iter().position(|byte| *byte == b'\n') else {
            return (self.to_guest.len() >= MAX_REQUEST).then_some(Need::Over);
        };
        let rest = self.to_guest.split_off(end + 1);
        let line = std::mem::replace(&mut self.to_guest, rest);
        match serde_json::from_slice(&line) {
            Ok(Request::Run(run)) => self.start(run, vsock),
            Ok(Request::Status {}) => self.answer(&status()),
            Ok(Request::Wait {}) => self.wish = Wish::Ready,
            Ok(Request::Stop {}) => return Some(Need::Stop),
            Err(_) => return Some(Need::Over),
        }
        if matches!(self.wish, Wish::Ready) && status().ready {
            self.answer(&status());
        }
        None
    }

    fn start(&mut self, run: Run, vsock: Option<&mut Vsock>) {
        let files = run.files.into_iter().map(|file| exec::Inherited {
            number: file.number,
            path: file.path,
            flags: file.flags,
            offset: file.offset,
        });
        let run = exec::Run {
            files: files.collect(),
            arguments: run.arguments,
            directory: run.directory,
            environment: run.environment,
        };
        let payload = run.encode();
        let connection = vsock.and_then(|vsock| Some((vsock.connect(EXEC_PORT)?, vsock)));
        match connection {
            _ if payload.len() > exec::MAX_PAYLOAD => {
                self.refuse(
                    "portspace: arguments, environment and names of open files are longer than 64 KiB together\n",
                );
            }
            None => self.refuse("portspace: the space runs as many programs as it can\n"),
            Some((id, vsock)) => {
                let mut first = Vec::with_capacity(payload.len() + exec::HEADER);
                exec::encode(exec::Kind::Run, &payload, &mut first);
                first.append(&mut self.to_guest);
                self.to_guest = first;
                self.wish = Wish::Program(id);
                self.touched = true;
                self.exchange(vsock, id);
            }
        }
    }

    /// Moves bytes between the guest's connection and the client as far as the client takes them:
    /// once it has taken all, neither its socket nor a guest without credit says that there is more.
    fn converse(&mut self, vsock: &mut Vsock, id: ConnectionId) -> Result<(), ErrorKind> {
        loop {
            self.exchange(vsock, id);
            self.deliver()?;
            let more = vsock.connection(id).is_some_and(|connection| connection.readable() > 0);
            if !(more && self.to_client.is_empty()) {
                return Ok(());
            }
        }
    }

    /// Moves bytes between the client's buffers and the guest's connection.
    fn exchange(&mut self, vsock: &mut Vsock, id: ConnectionId) {
        let Some(connection) = vsock.connection(id) else {
            self.wish = Wish::Nothing;
            return;
        };
        let sent = connection.send(&self.to_guest);
        self.to_guest.drain(..sent);
        self.touched |= sent > 0;
        if self.to_client.len() < CHUNK {
            let start = self.to_client.len();
            self.to_client.resize(start + connection.readable().min(CHUNK), 0);
            let length = connection.read(&mut self.to_client[start..]);
            self.to_client.truncate(start + length);
            self.touched |= length > 0;
        }
        if connection.stage() == Stage::Refused {
            vsock.close(id);
            self.refuse("portspace: the guest does not run programs yet; try again in a moment\n");
        } else if connection.ended() && connection.readable() == 0 {
            vsock.close(id);
            self.touched = true;
            self.wish = Wish::Nothing;
        }
    }

    /// Ends a run that never started, in the run's own words.
    fn refuse(&mut self, sentence: &str) {
        exec::encode(exec::Kind::Stderr, sentence.as_bytes(), &mut self.to_client);
        exec::encode(exec::Kind::Exit, &[CANNOT_RUN], &mut self.to_client);
        self.wish = Wish::Nothing;
    }

    fn answer(&mut self, status: &Status) {
        serde_json::to_writer(&mut self.to_client, status).expect("a status has a JSON form");
        self.to_client.push(b'\n');
        self.wish = Wish::Nothing;
    }

    /// Writes to the client what it takes now.
    fn deliver(&mut self) -> Result<(), ErrorKind> {
        while !self.to_client.is_empty() {
            match self.stream.write(&self.to_client) {
                Ok(length) => drop(self.to_client.drain(..length)),
                Err(error) if again(error.kind()) => break,
                Err(error) => return Err(error.kind()),
            }
        }
        Ok(())
    }
}

/// The exit status of a program that could not be started (as shells have it).
const CANNOT_RUN: u8 = 126;

fn again(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
