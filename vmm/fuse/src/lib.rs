//! FUSE 7.40 requests and replies, for the server and the native guest; pure and no_std.
//!
//! Linux `include/uapi/linux/fuse.h`, little-endian. [`request`] is parsed by the server and
//! encoded by the client, [`reply`] the other way round; [`session`] is the server's INIT,
//! [`notify`] what it says unasked.
#![no_std]
extern crate alloc;

mod bytes;
pub mod dirent;
pub mod errno;
pub mod name;
pub mod notify;
pub mod record;
pub mod reply;
pub mod request;
pub mod session;
mod statx;

pub use errno::Errno;
pub use name::{Name, Target, XattrName};
pub use record::{Attr, Entry, Handle, Lock, NodeId, Opened, StatFs, Time};
pub use request::{Header, Operation, Request};
pub use session::{Offer, Session};
