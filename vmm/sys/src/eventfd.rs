//! Event counters handed over by somebody who is not trusted.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// The other side of an event counter: to be signalled, or watched by an epoll set.
///
/// It is never read: an epoll set that is edge-triggered reports every signal.
#[derive(Debug)]
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A counter of our own.
    ///
    /// # Errors
    /// That of eventfd(2).
    pub fn new() -> std::io::Result<EventFd> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(EventFd(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Takes a descriptor only if it is an eventfd: to poll or write any other file may
    /// wait for whoever serves it.
    pub fn from_untrusted(fd: OwnedFd) -> Option<EventFd> {
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let target = rustix::fs::readlink(link, Vec::new()).ok()?;
        if target.as_bytes() != b"anon_inode:[eventfd]" {
            return None;
        }
        let flags = fcntl_getfl(&fd).ok()?;
        fcntl_setfl(&fd, flags | OFlags::NONBLOCK).ok()?;
        Some(EventFd(fd))
    }

    /// Signals it. A full counter is one that nobody reads: it needs no more.
    pub fn signal(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_an_eventfd_passes_for_one() {
        let fd = EventFd::new().unwrap().0;
        assert!(EventFd::from_untrusted(fd).is_some());
        let memory = crate::memfd::sealed("test", 4096).unwrap();
        assert!(EventFd::from_untrusted(memory).is_none());
    }
}
