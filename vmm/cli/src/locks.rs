//! Files that a process holds locked while it lives: the kernel drops the lock with the
//! process, whatever becomes of its number.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::failure::{Outcome, While};

/// Takes the lock, or `None` if a process holds it.
///
/// # Errors
/// The file cannot be made or locked.
pub(crate) fn take(path: &Path) -> Outcome<Option<File>> {
    let failed = || format!("cannot lock {}", path.display());
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .or_fail(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).or_fail(failed),
    }
}

/// Whether a process holds the lock.
///
/// # Errors
/// The file cannot be looked at.
pub(crate) fn is_held(path: &Path) -> Outcome<bool> {
    let failed = || format!("cannot look at {}", path.display());
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).or_fail(failed),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error).or_fail(failed),
    }
}

/// Waits until nobody holds the lock; `false` if somebody still does.
///
/// # Errors
/// The file cannot be looked at.
pub(crate) fn is_freed(path: &Path, patience: Duration) -> Outcome<bool> {
    let start = sys::clock::monotonic_ns();
    while is_held(path)? {
        if u128::from(sys::clock::monotonic_ns() - start) > patience.as_nanos() {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(true)
}

/// Kills process `pid` if it is there and the lock is held.
///
/// # Errors
/// It is another user's.
pub(crate) fn kill_holder(path: &Path, pid: u32) -> Outcome<()> {
    let failed = || format!("cannot kill process {pid}");
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(number) = number else { return Ok(()) };
    let Ok(process) = pidfd_open(number, PidfdFlags::empty()) else { return Ok(()) };
    // Looked at after the process was pinned: while the lock is held, the number is its holder's.
    if is_held(path)? {
        pidfd_send_signal(&process, Signal::KILL).or_fail(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_by_one_and_not_a_moment_longer_than_it_lives() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("lock");
        assert!(!is_held(&path).unwrap());
        let held = take(&path).unwrap();
        assert!(held.is_some() && is_held(&path).unwrap());
        assert!(take(&path).unwrap().is_none());
        assert!(!is_freed(&path, Duration::ZERO).unwrap());
        drop(held);
        assert!(is_freed(&path, Duration::ZERO).unwrap());
        assert!(take(&path).unwrap().is_some());
    }
}
