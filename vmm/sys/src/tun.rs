//! A TUN device: a network interface whose packets a program reads and writes.

use std::io::{self, Error};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

const PATH: &str = "/dev/net/tun";

/// Bytes of the header before each packet of a device with offloads: struct virtio_net_hdr with the
/// number of buffers (virtio 1.2 5.1.6), little-endian.
pub const VNET_HEADER: usize = 12;

/// Most bytes that one read gives.
pub const MAX_READ: usize = VNET_HEADER + 65535;

/// Checksums, and long TCP packets, also with ECN (RFC 3168).
const TCP_OFFLOADS: libc::c_uint =
    libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;

/// Long UDP packets.
const UDP_OFFLOADS: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;

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
        Tun::open(name, libc::IFF_TUN | libc::IFF_NO_PI)
    }

    /// Makes one as [`create`](Tun::create) does whose packets have a [`VNET_HEADER`] before them,
    /// and may be long TCP or UDP packets yet to be cut up (TSO, USO) without their checksums:
    /// the header says what is left to do (virtio 1.2 5.1.6).
    ///
    /// Long UDP packets (Linux 6.2) are not read from an older kernel.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn create_with_offloads(name: &str) -> Result<Tun, Failure> {
        let tun = Tun::open(name, libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR)?;
        let refused = |source| Failure::Create { name: tun.name.clone(), source };
        tun.set(libc::TUNSETVNETHDRSZ, VNET_HEADER as libc::c_int).map_err(refused)?;
        tun.set(libc::TUNSETVNETLE, 1).map_err(refused)?;
        tun.offload(TCP_OFFLOADS | UDP_OFFLOADS)
            .or_else(|_| tun.offload(TCP_OFFLOADS))
            .map_err(refused)?;
        Ok(tun)
    }

    fn open(name: &str, kind: libc::c_int) -> Result<Tun, Failure> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(PATH, flags, Mode::empty())
            .map_err(|e| Failure::Open { source: e.into() })?;
        let refused = |source| Failure::Create { name: name.into(), source };
        let mut request =
            Request { name: [0; libc::IFNAMSIZ], flags: kind as libc::c_short, rest: [0; 22] };
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

    /// Reads one IP packet into `buffer`, with offloads behind its [`VNET_HEADER`], and gives the
    /// length of both, or `None` if there is none. What does not fit is lost; [`MAX_READ`] does.
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

    /// Hands one IP packet, with offloads behind its [`VNET_HEADER`], in parts to the host; `false`
    /// if the host refuses it.
    pub fn write(&self, parts: &[io::IoSlice<'_>]) -> bool {
        rustix::io::writev(&self.fd, parts).is_ok()
    }

    fn set(&self, request: libc::Ioctl, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the requests this is called with read one int, which outlives the call.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), request, &raw const value) } {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        }
    }

    fn offload(&self, offloads: libc::c_uint) -> io::Result<()> {
        let offloads = libc::c_ulong::from(offloads);
        // SAFETY: TUNSETOFFLOAD takes a number and touches no memory of ours.
        match unsafe { libc::ioctl(self.fd.as_raw_fd(), libc::TUNSETOFFLOAD, offloads) } {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        }
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
