//! Against packets made one by one, and every lie a guest can tell.

use std::net::IpAddr;

use super::super::Segmentation;
use super::*;
use crate::checksum::tests::is_right_slowly;
use crate::ip::Header;
use crate::ip::tests::{HERE, HERE_V6, THERE, THERE_V6};

const ACK: u8 = 0x10;

pub(crate) const V4: (IpAddr, IpAddr) = (HERE, THERE);
pub(crate) const V6: (IpAddr, IpAddr) = (HERE_V6, THERE_V6);

/// One packet, or the one that many are cut from.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) ends: (IpAddr, IpAddr),
    pub(crate) is_tcp: bool,
    pub(crate) identification: u16,
    pub(crate) seq: u32,
    pub(crate) flags: u8,
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Made {
    pub(crate) fn tcp(ends: (IpAddr, IpAddr), payload_len: usize) -> Made {
        let payload = (0..payload_len).map(|at| (at * 31 + at / 256) as u8).collect();
        let options = vec![1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
        let (identification, seq, flags) = (0xfffe, 0xffff_ff00, ACK);
        Made { ends, is_tcp: true, identification, seq, flags, options, payload }
    }

    pub(crate) fn udp(ends: (IpAddr, IpAddr), payload_len: usize) -> Made {
        Made { is_tcp: false, ..Made::tcp(ends, payload_len) }
    }

    pub(crate) fn protocol(&self) -> u8 {
        if self.is_tcp { protocol::TCP } else { protocol::UDP }
    }

    pub(crate) fn l4(&self) -> usize {
        if self.ends == V4 { 20 } else { 40 }
    }

    /// The whole packet with its right checksums.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut segment = vec![0x9c, 0x40, 1, 0xbb];
        if self.is_tcp {
            segment.extend(self.seq.to_be_bytes());
            segment.extend([0, 0, 0, 9, ((20 + self.options.len()) * 4) as u8, self.flags]);
            segment.extend([1, 2, 0, 0, 0, 0]);
            segment.extend(&self.options);
        } else {
            segment.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            segment.extend([0, 0]);
        }
        segment.extend(&self.payload);
        checksum::fill(self.ends.0, self.ends.1, self.protocol(), &mut segment).unwrap();
        let header = Header {
            traffic_class: 0xba,
            identification: self.identification,
            ..Header::new(self.ends.0, self.ends.1, self.protocol())
        };
        [&header.bytes(segment.len()).unwrap()[..], &segment].concat()
    }

    /// What a stack without offloads would have sent.
    fn cut(&self, size: usize) -> Vec<Vec<u8>> {
        let shares = self.payload.chunks(size);
        let last = shares.len() - 1;
        let segment = |(index, share): (usize, &[u8])| {
            let mut flags = self.flags;
            if index > 0 {
                flags &= !CWR;
            }
            if index < last {
                flags &= !(FIN | PSH);
            }
            Made {
                identification: self.identification.wrapping_add(index as u16),
                seq: self.seq.wrapping_add((index * size) as u32),
                flags,
                payload: share.to_vec(),
                ..self.clone()
            }
        };
        shares.enumerate().map(segment).map(|made| made.bytes()).collect()
    }

    fn partial(&self) -> PartialChecksum {
        let offset = if self.is_tcp { 16 } else { 6 };
        PartialChecksum { start: self.l4() as u16, offset }
    }

    fn offload(&self, size: u16) -> Offload {
        let kind = match (self.is_tcp, self.ends == V4) {
            (false, _) => Kind::Udp,
            (true, true) => Kind::TcpV4,
            (true, false) => Kind::TcpV6,
        };
        let segmentation = Some(Segmentation { kind, size });
        Offload { checksum: Some(self.partial()), segmentation }
    }
}

/// Everything that is written of a packet whose first `head` bytes are in memory.
pub(crate) fn written(
    bytes: &[u8],
    head: usize,
    offload: Offload,
    mode: Mode,
) -> Result<Vec<Vec<u8>>, Discard> {
    let packet = Packet::parse(&bytes[..head.min(bytes.len())], bytes.len())?;
    Ok(drain(Sending::new(&packet, offload, mode)?, &bytes[packet.head().len()..]))
}

/// Every payload of `sending`, behind a headroom that stays as it is.
fn drain(mut sending: Sending<'_>, mut rest: &[u8]) -> Vec<Vec<u8>> {
    let (count, longest) = (sending.payloads(), sending.longest());
    let mut payloads = Vec::new();
    loop {
        let mut out = vec![0xee; 24];
        let more = sending.write_next(&mut out, |into: &mut [u8]| {
            let (now, later) = rest.split_at(into.len());
            into.copy_from_slice(now);
            rest = later;
        });
        assert_eq!(out[..24], [0xee; 24]);
        if !more {
            assert_eq!(out.len(), 24);
            break;
        }
        payloads.push(out.split_off(24));
    }
    assert!(rest.is_empty());
    assert_eq!(payloads.len(), count);
    assert_eq!(payloads.iter().map(Vec::len).max(), Some(longest));
    payloads
}

#[test]
fn a_large_packet_becomes_what_a_stack_without_offloads_sends() {
    for ends in [V4, V6] {
        for made in [Made::tcp(ends, 60000), Made::udp(ends, 60000)] {
            let made = Made { flags: CWR | ACK | PSH | FIN, ..made };
            for size in [1448, 1000, 59999, 60000, 65535] {
                let expected = made.cut(size);
                let offload = made.offload(size as u16);
                for head in [128, 256, 1500, 65535] {
                    let tunnel = written(&made.bytes(), head, offload, Mode::Tunnel);
                    assert_eq!(tunnel.unwrap(), expected);
                    let transport = written(&made.bytes(), head, offload, Mode::Transport).unwrap();
                    let carried = expected.iter().map(|packet| &packet[made.l4()..]);
                    assert!(transport.iter().map(|payload| &payload[..]).eq(carried));
                }
            }
        }
    }
}

#[test]
fn whatever_the_sizes_the_segments_are_those_of_the_slow_way() {
    let input = bolero::produce::<(bool, bool, Vec<u8>, u16, u8, u16, u8)>();
    bolero::check!().with_generator(input).for_each(
        |(is_v4, is_tcp, payload, size, flags, head, options)| {
            let ends = if *is_v4 { V4 } else { V6 };
            let made = Made {
                is_tcp: *is_tcp,
                flags: flags & !SYN,
                options: vec![1; usize::from(options % 11) * 4],
                payload: [&[1], &payload[..]].concat(),
                ..Made::tcp(ends, 0)
            };
            let size = usize::from(size % 700).max(1);
            let bytes = made.bytes();
            let head = usize::from(*head).max(120);
            let written = written(&bytes, head, made.offload(size as u16), Mode::Tunnel).unwrap();
            assert_eq!(written, made.cut(size));
            for segment in &written {
                assert!(is_right_slowly(ends, made.protocol(), &segment[made.l4()..]));
            }
        },
    );
}

#[test]
fn a_packet_without_offloads_is_carried_as_it_is() {
    for made in [Made::tcp(V4, 1000), Made::udp(V6, 1000), Made::tcp(V4, 0)] {
        let bytes = made.bytes();
        let padded = [&bytes[..], &[0; 6]].concat();
        for head in [64, 256, 2000] {
            let packet = Packet::parse(&padded[..head.min(padded.len())], padded.len()).unwrap();
            for (mode, offset) in [(Mode::Tunnel, 0), (Mode::Transport, made.l4())] {
                let sending = Sending::new(&packet, Offload::default(), mode).unwrap();
                assert_eq!(sending.l4_offset(), made.l4() - offset);
                let payloads = drain(sending, &bytes[packet.head().len()..]);
                assert_eq!(payloads, [&bytes[offset..]]);
            }
        }
    }
}

/// Replaces a right checksum by the sum of the pseudo-header, as a stack with offloads does.
fn left_to_do(made: &Made) -> Vec<u8> {
    let mut bytes = made.bytes();
    let pseudo =
        Sum::pseudo(made.ends.0, made.ends.1, made.protocol(), bytes.len() - made.l4()).partial();
    let at = made.l4() + usize::from(made.partial().offset);
    bytes[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    bytes
}

#[test]
fn a_checksum_that_was_left_to_do_is_done() {
    for ends in [V4, V6] {
        for made in [Made::tcp(ends, 1001), Made::udp(ends, 1000), Made::udp(ends, 0)] {
            let offload = Offload { checksum: Some(made.partial()), segmentation: None };
            for head in [64, 2000] {
                let tunnel = written(&left_to_do(&made), head, offload, Mode::Tunnel).unwrap();
                assert_eq!(tunnel, [made.bytes()]);
                let transport = written(&left_to_do(&made), head, offload, Mode::Transport);
                assert_eq!(transport.unwrap(), [&made.bytes()[made.l4()..]]);
            }
        }
    }
}

#[test]
fn the_checksum_of_a_packet_inside_the_packet_is_done_where_it_is() {
    // A tunnel of the guest's own: UDP without a checksum, 8 bytes more, a TCP packet.
    let inner = Made::tcp(V4, 100);
    let mut made =
        Made { payload: [&[0; 8][..], &left_to_do(&inner)].concat(), ..Made::udp(V4, 0) };
    let bytes = made.bytes();
    let checksum = Some(PartialChecksum { start: 20 + 8 + 8 + 20, offset: 16 });
    let offload = Offload { checksum, segmentation: None };
    let payloads = written(&bytes, 256, offload, Mode::Transport).unwrap();
    made.payload = [&[0; 8][..], &inner.bytes()].concat();
    assert_eq!(payloads[0][8..], made.payload);
}

#[test]
fn a_checksum_may_not_change_what_selectors_have_looked_at() {
    let made = Made::tcp(V4, 100);
    let bytes = made.bytes();
    let sctp = crate::ip::tests::packet(V4, protocol::SCTP, &[7; 100]);
    let refused = [
        (&bytes, 0, 16),
        (&bytes, 10, 16),
        (&bytes, 12, 0),
        (&bytes, 19, 17),
        (&bytes, 20, 0),
        (&bytes, 20, 15),
        (&bytes, 20, 6),
        (&bytes, 21, 2),
        (&bytes, 20, 65535),
        (&bytes, 65535, 65535),
        (&bytes, 152 - 1, 0),
        (&sctp, 20, 2),
    ];
    for (bytes, start, offset) in refused {
        let checksum = Some(PartialChecksum { start, offset });
        let offload = Offload { checksum, segmentation: None };
        for mode in [Mode::Tunnel, Mode::Transport] {
            assert_eq!(
                written(bytes, 256, offload, mode),
                Err(Discard::Offload),
                "{start} {offset}"
            );
        }
    }
    let last = PartialChecksum { start: 150, offset: 0 };
    let offload = Offload { checksum: Some(last), segmentation: None };
    assert!(written(&bytes, 256, offload, Mode::Tunnel).is_ok());
}

#[test]
fn segments_of_what_cannot_be_cut_up_are_refused() {
    let made = Made::tcp(V4, 10000);
    let good = made.offload(1000);
    let kind = |kind| Offload { segmentation: Some(Segmentation { kind, size: 1000 }), ..good };
    let at = |start, offset| Offload {
        checksum: Some(PartialChecksum { start, offset }),
        ..made.offload(1000)
    };
    let refused = [
        made.offload(0),
        made.offload(4),
        kind(Kind::TcpV6),
        kind(Kind::Udp),
        Offload { checksum: None, ..good },
        at(0, 16),
        at(20, 6),
        at(52, 16),
    ];
    let bytes = made.bytes();
    assert_eq!(written(&bytes, 256, good, Mode::Tunnel).unwrap().len(), 10);
    assert_eq!(written(&bytes, 256, made.offload(5), Mode::Tunnel).unwrap().len(), 2000);
    for offload in refused {
        for mode in [Mode::Tunnel, Mode::Transport] {
            assert_eq!(written(&bytes, 256, offload, mode), Err(Discard::Offload), "{offload:?}");
        }
    }
    let udp = Made::udp(V6, 10000);
    assert_eq!(written(&udp.bytes(), 256, good, Mode::Tunnel), Err(Discard::Offload));
}

#[test]
fn headers_that_lie_are_refused() {
    let made = Made::tcp(V4, 10000);
    let good = made.offload(1000);
    let changed = |at: usize, value: u8| {
        let mut bytes = made.bytes();
        bytes[at] = value;
        written(&bytes, 64, good, Mode::Tunnel)
    };
    assert!(changed(20 + 12, 0x80).is_ok());
    // A TCP header shorter than any, beyond the head, and with SYN.
    assert_eq!(changed(20 + 12, 0x40), Err(Discard::Offload));
    assert_eq!(changed(20 + 12, 0xf0), Err(Discard::Offload));
    assert_eq!(changed(20 + 13, SYN), Err(Discard::Offload));
    let bytes = made.bytes();
    for head in 20..52 {
        assert_eq!(written(&bytes, head, good, Mode::Tunnel), Err(Discard::Offload), "{head}");
    }
    // Shorter than its own header.
    let short = crate::ip::tests::packet(V4, protocol::TCP, &[0x80; 20]);
    assert_eq!(written(&short, 256, good, Mode::Tunnel), Err(Discard::Offload));
    let short = crate::ip::tests::packet(V4, protocol::UDP, &[1; 7]);
    let offload = Made::udp(V4, 0).offload(100);
    assert_eq!(written(&short, 256, offload, Mode::Tunnel), Err(Discard::Offload));
}

#[test]
fn fragments_and_packets_with_options_are_not_cut_up() {
    let made = Made::tcp(V4, 1000);
    let mut fragment = made.bytes();
    (fragment[6], fragment[10]) = (0x60, fragment[10].wrapping_sub(0x20));
    assert_eq!(written(&fragment, 256, made.offload(100), Mode::Tunnel), Err(Discard::Offload));
    let checksum = Offload { segmentation: None, ..made.offload(100) };
    assert_eq!(written(&fragment, 256, checksum, Mode::Tunnel), Err(Discard::Offload));
    assert!(written(&fragment, 256, Offload::default(), Mode::Tunnel).is_ok());
    assert_eq!(written(&fragment, 256, checksum, Mode::Transport), Err(Discard::Fragment));
    // Behind hop-by-hop options.
    let tcp = Made::tcp(V6, 1000).bytes()[40..].to_vec();
    let behind = [&[6, 0, 1, 4, 0, 0, 0, 0][..], &tcp].concat();
    let bytes = crate::ip::tests::packet(V6, protocol::HOP_BY_HOP, &behind);
    let checksum = Some(PartialChecksum { start: 48, offset: 16 });
    let segmentation = Some(Segmentation { kind: Kind::TcpV6, size: 100 });
    let offload = Offload { checksum, segmentation };
    assert_eq!(written(&bytes, 256, offload, Mode::Tunnel), Err(Discard::Offload));
}

#[test]
fn a_large_packet_behind_destination_options_is_cut_up_with_them() {
    let options = [6, 0, 1, 4, 0, 0, 0, 0];
    let with_options = |packet: &[u8]| {
        let carried = [&options[..], &packet[40..]].concat();
        let mut bytes = crate::ip::tests::packet(V6, protocol::DESTINATION_OPTIONS, &carried);
        bytes[..4].copy_from_slice(&packet[..4]);
        bytes
    };
    let made = Made::tcp(V6, 3000);
    let checksum = Some(PartialChecksum { start: 48, offset: 16 });
    let segmentation = Some(Segmentation { kind: Kind::TcpV6, size: 1400 });
    let offload = Offload { checksum, segmentation };
    let expected: Vec<Vec<u8>> = made.cut(1400).iter().map(|packet| with_options(packet)).collect();
    let bytes = with_options(&made.bytes());
    assert_eq!(written(&bytes, 256, offload, Mode::Tunnel).unwrap(), expected);
    let transport = written(&bytes, 256, offload, Mode::Transport).unwrap();
    assert!(transport.iter().eq(expected.iter().map(|packet| &packet[40..])));
}

#[test]
fn tcp_is_cut_smaller_where_it_has_to_fit_and_nothing_else_is() {
    let made = Made::tcp(V4, 9000);
    let bytes = made.bytes();
    let packet = Packet::parse(&bytes[..256], bytes.len()).unwrap();
    let sending = Sending::new(&packet, made.offload(1448), Mode::Tunnel).unwrap();
    assert_eq!((sending.longest(), sending.payloads()), (1500, 7));
    for (max_payload, size) in [(1500, 1448), (1499, 1447), (1000, 948), (100, 48), (57, 5)] {
        let mut smaller = sending.clone();
        smaller.fit(max_payload).unwrap();
        assert!(smaller.longest() <= max_payload);
        assert_eq!(drain(smaller, &bytes[256..]), made.cut(size));
    }
    for max_payload in [0, 51, 52, 53, 56] {
        let mut same = sending.clone();
        assert_eq!(same.fit(max_payload), Err(TooBig));
        assert_eq!(same.longest(), 1500);
    }
    // Datagrams and single packets are as long as they are.
    let udp = Made::udp(V4, 9000);
    for (made, offload) in [(&udp, udp.offload(1448)), (&made, Offload::default())] {
        let bytes = made.bytes();
        let packet = Packet::parse(&bytes, bytes.len()).unwrap();
        let mut sending = Sending::new(&packet, offload, Mode::Transport).unwrap();
        let longest = sending.longest();
        assert_eq!(sending.fit(longest), Ok(()));
        assert_eq!(sending.fit(longest - 1), Err(TooBig));
    }
}

#[test]
fn arbitrary_packets_and_offloads_are_written_within_their_promise_or_refused() {
    type Input = (Vec<u8>, bool, [u16; 3], u8, u8);
    bolero::check!().with_type::<Input>().for_each(|(bytes, is_v4, numbers, kind, head)| {
        let [start, offset, size] = *numbers;
        let protocol = if kind & 8 == 0 { protocol::TCP } else { protocol::UDP };
        let ends = if *is_v4 { V4 } else { V6 };
        let bytes = crate::ip::tests::packet(ends, protocol, bytes);
        let l4 = if *is_v4 { 20 } else { 40 };
        // Mostly right, so that more is reached.
        let start = if start % 4 == 0 { start } else { l4 };
        let offset = match offset % 4 {
            0 => offset,
            _ if protocol == protocol::TCP => 16,
            _ => 6,
        };
        let size = if size % 4 == 0 { size } else { size % 256 };
        let kind = [Kind::TcpV4, Kind::TcpV6, Kind::Udp][usize::from(kind % 3)];
        let checksum = Some(PartialChecksum { start, offset });
        for segmentation in [None, Some(Segmentation { kind, size })] {
            let offload = Offload { checksum, segmentation };
            let head = usize::from(*head);
            let Ok(payloads) = written(&bytes, head, offload, Mode::Tunnel) else { continue };
            for payload in &payloads {
                let packet = Packet::parse(payload, payload.len()).unwrap();
                assert_eq!(packet.len(), payload.len());
                assert_eq!((packet.source(), packet.destination()), ends);
                assert_eq!(packet.payload().get(..4), bytes[usize::from(l4)..].get(..4));
            }
        }
    });
}
