//! FUSE requests and replies, for the server and the native guest; pure and no_std.
#![no_std]
extern crate alloc;
