//! Descriptors between the crates that know them as numbers and those that own them, and their
//! shortage.

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use vmm_sys_util::eventfd::EventFd;

/// The descriptor of an event counter, so that rustix can wait for it.
pub fn owned(event: EventFd) -> OwnedFd {
    // SAFETY: the counter gives up the descriptor it owned; nobody else has it now.
    unsafe { OwnedFd::from_raw_fd(event.into_raw_fd()) }
}

/// Whether it is the process or the machine that has too many descriptors open, for now.
pub fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}
