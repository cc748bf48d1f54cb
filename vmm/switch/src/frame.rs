//! The space's Ethernet: one cable from the guest to the switch, which answers
//! every question for a neighbour itself and speaks for every address but the space's own.

mod arp;
mod neighbour;

use crate::addresses::Addresses;
use crate::drops::Reason;

/// Bytes of an Ethernet header.
pub const HEADER: usize = 14;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The switch's own address on every space's cable: locally administered.
pub const SWITCH: Mac = [0x02, b'P', b'S', 0, 0, 0];

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ARP: [u8; 2] = [0x08, 0x06];

/// What a frame from the guest asks of the switch.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// To send the IP packet behind the Ethernet header, which may have padding behind it.
    Packet,
    /// Who has an address; the answer, a whole frame without padding.
    Neighbour(Answer),
}

/// A frame with which the switch answers for a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    bytes: [u8; Answer::ROOM],
    length: usize,
}

impl Answer {
    /// A neighbour advertisement is the longest: IPv6 header, message, target, one option.
    const ROOM: usize = HEADER + 40 + 8 + 16 + 8;

    /// An answer to `guest` made of these parts.
    fn new(guest: Mac, kind: [u8; 2], parts: &[&[u8]]) -> Answer {
        let mut answer = Answer { bytes: [0; _], length: 0 };
        answer.push(&header(guest, kind));
        parts.iter().for_each(|part| answer.push(part));
        answer
    }

    fn push(&mut self, part: &[u8]) {
        self.bytes[self.length..][..part.len()].copy_from_slice(part);
        self.length += part.len();
    }

    /// The frame.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The Ethernet address of the space at `place`.
pub fn mac(place: usize) -> Mac {
    let [.., a, b] = (place as u16 + 1).to_be_bytes();
    [0x02, b'P', b'S', 1, a, b]
}

/// The Ethernet header of an IP packet to the guest, by the packet's first byte.
pub fn to_guest(guest: Mac, first: u8) -> [u8; HEADER] {
    header(guest, if first >> 4 == 6 { IPV6 } else { IPV4 })
}

fn header(guest: Mac, kind: [u8; 2]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..6].copy_from_slice(&guest);
    header[6..12].copy_from_slice(&SWITCH);
    header[12..].copy_from_slice(&kind);
    header
}

/// Looks at the beginning of a frame from the guest, Ethernet header first.
///
/// # Errors
/// Why it goes nowhere: no answer is due.
pub fn from_guest(frame: &[u8], guest: Mac, own: Addresses) -> Result<Asked, Reason> {
    let (ethernet, rest) = frame.split_first_chunk::<HEADER>().ok_or(Reason::Runt)?;
    if ethernet[6..12] != guest {
        return Err(Reason::ForeignMac);
    }
    // The group bit: multicast or broadcast.
    let group = ethernet[0] & 1 != 0;
    match [ethernet[12], ethernet[13]] {
        ARP => arp::answer(rest, guest, own).map(Asked::Neighbour).ok_or(Reason::Neighbour),
        IPV6 if neighbour::is_discovery(rest) => {
            neighbour::answer(rest, guest, own).map(Asked::Neighbour).ok_or(Reason::Neighbour)
        }
        IPV4 | IPV6 if group => Err(Reason::Multicast),
        IPV4 | IPV6 => Ok(Asked::Packet),
        _ => Err(Reason::EtherType),
    }
}

#[cfg(test)]
mod tests;
