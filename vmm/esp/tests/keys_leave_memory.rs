//! Looks through the process's own memory for keys and what was made of them.
//!
//! A test program of its own, with one test: no other thread's memory is in the way.

#![allow(clippy::disallowed_types, reason = "the memory is read through /proc/self/mem")]

use std::fs::{self, File};
use std::hint::black_box;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use esp::{Cipher, InboundSa, Keys, OutboundSa, Sad, Spi, WindowSize};
use sha2::block_api::compress256;
use zeroize::{Zeroize, Zeroizing};

/// What is looked for, every bit inverted so that it does not find itself.
struct Inverted([u8; 16]);

impl Inverted {
    fn new(secret: &[u8]) -> Inverted {
        Inverted(std::array::from_fn(|at| !secret[at]))
    }

    fn is_at(&self, bytes: &[u8]) -> bool {
        bytes.iter().zip(self.0).all(|(byte, inverted)| *byte == !inverted)
    }
}

/// How often `secret` is in writable memory other than this thread's stack, where
/// the compiler may leave what safe code cannot reach.
fn copies(secret: &Inverted) -> usize {
    let memory = File::open("/proc/self/mem").expect("it is this process");
    let stack = &raw const memory as u64;
    let maps = fs::read_to_string("/proc/self/maps").expect("it is this process");
    let writable = maps.lines().filter(|line| line.contains(" rw")).map(range);
    let mut buffer = vec![0; 1 << 16];
    let mut found = 0;
    for range in writable.filter(|range| !range.contains(&stack)) {
        // Pieces overlap by the length of a secret less one.
        for at in range.clone().step_by(buffer.len() - 15) {
            let len = buffer.len().min((range.end - at) as usize);
            // Not every mapping can be read; keys are not in those of devices.
            let len = memory.read_at(&mut buffer[..len], at).unwrap_or(0);
            found += buffer[..len].windows(16).filter(|bytes| secret.is_at(bytes)).count();
            buffer.as_mut_slice().zeroize();
        }
    }
    found
}

fn range(line: &str) -> Range<u64> {
    let address = |text| u64::from_str_radix(text, 16).expect("an address");
    let (range, _) = line.split_once(' ').expect("a mapping has a range and more");
    let (start, end) = range.split_once('-').expect("a range has two ends");
    address(start)..address(end)
}

/// 32 bytes that are nowhere in the program.
fn secret(seed: u64) -> Zeroizing<Vec<u8>> {
    let mut state = black_box(seed) | 1;
    let next = |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    Zeroizing::new((0..32).map(next).collect())
}

/// SHA-256's state after an HMAC key, as it lies in memory.
fn hash_state(key: &[u8], pad: u8) -> Inverted {
    // FIPS 180-4 5.3.3.
    let mut state = [
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab,
        0x5be0cd19,
    ];
    let mut block = Zeroizing::new([[pad; 64]]);
    block[0].iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
    compress256(&mut state, &*block);
    Inverted(std::array::from_fn(|at| !state[at / 4].to_ne_bytes()[at % 4]))
}

#[test]
fn nothing_of_a_key_stays_in_memory_when_its_sas_are_gone() {
    let seed = u64::from(std::process::id());
    let (cipher_key, auth_key) = (secret(seed), secret(seed + 1000));
    let raw = Inverted::new(&auth_key);
    let kept = [
        Inverted::new(&cipher_key[..16]),
        Inverted::new(&cipher_key[16..]),
        hash_state(&auth_key, 0x36),
        hash_state(&auth_key, 0x5c),
    ];
    let spi = Spi::new(0x1001).unwrap();
    let keys = || {
        let zeroizing = |key: &[u8]| Zeroizing::new(key.to_vec());
        Keys::new(Cipher::AesCbc256, zeroizing(&cipher_key), zeroizing(&auth_key)).unwrap()
    };
    let mut outbound = OutboundSa::new(spi, keys(), [1; 16]);
    let inbound = InboundSa::new(spi, keys(), WindowSize::default());
    drop((cipher_key, auth_key));

    // The table moves its SAs when it grows.
    let mut sad = Sad::new();
    sad.insert(inbound, ()).unwrap();
    for number in 0x2000..0x2100 {
        let other = Keys::new(Cipher::Null, Vec::new().into(), vec![0; 32].into()).unwrap();
        let other = InboundSa::new(Spi::new(number).unwrap(), other, WindowSize::default());
        sad.insert(other, ()).unwrap();
    }
    let mut packet = vec![0; outbound.headroom() + 100];
    outbound.seal(17, &mut packet, 0).unwrap();
    sad.lookup(spi).unwrap().0.open(&mut packet).unwrap();

    assert_eq!(copies(&raw), 0, "the key itself is not kept");
    // Decryption keeps the second half of the key in another form (FIPS 197 5.3.5).
    for (at, (secret, expected)) in kept.iter().zip([2, 1, 2, 2]).enumerate() {
        assert_eq!(copies(secret), expected, "secret {at} is in its SAs and nowhere else");
    }
    sad.remove(spi);
    drop(outbound);
    for (at, secret) in kept.iter().enumerate() {
        assert_eq!(copies(secret), 0, "secret {at} is left");
    }
}
