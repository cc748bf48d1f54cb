//! Programs on the lab's hosts: long-running ones, and ones with a result.

use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::failure::{Failure, Outcome, While};
use crate::processes::last_sentence;

use super::Host;

/// A long-running program on a host; killed when dropped.
#[derive(Debug)]
pub struct Service {
    what: String,
    child: Child,
    log: PathBuf,
}

impl Service {
    /// Starts a program of a host; its messages go to a log in the host's directory.
    ///
    /// # Errors
    /// There is no such program.
    pub fn start(host: &Host, what: &str, mut command: Command) -> Outcome<Self> {
        let what = format!("{what} on {}", host.letter);
        let log = host.directory.join(format!("{}.log", what.replace([' ', '/'], "-")));
        let file = File::create(&log).or_fail(|| format!("cannot write {}", log.display()))?;
        let child = command
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .or_fail(|| format!("cannot start {what}"))?;
        Ok(Self { what, child, log })
    }

    /// Fails if the program has ended.
    ///
    /// # Errors
    /// In the program's own words.
    pub fn must_run(&mut self) -> Outcome<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                let said = last_sentence(&self.log).unwrap_or_else(|| status.to_string());
                Err(Failure::because(format!("{} ended", self.what), said))
            }
            Err(error) => Err(error).or_fail(|| format!("cannot wait for {}", self.what)),
        }
    }

    /// Waits until a TCP connection from `from` to `server` succeeds.
    ///
    /// # Errors
    /// The program ended, or nobody answered in time.
    pub fn answers(&mut self, from: &Host, server: SocketAddr) -> Outcome<()> {
        let start = sys::clock::monotonic_ns();
        loop {
            let brief = Duration::from_millis(250);
            if from.run(|| TcpStream::connect_timeout(&server, brief).is_ok())? {
                return Ok(());
            }
            self.must_run()?;
            if sys::clock::monotonic_ns() - start > 8_000_000_000 {
                return Err(Failure::new(format!(
                    "{} does not answer {} at {server}",
                    self.what, from.letter
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program with a result came to.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit status; `None`: killed, or it took too long.
    pub status: Option<i32>,
    /// Standard output.
    pub out: String,
    /// The last line of standard error, without our own name.
    pub said: String,
}

impl Ended {
    /// Whether it succeeded.
    pub fn ok(&self) -> bool {
        self.status == Some(0)
    }

    /// Why it did not succeed, briefly.
    pub fn why(&self) -> String {
        match (self.said.is_empty(), self.status) {
            (false, _) => self.said.clone(),
            (true, Some(status)) => format!("exit status {status}"),
            (true, None) => "no answer in time".to_owned(),
        }
    }
}

/// Runs a program to its end, or for `patience`; its output must be short.
///
/// # Errors
/// It cannot be started.
pub fn finish(command: &mut Command, patience: Duration) -> Outcome<Ended> {
    let failed = || format!("cannot run {}", command.get_program().display());
    let (mut out_read, out_write) = std::io::pipe().or_fail(failed)?;
    let (mut err_read, err_write) = std::io::pipe().or_fail(failed)?;
    let spawned = command.stdout(out_write).stderr(err_write).spawn();
    // The command keeps the write ends: without them reading ends with the program.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = spawned.or_fail(|| "cannot run a program of the lab".to_owned())?;
    let start = sys::clock::monotonic_ns();
    let status = loop {
        if let Some(status) = child.try_wait().or_fail(|| "cannot wait".to_owned())? {
            break status.code();
        }
        if u128::from(sys::clock::monotonic_ns() - start) > patience.as_nanos() {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let _ = out_read.read_to_end(&mut out);
    let _ = err_read.read_to_end(&mut err);
    let err = String::from_utf8_lossy(&err);
    let last = err.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let said = last.strip_prefix("portspace: ").unwrap_or(last).to_owned();
    Ok(Ended { status, out: String::from_utf8_lossy(&out).into_owned(), said })
}
