//! The file space: the parent's files seen through the space's own copy-on-write layer.
//!
//! [`FileSpace`] answers FUSE requests; the upper is a plain directory in overlayfs's format.
//! Only `host` makes system calls.

mod attributes;
mod backing;
mod bindings;
mod configuration;
mod copy_up;
mod create;
mod files;
mod host;
mod index;
mod layer;
mod listing;
mod lookup;
mod node;
mod quota;
mod remove;
mod rename;
mod role;
mod space;
mod stored;
mod watch;
mod xattr;

pub use backing::Backing;
pub use bindings::Binding;
pub use configuration::{Config, Limits, LowerLayer, OpenFailure};
pub use layer::Crossing;
pub use role::View;
pub use space::{Counters, FileSpace, Notifications};

#[cfg(test)]
mod tests;
