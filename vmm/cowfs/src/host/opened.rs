//! What was opened, for tests that watch it.

use std::cell::RefCell;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

thread_local! {
    static OPENED: RefCell<Option<Vec<PathBuf>>> = const { RefCell::new(None) };
}

/// Notes what a descriptor is of, if somebody watches.
pub(super) fn note(result: &Result<OwnedFd, rustix::io::Errno>) {
    OPENED.with_borrow_mut(|opened| {
        if let (Some(opened), Ok(fd)) = (opened, result) {
            opened.extend(std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())));
        }
    });
}

/// Runs `work` and gives the paths of all that it opened.
pub(crate) fn watch<T>(work: impl FnOnce() -> T) -> (T, Vec<PathBuf>) {
    OPENED.set(Some(Vec::new()));
    let done = work();
    (done, OPENED.take().unwrap_or_default())
}
