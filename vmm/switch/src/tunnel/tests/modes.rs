//! Modes, families and suites: what carries what, and what the outer header says of it.

use std::net::Ipv6Addr;

use super::*;
use crate::overlay::Dscp;

pub(crate) const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
pub(crate) const B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x20);

/// What the spaces of both ends are called inside, in tunnel mode.
pub(crate) const INNER_A: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, 5)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 5)),
];
pub(crate) const INNER_B: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 2, 0, 5)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 5)),
];

/// The overlays of both ends in tunnel mode, with inner addresses of both families.
pub(super) fn tunnel_mode(a: impl Into<IpAddr>, b: impl Into<IpAddr>) -> (Overlay, Overlay) {
    let (a, b) = (a.into(), b.into());
    let (mut ours, mut theirs) = (plain((a, 0x1001), (b, 0x2001)), plain((b, 0x2001), (a, 0x1001)));
    for (overlay, own) in [(&mut ours, INNER_A), (&mut theirs, INNER_B)] {
        overlay.mode = overlay::Mode::Tunnel;
        overlay.addresses = own.to_vec();
    }
    (ours, theirs)
}

fn syn_and_data(source: IpAddr, destination: IpAddr) -> Vec<u8> {
    let tcp = [&[4, 0, 0, 80][..], &[7; 8], &[0x50, 0x18, 1, 0, 0, 0, 0, 0], b"GET /"].concat();
    carried_by(source, destination, TCP, tcp)
}

#[test]
fn every_family_travels_in_every_family_raw_and_in_udp() {
    let outer: [(IpAddr, IpAddr); 2] = [(A.into(), B.into()), (A6.into(), B6.into())];
    for (a, b) in outer {
        for encapsulation in [Encapsulation::default(), Encapsulation::Raw] {
            let transport = (plain((a, 0x1001), (b, 0x2001)), plain((b, 0x2001), (a, 0x1001)));
            let inner = [(a, b)];
            let tunnel_inner: Vec<_> = INNER_A.into_iter().zip(INNER_B).collect();
            for ((mut ours, mut theirs), inner) in
                [(transport, &inner[..]), (tunnel_mode(a, b), &tunnel_inner[..])]
            {
                (ours.encapsulation, theirs.encapsulation) = (encapsulation, encapsulation);
                let (mut ours, mut theirs) = both(ours, theirs);
                for (near, far) in inner {
                    for sent in [packet(*near, *far, 100), syn_and_data(*near, *far)] {
                        assert_arrives(&mut ours, &mut theirs, &sent);
                    }
                    assert_arrives(&mut theirs, &mut ours, &packet(*far, *near, 100));
                    longest_packets_fit(&mut ours, &mut theirs, *near, *far);
                }
            }
        }
    }
}

fn assert_arrives(from: &mut Tunnels, to: &mut Tunnels, sent: &[u8]) {
    let arrived = send(from, to, sent).unwrap();
    assert_eq!(arrived.len(), 1);
    assert_right(&arrived[0]);
    // In transport mode the header is made anew: all but its checksum and identification.
    let [ours, theirs] =
        [sent, &arrived[0]].map(|bytes| Packet::parse(bytes, bytes.len()).unwrap());
    assert_eq!((ours.source(), ours.destination()), (theirs.source(), theirs.destination()));
    assert_eq!((ours.protocol(), ours.payload()), (theirs.protocol(), theirs.payload()));
    if from.get(0).unwrap().mode() == Mode::Tunnel {
        assert_eq!(sent, arrived[0], "tunnel mode changes nothing");
    }
}

fn longest_packets_fit(from: &mut Tunnels, to: &mut Tunnels, near: IpAddr, far: IpAddr) {
    let mtu = from.get(0).unwrap().mtu();
    let payload = usize::from(mtu) - if near.is_ipv4() { 20 } else { 40 };
    let (route, wire) = sealed(from, &packet(near, far, payload));
    let outer = if route.to.is_ipv4() { 20 } else { 40 } + if route.is_raw() { 0 } else { 8 };
    let room = usize::from(WAY) - outer - wire.len();
    assert!(room < 4, "{room} bytes more would fit, which is more than alignment takes");
    assert!(open(to, &route, &wire).is_some());
    let too_big = send(from, to, &packet(near, far, payload + 1));
    assert_eq!(too_big, Err(Stopped::TooBig(mtu)));
}

#[test]
fn every_suite_carries_packets_with_long_and_short_numbers() {
    for suite in Suite::ALL {
        for esn in [false, true] {
            let (mut ours, mut theirs) =
                (plain((A, 0x1001), (B, 0x2001)), plain((B, 0x2001), (A, 0x1001)));
            ours.sas = vec![SaPair { esn, ..pair(0x1001, 0x2001, suite) }];
            theirs.sas = vec![SaPair { esn, ..pair(0x2001, 0x1001, suite) }];
            let (mut a, mut b) = both(ours, theirs);
            for length in [8, 9, 100, 1300] {
                let sent = packet(A, B, length);
                let arrived = send(&mut a, &mut b, &sent).unwrap();
                assert_eq!((arrived.len(), &arrived[0][20..]), (1, &sent[20..]), "{suite} {esn}");
                assert_eq!(send(&mut b, &mut a, &packet(B, A, length)).unwrap().len(), 1);
            }
            let (route, mut wire) = sealed(&mut a, &packet(A, B, 50));
            wire[20] ^= 1;
            assert!(open(&mut b, &route, &wire).is_none(), "{suite} {esn}");
        }
    }
}

#[test]
fn ends_that_disagree_about_long_numbers_open_nothing() {
    let (mut ours, theirs) = (plain((A, 0x1001), (B, 0x2001)), plain((B, 0x2001), (A, 0x1001)));
    ours.sas[0].esn = true;
    let (mut a, mut b) = both(ours, theirs);
    assert!(send(&mut a, &mut b, &packet(A, B, 50)).unwrap().is_empty());
    assert_eq!(inbound(&b, 0).discards().of(esp::Discard::Forged), 1);
}

#[test]
fn a_payload_is_no_packet_and_a_packet_no_payload() {
    let (tunnel, _) = tunnel_mode(A, B);
    let (mut ours, mut theirs) = both(tunnel, plain((B, 0x2001), (A, 0x1001)));
    assert!(send(&mut theirs, &mut ours, &packet(B, A, 40)).unwrap().is_empty());
    let sent = packet(INNER_A[0], INNER_B[0], 40);
    assert!(send(&mut ours, &mut theirs, &sent).unwrap().is_empty());
    for end in [&ours, &theirs] {
        assert_eq!(inbound(end, 0).discards().of(esp::Discard::Malformed), 1);
    }
}

/// A datagram with this traffic class.
fn marked(source: IpAddr, destination: IpAddr, class: u8) -> Vec<u8> {
    let mut sent = packet(source, destination, 20);
    let header = Header { traffic_class: class, ..Header::new(source, destination, UDP) };
    let header = header.bytes(20).unwrap();
    sent[..header.len()].copy_from_slice(&header);
    sent
}

fn class_of(bytes: &[u8]) -> u8 {
    Packet::parse(bytes, bytes.len()).unwrap().traffic_class()
}

#[test]
fn the_outer_header_shows_congestion_and_the_class_only_where_it_is_to() {
    for (dscp, kept) in [(Dscp::Clear, 0b11), (Dscp::Copy, 0xff)] {
        for (near, far) in INNER_A.into_iter().zip(INNER_B) {
            let (mut ours, mut theirs) = tunnel_mode(A, B);
            (ours.dscp, theirs.dscp) = (dscp, dscp);
            let (mut ours, mut theirs) = both(ours, theirs);
            for class in [0, 0b01, 0b10, 0b11, 0xb8, 0xba] {
                let sent = marked(near, far, class);
                let (route, wire) = sealed(&mut ours, &sent);
                assert_eq!(route.tos, class & kept);
                let (_, arrived) = open(&mut theirs, &route, &wire).unwrap();
                assert_eq!(class_of(&arrived), class, "the inner class is the sender's");
            }
        }
        let (mut ours, mut theirs) =
            (plain((A, 0x1001), (B, 0x2001)), plain((B, 0x2001), (A, 0x1001)));
        (ours.dscp, theirs.dscp) = (dscp, dscp);
        let (mut ours, mut theirs) = both(ours, theirs);
        for class in [0, 0b11, 0xb8, 0xba] {
            let arrived = send(&mut ours, &mut theirs, &marked(A.into(), B.into(), class)).unwrap();
            assert_eq!(class_of(&arrived[0]), class & kept);
        }
    }
}

#[test]
fn congestion_on_the_way_reaches_the_inner_packet_as_rfc_6040_has_it() {
    // Figure 4: for each inner field what comes of each outer one; none is a drop. The order of
    // rows and columns is that of the codes: not-ECT, ECT(1), ECT(0), CE.
    let table: [[Option<u8>; 4]; 4] = [
        [Some(0), Some(0), Some(0), None],
        [Some(1), Some(1), Some(1), Some(3)],
        [Some(2), Some(1), Some(2), Some(3)],
        [Some(3), Some(3), Some(3), Some(3)],
    ];
    for (near, far) in INNER_A.into_iter().zip(INNER_B) {
        let (ours, theirs) = tunnel_mode(A6, B6);
        let (mut ours, mut theirs) = both(ours, theirs);
        let mut dropped = 0;
        for (inner, row) in (0..).zip(table) {
            for (outer, expected) in (0..).zip(row) {
                let (route, wire) = sealed(&mut ours, &marked(near, far, 0xb8 | inner));
                let arrived = open(&mut theirs, &Route { tos: outer, ..route }, &wire);
                let class = arrived.map(|(_, packet)| {
                    assert_right(&packet);
                    class_of(&packet)
                });
                assert_eq!(class, expected.map(|ecn| 0xb8 | ecn), "{inner} in {outer}");
                dropped += u64::from(expected.is_none());
            }
        }
        assert_eq!(inbound(&theirs, 0).discards().of(esp::Discard::Congestion), dropped);
    }
}

#[test]
fn checksums_are_right_again_behind_a_nat() {
    // The peer knows itself as C, and its NAT makes B of it; we sum what we see.
    for protocol in [TCP, UDP] {
        let (mut ours, mut theirs) =
            both(plain((A, 0x1001), (B, 0x2001)), plain((C, 0x2001), (A, 0x1001)));
        let mut payload = vec![0; 40];
        payload[..4].copy_from_slice(&[0, 7, 4, 0]);
        payload[4..6].copy_from_slice(&[0, 40]);
        payload[12] = 0x50;
        let (route, wire) = sealed(&mut theirs, &carried_by(C, A, protocol, payload));
        let seen = Route { from: (B, 30_000).into(), ..route };
        let (_, arrived) = open(&mut ours, &seen, &wire).unwrap();
        assert_right(&arrived);
        assert_eq!(arrived[12..16], B.octets());
    }
}
