//! Namespaces of our own: hosts on one machine that vanish with their processes.
//!
//! `enter_new` must run before the process has a second thread. The first
//! child it then starts is process 1 of the new process namespace: when that
//! ends, the kernel ends everything below it, and with it the networks.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, getegid, geteuid, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Why a namespace could not be made or entered.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// unshare(2) refused.
    #[error(
        "the kernel refuses new {what} namespaces: {source}; as an ordinary user this needs \
         unprivileged user namespaces (sysctl user.max_user_namespaces above 0 and, where they \
         exist, kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0), \
         or run it as root"
    )]
    Refused {
        /// Which namespaces.
        what: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The user or group map was refused.
    #[error("cannot map the current user to root in {path}: {source}; run it as root instead")]
    Map {
        /// The file in /proc.
        path: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A namespace's file in /proc cannot be opened.
    #[error("cannot open the network namespace {path}: {source}; is the process still there?")]
    Open {
        /// The file in /proc.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// setns(2) refused.
    #[error("cannot enter a network namespace: {source}; it takes CAP_SYS_ADMIN in its owner")]
    Enter {
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Moves the calling process into new network and mount namespaces and its future
/// children into a new process namespace.
///
/// An ordinary user gets a new user namespace as well, in which it is root; so does root if
/// `own_user` is set. Mounts made afterwards are not seen outside.
///
/// # Errors
/// [`Failure`]; also when the process already has a second thread (EINVAL).
pub fn enter_new(own_user: bool) -> Result<(), Failure> {
    let (user, group) = (geteuid(), getegid());
    if own_user || !user.is_root() {
        new(UnshareFlags::NEWUSER, "user")?;
        // Without this the kernel refuses a group map of an ordinary user (user_namespaces(7)).
        map("/proc/self/setgroups", "deny".into())?;
        map("/proc/self/uid_map", format!("0 {} 1", user.as_raw()))?;
        map("/proc/self/gid_map", format!("0 {} 1", group.as_raw()))?;
    }
    new(
        UnshareFlags::NEWNET | UnshareFlags::NEWNS | UnshareFlags::NEWPID,
        "network, mount and process",
    )?;
    mount(c"none", c"/", None, libc::MS_REC | libc::MS_PRIVATE)
        .map_err(|source| Failure::Refused { what: "private mount", source })
}

/// Mounts a /proc that shows the new process namespace; to be called by its process 1.
///
/// # Errors
/// That of mount(2): EPERM in a container that hides parts of /proc. The old /proc still works
/// for `/proc/self`, so callers may go on without.
pub fn mount_proc() -> io::Result<()> {
    mount(c"proc", c"/proc", Some(c"proc"), libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC)
}

fn new(flags: UnshareFlags, what: &'static str) -> Result<(), Failure> {
    // SAFETY: the flags never hold FILES, the one flag with which threads of this process
    // could come to see different descriptor tables.
    unsafe { unshare_unsafe(flags) }.map_err(|e| Failure::Refused { what, source: e.into() })
}

fn map(path: &'static str, line: String) -> Result<(), Failure> {
    fs::write(path, line).map_err(|source| Failure::Map { path, source })
}

fn mount(
    source: &std::ffi::CStr,
    target: &std::ffi::CStr,
    kind: Option<&std::ffi::CStr>,
    flags: libc::c_ulong,
) -> io::Result<()> {
    let kind = kind.map_or(std::ptr::null(), std::ffi::CStr::as_ptr);
    let (source, target) = (source.as_ptr(), target.as_ptr());
    // SAFETY: the strings end in NUL and outlive the call; no data is passed.
    let result = unsafe { libc::mount(source, target, kind, flags, std::ptr::null()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A network namespace, kept alive while this is.
#[derive(Debug)]
pub struct Network(OwnedFd);

impl Network {
    /// The calling thread's own.
    ///
    /// # Errors
    /// [`Failure::Open`] if /proc is not there.
    pub fn current() -> Result<Network, Failure> {
        Network::open("/proc/thread-self/ns/net".into())
    }

    /// That of another process.
    ///
    /// # Errors
    /// [`Failure::Open`] if it is gone or not ours to look at.
    pub fn of(process: u32) -> Result<Network, Failure> {
        Network::open(format!("/proc/{process}/ns/net"))
    }

    /// A new one with nothing but a loopback device that is down.
    ///
    /// # Errors
    /// [`Failure::Refused`] without CAP_SYS_ADMIN in the current user namespace.
    pub fn new() -> Result<Network, Failure> {
        on_a_thread(|| {
            new(UnshareFlags::NEWNET, "network")?;
            Network::current()
        })
    }

    fn open(path: String) -> Result<Network, Failure> {
        rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map(Network)
            .map_err(|e| Failure::Open { path, source: e.into() })
    }

    /// Runs `work` on a thread of its own inside this namespace and waits for it.
    ///
    /// Sockets it opens stay in this namespace wherever they are used.
    ///
    /// # Errors
    /// [`Failure::Enter`].
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Failure> {
        on_a_thread(|| {
            enter(self.0.as_fd()).map_err(|source| Failure::Enter { source })?;
            Ok(work())
        })
    }

    /// Makes `command` start inside this namespace; `self` must live until it is spawned.
    pub fn attach(&self, command: &mut Command) {
        let fd = self.0.as_raw_fd();
        let enter_in_child = move || {
            // SAFETY: the descriptor is open while `self` lives, which callers keep until the
            // spawn; should it be closed, setns(2) fails with EBADF or ENOTTY and so does the spawn.
            enter(unsafe { BorrowedFd::borrow_raw(fd) })
        };
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe { command.pre_exec(enter_in_child) };
    }
}

fn enter(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(fd, Some(LinkNameSpaceType::Network))?)
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Makes `command`'s process be killed when the thread that spawns it ends.
pub fn die_with_parent(command: &mut Command) {
    let parent = rustix::process::getpid();
    let ask = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the request; in a new process namespace it is not seen.
        match rustix::process::getppid() {
            Some(now) if now != parent => Err(io::Error::from_raw_os_error(libc::ESRCH)),
            _ => Ok(()),
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(ask) };
}
