//! What the standard library lacks: UDP batches, TUN, namespaces, clock.
#![expect(unsafe_code, reason = "one of the three crates that may; every block argues its case")]

pub mod clock;
pub mod eventfd;
pub mod fd;
pub mod memfd;
pub mod namespace;
pub mod route;
pub mod sched;
pub mod seqpacket;
pub mod signal;
pub mod tun;
pub mod udp;
