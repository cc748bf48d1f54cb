//! The Internet checksum (RFC 1071): computed, verified, changed in part (RFC 1624).

use std::net::IpAddr;

use crate::Discard;
use crate::ip::protocol;

/// A one's complement sum of 16-bit words, on its way to a checksum.
///
/// Words are added as they lie in memory, eight bytes at a time: the sum of
/// swapped words is the swapped sum (RFC 1071 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

/// Bytes that are added up before the sums of the lanes are.
const STRIDE: usize = 64;

impl Sum {
    /// The sum of `bytes`; an odd last one is the upper half of a word.
    #[inline]
    pub fn of(bytes: &[u8]) -> Sum {
        // Words of 32 bits in lanes of 64: the carries of a packet fit above, and the
        // compiler makes vectors of it.
        let mut lanes = [0_u64; STRIDE / 4];
        let mut strides = bytes.chunks_exact(STRIDE);
        for stride in &mut strides {
            let words = stride.chunks_exact(4);
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
            }
        }
        let mut sum: u64 = lanes.iter().sum();
        let mut words = strides.remainder().chunks_exact(4);
        for word in &mut words {
            sum += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
        let mut last = [0; 4];
        let rest = words.remainder();
        last[..rest.len()].copy_from_slice(rest);
        Sum(sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// The sum of one word.
    pub fn word(word: u16) -> Sum {
        Sum(word.to_be().into())
    }

    /// The sum of a pseudo-header (RFC 9293 3.1, RFC 8200 8.1) of `len` bytes of `protocol`.
    pub fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Sum {
        Sum::addresses(source, destination).plus(Sum::carried(protocol, len))
    }

    /// The addresses' part of a pseudo-header.
    pub(crate) fn addresses(source: IpAddr, destination: IpAddr) -> Sum {
        Sum::address(source).plus(Sum::address(destination))
    }

    /// The rest of a pseudo-header.
    pub(crate) fn carried(protocol: u8, len: usize) -> Sum {
        // A length beyond 16 bits has its upper half in a word of its own.
        let (high, low) = ((len >> 16) as u16, len as u16);
        Sum::word(protocol.into()).plus(Sum::word(high)).plus(Sum::word(low))
    }

    fn address(address: IpAddr) -> Sum {
        match address {
            IpAddr::V4(address) => Sum::of(&address.octets()),
            IpAddr::V6(address) => Sum::of(&address.octets()),
        }
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Sum) -> Sum {
        let (sum, carry) = self.0.overflowing_add(other.0);
        Sum(sum + u64::from(carry))
    }

    /// The sum without `other`, which was part of it.
    #[must_use]
    pub fn minus(self, other: Sum) -> Sum {
        // In one's complement the negative of a word is its complement.
        self.plus(Sum(u64::from(!other.folded())))
    }

    /// The sum with both bytes of each word swapped: as if it had started at an odd byte.
    #[must_use]
    pub fn swapped(self) -> Sum {
        Sum(self.folded().swap_bytes().into())
    }

    /// The sum in 16 bits, what a partial checksum field holds.
    pub fn partial(self) -> u16 {
        u16::from_be(self.folded())
    }

    /// The checksum: the complement of the sum. Zero over data with its right checksum.
    pub fn checksum(self) -> u16 {
        !self.partial()
    }

    fn folded(self) -> u16 {
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let sum = (sum >> 32) + (sum & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        ((sum >> 16) + (sum & 0xffff)) as u16
    }
}

/// The checksum after data with the sum `old` became data with the sum `new`
/// (RFC 1624 3, equation 3).
pub fn updated(checksum: u16, old: Sum, new: Sum) -> u16 {
    Sum::word(!checksum).minus(old).plus(new).checksum()
}

/// Where the checksum over payload and pseudo-header is in a header of `protocol`, if it has one.
pub fn position(protocol: u8) -> Option<usize> {
    match protocol {
        protocol::TCP => Some(16),
        protocol::UDP | protocol::UDP_LITE | protocol::DCCP => Some(6),
        protocol::ICMPV6 => Some(2),
        _ => None,
    }
}

/// Whether all of a TCP, UDP or ICMPv6 packet, from its own header on, has its
/// right checksum; a UDP packet may have none. Of other protocols nothing is known.
pub fn is_right(source: IpAddr, destination: IpAddr, protocol: u8, packet: &[u8]) -> bool {
    let Some(field) = position(protocol).and_then(|at| packet.get(at..at + 2)) else {
        return position(protocol).is_none();
    };
    let absent = protocol == protocol::UDP && field == [0, 0];
    let partial = matches!(protocol, protocol::UDP_LITE | protocol::DCCP);
    absent || partial || {
        let pseudo = Sum::pseudo(source, destination, protocol, packet.len());
        Sum::of(packet).plus(pseudo).checksum() == 0
    }
}

/// Writes the checksum of a whole TCP, UDP or ICMPv6 packet, from its own header on.
///
/// # Errors
/// [`Discard::Malformed`] if it has no room for one.
pub fn fill(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    packet: &mut [u8],
) -> Result<(), Discard> {
    let at = position(protocol).ok_or(Discard::Malformed)?;
    let pseudo = Sum::pseudo(source, destination, protocol, packet.len());
    packet.get_mut(at..at + 2).ok_or(Discard::Malformed)?.fill(0);
    let sum = sent(Sum::of(packet).plus(pseudo).checksum());
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

/// A computed checksum as it is sent: zero, which UDP takes for "none", as its
/// other form (RFC 768); for every protocol the two are one number.
pub(crate) fn sent(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// Corrects the checksum of a packet, from its own header on, whose addresses were
/// `old` where it was made and are `new` where it is delivered (RFC 3948 3.1.2).
///
/// A UDP packet without a checksum has none afterwards; protocols whose checksum
/// knows no addresses stay as they are.
///
/// # Errors
/// [`Discard::Malformed`] if its header is cut short.
pub fn repair(
    protocol: u8,
    packet: &mut [u8],
    old: (IpAddr, IpAddr),
    new: (IpAddr, IpAddr),
) -> Result<(), Discard> {
    let Some(at) = position(protocol) else { return Ok(()) };
    if old == new {
        return Ok(());
    }
    let field = packet.get_mut(at..at + 2).ok_or(Discard::Malformed)?;
    if protocol == protocol::UDP && field == [0, 0] {
        return Ok(());
    }
    let found = u16::from_be_bytes([field[0], field[1]]);
    let sum = updated(found, Sum::addresses(old.0, old.1), Sum::addresses(new.0, new.1));
    field.copy_from_slice(&sent(sum).to_be_bytes());
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
