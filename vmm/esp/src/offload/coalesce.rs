//! Opened packets of one flow, put together for a guest that takes large ones.
//!
//! Payloads stay where they were opened. What is merged could be cut up again into
//! the same packets, and has been checked: a wrong checksum must not become right.

use super::{Kind, Offload, PartialChecksum, Segmentation};
use crate::checksum::Sum;
use crate::ip::{MAX_LEN, Mode, Packet, V4_HEADER, V6_HEADER, protocol};

/// Most packets of a run.
pub const MAX_PARTS: usize = 64;

/// Bytes of the longest headers that are merged: IPv6 or IPv4, TCP with all its options.
const HEADERS: usize = 120;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const ECE: u8 = 0x40;

/// Where the TCP flags are.
const FLAGS: usize = 13;

/// The large packets a guest takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepts {
    /// TCP over IPv4.
    pub tcp_v4: bool,
    /// TCP over IPv6.
    pub tcp_v6: bool,
    /// UDP over IPv4.
    pub udp_v4: bool,
    /// UDP over IPv6.
    pub udp_v6: bool,
}

/// The packet does not continue the run, which has to be flushed before it is pushed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush;

/// Packets that are one large packet so far; `'a` is the memory they were opened in.
#[derive(Debug)]
pub struct Run<'a> {
    accepts: Accepts,
    /// All headers if the run can grow; otherwise what the caller made.
    headers: Headers,
    payloads: heapless::Vec<&'a [u8], MAX_PARTS>,
    growth: Option<Growth>,
}

type Headers = heapless::Vec<u8, HEADERS>;

/// A run as it is to be delivered.
#[derive(Debug)]
pub struct Merged<'r, 'a> {
    /// How the packet starts.
    pub headers: &'r [u8],
    /// How it goes on.
    pub payloads: &'r [&'a [u8]],
    /// What the guest is to know about it.
    pub offload: Offload,
}

/// What it takes for a packet to continue a run.
#[derive(Clone, Copy, Debug)]
struct Growth {
    is_tcp: bool,
    /// Bytes of the IP header.
    l4: usize,
    /// Bytes of the first packet behind its headers, and of each but the last.
    size: usize,
    /// Bytes of all packets behind their headers.
    len: usize,
    /// Whether the first packet's checksum was found right.
    is_verified: bool,
    /// Whether the last packet ends the run.
    is_closed: bool,
}

/// A packet that may be part of a run.
struct Part<'a> {
    headers: Headers,
    payload: &'a [u8],
    growth: Growth,
}

impl<'a> Run<'a> {
    /// A run of nothing, for a guest that takes such packets.
    pub fn new(accepts: Accepts) -> Run<'a> {
        Run { accepts, headers: Headers::new(), payloads: heapless::Vec::new(), growth: None }
    }

    /// Whether there is nothing to deliver.
    pub fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }

    /// Adds an IP packet: the header `made` for what transport mode carried and
    /// `rest` behind it, or nothing and the whole packet of tunnel mode.
    ///
    /// Every packet is taken by a run of nothing.
    ///
    /// # Errors
    /// [`Flush`] if it does not continue the run; the run is as before.
    ///
    /// # Panics
    /// If `made` is longer than [`crate::ip::HeaderBytes`] can be.
    pub fn push(&mut self, made: &[u8], rest: &'a [u8]) -> Result<(), Flush> {
        assert!(made.len() <= V6_HEADER, "a header made here is an IP header");
        let part = Part::read(made, rest, self.accepts);
        if self.payloads.is_empty() {
            self.start(made, rest, part);
            return Ok(());
        }
        self.merge(part.ok_or(Flush)?)
    }

    /// Hands what there is to `deliver`, and is a run of nothing again. `None` if it was.
    pub fn flush<R>(&mut self, deliver: impl FnOnce(Merged<'_, 'a>) -> R) -> Option<R> {
        if self.payloads.is_empty() {
            return None;
        }
        let offload = match self.growth {
            Some(growth) if self.payloads.len() > 1 => growth.finish(&mut self.headers),
            _ => Offload::default(),
        };
        let merged = Merged { headers: &self.headers, payloads: &self.payloads, offload };
        let result = deliver(merged);
        self.headers.clear();
        self.payloads.clear();
        self.growth = None;
        Some(result)
    }

    fn start(&mut self, made: &[u8], rest: &'a [u8], part: Option<Part<'a>>) {
        let payload = if let Some(part) = part {
            self.headers = part.headers;
            self.growth = Some(part.growth);
            part.payload
        } else {
            self.headers.extend_from_slice(made).expect("an IP header fits");
            rest
        };
        self.payloads.push(payload).expect("a run of nothing has room");
    }

    fn merge(&mut self, part: Part<'a>) -> Result<(), Flush> {
        let growth = self.growth.as_mut().ok_or(Flush)?;
        let continues = !growth.is_closed
            && !self.payloads.is_full()
            && part.payload.len() <= growth.size
            && self.headers.len() + growth.len + part.payload.len() <= MAX_LEN
            && growth.is_alike(&self.headers, &part.headers);
        if !continues {
            return Err(Flush);
        }
        if !growth.is_verified {
            let first = self.payloads[0];
            if !is_right(&self.headers, growth, first) {
                self.growth = None;
                return Err(Flush);
            }
            growth.is_verified = true;
        }
        if !is_right(&part.headers, &part.growth, part.payload) {
            return Err(Flush);
        }
        growth.len += part.payload.len();
        growth.is_closed = part.growth.is_closed || part.payload.len() < growth.size;
        if growth.is_tcp {
            self.headers[growth.l4 + FLAGS] |= part.headers[part.growth.l4 + FLAGS] & (FIN | PSH);
        }
        self.payloads.push(part.payload).expect("it is not full");
        Ok(())
    }
}

impl<'a> Part<'a> {
    /// Reads a packet; `None` if it can be part of no run.
    fn read(made: &[u8], rest: &'a [u8], accepts: Accepts) -> Option<Part<'a>> {
        if accepts == Accepts::default() {
            return None;
        }
        let mut headers = Headers::new();
        headers.extend_from_slice(made).ok()?;
        let start = &rest[..rest.len().min(HEADERS - made.len())];
        headers.extend_from_slice(start).ok()?;
        let packet = Packet::parse(&headers, made.len() + rest.len()).ok()?;
        let is_plain = !packet.has_options() && packet.carried(Mode::Transport).is_ok();
        let is_tcp = packet.protocol() == protocol::TCP;
        let accepted = match (packet.protocol(), packet.is_v4()) {
            (protocol::TCP, true) => accepts.tcp_v4,
            (protocol::TCP, false) => accepts.tcp_v6,
            (protocol::UDP, true) => accepts.udp_v4,
            (protocol::UDP, false) => accepts.udp_v6,
            _ => false,
        };
        // Without "don't fragment" the identification would mean something (RFC 6864).
        if !accepted || !is_plain || !packet.dont_fragment() {
            return None;
        }
        let (l4, len) = (packet.payload_offset(), packet.len());
        let (header_len, is_closed) =
            if is_tcp { tcp(packet.payload())? } else { udp(packet.payload(), len - l4)? };
        let headers_len = l4 + header_len;
        // Padding behind the packet stays behind.
        let payload = rest.get(headers_len.checked_sub(made.len())?..len - made.len())?;
        if payload.is_empty() {
            return None;
        }
        headers.truncate(headers_len);
        let (size, len) = (payload.len(), payload.len());
        let growth = Growth { is_tcp, l4, size, len, is_verified: false, is_closed };
        Some(Part { headers, payload, growth })
    }
}

/// Bytes of the header, and whether nothing may follow; `None` for what stands alone:
/// anything but data and acknowledgement.
fn tcp(segment: &[u8]) -> Option<(usize, bool)> {
    let (offset, flags) = (*segment.get(12)?, *segment.get(FLAGS)?);
    let header_len = usize::from(offset >> 4) * 4;
    let is_data = flags & ACK != 0 && flags & !(ACK | PSH | FIN | ECE) == 0;
    (is_data && header_len >= 20 && header_len <= segment.len())
        .then_some((header_len, flags & (PSH | FIN) != 0))
}

/// The same for UDP, whose checksum must be there and whose length must be the packet's.
fn udp(datagram: &[u8], len: usize) -> Option<(usize, bool)> {
    let header = datagram.first_chunk::<8>()?;
    let is_whole = usize::from(u16::from_be_bytes([header[4], header[5]])) == len;
    (is_whole && header[6..] != [0, 0]).then_some((8, false))
}

impl Growth {
    /// Whether a packet with the headers `next` can follow, as far as they say.
    fn is_alike(&self, first: &Headers, next: &Headers) -> bool {
        if first.len() != next.len() {
            return false;
        }
        let (ip, l4) = first.split_at(self.l4);
        let (next_ip, next_l4) = next.split_at(self.l4);
        // All but lengths, identification and checksum.
        let is_ip_alike = if self.l4 == V4_HEADER {
            ip[..2] == next_ip[..2] && ip[6..10] == next_ip[6..10] && ip[12..] == next_ip[12..]
        } else {
            ip[..4] == next_ip[..4] && ip[6..] == next_ip[6..]
        };
        if !is_ip_alike || l4[..4] != next_l4[..4] {
            return false;
        }
        if !self.is_tcp {
            return true;
        }
        let ends = !(PSH | FIN);
        seq(next_l4) == seq(l4).wrapping_add(self.len as u32)
            && l4[8..FLAGS] == next_l4[8..FLAGS]
            && l4[FLAGS] & ends == next_l4[FLAGS] & ends
            && l4[14..16] == next_l4[14..16]
            && l4[18..] == next_l4[18..]
    }

    /// Makes `headers` those of the whole run, and says what it is.
    fn finish(&self, headers: &mut Headers) -> Offload {
        let (source, destination) = addresses(headers, self.l4);
        let l4_len = headers.len() - self.l4 + self.len;
        let len = self.l4 + l4_len;
        if self.l4 == V4_HEADER {
            headers[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            headers[10..12].fill(0);
            let sum = Sum::of(&headers[..V4_HEADER]).checksum();
            headers[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            headers[4..6].copy_from_slice(&((len - V6_HEADER) as u16).to_be_bytes());
        }
        let (protocol, kind, offset) = match (self.is_tcp, self.l4 == V4_HEADER) {
            (true, true) => (protocol::TCP, Kind::TcpV4, 16),
            (true, false) => (protocol::TCP, Kind::TcpV6, 16),
            (false, _) => (protocol::UDP, Kind::Udp, 6),
        };
        let l4 = &mut headers[self.l4..];
        if !self.is_tcp {
            l4[4..6].copy_from_slice(&(l4_len as u16).to_be_bytes());
        }
        let pseudo = source.plus(destination).plus(Sum::carried(protocol, l4_len)).partial();
        l4[offset..offset + 2].copy_from_slice(&pseudo.to_be_bytes());
        Offload {
            checksum: Some(PartialChecksum { start: self.l4 as u16, offset: offset as u16 }),
            segmentation: Some(Segmentation { kind, size: self.size as u16 }),
        }
    }
}

fn seq(tcp: &[u8]) -> u32 {
    let [a, b, c, d] = *tcp[4..].first_chunk().expect("a TCP header is longer");
    u32::from_be_bytes([a, b, c, d])
}

/// The sums of both addresses of an IP header of `l4` bytes.
fn addresses(headers: &[u8], l4: usize) -> (Sum, Sum) {
    let each = if l4 == V4_HEADER { 4 } else { 16 };
    let (source, destination) = headers[l4 - 2 * each..l4].split_at(each);
    (Sum::of(source), Sum::of(destination))
}

/// Whether a packet's TCP or UDP checksum is right.
fn is_right(headers: &Headers, growth: &Growth, payload: &[u8]) -> bool {
    let (source, destination) = addresses(headers, growth.l4);
    let l4 = &headers[growth.l4..];
    let protocol = if growth.is_tcp { protocol::TCP } else { protocol::UDP };
    let pseudo = source.plus(destination).plus(Sum::carried(protocol, l4.len() + payload.len()));
    // Headers are whole words, so the payload's words are the packet's.
    Sum::of(l4).plus(pseudo).plus(Sum::of(payload)).checksum() == 0
}

#[cfg(test)]
mod tests;
