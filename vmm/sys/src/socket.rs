//! Sockets for sealed packets, inside UDP or as IP protocol 50, received from and sent to in
//! batches: many datagrams per system call (recvmmsg, sendmmsg) and, with UDP, many per pass of the
//! kernel's network code (UDP_GRO, UDP_SEGMENT). Never block, never fragment.

use std::io::{self, Error};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::net::sockopt;

use crate::raw::EspSocket;
use crate::udp::UdpSocket;

mod address;
mod control;
mod errors;
mod received;
mod sending;

pub use errors::NetworkError;
pub use received::{Envelope, Received};
pub use sending::{Message, Sent};

/// Most datagrams that one message may be cut into (the kernel's UDP_MAX_SEGMENTS was 64 before
/// Linux 6.9).
pub const MAX_SEGMENTS: usize = 64;

/// Most bytes of one message: an IPv4 packet less its headers.
pub const MAX_BYTES: usize = 65535 - 20 - 8;

/// Messages per system call.
const BATCH: usize = 16;

/// Bytes the kernel may queue while the loop is busy.
const QUEUED_BYTES: usize = 4 << 20;

/// Errors of the network that one receive passes over.
const PASSED_OVER: usize = 4;

// SAFETY: the structure holds integers and raw pointers, for all of which zero is a value.
const EMPTY_HEADER: libc::mmsghdr = unsafe { std::mem::zeroed() };

/// A socket of either kind.
#[derive(Debug)]
pub enum Socket {
    /// Encapsulated in UDP (RFC 3948), bound to one address and port.
    Udp(UdpSocket),
    /// IP protocol 50 of one family (RFC 4303), unbound.
    Esp(EspSocket),
}

impl Socket {
    /// The address and port a UDP socket is bound to.
    pub fn local(&self) -> Option<SocketAddr> {
        match self {
            Socket::Udp(socket) => Some(socket.local()),
            Socket::Esp(_) => None,
        }
    }

    fn descriptor(&self) -> &Descriptor {
        match self {
            Socket::Udp(socket) => &socket.0,
            Socket::Esp(socket) => &socket.0,
        }
    }

    /// Receives what is there into `batch`, in place of what it held; `false` if nothing is there.
    ///
    /// # Errors
    /// Those of recvmmsg(2) but EAGAIN. Errors of an earlier send (ICMP) are passed over.
    pub fn receive(&self, batch: &mut Received) -> io::Result<bool> {
        self.descriptor().receive(batch)
    }

    /// Sends messages in order, many per system call; adds what became of them to `sent`.
    ///
    /// A message that the kernel refuses is passed over: to its sender it is a lost packet. When the
    /// kernel's queue is full the rest is given up as well.
    pub fn send(&self, messages: &[Message<'_>], sent: &mut Sent) {
        self.descriptor().send(messages, sent);
    }

    /// Gives `each` of the errors that the network reported about packets sent earlier, a bounded
    /// number per call.
    ///
    /// Costs nothing unless a receive or a send met one since; until they are taken, the
    /// descriptor stays ready (EPOLLERR).
    pub fn errors(&self, each: impl FnMut(NetworkError<'_>)) {
        self.descriptor().errors(each);
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor().fd.as_fd()
    }
}

impl From<UdpSocket> for Socket {
    fn from(socket: UdpSocket) -> Socket {
        Socket::Udp(socket)
    }
}

impl From<EspSocket> for Socket {
    fn from(socket: EspSocket) -> Socket {
        Socket::Esp(socket)
    }
}

/// What carries a socket's messages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    /// UDP; the address it is bound to.
    Udp(IpAddr),
    /// ESP over IPv4, whose packets are received with their IP header.
    EspV4,
    /// ESP over IPv6.
    EspV6,
}

/// What all sockets are.
#[derive(Debug)]
pub(crate) struct Descriptor {
    fd: OwnedFd,
    protocol: Protocol,
    /// Whether a call has failed since the error queue was last found empty.
    ///
    /// Every entry of that queue makes one call fail, so none is missed.
    has_errors: AtomicBool,
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Descriptor {
    pub(crate) fn new(fd: OwnedFd, protocol: Protocol) -> Descriptor {
        // The kernel cuts these to its own limits (net.core.rmem_max); less is slower, not wrong.
        let _ = sockopt::set_socket_recv_buffer_size(&fd, QUEUED_BYTES);
        let _ = sockopt::set_socket_send_buffer_size(&fd, QUEUED_BYTES);
        Descriptor { fd, protocol, has_errors: AtomicBool::new(false) }
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(crate) fn receive(&self, batch: &mut Received) -> io::Result<bool> {
        let mut left = PASSED_OVER;
        loop {
            match batch.fill(self.fd.as_fd(), self.protocol) {
                Ok(messages) => return Ok(messages > 0),
                Err(e) => match e.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => return Ok(false),
                    _ if left == 0 => return Err(e),
                    // Most likely about an earlier packet, which the kernel tells but once.
                    _ => self.has_errors.store(true, Ordering::Relaxed),
                },
            }
            left -= 1;
        }
    }
}

/// Makes every packet be sent whole or not at all (DF), and the errors about them be kept.
///
/// PROBE takes the device's MTU alone for the limit: path MTU discovery is the switch's own affair,
/// which knows what errors to believe, and the kernel's cache of what ICMP told is not consulted.
pub(crate) fn never_fragment(fd: BorrowedFd<'_>, is_v4: bool) -> io::Result<()> {
    let (level, discover, probe, errors) = if is_v4 {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE, libc::IP_RECVERR)
    } else {
        let probe = libc::IPV6_PMTUDISC_PROBE;
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe, libc::IPV6_RECVERR)
    };
    set_integer(fd, level, discover, probe)?;
    set_integer(fd, level, errors, 1)
}

pub(crate) fn set_integer(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_option(fd, level, name, &value.to_ne_bytes())
}

pub(crate) fn set_option(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &[u8],
) -> io::Result<()> {
    let (data, length) = (value.as_ptr().cast(), value.len() as libc::socklen_t);
    // SAFETY: the kernel reads `length` bytes of `value` and keeps nothing of it.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, data, length) };
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}
