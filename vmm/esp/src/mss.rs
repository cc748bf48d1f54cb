//! The MSS option of TCP (RFC 9293 3.7.1), lowered to what fits the way.

use crate::checksum::{Sum, updated};
use crate::ip::{Fragment, Packet, V4_HEADER, V6_HEADER, protocol};

/// Bytes of a TCP header without options.
const TCP_HEADER: usize = 20;

const SYN: u8 = 0x02;

/// Where the checksum is.
const CHECKSUM: usize = 16;

/// The largest MSS for packets of at most `mtu` bytes (RFC 6691 2).
pub fn limit(mtu: u16, is_v4: bool) -> u16 {
    let headers = TCP_HEADER + if is_v4 { V4_HEADER } else { V6_HEADER };
    mtu.saturating_sub(headers as u16)
}

/// Whether a packet is a SYN or SYN-ACK, which may offer an MSS.
pub fn is_offer(packet: &Packet<'_>) -> bool {
    packet.protocol() == protocol::TCP
        && packet.fragment() != Fragment::Later
        && packet.payload().get(13).is_some_and(|flags| flags & SYN != 0)
}

/// Lowers the MSS option of a SYN or SYN-ACK to `limit`, if there is a larger one.
///
/// `tcp` starts with the TCP header, whose checksum stays as right as it is; one that
/// `is_partial` sums no options and is not touched. Whether anything was changed; what is
/// no SYN with whole options is not.
pub fn clamp(tcp: &mut [u8], limit: u16, is_partial: bool) -> bool {
    if tcp.len() < TCP_HEADER || tcp[13] & SYN == 0 {
        return false;
    }
    let header_len = usize::from(tcp[12] >> 4) * 4;
    let Some(at) = tcp.get(..header_len).and_then(value_of_mss) else { return false };
    let old = [tcp[at], tcp[at + 1]];
    if u16::from_be_bytes(old) <= limit {
        return false;
    }
    let new = limit.to_be_bytes();
    tcp[at..at + 2].copy_from_slice(&new);
    if is_partial {
        return true;
    }
    // An option may start anywhere; at an odd place its bytes are halves of two words.
    let place = |sum: Sum| if at % 2 == 0 { sum } else { sum.swapped() };
    let found = u16::from_be_bytes([tcp[CHECKSUM], tcp[CHECKSUM + 1]]);
    let sum = updated(found, place(Sum::of(&old)), place(Sum::of(&new)));
    tcp[CHECKSUM..CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
    true
}

/// Where the value of the MSS option is; at most 40 bytes are looked at.
fn value_of_mss(header: &[u8]) -> Option<usize> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const MSS: u8 = 2;
    let mut at = TCP_HEADER;
    while at < header.len() {
        match header[at] {
            END => return None,
            NO_OPERATION => at += 1,
            kind => {
                let len = usize::from(*header.get(at + 1)?);
                if len < 2 || at + len > header.len() {
                    return None;
                }
                if kind == MSS {
                    return (len == 4).then_some(at + 2);
                }
                at += len;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
