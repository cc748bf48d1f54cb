//! What the standard library lacks: batches of packets, TUN, /dev/fuse, namespaces, clock.
#![expect(unsafe_code, reason = "one of the three crates that may; every block argues its case")]

pub mod capability;
pub mod clock;
pub mod eventfd;
pub mod fd;
pub mod fuse;
pub mod idle;
pub mod memfd;
pub mod namespace;
pub mod raw;
pub mod route;
pub mod sched;
pub mod seqpacket;
pub mod signal;
pub mod socket;
pub mod tun;
pub mod udp;
