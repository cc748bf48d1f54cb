//! The inbound SAs of one switch, found by SPI (RFC 4301 4.4.2).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use crate::{InboundSa, Spi};

/// Inbound SAs, each with what its packets are for: the space, the policy, the peer.
///
/// A lookup takes the same time however many SAs there are, and whatever SPI a
/// stranger asks for.
#[derive(Default)]
pub struct Sad<T> {
    /// Boxed, so that the table itself stays small and moves little when it grows.
    entries: HashMap<Spi, Box<(InboundSa, T)>, BuildHasherDefault<SpiHasher>>,
}

/// An SPI is in use: it names one SA only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("inbound SPI {0} is in use: give every inbound SA of this host an SPI of its own")]
pub struct DuplicateSpi(pub Spi);

impl<T> Sad<T> {
    /// A SAD without SAs: nothing is opened.
    pub fn new() -> Sad<T> {
        Sad { entries: HashMap::default() }
    }

    /// Adds an SA and what it is for.
    ///
    /// # Errors
    /// [`DuplicateSpi`] if its SPI is in use; the SA given is dropped, the other stays.
    pub fn insert(&mut self, sa: InboundSa, owner: T) -> Result<(), DuplicateSpi> {
        match self.entries.entry(sa.spi()) {
            Entry::Occupied(entry) => Err(DuplicateSpi(*entry.key())),
            Entry::Vacant(entry) => {
                entry.insert(Box::new((sa, owner)));
                Ok(())
            }
        }
    }

    /// The SA with exactly this SPI, and what it is for.
    pub fn lookup(&mut self, spi: Spi) -> Option<(&mut InboundSa, &mut T)> {
        let (sa, owner) = &mut **self.entries.get_mut(&spi)?;
        Some((sa, owner))
    }

    /// The same, to look at only.
    pub fn get(&self, spi: Spi) -> Option<(&InboundSa, &T)> {
        let (sa, owner) = &**self.entries.get(&spi)?;
        Some((sa, owner))
    }

    /// Takes an SA out; its keys go when it is dropped.
    pub fn remove(&mut self, spi: Spi) -> Option<(InboundSa, T)> {
        self.entries.remove(&spi).map(|entry| *entry)
    }

    /// Every SA, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&InboundSa, &T)> {
        self.entries.values().map(|entry| (&entry.0, &entry.1))
    }

    /// Every SA, in no order, to tell them the time.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&mut InboundSa, &mut T)> {
        self.entries.values_mut().map(|entry| (&mut entry.0, &mut entry.1))
    }

    /// How many SAs there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Spreads SPIs over the table: one multiplication, its high half folded in.
///
/// A keyed hash would defend against nothing: how long a lookup takes depends
/// on the SPIs in the table, which this host chose, and a stranger can only ask
/// for others. But ours may be consecutive or share their low bits, so all
/// bits must reach both ends of the hash.
#[derive(Default)]
struct SpiHasher(u64);

impl Hasher for SpiHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("an SPI is hashed as one u32");
    }

    fn write_u32(&mut self, spi: u32) {
        // The odd constant nearest to 2^64 / the golden ratio (Knuth, TAOCP 3, 6.4).
        let product = u64::from(spi).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests;
