//! A disk: a raw image that is never written, seen through copy-on-write layers.
//!
//! A layer is a qcow2 file that maps and a sparse file of data beside it, both readable by QEMU.
//! Only `host` makes system calls; what is kept where is a [`Store`].

mod disk;
mod format;
pub mod host;
mod layer;
mod map;
mod store;

pub use disk::{Disk, MAX_LAYERS, SECTOR};
pub use format::{CLUSTER, Damage, MAX_SIZE};
pub use layer::Space;
pub use store::Store;

#[cfg(test)]
mod tests;
