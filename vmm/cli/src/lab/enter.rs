//! Into the lab's namespaces and out of them: three processes.
//!
//! The outer one stays with the user and its terminal; the threshold enters
//! new namespaces; its child is their first process. Each dies with the one
//! before it, and the outer one waits until the kernel has removed all of it.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::MountFlags;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, set_child_subreaper,
    set_parent_process_death_signal, wait,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use sys::namespace;

use crate::failure::{Failure, Outcome, While};

/// Where the lab's own file system is mounted: a place that every Linux has and nobody keeps a
/// project in, for what is there outside is hidden inside.
pub const LAB_DIRECTORY: &str = "/var/spool";

/// The hidden argument of the threshold.
pub(crate) const THRESHOLD: &str = "lab-threshold";

/// Runs this binary with `arguments` as the first process of a new lab.
///
/// On Ctrl-C, SIGTERM or SIGHUP the lab is killed. When this returns, nothing of it is left.
///
/// # Errors
/// The lab could not be entered, was interrupted, or was killed.
pub fn enter(what: &str, arguments: &[String]) -> Outcome<ExitCode> {
    let failed = || format!("cannot start {what}");
    set_child_subreaper(rustix::process::Pid::from_raw(1)).or_fail(failed)?;
    let interrupted = signals().or_fail(failed)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(THRESHOLD).args(arguments).process_group(0);
    namespace::die_with_parent(&mut command);
    let mut threshold = command.spawn().or_fail(failed)?;
    let ended = wait_or_signal(&threshold, &interrupted).or_fail(failed)?;
    if !ended {
        threshold.kill().or_fail(failed)?;
    }
    let status = threshold.wait().or_fail(failed)?;
    settle_children();
    if !ended {
        let sentence = format!("{what} was interrupted; everything it started has been removed");
        return Err(Failure::new(sentence));
    }
    match exit_of(status) {
        Some(code) => Ok(ExitCode::from(code)),
        None => Err(Failure::new(format!(
            "{what} was killed ({status}); everything it started has been removed; run it again"
        ))),
    }
}

/// Ctrl-C, SIGTERM and SIGHUP, as bytes to read.
fn signals() -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
    }
    Ok(read)
}

/// Whether the child ended by itself, before any signal.
fn wait_or_signal(child: &Child, interrupted: &UnixStream) -> io::Result<bool> {
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        let mut fds = [
            PollFd::from_borrowed_fd(interrupted.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) if !fds[0].revents().is_empty() => return Ok(false),
            Ok(_) if !fds[1].revents().is_empty() => return Ok(true),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for every orphan: the last is the lab's first process, which the kernel
/// reports only after everything below it is gone.
fn settle_children() {
    while let Ok(Some(_)) = wait(WaitOptions::empty()) {}
}

fn exit_of(status: ExitStatus) -> Option<u8> {
    match (status.code(), status.signal()) {
        (Some(code), None) => Some(u8::try_from(code).unwrap_or(1)),
        _ => None,
    }
}

/// The threshold: enters the namespaces, starts their first process, and waits for it.
///
/// # Errors
/// The kernel refuses namespaces.
pub(crate) fn threshold(arguments: &[String]) -> Outcome<ExitCode> {
    let parent = rustix::process::getppid();
    namespace::enter_new(false).or_fail(|| "cannot make hosts on this machine".to_owned())?;
    let failed = || "cannot start the first process of the lab".to_owned();
    // New credentials in a user namespace forget the request made at the start (prctl(2)).
    set_parent_process_death_signal(Some(Signal::KILL)).or_fail(failed)?;
    if rustix::process::getppid() != parent {
        return Err(Failure::new("the command that wanted a lab is gone"));
    }
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments);
    namespace::die_with_parent(&mut command);
    let status = command.status().or_fail(failed)?;
    match exit_of(status) {
        Some(code) => Ok(ExitCode::from(code)),
        None => Err(Failure::new(format!(
            "the first process of the lab was killed ({status}), and with it all others; run it again"
        ))),
    }
}

/// The first process inside makes itself at home: its own /proc and files.
///
/// # Errors
/// The kernel refuses the file system for the lab's files.
pub fn settle() -> Outcome<()> {
    if rustix::process::getpid() != Pid::INIT {
        return Err(Failure::new("this command is the demo's own; use: portspace demo"));
    }
    // A container that hides parts of /proc refuses a new one; the old one will do.
    let _ = namespace::mount_proc();
    rustix::mount::mount(
        c"lab",
        Path::new(LAB_DIRECTORY),
        c"tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        c"mode=0755",
    )
    .or_fail(|| format!("cannot mount a file system for the lab on {LAB_DIRECTORY}"))
}
