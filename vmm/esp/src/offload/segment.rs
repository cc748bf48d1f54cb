//! From a guest's packet to what ESP carries: one payload, or one for each segment.
//!
//! The packet's head has been copied and judged; the rest is read once, straight
//! to where it is encrypted. What the guest says of its headers is checked here.

use super::{Kind, Offload, PartialChecksum};
use crate::Discard;
use crate::checksum::{self, Sum};
use crate::ip::{self, Carried, Fragment, MAX_LEN, Mode, Packet, protocol};

/// Most segments of one packet: a guest must not make thousands of packets of tiny ones.
pub const MAX_SEGMENTS: usize = 2048;

/// Bytes of ports, which selectors have looked at and no checksum may change.
const PORTS: usize = 4;

const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// More than fits, even cut up as small as its kind allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooBig;

/// A packet on its way into ESP.
#[derive(Clone, Debug)]
pub struct Sending<'a> {
    head: &'a [u8],
    /// Bytes of the packet.
    len: usize,
    carried: Carried,
    /// Where the TCP, UDP or other header starts.
    l4: usize,
    work: Work,
    /// The next byte that is taken from `head`, until it is used up.
    at: usize,
    /// Payloads written.
    written: usize,
}

#[derive(Clone, Copy, Debug)]
enum Work {
    /// One payload; maybe with a checksum to complete.
    Whole(Option<PartialChecksum>),
    Cut(Cut),
}

/// How a packet is cut up.
#[derive(Clone, Copy, Debug)]
struct Cut {
    is_tcp: bool,
    /// Bytes of the TCP or UDP header.
    header_len: usize,
    /// Bytes behind it in all segments together; not 0.
    payload_len: usize,
    /// Bytes behind it in each segment but the last; not 0.
    size: usize,
    /// Of the pseudo-header.
    addresses: Sum,
}

impl<'a> Sending<'a> {
    /// Checks what `offload` says of a packet that `mode` carries.
    ///
    /// # Errors
    /// What [`Packet::carried`] refuses; [`Discard::Offload`] if the packet is not
    /// what `offload` takes it for: a checksum that starts in the IP header, ends
    /// beyond the packet or is not where TCP, UDP and ICMPv6 have it; segments of no
    /// bytes, or more than [`MAX_SEGMENTS`]; of a fragment, of a packet with options, of
    /// another protocol; a TCP or UDP header beyond the head.
    pub fn new(packet: &Packet<'a>, offload: Offload, mode: Mode) -> Result<Sending<'a>, Discard> {
        let carried = packet.carried(mode)?;
        let work = match (offload.segmentation, offload.checksum) {
            (None, None) => Work::Whole(None),
            (None, Some(partial)) => Work::Whole(Some(checked(packet, partial)?)),
            (Some(_), None) => return Err(Discard::Offload),
            (Some(segmentation), Some(partial)) => {
                let partial = checked(packet, partial)?;
                let cut = Cut::new(packet, segmentation.kind, segmentation.size.into(), partial)?;
                // Without bytes to cut it is no large packet, whatever is said of it.
                if cut.payload_len > 0 { Work::Cut(cut) } else { Work::Whole(Some(partial)) }
            }
        };
        let l4 = packet.payload_offset();
        let at = match &work {
            Work::Whole(_) => carried.offset,
            Work::Cut(cut) => l4 + cut.header_len,
        };
        let (head, len) = (packet.head(), packet.len());
        Ok(Sending { head, len, carried, l4, work, at, written: 0 })
    }

    /// What ESP calls each payload.
    pub fn next_header(&self) -> u8 {
        self.carried.next_header
    }

    /// Where in each payload the TCP, UDP or other header starts.
    pub fn l4_offset(&self) -> usize {
        self.l4 - self.carried.offset
    }

    /// How many payloads there are.
    pub fn payloads(&self) -> usize {
        match &self.work {
            Work::Whole(_) => 1,
            Work::Cut(cut) => cut.segments(),
        }
    }

    /// Bytes of the longest payload; all but the last are as long.
    pub fn longest(&self) -> usize {
        match &self.work {
            Work::Whole(_) => self.len - self.carried.offset,
            Work::Cut(cut) => self.headers(cut) + cut.size.min(cut.payload_len),
        }
    }

    /// Cuts smaller, where TCP allows it, so that no payload is longer than
    /// `max_payload`. To be called before the first is written.
    ///
    /// # Errors
    /// [`TooBig`]; nothing is changed then.
    pub fn fit(&mut self, max_payload: usize) -> Result<(), TooBig> {
        if self.longest() <= max_payload {
            return Ok(());
        }
        let Work::Cut(mut cut) = self.work else { return Err(TooBig) };
        let room = max_payload.saturating_sub(self.headers(&cut));
        if !cut.is_tcp || room == 0 || self.written > 0 {
            return Err(TooBig);
        }
        cut.size = room;
        if cut.segments() > MAX_SEGMENTS {
            return Err(TooBig);
        }
        self.work = Work::Cut(cut);
        Ok(())
    }

    /// Writes the next payload to the end of `out`, where the caller left headroom
    /// before it. `false` if there is none left.
    ///
    /// `read` fills what it is given with the packet's bytes behind
    /// [`Packet::head`], in order: each byte is asked for once.
    pub fn write_next(&mut self, out: &mut Vec<u8>, mut read: impl FnMut(&mut [u8])) -> bool {
        let start = out.len();
        match self.work {
            Work::Whole(_) if self.written > 0 => return false,
            Work::Whole(partial) => {
                self.take(out, self.len - self.carried.offset, &mut read);
                if let Some(partial) = partial {
                    complete(&mut out[start..], self.carried.offset, partial);
                }
            }
            Work::Cut(cut) => {
                let done = self.written * cut.size;
                if done >= cut.payload_len {
                    return false;
                }
                let size = cut.size.min(cut.payload_len - done);
                out.extend_from_slice(&self.head[self.carried.offset..self.l4 + cut.header_len]);
                self.take(out, size, &mut read);
                let (ip, segment) = out[start..].split_at_mut(self.l4 - self.carried.offset);
                if self.carried.offset == 0 {
                    write_ip(ip, segment.len(), self.written as u16);
                }
                cut.write(segment, done);
            }
        }
        self.written += 1;
        true
    }

    /// Bytes before each segment's share.
    fn headers(&self, cut: &Cut) -> usize {
        self.l4 - self.carried.offset + cut.header_len
    }

    /// Appends the next `len` bytes of the packet.
    fn take(&mut self, out: &mut Vec<u8>, len: usize, read: &mut impl FnMut(&mut [u8])) {
        let here = &self.head[self.at..];
        let here = &here[..here.len().min(len)];
        out.extend_from_slice(here);
        self.at += here.len();
        if here.len() < len {
            let start = out.len();
            out.resize(start + len - here.len(), 0);
            read(&mut out[start..]);
        }
    }
}

impl Cut {
    fn new(
        packet: &Packet<'_>,
        kind: Kind,
        size: usize,
        partial: PartialChecksum,
    ) -> Result<Cut, Discard> {
        let is_tcp = kind != Kind::Udp;
        let is_kind = match kind {
            Kind::TcpV4 => packet.is_v4() && packet.protocol() == protocol::TCP,
            Kind::TcpV6 => !packet.is_v4() && packet.protocol() == protocol::TCP,
            Kind::Udp => packet.protocol() == protocol::UDP,
        };
        // Options and routing headers would be on every segment, and may change
        // which destination the pseudo-header has.
        let is_plain = packet.carried(Mode::Transport).is_ok();
        if !is_kind || !is_plain || usize::from(partial.start) != packet.payload_offset() {
            return Err(Discard::Offload);
        }
        let l4 = packet.payload();
        let header_len = if is_tcp {
            let offset = *l4.get(12).ok_or(Discard::Offload)?;
            let is_syn = l4.get(13).is_none_or(|flags| flags & SYN != 0);
            let header_len = usize::from(offset >> 4) * 4;
            // A SYN takes a sequence number of its own, behind which no segment counts right.
            if header_len < TCP_HEADER || is_syn {
                return Err(Discard::Offload);
            }
            header_len
        } else {
            UDP_HEADER
        };
        if header_len > l4.len() || size == 0 {
            return Err(Discard::Offload);
        }
        let cut = Cut {
            is_tcp,
            header_len,
            payload_len: packet.len() - packet.payload_offset() - header_len,
            size,
            addresses: Sum::addresses(packet.source(), packet.destination()),
        };
        if cut.segments() > MAX_SEGMENTS { Err(Discard::Offload) } else { Ok(cut) }
    }

    fn segments(&self) -> usize {
        self.payload_len.div_ceil(self.size)
    }

    /// Makes `segment` right, whose header is the large packet's, and before whose
    /// share `done` bytes went out.
    fn write(&self, segment: &mut [u8], done: usize) {
        let len = segment.len();
        let is_last = done + len - self.header_len == self.payload_len;
        let protocol = if self.is_tcp {
            let [a, b, c, d] = *segment[4..].first_chunk().expect("a TCP header is longer");
            let seq = u32::from_be_bytes([a, b, c, d]).wrapping_add(done as u32);
            segment[4..8].copy_from_slice(&seq.to_be_bytes());
            if !is_last {
                segment[13] &= !(FIN | PSH);
            }
            if done > 0 {
                segment[13] &= !CWR;
            }
            protocol::TCP
        } else {
            segment[4..6].copy_from_slice(&(len as u16).to_be_bytes());
            protocol::UDP
        };
        let at = checksum::position(protocol).expect("TCP and UDP have one");
        segment[at..at + 2].fill(0);
        let sum = Sum::of(segment).plus(self.addresses).plus(Sum::carried(protocol, len));
        segment[at..at + 2].copy_from_slice(&checksum::sent(sum.checksum()).to_be_bytes());
    }
}

/// Makes the IP headers of a segment right: those of the large packet, before
/// `payload_len` bytes, as the segment of number `index`.
fn write_ip(headers: &mut [u8], payload_len: usize, index: u16) {
    let len = headers.len() + payload_len;
    if headers[0] >> 4 == 4 {
        let identification = u16::from_be_bytes([headers[4], headers[5]]).wrapping_add(index);
        headers[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        headers[4..6].copy_from_slice(&identification.to_be_bytes());
        headers[10..12].fill(0);
        let sum = Sum::of(headers).checksum();
        headers[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        let len = (len - ip::V6_HEADER) as u16;
        headers[4..6].copy_from_slice(&len.to_be_bytes());
    }
}

/// Checks where a checksum is to be completed.
///
/// TCP, UDP and ICMPv6 have it in one place only. Another sum may lie deeper, of
/// a packet inside the packet, but not where selectors have looked.
fn checked(packet: &Packet<'_>, partial: PartialChecksum) -> Result<PartialChecksum, Discard> {
    let (start, offset) = (usize::from(partial.start), usize::from(partial.offset));
    let l4 = packet.payload_offset();
    let place = start + offset;
    let is_there = if start == l4
        && matches!(packet.protocol(), protocol::TCP | protocol::UDP | protocol::ICMPV6)
    {
        checksum::position(packet.protocol()) == Some(offset)
    } else {
        start >= l4 && place >= l4 + PORTS
    };
    let is_whole = packet.fragment() == Fragment::Whole;
    if is_there && is_whole && place + 2 <= packet.len() {
        Ok(partial)
    } else {
        Err(Discard::Offload)
    }
}

/// Completes the checksum in what ESP carries of a packet from `offset` on.
fn complete(carried: &mut [u8], offset: usize, partial: PartialChecksum) {
    let summed = &mut carried[usize::from(partial.start) - offset..];
    let sum = checksum::sent(Sum::of(summed).checksum());
    let place = usize::from(partial.offset);
    summed[place..place + 2].copy_from_slice(&sum.to_be_bytes());
}

const _: () = assert!(MAX_LEN <= u16::MAX as usize, "lengths of segments fit their fields");

#[cfg(test)]
pub(crate) mod tests;
