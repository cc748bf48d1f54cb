//! The virtual machine: /dev/kvm, its vCPU and its exits.
#![expect(unsafe_code, reason = "one of the three crates that may; every block argues its case")]
