//! The ends of the control socket: who may ask, and what is answered.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use sys::seqpacket::{Connection, Incoming, Listener, MAX_MESSAGE};
use zeroize::{Zeroize, Zeroizing};

use super::Switch;
use super::events::{Event, Events};
use crate::control::{self, Page, Reply, Request};
use crate::metrics::{self, Source};
use crate::tunnel::Place;

/// Clients connected at the same time.
const MAX_CLIENTS: usize = 32;

/// Longest name of a space, bytes.
const MAX_NAME: usize = 64;

/// Everybody who is connected.
#[derive(Default)]
pub(super) struct Clients {
    connected: Vec<(u32, Connection)>,
    last: u32,
}

impl Clients {
    pub(super) fn is_empty(&self) -> bool {
        self.connected.is_empty()
    }

    /// Takes the next connection, if its user may ask.
    pub(super) fn accept(&mut self, listener: &Listener, events: &Events) {
        let Ok(Some(connection)) = listener.accept() else { return };
        let own = rustix::process::geteuid().as_raw();
        let allowed = connection.peer_user().is_ok_and(|user| user == own || user == 0);
        let reason = if !allowed {
            "this switch belongs to another user: start one of your own with `portspace up`"
        } else if self.connected.len() >= MAX_CLIENTS {
            "too many requests at the same time: try again"
        } else {
            self.last = self.last.wrapping_add(1);
            if events.add(&connection, Event::Client(self.last)).is_ok() {
                self.connected.push((self.last, connection));
            }
            return;
        };
        // It is told on its way out; whether it listens is its own affair.
        let _ = control::send(&connection, &Reply::Refused { reason: reason.into() }, &[]);
    }

    /// Answers one request; whoever does not follow the protocol is disconnected, and takes along the
    /// spaces that came with it.
    pub(super) fn serve(&mut self, number: u32, switch: &mut Switch) {
        let Some(at) = self.connected.iter().position(|(n, _)| *n == number) else { return };
        if !serve(&self.connected[at], switch) {
            self.connected.swap_remove(at);
            switch.detach_of(number);
        }
    }
}

/// Reads and answers one message; false if the connection is to end.
fn serve((number, connection): &(u32, Connection), switch: &mut Switch) -> bool {
    let mut buffer = Zeroizing::new(vec![0; MAX_MESSAGE]);
    let (length, fds) = match connection.receive(&mut buffer) {
        Ok(Incoming::Message(length, fds)) => (length, fds),
        Ok(Incoming::Nothing) => return true,
        Ok(Incoming::Closed | Incoming::TooLong) | Err(_) => return false,
    };
    let request = serde_json::from_slice(&buffer[..length]);
    buffer.zeroize();
    let answer = match request {
        Err(error) => Err(format!("not a request of this version of portspace: {error}")),
        Ok(request) => switch.obey(request, fds.into_iter().next(), *number),
    };
    let (reply, given) = answer.unwrap_or_else(|reason| (Reply::Refused { reason }, None));
    let fds: Vec<_> = given.iter().map(Given::as_fd).collect();
    let sent = control::send(connection, &reply, &fds).is_ok();
    if let (false, Some(Given::Machine(place, _))) = (sent, given) {
        switch.detach(place);
    }
    sent
}

/// A descriptor that goes with a reply.
enum Given {
    /// The connection of the machine of the space at this place.
    Machine(Place, UnixStream),
    /// The packets of a capture.
    Packets(OwnedFd),
}

impl AsFd for Given {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Given::Machine(_, stream) => stream.as_fd(),
            Given::Packets(pipe) => pipe.as_fd(),
        }
    }
}

impl Switch {
    /// Does what `client` asks, with the descriptor that came with it; gives the answer, or why
    /// nothing was done.
    fn obey(
        &mut self,
        request: Request,
        fd: Option<OwnedFd>,
        client: u32,
    ) -> Result<(Reply, Option<Given>), String> {
        let reply = match request {
            Request::Attach { space, overlay } => {
                let (place, stream) = self.attach(named(space)?, overlay).map_err(words)?;
                let reply = Reply::Attached(self.extent(place));
                return Ok((reply, Some(Given::Machine(place, stream))));
            }
            Request::Plug { space, overlay } => {
                let socket = fd.ok_or("a listening socket has to come with this request")?;
                let place =
                    self.attach_socket(named(space)?, overlay, socket, client).map_err(words)?;
                Reply::Attached(self.extent(place))
            }
            Request::Extend { space, sas } => {
                let place = self.place(&space)?;
                self.extend(place, sas).map_err(words)?;
                Reply::Done
            }
            Request::Detach { space } => {
                let place = self.place(&space)?;
                self.detach(place);
                Reply::Done
            }
            Request::Status => Reply::Status(self.status()),
            Request::Spaces { from } => Reply::Spaces(self.spaces_from(from)),
            Request::Space { space } => {
                let place = self.place(&space)? as u64;
                let items = self.space(place).into_iter().map(|(_, space)| space).collect();
                Reply::Spaces(Page { items, next: None })
            }
            Request::Pairs { space, from } => {
                Reply::Pairs(self.pairs_from(self.place(&space)? as u64, from))
            }
            Request::Policies { space, from } => {
                Reply::Policies(self.policies_from(self.place(&space)? as u64, from))
            }
            Request::Metrics { from } => {
                let (text, next) = metrics::part(self, from);
                Reply::Metrics { text, next }
            }
            Request::Capture { space, layer, snaplen } => {
                let place = self.place(&space)?;
                let pipe = self.taps.start(place, layer, snaplen).map_err(words)?;
                return Ok((Reply::Done, Some(Given::Packets(pipe))));
            }
        };
        Ok((reply, None))
    }

    fn place(&self, space: &str) -> Result<Place, String> {
        let place = self.spaces.named(space);
        place.ok_or_else(|| format!("no space of the name {space} is attached"))
    }
}

/// A name a space can have.
fn named(space: String) -> Result<String, String> {
    match space.len() {
        1..=MAX_NAME => Ok(space),
        _ => Err(format!("a space's name has 1 to {MAX_NAME} bytes")),
    }
}

fn words(refused: impl std::error::Error) -> String {
    refused.to_string()
}
