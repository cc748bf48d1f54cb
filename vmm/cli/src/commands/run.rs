//! `portspace run`: one program inside, with this process's stdio and exit status.

mod open_files;

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use abi::exec::{self, Kind};
use monitor::control::Run;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::config::SpaceName;
use crate::failure::{Failure, Outcome, While};
use crate::lifecycle::Spaces;

/// Most environment that is passed, bytes; the rest stays outside.
const MAX_ENVIRONMENT: usize = 32 * 1024;

/// How much of standard input travels in one frame, bytes.
const CHUNK: usize = 16 * 1024;

/// Runs a program in a running space; `with_files`: it has the files that this process has open.
///
/// # Errors
/// The space does not run, or stops while the program runs; a file that is open has no path.
pub(super) fn run(name: &SpaceName, arguments: Vec<String>, with_files: bool) -> Outcome<ExitCode> {
    let running = Spaces::open()?.running(name)?;
    let root = running.note.root.as_deref();
    let program = Run {
        arguments,
        directory: directory_inside(root),
        files: match root {
            Some(root) if with_files => open_files::below(root)?,
            _ => Vec::new(),
        },
        environment: environment(),
    };
    let stream = running.control.run(program)?;
    let mut session = Session { stream, received: Vec::new(), unsent: Vec::new(), input: true };
    match session.relay().or_fail(|| format!("cannot talk to space {name}"))? {
        Some(status) => Ok(ExitCode::from(status)),
        None => Err(Failure::new(format!(
            "space {name} ended while the program ran ({}); start it again with: portspace up",
            running.reason()
        ))),
    }
}

/// The working directory as the space sees it, `/` if it does not see it.
fn directory_inside(root: Option<&Path>) -> String {
    let here = std::env::current_dir().ok();
    let below = here.as_deref().zip(root).and_then(|(here, root)| here.strip_prefix(root).ok());
    below.and_then(Path::to_str).map_or_else(|| "/".to_owned(), |path| format!("/{path}"))
}

fn environment() -> Vec<String> {
    let mut bytes = 0;
    std::env::vars_os()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value.to_str()?)))
        .take_while(|variable| {
            bytes += variable.len();
            bytes <= MAX_ENVIRONMENT
        })
        .collect()
}

/// The frames of one run, relayed by one thread that never blocks on writing to the guest.
struct Session {
    stream: UnixStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    /// Whether standard input has more.
    input: bool,
}

impl Session {
    /// Relays until the program ends; `None` if the space ends first.
    fn relay(&mut self) -> io::Result<Option<u8>> {
        let (mut signals, notify) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM] {
            signal_hook::low_level::pipe::register(signal, notify.try_clone()?)?;
        }
        loop {
            let [from_guest, from_user, signalled] = self.wait(&signals)?;
            if signalled {
                signals.read_exact(&mut [0])?;
                exec::encode(Kind::Interrupt, &[], &mut self.unsent);
            }
            if from_user {
                self.take_input()?;
            }
            self.send()?;
            if from_guest {
                let mut bytes = [0; 64 * 1024];
                let length = match self.stream.read(&mut bytes) {
                    Ok(0) => return Ok(None),
                    Ok(length) => length,
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                        return Ok(None);
                    }
                    Err(error) => return Err(error),
                };
                self.received.extend_from_slice(&bytes[..length]);
                if let Some(status) = self.deliver()? {
                    return Ok(Some(status));
                }
            }
        }
    }

    /// Waits for: frames from the guest, input from the user, a signal.
    fn wait(&self, signals: &UnixStream) -> io::Result<[bool; 3]> {
        let stdin = io::stdin();
        let to_guest = match self.unsent.is_empty() {
            true => PollFlags::empty(),
            false => PollFlags::OUT,
        };
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.stream.as_fd(), PollFlags::IN | to_guest),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        // What is not yet sent holds back what comes next.
        if self.input && self.unsent.is_empty() {
            fds.push(PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let some = |fd: Option<&PollFd<'_>>, not: PollFlags| {
            fd.is_some_and(|fd| !fd.revents().difference(not).is_empty())
        };
        let readable = some(fds.first(), PollFlags::OUT);
        let input = some(fds.get(2), PollFlags::empty());
        Ok([readable, input, some(fds.get(1), PollFlags::empty())])
    }

    fn take_input(&mut self) -> io::Result<()> {
        let mut bytes = [0; CHUNK];
        let length = match rustix::io::read(io::stdin(), &mut bytes) {
            Ok(length) => length,
            Err(Errno::INTR | Errno::AGAIN) => return Ok(()),
            // A terminal that went away has no more input.
            Err(Errno::IO) => 0,
            Err(error) => return Err(error.into()),
        };
        self.input = length > 0;
        exec::encode(Kind::Stdin, &bytes[..length], &mut self.unsent);
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        match send(&self.stream, &self.unsent, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => drop(self.unsent.drain(..sent)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // The other end may have said its last words before it closed: they are read next.
            Err(Errno::PIPE | Errno::CONNRESET) => {
                self.unsent.clear();
                self.input = false;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Hands whole frames to standard output and error; the exit status if it was among them.
    fn deliver(&mut self) -> io::Result<Option<u8>> {
        let malformed = |_| io::Error::new(io::ErrorKind::InvalidData, "a malformed frame came");
        let mut taken = 0;
        let mut status = None;
        while status.is_none() {
            let Some((kind, payload, length)) =
                exec::decode(&self.received[taken..]).map_err(malformed)?
            else {
                break;
            };
            taken += length;
            match kind {
                Kind::Stdout => {
                    let mut out = io::stdout().lock();
                    out.write_all(payload)?;
                    out.flush()?;
                }
                Kind::Stderr => io::stderr().lock().write_all(payload)?,
                Kind::Exit => status = Some(payload.first().copied().unwrap_or(255)),
                Kind::Run | Kind::Stdin | Kind::Interrupt => {}
            }
        }
        self.received.drain(..taken);
        Ok(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_inside_is_that_below_the_root_or_the_root() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(directory_inside(Some(&here)), "/");
        let below = format!("/{}", here.file_name().unwrap().to_str().unwrap());
        assert_eq!(directory_inside(here.parent()), below);
        assert_eq!(directory_inside(None), "/");
        assert_eq!(directory_inside(Some(Path::new("/nonexistent"))), "/");
    }

    #[test]
    fn output_goes_out_frame_by_frame_and_the_exit_status_ends_it() {
        let (ours, mut guest) = UnixStream::pair().unwrap();
        let mut bytes = Vec::new();
        exec::encode(Kind::Stderr, b"", &mut bytes);
        exec::encode(Kind::Exit, &[7], &mut bytes);
        guest.write_all(&bytes).unwrap();
        let mut session =
            Session { stream: ours, received: Vec::new(), unsent: Vec::new(), input: false };
        assert_eq!(session.relay().unwrap(), Some(7));
    }

    #[test]
    fn a_space_that_ends_first_has_no_exit_status() {
        let (ours, guest) = UnixStream::pair().unwrap();
        drop(guest);
        let mut session =
            Session { stream: ours, received: Vec::new(), unsent: Vec::new(), input: false };
        assert_eq!(session.relay().unwrap(), None);
    }
}
