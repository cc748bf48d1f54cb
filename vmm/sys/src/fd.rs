//! Descriptors between the crates that know them as numbers and those that own them.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

use vmm_sys_util::eventfd::EventFd;

/// The descriptor of an event counter, so that rustix can wait for it.
pub fn owned(event: EventFd) -> OwnedFd {
    // SAFETY: the counter gives up the descriptor it owned; nobody else has it now.
    unsafe { OwnedFd::from_raw_fd(event.into_raw_fd()) }
}
