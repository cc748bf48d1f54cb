//! One UDP socket, received from and sent to in batches: many datagrams per
//! system call (recvmmsg, sendmmsg) and many per pass of the kernel's network
//! code (UDP_GRO, UDP_SEGMENT). Never blocks.

use std::io::{self, Error};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

/// Most datagrams that one message to [`UdpSocket::send`] may be cut into (the kernel's UDP_MAX_SEGMENTS
/// was 64 before Linux 6.9).
pub const MAX_SEGMENTS: usize = 64;

/// Most bytes of one message to [`UdpSocket::send`]: an IPv4 packet less its headers.
pub const MAX_BYTES: usize = 65535 - 20 - 8;

/// Messages per system call.
const BATCH: usize = 16;

/// Bytes the kernel may queue while the loop is busy.
const QUEUED_BYTES: usize = 4 << 20;

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
        address: Ipv4Addr,
        /// The local port.
        port: u16,
    },
    /// The address is not one of this host's.
    #[error(
        "{address} is no address of this host: set [overlay] local to one that `ip address` shows"
    )]
    NotLocal {
        /// The local address.
        address: Ipv4Addr,
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
        address: Ipv4Addr,
        /// The local port.
        port: u16,
        /// The kernel's answer.
        #[source]
        source: Error,
    },
}

/// A bound, non-blocking UDP socket.
#[derive(Debug)]
pub struct UdpSocket {
    fd: OwnedFd,
    local: SocketAddrV4,
}

impl UdpSocket {
    /// Binds to `local` (port 0: any free one), and to one network device if `device` names it.
    ///
    /// # Errors
    /// [`BindFailure`].
    pub fn bind(local: SocketAddrV4, device: Option<&str>) -> Result<UdpSocket, BindFailure> {
        let (address, port) = (*local.ip(), local.port());
        let other = |source| BindFailure::Other { address, port, source };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)
            .map_err(|e| other(e.into()))?;
        if let Some(device) = device {
            set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE, device.as_bytes())
                .map_err(|source| BindFailure::Device { device: device.into(), source })?;
        }
        rustix::net::bind(&fd, &local).map_err(|e| match Error::from(e).kind() {
            io::ErrorKind::AddrInUse => BindFailure::InUse { address, port },
            io::ErrorKind::AddrNotAvailable => BindFailure::NotLocal { address },
            io::ErrorKind::PermissionDenied => BindFailure::Privileged { port },
            _ => other(e.into()),
        })?;
        set_option(fd.as_fd(), libc::SOL_UDP, libc::UDP_GRO, &1i32.to_ne_bytes()).map_err(other)?;
        // The kernel cuts these to its own limits (net.core.rmem_max); less is slower, not wrong.
        let _ = sockopt::set_socket_recv_buffer_size(&fd, QUEUED_BYTES);
        let _ = sockopt::set_socket_send_buffer_size(&fd, QUEUED_BYTES);
        let bound = rustix::net::getsockname(&fd).ok();
        let local = bound.and_then(|name| SocketAddrV4::try_from(name).ok()).unwrap_or(local);
        Ok(UdpSocket { fd, local })
    }

    /// Where it is bound to.
    pub fn local(&self) -> SocketAddrV4 {
        self.local
    }

    /// Receives what is there into `batch`, in place of what it held; `false` if nothing is there.
    ///
    /// # Errors
    /// Those of recvmmsg(2) but EAGAIN. Errors of an earlier send (ICMP) are not among them.
    pub fn receive(&self, batch: &mut Received) -> io::Result<bool> {
        batch.prepare();
        let count = batch.headers.len() as u32;
        let headers = batch.headers.as_mut_ptr();
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: `prepare` pointed the `count` headers at buffers, names and control areas
        // of the batch, which is borrowed exclusively, with their lengths; no timeout is given.
        let got = unsafe {
            libc::recvmmsg(self.fd.as_raw_fd(), headers, count, flags, std::ptr::null_mut())
        };
        batch.filled = usize::try_from(got).unwrap_or(0);
        // The one after the last was tried and found empty.
        batch.used = batch.filled + 1;
        if got >= 0 {
            return Ok(got > 0);
        }
        match Error::last_os_error() {
            e if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(false)
            }
            e => Err(e),
        }
    }

    /// Sends messages in order, many per system call; gives how many were handed to the kernel.
    ///
    /// A message that the kernel refuses is passed over: to its sender it is a lost packet. When the
    /// kernel's queue is full the rest is given up as well.
    pub fn send(&self, messages: &[Message<'_>], sent: &mut Sent) {
        if messages.len() == 1 {
            // The usual case of a round trip: no arrays to be filled for one.
            return self.send_chunk::<1>(messages, sent);
        }
        for chunk in messages.chunks(BATCH) {
            self.send_chunk::<BATCH>(chunk, sent);
        }
    }

    /// Sends at most `N` messages.
    fn send_chunk<const N: usize>(&self, chunk: &[Message<'_>], sent: &mut Sent) {
        let mut names = [raw_address(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)); N];
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; N];
        let mut controls = [Control::EMPTY; N];
        let mut headers = [EMPTY_HEADER; N];
        for (at, message) in chunk.iter().enumerate() {
            names[at] = raw_address(message.to);
            let start = message.bytes.as_ptr().cast_mut().cast();
            vectors[at] = libc::iovec { iov_base: start, iov_len: message.bytes.len() };
            let header = &mut headers[at].msg_hdr;
            header.msg_name = (&raw mut names[at]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_iov = &raw mut vectors[at];
            header.msg_iovlen = 1;
            if message.bytes.len() > message.segment {
                controls[at] = Control::segment_size(message.segment as u16);
                header.msg_control = (&raw mut controls[at]).cast();
                header.msg_controllen = CONTROL;
            }
        }
        let mut at = 0;
        while at < chunk.len() {
            let left = &mut headers[at..chunk.len()];
            let (first, count) = (left.as_mut_ptr(), left.len() as u32);
            sent.calls += 1;
            // SAFETY: each of the `count` headers points at a name, a vector, a control area and
            // bytes that live until the end of this function, with their lengths; the kernel
            // reads all of them and writes the headers' lengths alone.
            let done =
                unsafe { libc::sendmmsg(self.fd.as_raw_fd(), first, count, libc::MSG_DONTWAIT) };
            if let Ok(done) = usize::try_from(done) {
                sent.messages += done as u64;
                at += done;
                continue;
            }
            match Error::last_os_error().kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => {
                    sent.lost += (chunk.len() - at) as u64;
                    return;
                }
                _ => {
                    sent.lost += 1;
                    at += 1;
                }
            }
        }
    }
}

impl AsFd for UdpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What [`UdpSocket::send`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// System calls made.
    pub calls: u64,
    /// Messages handed to the kernel.
    pub messages: u64,
    /// Messages the kernel refused.
    pub lost: u64,
}

/// Datagrams to one receiver, of `segment` bytes each but for a shorter last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The receiver.
    pub to: SocketAddrV4,
    /// The datagrams, one after the other; at most [`MAX_BYTES`] and [`MAX_SEGMENTS`].
    pub bytes: &'a [u8],
    /// Bytes per datagram; not zero.
    pub segment: usize,
}

fn set_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let (data, length) = (value.as_ptr().cast(), value.len() as libc::socklen_t);
    // SAFETY: the kernel reads `length` bytes of `value` and keeps nothing of it.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, data, length) };
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

fn raw_address(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
        sin_zero: [0; 8],
    }
}

// SAFETY: the structure holds integers and raw pointers, for all of which zero is a value.
const EMPTY_HEADER: libc::mmsghdr = unsafe { std::mem::zeroed() };

/// Room for one control message with an integer, aligned as struct cmsghdr.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL]);

/// CMSG_SPACE(sizeof(int)): a header of 16 bytes and an integer, padded.
const CONTROL: usize = 24;

/// Bytes of a control message before its data, and with an integer.
const CONTROL_HEADER: usize = 16;

impl Control {
    const EMPTY: Control = Control([0; CONTROL]);

    /// Asks the kernel to cut a message into datagrams of `size` bytes; laid out as struct cmsghdr
    /// says: length, level, type, data.
    fn segment_size(size: u16) -> Control {
        let mut bytes = [0; CONTROL];
        bytes[..8].copy_from_slice(&(CONTROL_HEADER + 2).to_ne_bytes());
        bytes[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
        bytes[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
        bytes[16..18].copy_from_slice(&size.to_ne_bytes());
        Control(bytes)
    }

    /// The segment size of a received message, if the kernel joined several datagrams.
    fn segment(&self, used: usize) -> Option<usize> {
        let word = |at: usize| self.0[at..].first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
        let is_gro = used >= CONTROL_HEADER + 4
            && word(8) == Some(libc::SOL_UDP)
            && word(12) == Some(libc::UDP_GRO);
        let size = word(16).filter(|_| is_gro)?;
        usize::try_from(size).ok().filter(|&size| size > 0)
    }
}

/// Buffers for one system call's worth of received messages.
pub struct Received {
    /// One per message: each may hold up to 64 KiB of joined datagrams.
    bytes: Vec<u8>,
    names: Vec<libc::sockaddr_in>,
    controls: Vec<Control>,
    vectors: Vec<libc::iovec>,
    /// Points into the vectors above after `prepare`; not looked at otherwise but for lengths.
    headers: Vec<libc::mmsghdr>,
    /// Messages of the last receive.
    filled: usize,
    /// Headers that a receive may have changed since they were prepared.
    used: usize,
}

/// Bytes per received message.
const MESSAGE: usize = 65536;

// SAFETY: the raw pointers inside are written by `prepare` before each system call and used by that
// call alone; between calls nothing follows them, so the batch may move to another thread.
unsafe impl Send for Received {}

impl Default for Received {
    fn default() -> Self {
        Received::new(BATCH)
    }
}

impl Received {
    /// Room for `messages` messages of 64 KiB.
    pub fn new(messages: usize) -> Received {
        Received {
            bytes: vec![0; messages * MESSAGE],
            names: vec![raw_address(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)); messages],
            controls: vec![Control::EMPTY; messages],
            vectors: vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; messages],
            headers: vec![EMPTY_HEADER; messages],
            filled: 0,
            used: messages,
        }
    }

    fn prepare(&mut self) {
        let used = std::mem::replace(&mut self.used, 1);
        let buffers = self.bytes.chunks_exact_mut(MESSAGE).zip(&mut self.vectors);
        let others = self.names.iter_mut().zip(&mut self.controls);
        for (((buffer, vector), (name, control)), header) in
            buffers.zip(others).zip(&mut self.headers).take(used)
        {
            *vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: MESSAGE };
            header.msg_len = 0;
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_hdr.msg_iov = &raw mut *vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = (&raw mut *control).cast();
            header.msg_hdr.msg_controllen = CONTROL;
            header.msg_hdr.msg_flags = 0;
        }
    }

    /// Whether the last receive took all there was: more comes with an event of its own.
    pub fn drained(&self) -> bool {
        self.filled < self.headers.len()
    }

    /// Each received datagram with its sender, in order; joined ones are cut apart again.
    pub fn datagrams(&mut self, mut each: impl FnMut(SocketAddrV4, &mut [u8])) {
        for (at, buffer) in self.bytes.chunks_exact_mut(MESSAGE).enumerate().take(self.filled) {
            let (header, name) = (&self.headers[at], &self.names[at]);
            let length = (header.msg_len as usize).min(MESSAGE);
            let address = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            let from = SocketAddrV4::new(address, u16::from_be(name.sin_port));
            if length == 0 {
                each(from, &mut []);
                continue;
            }
            let segment = self.controls[at].segment(header.msg_hdr.msg_controllen);
            for datagram in buffer[..length].chunks_mut(segment.unwrap_or(length)) {
                each(from, datagram);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (UdpSocket, UdpSocket) {
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        (UdpSocket::bind(any, None).unwrap(), UdpSocket::bind(any, None).unwrap())
    }

    fn all(socket: &UdpSocket) -> Vec<(SocketAddrV4, Vec<u8>)> {
        let (mut batch, mut got) = (Received::default(), Vec::new());
        while socket.receive(&mut batch).unwrap() {
            batch.datagrams(|from, bytes| got.push((from, bytes.to_vec())));
        }
        got
    }

    #[test]
    fn datagrams_sent_as_one_message_arrive_one_by_one_and_in_order() {
        let (a, b) = pair();
        let bytes: Vec<u8> = (0..1000u32).map(|at| (at / 100) as u8).collect();
        let mut sent = Sent::default();
        let to = b.local();
        let messages = [
            Message { to, bytes: &bytes[..950], segment: 100 },
            Message { to, bytes: &[42], segment: 1 },
            Message { to, bytes: &[], segment: 1 },
        ];
        a.send(&messages, &mut sent);
        assert_eq!((sent.calls, sent.messages, sent.lost), (1, 3, 0));
        let got = all(&b);
        let expected: Vec<&[u8]> = bytes[..950].chunks(100).chain([&[42][..], &[]]).collect();
        assert!(got.iter().all(|(from, _)| *from == a.local()));
        assert_eq!(got.iter().map(|(_, bytes)| &bytes[..]).collect::<Vec<_>>(), expected);
        assert!(all(&b).is_empty());
    }

    #[test]
    fn a_message_the_kernel_refuses_is_one_lost_packet_and_no_more() {
        let (a, b) = pair();
        let to = b.local();
        let too_long = vec![0; MAX_BYTES + 1];
        let mut sent = Sent::default();
        let messages = [
            Message { to, bytes: &[1], segment: 1 },
            Message { to, bytes: &too_long, segment: too_long.len() },
            Message { to, bytes: &[2], segment: 1 },
        ];
        a.send(&messages, &mut sent);
        assert_eq!((sent.messages, sent.lost), (2, 1));
        assert_eq!(all(&b).len(), 2);
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said_in_words() {
        let (a, _) = pair();
        let taken = UdpSocket::bind(a.local(), None).unwrap_err();
        assert!(taken.to_string().contains(&a.local().port().to_string()), "{taken}");
        assert!(taken.to_string().contains("in use"), "{taken}");
        let elsewhere = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 4500);
        let foreign = UdpSocket::bind(elsewhere, None).unwrap_err();
        assert!(foreign.to_string().contains("no address of this host"), "{foreign}");
    }
}
