//! Overlays with fresh random keys that no file describes.

use std::net::Ipv4Addr;

use switch::overlay::{
    DEFAULT_WINDOW, Dscp, Encapsulation, Key, Lifetime, Limits, Mode, Overlay, Sa, SaPair, Suite,
    Traffic,
};
use zeroize::Zeroizing;

use crate::failure::Outcome;
use crate::lab::network::random;

/// An overlay of these SAs.
pub(super) fn overlay(local: Ipv4Addr, peer: Ipv4Addr, mode: Mode, sas: Vec<SaPair>) -> Overlay {
    Overlay {
        local: local.into(),
        peer: peer.into(),
        encapsulation: Encapsulation::default(),
        mode,
        addresses: Vec::new(),
        sas,
        policies: Vec::new(),
        dscp: Dscp::Clear,
        keepalive_s: 0,
        limits: Limits::default(),
    }
}

/// Pairs of SAs; those of a pair have the same SPI in both directions, and no key is there twice.
pub(super) fn pairs(suite: Suite, first_spi: u32, count: u32) -> Outcome<Vec<SaPair>> {
    let (cipher, auth) = (suite.cipher_key_len(), suite.auth_key_len());
    let bytes = random(2 * (cipher + auth) * count as usize)?;
    let sa = |spi, random: &[u8]| {
        let key = |bytes: &[u8]| Key::from_bytes(Zeroizing::new(bytes.to_vec()));
        let (cipher_key, auth_key) = random.split_at(cipher);
        Sa { spi, suite, cipher_key: key(cipher_key), auth_key: key(auth_key) }
    };
    let pairs = bytes.chunks_exact(2 * (cipher + auth)).zip(first_spi..).map(|(random, spi)| {
        let (inbound, outbound) = random.split_at(cipher + auth);
        SaPair {
            inbound: sa(spi, inbound),
            outbound: sa(spi, outbound),
            traffic: Traffic::default(),
            esn: false,
            window: DEFAULT_WINDOW,
            lifetime: Lifetime::default(),
        }
    });
    Ok(pairs.collect())
}

/// The same pairs as the other end has them.
pub(super) fn mirrored(pairs: &[SaPair]) -> Vec<SaPair> {
    let turn = |pair: &SaPair| SaPair {
        inbound: pair.outbound.clone(),
        outbound: pair.inbound.clone(),
        ..pair.clone()
    };
    pairs.iter().map(turn).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_sas_share_a_key_and_no_two_pairs_an_spi() {
        for suite in Suite::ALL {
            let pairs = pairs(suite, 0x1000, 50).unwrap();
            let sas = pairs.iter().flat_map(|pair| [&pair.inbound, &pair.outbound]);
            let key = |sa: &Sa| serde_json::to_string(&(&sa.cipher_key, &sa.auth_key)).unwrap();
            assert_eq!(sas.map(key).collect::<HashSet<_>>().len(), 100, "{suite}");
            let spis: HashSet<u32> = pairs.iter().map(|pair| pair.inbound.spi).collect();
            assert_eq!(spis.len(), 50);
        }
    }
}
