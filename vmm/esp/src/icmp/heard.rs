//! ICMP errors about our outer packets (RFC 1191, RFC 8201): the way's MTU is smaller
//! than thought. Anyone can forge one; it counts only if it quotes an SA of ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum::Sum;
use crate::ip::{V4_HEADER, V6_HEADER, protocol};
use crate::natt::{self, Datagram};
use crate::{PROTOCOL, Spi};

/// The smallest MTU an IPv4 way can have (RFC 791 3.2), as IPv6's is 1280 (RFC 8200 5).
const LEAST_V4: u16 = 68;
const LEAST_V6: u16 = 1280;

/// What an ICMP error says of an outer packet that was too big.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Where the packet came from: us, if the error is no lie.
    pub source: IpAddr,
    /// Where it was going.
    pub destination: IpAddr,
    /// The SA it belonged to, if it was ESP, in UDP or not.
    pub spi: Option<Spi>,
    /// The MTU of the way, bytes of IP packet; at least 68, or 1280 of IPv6.
    pub mtu: u16,
}

impl Quoted {
    /// What the error queue of a socket reports (`IP_RECVERR`, `IPV6_RECVERR`): the
    /// addresses and MTU from its control message, and the start of our own datagram.
    ///
    /// `None` for an MTU that no such way has.
    pub fn reported(
        source: IpAddr,
        destination: IpAddr,
        mtu: u32,
        datagram: &[u8],
    ) -> Option<Quoted> {
        let mtu = plausible(mtu, source.is_ipv4())?;
        Some(Quoted { source, destination, spi: spi(datagram), mtu })
    }
}

/// Reads "fragmentation needed" or "packet too big": an ICMP or ICMPv6 message without
/// the IP header before it, as a raw socket gives it.
///
/// `None` for every other message, a wrong ICMPv4 checksum (ICMPv6's the kernel has
/// checked), and an MTU that no such way has.
pub fn too_big(message: &[u8], is_v4: bool) -> Option<Quoted> {
    let ([kind, code, _, _, a, b, c, d], quoted) = message.split_first_chunk::<8>()?;
    let (a, b, c, d) = (*a, *b, *c, *d);
    match (is_v4, kind, code) {
        (true, 3, 4) if Sum::of(message).checksum() == 0 => {
            v4(quoted, u32::from(u16::from_be_bytes([c, d])))
        }
        (false, 2, _) => v6(quoted, u32::from_be_bytes([a, b, c, d])),
        _ => None,
    }
}

/// The quoted start of an IPv4 packet; routers may have changed what its checksum covers.
fn v4(quoted: &[u8], mtu: u32) -> Option<Quoted> {
    let fixed = quoted.first_chunk::<V4_HEADER>()?;
    let header_len = usize::from(fixed[0] & 0x0f) * 4;
    let is_later = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x1fff != 0;
    if fixed[0] >> 4 != 4 || header_len < V4_HEADER || is_later {
        return None;
    }
    let address = |at: usize| Some(IpAddr::from(Ipv4Addr::from(*fixed[at..].first_chunk::<4>()?)));
    Some(Quoted {
        source: address(12)?,
        destination: address(16)?,
        spi: carried_spi(fixed[9], quoted.get(header_len..)?),
        mtu: plausible(mtu, true)?,
    })
}

/// The quoted start of an IPv6 packet: ours have no extension headers but a fragment's.
fn v6(quoted: &[u8], mtu: u32) -> Option<Quoted> {
    let (fixed, rest) = quoted.split_first_chunk::<V6_HEADER>()?;
    if fixed[0] >> 4 != 6 {
        return None;
    }
    let address = |at: usize| Some(IpAddr::from(Ipv6Addr::from(*fixed[at..].first_chunk::<16>()?)));
    Some(Quoted {
        source: address(8)?,
        destination: address(24)?,
        spi: carried_spi(fixed[6], rest),
        mtu: plausible(mtu, false)?,
    })
}

fn carried_spi(protocol: u8, carried: &[u8]) -> Option<Spi> {
    match protocol {
        PROTOCOL => spi(carried),
        protocol::UDP => spi(carried.get(8..)?),
        _ => None,
    }
}

fn spi(datagram: &[u8]) -> Option<Spi> {
    match natt::classify(datagram) {
        Datagram::Esp(spi) => Some(spi),
        _ => None,
    }
}

/// An MTU that a way can have and that can be too small for an IP packet.
fn plausible(mtu: u32, is_v4: bool) -> Option<u16> {
    let mtu = u16::try_from(mtu).ok()?;
    (mtu >= if is_v4 { LEAST_V4 } else { LEAST_V6 }).then_some(mtu)
}
