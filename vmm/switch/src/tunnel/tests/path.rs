//! What fits the way: told to the space, believed of the network.

use std::net::SocketAddr;

use sys::socket::NetworkError;

use super::modes::{A6, B6, INNER_A, INNER_B, tunnel_mode};
use super::*;

const MINUTE_NS: u64 = 60_000_000_000;

/// What a router says about an ESP packet that it could not pass on.
fn complaint(wire: &[u8], to: SocketAddr, mtu: u32) -> NetworkError<'_> {
    NetworkError {
        errno: 90,
        mtu: Some(mtu),
        destination: Some(to),
        offender: Some([198, 51, 100, 1].into()),
        quoted: &wire[..8],
    }
}

#[test]
fn each_sa_has_the_mtu_its_suite_leaves_and_the_space_the_least() {
    let mut ours = plain((A, 0x1001), (B, 0x2001));
    let long = Suite::Combined(Cipher::AesCbc256, Integrity::HmacSha512);
    let traffic = Traffic { protocol: Some(TCP), ..Traffic::default() };
    ours.sas.push(SaPair { traffic, ..pair(0x1002, 0x2002, long) });
    let mut tunnels = Tunnels::default();
    add(&mut tunnels, ours).unwrap();
    let mut fits = |protocol: u8| {
        let mut length = 1500;
        loop {
            let sent = carried_by(A, B, protocol, vec![0; length - 20]);
            match seal(&mut tunnels, 0, &sent, &mut Batch::default()) {
                Ok(_) => return length,
                Err(Stopped::TooBig(mtu)) => length = usize::from(mtu),
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    // 1500 less IP, UDP, SPI and number; ICV of 16, trailer; header of 20 instead of the outer one.
    assert_eq!(fits(UDP), 1500 - 28 - 8 - 16 - 2 + 20);
    // Less the IV; ICV of 32; blocks of 16: 1500 - 28 - 8 - 16 - 32 is 1416, of which 1408 are used.
    assert_eq!(fits(TCP), 1408 - 2 + 20);
    assert_eq!(tunnels.get(0).unwrap().mtu(), 1426);
}

#[test]
fn the_way_is_found_narrow_by_errors_that_quote_an_sa_of_ours_alone() {
    let (mut ours, _) = ends(Cipher::Null);
    let wide = ours.get(0).unwrap().mtu();
    let (route, wire) = sealed(&mut ours, &packet(A, B, 20));
    let foreign_spi = [&[0, 0, 0x20, 9][..], &wire[4..]].concat();
    let path = |tunnels: &Tunnels| tunnels.get(0).unwrap().path_mtu();
    let lies = [
        // Another SA, another peer, another port, not on this socket, and nothing at all.
        (complaint(&foreign_spi, route.to, 1000), true),
        (complaint(&wire, (C, 4500).into(), 1000), true),
        (complaint(&wire, (B, 4501).into(), 1000), true),
        (complaint(&wire, route.to, 1000), false),
        (NetworkError { quoted: &wire[..3], ..complaint(&wire, route.to, 1000) }, true),
        (NetworkError { quoted: &[], ..complaint(&wire, route.to, 1000) }, true),
        (NetworkError { mtu: None, ..complaint(&wire, route.to, 1000) }, true),
        (NetworkError { destination: None, ..complaint(&wire, route.to, 1000) }, true),
        (complaint(&wire, route.to, u32::MAX), true),
        (complaint(&wire, route.to, 1500), true),
    ];
    for (lie, is_udp) in lies {
        ours.too_big(&lie, is_udp, 0);
        assert_eq!((path(&ours), ours.ages()), (WAY, false), "{lie:?}");
    }
    assert_eq!(ours.strays.of(Reason::ForeignError), 2);
    ours.too_big(&complaint(&wire, route.to, 1400), true, MINUTE_NS);
    assert_eq!((path(&ours), ours.get(0).unwrap().mtu()), (1400, wide - 100));
    let too_big = seal(&mut ours, 0, &packet(A, B, 1400), &mut Batch::default());
    assert_eq!(too_big, Err(Stopped::TooBig(wide - 100)));
    assert!(ours.ages());
    // Ten minutes later longer packets are tried again (RFC 1191 6.3).
    ours.forget_paths(11 * MINUTE_NS - 1);
    assert_eq!(path(&ours), 1400);
    ours.forget_paths(11 * MINUTE_NS);
    assert_eq!((path(&ours), ours.get(0).unwrap().mtu(), ours.ages()), (WAY, wide, false));
}

#[test]
fn an_error_counts_for_the_peer_where_it_is_now() {
    let (mut ours, mut theirs) = ends(Cipher::Null);
    let (route, wire) = sealed(&mut theirs, &packet(B, A, 20));
    let home: SocketAddr = (B, 4500).into();
    let away: SocketAddr = (C, 999).into();
    assert!(open(&mut ours, &Route { from: away, ..route }, &wire).is_some());
    let (_, wire) = sealed(&mut ours, &packet(A, B, 20));
    ours.too_big(&complaint(&wire, home, 1300), true, 0);
    assert_eq!(ours.get(0).unwrap().path_mtu(), WAY, "our packets do not take that way");
    ours.too_big(&complaint(&wire, away, 1300), true, 0);
    assert_eq!(ours.get(0).unwrap().path_mtu(), 1300);
}

#[test]
fn nobody_makes_a_way_narrower_than_the_family_has_them() {
    let outer: [(IpAddr, IpAddr, u16); 2] =
        [(A.into(), B.into(), 576), (A6.into(), B6.into(), 1280)];
    for (a, b, least) in outer {
        for encapsulation in [Encapsulation::default(), Encapsulation::Raw] {
            for suite in Suite::ALL {
                let mut overlay = plain((a, 0x1001), (b, 0x2001));
                overlay.sas = vec![pair(0x1001, 0x2001, suite)];
                overlay.encapsulation = encapsulation;
                let mut tunnels = Tunnels::default();
                add(&mut tunnels, overlay).unwrap();
                let (route, wire) = sealed(&mut tunnels, &packet(a, b, 20));
                tunnels.too_big(&complaint(&wire, route.to, 0), !route.is_raw(), 0);
                let tunnel = tunnels.get(0).unwrap();
                assert_eq!(tunnel.path_mtu(), least, "{suite}");
                assert!(tunnel.mtu() + 120 > least, "{suite}: {}", tunnel.mtu());
            }
        }
    }
}

/// A SYN that offers segments of `mss` bytes, after options that put the value at an odd place.
fn syn(source: IpAddr, destination: IpAddr, mss: u16, odd: bool) -> Vec<u8> {
    let [high, low] = mss.to_be_bytes();
    let options = if odd { [1, 2, 4, high, low, 0, 0, 0] } else { [2, 4, high, low, 1, 1, 1, 0] };
    let header = [0, 9, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0, 0x70, 0x02, 1, 0, 0, 0, 0, 0];
    carried_by(source, destination, TCP, [&header[..], &options].concat())
}

/// The MSS that a SYN offers.
fn mss_of(bytes: &[u8], odd: bool) -> u16 {
    let at = Packet::parse(bytes, bytes.len()).unwrap().payload_offset() + 22 + usize::from(odd);
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[test]
fn both_ends_hear_of_segments_that_fit() {
    // The peer's own way is wider than ours, so that what it lets pass is ours to clamp.
    let check = |(ours, theirs): (Overlay, Overlay), near: IpAddr, far: IpAddr| {
        let (mut a, mut b) = (Tunnels::default(), Tunnels::default());
        add(&mut a, ours).unwrap();
        b.add(theirs, 9000, 0, || [1; 16]).unwrap();
        let headers = if near.is_ipv4() { 40 } else { 60 };
        let fits = a.get(0).unwrap().mtu() - headers;
        for odd in [false, true] {
            for (offered, expected) in [(9000, fits), (fits + 1, fits), (fits, fits), (536, 536)] {
                let (route, wire) = sealed(&mut a, &syn(near, far, offered, odd));
                let (_, out) = open(&mut b, &route, &wire).unwrap();
                let back = send(&mut b, &mut a, &syn(far, near, offered, odd)).unwrap();
                for packet in [&out, &back[0]] {
                    assert_right(packet);
                    assert_eq!(mss_of(packet, odd), expected, "{near} {odd}");
                }
            }
        }
    };
    let transport = (plain((A, 0x1001), (B, 0x2001)), plain((B, 0x2001), (A, 0x1001)));
    check(transport, A.into(), B.into());
    for (near, far) in INNER_A.into_iter().zip(INNER_B) {
        check(tunnel_mode(A, B), near, far);
    }
}

#[test]
fn a_later_fragment_that_looks_like_a_syn_is_no_syn() {
    let (ours, theirs) = tunnel_mode(A, B);
    let (mut ours, mut theirs) = both(ours, theirs);
    let mut fragment = syn(INNER_A[0], INNER_B[0], 9000, false);
    fragment[6..8].copy_from_slice(&100u16.to_be_bytes());
    fragment[10..12].fill(0);
    let sum = checksum::Sum::of(&fragment[..20]).checksum();
    fragment[10..12].copy_from_slice(&sum.to_be_bytes());
    let arrived = send(&mut ours, &mut theirs, &fragment).unwrap();
    assert_eq!(arrived, [fragment]);
}
