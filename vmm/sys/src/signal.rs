//! The wish to end, as something to poll.

use std::io::{self, Error};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// Readable once SIGINT, SIGTERM or SIGHUP came; they no longer end the process by themselves.
#[derive(Debug)]
pub struct Termination(OwnedFd);

impl Termination {
    /// Takes the three signals over for the calling thread and those it starts later.
    ///
    /// # Errors
    /// Those of pthread_sigmask(3) and signalfd(2).
    pub fn new() -> io::Result<Termination> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset writes the whole set it is given.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            // SAFETY: the set was initialized above, and the signals exist.
            unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
        }
        let set = set.as_ptr();
        // SAFETY: the set is initialized; the old mask is not asked for.
        let failed = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set, std::ptr::null_mut()) };
        if failed != 0 {
            return Err(Error::from_raw_os_error(failed));
        }
        // SAFETY: the set is initialized; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(Error::last_os_error());
        }
        // SAFETY: the descriptor was made just now and nobody else knows it.
        Ok(Termination(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

impl AsFd for Termination {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
