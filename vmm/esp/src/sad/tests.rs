//! All bits of an SPI count, and an SPI is one SA's.

use super::*;
use crate::{Age, Keys, Lifetime, Limits, Parameters};

fn sa(spi: u32) -> InboundSa {
    let suite = "null+hmac-sha256".parse().unwrap();
    let keys = Keys::new(suite, Vec::new().into(), vec![0; 32].into()).unwrap();
    let hard = Limits { seconds: Some(60), ..Limits::default() };
    let lifetime = Lifetime { hard, ..Lifetime::default() };
    let parameters = Parameters { lifetime, ..Parameters::default() };
    InboundSa::new(Spi::new(spi).unwrap(), keys, parameters)
}

#[test]
fn an_sa_is_found_by_all_32_bits_of_its_spi() {
    let mut sad = Sad::new();
    sad.insert(sa(0x8000_1001), "red").unwrap();
    for bit in 0..32 {
        assert!(sad.lookup(Spi::new(0x8000_1001 ^ 1 << bit).unwrap()).is_none());
    }
    let (found, owner) = sad.lookup(Spi::new(0x8000_1001).unwrap()).unwrap();
    assert_eq!((found.spi().number(), *owner), (0x8000_1001, "red"));
    let (found, owner) = sad.get(Spi::new(0x8000_1001).unwrap()).unwrap();
    assert_eq!((found.spi().number(), *owner), (0x8000_1001, "red"));
}

#[test]
fn a_duplicate_spi_is_refused_until_the_first_is_removed() {
    let mut sad = Sad::new();
    let spi = Spi::new(0x1001).unwrap();
    sad.insert(sa(0x1001), "red").unwrap();
    assert_eq!(sad.insert(sa(0x1001), "blue"), Err(DuplicateSpi(spi)));
    assert_eq!(sad.lookup(spi).map(|(_, owner)| *owner), Some("red"));
    assert_eq!(sad.remove(spi).map(|(_, owner)| owner), Some("red"));
    assert!(sad.lookup(spi).is_none() && sad.is_empty());
    sad.insert(sa(0x1001), "blue").unwrap();
    assert_eq!((sad.len(), sad.iter().count()), (1, 1));
}

#[test]
fn every_sa_can_be_told_the_time() {
    let mut sad = Sad::new();
    (0x1000..0x1010).for_each(|spi| sad.insert(sa(spi), spi).unwrap());
    let expired = sad.iter_mut().filter_map(|(sa, spi)| {
        (sa.tick(60) == Age::HardExpired && sa.spi().number() == *spi).then_some(())
    });
    assert_eq!(expired.count(), 16);
    assert!(sad.iter().all(|(sa, _)| sa.age() == Age::HardExpired));
}

#[test]
fn regular_spis_spread_over_both_ends_of_the_hash() {
    // hashbrown takes the bucket from the low bits and a tag from the high ones.
    for shift in [0, 4, 8, 16] {
        let (mut low, mut high) = ([0_u32; 256], [0_u32; 128]);
        for number in 0..0x1000_u32 {
            let mut hasher = SpiHasher::default();
            hasher.write_u32(number << shift);
            low[hasher.finish() as usize & 0xff] += 1;
            high[(hasher.finish() >> 57) as usize] += 1;
        }
        assert!(low.iter().all(|count| *count < 4 * 16), "shift {shift}: {low:?}");
        assert!(high.iter().all(|count| *count < 4 * 32), "shift {shift}: {high:?}");
    }
}
