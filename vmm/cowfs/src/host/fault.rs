//! Places where tests let the host fail: one before each call that changes something.

use fuse::Errno;

/// A step of a change; tests may have it fail.
#[cfg(not(test))]
#[inline]
pub(super) fn step() -> Result<(), Errno> {
    Ok(())
}

#[cfg(test)]
pub(super) use injected::step;
#[cfg(test)]
pub(crate) use injected::{Fault, with_fault};

#[cfg(test)]
mod injected {
    use super::Errno;
    use std::cell::Cell;

    /// Which step fails, and how.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Fault {
        /// Only the step itself, as a full or broken disk does.
        Once(Errno),
        /// It and all later ones: as if the process had been killed there.
        Killed,
    }

    thread_local! {
        static NEXT: Cell<Option<(u32, Fault)>> = const { Cell::new(None) };
    }

    /// Runs `change` with `fault` at its step `at`; the second value says whether it came to it.
    pub(crate) fn with_fault<T>(at: u32, fault: Fault, change: impl FnOnce() -> T) -> (T, bool) {
        NEXT.set(Some((at, fault)));
        let done = change();
        let reached = !matches!(NEXT.take(), Some((left, _)) if left > 0);
        (done, reached)
    }

    pub(in crate::host) fn step() -> Result<(), Errno> {
        match NEXT.get() {
            None => Ok(()),
            Some((0, Fault::Killed)) => Err(Errno::EIO),
            Some((0, Fault::Once(_))) => Ok(()),
            Some((1, fault)) => {
                NEXT.set(Some((0, fault)));
                match fault {
                    Fault::Once(errno) => Err(errno),
                    Fault::Killed => Err(Errno::EIO),
                }
            }
            Some((left, fault)) => {
                NEXT.set(Some((left - 1, fault)));
                Ok(())
            }
        }
    }
}
