//! What a driver asks of a disk: a request, its data, and room for the reply.

use virtio::Memory;
use virtio::block::{self, Block, Order, Refused, Shape};
use virtio::mmio::{Effect, Registers};
use vm_memory::{Bytes, GuestAddress};

use crate::seeds::Seed;

const SIZE: u64 = 1 << 20;

/// Where the rings are, the request and the room for the reply.
const RINGS: [u32; 3] = [0, 0x1000, 0x2000];
const REQUEST: u64 = 0x4000;
const REPLY: u64 = 0x1_4000;
const MOST: usize = 0x1_0000;

/// Two bytes that say how much room there is, one for the disk, then the request.
pub(crate) fn seeds() -> Vec<Seed> {
    let request = |room: u16, read_only: u8, kind: u32, sector: u64, data: &[u8]| {
        let start = [&room.to_le_bytes()[..], &[read_only], &kind.to_le_bytes(), &[0; 4]].concat();
        [&start[..], &sector.to_le_bytes(), data].concat()
    };
    let range = |sector: u64, sectors: u32, flags: u32| {
        [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
    };
    vec![
        ("read", request(1025, 0, 0, 3, &[])),
        ("write", request(1, 0, 1, 2047, &[7; 512])),
        ("flush", request(1, 0, 4, 0, &[])),
        ("identity", request(21, 1, 8, 0, &[])),
        ("discard", request(1, 0, 11, 0, &[range(0, 128, 0), range(1024, 1024, 0)].concat())),
        ("zeros", request(1, 2, 13, 0, &range(5, 9, 1))),
    ]
}

/// A disk is asked for what is on it alone, and a request is answered by a status.
pub(crate) fn request(bytes: &[u8]) {
    let Some((&[low, high, kind], request)) = bytes.split_first_chunk::<3>() else { return };
    let request = &request[..request.len().min(MOST)];
    let room = u32::from(u16::from_le_bytes([low, high])) + 1;
    let shape =
        Shape { size: SIZE, read_only: kind % 2 == 1, cluster: 1 << 16, serial: [b'd'; 20] };
    let memory = Memory::from_ranges(&[(GuestAddress(0), 0x3_0000)]).unwrap();
    memory.write_slice(request, GuestAddress(REQUEST)).unwrap();
    let descriptor = |address: u64, length: u32, flags: u16, next: u16| {
        let rest = [length.to_le_bytes(), (u32::from(next) << 16 | u32::from(flags)).to_le_bytes()];
        [&address.to_le_bytes()[..], &rest.concat()].concat()
    };
    let table = [descriptor(REQUEST, request.len() as u32, 1, 1), descriptor(REPLY, room, 2, 0)];
    memory.write_slice(&table.concat(), GuestAddress(RINGS[0].into())).unwrap();
    memory.write_slice(&[0, 0, 1, 0], GuestAddress(RINGS[1].into())).unwrap();
    let last = GuestAddress(REPLY + u64::from(room) - 1);
    memory.write_obj(0xff_u8, last).unwrap();
    let mut block = start(shape, kind & 2 == 0, &memory);
    let is_on_disk =
        |offset: u64, length: u64| offset.is_multiple_of(512) && offset + length <= SIZE;
    let served = block.serve(&memory, |order| {
        let (offset, length) = match &order {
            Order::Read(offset, buffer) => (*offset, buffer.len() as u64),
            Order::Write(offset, bytes) => (*offset, bytes.len() as u64),
            Order::Discard(offset, length) | Order::Zero(offset, length, _) => (*offset, *length),
            Order::Flush => (0, 0),
        };
        assert!(is_on_disk(offset, length));
        assert!(!shape.read_only || matches!(order, Order::Read(..) | Order::Flush));
        if kind & 4 == 0 { Ok(()) } else { Err(Refused) }
    });
    assert!(served.notify && served.broken.is_none());
    let status: u8 = memory.read_obj(last).unwrap();
    assert!(status <= 2, "a status that there is: {status}");
}

/// The device as a driver starts it that takes all it offers, or nothing but the transport.
fn start(shape: Shape, all: bool, memory: &Memory) -> Block {
    let mut registers = Registers::new(block::identity(&shape));
    let features = if all { block::identity(&shape).features } else { 1 << 32 };
    let queue = [(0x030, 0), (0x038, 8), (0x080, RINGS[0]), (0x090, RINGS[1]), (0x0a0, RINGS[2])];
    let orders = [(0x070, 1), (0x070, 3), (0x024, 1), (0x020, (features >> 32) as u32)]
        .into_iter()
        // EVENT_IDX has its word elsewhere: left out, each chain is announced.
        .chain([(0x024, 0), (0x020, features as u32 & !(1 << 29)), (0x070, 11)])
        .chain(queue)
        .chain([(0x044, 1), (0x070, 15)]);
    for (offset, value) in orders {
        let value: u32 = value;
        if let Some(Effect::Activate { features, queues }) =
            registers.write(offset, &value.to_le_bytes())
        {
            return Block::new(shape, features, queues, memory).unwrap();
        }
    }
    panic!("a driver that keeps to the rules starts the device")
}
