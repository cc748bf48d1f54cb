use super::*;
use crate::driver::{Chaos, Driver, memory};

const SIZE: u64 = 64 << 20;
const ALL: u64 = feature::FLUSH | feature::DISCARD | feature::WRITE_ZEROES;

fn shape() -> Shape {
    Shape {
        size: SIZE,
        read_only: false,
        cluster: 65536,
        serial: *b"portspace-0\0\0\0\0\0\0\0\0\0",
    }
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
}

/// What a disk was asked, without the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Read(u64, usize),
    Write(u64, usize, u8),
    Discard(u64, u64),
    Zero(u64, u64, bool),
    Flush,
}

/// The answer to one request: status, bytes the driver is told of, and what the disk was asked.
struct Answer {
    status: u8,
    bytes: Vec<u8>,
    asked: Vec<Asked>,
}

/// One request to a disk that reads as sevens, and refuses the order `refuse`.
fn ask(
    shape: Shape,
    features: u64,
    readable: &[&[u8]],
    writable: &[u32],
    refuse: Option<usize>,
) -> Answer {
    let memory = memory();
    let mut driver = Driver::new(&memory, 0, 64);
    let mut block = Block::new(shape, features, vec![driver.queue()], &memory).unwrap();
    let head = driver.send(readable, writable);
    let mut asked = Vec::new();
    let served = block.serve(&memory, |order| {
        let refused = refuse == Some(asked.len());
        asked.push(match order {
            Order::Read(offset, buffer) => {
                buffer.fill(7);
                Asked::Read(offset, buffer.len())
            }
            Order::Write(offset, bytes) => Asked::Write(offset, bytes.len(), bytes[0]),
            Order::Discard(offset, length) => Asked::Discard(offset, length),
            Order::Zero(offset, length, unmap) => Asked::Zero(offset, length, unmap),
            Order::Flush => Asked::Flush,
        });
        if refused { Err(Refused) } else { Ok(()) }
    });
    assert!(served.notify && served.broken.is_none() && block.request.settled());
    let status = driver.last_byte(head);
    let (used, bytes) = driver.take().unwrap();
    assert_eq!(used, head);
    Answer { status, bytes, asked }
}

fn usual(readable: &[&[u8]], writable: &[u32]) -> Answer {
    ask(shape(), ALL, readable, writable, None)
}

#[test]
fn the_registers_show_the_disk_as_the_specification_lays_it_out() {
    let identity = identity(&shape());
    assert_eq!(identity.features & 0xffff, 0b0110_0110_0100_0110);
    let config = &identity.config;
    assert_eq!(config.len(), 60);
    assert_eq!(double(config, 0), SIZE / 512);
    let at = |offset| word(config, offset);
    assert_eq!((at(8), at(12), at(20)), (65536, 62, 512));
    assert_eq!((config[24], at(28)), (3, 128), "physical block, best I/O");
    assert_eq!((at(36), at(40), at(44)), (2 << 20, 16, 128), "discard");
    assert_eq!((at(48), at(52), config[56]), (65536, 1, 1), "zeros");
    let read_only = super::identity(&Shape { read_only: true, ..shape() });
    assert_eq!(read_only.features & 0xffff, 0b0000_0100_0110_0110);
}

#[test]
fn a_read_is_answered_with_its_bytes_and_then_the_status() {
    let answer = usual(&[&header(0, 3)], &[512, 1024, 1]);
    assert_eq!(answer.status, status::OK);
    assert_eq!(answer.bytes, [&[7; 1536][..], &[0]].concat());
    assert_eq!(answer.asked, [Asked::Read(1536, 1536)]);
    // 5.2.6: framing is the driver's business.
    let answer = usual(&[&header(0, 3)[..5], &header(0, 3)[5..]], &[100, 413]);
    assert_eq!((answer.status, answer.bytes.len()), (status::OK, 513));
}

#[test]
fn a_write_is_cut_where_clusters_end() {
    let data = vec![9; 1 << 20];
    let answer = usual(&[&header(1, 100), &data], &[1]);
    assert_eq!((answer.status, &answer.bytes[..]), (status::OK, &[0][..]));
    let first = (256 << 10) - 51200;
    assert_eq!(
        answer.asked,
        [
            Asked::Write(51200, first, 9),
            Asked::Write(256 << 10, 256 << 10, 9),
            Asked::Write(512 << 10, 256 << 10, 9),
            Asked::Write(768 << 10, 256 << 10, 9),
            Asked::Write(1 << 20, 51200, 9)
        ]
    );
}

#[test]
fn without_the_flush_feature_each_write_is_flushed() {
    let answer = ask(shape(), 0, &[&header(1, 0), &[9; 512]], &[1], None);
    assert_eq!(answer.asked, [Asked::Write(0, 512, 9), Asked::Flush]);
    let answer = ask(shape(), 0, &[&header(1, 0), &[9; 512]], &[1], Some(1));
    assert_eq!(answer.status, status::IO_ERROR);
    let answer = usual(&[&header(4, 0)], &[1]);
    assert_eq!((answer.status, answer.asked), (status::OK, vec![Asked::Flush]));
}

#[test]
fn discard_and_zeros_are_done_range_by_range() {
    let ranges = [range(128, 128, 0), range(1024, 2 << 20 >> 8, 0)].concat();
    let answer = usual(&[&header(11, 0), &ranges], &[1]);
    assert_eq!(answer.status, status::OK);
    assert_eq!(answer.asked, [Asked::Discard(65536, 65536), Asked::Discard(512 << 10, 4 << 20)]);
    for (flags, unmap) in [(0, false), (1, true)] {
        let answer = usual(&[&header(13, 0), &range(1, 2, flags)], &[1]);
        assert_eq!(answer.asked, [Asked::Zero(512, 1024, unmap)]);
    }
}

#[test]
fn the_serial_number_is_given_as_far_as_there_is_room() {
    assert_eq!(usual(&[&header(8, 0)], &[20, 1]).bytes[..11], *b"portspace-0");
    assert_eq!(usual(&[&header(8, 0)], &[4, 1]).bytes, *b"port\0");
    assert_eq!(usual(&[&header(8, 0)], &[1]).status, status::OK);
}

#[test]
fn what_is_not_on_the_disk_or_beyond_a_bound_is_not_even_tried() {
    let end = SIZE / 512;
    let big = vec![0; DISCARD_RANGES * RANGE + RANGE];
    let table: &[(&[&[u8]], &[u32])] = &[
        (&[&header(0, end)], &[512, 1]),
        (&[&header(0, end - 1)], &[1024, 1]),
        (&[&header(0, u64::MAX)], &[512, 1]),
        (&[&header(0, u64::MAX / 512)], &[512, 1]),
        (&[&header(0, 0)], &[511, 1]),
        (&[&header(0, 0)], &[DATA_LIMIT as u32 / 2, DATA_LIMIT as u32 / 2 + 512, 1]),
        (&[&header(1, end), &[0; 512]], &[1]),
        (&[&header(1, 0), &[0; 511]], &[1]),
        (&[&header(11, 0)], &[1]),
        (&[&header(11, 0), &[0; 15]], &[1]),
        (&[&header(11, 0), &big], &[1]),
        (&[&header(11, 0), &range(end, 1, 0)], &[1]),
        (&[&header(11, 0), &range(0, 1, 0), &range(u64::MAX, u32::MAX, 0)], &[1]),
        (&[&header(11, 0), &range(0, u32::MAX, 0)], &[1]),
        (&[&header(13, 0), &range(0, 65537, 0)], &[1]),
        (&[&header(13, 0), &range(0, 1, 0), &range(0, 1, 0)], &[1]),
        (&[&header(0, 0)[..15]], &[1]),
    ];
    for (at, (readable, writable)) in table.iter().enumerate() {
        let answer = usual(readable, writable);
        assert_eq!((answer.status, answer.asked), (status::IO_ERROR, vec![]), "row {at}");
    }
}

#[test]
fn what_was_not_agreed_on_is_not_supported() {
    let unknown: &[&[&[u8]]] = &[
        &[&header(2, 0)],
        &[&header(14, 0)],
        &[&header(u32::MAX, 0)],
        &[&header(11, 0), &range(0, 1, 1)],
        &[&header(11, 0), &range(0, 1, 2)],
        &[&header(13, 0), &range(0, 1, 2)],
    ];
    for (at, readable) in unknown.iter().enumerate() {
        let answer = usual(readable, &[1]);
        assert_eq!((answer.status, answer.asked), (status::UNSUPPORTED, vec![]), "row {at}");
    }
    for kind in [11, 13] {
        let answer = ask(shape(), feature::FLUSH, &[&header(kind, 0), &range(0, 1, 0)], &[1], None);
        assert_eq!((answer.status, answer.asked), (status::UNSUPPORTED, vec![]));
    }
}

#[test]
fn a_read_only_disk_is_not_written() {
    let shape = Shape { read_only: true, ..shape() };
    let answer = ask(shape, 0, &[&header(1, 0), &[9; 512]], &[1], None);
    assert_eq!((answer.status, answer.asked), (status::IO_ERROR, vec![]));
    assert_eq!(ask(shape, 0, &[&header(0, 0)], &[512, 1], None).status, status::OK);
}

#[test]
fn what_the_disk_refuses_is_an_error_in_the_last_byte() {
    let answer = ask(shape(), ALL, &[&header(0, 0)], &[512 << 10, 1], Some(1));
    assert_eq!((answer.status, answer.bytes.len()), (status::IO_ERROR, 256 << 10));
    assert_eq!(answer.asked.len(), 2);
    for kind in [1, 4, 11, 13] {
        let data = if kind == 1 { vec![9; 512] } else { range(0, 1, 0) };
        let answer = ask(shape(), ALL, &[&header(kind, 0), &data], &[1], Some(0));
        assert_eq!((answer.status, answer.asked.len()), (status::IO_ERROR, 1));
    }
}

#[test]
fn a_request_without_a_place_for_its_status_is_given_back_undone() {
    let memory = memory();
    let mut driver = Driver::new(&memory, 0, 64);
    let mut block = Block::new(shape(), ALL, vec![driver.queue()], &memory).unwrap();
    driver.send(&[&header(1, 0), &[9; 512]], &[]);
    let served = block.serve(&memory, |order| panic!("{order:?}"));
    assert!(served.notify);
    assert_eq!(driver.take().unwrap().1, b"");
}

#[test]
fn whatever_a_driver_writes_the_disk_is_asked_within_its_bounds() {
    let memory = memory();
    bolero::check!().with_type::<([Chaos; 2], Vec<(u8, u16)>, bool)>().for_each(
        |(rounds, headers, read_only)| {
            let shape = Shape { read_only: *read_only, ..shape() };
            let mut driver = Driver::new(&memory, 0, 8);
            driver.clear();
            let mut block = Block::new(shape, ALL, vec![driver.queue()], &memory).unwrap();
            for chaos in rounds {
                let mut chaos = chaos.clone();
                // Headers among the buffers, so that some chains begin with one.
                for (at, (kind, sector)) in headers.iter().enumerate() {
                    let header = header(u32::from(*kind % 16), u64::from(*sector) << 2);
                    chaos.bytes.splice(0..0, header);
                    if at == 8 {
                        break;
                    }
                }
                driver.scribble(&chaos);
                let mut orders = 0;
                let on_disk = |offset: u64, length: u64| {
                    assert!(offset.is_multiple_of(512) && length.is_multiple_of(512));
                    assert!(offset.checked_add(length).unwrap() <= SIZE);
                };
                let served = block.serve(&memory, |order| {
                    orders += 1;
                    assert!(!read_only || matches!(order, Order::Read(..) | Order::Flush));
                    match order {
                        Order::Read(offset, buffer) => on_disk(offset, buffer.len() as u64),
                        Order::Write(offset, bytes) => on_disk(offset, bytes.len() as u64),
                        Order::Discard(offset, length) => on_disk(offset, length),
                        Order::Zero(offset, length, _) => on_disk(offset, length),
                        Order::Flush => {}
                    }
                    if orders % 3 == 0 { Err(Refused) } else { Ok(()) }
                });
                assert!(orders <= 8 * 17 && block.request.settled());
                assert_eq!(served.broken, block.request.broken());
            }
        },
    );
}
