use super::*;
use crate::driver::{Chaos, Driver, memory};

fn fs(memory: &Memory) -> (Driver, Driver, Fs) {
    let (high, request) = (Driver::new(memory, 0, 8), Driver::new(memory, 1, 8));
    let fs = running(vec![high.queue(), request.queue()], memory);
    (high, request, fs)
}

/// A device with these queues, as far as they are ready.
fn running(queues: Vec<virtio_queue::Queue>, memory: &Memory) -> Fs {
    let mut fs = Fs::new(queues.len());
    for (index, queue) in queues.into_iter().enumerate() {
        if let Ok(ring) = Ring::new(queue, REQUEST_LIMIT, memory) {
            fs.start(index, ring);
        }
    }
    fs
}

/// Answers the next request.
fn answer(fs: &mut Fs, memory: &Memory, handler: impl FnOnce(&[u8], usize) -> Vec<u8>) -> bool {
    let mut call = fs.take(memory).expect("a request waits");
    let mut request = b"left from before".to_vec();
    call.read(memory, &mut request);
    let reply = handler(&request, call.capacity());
    call.answer(memory, &reply);
    fs.give_back(memory, call)
}

#[test]
fn the_registers_show_the_tag_and_the_number_of_request_queues() {
    let identity = identity(Tag::new("files").unwrap(), 2);
    assert_eq!(identity.queue_sizes.len(), 3);
    assert_eq!(&identity.config[..6], b"files\0");
    assert_eq!(identity.config[36..], [2, 0, 0, 0]);
    assert!(Tag::new(&"x".repeat(36)).is_some());
    for bad in ["", "a\0b", &"x".repeat(37)] {
        assert_eq!(Tag::new(bad), None);
    }
}

#[test]
fn a_request_is_answered_in_the_room_it_brings() {
    let memory = memory();
    let (_, mut request, mut fs) = fs(&memory);
    request.send(&[b"head", b"er"], &[4, 8]);
    assert!(answer(&mut fs, &memory, |bytes, capacity| {
        assert_eq!((bytes, capacity), (&b"header"[..], 12));
        b"an answer".to_vec()
    }));
    assert_eq!(request.take().unwrap().1, b"an answer");
}

#[test]
fn a_forget_is_given_back_without_a_reply() {
    let memory = memory();
    let (mut high, _, mut fs) = fs(&memory);
    high.send(&[b"forget"], &[]);
    assert!(answer(&mut fs, &memory, |bytes, capacity| {
        assert_eq!((bytes, capacity), (&b"forget"[..], 0));
        Vec::new()
    }));
    assert_eq!(high.take().unwrap().1, b"");
}

#[test]
fn a_reply_that_does_not_fit_is_not_sent_in_part() {
    let memory = memory();
    let (_, mut request, mut fs) = fs(&memory);
    request.send(&[b"read"], &[4]);
    assert!(answer(&mut fs, &memory, |_, _| b"12345".to_vec()));
    assert_eq!(request.take().unwrap().1, b"");
}

#[test]
fn requests_are_given_back_in_the_order_they_are_answered() {
    let memory = memory();
    let (mut high, mut request, mut fs) = fs(&memory);
    let (slow, quick) = (request.send(&[b"slow"], &[8]), request.send(&[b"quick"], &[8]));
    let mut waits = fs.take(&memory).unwrap();
    assert!(answer(&mut fs, &memory, |bytes, _| bytes.to_vec()));
    assert_eq!(request.take().unwrap(), (quick, b"quick".to_vec()));
    // What has priority goes first, whatever waits.
    request.send(&[b"later"], &[8]);
    high.send(&[b"forget"], &[]);
    let _ = answer(&mut fs, &memory, |bytes, _| {
        assert_eq!(bytes, b"forget");
        Vec::new()
    });
    waits.answer(&memory, b"at last");
    let _ = fs.give_back(&memory, waits);
    assert_eq!(request.take().unwrap(), (slow, b"at last".to_vec()));
}

#[test]
fn a_request_that_came_before_arming_is_told() {
    let memory = memory();
    let (mut high, mut request, mut fs) = fs(&memory);
    assert!(!fs.arm(&memory));
    request.send(&[b"read"], &[4]);
    assert!(fs.arm(&memory));
    let _ = answer(&mut fs, &memory, |_, _| Vec::new());
    assert!(!fs.arm(&memory));
    high.send(&[b"forget"], &[]);
    assert!(fs.arm(&memory));
}

#[test]
fn a_queue_that_is_not_there_has_no_requests() {
    let memory = memory();
    let (_, request, _) = fs(&memory);
    let unready = || virtio_queue::QueueT::new(8).unwrap();
    let mut fs = running(vec![unready(), request.queue()], &memory);
    assert!(fs.take(&memory).is_none() && !fs.arm(&memory));
    assert!(fs.stop(0).is_none() && fs.stop(1).is_some());
    assert!(fs.take(&memory).is_none() && !fs.arm(&memory), "none runs any more");
}

#[test]
fn whatever_a_driver_writes_the_fs_device_gives_every_chain_back() {
    let memory = memory();
    bolero::check!().with_type::<[(Chaos, bool, bool); 3]>().for_each(|rounds| {
        let mut drivers = [Driver::new(&memory, 0, 8), Driver::new(&memory, 1, 8)];
        for driver in &drivers {
            driver.clear();
        }
        let mut fs = running(drivers.iter().map(Driver::queue).collect(), &memory);
        let mut request = Vec::new();
        for (chaos, high, backwards) in rounds {
            drivers[usize::from(!high)].scribble(chaos);
            let mut calls: Vec<Call> = std::iter::from_fn(|| fs.take(&memory)).collect();
            assert!(calls.len() <= 16, "no more are out than the queues have");
            if *backwards {
                calls.reverse();
            }
            for mut call in calls {
                call.read(&memory, &mut request);
                let capacity = call.capacity();
                assert!(request.len() <= REQUEST_LIMIT as usize && capacity <= REPLY_LIMIT);
                call.answer(&memory, &request);
                let _ = fs.give_back(&memory, call);
            }
            assert!(fs.queues.iter().flatten().all(Ring::settled));
            let _ = fs.broken();
        }
    });
}
