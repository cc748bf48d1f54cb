//! The traffic class of inner and outer headers: DSCP (RFC 4301 5.1.2) and ECN
//! (RFC 6040, normal mode).

use crate::Discard;
use crate::checksum::{Sum, updated};
use crate::ip;

/// The lower two bits of a traffic class.
const ECN: u8 = 0b11;

const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// What becomes of the DSCP at the tunnel's ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Dscp {
    /// The outer header shows none: nothing of the traffic is told to the way.
    #[default]
    Clear,
    /// The outer header shows the inner one.
    Copy,
}

impl Dscp {
    /// The outer traffic class of a packet that is sealed (RFC 6040 4.1).
    ///
    /// In transport mode the outer header is the packet's own, so the same holds
    /// the other way: of a packet that arrived with traffic class `class` outside,
    /// this is what the guest is shown. Congestion is told end to end then.
    pub fn apply(self, class: u8) -> u8 {
        match self {
            Dscp::Clear => class & ECN,
            Dscp::Copy => class,
        }
    }
}

/// The traffic class of an inner packet that came out of a tunnel (RFC 6040 4.2, figure 4).
///
/// Its DSCP is its own; `outer` is the traffic class the outer header arrived with.
///
/// # Errors
/// [`Discard::Congestion`]: the way reports congestion and the inner packet's ends
/// would not understand; only the loss tells them.
pub fn decapsulated(inner: u8, outer: u8) -> Result<u8, Discard> {
    let ecn = match (inner & ECN, outer & ECN) {
        (NOT_ECT, CE) => return Err(Discard::Congestion),
        (NOT_ECT, _) => NOT_ECT,
        (CE, _) | (_, CE) => CE,
        (ECT_0, ECT_1) => ECT_1,
        (inner, _) => inner,
    };
    Ok(inner & !ECN | ecn)
}

/// Gives an inner packet, header first, the traffic class it has after a tunnel.
///
/// # Errors
/// [`Discard::Congestion`] as [`decapsulated`]; [`Discard::Malformed`] without a header.
pub fn decapsulate(packet: &mut [u8], outer: u8) -> Result<(), Discard> {
    if packet.len() < ip::V4_HEADER {
        return Err(Discard::Malformed);
    }
    let inner = ip::traffic_class(packet);
    let class = decapsulated(inner, outer)?;
    if class != inner {
        set(packet, class);
    }
    Ok(())
}

/// Writes the traffic class of a header that is there; IPv4's checksum stays right.
fn set(header: &mut [u8], class: u8) {
    if header[0] >> 4 == 4 {
        let old = Sum::of(&header[..2]);
        header[1] = class;
        let found = u16::from_be_bytes([header[10], header[11]]);
        let sum = updated(found, old, Sum::of(&header[..2]));
        header[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        header[0] = header[0] & 0xf0 | class >> 4;
        header[1] = class << 4 | header[1] & 0x0f;
    }
}

#[cfg(test)]
mod tests;
