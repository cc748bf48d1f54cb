//! The data plane: seal and open by suite and size, beside the AEADs alone; SAs found by SPI.
//!
//! Sealing and opening are timed with the packet in the cache, as it is right
//! after the copy from the guest or the socket.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use esp::{InboundSa, Keys, OutboundSa, Parameters, Sad, Spi, Suite, WindowSize};
use ring::aead::{
    AES_128_GCM, AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, Tag,
    UnboundKey,
};

/// Payload bytes of a packet.
const SIZES: [usize; 4] = [64, 512, 1400, 8192];

/// Packets that lie ready to be opened; few enough for the cache.
const READY: u64 = 32;

fn keys(suite: Suite) -> Keys {
    let cipher_key = vec![5; suite.cipher_key_len()];
    let auth_key = vec![9; suite.auth_key_len()];
    Keys::new(suite, cipher_key.into(), auth_key.into()).expect("the lengths are right")
}

fn spi(number: u32) -> Spi {
    Spi::new(number).expect("it is not reserved")
}

fn outbound(suite: Suite) -> OutboundSa {
    OutboundSa::new(spi(0x1001), keys(suite), [1; 16], Parameters::default())
}

fn inbound(spi: Spi, suite: Suite) -> InboundSa {
    // The smallest window: a million SAs are to leave room for others.
    let window = WindowSize::new(64).expect("it is the smallest");
    InboundSa::new(spi, keys(suite), Parameters { window, ..Parameters::default() })
}

/// A packet nobody has opened yet.
fn sealed(sa: &mut OutboundSa, size: usize) -> Vec<u8> {
    let mut packet = vec![7; sa.headroom() + size];
    sa.seal(17, &mut packet, 0).expect("it is not the last");
    packet
}

fn seal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seal");
    for suite in Suite::ALL {
        for size in SIZES {
            let mut sa = outbound(suite);
            let unsealed = sa.headroom() + size;
            let mut batch = Vec::with_capacity(16 * 1024);
            batch.resize(unsealed, 7);
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(suite.name(), size), |bencher| {
                bencher.iter(|| {
                    batch.truncate(unsealed);
                    sa.seal(17, black_box(&mut batch), 0)
                });
            });
        }
    }
    group.finish();
}

fn open(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    for suite in Suite::ALL {
        for size in SIZES {
            let outbound = RefCell::new(outbound(suite));
            let mut inbound = InboundSa::new(spi(0x1001), keys(suite), Parameters::default());
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(suite.name(), size), |bencher| {
                let open = |packet: &mut Vec<u8>| {
                    inbound.open(packet).map(|opened| opened.next_header).expect("it is fresh")
                };
                let sealed = || sealed(&mut outbound.borrow_mut(), size);
                bencher.iter_batched_ref(sealed, open, BatchSize::NumIterations(READY));
            });
        }
    }
    group.finish();
}

/// What the AEADs cost by themselves: the packet's bytes, its AAD and a nonce that counts.
fn bare(criterion: &mut Criterion) {
    let algorithms: [(&str, &'static Algorithm); 3] = [
        ("aes-gcm-128", &AES_128_GCM),
        ("aes-gcm-256", &AES_256_GCM),
        ("chacha20-poly1305", &CHACHA20_POLY1305),
    ];
    let nonce = |count: u64| {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&count.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    };
    let aad = || Aad::from(black_box([1; 8]));
    for (name, algorithm) in algorithms {
        let key = UnboundKey::new(algorithm, &[5; 32][..algorithm.key_len()]);
        let key = LessSafeKey::new(key.expect("the length is right"));
        for size in SIZES {
            let mut data = vec![7; size];
            let mut count = 0;
            let mut seal = |data: &mut Vec<u8>| -> Tag {
                count += 1;
                key.seal_in_place_separate_tag(nonce(count), aad(), data).expect("it is short")
            };
            let mut group = criterion.benchmark_group("bare seal");
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| seal(black_box(&mut data)));
            });
            group.finish();
            let sealed = || {
                let mut data = vec![7; size];
                let tag = key.seal_in_place_separate_tag(nonce(1), aad(), &mut data);
                data.extend_from_slice(tag.expect("it is short").as_ref());
                data
            };
            let mut group = criterion.benchmark_group("bare open");
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                let open = |data: &mut Vec<u8>| {
                    key.open_in_place(nonce(1), aad(), data).expect("it is authentic").len()
                };
                bencher.iter_batched_ref(sealed, open, BatchSize::NumIterations(READY));
            });
            group.finish();
        }
    }
}

/// One SA asked for over and over, with and without opening its packets; every SA in
/// turn; and SPIs that no SA has.
fn lookup(criterion: &mut Criterion) {
    let suite = "aes-gcm-256".parse().expect("there is such a suite");
    let mut group = criterion.benchmark_group("lookup");
    for count in [1, 100, 10_000, 1_000_000] {
        let mut sad = Sad::new();
        for number in 0..count {
            sad.insert(inbound(nth(number), suite), number).expect("all SPIs differ");
        }
        let busy = nth(count / 2);
        group.bench_function(BenchmarkId::new("the busy one of", count), |bencher| {
            bencher.iter(|| sad.lookup(black_box(busy)).map(|(_, owner)| *owner));
        });
        let outbound = OutboundSa::new(busy, keys(suite), [1; 16], Parameters::default());
        let outbound = RefCell::new(outbound);
        group.bench_function(BenchmarkId::new("open with the busy one of", count), |bencher| {
            let open = |packet: &mut Vec<u8>| {
                let (sa, owner) = sad.lookup(black_box(busy)).expect("it is there");
                (sa.open(packet).expect("it is fresh").next_header, *owner)
            };
            let sealed = || sealed(&mut outbound.borrow_mut(), 64);
            bencher.iter_batched_ref(sealed, open, BatchSize::NumIterations(READY));
        });
        let mut next = 0;
        group.bench_function(BenchmarkId::new("each in turn of", count), |bencher| {
            bencher.iter(|| {
                next = if next + 1 < count { next + 1 } else { 0 };
                sad.lookup(black_box(nth(next))).map(|(_, owner)| *owner)
            });
        });
        group.bench_function(BenchmarkId::new("strangers to", count), |bencher| {
            bencher.iter(|| {
                next = (next + 1) & 0xf_ffff;
                sad.lookup(black_box(nth(0x10_0000 + next))).is_some()
            });
        });
    }
    group.finish();
}

/// SPIs in an order that neither memory nor hash table knows; all differ.
fn nth(number: u32) -> Spi {
    // An odd factor makes it a permutation of 24 bits; the top keeps it unreserved.
    spi(0x5a00_0000 | number.wrapping_mul(0x9e_3779) & 0xff_ffff)
}

fn bounded() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
}

criterion_group!(name = esp; config = bounded(); targets = seal, open, bare, lookup);
criterion_main!(esp);
