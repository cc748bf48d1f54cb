//! Real packets of both families, every way to damage them, and arbitrary bytes.

use super::*;

pub(crate) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 123, 3));
pub(crate) const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 123, 100));
pub(crate) const HERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
pub(crate) const THERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

/// A whole packet.
pub(crate) fn packet(ends: (IpAddr, IpAddr), protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header = Header::new(ends.0, ends.1, protocol).bytes(payload.len()).unwrap();
    [&header[..], payload].concat()
}

/// An IPv6 packet whose next header is `first`.
fn v6(first: u8, carried: &[u8]) -> Vec<u8> {
    packet((HERE_V6, THERE_V6), first, carried)
}

fn whole(bytes: &[u8]) -> Result<Packet<'_>, Discard> {
    Packet::parse(bytes, bytes.len())
}

/// The ping of RFC 3602 4, case 5, with a payload of four bytes.
fn ping() -> Vec<u8> {
    packet((HERE, THERE), protocol::ICMP, &[8, 0, 0xf7, 0xff])
}

fn with_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    let header_len = usize::from(packet[0] & 0x0f) * 4;
    packet[10..12].fill(0);
    let sum = Sum::of(&packet[..header_len.min(packet.len())]).checksum();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn a_captured_ipv4_header_has_the_right_checksum_and_fields() {
    // RFC 3602 4, case 5.
    let mut bytes = vec![0x45, 0, 0, 0x54, 8, 0xf2, 0, 0, 0x40, 1, 0xf9, 0xfe];
    bytes.extend([192, 168, 123, 3, 192, 168, 123, 100]);
    bytes.resize(0x54 + 6, 0xaa);
    let packet = whole(&bytes).unwrap();
    assert_eq!((packet.source(), packet.destination()), (HERE, THERE));
    let fields = (packet.protocol(), packet.hop_limit(), packet.traffic_class());
    assert_eq!(fields, (protocol::ICMP, 64, 0));
    assert!(packet.is_v4() && packet.is_whole());
    assert!(packet.fragment() == Fragment::Whole && !packet.dont_fragment());
    let carried = packet.carried(Mode::Transport);
    assert_eq!(carried, Ok(Carried { next_header: protocol::ICMP, offset: 20 }));
    assert_eq!((packet.len(), packet.payload()), (0x54, &[0xaa; 64][..]));
    let tunnel = packet.carried(Mode::Tunnel);
    assert_eq!(tunnel, Ok(Carried { next_header: protocol::IPV4, offset: 0 }));
}

#[test]
fn a_captured_ipv6_neighbour_solicitation_is_read() {
    let mut bytes = vec![0x6e, 0x12, 0x34, 0x56, 0, 32, 58, 255];
    bytes.extend(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).octets());
    bytes.extend(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 2).octets());
    bytes.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    bytes.resize(40 + 32, 0);
    let packet = whole(&bytes).unwrap();
    assert_eq!(packet.source().to_string(), "fe80::1");
    assert_eq!(packet.destination().to_string(), "ff02::1:ff00:2");
    let fields = (packet.protocol(), packet.hop_limit(), packet.traffic_class());
    assert_eq!(fields, (protocol::ICMPV6, 255, 0xe1));
    assert!(!packet.is_v4() && packet.dont_fragment() && !packet.has_options());
    let carried = packet.carried(Mode::Transport);
    assert_eq!(carried, Ok(Carried { next_header: protocol::ICMPV6, offset: 40 }));
}

#[test]
fn a_header_made_here_is_read_here() {
    for (source, destination, fixed) in [(HERE, THERE, 20), (HERE_V6, THERE_V6, 40)] {
        let made = Header {
            traffic_class: 0xb9,
            hop_limit: 7,
            identification: 0x1234,
            ..Header::new(source, destination, protocol::UDP)
        };
        let bytes = [&made.bytes(3).unwrap()[..], &[1, 2, 3]].concat();
        let packet = whole(&bytes).unwrap();
        assert_eq!((packet.source(), packet.destination()), (source, destination));
        let fields = (packet.protocol(), packet.hop_limit(), packet.traffic_class());
        assert_eq!(fields, (protocol::UDP, 7, 0xb9));
        assert!(packet.dont_fragment() && packet.fragment() == Fragment::Whole);
        assert_eq!((packet.payload_offset(), packet.payload()), (fixed, &[1, 2, 3][..]));
        assert!(made.bytes(MAX_LEN - fixed).is_some());
        assert!(made.bytes(MAX_LEN - fixed + 1).is_none());
    }
    let fragmentable = Header { dont_fragment: false, ..Header::new(HERE, THERE, 17) };
    assert!(!whole(&fragmentable.bytes(0).unwrap()).unwrap().dont_fragment());
    assert!(Header::new(HERE, THERE_V6, 17).bytes(0).is_none());
}

#[test]
fn damaged_ipv4_headers_are_malformed() {
    let bytes = ping();
    for len in 0..bytes.len() {
        assert_eq!(whole(&bytes[..len]).err(), Some(Discard::Malformed));
    }
    for bit in 0..V4_HEADER * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(whole(&changed).err(), Some(Discard::Malformed), "bit {bit}");
    }
    for (at, value) in [(0, 0x44), (0, 0x65), (0, 0x46), (3, 19), (3, 25)] {
        let mut changed = bytes.clone();
        changed[at] = value;
        let parsed = whole(&with_checksum(changed)).map(|_| ());
        // Four bytes of payload turned into options are whole again.
        let options = (at, value) == (0, 0x46);
        assert_eq!(parsed, if options { Ok(()) } else { Err(Discard::Malformed) });
    }
}

#[test]
fn a_head_without_all_of_the_packet_is_enough_with_all_of_its_headers() {
    let bytes = packet((HERE, THERE), 17, &[5; 1000]);
    for len in 0..V4_HEADER {
        assert_eq!(Packet::parse(&bytes[..len], 1020).err(), Some(Discard::Malformed));
    }
    let packet = Packet::parse(&bytes[..64], 1020).unwrap();
    assert_eq!((packet.len(), packet.head().len(), packet.payload()), (1020, 64, &[5; 44][..]));
    assert!(!packet.is_whole());
    // The rest is not there, or is padding.
    assert_eq!(Packet::parse(&bytes[..64], 1019).err(), Some(Discard::Malformed));
    assert_eq!(Packet::parse(&bytes[..64], 1500).unwrap().len(), 1020);
    // More in memory than the caller vouches for does not count.
    assert_eq!(Packet::parse(&bytes, 64).err(), Some(Discard::Malformed));
}

#[test]
fn ipv4_fragments_and_options_do_not_fit_transport_mode() {
    let cases = [
        ([0x20, 0], Fragment::First),
        ([0, 1], Fragment::Later),
        ([0x20, 9], Fragment::Later),
        ([0x1f, 0], Fragment::Later),
    ];
    for (flags, fragment) in cases {
        let mut packet = ping();
        packet[6..8].copy_from_slice(&flags);
        let packet = with_checksum(packet);
        let packet = whole(&packet).unwrap();
        assert_eq!(packet.fragment(), fragment);
        assert_eq!(packet.carried(Mode::Transport), Err(Discard::Fragment));
        assert!(packet.carried(Mode::Tunnel).is_ok());
    }
    let mut packet = ping();
    packet[0] = 0x46;
    let packet = with_checksum(packet);
    let packet = whole(&packet).unwrap();
    assert!(packet.has_options());
    assert_eq!(packet.carried(Mode::Transport), Err(Discard::Options));
}

#[test]
fn damaged_ipv6_headers_are_malformed() {
    let bytes = v6(17, &[1, 2, 3, 4]);
    for len in 0..bytes.len() {
        assert_eq!(whole(&bytes[..len]).err(), Some(Discard::Malformed), "{len} bytes");
    }
    let mut changed = bytes.clone();
    changed[5] = 5;
    assert_eq!(whole(&changed).err(), Some(Discard::Malformed));
    changed[5] = 3;
    assert_eq!(whole(&changed).unwrap().len(), 43);
    for version in [0, 4, 5, 7, 15] {
        changed[0] = version << 4;
        assert!(whole(&changed).is_err());
    }
}

#[test]
fn extension_headers_that_go_into_esp_are_carried_and_others_refused() {
    const UDP: [u8; 8] = [0, 1, 0, 2, 0, 8, 0, 0];
    let destination = [17, 0, 1, 4, 0, 0, 0, 0];
    let authentication = [60, 1, 0, 0, 0, 0, 9, 9, 0, 0, 0, 1];
    let carried = v6(51, &[&authentication[..], &destination, &UDP].concat());
    let packet = whole(&carried).unwrap();
    assert_eq!((packet.protocol(), packet.payload_offset()), (17, 60));
    assert!(packet.has_options());
    let transport = packet.carried(Mode::Transport);
    assert_eq!(transport, Ok(Carried { next_header: 51, offset: 40 }));

    let headers: [(u8, [u8; 8], Discard); 3] = [
        (protocol::HOP_BY_HOP, [17, 0, 1, 4, 0, 0, 0, 0], Discard::Options),
        (protocol::ROUTING, [17, 0, 4, 0, 0, 0, 0, 0], Discard::Options),
        (protocol::FRAGMENT, [17, 0, 0, 0, 0, 0, 0, 1], Discard::Fragment),
    ];
    for (first, header, refusal) in headers {
        let bytes = v6(first, &[&header[..], &UDP].concat());
        let packet = whole(&bytes).unwrap();
        assert_eq!((packet.protocol(), packet.payload()), (17, &UDP[..]));
        assert_eq!(packet.carried(Mode::Transport), Err(refusal));
        let tunnel = packet.carried(Mode::Tunnel);
        assert_eq!(tunnel, Ok(Carried { next_header: protocol::IPV6, offset: 0 }));
        assert_eq!(packet.fragment(), Fragment::Whole);
    }
}

#[test]
fn arbitrary_bytes_are_read_without_leaving_them() {
    bolero::check!().with_type::<(Vec<u8>, u16, bool)>().for_each(|(bytes, cut, repaired)| {
        let mut bytes = bytes.clone();
        if *repaired && bytes.len() >= 60 {
            bytes[0] = 0x40 | bytes[0] & 0x0f;
            bytes[2] = 0;
            bytes = with_checksum(bytes);
        }
        let head = &bytes[..bytes.len().min(usize::from(*cut))];
        let Ok(packet) = Packet::parse(head, bytes.len()) else { return };
        assert!(head.starts_with(packet.head()) && packet.len() <= bytes.len());
        assert!(packet.payload_offset() <= packet.head().len());
        assert_eq!(packet.is_whole(), packet.head().len() == packet.len());
        // What more of the packet shows is what its head said.
        let again = Packet::parse(&bytes, bytes.len()).unwrap();
        assert_eq!(again.protocol(), packet.protocol());
        assert_eq!(again.payload_offset(), packet.payload_offset());
        assert_eq!(again.fragment(), packet.fragment());
        let (source, destination) = (packet.source(), packet.destination());
        assert_eq!(source.is_ipv4(), packet.is_v4());
        assert_eq!(destination.is_ipv4(), packet.is_v4());
        if let Ok(carried) = packet.carried(Mode::Transport) {
            assert!(carried.offset <= packet.payload_offset());
            assert_eq!(packet.fragment(), Fragment::Whole);
        }
    });
}
