//! Sending many messages per system call.

use std::io::Error;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use super::address::{Address, unspecified};
use super::control::{Control, SENT};
use super::{BATCH, Descriptor, EMPTY_HEADER, Protocol};

/// Datagrams to one receiver, of `segment` bytes each but for a shorter last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The sender: an address of this host, or the unspecified one for the kernel's choice.
    /// A UDP socket does not look at it: it sends from where it is bound.
    pub from: IpAddr,
    /// The receiver, of the socket's family; where there are no ports, its port counts for nothing.
    pub to: SocketAddr,
    /// The outer TOS or traffic class.
    pub tos: u8,
    /// The datagrams, one after the other; at most [`MAX_BYTES`](super::MAX_BYTES) and
    /// [`MAX_SEGMENTS`](super::MAX_SEGMENTS).
    pub bytes: &'a [u8],
    /// Bytes per datagram; not zero.
    pub segment: usize,
}

impl<'a> Message<'a> {
    /// Whether these are several datagrams.
    fn is_joined(&self) -> bool {
        self.bytes.len() > self.segment
    }

    /// Its datagrams as messages of their own.
    fn datagrams(self) -> impl Iterator<Item = Message<'a>> {
        self.bytes.chunks(self.segment).map(move |bytes| Message { bytes, ..self })
    }
}

/// What sending did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// System calls made.
    pub calls: u64,
    /// Messages handed to the kernel.
    pub messages: u64,
    /// Messages the kernel refused.
    pub lost: u64,
    /// Those of them that are larger than the first device to their receiver takes (EMSGSIZE).
    pub too_big: u64,
}

impl Descriptor {
    pub(crate) fn send(&self, messages: &[Message<'_>], sent: &mut Sent) {
        let whole = matches!(self.protocol, Protocol::Udp(_));
        if whole || messages.iter().all(|message| !message.is_joined()) {
            messages.chunks(BATCH).for_each(|chunk| self.send_chunk(chunk, sent));
        } else {
            messages.iter().for_each(|message| self.send_apart(*message, sent));
        }
    }

    /// Sends a message's datagrams one by one.
    fn send_apart(&self, message: Message<'_>, sent: &mut Sent) {
        let mut datagrams = message.datagrams();
        let mut chunk = [message; BATCH];
        loop {
            let mut count = 0;
            for (place, datagram) in chunk.iter_mut().zip(&mut datagrams) {
                *place = datagram;
                count += 1;
            }
            if count == 0 {
                return;
            }
            self.send_chunk(&chunk[..count], sent);
        }
    }

    /// Sends at most [`BATCH`] messages.
    fn send_chunk(&self, chunk: &[Message<'_>], sent: &mut Sent) {
        // Only as many as are needed are written: most chunks are of one message.
        let mut names = [const { MaybeUninit::<Address>::uninit() }; BATCH];
        let mut vectors = [const { MaybeUninit::<libc::iovec>::uninit() }; BATCH];
        let mut controls = [const { MaybeUninit::<Control<SENT>>::uninit() }; BATCH];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; BATCH];
        for (at, message) in chunk.iter().enumerate() {
            let mut header = EMPTY_HEADER;
            let (name, name_length) = Address::new(self.receiver(message.to));
            header.msg_hdr.msg_name = (&raw mut *names[at].write(name)).cast();
            header.msg_hdr.msg_namelen = name_length as libc::socklen_t;
            let start = message.bytes.as_ptr().cast_mut().cast();
            let vector = libc::iovec { iov_base: start, iov_len: message.bytes.len() };
            header.msg_hdr.msg_iov = &raw mut *vectors[at].write(vector);
            header.msg_hdr.msg_iovlen = 1;
            if self.needs_control(message) {
                let control = controls[at].write(Control::EMPTY);
                header.msg_hdr.msg_controllen = self.write_control(message, control);
                header.msg_hdr.msg_control = (&raw mut *control).cast();
            }
            headers[at].write(header);
        }
        let (mut at, mut tried) = (0, false);
        while at < chunk.len() {
            let (first, count) = (headers[at..].as_mut_ptr().cast(), (chunk.len() - at) as u32);
            sent.calls += 1;
            // SAFETY: each of the `count` headers was written above and points at a name, a vector,
            // a control area and bytes that live until the end of this function, with their
            // lengths; the kernel reads all of them and writes the headers' lengths alone.
            let done =
                unsafe { libc::sendmmsg(self.fd.as_raw_fd(), first, count, libc::MSG_DONTWAIT) };
            if let Ok(done) = usize::try_from(done) {
                sent.messages += done as u64;
                (at, tried) = (at + done, false);
                continue;
            }
            match Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EAGAIN) => {
                    sent.lost += (chunk.len() - at) as u64;
                    return;
                }
                // The device's queue is full; the next may find room.
                Some(libc::ENOBUFS) => sent.lost += 1,
                // It may be the error of an earlier packet, which the kernel tells but once.
                _ if !tried => {
                    self.has_errors.store(true, Ordering::Relaxed);
                    tried = true;
                    continue;
                }
                // The device may not cut messages apart, or its MTU be less than the segment:
                // each datagram shall meet its own fate.
                _ if chunk[at].is_joined() => self.send_apart(chunk[at], sent),
                error => {
                    sent.lost += 1;
                    sent.too_big += u64::from(error == Some(libc::EMSGSIZE));
                }
            }
            (at, tried) = (at + 1, false);
        }
    }

    /// Raw sockets take a port for a protocol number, or refuse it.
    fn receiver(&self, to: SocketAddr) -> SocketAddr {
        let mut to = to;
        if !matches!(self.protocol, Protocol::Udp(_)) {
            to.set_port(0);
        }
        to
    }

    fn chooses_source(&self, message: &Message<'_>) -> bool {
        !matches!(self.protocol, Protocol::Udp(_)) && message.from != unspecified(message.from)
    }

    fn needs_control(&self, message: &Message<'_>) -> bool {
        message.is_joined() || message.tos != 0 || self.chooses_source(message)
    }

    /// Writes what the kernel is to do with a message besides sending it; gives the length.
    fn write_control(&self, message: &Message<'_>, control: &mut Control<SENT>) -> usize {
        let mut used = 0;
        if message.tos != 0 {
            let tos = i32::from(message.tos).to_ne_bytes();
            used = match message.to {
                SocketAddr::V4(_) => control.push(used, libc::IPPROTO_IP, libc::IP_TOS, &tos),
                SocketAddr::V6(_) => {
                    control.push(used, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &tos)
                }
            };
        }
        if self.chooses_source(message) {
            return match message.from {
                IpAddr::V4(from) => {
                    // struct in_pktinfo: interface, source, and a destination that is not read.
                    let mut source = [0; 12];
                    source[4..8].copy_from_slice(&from.octets());
                    control.push(used, libc::IPPROTO_IP, libc::IP_PKTINFO, &source)
                }
                IpAddr::V6(from) => {
                    // struct in6_pktinfo: source, interface.
                    let mut source = [0; 20];
                    source[..16].copy_from_slice(&from.octets());
                    control.push(used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &source)
                }
            };
        }
        if message.is_joined() {
            let size = (message.segment as u16).to_ne_bytes();
            used = control.push(used, libc::SOL_UDP, libc::UDP_SEGMENT, &size);
        }
        used
    }
}
