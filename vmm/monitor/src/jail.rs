//! The jail of the VM process: its own files by Landlock, its own system calls by
//! seccomp. Entered before the guest's first instruction.
//!
//! A guest that takes this process over has the space's files, disks and rings: it can open
//! nothing else, connect to nothing, start nothing and trace nobody. Disks have no rule: their
//! files are open before, the images for reading alone, and are never named again.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::Settings;

/// Why a process cannot be locked in.
#[derive(Debug, thiserror::Error)]
pub enum JailFailure {
    /// Landlock itself.
    #[error("Landlock refuses its rules")]
    Landlock(#[from] landlock::RulesetError),
    /// A directory that a rule is for.
    #[error("a directory of the space is gone")]
    Path(#[from] landlock::PathFdError),
    /// Seccomp, and its filter.
    #[error("seccomp refuses the filter; the kernel needs CONFIG_SECCOMP_FILTER")]
    Seccomp(#[from] seccompiler::Error),
}

/// Locks the calling thread and those it starts later into what `settings` name.
pub(crate) fn enter(settings: &Settings) -> Result<(), JailFailure> {
    restrict_files(settings)?;
    Ok(seccompiler::apply_filter(&filter().map_err(seccompiler::Error::Backend)?)?)
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        SYSTEM_CALLS.iter().map(|call| (*call, vec![])).collect();
    for (call, orders) in [(libc::SYS_ioctl, IOCTLS), (libc::SYS_fcntl, FCNTLS)] {
        let rule = |order: &u64| {
            let (length, equal) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
            SeccompRule::new(vec![SeccompCondition::new(1, length, equal, *order)?])
        };
        rules.insert(call, orders.iter().map(rule).collect::<Result<_, _>>()?);
    }
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, ARCH.try_into()?)?.try_into()
}

/// As much as the running kernel's Landlock knows of it.
fn restrict_files(settings: &Settings) -> Result<(), JailFailure> {
    let abi = ABI::V6;
    let all = AccessFs::from_all(abi);
    // What asks for more than a kind of file can do is no mistake here: directories hold all kinds.
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?;
    for lower in &settings.lowers {
        let may = AccessFs::ReadFile | AccessFs::ReadDir;
        rules = rules.add_rule(PathBeneath::new(PathFd::new(lower)?, may))?;
    }
    for own in [&settings.upper, &settings.work] {
        // Devices are shown to the guest, never made or used here: only whiteouts are, 0/0.
        let may = all & !(AccessFs::Execute | AccessFs::MakeBlock | AccessFs::IoctlDev);
        rules = rules.add_rule(PathBeneath::new(PathFd::new(own)?, may))?;
    }
    rules.restrict_self()?;
    Ok(())
}

/// What the vCPU's thread asks of KVM: KVM_RUN, KVM_GET_REGS, KVM_GET_SREGS.
///
/// No FIONBIO: the eventfds that the switch signals are shared, and so is whether they block.
const IOCTLS: &[u64] = &[0xae80, 0x8090_ae81, 0x8138_ae83];

/// Duplicates and flags of descriptors; no F_SETFL, for the same reason.
const FCNTLS: &[u64] = &[
    libc::F_DUPFD_CLOEXEC as u64,
    libc::F_GETFD as u64,
    libc::F_SETFD as u64,
    libc::F_GETFL as u64,
];

/// What the threads call once they run, by what for.
const SYSTEM_CALLS: &[i64] = &[
    // The guest, and waiting.
    libc::SYS_ppoll,
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_ctl,
    libc::SYS_futex,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    // Sockets that are open, and clients of the one that listens.
    libc::SYS_accept4,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_shutdown,
    // Descriptors.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
    // The file space.
    libc::SYS_openat2,
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_renameat2,
    libc::SYS_renameat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_utimensat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_faccessat2,
    libc::SYS_fgetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_flistxattr,
    libc::SYS_fremovexattr,
    libc::SYS_copy_file_range,
    libc::SYS_flock,
    // Memory, randomness, threads, and the end.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_getrandom,
    libc::SYS_clone3,
    libc::SYS_clone,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_prctl,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

#[cfg(test)]
mod tests;
