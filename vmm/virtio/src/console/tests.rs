use super::*;
use crate::driver::{Chaos, Driver, memory};

fn console(memory: &Memory) -> (Driver, Driver, Console) {
    let (receive, transmit) = (Driver::new(memory, 0, 8), Driver::new(memory, 1, 8));
    let console = Console::new(vec![receive.queue(), transmit.queue()], memory).unwrap();
    (receive, transmit, console)
}

#[test]
fn the_guests_output_arrives_in_order() {
    let memory = memory();
    let (_, mut transmit, mut console) = console(&memory);
    transmit.send(&[b"hel", b"lo "], &[]);
    transmit.send(&[b"world"], &[]);
    let mut out = Vec::new();
    let served = console.serve(&memory, |bytes| out.extend_from_slice(bytes));
    assert_eq!(served, Served { notify: true, more: false, broken: None });
    assert_eq!(out, b"hello world");
    assert_eq!(transmit.used(), 2);
}

#[test]
fn input_waits_for_the_guests_buffers_and_fills_them() {
    let memory = memory();
    let (mut receive, _, mut console) = console(&memory);
    assert_eq!(console.feed(b"abcdef"), 6);
    assert_eq!(console.serve(&memory, |_| ()), Served::default());
    receive.send(&[], &[4]);
    receive.send(&[], &[4]);
    receive.send(&[], &[4]);
    assert!(console.serve(&memory, |_| ()).notify);
    assert_eq!(receive.take().unwrap().1, b"abcd");
    assert_eq!(receive.take().unwrap().1, b"ef");
    assert_eq!(receive.take(), None, "a buffer nothing is in stays the driver's to wait for");
}

#[test]
fn no_more_input_is_kept_than_the_limit() {
    let memory = memory();
    let (_, _, mut console) = console(&memory);
    assert_eq!(console.feed(&vec![0; INPUT_LIMIT + 1]), INPUT_LIMIT);
    assert_eq!(console.feed(&[0]), 0);
}

#[test]
fn a_driver_without_input_has_its_output_all_the_same() {
    let memory = memory();
    let (_, mut transmit, _) = console(&memory);
    let unready = virtio_queue::QueueT::new(8).unwrap();
    let mut console = Console::new(vec![unready, transmit.queue()], &memory).unwrap();
    transmit.send(&[b"x"], &[]);
    console.feed(b"y");
    let mut out = Vec::new();
    assert!(console.serve(&memory, |bytes| out.extend_from_slice(bytes)).notify);
    assert_eq!(out, b"x");
}

#[test]
fn whatever_a_driver_writes_the_console_gives_every_chain_back() {
    let memory = memory();
    bolero::check!().with_type::<[(Chaos, Chaos); 2]>().for_each(|rounds| {
        let mut drivers = [Driver::new(&memory, 0, 8), Driver::new(&memory, 1, 8)];
        for driver in &drivers {
            driver.clear();
        }
        let queues = drivers.iter().map(Driver::queue).collect();
        let mut console = Console::new(queues, &memory).unwrap();
        for (receive, transmit) in rounds {
            drivers[0].scribble(receive);
            drivers[1].scribble(transmit);
            console.feed(b"some input that takes several buffers");
            let mut calls = 0;
            let served = console.serve(&memory, |_| calls += 1);
            assert!(calls <= 8);
            let rings = [console.receive.as_ref().unwrap(), &console.transmit];
            assert!(rings.iter().all(|ring| ring.settled()));
            assert_eq!(served.broken.is_some(), rings.iter().any(|ring| ring.broken().is_some()));
        }
    });
}
