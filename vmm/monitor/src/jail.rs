//! The jail of the VM process, entered before the guest's first instruction.
//!
//! A guest that takes this process over has the space's files, disks and rings: it can open
//! nothing else, connect to nothing, start nothing and trace nobody. Disks have no rule: their
//! files are open before, the images for reading alone, and are never named again.

use jail::{DESCRIPTOR_CALLS, FCNTL_ORDERS, FILE_CALLS, Inside, Jail, JailFailure, PROCESS_CALLS};

use crate::Settings;

/// Locks the calling thread and those it starts later into what `settings` name.
pub(crate) fn enter(settings: &Settings) -> Result<(), JailFailure> {
    let inside = Inside {
        read: &settings.files.read(),
        written: &settings.files.written(),
        run_outside: false,
        calls: &[GUEST_CALLS, SOCKET_CALLS, DESCRIPTOR_CALLS, FILE_CALLS, PROCESS_CALLS],
        orders: &[(libc::SYS_ioctl, IOCTLS), FCNTL_ORDERS],
    };
    Jail::new(&inside)?.enter()
}

/// What the vCPU's thread asks of KVM: KVM_RUN, KVM_GET_REGS, KVM_GET_SREGS.
///
/// No FIONBIO: the eventfds that the switch signals are shared, and so is whether they block.
const IOCTLS: &[u64] = &[0xae80, 0x8090_ae81, 0x8138_ae83];

/// The guest, and waiting.
const GUEST_CALLS: &[i64] = &[
    libc::SYS_ppoll,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_ctl,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setaffinity,
    libc::SYS_clock_nanosleep,
];

/// Sockets that are open, and clients of the one that listens.
const SOCKET_CALLS: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_shutdown,
];

#[cfg(test)]
mod tests;
