//! The host's files: every system call of this crate is here and below.
//!
//! A name is opened as one component below an open directory, never through a symbolic link,
//! a magic link or `..`; what a guest wrote into a link is text that nobody here follows.

mod attributes;
mod directory;
mod fault;
mod file;
mod inotify;
#[cfg(test)]
pub(crate) mod opened;
mod stat;

pub(crate) use attributes::Attributes;
pub(crate) use directory::{Access, Directory, Rename};
#[cfg(test)]
pub(crate) use fault::{Fault, with_fault};
pub(crate) use file::File;
pub(crate) use inotify::{Change, Inotify};
pub(crate) use stat::Stat;

use fuse::Errno;
use rustix::fs::{Mode, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io;

/// A time to be set; `None` leaves it.
pub(crate) type NewTime = Option<fuse::request::SetTime>;

/// The server's own user and group.
pub(crate) fn user() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// The further groups of the server's user.
pub(crate) fn groups() -> Vec<u32> {
    let groups = rustix::process::getgroups().unwrap_or_default();
    groups.into_iter().map(|group| group.as_raw()).collect()
}

/// A number that nobody else has by chance.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the names are still tried to be free.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::NONBLOCK);
    u64::from_ne_bytes(bytes)
}

/// What the process takes off the permission bits of new files; all of them if nobody tells.
pub(crate) fn umask() -> u32 {
    // umask(2) tells by setting it, for all threads at once (proc_pid_status(5)).
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o777)
}

/// The guest's view of a host error. The host's table of open files being full is ours: ENFILE.
fn refused(errno: io::Errno) -> Errno {
    match errno {
        io::Errno::MFILE => Errno::ENFILE,
        errno => Errno::new(errno.raw_os_error()).unwrap_or(Errno::EIO),
    }
}

/// Permission bits as they may be on the host: set-id bits are never there.
///
/// Under `keep_access` the owner, an ordinary user, keeps the right to use the file; the guest's
/// view is then kept in an attribute.
pub(crate) fn host_mode(mode: u32, keep_access: bool) -> u32 {
    let directory = mode & fuse::record::TYPE_MASK == fuse::record::TYPE_DIRECTORY;
    let kept = match (keep_access, directory) {
        (false, _) => 0,
        (true, true) => 0o700,
        (true, false) => 0o600,
    };
    mode & 0o1777 | kept
}

fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

fn timestamps(accessed: NewTime, modified: NewTime) -> Timestamps {
    use fuse::request::SetTime;
    let spec = |time: NewTime| match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::At(time)) => {
            Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() }
        }
    };
    Timestamps { last_access: spec(accessed), last_modification: spec(modified) }
}
