//! The jail of a process that serves a space: its own files by Landlock, its own
//! system calls by seccomp.
//!
//! Who takes such a process over has the space's files and what is open: it can
//! open nothing else, connect to nothing, start nothing and trace nobody.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

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

/// What is left of the world inside.
#[derive(Clone, Copy, Debug)]
pub struct Inside<'a> {
    /// Directories that are read.
    pub read: &'a [&'a Path],
    /// Directories that are read and written.
    pub written: &'a [&'a Path],
    /// Whether programs outside run files of `written` that the kernel opens in this process's
    /// name (FUSE passthrough). Nobody inside can: `execve` is for no `calls`.
    pub run_outside: bool,
    /// System calls, whatever their arguments.
    pub calls: &'a [&'a [i64]],
    /// System calls that may have one of these second arguments.
    pub orders: &'a [(i64, &'a [u64])],
}

/// A jail that is built: its directories were found, and are meant whatever their names come to be.
#[derive(Debug)]
#[must_use = "a jail that is not entered holds nobody"]
pub struct Jail {
    files: RulesetCreated,
    calls: BpfProgram,
}

impl Jail {
    /// Builds a jail; nothing is restricted yet.
    ///
    /// # Errors
    /// A directory is missing, or the kernel lacks what it takes.
    pub fn new(inside: &Inside<'_>) -> Result<Jail, JailFailure> {
        let calls = filter(inside).map_err(seccompiler::Error::Backend)?;
        Ok(Jail { files: files(inside)?, calls })
    }

    /// Locks the calling thread in, and those it starts later.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn enter(self) -> Result<(), JailFailure> {
        self.files.restrict_self()?;
        Ok(seccompiler::apply_filter(&self.calls)?)
    }
}

fn filter(inside: &Inside<'_>) -> Result<BpfProgram, seccompiler::BackendError> {
    let calls = inside.calls.iter().copied().flatten();
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = calls.map(|call| (*call, vec![])).collect();
    for (call, orders) in inside.orders {
        let rule = |order: &u64| {
            let (length, equal) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
            SeccompRule::new(vec![SeccompCondition::new(1, length, equal, *order)?])
        };
        rules.insert(*call, orders.iter().map(rule).collect::<Result<_, _>>()?);
    }
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, ARCH.try_into()?)?.try_into()
}

/// As much as the running kernel's Landlock knows of it.
fn files(inside: &Inside<'_>) -> Result<RulesetCreated, JailFailure> {
    let abi = ABI::V6;
    let all = AccessFs::from_all(abi);
    // What asks for more than a kind of file can do is no mistake here: directories hold all kinds.
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?;
    for read in inside.read {
        let may = AccessFs::ReadFile | AccessFs::ReadDir;
        rules = rules.add_rule(PathBeneath::new(PathFd::new(read)?, may))?;
    }
    for written in inside.written {
        // Devices are shown to the guest, never made or used here: only whiteouts are, 0/0.
        let mut may = all & !(AccessFs::Execute | AccessFs::MakeBlock | AccessFs::IoctlDev);
        if inside.run_outside {
            may |= AccessFs::Execute;
        }
        rules = rules.add_rule(PathBeneath::new(PathFd::new(written)?, may))?;
    }
    Ok(rules)
}

/// What fcntl(2) may do: duplicates and flags of descriptors; no F_SETFL, for what is shared with
/// others shares whether it blocks.
pub const FCNTL_ORDERS: (i64, &[u64]) = (
    libc::SYS_fcntl,
    &[
        libc::F_DUPFD_CLOEXEC as u64,
        libc::F_GETFD as u64,
        libc::F_SETFD as u64,
        libc::F_GETFL as u64,
    ],
);

/// Reading, writing and closing what is open.
pub const DESCRIPTOR_CALLS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_close,
];

/// What a file space calls once it is open.
pub const FILE_CALLS: &[i64] = &[
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
    libc::SYS_syncfs,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    libc::SYS_utimensat,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_faccessat2,
    libc::SYS_fgetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_flistxattr,
    libc::SYS_fremovexattr,
    libc::SYS_copy_file_range,
    libc::SYS_flock,
];

/// Memory, randomness, threads, waiting for one another, and the end.
pub const PROCESS_CALLS: &[i64] = &[
    libc::SYS_futex,
    libc::SYS_restart_syscall,
    libc::SYS_clock_gettime,
    libc::SYS_sched_yield,
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
