//! Files of the upper that the client's kernel reads and writes itself (FUSE passthrough).

use crate::host::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

type Open = Box<dyn Fn(BorrowedFd<'_>) -> io::Result<i32> + Send + Sync>;
type Close = Box<dyn Fn(i32) + Send + Sync>;

/// How the kernel is told of a file, and that it is no longer needed
/// (`FUSE_DEV_IOC_BACKING_OPEN` and `_CLOSE`).
pub struct Backing {
    open: Open,
    close: Close,
}

impl Backing {
    /// `open` gives the number by which the kernel knows the file, `close` takes it back.
    pub fn new(
        open: impl Fn(BorrowedFd<'_>) -> io::Result<i32> + Send + Sync + 'static,
        close: impl Fn(i32) + Send + Sync + 'static,
    ) -> Backing {
        Backing { open: Box::new(open), close: Box::new(close) }
    }

    /// `None` where the kernel does not take it: the file is then served by requests.
    pub(crate) fn open(&self, file: &File) -> Option<i32> {
        (self.open)(file.as_fd()).ok()
    }

    pub(crate) fn close(&self, number: i32) {
        (self.close)(number);
    }
}

impl std::fmt::Debug for Backing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backing").finish_non_exhaustive()
    }
}
