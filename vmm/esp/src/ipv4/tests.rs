//! A real packet, every way to damage it, and arbitrary bytes.

use super::*;

/// The ping of RFC 3602 4, case 5, with a payload of four bytes.
fn ping() -> Vec<u8> {
    let (source, destination) =
        (Ipv4Addr::new(192, 168, 123, 3), Ipv4Addr::new(192, 168, 123, 100));
    let mut packet = header(source, destination, 1, 4).unwrap().to_vec();
    packet.extend_from_slice(&[8, 0, 0xf7, 0xff]);
    packet
}

fn with_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    let header_len = usize::from(packet[0] & 0x0f) * 4;
    packet[10..12].fill(0);
    let sum = checksum(&packet[..header_len]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn a_captured_header_has_the_right_checksum_and_fields() {
    // RFC 3602 4, case 5.
    let mut bytes = vec![0x45, 0, 0, 0x54, 8, 0xf2, 0, 0, 0x40, 1, 0xf9, 0xfe];
    bytes.extend([192, 168, 123, 3, 192, 168, 123, 100]);
    bytes.resize(0x54 + 6, 0xaa);
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(packet.source(), Ipv4Addr::new(192, 168, 123, 3));
    assert_eq!(packet.destination(), Ipv4Addr::new(192, 168, 123, 100));
    assert_eq!((packet.protocol(), packet.ttl(), packet.traffic_class()), (1, 64, 0));
    assert!(!packet.is_fragment() && !packet.dont_fragment());
    assert_eq!(packet.transport(), Ok(&[0xaa; 64][..]));
    assert_eq!((packet.bytes().len(), packet.header().len()), (0x54, 20));
}

#[test]
fn a_header_made_here_is_read_here() {
    let packet = ping();
    let packet = Packet::parse(&packet).unwrap();
    assert_eq!((packet.protocol(), packet.payload()), (1, &[8, 0, 0xf7, 0xff][..]));
    assert!(packet.dont_fragment() && !packet.is_fragment());
    let any = Ipv4Addr::UNSPECIFIED;
    assert!(header(any, any, 17, 65515).is_some() && header(any, any, 17, 65516).is_none());
}

#[test]
fn damaged_headers_are_malformed() {
    let whole = ping();
    for len in 0..whole.len() {
        assert_eq!(Packet::parse(&whole[..len]).err(), Some(Discard::Malformed));
    }
    for bit in 0..HEADER * 8 {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Packet::parse(&changed).err(), Some(Discard::Malformed), "bit {bit}");
    }
    for (at, value) in [(0, 0x44), (0, 0x65), (0, 0x46), (3, 19), (3, 25)] {
        let mut changed = whole.clone();
        changed[at] = value;
        let parsed = Packet::parse(&with_checksum(changed)).map(|_| ());
        // Four bytes of payload turned into options are whole again.
        let options = (at, value) == (0, 0x46);
        assert_eq!(parsed, if options { Ok(()) } else { Err(Discard::Malformed) });
    }
}

#[test]
fn fragments_and_options_do_not_fit_transport_mode() {
    for (flags, later) in [([0x20, 0], false), ([0, 1], true), ([0x20, 9], true), ([0x1f, 0], true)]
    {
        let mut packet = ping();
        packet[6..8].copy_from_slice(&flags);
        let packet = with_checksum(packet);
        let packet = Packet::parse(&packet).unwrap();
        assert!(packet.is_fragment());
        assert_eq!(packet.is_later_fragment(), later);
        assert_eq!(packet.transport(), Err(Discard::Fragment));
    }
    let mut packet = ping();
    packet[0] = 0x46;
    let packet = with_checksum(packet);
    assert_eq!(Packet::parse(&packet).unwrap().transport(), Err(Discard::Options));
}

#[test]
fn arbitrary_bytes_with_a_right_checksum_are_read_without_leaving_them() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        let _ = Packet::parse(&bytes);
        if bytes.len() >= 60 {
            bytes[0] = 0x40 | bytes[0] & 0x0f;
            bytes[2] = 0;
            bytes = with_checksum(bytes);
        }
        if let Ok(packet) = Packet::parse(&bytes) {
            assert_eq!([packet.header(), packet.payload()].concat(), packet.bytes());
            assert!(bytes.starts_with(packet.bytes()));
            let _ = (packet.source(), packet.destination(), packet.transport());
        }
    });
}
