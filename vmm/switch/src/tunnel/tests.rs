use super::*;
use crate::overlay::{Cipher, Key};

pub(crate) const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub(crate) const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);
pub(crate) const C: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 30);

fn sa(spi: u32, cipher: Cipher) -> Sa {
    let byte = format!("{:02x}", spi as u8);
    let key = |len: usize| Key::from_hex(&byte.repeat(len)).unwrap();
    let suite = Suite::Combined(cipher, Integrity::HmacSha256);
    Sa { spi, suite, cipher_key: key(cipher.key_len()), auth_key: key(32) }
}

/// An overlay that receives on SPI `inbound` and sends on `outbound`.
pub(crate) fn overlay(
    (local, inbound): (Ipv4Addr, u32),
    (peer, outbound): (Ipv4Addr, u32),
    cipher: Cipher,
) -> Overlay {
    let pair = SaPair {
        inbound: sa(inbound, cipher),
        outbound: sa(outbound, cipher),
        traffic: Traffic::default(),
        esn: false,
        window: crate::overlay::DEFAULT_WINDOW,
        lifetime: Lifetime::default(),
    };
    Overlay {
        local: local.into(),
        peer: peer.into(),
        encapsulation: Encapsulation::default(),
        mode: Mode::Transport,
        addresses: Vec::new(),
        sas: vec![pair],
        policies: Vec::new(),
        dscp: crate::overlay::Dscp::Clear,
        keepalive_s: 0,
        limits: crate::overlay::Limits::default(),
    }
}

pub(crate) fn at(address: Ipv4Addr) -> SocketAddrV4 {
    SocketAddrV4::new(address, 4500)
}

pub(crate) fn packet(source: Ipv4Addr, destination: Ipv4Addr, length: usize) -> Vec<u8> {
    let mut packet =
        Header::new(source.into(), destination.into(), 17).bytes(length).unwrap().to_vec();
    packet.extend((0..length).map(|at| at as u8));
    packet
}

fn ends(cipher: Cipher) -> (Tunnels, Tunnels) {
    let (mut a, mut b) = (Tunnels::default(), Tunnels::default());
    a.add(overlay((A, 0x1001), (B, 0x2001), cipher), || [1; 16]).unwrap();
    b.add(overlay((B, 0x2001), (A, 0x1001), cipher), || [2; 16]).unwrap();
    (a, b)
}

fn only_packet(batch: &Batch) -> Vec<u8> {
    let mut packets = batch.packets();
    let (_, _, bytes) = packets.next().unwrap();
    assert!(packets.next().is_none());
    bytes.to_vec()
}

#[test]
fn what_one_end_seals_the_other_opens_with_every_cipher() {
    for cipher in [Cipher::Null, Cipher::AesCbc128, Cipher::AesCbc256] {
        let (mut a, mut b) = ends(cipher);
        let mtu = usize::from(a.get(0).unwrap().mtu());
        for length in [8, 9, 100, mtu - 20] {
            let sent = packet(A, B, length);
            let mut batch = Batch::default();
            a.seal(0, &sent, &mut batch).unwrap();
            let mut wire = only_packet(&batch);
            assert!(wire.len() + OUTER_HEADERS <= OUTER_MTU);
            let arrived = b.open(at(B), at(A), &mut wire).unwrap();
            assert_eq!((arrived.place, arrived.payload), (0, &sent[20..]));
            assert_eq!(arrived.header[12..20], sent[12..20]);
            let whole = [&arrived.header[..], arrived.payload].concat();
            assert!(Packet::parse(&whole, whole.len()).is_ok());
        }
        let too_big = a.seal(0, &packet(A, B, mtu - 19), &mut Batch::default());
        assert_eq!(too_big, Err(Stopped::TooBig(mtu as u16)));
    }
}

#[test]
fn nothing_leaves_but_whole_packets_from_the_space_to_its_peer() {
    let (mut a, _) = ends(Cipher::Null);
    let mut batch = Batch::default();
    let mut fragment = packet(A, B, 8);
    fragment[6] = 0x20;
    fragment[10] = fragment[10].wrapping_add(0x20);
    let cases = [
        (packet(A, C, 8), Stopped::Prohibited),
        (packet(B, A, 8), Stopped::Silently(Reason::ForeignSource)),
        (packet(A, Ipv4Addr::BROADCAST, 8), Stopped::Silently(Reason::Multicast)),
        (packet(A, Ipv4Addr::new(224, 0, 0, 5), 8), Stopped::Silently(Reason::Multicast)),
        (fragment, Stopped::Silently(Reason::Fragment)),
        (vec![0x45], Stopped::Silently(Reason::Malformed)),
    ];
    for (packet, expected) in cases {
        assert_eq!(a.seal(0, &packet, &mut batch), Err(expected));
    }
    assert!(batch.is_empty());
    a.remove(0);
    assert!(a.seal(0, &packet(A, B, 8), &mut batch).is_err());
    assert!(batch.is_empty());
}

#[test]
fn forged_replayed_foreign_and_unknown_packets_are_counted_and_go_nowhere() {
    let (mut a, mut b) = ends(Cipher::AesCbc256);
    let mut batch = Batch::default();
    a.seal(0, &packet(A, B, 30), &mut batch).unwrap();
    let wire = only_packet(&batch);
    assert!(b.open(at(B), at(C), &mut wire.clone()).is_none());
    assert!(b.open(at(A), at(A), &mut wire.clone()).is_none());
    let mut forged = wire.clone();
    forged[30] ^= 1;
    assert!(b.open(at(B), at(A), &mut forged).is_none());
    assert!(b.open(at(B), at(A), &mut wire.clone()).is_some());
    assert!(b.open(at(B), at(A), &mut wire.clone()).is_none());
    let mut unknown = wire.clone();
    unknown[3] = 9;
    assert!(b.open(at(B), at(A), &mut unknown).is_none());
    assert!(b.open(at(B), at(A), &mut [0xff]).is_none());
    assert!(b.open(at(B), at(A), &mut [0; 40]).is_none());
    assert_eq!(b.get(0).unwrap().drops.of(Reason::ForeignPeer), 2);
    assert_eq!((b.strays.of(Reason::UnknownSpi), b.strays.of(Reason::NotEsp)), (1, 1));
    let (inbound, _) = b.pair(0, 0).unwrap();
    assert_eq!(inbound.discards().of(esp::Discard::Forged), 1);
    assert_eq!(inbound.discards().of(esp::Discard::Replayed), 1);
    assert_eq!(inbound.packets(), 1);
}

#[test]
fn two_spaces_on_one_address_are_told_apart_by_spi_alone() {
    let (mut switch, mut b, mut c) = (Tunnels::default(), Tunnels::default(), Tunnels::default());
    let red = switch.add(overlay((A, 0x1001), (B, 0x2001), Cipher::Null), || [1; 16]).unwrap();
    let blue = switch.add(overlay((A, 0x1002), (C, 0x3001), Cipher::Null), || [2; 16]).unwrap();
    b.add(overlay((B, 0x2001), (A, 0x1001), Cipher::Null), || [3; 16]).unwrap();
    c.add(overlay((C, 0x3001), (A, 0x1002), Cipher::Null), || [4; 16]).unwrap();
    for (peer, address, place) in [(&mut b, B, red), (&mut c, C, blue)] {
        let mut batch = Batch::default();
        peer.seal(0, &packet(address, A, 8), &mut batch).unwrap();
        let mut wire = only_packet(&batch);
        let arrived = switch.open(at(A), at(address), &mut wire).unwrap();
        assert_eq!(arrived.place, place);
    }
    let mut batch = Batch::default();
    assert_eq!(switch.seal(red, &packet(A, C, 8), &mut batch), Err(Stopped::Prohibited));
    assert_eq!(switch.seal(blue, &packet(A, B, 8), &mut batch), Err(Stopped::Prohibited));
}

#[test]
fn an_overlay_that_cannot_be_used_changes_nothing() {
    let mut tunnels = Tunnels::default();
    let good = || overlay((A, 0x1001), (B, 0x2001), Cipher::AesCbc128);
    let place = tunnels.add(good(), || [1; 16]).unwrap();

    let mut second_taken = overlay((A, 0x1005), (C, 0x2001), Cipher::Null);
    second_taken.sas.extend(good().sas);
    let mut short_key = overlay((A, 0x1007), (B, 0x2007), Cipher::AesCbc128);
    short_key.sas[0].outbound.cipher_key = Key::from_hex("00").unwrap();
    let mut no_sa = good();
    no_sa.sas.clear();
    let cases = [
        (second_taken, "0x00001001"),
        (short_key, "32 hexadecimal digits"),
        (no_sa, "no SA"),
        (overlay((A, 9), (B, 0x2009), Cipher::Null), "reserved"),
        (overlay((A, 0x1009), (A, 0x2009), Cipher::Null), "another host"),
        (overlay((A, 0x1009), (Ipv4Addr::BROADCAST, 0x2009), Cipher::Null), "no address of a host"),
    ];
    for (overlay, word) in cases {
        let refusal = tunnels.add(overlay, || [1; 16]).unwrap_err().to_string();
        assert!(refusal.contains(word), "{refusal}");
    }
    assert_eq!(tunnels.sad.len(), 1);
    tunnels.remove(place);
    assert_eq!((tunnels.sad.len(), tunnels.add(good(), || [1; 16]).unwrap()), (0, place));
}

#[test]
fn whatever_a_space_or_a_stranger_sends_only_esp_of_the_pair_leaves() {
    let (mut a, _) = ends(Cipher::AesCbc128);
    bolero::check!().for_each(|bytes: &[u8]| {
        let mut batch = Batch::default();
        let _ = a.seal(0, bytes, &mut batch);
        let _ = a.open(at(A), at(B), &mut bytes.to_vec());
        for (from, to, wire) in batch.packets() {
            assert_eq!((from, to, &wire[..4]), (at(A), at(B), &[0, 0, 0x20, 1][..]));
        }
    });
}
