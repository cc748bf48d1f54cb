//! The native guest above its hardware: executor, net, vsock, files, disks, programs; no_std.
//!
//! Everything here is driven by [`machine::Machine`] over the traits of
//! [`hardware`]; nothing has a clock, and all of it is tested on the host.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod console;
pub mod counters;
pub mod disk;
pub mod exec;
pub mod executor;
pub mod files;
pub mod hardware;
pub mod http;
#[cfg(test)]
mod lab;
pub mod link;
pub mod machine;
pub mod net;
pub mod pipe;
pub mod programs;
pub mod timers;
pub mod vsock;
