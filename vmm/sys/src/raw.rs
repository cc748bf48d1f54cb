//! Raw sockets of IP protocol 50: ESP without UDP around it (RFC 4303).

use std::io::{self, Error};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};

use crate::socket::{
    Descriptor, Message, NetworkError, Protocol, Received, Sent, never_fragment, set_integer,
    set_option,
};

/// Why a raw socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailure {
    /// No right to.
    #[error(
        "raw ESP takes CAP_NET_RAW: run as root, give the program the capability (setcap \
         cap_net_raw+ep PROGRAM), or set encapsulation = \"udp\" in [overlay]"
    )]
    Capability,
    /// Binding to a device.
    #[error("cannot bind to network device {device}: {source}")]
    Device {
        /// Its name.
        device: String,
        /// The kernel's answer.
        #[source]
        source: Error,
    },
    /// Anything else.
    #[error("cannot open a raw socket for ESP over {family}: {source}")]
    Other {
        /// The family.
        family: Family,
        /// The kernel's answer.
        #[source]
        source: Error,
    },
}

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

impl From<std::net::IpAddr> for Family {
    fn from(address: std::net::IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// A raw, non-blocking socket that is given every ESP packet of one family sent to this host.
///
/// The kernel reassembles fragments first, and a packet goes to other raw sockets and to the
/// kernel's own IPsec as well. What this host sends itself is seen only if it is sent to itself.
#[derive(Debug)]
pub struct EspSocket(pub(crate) Descriptor);

impl EspSocket {
    /// Opens one, bound to one network device if `device` names it.
    ///
    /// # Errors
    /// [`OpenFailure`].
    pub fn open(family: Family, device: Option<&str>) -> Result<EspSocket, OpenFailure> {
        let other = |source| OpenFailure::Other { family, source };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (domain, protocol) = match family {
            Family::V4 => (AddressFamily::INET, Protocol::EspV4),
            Family::V6 => (AddressFamily::INET6, Protocol::EspV6),
        };
        let fd = rustix::net::socket_with(domain, SocketType::RAW, flags, Some(ipproto::ESP));
        let fd = fd.map_err(|e| match Error::from(e) {
            e if e.kind() == io::ErrorKind::PermissionDenied => OpenFailure::Capability,
            e => other(e),
        })?;
        if let Some(device) = device {
            set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, device.as_bytes())
                .map_err(|source| OpenFailure::Device { device: device.into(), source })?;
        }
        set_options(fd.as_fd(), family).map_err(other)?;
        Ok(EspSocket(Descriptor::new(fd, protocol)))
    }

    /// The family of the addresses ESP travels between.
    pub fn family(&self) -> Family {
        match self.0.protocol() {
            Protocol::EspV6 => Family::V6,
            _ => Family::V4,
        }
    }

    /// As [`Socket::receive`](crate::socket::Socket::receive).
    ///
    /// # Errors
    /// As there.
    pub fn receive(&self, batch: &mut Received) -> io::Result<bool> {
        self.0.receive(batch)
    }

    /// As [`Socket::send`](crate::socket::Socket::send); joined datagrams are sent one by one.
    pub fn send(&self, messages: &[Message<'_>], sent: &mut Sent) {
        self.0.send(messages, sent);
    }

    /// As [`Socket::errors`](crate::socket::Socket::errors).
    pub fn errors(&self, each: impl FnMut(NetworkError<'_>)) {
        self.0.errors(each);
    }
}

fn set_options(fd: BorrowedFd<'_>, family: Family) -> io::Result<()> {
    // An IPv4 packet comes with its header, which says the same.
    if family == Family::V6 {
        sockopt::set_ipv6_recvtclass(fd, true)?;
        set_integer(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
    }
    never_fragment(fd, family == Family::V4)
}

impl AsFd for EspSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
