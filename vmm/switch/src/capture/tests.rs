use std::io::{PipeReader, Read};

use super::*;

/// Everything that can be read until the writer is gone.
fn records(pipe: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    PipeReader::from(pipe).read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_reader_gets_the_packets_it_asked_for_and_no_others() {
    let mut taps = Taps::default();
    taps.inner_in(3, 1, &[b"before"]);
    let inner = taps.start(3, Layer::Inner, 4).unwrap();
    let outer = taps.start(3, Layer::Outer, MAX_SNAPLEN).unwrap();
    let ends = ("192.0.2.20:4500".parse().unwrap(), "192.0.2.10:4500".parse().unwrap());
    taps.inner_in(3, 5, &[b"ab", b"cdef"]);
    taps.inner_out(4, 6, &[b"of another space"]);
    taps.inner_out(3, 7, &[b"xyz"]);
    taps.outer_in(3, 8, ends, 0, b"sealed");
    taps.flush();
    taps.end(3);
    assert!(!taps.wants_inner_of(3) && !taps.wants_outer());
    let (inner, outer) = (records(inner), records(outer));
    let mut rest = &inner[..];
    let first = Record::take(&mut rest).unwrap().unwrap();
    assert_eq!((first.time_ns, first.direction, first.original), (5, Direction::In, 6));
    assert_eq!((first.packet, first.lost), (&b"abcd"[..], 0));
    let second = Record::take(&mut rest).unwrap().unwrap();
    assert_eq!((second.time_ns, second.direction, second.packet), (7, Direction::Out, &b"xyz"[..]));
    assert_eq!((Record::take(&mut rest).unwrap(), rest.len()), (None, 0));
    let mut rest = &outer[..];
    let packet = Record::take(&mut rest).unwrap().unwrap().packet;
    assert_eq!((packet.len(), &packet[28..]), (34, &b"sealed"[..]));
}

#[test]
fn what_a_slow_reader_leaves_no_room_for_is_lost_and_counted() {
    let mut taps = Taps::default();
    let pipe = taps.start(0, Layer::Inner, MAX_SNAPLEN).unwrap();
    let packet = [7; 1400];
    for time in 0..4000 {
        taps.inner_in(0, time, &[&packet]);
        taps.flush();
    }
    // Room again: what comes next says how many did not.
    let mut file = PipeReader::from(pipe);
    let mut bytes = vec![0; 3 * PIPE_ROOM];
    let mut length = file.read(&mut bytes).unwrap();
    taps.flush();
    taps.inner_in(0, 9999, &[&packet]);
    taps.end(0);
    while length < bytes.len() {
        match file.read(&mut bytes[length..]).unwrap() {
            0 => break,
            read => length += read,
        }
    }
    let (mut rest, mut seen, mut last) = (&bytes[..length], 0, None);
    while let Some(record) = Record::take(&mut rest).unwrap() {
        assert_eq!(record.packet, packet);
        (seen, last) = (seen + 1, Some(record));
    }
    let last = last.unwrap();
    assert_eq!((last.time_ns, seen + last.lost), (9999, 4001));
    assert!(last.lost > 0 && rest.is_empty());
}

#[test]
fn a_capture_ends_with_its_reader_and_there_are_few() {
    let mut taps = Taps::default();
    let mut pipes: Vec<_> =
        (0..MAX_TAPS).map(|_| taps.start(0, Layer::Inner, 100).unwrap()).collect();
    let refused = taps.start(0, Layer::Inner, 100).unwrap_err().to_string();
    assert!(refused.contains("captures run already: end one"), "{refused}");
    pipes.pop();
    pipes.push(taps.start(0, Layer::Outer, 100).unwrap());
    drop(pipes);
    taps.inner_in(0, 1, &[b"nobody reads it"]);
    taps.flush();
    assert!(!taps.wants_inner_of(0) && taps.wants_outer());
}

#[test]
fn whatever_comes_out_of_a_pipe_is_a_record_or_refused() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let mut rest = bytes;
        // Each record is shorter than what is left: this ends.
        while let Ok(Some(record)) = Record::take(&mut rest) {
            assert!(record.packet.len() <= record.original as usize);
        }
    });
}
