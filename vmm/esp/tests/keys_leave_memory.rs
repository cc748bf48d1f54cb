//! Looks through the process's own memory for keys and what was made of them.
//!
//! A test program of its own, with one test: no other thread's memory is in the way.

#![allow(clippy::disallowed_types, reason = "the memory is read through /proc/self/mem")]

use std::collections::HashSet;
use std::fs::{self, File};
use std::hint::black_box;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use esp::{InboundSa, Keys, OutboundSa, Parameters, Sad, Spi, Suite};
use ring::aead::{AES_128_GCM, AES_256_GCM, Algorithm, LessSafeKey, UnboundKey};
use sha2::block_api::{compress256, compress512};
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

/// Bytes that are nowhere in the program.
fn secret(seed: u64, len: usize) -> Zeroizing<Vec<u8>> {
    let mut state = black_box(seed) | 1;
    let next = |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    Zeroizing::new((0..len).map(next).collect())
}

/// SHA-256's state after an HMAC key, as it lies in memory.
fn sha256_state(key: &[u8], pad: u8) -> Inverted {
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

/// The same of SHA-512.
fn sha512_state(key: &[u8], pad: u8) -> Inverted {
    // FIPS 180-4 5.3.5.
    let mut state = [
        0x6a09e667f3bcc908,
        0xbb67ae8584caa73b,
        0x3c6ef372fe94f82b,
        0xa54ff53a5f1d36f1,
        0x510e527fade682d1,
        0x9b05688c2b3e6c1f,
        0x1f83d9abfb41bd6b,
        0x5be0cd19137e2179,
    ];
    let mut block = Zeroizing::new([[pad; 128]]);
    block[0].iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
    compress512(&mut state, &*block);
    Inverted(std::array::from_fn(|at| !state[at / 8].to_ne_bytes()[at % 8]))
}

/// All that ring makes of an AEAD's key, in pieces.
fn ring_schedule(algorithm: &'static Algorithm, key: &[u8]) -> Vec<Inverted> {
    let schedule = |key| LessSafeKey::new(UnboundKey::new(algorithm, key).expect("its length"));
    let mut made = Box::new(schedule(&key[..algorithm.key_len()]));
    let mut bytes = Zeroizing::new(vec![0; size_of::<LessSafeKey>()]);
    let memory = File::open("/proc/self/mem").expect("it is this process");
    memory.read_exact_at(&mut bytes, &raw const *made as u64).expect("it is there");
    *made = schedule(&[0; 32][..algorithm.key_len()]);
    black_box(&mut *made);
    let (pieces, _) = bytes.as_chunks::<16>();
    // Not what every key has, such as room that is not used.
    let is_random = |piece: &&[u8; 16]| piece.iter().collect::<HashSet<_>>().len() > 8;
    pieces.iter().filter(is_random).map(|piece| Inverted::new(piece)).collect()
}

/// Two SAs with one key each way, as busy as SAs are.
fn busy_pair(suite: Suite, cipher_key: &[u8], auth_key: &[u8]) -> (OutboundSa, Sad<()>) {
    let spi = Spi::new(0x1001).expect("it is not reserved");
    let zeroizing = |key: &[u8]| Zeroizing::new(key.to_vec());
    let keys =
        || Keys::new(suite, zeroizing(cipher_key), zeroizing(auth_key)).expect("their lengths");
    let parameters = Parameters { esn: true, ..Parameters::default() };
    let mut outbound = OutboundSa::new(spi, keys(), [1; 16], parameters);
    // The table moves its SAs when it grows.
    let mut sad = Sad::new();
    sad.insert(InboundSa::new(spi, keys(), parameters), ()).expect("it is the first");
    for number in 0x2000..0x2100 {
        let suite: Suite = "null+hmac-sha256".parse().expect("there is such a suite");
        let other = Keys::new(suite, Vec::new().into(), vec![0; 32].into()).expect("their lengths");
        let other = InboundSa::new(
            Spi::new(number).expect("it is not reserved"),
            other,
            Parameters::default(),
        );
        sad.insert(other, ()).expect("all SPIs differ");
    }
    let mut packet = vec![0; outbound.headroom() + 100];
    outbound.seal(17, &mut packet, 0).expect("it is the first");
    sad.lookup(spi).expect("it is there").0.open(&mut packet).expect("it is authentic");
    (outbound, sad)
}

/// From the keys of a suite, what is made of them and how often it is kept.
type Kept = fn(cipher_key: &[u8], auth_key: &[u8]) -> Vec<(Inverted, usize)>;

/// At least so many of the secrets are in memory as often as expected while their
/// SAs are there, then never.
fn assert_gone_with_its_sas(name: &str, at_least: usize, kept: Kept) {
    let suite: Suite = name.parse().expect("there is such a suite");
    let seed = u64::from(std::process::id());
    let cipher_key = secret(seed, suite.cipher_key_len());
    let auth_key = secret(seed + 1000, suite.auth_key_len());
    let mut secrets = kept(&cipher_key, &auth_key);
    let raw = (!suite.is_aead()).then(|| Inverted::new(&auth_key));
    let (outbound, mut sad) = busy_pair(suite, &cipher_key, &auth_key);
    drop((cipher_key, auth_key));

    assert!(raw.is_none_or(|raw| copies(&raw) == 0), "{name}: the key itself is not kept");
    secrets.retain(|(secret, expected)| copies(secret) == *expected);
    assert!(secrets.len() >= at_least, "{name}: {} secrets are in the SAs alone", secrets.len());
    sad.remove(Spi::new(0x1001).expect("it is not reserved"));
    drop(outbound);
    for (at, (secret, _)) in secrets.iter().enumerate() {
        assert_eq!(copies(secret), 0, "{name}: secret {at} is left");
    }
}

/// One schedule for each direction; some pieces are in part what lay there before.
fn ring_twice(algorithm: &'static Algorithm, key: &[u8]) -> Vec<(Inverted, usize)> {
    ring_schedule(algorithm, key).into_iter().map(|piece| (piece, 2)).collect()
}

#[test]
fn nothing_of_a_key_stays_in_memory_when_its_sas_are_gone() {
    assert_gone_with_its_sas("aes-cbc-256+hmac-sha256", 4, |cipher_key, auth_key| {
        vec![
            (Inverted::new(&cipher_key[..16]), 2),
            // Decryption keeps the second half of the key in another form (FIPS 197 5.3.5).
            (Inverted::new(&cipher_key[16..]), 1),
            (sha256_state(auth_key, 0x36), 2),
            (sha256_state(auth_key, 0x5c), 2),
        ]
    });
    assert_gone_with_its_sas("aes-cbc-128+hmac-sha512", 3, |cipher_key, auth_key| {
        vec![
            (Inverted::new(cipher_key), 2),
            (sha512_state(auth_key, 0x36), 2),
            (sha512_state(auth_key, 0x5c), 2),
        ]
    });
    // Round keys, and powers of the hash key.
    assert_gone_with_its_sas("aes-gcm-128", 11 + 8, |key, _| ring_twice(&AES_128_GCM, key));
    assert_gone_with_its_sas("aes-gcm-256", 15 + 8, |key, _| ring_twice(&AES_256_GCM, key));
    // Words, which are the key as it is on little-endian machines.
    assert_gone_with_its_sas("chacha20-poly1305", 2, |key, _| {
        key[..32].chunks(16).map(|half| (Inverted::new(half), 2)).collect()
    });
}
