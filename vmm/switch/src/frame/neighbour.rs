//! Neighbour discovery (RFC 4861): questions for IPv6 addresses.

use std::net::Ipv6Addr;

use esp::checksum::Sum;

use super::{Answer, IPV6, Mac, SWITCH};
use crate::addresses::{Addresses, is_host};

const HEADER: usize = 40;
const ICMPV6: u8 = 58;

/// Router and neighbour solicitations and advertisements, and redirects.
const DISCOVERY: std::ops::RangeInclusive<u8> = 133..=137;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// Solicited, and in place of what was known before (RFC 4861 4.4).
const FLAGS: u8 = 0x60;

/// Target link-layer address, one unit of 8 bytes (RFC 4861 4.6.1).
const TARGET_ADDRESS: [u8; 2] = [2, 1];

/// Every node of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Whether an IPv6 packet is of neighbour discovery: it stays on the cable in any case.
pub(super) fn is_discovery(packet: &[u8]) -> bool {
    packet.get(6) == Some(&ICMPV6)
        && packet.get(HEADER).is_some_and(|kind| DISCOVERY.contains(kind))
}

/// Answers a solicitation for any address but the space's own: a guest that looks for
/// duplicates of its address (RFC 4862 5.4) hears nothing.
pub(super) fn answer(packet: &[u8], guest: Mac, own: Addresses) -> Option<Answer> {
    let address = |at: usize| packet.get(at..)?.first_chunk::<16>().map(|b| Ipv6Addr::from(*b));
    let own = own.v6()?;
    let (source, target) = (address(8)?, address(HEADER + 8)?);
    // RFC 4861 7.1.1: hop limit 255 shows that no router passed it on; code 0.
    let valid = packet[7] == 255 && packet[HEADER] == SOLICITATION && packet[HEADER + 1] == 0;
    let from_guest = source == own || source.is_unspecified() || source.is_unicast_link_local();
    let answerable = target != own && is_host(target.into());
    if !valid || !from_guest || !answerable {
        return None;
    }
    let to = if source.is_unspecified() { ALL_NODES } else { source };
    let mut message = [0; 8 + 16 + 8];
    message[0] = ADVERTISEMENT;
    message[4] = FLAGS;
    message[8..24].copy_from_slice(&target.octets());
    message[24..26].copy_from_slice(&TARGET_ADDRESS);
    message[26..].copy_from_slice(&SWITCH);
    let pseudo = Sum::pseudo(target.into(), to.into(), ICMPV6, message.len());
    let sum = Sum::of(&message).plus(pseudo).checksum();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut header = [0; HEADER];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&(message.len() as u16).to_be_bytes());
    header[6..8].copy_from_slice(&[ICMPV6, 255]);
    header[8..24].copy_from_slice(&target.octets());
    header[24..].copy_from_slice(&to.octets());
    Some(Answer::new(guest, IPV6, &[&header, &message]))
}
