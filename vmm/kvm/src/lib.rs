//! The virtual machine: /dev/kvm, its one vCPU and its exits.
//!
//! The only crate that opens /dev/kvm. `unsafe` is needed once, to hand guest
//! memory to the kernel; [`Machine`] keeps that memory alive as long as itself.
#![expect(unsafe_code, reason = "one of the three crates that may; every block argues its case")]

mod machine;
mod probe;
mod registers;

pub use kvm_ioctls::VcpuExit;
pub use machine::{Failure, Machine, NewFailure, OpenFailure, Position, Vcpu};
pub use probe::{Costs, ProbeFailure, probe};
