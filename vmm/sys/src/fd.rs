//! Descriptors between the crates that know them as numbers and those that own them.

use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};

/// Takes over what another type owned, so that rustix can use it.
pub fn owned(fd: impl IntoRawFd) -> OwnedFd {
    // SAFETY: `IntoRawFd` gives up the ownership of an open descriptor; nobody else has it now.
    unsafe { OwnedFd::from_raw_fd(fd.into_raw_fd()) }
}
