//! SAs in one process, without sockets: found by SPI, sealed, opened.

use std::hint::black_box;

use ::switch::overlay::Suite;
use esp::{InboundSa, Keys, OutboundSa, Parameters, Sad, Spi};
use sys::clock::monotonic_ns;
use zeroize::Zeroizing;

use super::Plan;
use crate::bench::orders::fair;
use crate::failure::Outcome;
use crate::lab::network::random;
use crate::progress::Progress;
use crate::report::{Lookup, Spread};

/// Payload bytes of a packet.
const PAYLOAD: usize = 1400;

/// Lookups, and packets, of one measurement.
const LOOKUPS: u32 = 200_000;
const PACKETS: u32 = 10_000;

/// Measurements of each size: they are short, so there can be many.
const ROUNDS: usize = 24;

/// Random bytes of an SA: keys and the seed of its IVs are cut from them.
const RANDOM: usize = 128;

/// The protocol number of UDP.
const UDP: u8 = 17;

/// A SAD, and the other end of one of its SAs.
struct Store {
    sad: Sad<u32>,
    peer: OutboundSa,
    size: u32,
}

/// Measures every size.
pub(super) fn measure(plan: &Plan, progress: &Progress) -> Outcome<Vec<Lookup>> {
    let mut stores = Vec::new();
    for &size in &plan.sas {
        progress.step(&format!("{size} SAs in one process: fresh keys"));
        stores.push(Store::new(plan.suite, size)?);
    }
    progress.step("lookups and packets in one process");
    let mut taken = vec![[const { Vec::new() }; 3]; stores.len()];
    let orders = fair(stores.len());
    progress.quiet(|| {
        for round in 0..ROUNDS {
            for &at in &orders[round % orders.len()] {
                let store = &mut stores[at];
                let figures = [store.busy_ns(), store.each_ns(), store.packet_ns()];
                // The first round fills caches and learns branches.
                if round > 0 {
                    taken[at].iter_mut().zip(figures).for_each(|(all, figure)| all.push(figure));
                }
            }
        }
    });
    let smallest = taken[0][2].clone();
    let rows = plan.sas.iter().zip(&taken).map(|(&size, [busy, each, packet])| Lookup {
        sas: size.into(),
        busy_ns: Spread::of(busy),
        each_ns: Spread::of(each),
        packet_ns: Spread::of(packet),
        growth: Spread::of_ratios(packet, &smallest),
    });
    Ok(rows.collect())
}

impl Store {
    fn new(suite: Suite, size: u32) -> Outcome<Self> {
        // One request for all: a million small ones would take longer than the rest.
        let bytes = random(RANDOM * size as usize)?;
        let mut sad = Sad::new();
        let mut peer = None;
        for (number, random) in bytes.chunks_exact(RANDOM).enumerate() {
            let (number, spi) = (number as u32, nth(number as u32));
            sad.insert(inbound(suite, spi, random), number).expect("all SPIs differ");
            if number == size / 2 {
                peer = Some(outbound(suite, spi, random));
            }
        }
        Ok(Self { sad, peer: peer.expect("no size is 0"), size })
    }

    /// Finding one SA over and over.
    fn busy_ns(&mut self) -> f64 {
        let spi = self.peer.spi();
        per_turn(LOOKUPS, |_| {
            black_box(self.sad.lookup(black_box(spi)).map(|(_, owner)| *owner));
        })
    }

    /// Finding every SA in turn.
    fn each_ns(&mut self) -> f64 {
        let mut next = 0;
        per_turn(LOOKUPS, |_| {
            next = if next + 1 < self.size { next + 1 } else { 0 };
            black_box(self.sad.lookup(black_box(nth(next))).map(|(_, owner)| *owner));
        })
    }

    /// A packet's whole way, but for the wire.
    fn packet_ns(&mut self) -> f64 {
        let headroom = self.peer.headroom();
        let mut packet = Vec::with_capacity(2048);
        per_turn(PACKETS, |_| {
            packet.clear();
            packet.resize(headroom + PAYLOAD, 7);
            self.peer.seal(UDP, &mut packet, 0).expect("it is not the last");
            let spi = packet.first_chunk().map(|spi| u32::from_be_bytes(*spi));
            let spi = Spi::new(spi.expect("it begins with its SPI")).expect("it is not reserved");
            let (sa, _) = self.sad.lookup(spi).expect("it is there");
            let opened = sa.open(&mut packet).expect("it is fresh and authentic");
            black_box(opened.payload.len());
        })
    }
}

/// Nanoseconds of one of `turns`.
fn per_turn(turns: u32, turn: impl FnMut(u32)) -> f64 {
    let start_ns = monotonic_ns();
    (0..turns).for_each(turn);
    (monotonic_ns() - start_ns) as f64 / f64::from(turns)
}

/// SPIs in an order that neither memory nor hash table knows; all differ.
fn nth(number: u32) -> Spi {
    // An odd factor makes it a permutation of 24 bits; the top keeps it unreserved.
    let number = 0x5a00_0000 | number.wrapping_mul(0x9e_3779) & 0xff_ffff;
    Spi::new(number).expect("it is not reserved")
}

fn keys(suite: Suite, random: &[u8]) -> Keys {
    let (cipher_key, rest) = random.split_at(suite.cipher_key_len());
    let auth_key = rest[..suite.auth_key_len()].to_vec();
    let [cipher_key, auth_key] = [cipher_key.to_vec(), auth_key].map(Zeroizing::new);
    Keys::new(suite, cipher_key, auth_key).expect("the lengths are the suite's")
}

fn inbound(suite: Suite, spi: Spi, random: &[u8]) -> InboundSa {
    InboundSa::new(spi, keys(suite, random), Parameters::default())
}

fn outbound(suite: Suite, spi: Spi, random: &[u8]) -> OutboundSa {
    let seed = *random.last_chunk().expect("longer than a seed");
    OutboundSa::new(spi, keys(suite, random), seed, Parameters::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::switch::overlay::Aead;

    #[test]
    fn every_packet_finds_its_sa_among_all_of_them() {
        let mut store = Store::new(Suite::Aead(Aead::AesGcm256), 1000).unwrap();
        store.packet_ns();
        let (sa, owner) = store.sad.get(store.peer.spi()).unwrap();
        assert_eq!((sa.packets(), *owner), (u64::from(PACKETS), 500));
        let others = store.sad.iter().filter(|(sa, _)| sa.packets() > 0).count();
        assert_eq!(others, 1);
    }
}
