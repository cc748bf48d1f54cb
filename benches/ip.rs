//! The packet side of the data plane: checksums, heads, policies, large packets.
//!
//! Everything is timed with the packet in the cache, as it is right after the copy
//! from the guest or the decryption.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use esp::checksum::{self, Sum};
use esp::ip::{Header, Packet, protocol};
use esp::offload::{Accepts, Kind, Offload, PartialChecksum, Run, Segmentation, Sending};
use esp::{Action, AddressRange, Flow, Mode, Policy, Selector, Spd};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const THERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const HERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
const THERE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));

/// Bytes of TCP payload that fit 1500 bytes of IPv4 with timestamps.
const SEGMENT: usize = 1448;

/// Bytes of a TCP header with timestamps.
const TCP: usize = 32;

/// Bytes the switch reads before it decides.
const HEAD: usize = 256;

/// A TCP packet with its right checksum.
fn packet(ends: (IpAddr, IpAddr), seq: u32, payload_len: usize) -> Vec<u8> {
    let header = Header::new(ends.0, ends.1, protocol::TCP).bytes(TCP + payload_len);
    let mut packet = header.expect("it fits").to_vec();
    let l4 = packet.len();
    packet.extend([0x9c, 0x40, 1, 0xbb]);
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 0, 7, 0x80, 0x10, 1, 0, 0, 0, 0, 0, 1, 1, 8, 10]);
    packet.extend([3; 8]);
    packet.extend((0..payload_len).map(|at| at as u8));
    checksum::fill(ends.0, ends.1, protocol::TCP, &mut packet[l4..]).expect("it has a checksum");
    packet
}

fn sum(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    for size in [20, 64, 512, 1400, 9000] {
        let bytes: Vec<u8> = (0..size).map(|at| at as u8).collect();
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| Sum::of(black_box(&bytes)).checksum());
        });
    }
    group.finish();
}

fn head(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    for (name, ends) in [("ipv4", (HERE, THERE)), ("ipv6", (HERE_V6, THERE_V6))] {
        let packet = packet(ends, 1, SEGMENT);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                let packet = Packet::parse(black_box(&packet[..HEAD]), packet.len());
                packet.and_then(|packet| Flow::outbound(&packet))
            });
        });
    }
    group.finish();
}

/// A policy for each of `count` hosts, the ones at the end the busy ones.
fn policies(count: usize) -> Spd<usize> {
    let mut spd = Spd::new();
    for number in 0..count {
        let remote = AddressRange::only(Ipv4Addr::from_bits(0x0a01_0000 + number as u32));
        let selector = Selector::between(AddressRange::only(HERE), remote);
        spd.add(Policy { selector, action: Action::Protect(number) });
    }
    spd
}

fn policy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("policy");
    for count in [1, 8, 9, 100, 1000] {
        let mut spd = policies(count);
        let flow = |port: u16| {
            let remote = Ipv4Addr::from_bits(0x0a01_0000 + count as u32 - 1).into();
            let [high, low] = port.to_be_bytes();
            Flow::sent(HERE, remote, protocol::UDP, &[high, low, 0, 53]).expect("it has ports")
        };
        let flows: Vec<Flow> = (0..16).map(flow).collect();
        group.bench_function(BenchmarkId::new("16 flows", count), |bencher| {
            let mut turn = flows.iter().cycle();
            bencher.iter(|| spd.best(black_box(turn.next().expect("it never ends"))));
        });
        let strangers: Vec<Flow> = (0..u16::MAX).map(flow).collect();
        group.bench_function(BenchmarkId::new("ever new flows", count), |bencher| {
            let mut turn = strangers.iter().cycle();
            bencher.iter(|| spd.best(black_box(turn.next().expect("it never ends"))));
        });
    }
    group.finish();
}

/// One packet of 45 segments, as a guest hands it over; the time is for all of them.
fn segment(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("segment");
    let large = packet((HERE, THERE), 1, 45 * SEGMENT - 500);
    group.throughput(Throughput::Elements(45));
    let offload = Offload {
        checksum: Some(PartialChecksum { start: 20, offset: 16 }),
        segmentation: Some(Segmentation { kind: Kind::TcpV4, size: SEGMENT as u16 }),
    };
    for (name, mode) in [("transport", Mode::Transport), ("tunnel", Mode::Tunnel)] {
        let mut out = Vec::with_capacity(4096);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let packet = Packet::parse(&large[..HEAD], large.len()).expect("it is right");
                let mut sending = Sending::new(&packet, offload, mode).expect("it is right");
                let mut rest = &large[HEAD..];
                let mut read = |into: &mut [u8]| {
                    let (now, later) = rest.split_at(into.len());
                    into.copy_from_slice(now);
                    rest = later;
                };
                loop {
                    out.clear();
                    if !sending.write_next(black_box(&mut out), &mut read) {
                        break;
                    }
                }
            });
        });
    }
    group.finish();
}

/// 45 packets of one flow, and as many that have nothing to do with each other.
fn coalesce(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("coalesce");
    group.throughput(Throughput::Elements(45));
    let accepts = Accepts { tcp_v4: true, tcp_v6: true, udp_v4: true, udp_v6: true };
    for (name, step) in [("in order", SEGMENT as u32), ("unrelated", 5)] {
        let packets: Vec<Vec<u8>> =
            (0..45).map(|at| packet((HERE, THERE), at * step, SEGMENT)).collect();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut run = Run::new(accepts);
                for packet in &packets {
                    if run.push(&[], black_box(packet)).is_err() {
                        run.flush(|merged| black_box(merged.payloads.len()));
                        run.push(&[], packet).expect("a run of nothing takes every packet");
                    }
                }
                run.flush(|merged| black_box(merged.payloads.len()))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, sum, head, policy, segment, coalesce);
criterion_main!(benches);
