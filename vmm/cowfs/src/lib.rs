//! The file space: the parent's files seen through the space's own copy-on-write layer.
//!
//! [`FileSpace`] answers FUSE requests; the upper is a plain directory in overlayfs's format.
//! Only `host` makes system calls.

mod ahead;
mod attributes;
mod backing;
mod beside;
mod bindings;
mod changes;
mod commit;
mod configuration;
mod copy_up;
mod create;
mod discard;
mod files;
mod gather;
mod host;
mod index;
mod layer;
mod listing;
mod lookup;
mod merged;
mod node;
mod own;
mod quota;
mod remove;
mod remove_all;
mod rename;
mod reseat;
mod role;
mod saved;
mod settings;
mod space;
mod stored;
mod watch;
mod xattr;

pub use backing::Backing;
pub use bindings::Binding;
pub use changes::{
    Change, Comparison, Conflict, FileKind, Parts, Side, Unreadable, Unselectable, What, shown,
};
pub use commit::{CommitFailure, Committed, LayerPlan, Leaves, Plan, Refusal};
pub use configuration::{Config, Limits, LowerLayer, OpenFailure};
pub use discard::DiscardFailure;
pub use gather::{GatherFailure, Gathered};
pub use layer::Crossing;
pub use own::OwnLayer;
pub use reseat::{Held, HoldFailure};
pub use role::View;
pub use saved::{ResumeFailure, SaveFailure, Saved};
pub use settings::Settings;
pub use space::{Counters, FileSpace, Notifications, Server, Tell};

#[cfg(test)]
mod tests;
