//! A batch of received messages, cut apart into datagrams.

use std::io::{self, Error};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::address::{ADDRESS, Address};
use super::control::{Control, RECEIVED, integer};
use super::{BATCH, EMPTY_HEADER, Protocol};

/// Bytes per received message.
const MESSAGE: usize = 65536;

/// Bytes of an IPv4 header without options.
const IPV4_HEADER: usize = 20;

/// Where a datagram comes from, where it went, and how it was marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The sender; its port is 0 where there are no ports.
    pub from: SocketAddr,
    /// The address of this host it was sent to; of a UDP socket, the one it is bound to.
    pub to: IpAddr,
    /// The outer TOS or traffic class: six bits of DSCP (RFC 2474), two of ECN (RFC 3168).
    pub tos: u8,
}

/// Buffers for one system call's worth of received messages.
pub struct Received {
    /// One per message: each may hold up to 64 KiB of joined datagrams.
    bytes: Vec<u8>,
    names: Vec<Address>,
    controls: Vec<Control<RECEIVED>>,
    vectors: Vec<libc::iovec>,
    /// Points into the vectors above after `prepare`; not looked at otherwise but for lengths.
    headers: Vec<libc::mmsghdr>,
    /// Messages of the last receive.
    filled: usize,
    /// Headers that a receive may have changed since they were prepared.
    used: usize,
    /// What the messages of the last receive came through.
    protocol: Protocol,
}

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
            names: vec![Address::EMPTY; messages],
            controls: vec![Control::EMPTY; messages],
            vectors: vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; messages],
            headers: vec![EMPTY_HEADER; messages],
            filled: 0,
            used: messages,
            protocol: Protocol::Udp(Ipv4Addr::UNSPECIFIED.into()),
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
            header.msg_hdr.msg_namelen = ADDRESS as libc::socklen_t;
            header.msg_hdr.msg_iov = &raw mut *vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = (&raw mut *control).cast();
            header.msg_hdr.msg_controllen = RECEIVED;
            header.msg_hdr.msg_flags = 0;
        }
    }

    /// Receives what is there, in place of what was held; gives the number of messages.
    pub(super) fn fill(&mut self, fd: BorrowedFd<'_>, protocol: Protocol) -> io::Result<usize> {
        self.prepare();
        self.protocol = protocol;
        let count = self.headers.len() as u32;
        let headers = self.headers.as_mut_ptr();
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: `prepare` pointed the `count` headers at buffers, names and control areas
        // of the batch, which is borrowed exclusively, with their lengths; no timeout is given.
        let got =
            unsafe { libc::recvmmsg(fd.as_raw_fd(), headers, count, flags, std::ptr::null_mut()) };
        self.filled = usize::try_from(got).unwrap_or(0);
        // The one after the last was tried and found empty.
        self.used = self.filled + 1;
        if got >= 0 { Ok(self.filled) } else { Err(Error::last_os_error()) }
    }

    /// Whether the last receive took all there was: more comes with an event of its own.
    pub fn drained(&self) -> bool {
        self.filled < self.headers.len()
    }

    /// Each received datagram with its envelope, in order: joined ones are cut apart, and of raw
    /// ones the payload is given without its IP header.
    ///
    /// Each slice is a part of this batch of its own: several may be held at once.
    pub fn datagrams(&mut self) -> impl Iterator<Item = (Envelope, &mut [u8])> {
        let protocol = self.protocol;
        let buffers = self.bytes.chunks_exact_mut(MESSAGE);
        let others = self.names.iter().zip(&self.controls).zip(&self.headers);
        buffers
            .zip(others)
            .take(self.filled)
            .filter_map(move |(buffer, ((name, control), header))| {
                let length = (header.msg_len as usize).min(MESSAGE);
                let control = control.messages(header.msg_hdr.msg_controllen);
                Datagrams::new(protocol, name.get()?, control, &mut buffer[..length])
            })
            .flatten()
    }
}

/// The datagrams of one message.
struct Datagrams<'a> {
    envelope: Envelope,
    /// Bytes of each but the last.
    segment: usize,
    /// What is not given out yet; `None` at the end, as a datagram may be empty.
    rest: Option<&'a mut [u8]>,
}

impl<'a> Datagrams<'a> {
    /// `None` for what is no packet to anybody.
    fn new(
        protocol: Protocol,
        from: SocketAddr,
        control: impl Iterator<Item = (i32, i32, &'a [u8])>,
        bytes: &'a mut [u8],
    ) -> Option<Datagrams<'a>> {
        let (mut to, mut tos, mut segment) = (None, 0, MESSAGE);
        for (level, kind, data) in control {
            match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    tos = integer(data)? as u8;
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    segment = usize::try_from(integer(data)?).ok().filter(|&size| size > 0)?;
                }
                // struct in6_pktinfo: address, interface.
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    to = data.first_chunk::<16>().map(|address| IpAddr::from(*address));
                }
                _ => {}
            }
        }
        let (to, tos, bytes) = match protocol {
            Protocol::Udp(to) => (to, tos, bytes),
            Protocol::EspV6 => (to?, tos, bytes),
            Protocol::EspV4 => {
                let header = *bytes.first_chunk::<IPV4_HEADER>()?;
                let to = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
                (to.into(), header[1], ipv4_payload(header, bytes)?)
            }
        };
        Some(Datagrams { envelope: Envelope { from, to, tos }, segment, rest: Some(bytes) })
    }
}

/// What follows the header of an IPv4 packet (RFC 791 3.1), which raw sockets are given whole.
fn ipv4_payload(header: [u8; IPV4_HEADER], packet: &mut [u8]) -> Option<&mut [u8]> {
    let start = usize::from(header[0] & 0x0f) * 4;
    let end = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let is_ipv4 = header[0] >> 4 == 4 && start >= IPV4_HEADER;
    packet.get_mut(start..end).filter(|_| is_ipv4)
}

impl<'a> Iterator for Datagrams<'a> {
    type Item = (Envelope, &'a mut [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        if rest.len() <= self.segment {
            return Some((self.envelope, rest));
        }
        let (first, rest) = rest.split_at_mut(self.segment);
        self.rest = Some(rest);
        Some((self.envelope, first))
    }
}
