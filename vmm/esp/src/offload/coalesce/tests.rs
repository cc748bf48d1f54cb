//! What is merged is cut up again into the packets it was, and nothing else is merged.

use super::super::segment::tests::{Made, V4, V6, written};
use super::*;
use crate::ip::HeaderBytes;

const ALL: Accepts = Accepts { tcp_v4: true, tcp_v6: true, udp_v4: true, udp_v6: true };

/// What a guest is given: the packet and what it is told about it.
type Delivered = (Vec<u8>, Offload);

fn delivered(merged: Merged<'_, '_>) -> Delivered {
    let mut bytes = merged.headers.to_vec();
    merged.payloads.iter().for_each(|payload| bytes.extend_from_slice(payload));
    (bytes, merged.offload)
}

/// Everything delivered of these packets, in tunnel or transport mode.
fn coalesced(packets: &[Vec<u8>], accepts: Accepts, mode: Mode) -> Vec<Delivered> {
    let mut run = Run::new(accepts);
    let mut all = Vec::new();
    for packet in packets {
        let fixed = match mode {
            Mode::Tunnel => 0,
            Mode::Transport if packet[0] >> 4 == 4 => V4_HEADER,
            Mode::Transport => V6_HEADER,
        };
        let (made, rest) = packet.split_at(fixed);
        if run.push(made, rest) == Err(Flush) {
            all.extend(run.flush(delivered));
            assert!(run.is_empty());
            run.push(made, rest).unwrap();
        }
    }
    all.extend(run.flush(delivered));
    assert!(run.flush(delivered).is_none());
    all
}

/// The packets that those delivered stand for.
fn cut_again(all: &[Delivered]) -> Vec<Vec<u8>> {
    let each = all.iter().map(|(bytes, offload)| match offload.segmentation {
        Some(_) => written(bytes, 128, *offload, Mode::Tunnel).unwrap(),
        None => vec![bytes.clone()],
    });
    each.flatten().collect()
}

/// Packets of `sizes` that continue each other.
fn stream(first: &Made, sizes: &[usize]) -> Vec<Made> {
    let mut next = first.clone();
    let mut packets = Vec::new();
    for size in sizes {
        next.payload = (0..*size).map(|at| (at * 7 + packets.len()) as u8).collect();
        packets.push(next.clone());
        next.seq = next.seq.wrapping_add(*size as u32);
        next.identification = next.identification.wrapping_add(1);
    }
    packets
}

fn bytes(packets: &[Made]) -> Vec<Vec<u8>> {
    packets.iter().map(Made::bytes).collect()
}

#[test]
fn packets_in_order_become_one_that_stands_for_them() {
    for ends in [V4, V6] {
        for first in [Made::tcp(ends, 0), Made::udp(ends, 0)] {
            let packets = bytes(&stream(&first, &[1000, 1000, 1000, 400]));
            for mode in [Mode::Tunnel, Mode::Transport] {
                let all = coalesced(&packets, ALL, mode);
                assert_eq!(all.len(), 1);
                let (merged, offload) = &all[0];
                let parsed = Packet::parse(merged, merged.len()).unwrap();
                assert_eq!(
                    (parsed.len(), parsed.fragment()),
                    (merged.len(), crate::ip::Fragment::Whole)
                );
                let segmentation = offload.segmentation.unwrap();
                assert_eq!(segmentation.size, 1000);
                let kind = match (first.is_tcp, ends == V4) {
                    (false, _) => Kind::Udp,
                    (true, true) => Kind::TcpV4,
                    (true, false) => Kind::TcpV6,
                };
                assert_eq!(segmentation.kind, kind);
                // The partial checksum is that of the pseudo-header (virtio 1.2 5.1.6.2).
                let l4 = first.l4();
                let at = l4 + usize::from(offload.checksum.unwrap().offset);
                let pseudo = Sum::pseudo(ends.0, ends.1, first.protocol(), merged.len() - l4);
                assert_eq!(merged[at..at + 2], pseudo.partial().to_be_bytes());
                assert_eq!(cut_again(&all), packets);
            }
        }
    }
}

#[test]
fn a_packet_alone_passes_as_it_is() {
    let mut stranger = Made::tcp(V4, 100).bytes();
    stranger[30] ^= 1;
    let ping = crate::ip::tests::packet(V6, protocol::ICMPV6, &[128, 0, 1, 2, 3]);
    for packet in [Made::tcp(V4, 1000).bytes(), Made::udp(V6, 1000).bytes(), ping, stranger] {
        for mode in [Mode::Tunnel, Mode::Transport] {
            let packets = [packet.clone()];
            assert_eq!(coalesced(&packets, ALL, mode), [(packet.clone(), Offload::default())]);
        }
    }
}

#[test]
fn what_the_guest_does_not_take_is_not_merged() {
    let none = Accepts::default();
    let cases = [
        (Made::tcp(V4, 0), Accepts { tcp_v4: true, ..none }),
        (Made::tcp(V6, 0), Accepts { tcp_v6: true, ..none }),
        (Made::udp(V4, 0), Accepts { udp_v4: true, ..none }),
        (Made::udp(V6, 0), Accepts { udp_v6: true, ..none }),
    ];
    for (first, _) in &cases {
        let packets = bytes(&stream(first, &[100; 3]));
        for (other, accepts) in &cases {
            let merges = (first.ends, first.is_tcp) == (other.ends, other.is_tcp);
            let count = coalesced(&packets, *accepts, Mode::Tunnel).len();
            assert_eq!(count, if merges { 1 } else { 3 });
        }
        assert_eq!(coalesced(&packets, none, Mode::Tunnel).len(), 3);
    }
}

/// How many are delivered of two packets, the second of which was changed.
fn apart(first: &Made, change: impl FnOnce(&mut Made)) -> usize {
    let mut packets = stream(first, &[100, 100]);
    change(&mut packets[1]);
    let packets = bytes(&packets);
    let all = coalesced(&packets, ALL, Mode::Tunnel);
    assert_eq!(cut_again(&all), packets);
    all.len()
}

#[test]
fn only_the_next_packet_of_the_same_stream_continues_a_run() {
    const URG: u8 = 0x20;
    const CWR: u8 = 0x80;
    const RST: u8 = 0x04;
    const SYN: u8 = 0x02;
    for ends in [V4, V6] {
        let first = Made::tcp(ends, 0);
        assert_eq!(apart(&first, |_| ()), 1);
        assert_eq!(apart(&first, |next| next.seq = next.seq.wrapping_add(1)), 2);
        assert_eq!(apart(&first, |next| next.seq = next.seq.wrapping_sub(100)), 2);
        assert_eq!(apart(&first, |next| next.options[7] ^= 1), 2);
        assert_eq!(apart(&first, |next| next.options.truncate(8)), 2);
        assert_eq!(apart(&first, |next| next.payload.push(0)), 2);
        assert_eq!(apart(&first, |next| next.payload.clear()), 2);
        assert_eq!(apart(&first, |next| next.is_tcp = false), 2);
        for flag in [URG, CWR, RST, SYN, ECE] {
            assert_eq!(apart(&first, |next| next.flags |= flag), 2, "flag {flag:#x}");
        }
        assert_eq!(apart(&first, |next| next.flags |= PSH | FIN), 1);
        assert_eq!(apart(&Made { flags: ACK | ECE, ..first.clone() }, |_| ()), 1);
        assert_eq!(apart(&Made { flags: 0, ..first.clone() }, |_| ()), 2);
    }
}

#[test]
fn other_headers_do_not_continue_a_run() {
    // Of IPv4: traffic class, TTL, source; of TCP: ports, acknowledgement, window, urgent pointer.
    for at in [1, 8, 12, 20, 23, 28, 34, 38] {
        let mut packets = bytes(&stream(&Made::tcp(V4, 0), &[100, 100]));
        let packet = &mut packets[1];
        packet[at] ^= 1;
        packet[10..12].fill(0);
        let sum = Sum::of(&packet[..20]).checksum();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let source = packet[12..16].try_into().map(<[u8; 4]>::into).unwrap();
        let ends = (std::net::IpAddr::V4(source), V4.1);
        crate::checksum::fill(ends.0, ends.1, protocol::TCP, &mut packet[20..]).unwrap();
        assert_eq!(coalesced(&packets, ALL, Mode::Tunnel).len(), 2, "byte {at}");
    }
    // Fragments may be made of the first packet: its identification counts.
    let mut packets = bytes(&stream(&Made::tcp(V4, 0), &[100, 100]));
    for packet in &mut packets {
        packet[6] = 0;
        packet[10..12].fill(0);
        let sum = Sum::of(&packet[..20]).checksum();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    assert_eq!(coalesced(&packets, ALL, Mode::Tunnel).len(), 2);
}

#[test]
fn a_short_packet_or_one_that_pushes_ends_the_run() {
    let first = Made::tcp(V4, 0);
    let short = bytes(&stream(&first, &[100, 99, 99]));
    assert_eq!(coalesced(&short, ALL, Mode::Tunnel).len(), 2);
    for flag in [PSH, FIN] {
        for at in [0, 1] {
            let mut packets = stream(&first, &[100; 4]);
            packets[at].flags |= flag;
            let packets = bytes(&packets);
            let all = coalesced(&packets, ALL, Mode::Tunnel);
            assert_eq!(all.len(), 2);
            assert_eq!(cut_again(&all), packets);
        }
    }
}

#[test]
fn a_run_is_never_longer_than_a_packet_can_be() {
    for (size, count, longest) in [(1000, 70, 64), (1448, 50, 45), (30000, 3, 2)] {
        for first in [Made::tcp(V4, 0), Made::udp(V6, 0)] {
            let packets = bytes(&stream(&first, &vec![size; count]));
            let all = coalesced(&packets, ALL, Mode::Tunnel);
            assert_eq!(all.len(), 2);
            let len = all[0].0.len();
            assert_eq!((len - packets[0].len()) / size + 1, longest);
            assert!(len <= MAX_LEN);
            assert_eq!(cut_again(&all), packets);
        }
    }
}

#[test]
fn a_wrong_checksum_is_never_made_right() {
    for first in [Made::tcp(V4, 0), Made::tcp(V6, 0), Made::udp(V4, 0), Made::udp(V6, 0)] {
        for damaged in 0..4 {
            let mut packets = bytes(&stream(&first, &[100; 4]));
            *packets[damaged].last_mut().unwrap() ^= 1;
            let all = coalesced(&packets, ALL, Mode::Tunnel);
            assert!(all.contains(&(packets[damaged].clone(), Offload::default())));
            assert_eq!(cut_again(&all), packets);
        }
    }
}

#[test]
fn datagrams_without_a_checksum_or_with_another_length_stay_alone() {
    let packets = bytes(&stream(&Made::udp(V4, 0), &[100; 3]));
    for (at, value) in [(26..28, [0, 0]), (24..26, [0, 107]), (24..26, [0, 109])] {
        let mut packets = packets.clone();
        packets.iter_mut().for_each(|packet| packet[at.clone()].copy_from_slice(&value));
        assert_eq!(coalesced(&packets, ALL, Mode::Tunnel).len(), 3);
    }
}

#[test]
fn padding_behind_an_inner_packet_is_left_behind() {
    let packets = bytes(&stream(&Made::tcp(V4, 0), &[100, 100]));
    let padded: Vec<_> = packets.iter().map(|packet| [&packet[..], &[9; 50]].concat()).collect();
    let all = coalesced(&padded, ALL, Mode::Tunnel);
    assert_eq!(all.len(), 1);
    assert_eq!(cut_again(&all), packets);
}

#[test]
fn whatever_comes_goes_to_the_guest_in_order_and_unchanged() {
    // Of each packet: which of three streams, how long, its flags, and what is wrong with it.
    let input = bolero::produce::<(Vec<(u8, u8, u8, u8)>, bool)>();
    bolero::check!().with_generator(input).for_each(|(script, transport)| {
        let starts = [Made::tcp(V4, 0), Made::tcp(V6, 0), Made::udp(V4, 0)];
        let mut streams = starts;
        let mut packets = Vec::new();
        for (stream, size, flags, damage) in script.iter().take(100) {
            let next = &mut streams[usize::from(*stream) / 100];
            let size = if size % 8 == 0 { usize::from(*size) } else { 64 };
            next.payload = (0..size).map(|at| (at + packets.len()) as u8).collect();
            let flags = if flags % 4 == 0 { *flags } else { ACK };
            let mut bytes = Made { flags, ..next.clone() }.bytes();
            next.seq = next.seq.wrapping_add(size as u32);
            next.identification = next.identification.wrapping_add(1);
            if damage % 8 == 0 {
                let at = next.l4() + usize::from(*damage) % (bytes.len() - next.l4());
                bytes[at] ^= 0x10;
            }
            packets.push(bytes);
        }
        let mode = if *transport { Mode::Transport } else { Mode::Tunnel };
        let all = coalesced(&packets, ALL, mode);
        assert_eq!(cut_again(&all), packets);
    });
}

#[test]
fn arbitrary_bytes_are_taken_by_a_run_of_nothing() {
    bolero::check!().with_type::<(Vec<u8>, Vec<u8>)>().for_each(|(one, other)| {
        let mut run = Run::new(ALL);
        run.push(&[], one).unwrap();
        if run.push(&HeaderBytes::new(), other).is_ok() {
            return;
        }
        assert_eq!(run.flush(delivered), Some((one.clone(), Offload::default())));
    });
}
