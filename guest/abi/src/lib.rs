//! What host and guest must agree on: where things are, how the guest starts,
//! sleeps and ends, the frames in which programs are run, and how throughput is measured.
//!
//! All integers are little-endian. Nothing here is trusted by the host: what
//! the guest writes is parsed with bounds.
#![no_std]
extern crate alloc;

pub mod exec;
pub mod flow;
pub mod layout;
pub mod start;
pub mod vsock;
