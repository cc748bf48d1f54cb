//! The program runner: one run of a program per stream to [`EXEC_PORT`], in the
//! frames of [`abi::exec`]. Several runs at once; a run ends with its stream.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll};

use abi::exec::{self, Kind, Run};
use abi::layout::EXEC_PORT;

use crate::executor::Spawner;
use crate::pipe::{Input, Output};
use crate::programs::{self, NotOpened, System};
use crate::vsock::{Stream, Vsock};

/// Exit status of a run that was interrupted (128 + SIGINT).
const INTERRUPTED: u8 = 130;

/// Exit status of a run whose files cannot be opened, as shells have it: nothing was run.
const CANNOT_RUN: u8 = 126;

/// Bytes of standard input kept for a program before the host has to wait.
const INPUT_LIMIT: usize = 32 * 1024;

/// Listens for runs from now on.
pub fn start(vsock: &Vsock, system: System, spawner: &Spawner) {
    let listener = vsock.listen(EXEC_PORT);
    let inner = spawner.clone();
    spawner.spawn(async move {
        loop {
            let stream = listener.accept().await;
            let mut session = Session::new(stream, system.clone());
            inner.spawn(poll_fn(move |cx| session.poll(cx)));
        }
    });
}

/// One run.
struct Session {
    stream: Stream,
    system: System,
    /// Bytes from the host that are no whole frame yet.
    incoming: Vec<u8>,
    /// Frames to the host, and how much of them is sent.
    outgoing: Vec<u8>,
    sent: usize,
    input: Input,
    output: Output,
    stage: Stage,
}

enum Stage {
    /// No [`Kind::Run`] yet.
    Waiting,
    Running(Pin<Box<dyn Future<Output = u8>>>),
    /// The exit status is to be sent after all output.
    Ended(u8),
    /// It is in `outgoing`.
    Told,
}

/// There is nothing more to do for this run.
struct Over;

impl Session {
    fn new(stream: Stream, system: System) -> Session {
        Session {
            stream,
            system,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            input: Input::default(),
            output: Output::default(),
            stage: Stage::Waiting,
        }
    }

    /// Moves bytes and runs the program as far as both go.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let moved = self.read(cx).and_then(|read| Ok(read | self.run(cx) | self.write(cx)?));
            match moved {
                Err(Over) => return Poll::Ready(()),
                Ok(false) => return Poll::Pending,
                Ok(true) => {}
            }
        }
    }

    /// Reads frames; whether there was anything.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Over> {
        if self.input.waiting() > INPUT_LIMIT {
            return if self.stream.gone() { Err(Over) } else { Ok(false) };
        }
        match self.stream.poll_read(cx, &mut self.incoming) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Err(_)) => return Err(Over),
            Poll::Ready(Ok(0)) => {
                // The host says no more, but may still listen.
                self.input.feed(&[]);
                return if matches!(self.stage, Stage::Waiting) { Err(Over) } else { Ok(false) };
            }
            Poll::Ready(Ok(_)) => {}
        }
        let bytes = core::mem::take(&mut self.incoming);
        let mut rest = &bytes[..];
        while let Some((kind, payload, used)) = exec::decode(rest).map_err(|_| Over)? {
            self.frame(kind, payload)?;
            rest = &rest[used..];
        }
        self.incoming = rest.to_vec();
        Ok(true)
    }

    fn frame(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Over> {
        match kind {
            Kind::Run if matches!(self.stage, Stage::Waiting) => {
                let mut run = Run::decode(payload).ok_or(Over)?;
                let name = match run.arguments.is_empty() {
                    true => String::from("help"),
                    false => run.arguments.remove(0),
                };
                let files = run.files;
                let mut context = programs::Context {
                    system: self.system.clone(),
                    arguments: run.arguments,
                    directory: run.directory,
                    input: self.input.clone(),
                    output: self.output.writer(Kind::Stdout),
                    errors: self.output.writer(Kind::Stderr),
                    files: BTreeMap::new(),
                };
                let program = async move {
                    match context.inherit(&files).await {
                        Ok(()) => programs::run(&name, context).await,
                        Err(NotOpened) => CANNOT_RUN,
                    }
                };
                self.stage = Stage::Running(Box::pin(program));
            }
            Kind::Stdin => self.input.feed(payload),
            Kind::Interrupt => {
                if matches!(self.stage, Stage::Running(_)) {
                    self.stage = Stage::Ended(INTERRUPTED);
                }
            }
            Kind::Run | Kind::Stdout | Kind::Stderr | Kind::Exit => return Err(Over),
        }
        Ok(())
    }

    /// Polls the program; whether it ended.
    fn run(&mut self, cx: &mut Context<'_>) -> bool {
        let Stage::Running(program) = &mut self.stage else { return false };
        let Poll::Ready(status) = program.as_mut().poll(cx) else { return false };
        self.stage = Stage::Ended(status);
        true
    }

    /// Sends frames; whether any of them went.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, Over> {
        if self.outgoing.is_empty() {
            self.outgoing = self.output.take();
        }
        if self.outgoing.is_empty() {
            match self.stage {
                Stage::Ended(status) => {
                    exec::encode(Kind::Exit, &[status], &mut self.outgoing);
                    self.stage = Stage::Told;
                }
                Stage::Told => return Err(Over),
                Stage::Waiting | Stage::Running(_) => return Ok(false),
            }
        }
        let before = self.sent;
        while self.sent < self.outgoing.len() {
            match self.stream.poll_write(cx, &self.outgoing[self.sent..]) {
                Poll::Ready(Ok(count)) => self.sent += count,
                Poll::Ready(Err(_)) => return Err(Over),
                Poll::Pending => return Ok(self.sent > before),
            }
        }
        self.outgoing.clear();
        self.sent = 0;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
