//! The control socket of a VM process: one JSON line, then what it asked for.

use std::io::{self, BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use monitor::control::{self, Request, Run, Status};

use crate::failure::{Outcome, While};
use crate::paths::SpacePaths;
use crate::processes::own_sentence;

/// Longest wait for an answer; a VM process answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest answer, bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// A VM process's control socket.
#[derive(Clone, Debug)]
pub(crate) struct Control(PathBuf);

impl Control {
    /// The socket of a space, whether it is there or not.
    pub(crate) fn of(paths: &SpacePaths) -> Outcome<Self> {
        Ok(Self(paths.control()?))
    }

    /// Asks how the machine is.
    ///
    /// # Errors
    /// Nobody answers.
    pub(crate) fn status(&self) -> Outcome<Status> {
        let failed = || format!("the VM process does not answer on {}", self.0.display());
        let stream = self.ask(Request::Status {}).or_fail(failed)?;
        let line = read_line(stream).or_fail(failed)?;
        serde_json::from_str(&line).or_fail(failed)
    }

    /// Asks the machine to end; it has heard when this returns.
    ///
    /// # Errors
    /// Nobody answers.
    pub(crate) fn stop(&self) -> Outcome<()> {
        let failed = || format!("the VM process does not answer on {}", self.0.display());
        let stream = self.ask(Request::Stop {}).or_fail(failed)?;
        // An answer or the end: both say that it was heard.
        let _ = read_line(stream);
        Ok(())
    }

    /// Starts a program inside; the stream carries frames of `abi::exec` from here on.
    ///
    /// # Errors
    /// Nobody answers.
    pub(crate) fn run(&self, program: Run) -> Outcome<UnixStream> {
        let failed = || format!("the VM process does not answer on {}", self.0.display());
        let stream = self.ask(Request::Run(program)).or_fail(failed)?;
        stream.set_read_timeout(None).or_fail(failed)?;
        Ok(stream)
    }

    fn ask(&self, request: Request) -> io::Result<UnixStream> {
        let stream = control::send(&self.0, &request)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

fn read_line(stream: UnixStream) -> io::Result<String> {
    use io::Read as _;
    let mut line = String::new();
    BufReader::new(stream.take(MAX_ANSWER)).read_line(&mut line)?;
    match line.is_empty() {
        true => Err(io::ErrorKind::UnexpectedEof.into()),
        false => Ok(line),
    }
}

/// Why the space's VM process ended: its own last sentence, or that it had no time for one.
pub(crate) fn reason(paths: &SpacePaths) -> String {
    own_sentence(&paths.log()).unwrap_or_else(|| match paths.log().exists() {
        true => "its VM process was killed".to_owned(),
        // Commands that stop or remove a space take its log along, nothing else does.
        false => "it was stopped".to_owned(),
    })
}
