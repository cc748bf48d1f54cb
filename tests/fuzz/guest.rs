//! What comes from a VM: frames, their virtio-net headers, rings, vhost-user messages.

use std::io::Write;
use std::os::unix::net::UnixStream;

use backend::Backend;
use esp::ip::Mode;
use switch::addresses::Addresses;
use switch::batch::Batch;
use switch::capture::Taps;
use switch::card::Card;
use switch::frame::{self, Asked, Mac, SWITCH};
use switch::limiter::Limiter;
use switch::port::{Exits, Port, READABLE_LIMIT, Turn};
use virtio::Memory;
use virtio::ring::{Ring, Settings};
use vm_memory::{Bytes, GuestAddress};

use crate::peer::{packet_of, packet_seeds};
use crate::seeds::Seed;
use crate::user::{self, FAR, OUTBOUND, OWN};

const MAC: Mac = [2, b'P', b'S', 1, 0, 1];
const TCP: u8 = 6;
const ICMPV6: u8 = 58;

fn ethernet(to: Mac, kind: [u8; 2], rest: &[u8]) -> Vec<u8> {
    [&to[..], &MAC, &kind, rest].concat()
}

fn kind_of(packet: &[u8]) -> [u8; 2] {
    if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] }
}

pub(crate) fn frame_seeds() -> Vec<Seed> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend(MAC);
    arp.extend([10, 1, 0, 5, 0, 0, 0, 0, 0, 0, 10, 2, 0, 5]);
    let target = |kind: u8| {
        let std::net::IpAddr::V6(far) = FAR[1] else { panic!("an IPv6 address") };
        let message = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &far.octets()].concat();
        let mut packet = packet_of(OWN[1], FAR[1], ICMPV6, &message);
        packet[7] = 255;
        packet
    };
    let mut seeds = vec![
        ("arp", ethernet([0xff; 6], [8, 6], &arp)),
        ("solicitation", ethernet([0x33, 0x33, 0xff, 0, 0, 5], [0x86, 0xdd], &target(135))),
        ("router-advertisement", ethernet(SWITCH, [0x86, 0xdd], &target(134))),
        ("vlan", ethernet(SWITCH, [0x81, 0], &[0, 7, 8, 0])),
    ];
    for (name, packet) in packet_seeds() {
        seeds.push((name, ethernet(SWITCH, kind_of(&packet), &packet)));
    }
    seeds
}

/// A frame is answered to the guest alone.
pub(crate) fn frame(bytes: &[u8]) {
    let own = Addresses::new(&OWN).unwrap();
    if let Ok(Asked::Neighbour(answer)) = frame::from_guest(bytes, MAC, own) {
        assert_eq!((&answer.bytes()[..6], &answer.bytes()[6..12]), (&MAC[..], &SWITCH[..]));
    }
}

/// A virtio-net header and a frame.
pub(crate) fn large_seeds() -> Vec<Seed> {
    let segment = [4, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x18, 1, 0, 0, 0, 0, 0];
    let tcp = |at: usize| packet_of(OWN[at], FAR[at], TCP, &[&segment[..], &[9; 3000]].concat());
    let udp = packet_of(OWN[0], FAR[0], 17, &[&[4, 0, 0, 7, 8, 8, 0, 0][..], &[9; 2048]].concat());
    let sealed = |header: [u8; 12], packet: Vec<u8>| {
        [&header[..], &ethernet(SWITCH, kind_of(&packet), &packet)].concat()
    };
    let mut seeds = vec![
        ("tso4", sealed([1, 1, 54, 0, 0xe8, 3, 34, 0, 16, 0, 0, 0], tcp(0))),
        ("tso6", sealed([1, 4, 74, 0, 0xe8, 3, 54, 0, 16, 0, 0, 0], tcp(1))),
        ("uso", sealed([1, 5, 42, 0, 0, 4, 34, 0, 6, 0, 0, 0], udp.clone())),
        ("checksum", sealed([1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0], udp)),
    ];
    for (name, frame) in frame_seeds() {
        seeds.push((name, [&[0; 12][..], &frame].concat()));
    }
    seeds
}

/// A ring of one chain, whose buffer holds these bytes.
fn one_chain(bytes: &[u8]) -> (Memory, Ring) {
    let memory = Memory::from_ranges(&[(GuestAddress(0), 0x4_0000)]).unwrap();
    let (descriptors, available, used, buffer) = (0x0, 0x1000, 0x2000, 0x3000);
    memory.write_slice(bytes, GuestAddress(buffer)).unwrap();
    memory.write_obj(buffer, GuestAddress(descriptors)).unwrap();
    memory.write_obj(bytes.len() as u32, GuestAddress(descriptors + 8)).unwrap();
    memory.write_obj(1u16, GuestAddress(available + 2)).unwrap();
    let settings =
        Settings { size: 8, descriptors, available, used, next_available: 0, event_idx: false };
    let ring = Ring::from_settings(&settings, READABLE_LIMIT, &memory).unwrap();
    (memory, ring)
}

/// Whatever a guest says of its frame, what leaves are right packets of its own inside ESP of its
/// SA that fit the way, or nothing; and a frame that does not leave is answered or counted.
pub(crate) fn large(bytes: &[u8]) {
    for mode in [Mode::Transport, Mode::Tunnel] {
        let mut tunnels = user::tunnels(mode);
        let (memory, ring) = one_chain(&bytes[..bytes.len().min(0x2_0000)]);
        let mut port = Port::default();
        port.features = u64::MAX;
        (port.memory, port.transmit) = (Some(memory), Some(ring));
        let (mut batch, mut limiter) = (Batch::default(), Limiter::default());
        let mut taps = Taps::default();
        let mut exits = Exits {
            place: 0,
            mac: MAC,
            tunnels: &mut tunnels,
            limiter: &mut limiter,
            batch: &mut batch,
            taps: &mut taps,
        };
        let turn = Turn { frames: 8, bytes: usize::MAX, now_ns: 0 };
        assert_eq!(port.transmit(turn, &mut exits), 1);
        judge(&tunnels, &batch);
    }
}

fn judge(tunnels: &switch::tunnel::Tunnels, batch: &Batch) {
    let tunnel = tunnels.get(0).unwrap();
    let mut packets = 0;
    for (route, wire) in batch.packets() {
        packets += 1;
        assert_eq!((route.from, route.to), (tunnel.local(), tunnel.peer()));
        assert_eq!(wire[..4], OUTBOUND.to_be_bytes());
        assert!(wire.len() + 28 <= 1500);
    }
    assert!(packets > 0 || tunnel.drops.total() <= 2);
    assert!(batch.crossing.is_empty());
}

/// Eight bytes of settings, then memory.
pub(crate) fn queue_seeds() -> Vec<Seed> {
    let mut memory = vec![0; 0x600];
    let mut put = |at: usize, bytes: &[u8]| memory[at..at + bytes.len()].copy_from_slice(bytes);
    let descriptor = |address: u64, length: u32, flags: u16, next: u16| {
        [
            &address.to_le_bytes()[..],
            &length.to_le_bytes(),
            &flags.to_le_bytes(),
            &next.to_le_bytes(),
        ]
        .concat()
    };
    put(0, &descriptor(0x1000, 100, 1, 1));
    put(16, &descriptor(0x2000, 200, 2, 0));
    // An indirect table of one at 0x500.
    put(32, &descriptor(0x500, 16, 4, 0));
    put(0x500, &descriptor(0x3000, 50, 0, 0));
    // Flags, index, and the heads 0 and 2.
    put(0x200, &[0, 0, 2, 0, 0, 0, 2, 0]);
    let of = |settings: [u8; 8]| [&settings[..], &memory].concat();
    vec![
        ("chains", of([3, 0, 0, 0, 2, 4, 0, 0])),
        ("event-index", of([3, 1, 0, 0, 2, 4, 0, 0])),
        ("ahead", of([3, 0, 9, 0, 2, 4, 0, 0])),
    ]
}

/// A driver's queue gives chains that are inside of memory and bounded, or ends.
pub(crate) fn queue(bytes: &[u8]) {
    let Some((&[size, event_idx, next, descriptors, available, used, ..], contents)) =
        bytes.split_first_chunk::<8>()
    else {
        return;
    };
    let memory = Memory::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap();
    memory.write_slice(&contents[..contents.len().min(0x1_0000)], GuestAddress(0)).unwrap();
    let settings = Settings {
        size: 1 << (size % 10),
        descriptors: u64::from(descriptors) << 8,
        available: u64::from(available) << 8,
        used: u64::from(used) << 8,
        next_available: next.into(),
        event_idx: event_idx % 2 == 1,
    };
    let Ok(mut ring) = Ring::from_settings(&settings, READABLE_LIMIT, &memory) else { return };
    let mut out = Vec::new();
    for round in 0..3 * usize::from(settings.size) {
        if !ring.has_work(&memory) {
            let _ = ring.arm(&memory);
        }
        let Ok(Some(mut chain)) = ring.pop(&memory) else { break };
        assert!(chain.readable() <= READABLE_LIMIT as usize);
        if round % 5 == 4 {
            ring.put_back(chain);
            continue;
        }
        let (readable, writable) = (chain.readable(), chain.writable());
        out.clear();
        assert_eq!(chain.read_all(&memory, &mut out), readable);
        assert_eq!(chain.write(&memory, &[7; 100]), writable.min(100));
        ring.complete(&memory, chain);
        let _ = ring.wants_notification(&memory);
    }
}

/// Messages of a front end, without their descriptors.
pub(crate) fn message_seeds() -> Vec<Seed> {
    let message = |request: u32, body: &[u8]| {
        let start = [request, 1, body.len() as u32].map(u32::to_ne_bytes).concat();
        [&start[..], body].concat()
    };
    let state = |index: u32, number: u32| [index, number].map(u32::to_ne_bytes).concat();
    let vring = [0u64, 0x1000, 0x2000, 0x3000, 0].map(u64::to_ne_bytes).concat();
    let features = message(2, &(1u64 << 30 | 1 << 32).to_ne_bytes());
    vec![
        ("get-features", message(1, &[])),
        ("set-features", features.clone()),
        (
            "vring",
            [message(8, &state(0, 256)), message(10, &state(0, 0)), message(9, &vring)].concat(),
        ),
        ("get-base", message(11, &state(1, 0))),
        ("config", message(24, &[&[0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0][..], &[0; 12]].concat())),
        ("half", features[..16].to_vec()),
        ("no-descriptor", message(12, &1u64.to_ne_bytes())),
    ]
}

/// A front end's messages are handled, or end the connection; never does the switch wait for it.
pub(crate) fn messages(bytes: &[u8]) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut backend = Backend::new(ours, Card::new(MAC, 1400)).unwrap();
    theirs.write_all(&bytes[..bytes.len().min(8192)]).unwrap();
    // Each call handles some messages, each of 12 bytes at the least.
    for _ in 0..1000 {
        if !matches!(backend.handle(), Ok(true)) {
            break;
        }
    }
    assert!(!backend.queues().is_running(), "there is no memory to run in");
}
