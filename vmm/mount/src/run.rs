//! Puts a mount process together and runs it to its end.

use std::io::{Error, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use cowfs::{Backing, Config, FileSpace, Limits, View};
use jail::{DESCRIPTOR_CALLS, FCNTL_ORDERS, FILE_CALLS, Inside, Jail, JailFailure, PROCESS_CALLS};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sys::fuse::Device;
use sys::seqpacket::{Connection, Incoming, Listener};

use crate::awake::Awake;
use crate::machine::{self, Machines};
use crate::{Host, Kernel, Settings, host};

/// Why a mount process did not start or ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The file space.
    #[error("space {0} cannot open its files")]
    Files(String, #[source] cowfs::OpenFailure),
    /// The kernel does not lock the process in.
    #[error("space {0} cannot be locked into its own files; nothing is served unjailed")]
    Jail(String, #[source] JailFailure),
    /// Descriptors or threads.
    #[error("space {0} cannot set itself up; the machine is out of descriptors or threads")]
    Setup(String, #[source] Error),
    /// The kernel, while serving.
    #[error("the mount of space {0} ended: the kernel does not go on with it; mount it again")]
    Kernel(String, #[source] Error),
    /// What waits for machines.
    #[error("space {0} can serve its files to no further machine; plug it in again")]
    Machines(String, #[source] Error),
}

/// What a mount process says to the command that started it, one byte each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// The files are open and locked: it wants the connection to the kernel, or the socket at which
    /// machines connect.
    Opened = 1,
    /// The files can be used.
    Served = 2,
}

/// Serves until unmounted (`Ok`) or until it fails.
///
/// `command` is told each [`Stage`] and sends what leads to the kernel in between; if it goes
/// away instead, this ends.
///
/// # Errors
/// [`Failure`] with the cause and what to do.
pub fn run(settings: &Settings, command: Connection) -> Result<(), Failure> {
    let setup = |error| Failure::Setup(settings.name.clone(), error);
    let jailed = |failure| Failure::Jail(settings.name.clone(), failure);
    let passing = Arc::new(OnceLock::new());
    let space = FileSpace::open(config(settings, &passing))
        .map_err(|failure| Failure::Files(settings.name.clone(), failure))?;
    // Built before anything is mounted: the mount may cover a lower's own name.
    let jail = built(settings).map_err(jailed)?;
    command.send(&[Stage::Opened as u8], &[]).map_err(setup)?;
    let Some(kernel) = received(&command).map_err(setup)? else { return Ok(()) };
    let asked = listening(settings).map_err(setup)?;
    let enter = || {
        jail.enter().map_err(jailed)?;
        abort_on_panic();
        Ok(())
    };
    let served = || {
        // The command may have given up: the files are there nevertheless.
        let _ = command.send(&[Stage::Served as u8], &[]);
        drop(command);
    };
    match &settings.to {
        Kernel::Host(Host { threads, frugal, .. }) => {
            let device = Device::from_fd(kernel);
            let teller = device.try_clone().map_err(setup)?;
            if let Ok(device) = device.try_clone() {
                passing.get_or_init(|| device);
            }
            let devices = clones(device, *threads);
            let awake = if *frugal { None } else { Awake::open() };
            enter()?;
            host::serve(space, devices, teller, asked, awake, served)
                .map_err(|error| Failure::Kernel(settings.name.clone(), error))
        }
        Kernel::Machine => {
            let machines = Machines::new(space).map_err(setup)?;
            enter()?;
            machines
                .serve(UnixListener::from(kernel), asked, served)
                .map_err(|error| Failure::Machines(settings.name.clone(), error))
        }
    }
}

/// Who is asked to hold the files still, and what is moved meanwhile.
pub(crate) struct Asked {
    listener: Listener,
    upper: PathBuf,
    next: PathBuf,
}

impl Asked {
    /// Answers until the space can be served no further.
    pub(crate) fn serve(&self, space: &FileSpace) -> Error {
        seal::serve(&self.listener, space, &self.upper, &self.next)
    }
}

fn config(settings: &Settings, passing: &Arc<OnceLock<Device>>) -> Config {
    let limits = limits(descriptors());
    match &settings.to {
        Kernel::Host(Host { hidden, .. }) => Config {
            view: View::Host,
            hidden: hidden.clone(),
            notify: true,
            // Only root may hand files to the kernel.
            backing: rustix::process::geteuid().is_root().then(|| backing(passing)),
            limits,
            ..settings.files.config()
        },
        Kernel::Machine => Config { limits, ..settings.files.config() },
    }
}

/// Files of the upper are the kernel's to read and write, once there is a connection to it.
fn backing(passing: &Arc<OnceLock<Device>>) -> Arc<Backing> {
    let (opening, closing) = (Arc::clone(passing), Arc::clone(passing));
    let open = move |file: BorrowedFd<'_>| match opening.get() {
        Some(device) => device.backing_open(file),
        None => Err(ErrorKind::NotConnected.into()),
    };
    let close = move |number| {
        // It is the kernel's own number, and given back once.
        let _ = closing.get().map(|device| device.backing_close(number));
    };
    Arc::new(Backing::new(open, close))
}

/// As many descriptors as the process may have, up to what is of use.
fn descriptors() -> usize {
    const WANTED: u64 = 1 << 16;
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.map_or(WANTED, |most| most.min(WANTED));
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => wanted as usize,
        Err(_) => limit.current.unwrap_or(WANTED) as usize,
    }
}

/// The file space's limits in a process with so many descriptors: the same shares as its own
/// default has of 1024.
fn limits(descriptors: usize) -> Limits {
    let default = Limits::default();
    let share = |part: usize| part.max(part * (descriptors / 1024));
    Limits { handles: share(default.handles), directories: share(default.directories), ..default }
}

fn built(settings: &Settings) -> Result<Jail, JailFailure> {
    let (run_outside, calls, orders) = match settings.to {
        Kernel::Host(_) => {
            (true, &[][..], [(libc::SYS_ioctl, &sys::fuse::IOCTLS[..]), FCNTL_ORDERS])
        }
        Kernel::Machine => (false, machine::CALLS, machine::ORDERS),
    };
    Jail::new(&Inside {
        read: &settings.files.read(),
        written: &settings.files.written(),
        run_outside,
        calls: &[OWN_CALLS, calls, DESCRIPTOR_CALLS, FILE_CALLS, PROCESS_CALLS],
        orders: &orders,
    })
}

/// Waiting, telling the command that it serves, and those who ask it to hold still.
const OWN_CALLS: &[i64] =
    &[libc::SYS_ppoll, libc::SYS_poll, libc::SYS_sendmsg, libc::SYS_recvmsg, libc::SYS_accept4];

/// Where commands ask it to hold still, and the layers they move; before the jail is entered.
fn listening(settings: &Settings) -> Result<Option<Asked>, Error> {
    let (Some(socket), Some((room, _))) = (&settings.seal, &settings.files.sealing) else {
        return Ok(None);
    };
    let _ = std::fs::remove_file(socket);
    let listener = Listener::bind(socket)?;
    Ok(Some(Asked { listener, upper: settings.files.upper.clone(), next: room.join("next") }))
}

/// What leads to the kernel, or `None` if the command has given up.
fn received(command: &Connection) -> Result<Option<OwnedFd>, Error> {
    let mut buffer = [0; 1];
    loop {
        let fd = command.as_fd();
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        match command.receive(&mut buffer)? {
            Incoming::Message(_, mut fds) => return Ok(fds.pop()),
            Incoming::Nothing => {}
            Incoming::Closed => return Ok(None),
            Incoming::TooLong => return Err(ErrorKind::InvalidData.into()),
        }
    }
}

/// An end for each thread, or fewer where there are no more.
fn clones(device: Device, threads: usize) -> Vec<Device> {
    let mut devices = vec![device];
    while devices.len() < threads {
        let Ok(clone) = devices[0].try_clone() else { break };
        devices.push(clone);
    }
    devices
}

/// A thread that ended alone would leave its request without an answer for ever; the end of the
/// process answers all.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

#[cfg(test)]
mod tests;
