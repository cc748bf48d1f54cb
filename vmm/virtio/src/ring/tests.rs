use virtio_queue::desc::split::Descriptor;

use super::*;
use crate::driver::{Chaos, Driver, INDIRECT, NEXT, WRITE, memory};

const LIMIT: u32 = 0x1_0000;
const SIZE: u16 = 8;
/// A buffer outside of the rings.
const BUFFER: u64 = 0x2_0000;

fn pair() -> (Memory, Driver, Ring) {
    let memory = memory();
    let driver = Driver::new(&memory, 0, SIZE);
    let ring = Ring::new(driver.queue(), LIMIT, &memory).unwrap();
    (memory, driver, ring)
}

/// What the ring makes of one chain, written by `describe` from descriptor 0 on.
fn outcome(describe: impl Fn(&Driver)) -> Result<Option<Chain>, Broken> {
    let (memory, mut driver, mut ring) = pair();
    describe(&driver);
    driver.offer(0);
    let outcome = ring.pop(&memory);
    assert_eq!(ring.broken(), outcome.as_ref().err().copied());
    if let Err(broken) = outcome {
        assert_eq!(ring.pop(&memory).unwrap_err(), broken, "broken is for good");
        assert!(!ring.has_work(&memory) && !ring.arm(&memory));
    }
    outcome
}

fn refusal(describe: impl Fn(&Driver)) -> Broken {
    outcome(describe).expect_err("the chain is refused")
}

#[test]
fn a_chain_is_read_and_written_across_its_buffers_and_given_back() {
    let (memory, mut driver, mut ring) = pair();
    assert!(ring.pop(&memory).unwrap().is_none());
    let head = driver.send(&[b"ab", b"cde"], &[2, 5]);
    let mut chain = ring.pop(&memory).unwrap().unwrap();
    assert_eq!((chain.head(), chain.readable(), chain.writable()), (head, 5, 7));

    let mut first = [0; 3];
    assert_eq!(chain.read(&memory, &mut first), 3);
    let mut rest = Vec::new();
    assert_eq!(chain.read_all(&memory, &mut rest), 2);
    assert_eq!((&first, &rest[..]), (b"abc", &b"de"[..]));
    assert_eq!(chain.read(&memory, &mut first), 0, "a byte is read once");
    assert_eq!(chain.write(&memory, b"xyz"), 3);
    assert_eq!(chain.write(&memory, b"0123456"), 4);
    assert_eq!((chain.written(), chain.writable()), (7, 0));

    ring.complete(&memory, chain);
    assert_eq!(driver.take(), Some((head, b"xyz0123".to_vec())));
}

#[test]
fn many_rounds_wrap_the_indices() {
    let (memory, mut driver, mut ring) = pair();
    for round in 0..70_000_u32 {
        let head = driver.send(&[&round.to_le_bytes()], &[4]);
        assert!(ring.has_work(&memory));
        let mut chain = ring.pop(&memory).unwrap().unwrap();
        let mut bytes = [0; 4];
        chain.read(&memory, &mut bytes);
        chain.write(&memory, &bytes);
        ring.complete(&memory, chain);
        assert!(!ring.has_work(&memory));
        assert_eq!(driver.take(), Some((head, round.to_le_bytes().to_vec())));
    }
}

#[test]
fn staged_chains_are_seen_together_when_they_are_published() {
    let (memory, mut driver, mut ring) = pair();
    let heads = [driver.send(&[], &[4]), driver.send(&[], &[4])];
    for part in [b"one,", b"two."] {
        let mut chain = ring.pop(&memory).unwrap().unwrap();
        chain.write(&memory, part);
        ring.stage(&memory, chain);
        assert_eq!(driver.take(), None, "not yet");
        assert!(!ring.wants_notification(&memory));
    }
    ring.publish(&memory);
    assert!(ring.wants_notification(&memory) && !ring.wants_notification(&memory));
    assert_eq!(driver.take(), Some((heads[0], b"one,".to_vec())));
    assert_eq!(driver.take(), Some((heads[1], b"two.".to_vec())));
    assert!(ring.settled());
}

#[test]
fn a_chain_put_back_is_found_again_as_it_was() {
    let (memory, mut driver, mut ring) = pair();
    let heads = [driver.send(&[b"1"], &[]), driver.send(&[b"2"], &[])];
    let (one, two) = (ring.pop(&memory).unwrap().unwrap(), ring.pop(&memory).unwrap().unwrap());
    ring.put_back(two);
    ring.put_back(one);
    assert!(ring.has_work(&memory));
    for (head, byte) in heads.into_iter().zip([b"1", b"2"]) {
        let mut chain = ring.pop(&memory).unwrap().unwrap();
        let mut found = [0; 1];
        chain.read(&memory, &mut found);
        assert_eq!((chain.head(), &found), (head, byte));
        ring.complete(&memory, chain);
    }
    assert!(ring.settled() && ring.pop(&memory).unwrap().is_none());
}

#[test]
fn chains_are_given_back_in_any_order() {
    let (memory, mut driver, mut ring) = pair();
    let (first, second) = (driver.send(&[b"1"], &[]), driver.send(&[b"2"], &[]));
    let one = ring.pop(&memory).unwrap().unwrap();
    let two = ring.pop(&memory).unwrap().unwrap();
    ring.complete(&memory, two);
    ring.complete(&memory, one);
    assert_eq!(driver.take().unwrap().0, second);
    assert_eq!(driver.take().unwrap().0, first);
}

#[test]
fn an_indirect_table_is_followed() {
    let chain = outcome(|driver| {
        driver.describe(0, BUFFER, 32, INDIRECT, 0);
        driver.put(Descriptor::new(0x3_0000, 5, NEXT, 1), BUFFER);
        driver.put(Descriptor::new(0x3_1000, 6, WRITE, 0), BUFFER + 16);
    });
    let chain = chain.unwrap().unwrap();
    assert_eq!((chain.readable(), chain.writable()), (5, 6));
}

#[test]
fn an_available_index_that_jumps_ahead_breaks_the_queue() {
    let (memory, mut driver, mut ring) = pair();
    driver.available = SIZE;
    driver.offer(0);
    assert_eq!(ring.pop(&memory).unwrap_err(), Broken::AvailableIndex);
}

#[test]
fn an_available_index_that_goes_back_breaks_the_queue() {
    let (memory, mut driver, mut ring) = pair();
    driver.send(&[b"1"], &[]);
    let chain = ring.pop(&memory).unwrap().unwrap();
    ring.complete(&memory, chain);
    driver.put(0_u16, driver.available_ring() + 2);
    assert_eq!(ring.pop(&memory).unwrap_err(), Broken::AvailableIndex);
}

#[test]
fn more_chains_than_descriptors_are_never_out() {
    let (memory, mut driver, mut ring) = pair();
    let mut out = Vec::new();
    for _ in 0..SIZE {
        driver.send(&[b"1"], &[]);
        out.push(ring.pop(&memory).unwrap().unwrap());
    }
    driver.send(&[b"1"], &[]);
    assert_eq!(ring.pop(&memory).unwrap_err(), Broken::AvailableIndex);
}

#[test]
fn a_descriptor_loop_breaks_the_queue() {
    assert_eq!(refusal(|driver| driver.describe(0, BUFFER, 1, NEXT, 0)), Broken::Loop);
    let two = refusal(|driver| {
        driver.describe(0, BUFFER, 0, NEXT, 1);
        driver.describe(1, BUFFER, 0, NEXT, 0);
    });
    assert_eq!(two, Broken::Loop);
}

#[test]
fn an_indirect_loop_breaks_the_queue() {
    let refused = refusal(|driver| {
        driver.describe(0, BUFFER, 16 * 64, INDIRECT, 0);
        driver.put(Descriptor::new(0x3_0000, 1, NEXT, 0), BUFFER);
    });
    assert_eq!(refused, Broken::Loop);
}

#[test]
fn an_indirect_table_in_another_or_continued_or_of_odd_size_breaks_the_queue() {
    let nested = refusal(|driver| {
        driver.describe(0, BUFFER, 16, INDIRECT, 0);
        driver.put(Descriptor::new(BUFFER, 16, INDIRECT, 0), BUFFER);
    });
    assert_eq!(nested, Broken::Indirect);
    for (length, flags) in [(16, INDIRECT | NEXT), (0, INDIRECT), (17, INDIRECT)] {
        let refused = refusal(|driver| driver.describe(0, BUFFER, length, flags, 1));
        assert_eq!(refused, Broken::Indirect);
    }
}

#[test]
fn an_index_outside_of_its_table_breaks_the_queue() {
    assert_eq!(refusal(|driver| driver.describe(0, BUFFER, 1, NEXT, SIZE)), Broken::Index);
    let indirect = refusal(|driver| {
        driver.describe(0, BUFFER, 16, INDIRECT, 0);
        driver.put(Descriptor::new(0x3_0000, 1, NEXT, 1), BUFFER);
    });
    assert_eq!(indirect, Broken::Index);

    let (memory, mut driver, mut ring) = pair();
    driver.offer(SIZE);
    assert_eq!(ring.pop(&memory).unwrap_err(), Broken::Index);
}

#[test]
fn a_buffer_of_no_bytes_is_no_buffer() {
    let (memory, mut driver, mut ring) = pair();
    driver.describe(0, u64::MAX, 0, NEXT, 1);
    driver.describe(1, BUFFER, 4, WRITE, 0);
    driver.offer(0);
    let mut chain = ring.pop(&memory).unwrap().unwrap();
    assert_eq!((chain.readable(), chain.writable()), (0, 4));
    assert_eq!(chain.write(&memory, b"12345"), 4);
    ring.complete(&memory, chain);
    assert_eq!(driver.used(), 1);
}

#[test]
fn a_chain_of_no_bytes_is_given_back_like_any_other() {
    let (memory, mut driver, mut ring) = pair();
    driver.describe(0, BUFFER, 0, 0, 0);
    driver.offer(0);
    let mut chain = ring.pop(&memory).unwrap().unwrap();
    assert_eq!((chain.read(&memory, &mut [0; 9]), chain.write(&memory, b"1")), (0, 0));
    ring.complete(&memory, chain);
    assert_eq!(driver.used(), 1);
}

#[test]
fn a_buffer_that_leaves_memory_or_the_address_space_breaks_the_queue() {
    let cases = [
        (BUFFER, u32::MAX, WRITE),
        (BUFFER, u32::MAX, 0),
        (u64::MAX, 1, 0),
        (u64::MAX - 3, 8, WRITE),
        (1 << 40, 1, WRITE),
        (BUFFER, !0xf, INDIRECT),
        (!0xf, 32, INDIRECT),
    ];
    for (address, length, flags) in cases {
        let refused = refusal(|driver| driver.describe(0, address, length, flags, 0));
        assert_eq!(refused, Broken::Address, "{address:#x} {length:#x} {flags}");
    }
}

#[test]
fn more_readable_bytes_than_the_device_ever_takes_break_the_queue() {
    let exactly = outcome(|driver| driver.describe(0, BUFFER, LIMIT, 0, 0));
    assert_eq!(exactly.unwrap().unwrap().readable(), LIMIT as usize);
    let refused = refusal(|driver| {
        driver.describe(0, BUFFER, LIMIT, NEXT, 1);
        driver.describe(1, BUFFER, 1, 0, 0);
    });
    assert_eq!(refused, Broken::TooLong);
}

#[test]
fn a_readable_buffer_after_a_writable_one_breaks_the_queue() {
    let refused = refusal(|driver| {
        driver.describe(0, BUFFER, 1, WRITE | NEXT, 1);
        driver.describe(1, BUFFER, 1, 0, 0);
    });
    assert_eq!(refused, Broken::Misordered);
}

#[test]
fn a_queue_that_is_not_ready_or_not_in_memory_is_no_ring() {
    let memory = memory();
    let settings = Settings::from(&Driver::new(&memory, 0, SIZE).queue());
    let refused = [
        Settings { size: 0, ..settings },
        Settings { size: 12, ..settings },
        Settings { descriptors: 1 << 40, ..settings },
        Settings { descriptors: 8, ..settings },
        Settings { available: u64::MAX - 1, ..settings },
        Settings { used: 0xc0_0000 - 16, ..settings },
    ];
    for settings in refused {
        assert_eq!(Ring::from_settings(&settings, LIMIT, &memory).unwrap_err(), Broken::Setup);
    }
    let unready = Queue::new(8).unwrap();
    assert_eq!(Ring::new(unready, LIMIT, &memory).unwrap_err(), Broken::Setup);
}

#[test]
fn a_ring_taken_over_goes_on_where_the_last_device_stopped() {
    let (memory, mut driver, mut ring) = pair();
    for _ in 0..3 {
        driver.send(&[b"1"], &[]);
        let chain = ring.pop(&memory).unwrap().unwrap();
        ring.complete(&memory, chain);
        driver.take();
    }
    let settings =
        Settings { next_available: ring.next_available(), ..Settings::from(&driver.queue()) };
    let mut next = Ring::from_settings(&settings, LIMIT, &memory).unwrap();
    let head = driver.send(&[b"2"], &[]);
    let chain = next.pop(&memory).unwrap().unwrap();
    next.complete(&memory, chain);
    assert_eq!(driver.take().unwrap().0, head);
}

#[test]
fn the_driver_is_notified_unless_it_says_no() {
    let (memory, mut driver, mut ring) = pair();
    assert!(!ring.wants_notification(&memory), "nothing was given back");
    driver.send(&[b"1"], &[]);
    assert!(ring.serve(&memory, |_| ()).notify);
    assert!(!ring.wants_notification(&memory), "asked once per batch");
    driver.put(1_u16, driver.available_ring());
    driver.send(&[b"1"], &[]);
    assert!(!ring.serve(&memory, |_| ()).notify);
}

#[test]
fn with_event_idx_the_driver_is_notified_where_it_wants() {
    let memory = memory();
    let mut driver = Driver::new(&memory, 0, SIZE).with_event_idx();
    let mut ring = Ring::new(driver.queue(), LIMIT, &memory).unwrap();
    driver.want_notification_after(2);
    let notified = [(); 5].map(|()| {
        driver.send(&[b"1"], &[]);
        ring.serve(&memory, |_| ()).notify
    });
    assert_eq!(notified, [false, false, true, false, false]);
    driver.want_notification_after(6);
    for _ in 0..4 {
        driver.send(&[b"1"], &[]);
    }
    assert!(ring.serve(&memory, |_| ()).notify, "the place lies within the batch");
}

#[test]
fn a_kick_is_asked_for_only_while_armed() {
    let (memory, mut driver, mut ring) = pair();
    ring.disarm(&memory);
    assert_eq!(driver.word(driver.used_ring()), 1);
    assert!(!ring.arm(&memory));
    assert_eq!(driver.word(driver.used_ring()), 0);
    driver.send(&[b"1"], &[]);
    assert!(ring.arm(&memory), "a chain came before the arming");
}

#[test]
fn with_event_idx_a_kick_is_asked_for_only_while_armed() {
    let memory = memory();
    let mut driver = Driver::new(&memory, 0, SIZE).with_event_idx();
    let mut ring = Ring::new(driver.queue(), LIMIT, &memory).unwrap();
    // vring_need_event of the specification's driver (virtio 1.2 2.7.10).
    let kicks = |driver: &Driver, old: u16| {
        let (event, new) = (driver.device_wants_kick_after(), driver.available);
        new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
    };
    assert!(!ring.arm(&memory));
    driver.send(&[b"1"], &[]);
    assert!(kicks(&driver, 0));
    ring.disarm(&memory);
    assert!(!ring.serve_while(&memory, &mut (), |()| false, |(), _| ()).more);
    driver.send(&[b"1"], &[]);
    assert!(!kicks(&driver, 1));
    assert!(ring.arm(&memory));
}

#[test]
fn one_call_serves_at_most_a_queue_of_chains() {
    let (memory, mut driver, mut ring) = pair();
    driver.send(&[b"1"], &[]);
    let mut seen = 0;
    let served = ring.serve(&memory, |_| {
        seen += 1;
        // The guest hands the buffer back at once, for ever.
        driver.send(&[b"1"], &[]);
    });
    assert_eq!((seen, served.more, served.broken), (SIZE, true, None));
}

#[test]
fn whatever_a_driver_writes_every_chain_taken_is_given_back() {
    let (memory, _, _) = pair();
    bolero::check!().with_type::<[Chaos; 3]>().for_each(|rounds| {
        let mut driver = Driver::new(&memory, 0, SIZE);
        driver.clear();
        let mut ring = Ring::new(driver.queue(), LIMIT, &memory).unwrap();
        let mut bytes = Vec::new();
        for chaos in rounds {
            driver.scribble(chaos);
            let mut calls = 0;
            let served = ring.serve(&memory, |chain| {
                calls += 1;
                bytes.clear();
                chain.read_all(&memory, &mut bytes);
                chain.write(&memory, &bytes);
            });
            assert!(calls <= SIZE);
            assert!(ring.settled());
            assert_eq!(served.broken, ring.broken());
        }
    });
}

#[test]
fn a_driver_that_changes_the_rings_while_they_are_read_gains_nothing() {
    let memory = memory();
    let device = || {
        let mut bytes = Vec::new();
        for _ in 0..100_000 {
            let queue = Driver::new(&memory, 0, SIZE).queue();
            let mut ring = Ring::new(queue, 4096, &memory).unwrap();
            let _ = ring.serve(&memory, |chain| {
                bytes.clear();
                let readable = chain.readable();
                assert!(readable <= 4096);
                assert_eq!(chain.read_all(&memory, &mut bytes), readable);
                chain.write(&memory, &bytes);
            });
            assert!(ring.settled());
        }
    };
    std::thread::scope(|scope| {
        let device = scope.spawn(device);
        let driver = Driver::new(&memory, 0, SIZE);
        let mut random = 1_u64;
        while !device.is_finished() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let [index, flags, next, length, place, ..] = random.to_be_bytes();
            let address = BUFFER + u64::from(place) * 16;
            let (index, next) = (u16::from(index) % SIZE, u16::from(next) % SIZE);
            driver.describe(index, address, u32::from(length), u16::from(flags) % 4, next);
            driver.describe(next, address, u32::from(length), INDIRECT, next);
            driver.put(next, driver.available_ring() + 2);
            driver.put(index, driver.available_ring() + 4 + 2 * u64::from(next));
        }
    });
}

/// A bound that a mistake (an allocation or a system call per chain) breaks.
/// The fastest of many batches is measured: others share the processor.
#[test]
fn a_round_of_64_bytes_takes_well_under_a_microsecond() {
    let (memory, mut driver, mut ring) = pair();
    driver.describe(0, BUFFER, 64, 0, 0);
    let mut batch = || {
        for _ in 0..SIZE {
            driver.offer(0);
        }
        #[expect(clippy::disallowed_methods, reason = "the test measures")]
        let start = std::time::Instant::now();
        for _ in 0..SIZE {
            let mut chain = ring.pop(&memory).unwrap().unwrap();
            let mut bytes = [0; 64];
            chain.read(&memory, &mut bytes);
            std::hint::black_box(&bytes);
            ring.complete(&memory, chain);
        }
        start.elapsed() / u32::from(SIZE)
    };
    let fastest = (0..20_000).map(|_| batch()).min().unwrap();
    println!("pop, read 64 bytes, complete: {fastest:?}");
    assert!(fastest < std::time::Duration::from_micros(1));
}
