//! Large packets: cut up on their way out, put together on their way in.

use esp::offload::{Accepts, Kind, PartialChecksum, Run, Segmentation};

use super::modes::{A6, B6, INNER_A, INNER_B, tunnel_mode};
use super::*;

/// Everything a guest may say it takes.
const ALL: Accepts = Accepts { tcp_v4: true, tcp_v6: true, udp_v4: true, udp_v6: true };

pub(crate) fn text(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * 31) >> 3) as u8).collect()
}

/// A large packet as a guest hands it over: the checksum holds the pseudo-header's sum alone.
pub(crate) fn large(
    source: impl Into<IpAddr>,
    destination: impl Into<IpAddr>,
    protocol: u8,
    payload: &[u8],
    size: u16,
) -> (Vec<u8>, Offload) {
    let (source, destination) = (source.into(), destination.into());
    let mut l4 = match protocol {
        TCP => vec![4, 0, 0, 80, 0xff, 0xff, 0xf0, 0, 0, 0, 0, 7, 0x50, 0x19, 1, 0, 0, 0, 0, 0],
        _ => vec![4, 0, 0, 80, 0, 0, 0, 0],
    };
    let is_tcp = protocol == TCP;
    l4.extend(payload);
    if protocol == UDP {
        let length = (l4.len() as u16).to_be_bytes();
        l4[4..6].copy_from_slice(&length);
    }
    let offset = if is_tcp { 16 } else { 6 };
    let pseudo = checksum::Sum::pseudo(source, destination, protocol, l4.len()).partial();
    l4[offset..offset + 2].copy_from_slice(&pseudo.to_be_bytes());
    let header = Header::new(source, destination, protocol).bytes(l4.len()).unwrap();
    let kind = match (is_tcp, source.is_ipv4()) {
        (true, true) => Kind::TcpV4,
        (true, false) => Kind::TcpV6,
        (false, _) => Kind::Udp,
    };
    let checksum = PartialChecksum { start: header.len() as u16, offset: offset as u16 };
    let offload =
        Offload { checksum: Some(checksum), segmentation: Some(Segmentation { kind, size }) };
    ([&header[..], &l4].concat(), offload)
}

/// Puts TCP segments or UDP datagrams together as their receiver would.
pub(crate) fn received(packets: &[(Place, Vec<u8>)], size: usize) -> Vec<u8> {
    let mut whole = Vec::new();
    for (number, (_, bytes)) in packets.iter().enumerate() {
        assert_right(bytes);
        let packet = Packet::parse(bytes, bytes.len()).unwrap();
        let l4 = packet.payload();
        let is_last = number + 1 == packets.len();
        let payload = if packet.protocol() == TCP {
            let seq = u32::from_be_bytes(*l4[4..].first_chunk().unwrap());
            assert_eq!(seq, 0xffff_f000u32.wrapping_add(whole.len() as u32));
            assert_eq!(l4[13], if is_last { 0x19 } else { 0x10 }, "FIN and PSH are the last's");
            &l4[20..]
        } else {
            assert_eq!(usize::from(u16::from_be_bytes([l4[4], l4[5]])), l4.len());
            &l4[8..]
        };
        assert!(is_last || payload.len() == size);
        whole.extend(payload);
    }
    whole
}

#[test]
fn a_large_packet_arrives_as_right_packets_of_the_way() {
    let transport =
        |a: IpAddr, b: IpAddr| (plain((a, 0x1001), (b, 0x2001)), plain((b, 0x2001), (a, 0x1001)));
    let (a, b): (IpAddr, IpAddr) = (A.into(), B.into());
    let (a6, b6): (IpAddr, IpAddr) = (A6.into(), B6.into());
    let cases = [
        (transport(a, b), a, b),
        (transport(a6, b6), a6, b6),
        (tunnel_mode(A, B), INNER_A[0], INNER_B[0]),
        (tunnel_mode(A6, B6), INNER_A[0], INNER_B[0]),
        (tunnel_mode(A, B), INNER_A[1], INNER_B[1]),
    ];
    for ((ours, theirs), near, far) in cases {
        let (mut ours, mut theirs) = both(ours, theirs);
        for protocol in [TCP, UDP] {
            for length in [1, 1200, 1201, 2400, 65_000] {
                let payload = text(length);
                let (packet, offload) = large(near, far, protocol, &payload, 1200);
                let mut batch = Batch::default();
                let passed = seal_with(&mut ours, 0, &packet, offload, &mut batch).unwrap();
                assert_eq!(passed, Passed { packets: length.div_ceil(1200), bytes: packet.len() });
                assert!(batch.packets().all(|(_, wire)| wire.len() <= usize::from(WAY) - 28));
                let arrived = open_all(&mut theirs, &batch);
                assert_eq!(arrived.len(), passed.packets);
                assert_eq!(received(&arrived, 1200), payload);
                assert_is_put_together(&arrived, &packet, protocol, &payload);
            }
        }
    }
}

/// For a guest that takes large packets these are few; for another they stay as they came.
fn assert_is_put_together(arrived: &[(Place, Vec<u8>)], sent: &[u8], protocol: u8, payload: &[u8]) {
    for accepts in [ALL, Accepts::default()] {
        let mut run = Run::new(accepts);
        let mut delivered = Vec::new();
        let mut take = |run: &mut Run<'_>| {
            run.flush(|merged| {
                let bytes = [&[merged.headers], merged.payloads].concat().concat();
                delivered.push((bytes, merged.offload, merged.payloads.len()));
            });
        };
        for (_, packet) in arrived {
            // As tunnel mode has it: all of the packet in one piece.
            if run.push(&[], packet).is_err() {
                take(&mut run);
                run.push(&[], packet).unwrap();
            }
        }
        take(&mut run);
        if accepts == Accepts::default() {
            assert_eq!(delivered.len(), arrived.len());
            assert!(delivered.iter().all(|(_, offload, _)| *offload == Offload::default()));
            continue;
        }
        assert_eq!(delivered.iter().map(|(.., packets)| packets).sum::<usize>(), arrived.len());
        let headers = sent.len() - payload.len();
        let of = |(bytes, ..): &(Vec<u8>, Offload, usize)| bytes[headers..].to_vec();
        assert_eq!(delivered.iter().flat_map(of).collect::<Vec<_>>(), payload);
        assert_eq!(delivered.len(), 1, "{protocol}: {} packets", arrived.len());
    }
}

#[test]
fn tcp_segments_are_made_to_fit_the_way_and_datagrams_are_the_guests_own() {
    let (mut ours, mut theirs) = ends(Cipher::AesCbc256);
    let mtu = ours.get(0).unwrap().mtu();
    let payload = text(20_000);
    let (packet, offload) = large(A, B, TCP, &payload, 9000);
    let mut batch = Batch::default();
    seal_with(&mut ours, 0, &packet, offload, &mut batch).unwrap();
    let arrived = open_all(&mut theirs, &batch);
    assert_eq!(received(&arrived, usize::from(mtu) - 40), payload);
    let (packet, offload) = large(A, B, UDP, &payload, 9000);
    let mut batch = Batch::default();
    let stopped = seal_with(&mut ours, 0, &packet, offload, &mut batch);
    assert_eq!((stopped, batch.is_empty()), (Err(Stopped::TooBig(mtu)), true));
}

#[test]
fn a_partial_checksum_is_made_whole() {
    let (mut ours, mut theirs) = ends(Cipher::Null);
    for protocol in [TCP, UDP] {
        let (packet, offload) = large(A, B, protocol, &text(333), 1000);
        let offload = Offload { segmentation: None, ..offload };
        let mut batch = Batch::default();
        seal_with(&mut ours, 0, &packet, offload, &mut batch).unwrap();
        let arrived = open_all(&mut theirs, &batch);
        assert_right(&arrived[0].1);
    }
}

#[test]
fn packets_that_are_not_what_they_are_said_to_be_are_not_cut() {
    let (mut ours, _) = ends(Cipher::Null);
    let (tcp, good) = large(A, B, TCP, &text(3000), 1000);
    let (udp, good_udp) = large(A, B, UDP, &text(3000), 1000);
    let mut syn = tcp.clone();
    syn[33] |= 2;
    let mut short_header = tcp.clone();
    short_header[32] = 0x40;
    let checksum = |start, offset| Some(PartialChecksum { start, offset });
    let kind = |kind| Offload { segmentation: Some(Segmentation { kind, size: 1000 }), ..good };
    let size = |size, of: Offload| Offload {
        segmentation: of.segmentation.map(|s| Segmentation { size, ..s }),
        ..of
    };
    let lies = [
        (&tcp, kind(Kind::Udp)),
        (&tcp, kind(Kind::TcpV6)),
        (&udp, kind(Kind::TcpV4)),
        (&tcp, size(0, good)),
        (&tcp, size(1, good)),
        (&udp, size(1, good_udp)),
        (&syn, good),
        (&short_header, good),
        (&tcp, Offload { checksum: None, ..good }),
        (&tcp, Offload { checksum: checksum(0, 16), ..good }),
        (&tcp, Offload { checksum: checksum(20, 2), ..good }),
        (&tcp, Offload { checksum: checksum(20, 0xffff), ..good }),
        (&tcp, Offload { checksum: checksum(0xffff, 0xffff), ..good }),
        (&tcp, Offload { checksum: checksum(12, 4), segmentation: None }),
        (&tcp, Offload { checksum: checksum(20, 0), segmentation: None }),
        (&tcp, Offload { checksum: checksum(3039, 0), segmentation: None }),
    ];
    let mut batch = Batch::default();
    for (at, (packet, offload)) in lies.into_iter().enumerate() {
        let stopped = seal_with(&mut ours, 0, packet, offload, &mut batch);
        assert_eq!(stopped, Err(Stopped::Silently(Reason::Offload)), "lie {at}");
    }
    assert!(batch.is_empty());
    assert_eq!(ours.get(0).unwrap().drops.of(Reason::Offload), 16);
}

#[test]
fn a_superpacket_with_several_spis_is_for_several_spaces() {
    let mut switch = Tunnels::default();
    let red = add(&mut switch, plain((A, 0x1001), (B, 0x2001))).unwrap();
    let blue = add(&mut switch, plain((A, 0x1002), (B, 0x2002))).unwrap();
    let mut peer = Tunnels::default();
    add(&mut peer, plain((B, 0x2001), (A, 0x1001))).unwrap();
    add(&mut peer, plain((B, 0x2002), (A, 0x1002))).unwrap();
    let mut batch = Batch::default();
    for place in [0, 1, 1, 0] {
        seal(&mut peer, place, &packet(B, A, 100), &mut batch).unwrap();
    }
    let mut messages = Vec::new();
    batch.messages(|_| true, &mut messages);
    assert_eq!(messages.len(), 1, "they travel together");
    let places: Vec<_> = open_all(&mut switch, &batch).iter().map(|(place, _)| *place).collect();
    assert_eq!(places, [red, blue, blue, red]);
}
