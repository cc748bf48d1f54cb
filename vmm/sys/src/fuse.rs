//! /dev/fuse: requests of the kernel to whoever serves a mounted file system, and mounting it.

use std::ffi::CString;
use std::io::{self, Error};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use crate::capability;

mod helper;
mod table;

pub use table::{KIND, Mounted, mounts};

const PATH: &str = "/dev/fuse";

/// FUSE_DEV_IOC_CLONE, _IOR(229, 0, uint32_t) (linux/fuse.h).
const CLONE: libc::Ioctl = 0x8004_e500;
/// FUSE_DEV_IOC_BACKING_OPEN, _IOW(229, 1, struct fuse_backing_map).
const BACKING_OPEN: libc::Ioctl = 0x4010_e501;
/// FUSE_DEV_IOC_BACKING_CLOSE, _IOW(229, 2, uint32_t).
const BACKING_CLOSE: libc::Ioctl = 0x4004_e502;

/// The ioctls a server makes once it serves, for the jail it may be in.
pub const IOCTLS: [u64; 2] = [BACKING_OPEN, BACKING_CLOSE];

/// Why there is no mount, or why it stays.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The driver's file cannot be opened.
    #[error(
        "cannot open {PATH}: {source}; load the driver (modprobe fuse), or ask for access to it"
    )]
    Open {
        /// The kernel's answer.
        #[source]
        source: Error,
    },
    /// mount(2) refused.
    #[error("cannot mount on {}: {source}", directory.display())]
    Mount {
        /// Where.
        directory: PathBuf,
        /// The kernel's answer.
        #[source]
        source: Error,
    },
    /// umount(2) refused.
    #[error("cannot unmount {}: {source}", directory.display())]
    Unmount {
        /// Where.
        directory: PathBuf,
        /// The kernel's answer.
        #[source]
        source: Error,
    },
    /// The program with the right to mount is missing.
    #[error(
        "an ordinary user mounts with fusermount3, which cannot be run: {source}; install the package fuse3, or mount as root"
    )]
    Helper {
        /// Why not.
        #[source]
        source: Error,
    },
    /// The program with the right to mount refused, in its own words.
    #[error("fusermount3 refuses {}: {said}", directory.display())]
    Refused {
        /// Where.
        directory: PathBuf,
        /// Its last line.
        said: String,
    },
}

/// One end of the connection to the kernel; each thread of a server has one of its own.
#[derive(Debug)]
pub struct Device(OwnedFd);

/// The kernel's struct fuse_backing_map.
#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

impl Device {
    /// Opens the driver's file; [`mount`] connects it to a mount.
    ///
    /// # Errors
    /// Those of open(2).
    pub fn open() -> io::Result<Device> {
        let fd = rustix::fs::open(PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Device(fd))
    }

    /// Takes over a descriptor of the driver's file.
    pub fn from_fd(fd: OwnedFd) -> Device {
        Device(fd)
    }

    /// Waits for the next request and reads it into `buffer`.
    ///
    /// # Errors
    /// ENODEV: it is unmounted. EINVAL: `buffer` is too short.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match rustix::io::read(&self.0, &mut *buffer) {
                // NOENT: the request was interrupted before it was read.
                Err(Errno::INTR | Errno::NOENT | Errno::AGAIN) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Answers a request, or notifies the kernel.
    ///
    /// # Errors
    /// ENOENT: nobody waits for this answer any more, or the kernel does not know the file it was
    /// notified of. ENODEV: it is unmounted.
    pub fn write(&self, message: &[u8]) -> io::Result<()> {
        loop {
            match rustix::io::write(&self.0, message) {
                Err(Errno::INTR | Errno::AGAIN) => {}
                result => return Ok(result.map(drop)?),
            }
        }
    }

    /// A further end of the same connection, with a queue of its own for what is being answered.
    ///
    /// # Errors
    /// Those of open(2) and ioctl(2).
    pub fn try_clone(&self) -> io::Result<Device> {
        let device = Device::open()?;
        let from = self.0.as_raw_fd() as u32;
        // SAFETY: FUSE_DEV_IOC_CLONE reads one uint32_t, which outlives the call.
        match unsafe { libc::ioctl(device.0.as_raw_fd(), CLONE, &raw const from) } {
            0 => Ok(device),
            _ => Err(Error::last_os_error()),
        }
    }

    /// Registers an open file for passthrough and returns its number (Linux 6.9).
    ///
    /// # Errors
    /// EPERM without CAP_SYS_ADMIN; ENOTTY of an older kernel.
    pub fn backing_open(&self, file: impl AsFd) -> io::Result<i32> {
        let map = BackingMap { fd: file.as_fd().as_raw_fd(), flags: 0, padding: 0 };
        // SAFETY: FUSE_DEV_IOC_BACKING_OPEN reads one struct fuse_backing_map, as which `map` is
        // laid out, and which outlives the call.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), BACKING_OPEN, &raw const map) } {
            id if id >= 0 => Ok(id),
            _ => Err(Error::last_os_error()),
        }
    }

    /// Gives back what [`backing_open`](Device::backing_open) returned.
    ///
    /// # Errors
    /// ENOENT: there is no such number.
    pub fn backing_close(&self, id: i32) -> io::Result<()> {
        // SAFETY: FUSE_DEV_IOC_BACKING_CLOSE reads one uint32_t, which outlives the call.
        match unsafe { libc::ioctl(self.0.as_raw_fd(), BACKING_CLOSE, &raw const id) } {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether this process mounts by itself; else fusermount3 does.
fn is_able() -> bool {
    capability::has(CapabilitySet::SYS_ADMIN)
}

/// Mounts a file system on `directory` (absolute) and returns the connection its server reads.
///
/// Root's is there for all users, anybody else's for that user alone; the kernel checks
/// permissions by owner and mode. The server must answer INIT before anybody can use it.
///
/// # Errors
/// [`Failure`].
pub fn mount(directory: &Path) -> Result<Device, Failure> {
    if !is_able() {
        return helper::mount(directory).map(Device);
    }
    let device = Device::open().map_err(|source| Failure::Open { source })?;
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let options = format!(
        "fd={},rootmode=40000,user_id={},group_id={},default_permissions,allow_other",
        device.0.as_raw_fd(),
        user.as_raw(),
        group.as_raw(),
    );
    let failed = |source| Failure::Mount { directory: directory.to_owned(), source };
    let target = c_path(directory).map_err(failed)?;
    let options = CString::new(options).map_err(|error| failed(error.into()))?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    let (source, data) = (c"portspace".as_ptr(), options.as_ptr().cast());
    // SAFETY: the strings end in NUL and outlive the call.
    let result =
        unsafe { libc::mount(source, target.as_ptr(), table::C_KIND.as_ptr(), flags, data) };
    if result == 0 { Ok(device) } else { Err(failed(Error::last_os_error())) }
}

/// Unmounts `directory` at once for all who look for it; who still uses it may go on.
///
/// # Errors
/// [`Failure`]; EINVAL: it is not mounted.
pub fn unmount(directory: &Path) -> Result<(), Failure> {
    if !is_able() {
        return helper::unmount(directory);
    }
    let failed = |source| Failure::Unmount { directory: directory.to_owned(), source };
    let target = c_path(directory).map_err(failed)?;
    let flags = libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW;
    // SAFETY: the string ends in NUL and outlives the call.
    match unsafe { libc::umount2(target.as_ptr(), flags) } {
        0 => Ok(()),
        _ => Err(failed(Error::last_os_error())),
    }
}

/// Lets the kernel read ahead up to `kib` KiB of each file of the mount on `directory`.
///
/// # Errors
/// Those of writing to /sys: it takes root.
pub fn read_ahead(directory: &Path, kib: u32) -> io::Result<()> {
    let device = rustix::fs::stat(directory)?.st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    std::fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), kib.to_string())
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
