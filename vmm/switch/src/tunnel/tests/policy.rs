//! Which SA a packet takes, and through which it may come.

use super::modes::{INNER_A, INNER_B, tunnel_mode};
use super::*;
use crate::overlay::{Action, Policy, Range};

const SUITE: Suite = Suite::Combined(Cipher::Null, Integrity::HmacSha256);

/// Datagrams to a port range at the other end.
fn to_ports(ports: [u16; 2]) -> Traffic {
    Traffic { protocol: Some(UDP), remote_ports: Some(ports), ..Traffic::default() }
}

/// The same, as the other end sees it.
fn from_ports(ports: [u16; 2]) -> Traffic {
    Traffic { protocol: Some(UDP), local_ports: Some(ports), ..Traffic::default() }
}

/// One SA pair for all, one for UDP ports 7 to 20, one for port 7 alone; ours and theirs.
fn narrower_and_narrower() -> (Overlay, Overlay) {
    let (mut ours, mut theirs) = (plain((A, 0x1001), (B, 0x2001)), plain((B, 0x2001), (A, 0x1001)));
    for (number, ports) in [(2, [7, 20]), (3, [7, 7])] {
        let (near, far) = (0x1000 + number, 0x2000 + number);
        ours.sas.push(SaPair { traffic: to_ports(ports), ..pair(near, far, SUITE) });
        theirs.sas.push(SaPair { traffic: from_ports(ports), ..pair(far, near, SUITE) });
    }
    (ours, theirs)
}

fn spi_of(wire: &[u8]) -> u32 {
    u32::from_be_bytes(*wire.first_chunk().unwrap())
}

#[test]
fn the_most_specific_sa_carries_a_packet_and_the_other_end_agrees() {
    let (ours, theirs) = narrower_and_narrower();
    let (mut ours, mut theirs) = both(ours, theirs);
    for (port, spi) in [(7, 0x2003), (8, 0x2002), (20, 0x2002), (21, 0x2001)] {
        let (route, wire) = sealed(&mut ours, &datagram((A, 1000), (B, port), 20));
        assert_eq!(spi_of(&wire), spi);
        assert!(open(&mut theirs, &route, &wire).is_some());
        let (route, wire) = sealed(&mut theirs, &datagram((B, port), (A, 1000), 20));
        assert_eq!(spi_of(&wire), spi - 0x1000);
        assert!(open(&mut ours, &route, &wire).is_some());
    }
    // ICMP has no ports: the pair for everything carries it.
    let (_, wire) = sealed(&mut ours, &carried_by(A, B, 1, vec![8, 0, 0xf7, 0xff, 0, 0, 0, 0]));
    assert_eq!(spi_of(&wire), 0x2001);
}

#[test]
fn a_packet_comes_through_the_sa_of_its_policy_or_not_at_all() {
    // This peer uses each of its SAs for everything.
    let (ours, _) = narrower_and_narrower();
    let mut ours_tunnels = Tunnels::default();
    add(&mut ours_tunnels, ours).unwrap();
    let mut send_through = |number: u32, port: u16| {
        let mut peer = Tunnels::default();
        add(&mut peer, plain((B, 0x2000 + number), (A, 0x1000 + number))).unwrap();
        // Each round's SAs start anew at sequence number 1: be beyond what was seen.
        let mut last = None;
        for _ in 0..=inbound(&ours_tunnels, number as usize - 1).top() {
            last = Some(sealed(&mut peer, &datagram((B, port), (A, 1000), 20)));
        }
        let (route, wire) = last.unwrap();
        let arrived = open(&mut ours_tunnels, &route, &wire).is_some();
        let discards = *inbound(&ours_tunnels, number as usize - 1).discards();
        let of = |reason| discards.of(reason);
        (arrived, of(esp::Discard::ForeignSelector), of(esp::Discard::Policy))
    };
    assert_eq!(send_through(3, 7), (true, 0, 0));
    assert_eq!(send_through(3, 8), (false, 1, 0), "outside of the SA's selectors");
    assert_eq!(send_through(2, 7), (false, 0, 1), "inside, but another SA is for it");
    assert_eq!(send_through(2, 8), (true, 0, 1));
    assert_eq!(send_through(1, 8), (false, 0, 1));
    assert_eq!(send_through(1, 21), (true, 0, 1));
}

#[test]
fn what_a_policy_discards_leaves_and_enters_by_no_sa() {
    let (mut ours, theirs) = (plain((A, 0x1001), (B, 0x2001)), plain((B, 0x2001), (A, 0x1001)));
    ours.policies = vec![
        Policy { traffic: to_ports([9, 20]), action: Action::Discard },
        // More specific: an exception to the exception.
        Policy { traffic: to_ports([11, 11]), action: Action::Protect(0) },
    ];
    let (mut ours, mut theirs) = both(ours, theirs);
    for (port, passes) in [(8, true), (9, false), (20, false), (11, true), (21, true)] {
        let out = send(&mut ours, &mut theirs, &datagram((A, 1000), (B, port), 20));
        assert_eq!(out.is_ok(), passes, "{port}");
        assert!(passes || out == Err(Stopped::Prohibited));
        let back = send(&mut theirs, &mut ours, &datagram((B, port), (A, 1000), 20)).unwrap();
        assert_eq!(back.len(), usize::from(passes), "{port}");
    }
    assert_eq!(inbound(&ours, 0).discards().of(esp::Discard::Policy), 2);
}

#[test]
fn tunnel_mode_keeps_to_its_ranges_and_a_narrower_range_to_its_own_sa() {
    let (mut ours, mut theirs) = tunnel_mode(A, B);
    let range = |text: &str| vec![text.parse::<Range>().unwrap()];
    ours.sas[0].traffic.remote = range("10.2.0.0/16");
    ours.sas.push(pair(0x1002, 0x2002, SUITE));
    ours.sas[1].traffic.remote = range("10.2.0.0/29");
    theirs.sas.push(pair(0x2002, 0x1002, SUITE));
    theirs.addresses = vec![INNER_B[0]];
    let (mut ours, mut theirs) = both(ours, theirs);
    let to = |address: [u8; 4]| packet(INNER_A[0], address, 20);
    let (_, wire) = sealed(&mut ours, &to([10, 2, 0, 7]));
    assert_eq!(spi_of(&wire), 0x2002);
    let (_, wire) = sealed(&mut ours, &to([10, 2, 0, 8]));
    assert_eq!(spi_of(&wire), 0x2001);
    for outside in [to([10, 3, 0, 1]), packet(INNER_A[1], INNER_B[1], 20)] {
        assert_eq!(send(&mut ours, &mut theirs, &outside), Err(Stopped::Prohibited));
    }
    // The peer's SAs are both for everybody; the first of two equals carries its packet.
    let foreign = packet(INNER_B[0], INNER_A[0], 20);
    assert!(send(&mut theirs, &mut ours, &foreign).unwrap().is_empty());
    assert_eq!(inbound(&ours, 0).discards().of(esp::Discard::Policy), 1);
}

#[test]
fn a_space_uses_no_address_but_its_own_in_tunnel_mode() {
    let (ours, theirs) = tunnel_mode(A, B);
    let (mut ours, mut theirs) = both(ours, theirs);
    let foreign = Stopped::Silently(Reason::ForeignSource);
    for source in [A.into(), IpAddr::from([10, 1, 0, 6]), INNER_B[0]] {
        let sent = packet(source, INNER_B[0], 20);
        assert_eq!(send(&mut ours, &mut theirs, &sent), Err(foreign));
    }
    // A peer that sends to another address than the space's.
    let sent = packet(INNER_B[0], [10, 1, 0, 6], 20);
    assert!(send(&mut theirs, &mut ours, &sent).unwrap().is_empty());
    assert_eq!(inbound(&ours, 0).discards().of(esp::Discard::ForeignSelector), 1);
}

#[test]
fn a_later_fragment_does_not_slip_past_a_policy_that_asks_for_ports() {
    let (mut ours, theirs) = tunnel_mode(A, B);
    let discard = Policy { traffic: to_ports([9, 9]), action: Action::Discard };
    ours.policies = vec![discard];
    let (mut ours, mut theirs) = both(ours, theirs);
    let fragment = |offset: u16, protocol: u8| {
        let mut packet = packet(INNER_A[0], INNER_B[0], 24);
        packet[6..8].copy_from_slice(&offset.to_be_bytes());
        packet[9] = protocol;
        packet[10..12].fill(0);
        let sum = checksum::Sum::of(&packet[..20]).checksum();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    };
    assert_eq!(send(&mut ours, &mut theirs, &fragment(0x2000, UDP)).unwrap().len(), 1);
    assert_eq!(send(&mut ours, &mut theirs, &fragment(5, UDP)), Err(Stopped::Prohibited));
    assert_eq!(send(&mut ours, &mut theirs, &fragment(5, TCP)).unwrap().len(), 1);
}

#[test]
fn traffic_that_cannot_be_told_apart_is_refused() {
    let with = |traffic: Traffic| {
        let mut overlay = plain((A, 0x1001), (B, 0x2001));
        overlay.sas[0].traffic = traffic;
        add(&mut Tunnels::default(), overlay).unwrap_err().to_string()
    };
    let ports = Traffic { remote_ports: Some([7, 7]), ..Traffic::default() };
    assert!(with(ports.clone()).contains("a protocol with ports"));
    assert!(with(Traffic { protocol: Some(1), ..ports }).contains("a protocol with ports"));
    let elsewhere = Traffic { remote: vec![Range::only(C)], ..Traffic::default() };
    assert!(with(elsewhere).contains("transport mode"));
    assert!(!with(to_ports([9, 7])).is_empty());
    let mut overlay = plain((A, 0x1001), (B, 0x2001));
    overlay.policies = vec![Policy { traffic: to_ports([7, 7]), action: Action::Protect(1) }];
    let refusal = add(&mut Tunnels::default(), overlay).unwrap_err().to_string();
    assert!(refusal.contains("pair 1"), "{refusal}");
}
