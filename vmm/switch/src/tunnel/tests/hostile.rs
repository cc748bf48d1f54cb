//! Whatever a space or a stranger sends: nothing but ESP of the pair leaves, and nobody panics.

use bolero::{TypeGenerator, check};
use esp::offload::{Kind, PartialChecksum, Segmentation};

use super::modes::{INNER_A, INNER_B, tunnel_mode};
use super::*;

/// A packet that may be right, and what its guest says of it.
#[derive(Clone, Debug, TypeGenerator)]
struct Sent {
    shape: Shape,
    bytes: Vec<u8>,
    /// Places in the packet and what is written there.
    changes: Vec<(u16, u8)>,
    checksum: Option<(u16, u16)>,
    segmentation: Option<(u8, u16)>,
}

#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Shape {
    Bytes,
    Udp,
    Tcp,
    Tcp6,
    /// A chain of IPv6 extension headers.
    Extensions,
    /// Offloads that fit.
    Large,
}

impl Sent {
    fn packet(&self) -> (Vec<u8>, Offload) {
        let mut offload = Offload {
            checksum: self.checksum.map(|(start, offset)| PartialChecksum {
                start: start % 100,
                offset: offset % 100,
            }),
            segmentation: self.segmentation.map(|(kind, size)| Segmentation {
                kind: [Kind::TcpV4, Kind::TcpV6, Kind::Udp][usize::from(kind % 3)],
                size,
            }),
        };
        let [v4, v6] = INNER_A;
        let [far_v4, far_v6] = INNER_B;
        let padded = |least: usize| {
            let mut bytes = self.bytes.clone();
            bytes.resize(bytes.len().max(least), 0x50);
            bytes
        };
        let mut packet = match self.shape {
            Shape::Bytes => self.bytes.clone(),
            Shape::Udp => carried_by(v4, far_v4, UDP, padded(8)),
            Shape::Tcp => carried_by(v4, far_v4, TCP, padded(20)),
            Shape::Tcp6 => carried_by(v6, far_v6, TCP, padded(20)),
            Shape::Extensions => {
                let first = [0, 43, 44, 51, 60][self.changes.len() % 5];
                carried_by(v6, far_v6, first, padded(8))
            }
            Shape::Large => {
                let size = self.segmentation.map_or(100, |(_, size)| size);
                let (packet, right) = offload::large(v4, far_v4, TCP, &padded(1), size);
                offload = right;
                packet
            }
        };
        for (at, value) in &self.changes {
            if let Some(byte) = packet.get_mut(usize::from(*at) % 120) {
                *byte = *value;
            }
        }
        (packet, offload)
    }
}

#[test]
fn whatever_a_space_sends_only_esp_of_the_pair_leaves_and_the_peer_gets_it_right() {
    let transport = (
        overlay((A, 0x1001), (B, 0x2001), Cipher::AesCbc128),
        overlay((B, 0x2001), (A, 0x1001), Cipher::AesCbc128),
    );
    let ends = [transport, tunnel_mode(A, B)].map(|(ours, theirs)| both(ours, theirs));
    let ends = std::sync::Mutex::new(ends);
    check!().with_type::<Sent>().for_each(|sent| {
        let (packet, offload) = sent.packet();
        for (a, b) in &mut *ends.lock().unwrap() {
            let mut batch = Batch::default();
            let result = seal_with(a, 0, &packet, offload, &mut batch);
            assert!(result.is_ok() || batch.is_empty());
            assert!(batch.crossing.is_empty());
            for (route, wire) in batch.packets() {
                assert_eq!(route, Route { tos: route.tos, ..arriving_at_b() });
                assert_eq!(wire[..4], 0x2001u32.to_be_bytes());
                assert!(wire.len() + 28 <= usize::from(WAY));
                let Some((_, arrived)) = open(b, &route, wire) else { continue };
                let inner = Packet::parse(&arrived, arrived.len()).unwrap();
                let own = a.get(0).unwrap().own();
                assert!(own.contains(inner.source()), "{inner:?}");
            }
        }
    });
}

fn arriving_at_b() -> Route {
    Route { from: (A, 4500).into(), to: (B, 4500).into(), tos: 0 }
}

#[test]
fn whatever_comes_from_the_way_is_opened_only_if_it_is_authentic() {
    let ends = std::sync::Mutex::new(ends(Cipher::AesCbc128));
    check!().for_each(|bytes: &[u8]| {
        let (a, b) = &mut *ends.lock().unwrap();
        let route = Route { from: (B, 4500).into(), to: (A, 4500).into(), tos: 0 };
        // As it is, and behind the beginning of a right packet.
        let (_, right) = sealed(b, &packet(B, A, 40));
        let mut cut =
            right[..right.len().min(usize::from(bytes.first().copied().unwrap_or(8)))].to_vec();
        cut.extend(bytes.iter().skip(1));
        for wire in [bytes, &cut] {
            let is_right = wire == right;
            assert!(open(a, &route, wire).is_none() || is_right);
        }
    });
}

#[test]
fn whatever_an_authentic_peer_carries_is_a_right_packet_or_is_dropped() {
    for mode in [overlay::Mode::Transport, overlay::Mode::Tunnel] {
        let (mut ours, _) = tunnel_mode(A, B);
        if mode == overlay::Mode::Transport {
            ours = plain((A, 0x1001), (B, 0x2001));
        }
        let suite = ours.sas[0].inbound.suite;
        let of = sa(0x1001, suite);
        let keys = esp::Keys::new(suite, of.cipher_key.into_bytes(), of.auth_key.into_bytes());
        let spi = Spi::new(0x1001).unwrap();
        let parameters = esp::Parameters::default();
        let peer = OutboundSa::new(spi, keys.unwrap(), [7; 16], parameters);
        let mut tunnels = Tunnels::default();
        add(&mut tunnels, ours).unwrap();
        let ends = std::sync::Mutex::new((tunnels, peer));
        check!().with_type::<(Sent, u8, u8)>().for_each(|(sent, next_header, tos)| {
            let (tunnels, peer) = &mut *ends.lock().unwrap();
            let (payload, _) = sent.packet();
            let next_header = match mode {
                overlay::Mode::Tunnel if next_header % 8 > 0 => [4, 41][payload.len() % 2],
                _ => *next_header,
            };
            let mut wire = vec![0; peer.headroom()];
            wire.extend(payload);
            peer.seal(next_header, &mut wire, 0).unwrap();
            let route = Route { from: (B, 4500).into(), to: (A, 4500).into(), tos: *tos };
            if let Some((_, arrived)) = open(tunnels, &route, &wire) {
                let inner = Packet::parse(&arrived, arrived.len()).unwrap();
                assert_eq!(inner.len(), arrived.len());
                assert!(tunnels.get(0).unwrap().own().contains(inner.destination()));
            }
        });
    }
}
