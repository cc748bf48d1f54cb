//! Two [`Tunnels`], ours and the peer's: what one seals the other opens.

mod crossing;
mod hostile;
mod life;
pub(crate) mod modes;
pub(crate) mod offload;
mod path;
mod peer;
mod policy;

use std::net::Ipv4Addr;

use esp::checksum;
use esp::ip::{Header, Packet};
use esp::offload::Offload;
use sys::socket::Envelope;

use super::*;
use crate::batch::{Batch, Route};
use crate::drops::Reason;
use crate::overlay::{self, Cipher, Encapsulation, Integrity, Key, Sa, Suite, Traffic};

pub(crate) const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub(crate) const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);
pub(crate) const C: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 30);

/// The MTU of the way in these tests, bytes.
pub(crate) const WAY: u16 = 1500;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// An SA whose keys follow from its SPI, as both ends know it.
pub(crate) fn sa(spi: u32, suite: Suite) -> Sa {
    let key = |len: usize, of: u8| {
        let bytes = spi.to_be_bytes().into_iter().cycle().take(len);
        let hex: String = bytes.map(|byte| format!("{:02x}", byte ^ of)).collect();
        Key::from_hex(&hex).unwrap()
    };
    let (cipher_key, auth_key) = (key(suite.cipher_key_len(), 1), key(suite.auth_key_len(), 2));
    Sa { spi, suite, cipher_key, auth_key }
}

pub(crate) fn pair(inbound: u32, outbound: u32, suite: Suite) -> SaPair {
    SaPair {
        inbound: sa(inbound, suite),
        outbound: sa(outbound, suite),
        traffic: Traffic::default(),
        esn: false,
        window: overlay::DEFAULT_WINDOW,
        lifetime: overlay::Lifetime::default(),
    }
}

/// An overlay that receives on SPI `inbound` and sends on `outbound`.
pub(crate) fn overlay(
    (local, inbound): (impl Into<IpAddr>, u32),
    (peer, outbound): (impl Into<IpAddr>, u32),
    cipher: Cipher,
) -> Overlay {
    Overlay {
        local: local.into(),
        peer: peer.into(),
        encapsulation: Encapsulation::default(),
        mode: overlay::Mode::Transport,
        addresses: Vec::new(),
        sas: vec![pair(inbound, outbound, Suite::Combined(cipher, Integrity::HmacSha256))],
        policies: Vec::new(),
        dscp: overlay::Dscp::Clear,
        keepalive_s: 0,
        limits: overlay::Limits::default(),
    }
}

/// A NULL-encrypted overlay, where what is encrypted does not matter.
fn plain(local: (impl Into<IpAddr>, u32), peer: (impl Into<IpAddr>, u32)) -> Overlay {
    overlay(local, peer, Cipher::Null)
}

/// Adds a tunnel at time 0 over a usual way.
pub(crate) fn add(tunnels: &mut Tunnels, overlay: Overlay) -> Result<Place, Refusal> {
    let mut number = 0;
    tunnels.add(overlay, WAY, 0, || {
        number += 1;
        [number; 16]
    })
}

/// Ours and the peer's tunnels, each with one space.
fn both(ours: Overlay, theirs: Overlay) -> (Tunnels, Tunnels) {
    let (mut a, mut b) = (Tunnels::default(), Tunnels::default());
    add(&mut a, ours).unwrap();
    add(&mut b, theirs).unwrap();
    (a, b)
}

fn ends(cipher: Cipher) -> (Tunnels, Tunnels) {
    both(overlay((A, 0x1001), (B, 0x2001), cipher), overlay((B, 0x2001), (A, 0x1001), cipher))
}

/// A UDP datagram from port 1000 to port 7 with a payload of IP of `length` bytes, 8 at least.
pub(crate) fn packet(
    source: impl Into<IpAddr>,
    destination: impl Into<IpAddr>,
    length: usize,
) -> Vec<u8> {
    datagram((source, 1000), (destination, 7), length)
}

pub(crate) fn datagram(
    (source, source_port): (impl Into<IpAddr>, u16),
    (destination, destination_port): (impl Into<IpAddr>, u16),
    length: usize,
) -> Vec<u8> {
    let mut udp = [source_port, destination_port, length as u16, 0].map(u16::to_be_bytes).concat();
    udp.extend((8..length).map(|at| at as u8));
    carried_by(source, destination, UDP, udp)
}

/// A packet with this payload, whose checksum is made right.
pub(crate) fn carried_by(
    source: impl Into<IpAddr>,
    destination: impl Into<IpAddr>,
    protocol: u8,
    mut payload: Vec<u8>,
) -> Vec<u8> {
    let (source, destination) = (source.into(), destination.into());
    if checksum::position(protocol).is_some() {
        checksum::fill(source, destination, protocol, &mut payload).unwrap();
    }
    let header = Header::new(source, destination, protocol).bytes(payload.len()).unwrap();
    [&header[..], &payload].concat()
}

/// Seals a packet that is wholly in memory.
pub(crate) fn seal(
    tunnels: &mut Tunnels,
    place: Place,
    packet: &[u8],
    batch: &mut Batch,
) -> Result<Passed, Stopped> {
    seal_with(tunnels, place, packet, Offload::default(), batch)
}

/// The same, with work left to do.
pub(crate) fn seal_with(
    tunnels: &mut Tunnels,
    place: Place,
    packet: &[u8],
    offload: Offload,
    batch: &mut Batch,
) -> Result<Passed, Stopped> {
    // All headers are at hand, the rest is read later, as with a guest's packet.
    let (head, mut rest) = packet.split_at(packet.len().min(256));
    let rest = |bytes: &mut [u8]| {
        let (now, later) = rest.split_at(bytes.len());
        bytes.copy_from_slice(now);
        rest = later;
    };
    let outgoing = Outgoing { head: &mut head.to_vec(), total: packet.len(), offload, rest };
    tunnels.seal(place, outgoing, batch, 0)
}

/// How a packet that took `route` arrives: the port of the socket, and what is known of it.
pub(crate) fn arriving(route: &Route) -> (u16, Envelope) {
    (route.to.port(), Envelope { from: route.from, to: route.to.ip(), tos: route.tos })
}

/// Opens one ESP packet; gives the space it is for and the inner packet.
pub(crate) fn open(tunnels: &mut Tunnels, route: &Route, wire: &[u8]) -> Option<(Place, Vec<u8>)> {
    let (port, envelope) = arriving(route);
    let mut wire = wire.to_vec();
    let arrived = tunnels.open(port, &envelope, &mut wire)?;
    Some((arrived.place, [&arrived.made[..], arrived.rest].concat()))
}

/// Opens all that is in a batch.
fn open_all(tunnels: &mut Tunnels, batch: &Batch) -> Vec<(Place, Vec<u8>)> {
    batch.packets().filter_map(|(route, wire)| open(tunnels, &route, wire)).collect()
}

/// Seals a packet of space 0 and opens what comes of it at the other end.
fn send(from: &mut Tunnels, to: &mut Tunnels, packet: &[u8]) -> Result<Vec<Vec<u8>>, Stopped> {
    let mut batch = Batch::default();
    seal(from, 0, packet, &mut batch)?;
    Ok(open_all(to, &batch).into_iter().map(|(_, packet)| packet).collect())
}

/// The one ESP packet that space 0 makes of a packet.
fn sealed(tunnels: &mut Tunnels, packet: &[u8]) -> (Route, Vec<u8>) {
    let mut batch = Batch::default();
    seal(tunnels, 0, packet, &mut batch).unwrap();
    let mut packets = batch.packets();
    let (route, bytes) = packets.next().unwrap();
    assert!(packets.next().is_none());
    (route, bytes.to_vec())
}

/// The inbound SA of a pair of space 0.
fn inbound(tunnels: &Tunnels, index: PairIndex) -> &InboundSa {
    let Some(PairView::Sealed(inbound, _)) = tunnels.pair(0, index) else { panic!("no SA") };
    inbound
}

/// Checks everything about an inner packet that its receiver would check.
pub(crate) fn assert_right(bytes: &[u8]) {
    let packet = Packet::parse(bytes, bytes.len()).unwrap();
    assert_eq!(packet.len(), bytes.len());
    let (source, destination) = (packet.source(), packet.destination());
    assert!(checksum::is_right(source, destination, packet.protocol(), packet.payload()));
}

#[test]
fn what_one_end_seals_the_other_opens_with_every_cipher() {
    for cipher in [Cipher::Null, Cipher::AesCbc128, Cipher::AesCbc192, Cipher::AesCbc256] {
        let (mut a, mut b) = ends(cipher);
        let mtu = usize::from(a.get(0).unwrap().mtu());
        for length in [8, 9, 100, mtu - 20] {
            let sent = packet(A, B, length);
            let (route, wire) = sealed(&mut a, &sent);
            assert!(wire.len() + 28 <= usize::from(WAY));
            let (place, arrived) = open(&mut b, &route, &wire).unwrap();
            assert_eq!((place, &arrived[12..]), (0, &sent[12..]));
            assert_right(&arrived);
        }
        let too_big = send(&mut a, &mut b, &packet(A, B, mtu - 19));
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
        let before = a.get(0).unwrap().drops.of(expected.reason());
        assert_eq!(seal(&mut a, 0, &packet, &mut batch), Err(expected));
        assert_eq!(a.get(0).unwrap().drops.of(expected.reason()), before + 1);
    }
    assert!(batch.is_empty());
    a.remove(0);
    assert!(seal(&mut a, 0, &packet(A, B, 8), &mut batch).is_err());
    assert!(batch.is_empty());
}

#[test]
fn forged_replayed_foreign_and_unknown_packets_are_counted_and_go_nowhere() {
    let (mut a, mut b) = ends(Cipher::AesCbc256);
    let (route, wire) = sealed(&mut a, &packet(A, B, 30));
    let elsewhere = Route { to: (A, 4500).into(), ..route };
    let other_port = Route { to: (B, 4501).into(), ..route };
    assert!(
        open(&mut b, &elsewhere, &wire).is_none() && open(&mut b, &other_port, &wire).is_none()
    );
    let mut forged = wire.clone();
    forged[30] ^= 1;
    assert!(open(&mut b, &route, &forged).is_none());
    assert!(open(&mut b, &route, &wire).is_some());
    assert!(open(&mut b, &route, &wire).is_none());
    let mut unknown = wire.clone();
    unknown[3] = 9;
    assert!(open(&mut b, &route, &unknown).is_none());
    // A keepalive is nothing; other datagrams that are no ESP are strays.
    assert!(open(&mut b, &route, &[0xff]).is_none() && open(&mut b, &route, &[0; 40]).is_none());
    assert_eq!(b.get(0).unwrap().drops.of(Reason::ForeignPeer), 2);
    assert_eq!((b.strays.of(Reason::UnknownSpi), b.strays.of(Reason::NotEsp)), (1, 1));
    let inbound = inbound(&b, 0);
    assert_eq!(inbound.discards().of(esp::Discard::Forged), 1);
    assert_eq!(inbound.discards().of(esp::Discard::Replayed), 1);
    assert_eq!(inbound.packets(), 1);
}

#[test]
fn two_spaces_on_one_address_are_told_apart_by_spi_alone() {
    let mut switch = Tunnels::default();
    let red = add(&mut switch, plain((A, 0x1001), (B, 0x2001))).unwrap();
    let blue = add(&mut switch, plain((A, 0x1002), (C, 0x3001))).unwrap();
    // Green has the peer of red.
    let green = add(&mut switch, plain((A, 0x1003), (B, 0x2002))).unwrap();
    let cases = [
        (B, plain((B, 0x2001), (A, 0x1001)), red),
        (C, plain((C, 0x3001), (A, 0x1002)), blue),
        (B, plain((B, 0x2002), (A, 0x1003)), green),
    ];
    for (address, theirs, place) in cases {
        let mut peer = Tunnels::default();
        add(&mut peer, theirs).unwrap();
        let (route, wire) = sealed(&mut peer, &packet(address, A, 8));
        assert_eq!(open(&mut switch, &route, &wire).unwrap().0, place);
        let mut batch = Batch::default();
        seal(&mut switch, place, &packet(A, address, 8), &mut batch).unwrap();
        assert_eq!(open_all(&mut peer, &batch).len(), 1);
    }
    let mut batch = Batch::default();
    for (place, peer) in [(red, C), (blue, B), (green, C)] {
        let stopped = seal(&mut switch, place, &packet(A, peer, 8), &mut batch);
        assert_eq!(stopped, Err(Stopped::Prohibited));
    }
    assert!(batch.is_empty());
}

#[test]
fn an_overlay_that_cannot_be_used_changes_nothing() {
    let mut tunnels = Tunnels::default();
    let good = || overlay((A, 0x1001), (B, 0x2001), Cipher::AesCbc128);
    let place = add(&mut tunnels, good()).unwrap();

    let mut second_taken = plain((A, 0x1005), (C, 0x2005));
    second_taken.sas.extend(good().sas);
    let mut short_key = overlay((A, 0x1007), (B, 0x2007), Cipher::AesCbc128);
    short_key.sas[0].outbound.cipher_key = Key::from_hex("00").unwrap();
    let mut no_sa = good();
    no_sa.sas.clear();
    let mut one_key = plain((A, 0x1007), (B, 0x2007));
    one_key.sas[0].outbound.auth_key = one_key.sas[0].inbound.auth_key.clone();
    let cases = [
        (second_taken, "0x00001001"),
        (short_key, "32 hexadecimal digits"),
        (no_sa, "no SA"),
        (one_key, "one key"),
        (plain((A, 9), (B, 0x2009)), "reserved"),
        (plain((A, 0x1009), (B, 0x2001)), "outbound SPI 0x00002001"),
        (plain((A, 0x1009), (A, 0x2009)), "another host"),
        (plain((A, 0x1009), (Ipv4Addr::BROADCAST, 0x2009)), "no address of a host"),
        (plain((A, 0x1009), (modes::B6, 0x2009)), "two families"),
    ];
    for (overlay, word) in cases {
        let refusal = add(&mut tunnels, overlay).unwrap_err().to_string();
        assert!(refusal.contains(word), "{refusal}");
        assert_eq!((tunnels.sas(), tunnels.senders.len(), tunnels.iter().count()), (1, 1, 1));
    }
    tunnels.remove(place);
    assert_eq!((tunnels.sas(), tunnels.senders.len()), (0, 0));
    assert_eq!(add(&mut tunnels, good()).unwrap(), place);
}
