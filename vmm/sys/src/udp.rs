//! UDP sockets, bound to one address and port.

use std::io::{self, Error};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::socket::{
    Descriptor, Message, NetworkError, Protocol, Received, Sent, never_fragment, set_integer,
    set_option,
};

/// Why a socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindFailure {
    /// Somebody else has the port.
    #[error(
        "UDP port {port} of {address} is in use by another program (an IKE daemon or a second \
         switch?): stop it, or choose another port in [overlay]"
    )]
    InUse {
        /// The local address.
        address: IpAddr,
        /// The local port.
        port: u16,
    },
    /// The address is not one of this host's.
    #[error(
        "{address} is no address of this host: set [overlay] local to one that `ip address` shows"
    )]
    NotLocal {
        /// The local address.
        address: IpAddr,
    },
    /// A port below 1024.
    #[error(
        "UDP port {port} takes CAP_NET_BIND_SERVICE: choose a port from 1024 on, or run as root"
    )]
    Privileged {
        /// The local port.
        port: u16,
    },
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
    #[error("cannot open a UDP socket on {address} port {port}: {source}")]
    Other {
        /// The local address.
        address: IpAddr,
        /// The local port.
        port: u16,
        /// The kernel's answer.
        #[source]
        source: Error,
    },
}

/// A bound, non-blocking UDP socket.
#[derive(Debug)]
pub struct UdpSocket(pub(crate) Descriptor, SocketAddr);

impl UdpSocket {
    /// Binds to `local` (port 0: any free one), and to one network device if `device` names it.
    ///
    /// # Errors
    /// [`BindFailure`].
    pub fn bind(local: SocketAddr, device: Option<&str>) -> Result<UdpSocket, BindFailure> {
        let (address, port) = (local.ip(), local.port());
        let other = |source| BindFailure::Other { address, port, source };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)
            .map_err(|e| other(e.into()))?;
        if let Some(device) = device {
            set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, device.as_bytes())
                .map_err(|source| BindFailure::Device { device: device.into(), source })?;
        }
        set_options(fd.as_fd(), local.is_ipv4()).map_err(other)?;
        rustix::net::bind(&fd, &local).map_err(|e| match Error::from(e).kind() {
            io::ErrorKind::AddrInUse => BindFailure::InUse { address, port },
            io::ErrorKind::AddrNotAvailable => BindFailure::NotLocal { address },
            io::ErrorKind::PermissionDenied => BindFailure::Privileged { port },
            _ => other(e.into()),
        })?;
        let bound = rustix::net::getsockname(&fd).ok();
        let local = bound.and_then(|name| SocketAddr::try_from(name).ok()).unwrap_or(local);
        Ok(UdpSocket(Descriptor::new(fd, Protocol::Udp(local.ip())), local))
    }

    /// Where it is bound to.
    pub fn local(&self) -> SocketAddr {
        self.1
    }

    /// As [`Socket::receive`](crate::socket::Socket::receive).
    ///
    /// # Errors
    /// As there.
    pub fn receive(&self, batch: &mut Received) -> io::Result<bool> {
        self.0.receive(batch)
    }

    /// As [`Socket::send`](crate::socket::Socket::send).
    pub fn send(&self, messages: &[Message<'_>], sent: &mut Sent) {
        self.0.send(messages, sent);
    }

    /// As [`Socket::errors`](crate::socket::Socket::errors).
    pub fn errors(&self, each: impl FnMut(NetworkError<'_>)) {
        self.0.errors(each);
    }
}

fn set_options(fd: BorrowedFd<'_>, is_v4: bool) -> io::Result<()> {
    if is_v4 {
        sockopt::set_ip_recvtos(fd, true)?;
    } else {
        sockopt::set_ipv6_v6only(fd, true)?;
        sockopt::set_ipv6_recvtclass(fd, true)?;
    }
    set_integer(fd, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    never_fragment(fd, is_v4)
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn what_is_wrong_with_an_address_is_said_in_words() {
        let a = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0).into(), None).unwrap();
        let taken = UdpSocket::bind(a.local(), None).unwrap_err();
        assert!(taken.to_string().contains(&a.local().port().to_string()), "{taken}");
        assert!(taken.to_string().contains("in use"), "{taken}");
        for elsewhere in ["203.0.113.7:4500", "[2001:db8::7]:4500"] {
            let foreign = UdpSocket::bind(elsewhere.parse().unwrap(), None).unwrap_err();
            assert!(foreign.to_string().contains("no address of this host"), "{foreign}");
        }
        let device = UdpSocket::bind(a.local(), Some("ps-none")).unwrap_err();
        assert!(device.to_string().contains("device ps-none"), "{device}");
    }
}
