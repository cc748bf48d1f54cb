//! ICMP errors: told to the guest about its packets, and heard from the way outside.

mod heard;

use std::net::IpAddr;

use crate::checksum::{self, Sum};
use crate::ip::{Fragment, Header, Packet, protocol};

pub use heard::{Quoted, too_big};

/// Most bytes of an ICMPv4 error (RFC 1812 4.3.2.3).
const LONGEST_V4: usize = 576;

/// Most bytes of an ICMPv6 error (RFC 4443 2.4 c).
const LONGEST_V6: usize = 1280;

/// Bytes before the quoted packet.
const ICMP_HEADER: usize = 8;

/// A whole IP packet that is an ICMP error.
pub type ErrorBytes = heapless::Vec<u8, LONGEST_V6>;

/// Why a packet of the guest goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreachable {
    /// Communication administratively prohibited (RFC 1812 5.2.7.1, RFC 4443 3.1).
    Prohibited,
    /// The packet is longer than this MTU, bytes (RFC 1191 4, RFC 4443 3.2).
    TooBig(u16),
}

/// The ICMP error about a packet of the guest, as if its destination had sent it.
///
/// It quotes as much of the packet's head as an error may have. `None` where RFC
/// 1122 3.2.2 or RFC 4443 2.4 e wants none: about ICMP errors, later fragments, and
/// packets from or to what is not one host.
pub fn unreachable(packet: &Packet<'_>, why: Unreachable) -> Option<ErrorBytes> {
    let (source, destination) = (packet.source(), packet.destination());
    if packet.fragment() == Fragment::Later
        || is_error(packet)
        || !is_one_host(source)
        || !is_one_host(destination)
    {
        return None;
    }
    let is_v4 = packet.is_v4();
    let (protocol, longest) = if is_v4 {
        (protocol::ICMP, LONGEST_V4 - crate::ip::V4_HEADER)
    } else {
        (protocol::ICMPV6, LONGEST_V6 - crate::ip::V6_HEADER)
    };
    let quoted = packet.head();
    let quoted = &quoted[..quoted.len().min(longest - ICMP_HEADER)];
    let header = Header::new(destination, source, protocol).bytes(ICMP_HEADER + quoted.len())?;
    let icmp_at = header.len();
    let mut error = ErrorBytes::new();
    let written = [&header[..], &start(is_v4, why), quoted]
        .iter()
        .try_for_each(|part| error.extend_from_slice(part));
    written.expect("an error is cut to its longest");
    let icmp = &mut error[icmp_at..];
    if is_v4 {
        let sum = Sum::of(icmp).checksum();
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    } else {
        checksum::fill(destination, source, protocol, icmp).ok()?;
    }
    Some(error)
}

/// Type, code, no checksum yet, and what the type says.
fn start(is_v4: bool, why: Unreachable) -> [u8; ICMP_HEADER] {
    match (is_v4, why) {
        (true, Unreachable::Prohibited) => [3, 13, 0, 0, 0, 0, 0, 0],
        (true, Unreachable::TooBig(mtu)) => {
            let [high, low] = mtu.to_be_bytes();
            [3, 4, 0, 0, 0, 0, high, low]
        }
        (false, Unreachable::Prohibited) => [1, 1, 0, 0, 0, 0, 0, 0],
        (false, Unreachable::TooBig(mtu)) => {
            let [high, low] = mtu.to_be_bytes();
            [2, 0, 0, 0, 0, 0, high, low]
        }
    }
}

/// Whether a packet is an ICMP error, or ICMP that does not show what it is.
fn is_error(packet: &Packet<'_>) -> bool {
    let kind = packet.payload().first();
    match packet.protocol() {
        // All but echo, timestamp and their answers; what is unknown may be one.
        protocol::ICMP => kind.is_none_or(|kind| ![0, 8, 13, 14].contains(kind)),
        // Informational messages have the upper bit; redirects are one of them (RFC 4443 2.4 e.2).
        protocol::ICMPV6 => kind.is_none_or(|kind| *kind < 128 || *kind == 137),
        _ => false,
    }
}

/// Whether an address is one host's.
fn is_one_host(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !is_broadcast && !address.is_multicast() && !address.is_unspecified()
}

#[cfg(test)]
mod tests;
