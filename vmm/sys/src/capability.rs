//! Capabilities (capabilities(7)) of the calling thread, and giving them up.

use std::io::Error;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

pub use rustix::thread::CapabilitySet;

/// Why capabilities are not given up.
#[derive(Debug, thiserror::Error)]
#[error("cannot give up capabilities: {source}; does a filter forbid capset(2)?")]
pub struct Failure {
    /// The kernel's answer.
    #[source]
    source: Error,
}

/// Whether the calling thread may use all of `wanted` now.
pub fn has(wanted: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
}

/// Gives up every capability of the calling thread but those of `kept` that it has, for good.
///
/// A program it executes inherits none; where the thread has CAP_SETPCAP, not even root's program
/// gets any (the bounding set is emptied). Call it before the process has a second thread: each has capabilities of its own.
///
/// # Errors
/// [`Failure`].
pub fn keep_only(kept: CapabilitySet) -> Result<(), Failure> {
    let failed = |e: Errno| Failure { source: e.into() };
    // It takes CAP_SETPCAP, so it comes first; the kernel knows the numbers up to some last one.
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        let is_bound = capability_is_in_bounding_set(capability);
        if is_bound.is_err() || remove_capability_from_bounding_set(capability) == Err(Errno::PERM)
        {
            break;
        }
    }
    clear_ambient_capability_set().map_err(failed)?;
    let had = capabilities(None).map_err(failed)?;
    let left = CapabilitySets {
        effective: had.effective & kept,
        permitted: had.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, left).map_err(failed)
}

/// Gives up all of them: [`keep_only`] of none.
///
/// # Errors
/// [`Failure`].
pub fn drop_all() -> Result<(), Failure> {
    keep_only(CapabilitySet::empty())
}
