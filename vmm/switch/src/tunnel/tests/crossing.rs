//! Two spaces of this host, bound to each other.

use super::*;
use crate::overlay::{Action, Policy};

/// An alias address each: under which the one sees the other.
const RED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const BLUE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// A space that sees its neighbour under an alias, and a pair of SPIs.
fn local(own: Ipv4Addr, alias: Ipv4Addr, inbound: u32, outbound: u32) -> Overlay {
    let mut overlay = plain((own, inbound), (alias, outbound));
    overlay.encapsulation = Encapsulation::Local;
    overlay.sas[0].inbound.auth_key = Key::default();
    overlay.sas[0].outbound.auth_key = Key::default();
    overlay
}

/// Red and blue share this host's address A, and call each other by aliases.
fn red_and_blue() -> Tunnels {
    let mut tunnels = Tunnels::default();
    assert_eq!(add(&mut tunnels, local(A, BLUE, 0x101, 0x102)).unwrap(), 0);
    assert_eq!(add(&mut tunnels, local(A, RED, 0x102, 0x101)).unwrap(), 1);
    tunnels
}

/// Sends a packet of a space, and takes in what crosses.
fn cross(tunnels: &mut Tunnels, place: Place, packet: &[u8]) -> Vec<(Place, Vec<u8>)> {
    let mut batch = Batch::default();
    seal(tunnels, place, packet, &mut batch).unwrap();
    assert!(batch.is_empty(), "nothing is for a socket");
    let mut arrived = Vec::new();
    tunnels.cross(&mut batch.crossing, &mut arrived);
    arrived.iter().map(|packet| (packet.place, [&packet.made[..], packet.rest].concat())).collect()
}

#[test]
fn two_spaces_of_one_address_talk_under_aliases() {
    let mut tunnels = red_and_blue();
    assert_eq!(tunnels.sad.len(), 0, "nothing of it can be met on the wire");
    for (from, to, alias, seen_as) in [(0, 1, BLUE, RED), (1, 0, RED, BLUE)] {
        let sent = packet(A, alias, 200);
        let arrived = cross(&mut tunnels, from, &sent);
        assert_eq!((arrived.len(), arrived[0].0), (1, to));
        let arrived = &arrived[0].1;
        assert_right(arrived);
        assert_eq!((&arrived[12..16], &arrived[16..20]), (&seen_as.octets()[..], &A.octets()[..]));
        assert_eq!(arrived[28..], sent[28..]);
    }
    let Some(PairView::Local([inbound, outbound])) = tunnels.pair(0, 0) else { panic!() };
    let passed = Passage { packets: 1, bytes: 200 };
    assert_eq!((inbound.1, outbound.1), (passed, passed));
    assert_eq!((inbound.0.number(), outbound.0.number()), (0x101, 0x102));
}

#[test]
fn a_local_binding_is_under_the_policies_of_both() {
    let mut tunnels = Tunnels::default();
    let traffic = |protocol, remote: bool, port: u16| Traffic {
        protocol: Some(protocol),
        remote_ports: remote.then_some([port, port]),
        local_ports: (!remote).then_some([port, port]),
        ..Traffic::default()
    };
    let mut red = local(A, BLUE, 0x101, 0x102);
    red.policies = vec![Policy { traffic: traffic(UDP, true, 9), action: Action::Discard }];
    let mut blue = local(A, RED, 0x102, 0x101);
    blue.policies = vec![Policy { traffic: traffic(UDP, false, 8), action: Action::Discard }];
    add(&mut tunnels, red).unwrap();
    add(&mut tunnels, blue).unwrap();
    let to = |port| datagram((A, 1000), (BLUE, port), 20);
    assert_eq!(cross(&mut tunnels, 0, &to(7)).len(), 1);
    assert!(cross(&mut tunnels, 0, &to(8)).is_empty());
    assert_eq!(tunnels.get(1).unwrap().drops.of(Reason::Policy), 1);
    let stopped = seal(&mut tunnels, 0, &to(9), &mut Batch::default());
    assert_eq!(stopped, Err(Stopped::Prohibited));
    let elsewhere = seal(&mut tunnels, 0, &packet(A, C, 20), &mut Batch::default());
    assert_eq!(elsewhere, Err(Stopped::Prohibited));
}

#[test]
fn who_is_bound_to_somebody_else_is_not_let_in() {
    let mut tunnels = red_and_blue();
    // It knows the SPI at which red receives, but red is bound to blue.
    let intruder = add(&mut tunnels, local(A, BLUE, 0x103, 0x101)).unwrap();
    assert!(cross(&mut tunnels, intruder, &packet(A, BLUE, 20)).is_empty());
    assert_eq!(tunnels.get(0).unwrap().drops.of(Reason::ForeignPeer), 1);
    // Nor is anybody at the other end of an SPI that nobody has.
    let alone = add(&mut tunnels, local(A, BLUE, 0x104, 0x999)).unwrap();
    assert!(cross(&mut tunnels, alone, &packet(A, BLUE, 20)).is_empty());
    assert_eq!(tunnels.strays.of(Reason::UnknownSpi), 1);
}

#[test]
fn a_local_spi_means_nothing_on_the_wire_and_a_wire_spi_nothing_inside() {
    let mut tunnels = red_and_blue();
    let (mut peer, _) = both(plain((B, 0x2001), (A, 0x101)), plain((A, 0x101), (B, 0x2001)));
    assert!(send(&mut peer, &mut tunnels, &packet(B, A, 20)).unwrap().is_empty());
    assert_eq!(tunnels.strays.of(Reason::UnknownSpi), 1);
    // One number is not both.
    assert!(add(&mut tunnels, plain((A, 0x101), (B, 0x2001))).is_err());
    let wire = add(&mut tunnels, plain((A, 0x1001), (B, 0x2001))).unwrap();
    assert!(add(&mut tunnels, local(A, RED, 0x1001, 0x102)).is_err());
    let to_wire = add(&mut tunnels, local(A, B, 0x105, 0x1001)).unwrap();
    assert!(cross(&mut tunnels, to_wire, &packet(A, B, 20)).is_empty());
    assert_eq!(tunnels.strays.of(Reason::UnknownSpi), 2);
    assert!(tunnels.get(wire).unwrap().drops.total() == 0);
}

#[test]
fn a_local_binding_has_no_keys_and_no_tunnel_mode_and_ends_with_its_space() {
    let mut tunnels = red_and_blue();
    let mut keyed = local(A, BLUE, 0x103, 0x104);
    keyed.sas[0].inbound.auth_key = Key::from_hex(&"01".repeat(32)).unwrap();
    let mut wrapped = local(A, BLUE, 0x103, 0x104);
    wrapped.mode = overlay::Mode::Tunnel;
    for (overlay, word) in [(keyed, "no keys"), (wrapped, "mode transport")] {
        let refusal = add(&mut tunnels, overlay).unwrap_err().to_string();
        assert!(refusal.contains(word), "{refusal}");
    }
    tunnels.remove(1);
    assert!(cross(&mut tunnels, 0, &packet(A, BLUE, 20)).is_empty());
    assert_eq!(tunnels.strays.of(Reason::UnknownSpi), 1);
    tunnels.remove(0);
    assert!(tunnels.locals.is_empty());
}
