//! Chains of every kind, and the obvious slow walk.

use super::*;

const UDP: u8 = protocol::UDP;

/// Chains `headers`, each its number and its bytes from the second on, before UDP.
fn chain(headers: &[(u8, &[u8])]) -> (u8, Vec<u8>) {
    let mut bytes = Vec::new();
    for (at, (_, rest)) in headers.iter().enumerate() {
        bytes.push(headers.get(at + 1).map_or(UDP, |next| next.0));
        bytes.extend(*rest);
    }
    (headers.first().map_or(UDP, |first| first.0), bytes)
}

fn read((first, bytes): &(u8, Vec<u8>)) -> Result<Chain, Discard> {
    Chain::read(*first, bytes, bytes.len())
}

const OPTIONS: &[u8] = &[0, 1, 4, 0, 0, 0, 0];
/// Segment routing (RFC 8754), nothing left.
const ROUTE: &[u8] = &[0, 4, 0, 0, 0, 0, 0];
const LATER: &[u8] = &[0, 0, 8, 0, 0, 0, 1];

#[test]
fn a_routing_header_of_type_0_is_refused() {
    let refused = chain(&[(protocol::ROUTING, &[0, 0, 1, 0, 0, 0, 0])]);
    assert_eq!(read(&refused), Err(Discard::Extension));
    assert!(read(&chain(&[(protocol::ROUTING, ROUTE)])).is_ok());
}

#[test]
fn at_most_eight_headers_are_walked() {
    let eight = [(protocol::DESTINATION_OPTIONS, OPTIONS); 8];
    let walked = read(&chain(&eight)).unwrap();
    assert_eq!((walked.len, walked.protocol), (64, UDP));
    let nine = [(protocol::DESTINATION_OPTIONS, OPTIONS); 9];
    assert_eq!(read(&chain(&nine)), Err(Discard::Extension));
}

#[test]
fn hop_by_hop_options_come_first_or_not_at_all() {
    assert!(read(&chain(&[(protocol::HOP_BY_HOP, OPTIONS)])).is_ok());
    let second = [(protocol::DESTINATION_OPTIONS, OPTIONS), (protocol::HOP_BY_HOP, OPTIONS)];
    assert_eq!(read(&chain(&second)), Err(Discard::Malformed));
}

#[test]
fn a_later_fragment_ends_the_walk_and_must_show_its_protocol() {
    let walked = read(&chain(&[(protocol::FRAGMENT, LATER)])).unwrap();
    assert_eq!((walked.fragment, walked.protocol), (Fragment::Later, UDP));
    let hidden = [(protocol::FRAGMENT, LATER), (protocol::DESTINATION_OPTIONS, OPTIONS)];
    assert_eq!(read(&chain(&hidden)), Err(Discard::Extension));
    // The first fragment shows all of its headers (RFC 7112).
    let first: &[u8] = &[0, 0, 1, 0, 0, 0, 1];
    let shown = [(protocol::FRAGMENT, first), (protocol::DESTINATION_OPTIONS, OPTIONS)];
    let walked = read(&chain(&shown)).unwrap();
    assert_eq!((walked.fragment, walked.protocol), (Fragment::First, UDP));
}

#[test]
fn headers_beyond_the_packet_are_malformed_and_beyond_the_head_refused() {
    let (first, bytes) = chain(&[(protocol::DESTINATION_OPTIONS, &[1, 1, 12, 0, 0, 0, 0])]);
    // It says 16 bytes, and has 8.
    assert_eq!(Chain::read(first, &bytes, 8), Err(Discard::Malformed));
    assert_eq!(Chain::read(first, &bytes, 15), Err(Discard::Malformed));
    assert_eq!(Chain::read(first, &bytes, 16), Err(Discard::Extension));
    for len in 0..8 {
        assert_eq!(Chain::read(first, &bytes[..len], len), Err(Discard::Malformed));
        assert_eq!(Chain::read(first, &bytes[..len], 16), Err(Discard::Extension));
    }
}

/// Header by header, with what is left as a slice.
fn slow(first: u8, bytes: &[u8]) -> Option<(usize, u8)> {
    let (mut protocol, mut rest) = (first, bytes);
    let mut headers = 0;
    let mut later = false;
    while [0, 43, 44, 51, 60].contains(&protocol) {
        headers += 1;
        if headers > 8 || later || rest.len() < 8 || protocol == 0 && headers > 1 {
            return None;
        }
        let len = match protocol {
            44 => 8,
            51 => 4 * usize::from(rest[1]) + 8,
            _ => 8 * usize::from(rest[1]) + 8,
        };
        if protocol == 43 && rest[2] == 0 {
            return None;
        }
        later = protocol == 44 && u16::from_be_bytes([rest[2], rest[3]]) >= 8;
        protocol = rest[0];
        rest = rest.get(len..)?;
    }
    Some((bytes.len() - rest.len(), protocol))
}

#[test]
fn arbitrary_chains_are_walked_as_by_the_slow_walk() {
    let input = bolero::produce::<(u8, Vec<(u8, u8, [u8; 6])>, Vec<u8>)>();
    bolero::check!().with_generator(input).for_each(|(first, headers, tail)| {
        const KINDS: [u8; 7] = [60, 43, 44, 51, 60, 0, 17];
        let kind = |number: u8| KINDS[usize::from(number) % KINDS.len()];
        let mut bytes = Vec::new();
        for (next, units, rest) in headers.iter().take(12) {
            bytes.extend([kind(*next), units % 3]);
            bytes.extend(rest);
        }
        bytes.extend(tail);
        let walked = Chain::read(kind(*first), &bytes, bytes.len());
        let walked = walked.ok().map(|chain| (chain.len, chain.protocol));
        assert_eq!(walked, slow(kind(*first), &bytes));
    });
}
