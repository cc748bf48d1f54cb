//! The file space: the parent's files seen through the space's own copy-on-write layer.
//!
//! [`FileSpace`] answers FUSE requests; the upper is a plain directory in overlayfs's format.
//! Only `host` makes system calls.

mod attributes;
mod bindings;
mod changes;
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

pub use bindings::Binding;
pub use changes::{Change, Comparison, Conflict, FileKind, Parts, Side, Unreadable, What};
pub use configuration::{Config, Limits, LowerLayer, OpenFailure};
pub use layer::Crossing;
pub use role::View;
pub use space::{Counters, FileSpace, Notifications};

#[cfg(test)]
mod tests;
