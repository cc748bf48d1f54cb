//! The data plane: seal and open by algorithm and size, SAs found by SPI.
//!
//! Sealing and opening are timed with the packet in the cache, as it is right
//! after the copy from the guest or the socket.

use std::cell::RefCell;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use esp::{Cipher, InboundSa, Keys, OutboundSa, Sad, Spi, WindowSize};

/// Payload bytes of a packet.
const SIZES: [usize; 4] = [64, 512, 1400, 8192];

/// Packets that lie ready to be opened; few enough for the cache.
const READY: u64 = 32;

fn keys(cipher: Cipher) -> Keys {
    let cipher_key = vec![5; cipher.key_len()];
    Keys::new(cipher, cipher_key.into(), vec![9; Keys::AUTH_LEN].into())
        .expect("the lengths are right")
}

fn spi(number: u32) -> Spi {
    Spi::new(number).expect("it is not reserved")
}

fn seal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("seal");
    for cipher in Cipher::ALL {
        for size in SIZES {
            let mut sa = OutboundSa::new(spi(0x1001), keys(cipher), [1; 16]);
            let unsealed = sa.headroom() + size;
            let mut batch = Vec::with_capacity(16 * 1024);
            batch.resize(unsealed, 7);
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(cipher.name(), size), |bencher| {
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
    for cipher in Cipher::ALL {
        for size in SIZES {
            let outbound = RefCell::new(OutboundSa::new(spi(0x1001), keys(cipher), [1; 16]));
            let mut inbound = InboundSa::new(spi(0x1001), keys(cipher), WindowSize::default());
            let sealed = || {
                let mut outbound = outbound.borrow_mut();
                let mut packet = vec![7; outbound.headroom() + size];
                outbound.seal(17, &mut packet, 0).expect("it is not the last");
                packet
            };
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new(cipher.name(), size), |bencher| {
                let open = |packet: &mut Vec<u8>| {
                    inbound.open(packet).map(|opened| opened.next_header).expect("it is fresh")
                };
                bencher.iter_batched_ref(sealed, open, BatchSize::NumIterations(READY));
            });
        }
    }
    group.finish();
}

/// One SA asked for over and over, every SA in turn, and SPIs that no SA has.
fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup");
    for count in [1, 1_000, 1_000_000] {
        let window = WindowSize::new(64).expect("it is the smallest");
        let mut sad = Sad::new();
        for number in 0..count {
            let sa = InboundSa::new(nth(number), keys(Cipher::Null), window);
            sad.insert(sa, number).expect("all SPIs differ");
        }
        let busy = nth(count / 2);
        group.bench_function(BenchmarkId::new("the busy one of", count), |bencher| {
            bencher.iter(|| sad.lookup(black_box(busy)).map(|(_, owner)| *owner));
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

criterion_group!(name = esp; config = bounded(); targets = seal, open, lookup);
criterion_main!(esp);
