//! A packet of 1400 bytes without sockets, AES-256-GCM: `ring` alone, out, in.
//!
//! `portspace bench dataplane` takes the same ways in interleaved rounds and gives ratios;
//! here each has criterion's statistics, and a comparison with the last run.

use std::time::{Duration, Instant};

use cli::bench::dataplane::{Alone, Plane, READY, SEALED};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use switch::overlay::Mode;

fn data_plane(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dataplane");
    group.throughput(Throughput::Bytes((READY * SEALED) as u64));
    let mut alone = Alone::fresh().expect("there is randomness");
    group.bench_function("ring alone", |bencher| {
        bencher.iter(|| (0..READY).for_each(|_| alone.seal()));
    });
    for (name, mode) in [("transport", Mode::Transport), ("tunnel", Mode::Tunnel)] {
        let mut plane = Plane::fresh(mode).expect("there is randomness");
        group.bench_function(format!("out, {name}"), |bencher| bencher.iter(|| plane.seal()));
        group.bench_function(format!("in, {name}"), |bencher| {
            bencher.iter_custom(|turns| {
                let mut taken = Duration::ZERO;
                for _ in 0..turns {
                    plane.prepare();
                    #[expect(clippy::disallowed_methods, reason = "criterion counts in Durations")]
                    let start = Instant::now();
                    assert_eq!(plane.open(), READY);
                    taken += start.elapsed();
                }
                taken
            });
        });
    }
    group.finish();
}

fn bounded() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
}

criterion_group!(name = benches; config = bounded(); targets = data_plane);
criterion_main!(benches);
