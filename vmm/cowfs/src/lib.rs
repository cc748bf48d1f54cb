//! The file space: the parent's files seen through the space's own copy-on-write layer.
//!
//! [`FileSpace`] answers FUSE requests; the upper is a plain directory in overlayfs's format.
//! Only `host` makes system calls.

mod change;
mod configuration;
mod copy_up;
mod files;
mod host;
mod layer;
mod listing;
mod lookup;
mod node;
mod space;

pub use configuration::{Config, Limits, OpenFailure, Owners};
pub use space::{Counters, FileSpace};

#[cfg(test)]
mod tests;
