//! The VM process: one space's machine, its devices and its file space.
//!
//! Threads, each with what it owns: the vCPU (registers, exits), the loop (console,
//! entropy, vsock, control socket), the files (file space) and one for each disk. The
//! net queues belong to the switch. No network and no keys are here.

pub mod control;

mod bus;
mod disks;
mod event_loop;
mod jail;
mod memory;
mod net;
mod relay;
mod run;
mod settings;
mod vcpu;

pub use run::{Failure, run};
pub use settings::{Disk, Settings};

use virtio::mmio::Interrupt;
use vmm_sys_util::eventfd::EventFd;

/// How a device tells the guest that it used buffers: the bit, then the wake-up.
///
/// All devices of a native guest wake the same sleeping vCPU.
#[derive(Debug)]
struct Signal {
    interrupt: Interrupt,
    wake: EventFd,
}

impl Signal {
    fn raise(&self) {
        self.interrupt.raise();
        // The counter is full only when 2^64 - 2 wake-ups are unread: it is awake then.
        let _ = self.wake.write(1);
    }
}

/// Why a machine ended; the first reason is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// The guest powered off, or it was asked for from outside.
    Stopped,
    /// The guest failed: its panic message, or the exception that ended it.
    Guest(String),
    /// The switch closed the space's connection.
    SwitchGone,
    /// Its layer was sealed, and the files cannot be served any further.
    Files(String),
    /// KVM could not go on.
    Kvm(String),
}
