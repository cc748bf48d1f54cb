//! Errors told, read back by their own reader; errors heard, as routers send them.

use super::*;
use crate::Spi;
use crate::checksum::tests::is_right_slowly;
use crate::ip::tests::{HERE, HERE_V6, THERE, THERE_V6, packet};
use crate::ip::{V4_HEADER, V6_HEADER};

const V4: (IpAddr, IpAddr) = (HERE, THERE);
const V6: (IpAddr, IpAddr) = (HERE_V6, THERE_V6);

fn told(about: &[u8], why: Unreachable) -> Option<ErrorBytes> {
    unreachable(&Packet::parse(about, about.len()).unwrap(), why)
}

/// The ICMP part of an error, after a look at the rest of it.
fn icmp(ends: (IpAddr, IpAddr), error: &[u8]) -> &[u8] {
    let packet = Packet::parse(error, error.len()).unwrap();
    assert!(packet.is_whole());
    // As if the destination had sent it.
    assert_eq!((packet.destination(), packet.source()), ends);
    if packet.is_v4() {
        assert_eq!((packet.protocol(), Sum::of(packet.payload()).checksum()), (protocol::ICMP, 0));
    } else {
        assert_eq!(packet.protocol(), protocol::ICMPV6);
        assert!(is_right_slowly((ends.1, ends.0), protocol::ICMPV6, packet.payload()));
    }
    packet.payload()
}

#[test]
fn an_error_says_why_and_quotes_its_packet() {
    for (ends, why, start) in [
        (V4, Unreachable::TooBig(1442), [3, 4, 0, 0, 5, 0xa2]),
        (V4, Unreachable::Prohibited, [3, 13, 0, 0, 0, 0]),
        (V6, Unreachable::TooBig(1442), [2, 0, 0, 0, 5, 0xa2]),
        (V6, Unreachable::Prohibited, [1, 1, 0, 0, 0, 0]),
    ] {
        let about = packet(ends, protocol::UDP, &[7; 100]);
        let error = told(&about, why).unwrap();
        let icmp = icmp(ends, &error);
        assert_eq!((&icmp[..2], &icmp[4..8]), (&start[..2], &start[2..]));
        assert_eq!(icmp[8..], about);
    }
}

#[test]
fn no_more_is_quoted_than_an_error_may_have_and_than_is_in_memory() {
    for (ends, longest) in [(V4, 576), (V6, 1280)] {
        let about = packet(ends, protocol::TCP, &[7; 3000]);
        let error = told(&about, Unreachable::TooBig(1400)).unwrap();
        assert_eq!(error.len(), longest);
        let headers = if ends == V4 { V4_HEADER } else { V6_HEADER } + 8;
        assert_eq!(error[headers..], about[..longest - headers]);

        let head = Packet::parse(&about[..256], about.len()).unwrap();
        let error = unreachable(&head, Unreachable::TooBig(1400)).unwrap();
        assert_eq!(icmp(ends, &error)[8..], about[..256]);
    }
}

#[test]
fn nothing_is_told_about_errors_but_about_questions() {
    for (ends, protocol, kinds) in [
        (
            V4,
            protocol::ICMP,
            [(3, false), (11, false), (5, false), (8, true), (0, true), (42, false)],
        ),
        (
            V6,
            protocol::ICMPV6,
            [(1, false), (2, false), (127, false), (128, true), (135, true), (137, false)],
        ),
    ] {
        for (kind, is_told) in kinds {
            let about = packet(ends, protocol, &[kind, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(told(&about, Unreachable::Prohibited).is_some(), is_told, "type {kind}");
        }
        // ICMP that does not show its type may be an error.
        assert!(told(&packet(ends, protocol, &[]), Unreachable::Prohibited).is_none());
        let error = told(&packet(ends, protocol::TCP, &[0; 20]), Unreachable::Prohibited).unwrap();
        assert!(told(&error, Unreachable::Prohibited).is_none());
    }
}

#[test]
fn nothing_is_told_about_packets_that_are_not_between_two_hosts() {
    let addresses = ["224.0.0.1", "255.255.255.255", "0.0.0.0", "ff02::1", "::"];
    for address in addresses.map(|address| address.parse::<IpAddr>().unwrap()) {
        let host = if address.is_ipv4() { HERE } else { HERE_V6 };
        for ends in [(host, address), (address, host)] {
            let about = packet(ends, protocol::UDP, &[0; 8]);
            assert!(told(&about, Unreachable::Prohibited).is_none(), "{address}");
        }
    }
}

#[test]
fn nothing_is_told_about_later_fragments() {
    let first = [17, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 2, 0, 8, 0, 0];
    assert!(told(&packet(V6, protocol::FRAGMENT, &first), Unreachable::Prohibited).is_some());
    let later = [17, 0, 0, 8, 0, 0, 0, 1, 0, 1, 0, 2, 0, 8, 0, 0];
    assert!(told(&packet(V6, protocol::FRAGMENT, &later), Unreachable::Prohibited).is_none());
}

fn spi(number: u32) -> Spi {
    Spi::new(number).unwrap()
}

/// An outer packet of ours.
fn outer(ends: (IpAddr, IpAddr), is_udp: bool) -> Vec<u8> {
    let esp = [&0xc0de_1001_u32.to_be_bytes()[..], &[0, 0, 0, 9], &[5; 1400]].concat();
    if is_udp {
        let datagram = [&[0x11, 0x94, 0x11, 0x94, 5, 0x88, 0, 0][..], &esp].concat();
        packet(ends, protocol::UDP, &datagram)
    } else {
        packet(ends, crate::PROTOCOL, &esp)
    }
}

/// "Too big" about `about`, with `quoted` bytes of it.
fn heard(about: &[u8], mtu: u16, quoted: usize) -> Vec<u8> {
    let head = Packet::parse(&about[..quoted.min(about.len())], about.len()).unwrap();
    let error = unreachable(&head, Unreachable::TooBig(mtu)).unwrap();
    let header = if head.is_v4() { V4_HEADER } else { V6_HEADER };
    error[header..].to_vec()
}

#[test]
fn too_big_from_outside_names_the_sa_it_quotes() {
    for (ends, fixed) in [(V4, V4_HEADER), (V6, V6_HEADER)] {
        for (is_udp, least) in [(false, fixed + 4), (true, fixed + 12)] {
            let about = outer(ends, is_udp);
            let message = heard(&about, 1380, usize::MAX);
            let expected = Quoted {
                source: ends.0,
                destination: ends.1,
                spi: Some(spi(0xc0de_1001)),
                mtu: 1380,
            };
            assert_eq!(too_big(&message, ends == V4), Some(expected));
            assert_eq!(too_big(&heard(&about, 1380, least), ends == V4), Some(expected));
            // Routers quote eight bytes at least, which is too short for ESP in UDP.
            let cut = too_big(&heard(&about, 1380, least - 1), ends == V4);
            assert_eq!(cut.and_then(|quoted| quoted.spi), None);
        }
    }
}

#[test]
fn a_message_about_something_else_names_no_sa() {
    let ike = [&[0x11, 0x94, 0x11, 0x94, 0, 20, 0, 0, 0, 0, 0, 0][..], &[5; 60]].concat();
    for (protocol, payload) in [(protocol::UDP, &ike[..]), (protocol::TCP, &[5; 60])] {
        let quoted = too_big(&heard(&packet(V4, protocol, payload), 1380, 1000), true).unwrap();
        assert_eq!((quoted.destination, quoted.spi), (THERE, None));
    }
    let later = {
        let mut bytes = outer(V4, false);
        bytes[6..8].copy_from_slice(&[0, 1]);
        bytes[10..12].fill(0);
        let sum = Sum::of(&bytes[..V4_HEADER]).checksum();
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes
    };
    let mut message = vec![3, 4, 0, 0, 0, 0, 5, 0x64];
    message.extend(&later[..100]);
    let sum = Sum::of(&message).checksum();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(too_big(&message, true), None);
}

#[test]
fn other_messages_wrong_checksums_and_impossible_mtus_say_nothing() {
    let message = heard(&outer(V4, true), 1380, 256);
    for (at, value) in [(0, 11), (1, 1), (2, message[2] ^ 1), (40, message[40] ^ 1)] {
        let mut changed = message.clone();
        changed[at] = value;
        assert_eq!(too_big(&changed, true), None);
    }
    assert_eq!(too_big(&message, false), None);
    for len in 0..28 {
        assert_eq!(too_big(&message[..len], true), None);
    }
    for (ends, mtu) in [(V4, 67), (V4, 0), (V6, 1279), (V6, 0)] {
        assert_eq!(too_big(&heard(&outer(ends, true), mtu, 256), ends == V4), None);
    }
    let mut message = heard(&outer(V6, true), 1380, 256);
    message[5] = 1;
    assert_eq!(too_big(&message, false), None, "an MTU of more than 16 bits");
}

#[test]
fn what_an_error_queue_reports_is_read_the_same() {
    let about = outer(V6, true);
    let reported = Quoted::reported(HERE_V6, THERE_V6, 1380, &about[V6_HEADER + 8..]);
    assert_eq!(reported, too_big(&heard(&about, 1380, 256), false));
    assert_eq!(Quoted::reported(HERE_V6, THERE_V6, 1200, &about[48..]), None);
    let keepalive = Quoted::reported(HERE, THERE, 600, &[0xff]).unwrap();
    assert_eq!((keepalive.spi, keepalive.mtu), (None, 600));
}

#[test]
fn arbitrary_messages_and_packets_are_read_or_refused() {
    bolero::check!().with_type::<(Vec<u8>, bool, u16)>().for_each(|(bytes, is_v4, mtu)| {
        if let Some(quoted) = too_big(bytes, *is_v4) {
            assert_eq!(quoted.source.is_ipv4(), *is_v4);
        }
        // A right start, so that more is read.
        let mut message = [
            &if *is_v4 { [3, 4, 0, 0, 0, 0, 5, 100] } else { [2, 0, 0, 0, 0, 0, 5, 100] }[..],
            bytes,
        ]
        .concat();
        let sum = Sum::of(&message).checksum();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        if let Some(quoted) = too_big(&message, *is_v4) {
            assert_eq!((quoted.source.is_ipv4(), quoted.mtu), (*is_v4, 1380));
        }
        if let Ok(about) = Packet::parse(bytes, bytes.len()) {
            let Some(error) = unreachable(&about, Unreachable::TooBig(*mtu)) else { return };
            assert!(error.len() <= if about.is_v4() { LONGEST_V4 } else { LONGEST_V6 });
            icmp((about.source(), about.destination()), &error);
        }
    });
}
