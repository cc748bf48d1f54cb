//! IP packets of both families, judged by their head.
//!
//! The switch copies the first bytes of a guest's packet into memory of its own
//! and streams the rest later, so all that is decided is decided by the head.

mod extension;
mod header;
pub mod protocol;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Discard;
use crate::checksum::Sum;

use extension::Chain;
pub use header::{Header, HeaderBytes};

/// Bytes of an IPv4 header without options.
pub const V4_HEADER: usize = 20;

/// Bytes of an IPv6 header without extension headers.
pub const V6_HEADER: usize = 40;

/// Bytes of the longest packet of either family, by the field of an IPv4 header.
pub const MAX_LEN: usize = 65535;

/// What an SA puts into ESP (RFC 4301 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// What an IP header carries; the outer header replaces that header.
    Transport,
    /// Whole IP packets.
    Tunnel,
}

/// Which part of a datagram a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// All of it; also an IPv6 packet with a fragment header that says so (RFC 6946).
    Whole,
    /// Its start, where the ports are.
    First,
    /// A later part.
    Later,
}

/// The part of a packet that ESP carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// What ESP calls it: its protocol, or 4 or 41 for a whole packet.
    pub next_header: u8,
    /// Where in the packet it starts; it goes on to the packet's end.
    pub offset: usize,
}

/// An IP packet whose headers are consistent and in memory, the rest maybe elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// At least every header up to the payload, at most the packet.
    head: &'a [u8],
    /// Bytes of the packet.
    len: usize,
    payload_offset: usize,
    protocol: u8,
    fragment: Fragment,
    /// Why transport mode cannot carry it, if it cannot.
    whole_only: Option<Discard>,
}

impl<'a> Packet<'a> {
    /// Reads the packet that starts with `head` and lies in `total_len` bytes, of
    /// which what follows the packet's own length is padding.
    ///
    /// # Errors
    /// [`Discard::Malformed`] unless the packet fits into `total_len`, its headers
    /// into `head`, and an IPv4 header checksum is right (RFC 1122 3.2.1);
    /// [`Discard::Extension`] for IPv6 extension headers nobody wants here.
    #[inline]
    pub fn parse(head: &'a [u8], total_len: usize) -> Result<Packet<'a>, Discard> {
        let head = &head[..head.len().min(total_len)];
        match head.first().map(|first| first >> 4) {
            Some(4) => Packet::parse_v4(head, total_len),
            Some(6) => Packet::parse_v6(head, total_len),
            _ => Err(Discard::Malformed),
        }
    }

    fn parse_v4(head: &'a [u8], total_len: usize) -> Result<Packet<'a>, Discard> {
        let fixed = head.first_chunk::<V4_HEADER>().ok_or(Discard::Malformed)?;
        let header_len = usize::from(fixed[0] & 0x0f) * 4;
        let len = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if header_len < V4_HEADER || len < header_len || len > total_len {
            return Err(Discard::Malformed);
        }
        let header = head.get(..header_len).ok_or(Discard::Malformed)?;
        if Sum::of(header).checksum() != 0 {
            return Err(Discard::Malformed);
        }
        let flags = u16::from_be_bytes([fixed[6], fixed[7]]);
        let fragment = match (flags & 0x1fff, flags & 0x2000) {
            (0, 0) => Fragment::Whole,
            (0, _) => Fragment::First,
            _ => Fragment::Later,
        };
        let whole_only = if fragment != Fragment::Whole {
            Some(Discard::Fragment)
        } else {
            (header_len != V4_HEADER).then_some(Discard::Options)
        };
        Ok(Packet {
            head: &head[..head.len().min(len)],
            len,
            payload_offset: header_len,
            protocol: fixed[9],
            fragment,
            whole_only,
        })
    }

    fn parse_v6(head: &'a [u8], total_len: usize) -> Result<Packet<'a>, Discard> {
        let fixed = head.first_chunk::<V6_HEADER>().ok_or(Discard::Malformed)?;
        let len = V6_HEADER + usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
        if len > total_len {
            return Err(Discard::Malformed);
        }
        let head = &head[..head.len().min(len)];
        let chain = Chain::read(fixed[6], &head[V6_HEADER..], len - V6_HEADER)?;
        Ok(Packet {
            head,
            len,
            payload_offset: V6_HEADER + chain.len,
            protocol: chain.protocol,
            fragment: chain.fragment,
            whole_only: chain.whole_only,
        })
    }

    /// Whether the packet is IPv4; otherwise it is IPv6.
    pub fn is_v4(&self) -> bool {
        self.head[0] >> 4 == 4
    }

    /// The source address.
    #[inline]
    pub fn source(&self) -> IpAddr {
        if self.is_v4() {
            Ipv4Addr::from(self.field::<4>(12)).into()
        } else {
            Ipv6Addr::from(self.field::<16>(8)).into()
        }
    }

    /// The destination address; the next one on the way if there is a routing header.
    #[inline]
    pub fn destination(&self) -> IpAddr {
        if self.is_v4() {
            Ipv4Addr::from(self.field::<4>(16)).into()
        } else {
            Ipv6Addr::from(self.field::<16>(24)).into()
        }
    }

    /// The protocol of the payload: of IPv6, after the extension headers.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// The DSCP (upper six bits) and ECN (lower two) byte.
    pub fn traffic_class(&self) -> u8 {
        traffic_class(self.head)
    }

    /// The hop limit, or time to live.
    pub fn hop_limit(&self) -> u8 {
        self.head[if self.is_v4() { 8 } else { 7 }]
    }

    /// Whether the packet must not be fragmented on its way; IPv6 packets never are.
    pub fn dont_fragment(&self) -> bool {
        !self.is_v4() || self.head[6] & 0x40 != 0
    }

    /// Which part of a datagram the packet is.
    pub fn fragment(&self) -> Fragment {
        self.fragment
    }

    /// Whether there are IPv4 options or IPv6 extension headers.
    pub fn has_options(&self) -> bool {
        self.payload_offset != if self.is_v4() { V4_HEADER } else { V6_HEADER }
    }

    /// Bytes of the packet, without padding behind it; at least its headers.
    #[expect(clippy::len_without_is_empty, reason = "a packet is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The packet as far as it is in memory, without padding behind it.
    pub fn head(&self) -> &'a [u8] {
        self.head
    }

    /// Whether all of the packet is in memory.
    pub fn is_whole(&self) -> bool {
        self.head.len() == self.len
    }

    /// Bytes of all headers: where the payload starts.
    pub fn payload_offset(&self) -> usize {
        self.payload_offset
    }

    /// What the headers carry, as far as it is in memory.
    pub fn payload(&self) -> &'a [u8] {
        &self.head[self.payload_offset..]
    }

    /// What ESP carries of the packet in `mode`.
    ///
    /// In transport mode that is what follows the IPv4 header, or the IPv6 header
    /// without extension headers: destination options and AH go into ESP. RFC 4303
    /// 3.1.1 would leave hop-by-hop options and routing headers outside; a
    /// socket's own outer header has none, so such packets are refused.
    ///
    /// # Errors
    /// In transport mode [`Discard::Fragment`] (RFC 4303 3.3.4: it is for whole
    /// packets) and [`Discard::Options`], which the outer header would lose.
    pub fn carried(&self, mode: Mode) -> Result<Carried, Discard> {
        let is_v4 = self.is_v4();
        match (mode, self.whole_only) {
            (Mode::Tunnel, _) => {
                let next_header = if is_v4 { protocol::IPV4 } else { protocol::IPV6 };
                Ok(Carried { next_header, offset: 0 })
            }
            (Mode::Transport, Some(discard)) => Err(discard),
            (Mode::Transport, None) if is_v4 => {
                Ok(Carried { next_header: self.protocol, offset: V4_HEADER })
            }
            (Mode::Transport, None) => Ok(Carried { next_header: self.head[6], offset: V6_HEADER }),
        }
    }

    fn field<const LEN: usize>(&self, at: usize) -> [u8; LEN] {
        *self.head[at..].first_chunk().expect("a parsed packet has a whole header")
    }
}

/// The protocol behind the extension headers that transport mode carries of IPv6, and
/// where in `carried` its header starts; of IPv4 there are none.
///
/// # Errors
/// [`Discard::Fragment`] and [`Discard::Options`] for headers that transport mode does
/// not carry; otherwise as [`Packet::parse`].
#[inline]
pub fn upper_layer(is_v4: bool, next_header: u8, carried: &[u8]) -> Result<(u8, usize), Discard> {
    if is_v4 {
        return Ok((next_header, 0));
    }
    let chain = Chain::read(next_header, carried, carried.len())?;
    chain.whole_only.map_or(Ok((chain.protocol, chain.len)), Err)
}

/// The traffic class of a header that is there.
pub(crate) fn traffic_class(header: &[u8]) -> u8 {
    if header[0] >> 4 == 4 { header[1] } else { header[0] << 4 | header[1] >> 4 }
}

#[cfg(test)]
pub(crate) mod tests;
