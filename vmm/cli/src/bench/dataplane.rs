//! The data plane without sockets, against the cipher alone.
//!
//! A packet of a space: headers read, policy asked, SA found, sealed into a batch; and
//! one from a peer: SA found, opened, checked against policy and SA.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::process::ExitCode;

use esp::ip::{Header, protocol};
use esp::offload::Offload;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use switch::batch::Batch;
use switch::overlay::{Aead, DEFAULT_PORT, Mode, Suite};
use switch::tunnel::{Outgoing, Place, Tunnels};
use sys::clock::monotonic_ns;
use sys::socket::Envelope;

use super::orders::fair;
use super::{Output, fresh};
use crate::failure::Outcome;
use crate::lab::network::random;
use crate::plot;
use crate::progress::Progress;
use crate::report::{DataPlane, Path, Spread};

/// Bytes that are sealed: of the payload in transport mode, of the packet in tunnel mode.
pub const SEALED: usize = 1400;

/// Packets of a batch; few enough for the cache.
pub const READY: usize = 32;

/// The algorithm whose cost is compared with `ring` alone.
const SUITE: Suite = Suite::Aead(Aead::AesGcm256);

/// Bytes of a packet that the switch looks at; the rest it only copies.
const HEAD: usize = 256;

/// Batches of one measurement.
const BATCHES: usize = 200;

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);

/// `ring` alone, sealing in place.
pub struct Alone {
    key: LessSafeKey,
    nonce: u64,
    bytes: Vec<u8>,
}

impl Alone {
    /// With a fresh key.
    ///
    /// # Errors
    /// The kernel has no random numbers yet.
    pub fn fresh() -> Outcome<Self> {
        let key = UnboundKey::new(&AES_256_GCM, &random(32)?).expect("a key of 32 bytes");
        Ok(Self { key: LessSafeKey::new(key), nonce: 0, bytes: vec![7; SEALED] })
    }

    /// Seals a packet.
    pub fn seal(&mut self) {
        self.nonce += 1;
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.nonce.to_be_bytes());
        let (nonce, aad) = (Nonce::assume_unique_for_key(nonce), Aad::from([1_u8; 8]));
        let sealed = self.key.seal_in_place_separate_tag(nonce, aad, &mut self.bytes);
        let _tag = black_box(sealed.expect("it is short enough"));
    }
}

/// Both ends of an overlay, and a packet between them.
pub struct Plane {
    near: Tunnels,
    far: Tunnels,
    places: [Place; 2],
    /// From A to B and back, UDP with its checksum.
    packets: [Vec<u8>; 2],
    batch: Batch,
    /// Packets to A that wait to be opened.
    ready: Vec<Vec<u8>>,
}

impl Plane {
    /// With fresh keys.
    ///
    /// # Errors
    /// The kernel has no random numbers yet.
    pub fn fresh(mode: Mode) -> Outcome<Self> {
        let pairs = fresh::pairs(SUITE, 0x1000, 1)?;
        let (mut near, mut far) = (Tunnels::default(), Tunnels::default());
        let mirrored = fresh::mirrored(&pairs);
        let places = [(&mut near, A, B, pairs), (&mut far, B, A, mirrored)].map(|end| {
            let (tunnels, local, peer, pairs) = end;
            let overlay = fresh::overlay(local, peer, mode, pairs);
            tunnels.add(overlay, 1500, 0, || [1; 16]).expect("the overlay is sound")
        });
        let packets = [packet(A, B, mode), packet(B, A, mode)];
        Ok(Self { near, far, places, packets, batch: Batch::default(), ready: Vec::new() })
    }

    /// Seals a batch of packets from A.
    pub fn seal(&mut self) {
        self.batch.clear();
        for _ in 0..READY {
            seal(&mut self.near, self.places[0], &mut self.packets[0], &mut self.batch);
        }
        assert_eq!(self.batch.len(), READY, "every packet is sealed");
    }

    /// Has B seal a batch of packets to A.
    pub fn prepare(&mut self) {
        self.batch.clear();
        for _ in 0..READY {
            seal(&mut self.far, self.places[1], &mut self.packets[1], &mut self.batch);
        }
        self.ready = self.batch.packets().map(|(_, packet)| packet.to_vec()).collect();
    }

    /// Opens what [`Plane::prepare`] made ready; gives how many packets were welcome.
    pub fn open(&mut self) -> usize {
        let envelope = Envelope { from: (B, DEFAULT_PORT).into(), to: A.into(), tos: 0 };
        let open = |datagram: &mut Vec<u8>| {
            self.near.open(DEFAULT_PORT, &envelope, datagram).map(|arrived| arrived.rest.len())
        };
        self.ready.iter_mut().filter_map(open).filter(|&length| black_box(length) > 0).count()
    }
}

fn seal(tunnels: &mut Tunnels, place: Place, packet: &mut [u8], batch: &mut Batch) {
    let total = packet.len();
    let (head, mut tail) = packet.split_at_mut(HEAD);
    let rest = |bytes: &mut [u8]| {
        let (now, later) = std::mem::take(&mut tail).split_at_mut(bytes.len());
        bytes.copy_from_slice(now);
        tail = later;
    };
    let outgoing = Outgoing { head, total, offload: Offload::default(), rest };
    tunnels.seal(place, outgoing, batch, 0).expect("policy protects it");
}

/// A UDP packet of which [`SEALED`] bytes are sealed.
fn packet(from: Ipv4Addr, to: Ipv4Addr, mode: Mode) -> Vec<u8> {
    let headers = if mode == Mode::Tunnel { esp::ip::V4_HEADER } else { 0 };
    let length = SEALED - headers;
    let header = Header::new(from.into(), to.into(), protocol::UDP).bytes(length);
    let mut packet = header.expect("it is short").to_vec();
    let mut datagram = vec![7; length];
    datagram[..4].copy_from_slice(&[0x1b, 0x58, 0x1b, 0x59]);
    datagram[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    datagram[6..8].fill(0);
    esp::checksum::fill(from.into(), to.into(), protocol::UDP, &mut datagram)
        .expect("it is a whole datagram");
    packet.extend(datagram);
    packet
}

/// Measures and prints; needs no lab.
///
/// # Errors
/// The kernel has no random numbers yet, or a plot cannot be written.
pub fn run(rounds: u32, output: &Output) -> Outcome<ExitCode> {
    let plots = output.plots()?;
    let progress = Progress::new();
    progress.step("the data plane without sockets");
    let report = progress.quiet(|| measure(rounds))?;
    drop(progress);
    output.print(&report, DataPlane::text);
    plots.write("dataplane.svg", &plot::data_plane(&report))?;
    Ok(ExitCode::SUCCESS)
}

/// Everything that is compared.
struct Contest {
    alone: Alone,
    transport: Plane,
    tunnel: Plane,
}

/// A way of a packet and its time, ns.
type Way = (&'static str, fn(&mut Contest) -> f64);

/// Every way; all are compared with the first.
const WAYS: [Way; 5] = [
    ("ring alone", |contest| per_packet(|_| (0..READY).for_each(|_| contest.alone.seal()))),
    ("out, transport", |contest| out(&mut contest.transport)),
    ("in, transport", |contest| inward(&mut contest.transport)),
    ("out, tunnel", |contest| out(&mut contest.tunnel)),
    ("in, tunnel", |contest| inward(&mut contest.tunnel)),
];

fn measure(rounds: u32) -> Outcome<DataPlane> {
    let [transport, tunnel] = [Plane::fresh(Mode::Transport)?, Plane::fresh(Mode::Tunnel)?];
    let mut contest = Contest { alone: Alone::fresh()?, transport, tunnel };
    let mut taken: [Vec<f64>; WAYS.len()] = Default::default();
    // The caches are filled, the branches learnt.
    for (_, way) in WAYS {
        way(&mut contest);
    }
    let orders = fair(WAYS.len());
    for round in 0..rounds as usize {
        for &at in &orders[round % orders.len()] {
            let ns = WAYS[at].1(&mut contest);
            taken[at].push(ns);
        }
    }
    let path = |((name, _), ns): (&Way, &Vec<f64>)| Path {
        name,
        ns: Spread::of(ns),
        ratio: Spread::of_ratios(ns, &taken[0]),
    };
    let paths = WAYS.iter().zip(&taken).map(path).collect();
    Ok(DataPlane { suite: SUITE.name(), sealed_bytes: SEALED, paths })
}

fn out(plane: &mut Plane) -> f64 {
    per_packet(|_| plane.seal())
}

/// Only the opening counts.
fn inward(plane: &mut Plane) -> f64 {
    let mut ns = 0;
    for _ in 0..BATCHES {
        plane.prepare();
        let start_ns = monotonic_ns();
        let welcome = plane.open();
        ns += monotonic_ns() - start_ns;
        assert_eq!(welcome, READY, "every packet is welcome");
    }
    ns as f64 / (BATCHES * READY) as f64
}

/// Nanoseconds of one of the packets of each batch.
fn per_packet(batch: impl FnMut(usize)) -> f64 {
    let start_ns = monotonic_ns();
    (0..BATCHES).for_each(batch);
    (monotonic_ns() - start_ns) as f64 / (BATCHES * READY) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_that_was_sealed_is_welcome_at_the_other_end() {
        for mode in [Mode::Transport, Mode::Tunnel] {
            let mut plane = Plane::fresh(mode).unwrap();
            plane.seal();
            let sealed: Vec<usize> = plane.batch.packets().map(|(_, bytes)| bytes.len()).collect();
            // SPI, sequence number, IV; trailer up to a multiple of 4; ICV.
            assert_eq!(sealed, [8 + 8 + SEALED + 4 + 16; READY], "{mode:?}");
            plane.prepare();
            assert_eq!(plane.open(), READY, "{mode:?}");
            assert_eq!(plane.open(), 0, "replayed, {mode:?}");
        }
    }
}
