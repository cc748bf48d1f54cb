//! Start, ports, clock, heap, virtio-mmio and rings of the native guest; no_std.
//!
//! The guest runs in ring 3 with one identity-mapped address space, one CPU and
//! no interrupts; all its unsafe code is here, behind types that are safe to use.
#![no_std]
#![allow(unsafe_code, reason = "the one guest crate that touches memory and ports itself")]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod clock;
pub mod heap;
pub mod memory;
pub mod mmio;
pub mod ports;
pub mod queue;
pub mod start;
