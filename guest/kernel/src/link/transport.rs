//! Where TCP or UDP is in a frame, and its checksum (RFC 1071, RFC 9293 3.1, RFC 768).

use super::ETHERNET;

/// Bytes of a TCP header without options.
pub(super) const TCP: usize = 20;

const UDP: usize = 8;

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

/// The IPv6 extension header smoltcp passes over (RFC 8200 4.3).
const HOP_BY_HOP: u8 = 0;

/// Of TCP's flags.
const SYN: u8 = 1 << 1;

/// TCP or UDP in a frame; its header is whole, and `end` is within the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transport {
    pub(super) is_v6: bool,
    pub(super) is_tcp: bool,
    /// Where its header begins in the frame.
    pub(super) start: usize,
    /// Where it ends: what follows pads packet and frame.
    end: usize,
    /// Where in the header the checksum is.
    pub(super) sum_at: usize,
}

impl Transport {
    /// TCP or UDP in this frame, if it is there and whole enough to have a checksum.
    pub(super) fn find(frame: &[u8]) -> Option<Transport> {
        let packet = frame.get(ETHERNET..)?;
        let (is_v6, protocol, start, end) = match [frame[12], frame[13]] {
            [0x08, 0x00] => v4(packet)?,
            [0x86, 0xdd] => v6(packet)?,
            _ => return None,
        };
        let segment = packet.get(start..end)?;
        let (is_tcp, length, sum_at) = match protocol {
            PROTOCOL_TCP => (true, segment.len(), 16),
            // A datagram may end before its packet.
            PROTOCOL_UDP => (false, word(segment.get(4..6)?).into(), 6),
            _ => return None,
        };
        let least = if is_tcp { TCP } else { UDP };
        let start = ETHERNET + start;
        let is_whole = (least..=segment.len()).contains(&length);
        is_whole.then_some(Transport { is_v6, is_tcp, start, end: start + length, sum_at })
    }

    /// Source and destination address.
    pub(super) fn addresses<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let range = if self.is_v6 { 8..40 } else { 12..20 };
        &frame[ETHERNET..][range]
    }

    /// Source and destination port.
    pub(super) fn ports(&self, frame: &[u8]) -> [u16; 2] {
        [0, 2].map(|at| word(&frame[self.start + at..]))
    }

    pub(super) fn is_syn(&self, frame: &[u8]) -> bool {
        frame[self.start + 13] & SYN != 0
    }

    /// Where TCP's payload begins in the frame; at most where the packet ends.
    pub(super) fn payload_start(&self, frame: &[u8]) -> usize {
        (self.start + usize::from(frame[self.start + 12] >> 4) * 4).min(self.end)
    }

    /// Whether the checksum is right, or there is none (UDP over IPv4).
    pub(super) fn is_whole(&self, frame: &[u8]) -> bool {
        if !self.is_tcp && !self.is_v6 && word(&frame[self.start + self.sum_at..]) == 0 {
            return true;
        }
        fold(self.pseudo_sum(frame) + sum(&frame[self.start..self.end])) == 0xffff
    }

    /// Leaves the rest of the checksum to the device: its field gets the sum of the pseudo
    /// header, not inverted (virtio 1.2 5.1.6.2).
    pub(super) fn begin_sum(&self, frame: &mut [u8]) {
        let begun = fold(self.pseudo_sum(frame));
        frame[self.start + self.sum_at..][..2].copy_from_slice(&begun.to_be_bytes());
    }

    fn pseudo_sum(&self, frame: &[u8]) -> u64 {
        let protocol = if self.is_tcp { PROTOCOL_TCP } else { PROTOCOL_UDP };
        sum(self.addresses(frame)) + u64::from(protocol) + (self.end - self.start) as u64
    }

    /// The MSS option's place in the frame and its value (RFC 9293 3.2).
    pub(super) fn mss(&self, frame: &[u8]) -> Option<(usize, u16)> {
        let end = self.payload_start(frame);
        let mut at = self.start + TCP;
        while at + 1 < end {
            match (frame[at], frame[at + 1]) {
                (0, _) => return None,
                (1, _) => at += 1,
                (2, 4) if at + 4 <= end => return Some((at + 2, word(&frame[at + 2..]))),
                (_, length) => at += usize::from(length.max(2)),
            }
        }
        None
    }

    /// Lowers the MSS option to `most`.
    pub(super) fn lower_mss(&self, frame: &mut [u8], most: usize) {
        if let Some((at, mss)) = self.mss(frame) {
            let lower = most.min(mss.into()) as u16;
            frame[at..at + 2].copy_from_slice(&lower.to_be_bytes());
        }
    }
}

/// Whether a frame carries a part of an IPv4 packet: smoltcp, built without reassembly, would
/// take it for a whole one.
pub(super) fn is_fragment(frame: &[u8]) -> bool {
    frame
        .get(12..22)
        .is_some_and(|bytes| bytes[..2] == [0x08, 0x00] && word(&bytes[8..]) & 0x3fff != 0)
}

type Found = (bool, u8, usize, usize);

fn v4(packet: &[u8]) -> Option<Found> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let start = usize::from(header[0] & 0xf) * 4;
    let sane = header[0] >> 4 == 4 && start >= 20;
    sane.then_some((false, header[9], start, word(&header[2..]).into()))
}

fn v6(packet: &[u8]) -> Option<Found> {
    let header: &[u8; 40] = packet.first_chunk()?;
    let end = 40 + usize::from(word(&header[4..]));
    if header[0] >> 4 != 6 {
        return None;
    }
    if header[6] != HOP_BY_HOP {
        return Some((true, header[6], 40, end));
    }
    let [next, length] = *packet.get(40..)?.first_chunk()?;
    Some((true, next, 40 + (usize::from(length) + 1) * 8, end))
}

fn word(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// The sum of 16-bit words in network order, not folded.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let long: u64 = words.iter().map(|four| u64::from(u32::from_be_bytes(*four))).sum();
    // Two words at a time: folding adds the upper ones to the lower.
    let last = match *rest {
        [] => 0,
        [a] => u64::from(a) << 8,
        [a, b] => u64::from(word(&[a, b])),
        [a, b, c, ..] => u64::from(word(&[a, b])) + (u64::from(c) << 8),
    };
    long + last
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
