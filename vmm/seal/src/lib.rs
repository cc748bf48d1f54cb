//! Sealing the layer of a space that is served: a command asks the process that serves it to hold
//! it still, moves the layer away and a new one to its place, and has it go on there.
//!
//! A command that is killed in between is heard of by the end of its connection: the process
//! then looks where the layer is, and goes on in that or the next.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::path::Path;

use cowfs::FileSpace;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sys::seqpacket::{Connection, Incoming, Listener};

/// Longest wait for an answer of the process: it may be writing to a slow disk.
const PATIENCE: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };

/// Pause before the next command is let in when there was no descriptor for it.
const SHORTAGE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Longest refusal, bytes.
const LONGEST: usize = 4096;

/// The first byte of each message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Word {
    /// The command: hold still.
    Hold = 1,
    /// The process: nothing is written now.
    Held = 2,
    /// The command: the layers are in their places, go on.
    Renew = 3,
    /// The process: it went on.
    Renewed = 4,
    /// The process: it cannot be held; a sentence follows.
    Refused = 5,
}

/// Why a space was not held, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum AskFailure {
    /// In the process's own words.
    #[error("{0}")]
    Refused(String),
    /// It does not answer.
    #[error("the process that serves it does not answer; stop the space and try again")]
    Silent(#[source] io::Error),
}

/// The process's side: answers commands until the process ends.
///
/// # Errors
/// The space can be served no further, or nobody can ask.
pub fn serve(listener: &Listener, space: &FileSpace, upper: &Path, next: &Path) -> io::Error {
    loop {
        let connection = match wait(listener, None).and_then(|_| listener.accept()) {
            Ok(Some(connection)) => connection,
            Ok(None) => continue,
            Err(error) if sys::fd::is_shortage(&error) => {
                // Files are served on; the command waits until there is a descriptor for it.
                let _ = poll(&mut [], Some(&SHORTAGE));
                continue;
            }
            Err(error) => return error,
        };
        if let Err(error) = answer(&connection, space, upper, next) {
            return error;
        }
    }
}

/// Answers one command.
fn answer(command: &Connection, space: &FileSpace, upper: &Path, next: &Path) -> io::Result<()> {
    if hear(command, Some(&PATIENCE)).ok() != Some(Some((Word::Hold as u8, String::new()))) {
        return Ok(());
    }
    let held = match space.hold(next) {
        Ok(held) => held,
        Err(failure) => {
            let mut words = vec![Word::Refused as u8];
            words.extend_from_slice(failure.to_string().as_bytes());
            words.truncate(LONGEST);
            // Who has gone need not know.
            let _ = command.send(&words, &[]);
            return Ok(());
        }
    };
    let told = command.send(&[Word::Held as u8], &[]).is_ok();
    // No bound: as long as the command lives it may be moving layers.
    let heard = if told { hear(command, None).ok().flatten() } else { None };
    let is_ordered = matches!(heard, Some((word, _)) if word == Word::Renew as u8);
    if !is_ordered && held.is_in_place(upper) {
        return Ok(());
    }
    held.renew()?;
    let _ = command.send(&[Word::Renewed as u8], &[]);
    Ok(())
}

/// A process that holds its space still for as long as this lives.
#[derive(Debug)]
#[must_use = "a space that is held serves nobody"]
pub struct Holding(Connection);

impl Holding {
    /// Asks the process that listens at `socket` to hold its space still.
    ///
    /// # Errors
    /// It refuses, or does not answer.
    pub fn ask(socket: &Path) -> Result<Holding, AskFailure> {
        let connection = Connection::connect(socket).map_err(AskFailure::Silent)?;
        expect(&connection, Word::Hold, Word::Held)?;
        Ok(Holding(connection))
    }

    /// Lets it go on in the layer that is in the place of the old one.
    ///
    /// # Errors
    /// It has ended meanwhile, or ends now.
    pub fn renew(self) -> Result<(), AskFailure> {
        expect(&self.0, Word::Renew, Word::Renewed)
    }
}

fn expect(process: &Connection, say: Word, answer: Word) -> Result<(), AskFailure> {
    process.send(&[say as u8], &[]).map_err(AskFailure::Silent)?;
    match hear(process, Some(&PATIENCE)).map_err(AskFailure::Silent)? {
        Some((word, _)) if word == answer as u8 => Ok(()),
        Some((_, words)) => Err(AskFailure::Refused(words)),
        None => Err(AskFailure::Silent(ErrorKind::UnexpectedEof.into())),
    }
}

/// The next message; `None` if the other end is gone.
fn hear(from: &Connection, patience: Option<&Timespec>) -> io::Result<Option<(u8, String)>> {
    let mut buffer = [0; LONGEST];
    loop {
        if !wait(from, patience)? {
            return Err(ErrorKind::TimedOut.into());
        }
        match from.receive(&mut buffer)? {
            Incoming::Message(length, _) => {
                let Some((word, words)) = buffer[..length].split_first() else { continue };
                return Ok(Some((*word, String::from_utf8_lossy(words).into_owned())));
            }
            Incoming::Nothing => {}
            Incoming::Closed => return Ok(None),
            Incoming::TooLong => return Err(ErrorKind::InvalidData.into()),
        }
    }
}

/// Waits until there is something to be heard; `false` if the time is over.
fn wait(from: &impl AsFd, patience: Option<&Timespec>) -> io::Result<bool> {
    loop {
        let fd = from.as_fd();
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], patience) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
