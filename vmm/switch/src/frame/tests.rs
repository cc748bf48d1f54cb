use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use esp::checksum::Sum;

use super::*;

const GUEST: Mac = [2, b'P', b'S', 1, 0, 1];
const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
const PEER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x20);

fn own() -> Addresses {
    Addresses::new(&[OWN.into(), OWN6.into()]).unwrap()
}

fn frame(to: Mac, kind: [u8; 2], rest: &[u8]) -> Vec<u8> {
    [&to[..], &GUEST, &kind, rest].concat()
}

fn sum_of(from: IpAddr, to: IpAddr, message: &[u8]) -> u16 {
    Sum::pseudo(from, to, 58, message.len()).plus(Sum::of(message)).checksum()
}

fn question(target: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![0, 1, 8, 0, 6, 4, 0, 1];
    message.extend(GUEST);
    message.extend(OWN.octets());
    message.extend([0; 6]);
    message.extend(target.octets());
    frame([0xff; 6], ARP, &message)
}

fn solicitation(source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 24, 58, 255];
    packet.extend(source.octets());
    packet.extend(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0x20).octets());
    packet.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    packet.extend(target.octets());
    frame([0x33, 0x33, 0xff, 0, 0, 0x20], IPV6, &packet)
}

#[test]
fn every_address_but_the_spaces_own_is_at_the_switch() {
    for target in [Ipv4Addr::new(192, 0, 2, 20), Ipv4Addr::new(8, 8, 8, 8)] {
        let question = question(target);
        let Ok(Asked::Neighbour(answer)) = from_guest(&question, GUEST, own()) else { panic!() };
        let reply = answer.bytes();
        assert_eq!((&reply[..6], &reply[6..12], reply.len()), (&GUEST[..], &SWITCH[..], 42));
        assert_eq!(reply[20..22], [0, 2]);
        assert_eq!((&reply[22..28], &reply[28..32]), (&SWITCH[..], &target.octets()[..]));
    }
    for target in [OWN, Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)] {
        assert_eq!(from_guest(&question(target), GUEST, own()), Err(Reason::Neighbour));
    }
}

#[test]
fn a_neighbour_of_ipv6_is_at_the_switch_as_well() {
    let link_local = "fe80::1".parse().unwrap();
    for (source, to) in [
        (OWN6, OWN6),
        (link_local, link_local),
        (Ipv6Addr::UNSPECIFIED, "ff02::1".parse().unwrap()),
    ] {
        let question = solicitation(source, PEER6);
        let Ok(Asked::Neighbour(answer)) = from_guest(&question, GUEST, own()) else { panic!() };
        let (header, message) = answer.bytes()[HEADER..].split_at(40);
        assert_eq!((&header[8..24], &header[24..]), (&PEER6.octets()[..], &to.octets()[..]));
        assert_eq!((message[0], message[4], header[7]), (136, 0x60, 255));
        assert_eq!((&message[8..24], &message[26..]), (&PEER6.octets()[..], &SWITCH[..]));
        let (from, to) = (IpAddr::from(PEER6), IpAddr::from(to));
        assert_eq!(sum_of(from, to, message), 0, "the sum is right");
    }
}

#[test]
fn discovery_that_is_no_question_for_a_neighbour_stays_on_the_cable() {
    let good = solicitation(OWN6, PEER6);
    let changed = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    let foreign = solicitation(PEER6, PEER6);
    for frame in [
        solicitation(OWN6, OWN6),
        solicitation(OWN6, "ff02::1".parse().unwrap()),
        foreign,
        changed(HEADER + 7, 64),
        changed(HEADER + 40, 133),
        changed(HEADER + 40, 136),
        changed(HEADER + 40, 137),
        changed(HEADER + 41, 1),
        good[..good.len() - 1].to_vec(),
    ] {
        assert_eq!(from_guest(&frame, GUEST, own()), Err(Reason::Neighbour));
    }
    let unicast = frame(SWITCH, IPV6, &good[HEADER..]);
    assert!(matches!(from_guest(&unicast, GUEST, own()), Ok(Asked::Neighbour(_))));
}

#[test]
fn frames_from_others_and_of_other_kinds_go_nowhere() {
    let mut frame = vec![0; 60];
    assert_eq!(from_guest(&frame, GUEST, own()), Err(Reason::ForeignMac));
    frame[6..12].copy_from_slice(&GUEST);
    for kind in [[0x81, 0x00], [0x88, 0xa8], [0x88, 0xcc], [0, 60]] {
        frame[12..14].copy_from_slice(&kind);
        assert_eq!(from_guest(&frame, GUEST, own()), Err(Reason::EtherType));
    }
    for kind in [IPV4, IPV6] {
        frame[0] = 0;
        frame[12..14].copy_from_slice(&kind);
        assert_eq!(from_guest(&frame, GUEST, own()), Ok(Asked::Packet));
        frame[0] = 0x33;
        assert_eq!(from_guest(&frame, GUEST, own()), Err(Reason::Multicast));
    }
    assert_eq!(from_guest(&frame[..13], GUEST, own()), Err(Reason::Runt));
}

#[test]
fn any_frame_is_answered_to_the_guest_alone() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let frame = [&[2; 6][..], &GUEST, bytes].concat();
        if let Ok(Asked::Neighbour(answer)) = from_guest(&frame, GUEST, own()) {
            assert_eq!((&answer.bytes()[..6], &answer.bytes()[6..12]), (&GUEST[..], &SWITCH[..]));
        }
    });
}
