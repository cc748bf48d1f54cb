//! A TUN device: a network interface whose packets a program reads and writes.

use std::io::{self, Error};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

const PATH: &str = "/dev/net/tun";

/// Why there is no TUN device.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The driver's file cannot be opened.
    #[error("cannot open {PATH}: {source}; load the driver (modprobe tun) or ask for access to it")]
    Open {
        /// The kernel's answer.
        #[source]
        source: Error,
    },
    /// No right to make an interface.
    #[error(
        "{PATH} refuses a new interface: it takes CAP_NET_ADMIN in this network namespace; run as \
         root, or inside a user and network namespace of your own"
    )]
    Capability,
    /// The name is taken or too long.
    #[error("{PATH} refuses interface {name}: {source}; is there one of this name already?")]
    Create {
        /// The name asked for.
        name: String,
        /// The kernel's answer.
        #[source]
        source: Error,
    },
}

/// A TUN device, which exists as long as this; reads and writes never block.
#[derive(Debug)]
pub struct Tun {
    fd: OwnedFd,
    name: String,
}

/// The kernel's struct ifreq as TUNSETIFF reads it.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

impl Tun {
    /// Makes an interface in the current network namespace; a `%d` in `name` becomes the first free number.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn create(name: &str) -> Result<Tun, Failure> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(PATH, flags, Mode::empty())
            .map_err(|e| Failure::Open { source: e.into() })?;
        let refused = |source| Failure::Create { name: name.into(), source };
        let mut request = Request {
            name: [0; libc::IFNAMSIZ],
            flags: (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short,
            rest: [0; 22],
        };
        if name.len() >= libc::IFNAMSIZ {
            return Err(refused(io::ErrorKind::InvalidInput.into()));
        }
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        // SAFETY: TUNSETIFF reads and writes one struct ifreq, as which `request` is laid out.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        if result != 0 {
            return Err(match Error::last_os_error() {
                e if e.kind() == io::ErrorKind::PermissionDenied => Failure::Capability,
                e => refused(e),
            });
        }
        let length = request.name.iter().position(|&byte| byte == 0).unwrap_or(0);
        let name = String::from_utf8_lossy(&request.name[..length]).into_owned();
        Ok(Tun { fd, name })
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads one IP packet into `buffer` and gives its length, or `None` if there is none.
    ///
    /// # Errors
    /// Those of read(2) but EAGAIN; EIO while the interface is down.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::io::read(&self.fd, buffer) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Hands one IP packet, header and payload, to the host; `false` if the host refuses it.
    pub fn write(&self, header: &[u8], payload: &[u8]) -> bool {
        let parts = [io::IoSlice::new(header), io::IoSlice::new(payload)];
        rustix::io::writev(&self.fd, &parts).is_ok()
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
