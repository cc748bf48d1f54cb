//! Ranges, directions, and the packets that do not show their ports.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::ip::Header;

const SPACE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);

fn to_port_443(protocol: u8) -> Selector {
    let between = Selector::between(AddressRange::only(SPACE), AddressRange::only(PEER));
    Selector { protocol: Some(protocol), remote_ports: PortRange::only(443), ..between }
}

/// A packet from the space to its peer, with these fragment bits.
fn packet(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet =
        Header::new(SPACE.into(), PEER.into(), protocol).bytes(payload.len()).unwrap().to_vec();
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    // One's complement arithmetic: what the flags lost, the checksum gains.
    let sum = u16::from_be_bytes([packet[10], packet[11]]);
    let (sum, carry) = sum.overflowing_add(0x4000);
    let (sum, borrow) = (sum + u16::from(carry)).overflowing_sub(fragment);
    packet[10..12].copy_from_slice(&(sum - u16::from(borrow)).to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

fn flow(protocol: u8, fragment: u16, payload: &[u8]) -> Result<Flow, Discard> {
    let packet = packet(protocol, fragment, payload);
    Flow::outbound(&Packet::parse(&packet, packet.len()).unwrap())
}

#[test]
fn what_the_space_sends_and_what_answers_it_are_one_flow() {
    let sent = flow(17, 0x4000, &[0x12, 0x34, 1, 0xbb, 0, 8, 0, 0]).unwrap();
    assert_eq!(sent.ports, Ports::Known { local: 0x1234, remote: 443 });
    let answer = [1, 0xbb, 0x12, 0x34, 0, 8, 0, 0];
    let received = Flow::received(PEER.into(), SPACE.into(), 17, &answer).unwrap();
    assert_eq!(received, sent);
    let mut bytes = Header::new(PEER.into(), SPACE.into(), 17).bytes(8).unwrap().to_vec();
    bytes.extend_from_slice(&answer);
    assert_eq!(Flow::inbound(&Packet::parse(&bytes, bytes.len()).unwrap()), Ok(sent));
    assert_eq!(to_port_443(17).matches(&sent), Match::Yes);
    assert_eq!(to_port_443(6).matches(&sent), Match::No);
}

#[test]
fn ports_that_should_be_there_and_are_not_make_a_packet_malformed() {
    for protocol in WITH_PORTS {
        for len in 0..4 {
            // A first fragment may not be too short either (RFC 1858).
            assert_eq!(flow(protocol, 0, &[0; 4][..len]), Err(Discard::Malformed));
            assert_eq!(flow(protocol, 0x2000, &[0; 4][..len]), Err(Discard::Malformed));
        }
    }
    assert_eq!(flow(1, 0, &[]).unwrap().ports, Ports::Absent);
}

#[test]
fn the_payload_of_a_later_fragment_is_not_taken_for_ports() {
    let later = flow(6, 1, &[0x12, 0x34, 1, 0xbb]).unwrap();
    assert_eq!(later.ports, Ports::Hidden);
    assert_eq!(to_port_443(6).matches(&later), Match::Unknown);
    assert_eq!(to_port_443(17).matches(&later), Match::No);
    let between = Selector::between(AddressRange::only(SPACE), AddressRange::only(PEER));
    assert_eq!(between.matches(&later), Match::Yes);
    assert_eq!(flow(1, 1, &[]).unwrap().ports, Ports::Absent);
}

#[test]
fn a_protocol_without_ports_is_not_meant_where_ports_are_asked_for() {
    let ping = flow(1, 0, &[8, 0, 1, 0xbb]).unwrap();
    assert_eq!(to_port_443(1).matches(&ping), Match::No);
    let any = Selector { remote_ports: PortRange::ANY, ..to_port_443(1) };
    assert_eq!(any.matches(&ping), Match::Yes);
}

#[test]
fn the_flow_of_arbitrary_payload_is_never_more_than_its_first_four_bytes_say() {
    let input = bolero::produce::<(u8, Vec<u8>)>();
    bolero::check!().with_generator(input).for_each(|(protocol, payload)| {
        let known = Flow::sent(SPACE.into(), PEER.into(), *protocol, payload);
        let expected = match payload[..] {
            _ if !WITH_PORTS.contains(protocol) => Ok(Ports::Absent),
            [a, b, c, d, ..] => Ok(Ports::Known {
                local: u16::from(a) << 8 | u16::from(b),
                remote: u16::from(c) << 8 | u16::from(d),
            }),
            _ => Err(Discard::Malformed),
        };
        assert_eq!(known.map(|flow| flow.ports), expected);
    });
}

const SPACE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const PEER_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

#[test]
fn ports_of_ipv6_are_found_behind_its_extension_headers() {
    let carried = [17, 0, 1, 4, 0, 0, 0, 0, 0x12, 0x34, 1, 0xbb, 0, 8, 0, 0];
    let mut bytes = Header::new(SPACE_V6, PEER_V6, 60).bytes(carried.len()).unwrap().to_vec();
    bytes.extend(carried);
    let sent = Flow::outbound(&Packet::parse(&bytes, bytes.len()).unwrap()).unwrap();
    assert_eq!((sent.local, sent.remote, sent.protocol), (SPACE_V6, PEER_V6, 17));
    assert_eq!(sent.ports, Ports::Known { local: 0x1234, remote: 443 });
    assert_eq!(Flow::sent(SPACE_V6, PEER_V6, 60, &carried), Ok(sent));
    let received = Flow::received(PEER_V6, SPACE_V6, 60, &carried).unwrap();
    assert_eq!(received.ports, Ports::Known { local: 443, remote: 0x1234 });
    assert_eq!(received.local, SPACE_V6);
    // To IPv4 it is a protocol like any other.
    let v4 = Flow::sent(SPACE.into(), PEER.into(), 60, &carried).unwrap();
    assert_eq!((v4.protocol, v4.ports), (60, Ports::Absent));
}

#[test]
fn what_transport_mode_does_not_carry_has_no_flow_either() {
    let fragment = [17, 0, 0, 1, 0, 0, 0, 1, 0x12, 0x34, 1, 0xbb, 0, 8, 0, 0];
    let received = Flow::received(PEER_V6, SPACE_V6, 44, &fragment);
    assert_eq!(received, Err(Discard::Fragment));
    let hop_by_hop = Flow::received(PEER_V6, SPACE_V6, 0, &[17, 0, 1, 4, 0, 0, 0, 0]);
    assert_eq!(hop_by_hop, Err(Discard::Options));
    let cut = Flow::received(PEER_V6, SPACE_V6, 60, &[17, 1, 1, 12, 0, 0, 0, 0]);
    assert_eq!(cut, Err(Discard::Malformed));
}

#[test]
fn the_ports_of_an_ipv6_later_fragment_are_hidden() {
    let fragment = [17, 0, 0, 8, 0, 0, 0, 1, 0x12, 0x34, 1, 0xbb];
    let mut bytes = Header::new(SPACE_V6, PEER_V6, 44).bytes(fragment.len()).unwrap().to_vec();
    bytes.extend(fragment);
    let flow = Flow::outbound(&Packet::parse(&bytes, bytes.len()).unwrap()).unwrap();
    assert_eq!((flow.protocol, flow.ports), (17, Ports::Hidden));
}

#[test]
fn ports_beyond_the_head_make_a_packet_malformed() {
    let bytes = packet(6, 0x4000, &[7; 100]);
    let packet = Packet::parse(&bytes[..23], bytes.len()).unwrap();
    assert_eq!(Flow::outbound(&packet), Err(Discard::Malformed));
    assert!(Flow::outbound(&Packet::parse(&bytes[..24], bytes.len()).unwrap()).is_ok());
}
