//! What comes from the network: ESP, what it carries, the datagrams around it, ICMP about it.

use std::net::IpAddr;
use std::sync::LazyLock;

use esp::icmp::{self, Unreachable};
use esp::ip::{Header, Mode, Packet};
use esp::natt::{self, Datagram};
use esp::{Flow, InboundSa, Keys, OutboundSa, Parameters, Spi, checksum};
use switch::batch::Route;
use switch::drops::Reason;
use switch::tunnel::Tunnels;
use sys::socket::Envelope;

use crate::seeds::Seed;
use crate::user::{self, A, B};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

fn keys() -> Keys {
    let [cipher, auth] = [(16, 1), (32, 2)].map(|(length, byte)| vec![byte; length].into());
    Keys::new(user::SUITE, cipher, auth).unwrap()
}

fn spi() -> Spi {
    Spi::new(user::INBOUND).unwrap()
}

/// The peer's end of our inbound SA.
fn peer() -> OutboundSa {
    OutboundSa::new(spi(), keys(), [7; 16], Parameters::default())
}

fn sealed(peer: &mut OutboundSa, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; peer.headroom()];
    packet.extend(payload);
    peer.seal(next_header, &mut packet, 0).unwrap();
    packet
}

/// A packet with a right header and checksum.
pub(crate) fn packet_of(source: IpAddr, destination: IpAddr, protocol: u8, of: &[u8]) -> Vec<u8> {
    let mut payload = of.to_vec();
    if checksum::position(protocol).is_some() {
        checksum::fill(source, destination, protocol, &mut payload).unwrap();
    }
    let header = Header::new(source, destination, protocol).bytes(payload.len()).unwrap();
    [&header[..], &payload].concat()
}

const DATAGRAM: [u8; 12] = [4, 0, 0, 7, 0, 12, 0, 0, 1, 2, 3, 4];
const SYN: [u8; 24] =
    [4, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 1, 0, 0, 0, 0, 0, 2, 4, 0x23, 0x28];
const ECHO: [u8; 8] = [8, 0, 0xf7, 0xfe, 0, 0, 0, 1];

static SEALED: LazyLock<Vec<Seed>> = LazyLock::new(|| {
    let mut peer = peer();
    vec![
        ("datagram", sealed(&mut peer, UDP, &DATAGRAM)),
        ("syn", sealed(&mut peer, TCP, &SYN)),
        ("dummy", sealed(&mut peer, 59, &[0; 20])),
        ("empty", sealed(&mut peer, UDP, &[])),
    ]
});

pub(crate) fn sealed_seeds() -> Vec<Seed> {
    SEALED.clone()
}

/// Nobody opens what was not sealed.
pub(crate) fn stranger(bytes: &[u8]) {
    let mut sa = InboundSa::new(spi(), keys(), Parameters::default());
    let opened = sa.open(&mut bytes.to_vec()).is_ok();
    assert!(!opened || SEALED.iter().any(|(_, sealed)| sealed == bytes));
    assert_eq!(sa.discards().total(), u64::from(!opened));
    assert!(opened || sa.packets() == 0);
}

/// A mode, a next header, an outer traffic class and a payload.
pub(crate) fn carried_seeds() -> Vec<Seed> {
    let of = |start: [u8; 3], rest: &[u8]| [&start[..], rest].concat();
    let mut seeds = vec![
        ("transport-udp", of([0, UDP, 0], &DATAGRAM)),
        ("transport-tcp", of([0, TCP, 3], &SYN)),
        ("transport-icmp", of([0, ICMP, 0], &ECHO)),
    ];
    for (name, bytes) in packet_seeds() {
        let protocol = if bytes[0] >> 4 == 4 { 4 } else { 41 };
        seeds.push((name, of([1, protocol, 3], &bytes)));
    }
    seeds
}

/// What a peer with the right keys sends is a right packet for the space, or dropped and counted.
pub(crate) fn carried(bytes: &[u8]) {
    let Some((&[mode, next_header, tos], payload)) = bytes.split_first_chunk() else { return };
    let mode = if mode % 2 == 0 { Mode::Transport } else { Mode::Tunnel };
    let mut tunnels = user::tunnels(mode);
    let Some(payload) = payload.get(..payload.len().min(60_000)) else { return };
    let mut wire = sealed(&mut peer(), next_header, payload);
    let envelope = Envelope { from: (B, 4500).into(), to: A.into(), tos };
    let tunnel = tunnels.get(0).unwrap();
    let own = tunnel.own();
    let arrived = tunnels.open(4500, &envelope, &mut wire);
    let Some(arrived) = arrived else {
        let Some(switch::tunnel::PairView::Sealed(inbound, _)) = tunnels.pair(0, 0) else {
            panic!("the pair is there");
        };
        assert_eq!(inbound.discards().total(), 1);
        return;
    };
    let whole = [&arrived.made[..], arrived.rest].concat();
    let packet = Packet::parse(&whole, whole.len()).unwrap();
    assert_eq!(packet.len(), whole.len());
    assert!(own.contains(packet.destination()));
}

pub(crate) fn datagram_seeds() -> Vec<Seed> {
    let mut seeds = sealed_seeds();
    seeds.push(("keepalive", natt::KEEPALIVE.to_vec()));
    seeds.push(("ike", [&natt::NON_ESP_MARKER[..], &[1; 28]].concat()));
    seeds.push(("reserved", vec![0, 0, 0, 255, 0, 0, 0, 1]));
    seeds
}

/// A datagram is exactly one thing, and a stray unless an SA is there.
pub(crate) fn datagram(bytes: &[u8]) {
    let route = Route { from: (B, 4500).into(), to: (A, 4500).into(), tos: 0 };
    let envelope = Envelope { from: route.from, to: route.to.ip(), tos: 0 };
    let mut nobody = Tunnels::default();
    assert!(nobody.open(4500, &envelope, &mut bytes.to_vec()).is_none());
    let expected = match natt::classify(bytes) {
        Datagram::Keepalive => return assert_eq!((bytes, nobody.strays.total()), (&[0xff][..], 0)),
        Datagram::Ike(message) => {
            assert_eq!((&bytes[..4], message), (&[0; 4][..], &bytes[4..]));
            Reason::NotEsp
        }
        Datagram::Malformed => Reason::NotEsp,
        Datagram::Esp(spi) => {
            assert_eq!(spi.to_be_bytes(), bytes[..4]);
            Reason::UnknownSpi
        }
    };
    assert_eq!((nobody.strays.of(expected), nobody.strays.total()), (1, 1));
}

pub(crate) fn packet_seeds() -> Vec<Seed> {
    let [own, own6] = user::OWN;
    let [far, far6] = user::FAR;
    let chain =
        |first: u8, headers: &[u8]| packet_of(far6, own6, first, &[headers, &DATAGRAM].concat());
    let options = {
        let mut packet = packet_of(far, own, UDP, &[&[1; 4][..], &DATAGRAM].concat());
        packet[0] = 0x46;
        packet[10..12].fill(0);
        let sum = checksum::Sum::of(&packet[..24]).checksum();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    };
    vec![
        ("udp", packet_of(far, own, UDP, &DATAGRAM)),
        ("tcp", packet_of(far, own, TCP, &SYN)),
        ("icmp", packet_of(far, own, ICMP, &ECHO)),
        ("options", options),
        ("udp6", packet_of(far6, own6, UDP, &DATAGRAM)),
        ("icmp6", packet_of(far6, own6, ICMPV6, &[128, 0, 0, 0, 0, 0, 0, 1])),
        ("hop-by-hop", chain(0, &[UDP, 0, 1, 4, 0, 0, 0, 0])),
        ("routing", chain(43, &[UDP, 0, 3, 0, 0, 0, 0, 0])),
        ("fragment", chain(44, &[UDP, 0, 0, 1, 0, 0, 0, 9])),
        ("later-fragment", chain(44, &[UDP, 0, 0, 9, 0, 0, 0, 9])),
        ("ah", chain(51, &[UDP, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1])),
        ("destination-options", chain(60, &[60, 0, 1, 4, 0, 0, 0, 0, UDP, 0, 1, 4, 0, 0, 0, 0])),
    ]
}

/// A packet is judged by its head as it is judged by all of it.
pub(crate) fn packet(bytes: &[u8]) {
    let whole = Packet::parse(bytes, bytes.len());
    let head = Packet::parse(&bytes[..bytes.len().min(256)], bytes.len());
    let Ok(packet) = whole else { return assert!(head.is_err()) };
    assert!(packet.len() <= bytes.len() && packet.payload_offset() <= packet.len());
    if let Ok(head) = head {
        let seen = |p: &Packet<'_>| (p.len(), p.protocol(), p.payload_offset(), p.fragment());
        assert_eq!(seen(&head), seen(&packet));
    }
    for mode in [Mode::Transport, Mode::Tunnel] {
        if let Ok(carried) = packet.carried(mode) {
            assert!(carried.offset <= packet.len());
        }
    }
    if let (Ok(out), Ok(back)) = (Flow::outbound(&packet), Flow::inbound(&packet)) {
        assert_eq!((out.local, out.remote), (back.remote, back.local));
    }
    for why in [Unreachable::Prohibited, Unreachable::TooBig(1400)] {
        let Some(error) = icmp::unreachable(&packet, why) else { continue };
        let error = Packet::parse(&error, error.len()).unwrap();
        assert_eq!(error.destination(), packet.source());
        assert!(icmp::unreachable(&error, why).is_none(), "no error is about an error");
        let heard = icmp::too_big(error.payload(), error.is_v4());
        assert!(heard.is_none_or(|heard| heard.mtu == 1400));
    }
}

/// A family, and an ICMP message.
pub(crate) fn icmp_seeds() -> Vec<Seed> {
    let (_, wire) = &SEALED[0];
    let udp = [&[0x11, 0x94, 0x11, 0x94, 0, 60, 0, 0][..], wire].concat();
    let error = |first: u8, mut message: Vec<u8>, quoted: Vec<u8>| {
        message.extend(quoted);
        if first == 4 {
            let sum = checksum::Sum::of(&message).checksum();
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        [&[first][..], &message].concat()
    };
    let (a, b) = (IpAddr::from(A), IpAddr::from(B));
    let [a6, b6] = [user::OWN[1], user::FAR[1]];
    let [v4, v6] = [vec![3, 4, 0, 0, 0, 0, 5, 0], vec![2, 0, 0, 0, 0, 0, 5, 0]];
    vec![
        ("udp", error(4, v4.clone(), packet_of(a, b, UDP, &udp))),
        ("raw", error(4, v4, packet_of(a, b, 50, wire))),
        ("udp6", error(6, v6.clone(), packet_of(a6, b6, UDP, &udp))),
        ("raw6", error(6, v6, packet_of(a6, b6, 50, wire))),
    ]
}

/// An error says an MTU that such a way can have, or nothing.
pub(crate) fn icmp(bytes: &[u8]) {
    let Some((family, message)) = bytes.split_first() else { return };
    let is_v4 = family % 2 == 0;
    if let Some(heard) = icmp::too_big(message, is_v4) {
        assert!(heard.mtu >= if is_v4 { 68 } else { 1280 });
        assert_eq!((heard.source.is_ipv4(), heard.destination.is_ipv4()), (is_v4, is_v4));
    }
}
