//! Background processes: this binary in another role, with a log of its own.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::failure::{Failure, Outcome, While};

/// What a background process gets instead of standard input and output.
///
/// Passing them in these places needs no number that both sides agree on, and
/// no descriptor is inherited by accident.
#[derive(Default)]
pub(crate) struct Given {
    /// In place of standard input.
    pub(crate) input: Option<OwnedFd>,
    /// In place of standard output.
    pub(crate) output: Option<OwnedFd>,
    /// It is killed when the thread that starts it ends.
    pub(crate) ends_with_us: bool,
}

/// A process that was started and is to outlive this one.
#[derive(Debug)]
pub(crate) struct Background {
    child: Child,
    what: String,
    log: PathBuf,
}

impl Background {
    /// Starts this binary with `arguments`; its messages go to `log`, which is emptied.
    ///
    /// The process makes a session of its own when it starts (see [`detach`]).
    pub(crate) fn start(what: &str, arguments: &[&str], given: Given, log: &Path) -> Outcome<Self> {
        let failed = || format!("cannot start {what}");
        let messages = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(log)
            .or_fail(|| format!("cannot write {}", log.display()))?;
        let place = |fd: Option<OwnedFd>| fd.map_or_else(Stdio::null, Stdio::from);
        let mut command = Command::new("/proc/self/exe");
        command
            .args(arguments)
            .stdin(place(given.input))
            .stdout(place(given.output))
            .stderr(messages)
            .current_dir("/");
        if given.ends_with_us {
            sys::namespace::die_with_parent(&mut command);
        }
        let child = command.spawn().or_fail(failed)?;
        Ok(Self { child, what: what.to_owned(), log: log.to_owned() })
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What becomes readable with the process's end.
    ///
    /// # Errors
    /// The machine is out of descriptors.
    pub(crate) fn watch(&self) -> rustix::io::Result<OwnedFd> {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw);
        pidfd_open(pid.ok_or(rustix::io::Errno::SRCH)?, PidfdFlags::empty())
    }

    /// Asks `ready` until it has an answer, the process ends, or `patience` is over.
    ///
    /// # Errors
    /// The process's own last sentence, or that it took too long; it is then killed.
    pub(crate) fn wait_until<T>(
        &mut self,
        patience: Duration,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Outcome<T> {
        let start = sys::clock::monotonic_ns();
        loop {
            if let Some(answer) = ready() {
                return Ok(answer);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.ended(status));
            }
            if u128::from(sys::clock::monotonic_ns() - start) > patience.as_nanos() {
                self.end();
                let said = last_sentence(&self.log).map(|said| format!(" ({said})"));
                return Err(Failure::new(format!(
                    "{} was not ready after {} s{}; it was ended; see {}",
                    self.what,
                    patience.as_secs(),
                    said.unwrap_or_default(),
                    self.log.display()
                )));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It failed, in its own words.
    pub(crate) fn wait(&mut self) -> Outcome<()> {
        let status = self.child.wait().or_fail(|| format!("cannot wait for {}", self.what))?;
        if status.success() { Ok(()) } else { Err(self.ended(status)) }
    }

    /// Why it ended: the sentence of its failure, or its status.
    pub(crate) fn ended(&self, status: ExitStatus) -> Failure {
        let ended = || format!("{} ended ({status}); see {}", self.what, self.log.display());
        Failure::new(own_sentence(&self.log).unwrap_or_else(ended))
    }

    /// Kills the process and waits for its end.
    pub(crate) fn end(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Leaves the terminal and the caller's session, and has what the process says go to its log: to be
/// called first in a background process.
pub(crate) fn detach() {
    let level = |level: log::Level| level.as_str().to_lowercase();
    // No time of day: a jailed process reads no time zone, and needs no more than the order.
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Info)
        .format(move |line, record| writeln!(line, "{}: {}", level(record.level()), record.args()))
        .init();
    // Fails only for a leader of its own group, which then is detached already.
    let _ = rustix::process::setsid();
}

/// What a process said last, without the program's name.
pub(crate) fn last_sentence(log: &Path) -> Option<String> {
    let line = last_line(log)?;
    Some(line.strip_prefix(OWN_NAME).unwrap_or(&line).to_owned())
}

/// The sentence `main` printed when the process failed, without the program's name;
/// `None` if it was killed before it could say one.
pub(crate) fn own_sentence(log: &Path) -> Option<String> {
    last_line(log)?.strip_prefix(OWN_NAME).map(str::to_owned)
}

/// What stands before every sentence of `main`.
const OWN_NAME: &str = "portspace: ";

fn last_line(log: &Path) -> Option<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    const TAIL: u64 = 8192;
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned)
}
