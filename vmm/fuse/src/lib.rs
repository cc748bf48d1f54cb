//! FUSE 7.38 requests and replies, for the server and the native guest; pure and no_std.
//!
//! Linux `include/uapi/linux/fuse.h`, little-endian. [`request`] is parsed by the server and
//! encoded by the client, [`reply`] the other way round; [`session`] is the server's INIT.
#![no_std]
extern crate alloc;

mod bytes;
pub mod dirent;
pub mod errno;
pub mod name;
pub mod record;
pub mod reply;
pub mod request;
pub mod session;

pub use errno::Errno;
pub use name::{Name, Target};
pub use record::{Attr, Entry, Handle, NodeId, Opened, StatFs, Time};
pub use request::{Header, Operation, Request};
pub use session::Session;
