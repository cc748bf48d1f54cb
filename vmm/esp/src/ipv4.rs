//! IPv4 packets: taken apart on the way out, put together on the way in.

use std::net::Ipv4Addr;

use crate::Discard;

/// Bytes of a header without options.
pub const HEADER: usize = 20;

/// An IPv4 packet whose header is consistent: version, lengths and checksum are right.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Exactly the packet; its first byte gives the header's length.
    bytes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads the packet at the start of `bytes`; what follows it is padding.
    ///
    /// # Errors
    /// [`Discard::Malformed`] unless all of the packet is there and its header
    /// checksum is right (RFC 1122 3.2.1).
    pub fn parse(bytes: &'a [u8]) -> Result<Packet<'a>, Discard> {
        let [first, _, length @ ..] = bytes.first_chunk::<4>().ok_or(Discard::Malformed)?;
        let header_len = usize::from(first & 0x0f) * 4;
        let length = usize::from(u16::from_be_bytes(*length));
        if first >> 4 != 4 || header_len < HEADER || length < header_len {
            return Err(Discard::Malformed);
        }
        let bytes = bytes.get(..length).ok_or(Discard::Malformed)?;
        if checksum(&bytes[..header_len]) != 0 {
            return Err(Discard::Malformed);
        }
        Ok(Packet { bytes })
    }

    /// The source address.
    pub fn source(self) -> Ipv4Addr {
        let [a, b, c, d] = self.field(12);
        Ipv4Addr::new(a, b, c, d)
    }

    /// The destination address.
    pub fn destination(self) -> Ipv4Addr {
        let [a, b, c, d] = self.field(16);
        Ipv4Addr::new(a, b, c, d)
    }

    /// The protocol of the payload.
    pub fn protocol(self) -> u8 {
        self.bytes[9]
    }

    /// The DSCP and ECN byte.
    pub fn traffic_class(self) -> u8 {
        self.bytes[1]
    }

    /// The time to live.
    pub fn ttl(self) -> u8 {
        self.bytes[8]
    }

    /// Whether the packet must not be fragmented.
    pub fn dont_fragment(self) -> bool {
        self.bytes[6] & 0x40 != 0
    }

    /// Whether the packet is a fragment, the first one included.
    pub fn is_fragment(self) -> bool {
        let [high, low] = self.field(6);
        u16::from_be_bytes([high, low]) & 0x3fff != 0
    }

    /// Whether the packet is a fragment without the start of the payload, where the ports are.
    pub fn is_later_fragment(self) -> bool {
        let [high, low] = self.field(6);
        u16::from_be_bytes([high, low]) & 0x1fff != 0
    }

    /// The header, options included.
    pub fn header(self) -> &'a [u8] {
        &self.bytes[..self.header_len()]
    }

    /// What the header carries.
    pub fn payload(self) -> &'a [u8] {
        &self.bytes[self.header_len()..]
    }

    /// The whole packet, without padding behind it.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The payload for transport mode, where the outer header replaces this one.
    ///
    /// # Errors
    /// [`Discard::Fragment`] (RFC 4303 3.3.4: transport mode is for whole packets)
    /// and [`Discard::Options`], which the outer header would lose.
    pub fn transport(self) -> Result<&'a [u8], Discard> {
        if self.is_fragment() {
            return Err(Discard::Fragment);
        }
        if self.header_len() != HEADER {
            return Err(Discard::Options);
        }
        Ok(self.payload())
    }

    fn header_len(self) -> usize {
        usize::from(self.bytes[0] & 0x0f) * 4
    }

    fn field<const LEN: usize>(self, at: usize) -> [u8; LEN] {
        *self.bytes[at..].first_chunk().expect("a parsed packet has a whole header")
    }
}

/// The header of a whole packet without options, "don't fragment" set, TTL 64.
///
/// Its identification is zero, as befits a packet that is never fragmented
/// (RFC 6864 4.1). `None` if the packet would be longer than 65535 bytes.
pub fn header(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    payload_len: usize,
) -> Option<[u8; HEADER]> {
    let length = u16::try_from(HEADER + payload_len).ok()?;
    let mut header = [0; HEADER];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[6] = 0x40;
    header[8] = 64;
    header[9] = protocol;
    header[12..16].copy_from_slice(&source.octets());
    header[16..20].copy_from_slice(&destination.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    Some(header)
}

/// The Internet checksum (RFC 1071) of a header: zero if the header contains the right one.
fn checksum(header: &[u8]) -> u16 {
    let words =
        header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    // At most 30 words of 16 bits: 32 bits do not overflow, two folds take all carries.
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests;
