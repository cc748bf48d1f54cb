//! The space's Ethernet: one cable from the guest to the switch, which answers
//! every ARP question itself and speaks for every address but the space's own.

use std::net::Ipv4Addr;

use crate::drops::Reason;

/// Bytes of an Ethernet header.
pub const HEADER: usize = 14;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The switch's own address on every space's cable: locally administered.
pub const SWITCH: Mac = [0x02, b'P', b'S', 0, 0, 0];

const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];

/// Hardware type Ethernet, protocol IPv4, their lengths (RFC 826).
const ARP_START: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ARP_BYTES: usize = 28;

/// What a frame from the guest asks of the switch.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// To send this IPv4 packet, with padding behind it.
    Packet(&'a [u8]),
    /// Who has an address; the answer, without Ethernet padding.
    Arp([u8; HEADER + ARP_BYTES]),
}

/// The Ethernet address of the space at `place`.
pub fn mac(place: usize) -> Mac {
    let [.., a, b] = (place as u16 + 1).to_be_bytes();
    [0x02, b'P', b'S', 1, a, b]
}

/// The Ethernet header of an IPv4 packet to the guest.
pub fn to_guest(guest: Mac) -> [u8; HEADER] {
    header(guest, IPV4)
}

fn header(guest: Mac, kind: [u8; 2]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..6].copy_from_slice(&guest);
    header[6..12].copy_from_slice(&SWITCH);
    header[12..].copy_from_slice(&kind);
    header
}

/// Looks at a frame from the guest, Ethernet header first.
///
/// # Errors
/// Why it goes nowhere: no answer is due.
pub fn from_guest(frame: &[u8], guest: Mac, own: Ipv4Addr) -> Result<Asked<'_>, Reason> {
    let (ethernet, rest) = frame.split_first_chunk::<HEADER>().ok_or(Reason::Runt)?;
    if ethernet[6..12] != guest {
        return Err(Reason::ForeignMac);
    }
    match [ethernet[12], ethernet[13]] {
        // The group bit: multicast or broadcast.
        IPV4 if ethernet[0] & 1 != 0 => Err(Reason::Multicast),
        IPV4 => Ok(Asked::Packet(rest)),
        ARP => answer(rest, guest, own).map(Asked::Arp).ok_or(Reason::Arp),
        _ => Err(Reason::EtherType),
    }
}

/// Answers a question for any address but the space's own: a guest that probes whether
/// its address is free (RFC 5227) hears nothing.
fn answer(question: &[u8], guest: Mac, own: Ipv4Addr) -> Option<[u8; HEADER + ARP_BYTES]> {
    let question = question.first_chunk::<ARP_BYTES>()?;
    let sender = Ipv4Addr::from(*question[14..].first_chunk::<4>()?);
    let target = Ipv4Addr::from(*question[24..].first_chunk::<4>()?);
    let is_question = question[..6] == ARP_START && question[6..8] == [0, 1];
    let from_guest = question[8..14] == guest && (sender == own || sender.is_unspecified());
    let answerable = target != own
        && !target.is_unspecified()
        && !target.is_multicast()
        && !target.is_broadcast();
    if !is_question || !from_guest || !answerable {
        return None;
    }
    let mut frame = [0; HEADER + ARP_BYTES];
    frame[..HEADER].copy_from_slice(&header(guest, ARP));
    let reply = &mut frame[HEADER..];
    reply[..6].copy_from_slice(&ARP_START);
    reply[7] = 2;
    reply[8..14].copy_from_slice(&SWITCH);
    reply[14..18].copy_from_slice(&target.octets());
    reply[18..24].copy_from_slice(&guest);
    reply[24..28].copy_from_slice(&sender.octets());
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
    const GUEST: Mac = [2, b'P', b'S', 1, 0, 1];

    fn question(target: Ipv4Addr) -> Vec<u8> {
        let mut frame = [[0xff; 6], GUEST].concat();
        frame.extend_from_slice(&ARP);
        frame.extend_from_slice(&ARP_START);
        frame.extend_from_slice(&[0, 1]);
        frame.extend_from_slice(&GUEST);
        frame.extend_from_slice(&OWN.octets());
        frame.extend_from_slice(&[0; 6]);
        frame.extend_from_slice(&target.octets());
        frame
    }

    #[test]
    fn every_address_but_the_spaces_own_is_at_the_switch() {
        for target in [Ipv4Addr::new(192, 0, 2, 20), Ipv4Addr::new(8, 8, 8, 8)] {
            let question = question(target);
            let Ok(Asked::Arp(reply)) = from_guest(&question, GUEST, OWN) else { panic!() };
            assert_eq!((&reply[..6], &reply[6..12]), (&GUEST[..], &SWITCH[..]));
            assert_eq!(reply[20..22], [0, 2]);
            assert_eq!((&reply[22..28], &reply[28..32]), (&SWITCH[..], &target.octets()[..]));
        }
        for target in [OWN, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)]
        {
            assert_eq!(from_guest(&question(target), GUEST, OWN), Err(Reason::Arp));
        }
    }

    #[test]
    fn frames_from_others_and_of_other_kinds_go_nowhere() {
        let mut frame = vec![0; 60];
        assert_eq!(from_guest(&frame, GUEST, OWN), Err(Reason::ForeignMac));
        frame[6..12].copy_from_slice(&GUEST);
        for kind in [[0x86, 0xdd], [0x81, 0x00], [0x88, 0xa8], [0, 60]] {
            frame[12..14].copy_from_slice(&kind);
            assert_eq!(from_guest(&frame, GUEST, OWN), Err(Reason::EtherType));
        }
        frame[12..14].copy_from_slice(&IPV4);
        assert!(matches!(from_guest(&frame, GUEST, OWN), Ok(Asked::Packet(_))));
        frame[..6].copy_from_slice(&[1, 0, 0x5e, 0, 0, 1]);
        assert_eq!(from_guest(&frame, GUEST, OWN), Err(Reason::Multicast));
        assert_eq!(from_guest(&frame[..13], GUEST, OWN), Err(Reason::Runt));
    }
}
