use super::*;
use crate::driver::{Chaos, Driver, memory};

fn fs(memory: &Memory) -> (Driver, Driver, Fs) {
    let (high, request) = (Driver::new(memory, 0, 8), Driver::new(memory, 1, 8));
    let fs = Fs::new(vec![high.queue(), request.queue()], memory).unwrap();
    (high, request, fs)
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
    let served = fs.serve(FIRST_REQUEST, &memory, |bytes, capacity, reply| {
        assert_eq!((bytes, capacity), (&b"header"[..], 12));
        reply.extend_from_slice(b"an answer");
    });
    assert!(served.notify);
    assert_eq!(request.take().unwrap().1, b"an answer");
}

#[test]
fn a_forget_is_given_back_without_a_reply() {
    let memory = memory();
    let (mut high, _, mut fs) = fs(&memory);
    high.send(&[b"forget"], &[]);
    let served = fs.serve(HIGH_PRIORITY, &memory, |bytes, capacity, _| {
        assert_eq!((bytes, capacity), (&b"forget"[..], 0));
    });
    assert!(served.notify);
    assert_eq!(high.take().unwrap().1, b"");
}

#[test]
fn a_reply_that_does_not_fit_is_not_sent_in_part() {
    let memory = memory();
    let (_, mut request, mut fs) = fs(&memory);
    request.send(&[b"read"], &[4]);
    let _ = fs.serve(FIRST_REQUEST, &memory, |_, _, reply| reply.extend_from_slice(b"12345"));
    assert_eq!(request.take().unwrap().1, b"");
}

#[test]
fn a_queue_that_is_not_there_is_served_by_doing_nothing() {
    let memory = memory();
    let (_, request, _) = fs(&memory);
    let unready = || virtio_queue::QueueT::new(8).unwrap();
    let mut fs = Fs::new(vec![unready(), request.queue()], &memory).unwrap();
    for index in [HIGH_PRIORITY, 2, u16::MAX] {
        let served = fs.serve(index, &memory, |_, _, _| panic!("there is no request"));
        assert_eq!(served, Served::default());
    }
    assert!(Fs::new(vec![request.queue(), unready()], &memory).is_err());
}

#[test]
fn whatever_a_driver_writes_the_fs_device_gives_every_chain_back() {
    let memory = memory();
    bolero::check!().with_type::<[(Chaos, bool); 3]>().for_each(|rounds| {
        let mut drivers = [Driver::new(&memory, 0, 8), Driver::new(&memory, 1, 8)];
        for driver in &drivers {
            driver.clear();
        }
        let queues = drivers.iter().map(Driver::queue).collect();
        let mut fs = Fs::new(queues, &memory).unwrap();
        for (chaos, high) in rounds {
            let index = u16::from(!high);
            drivers[usize::from(index)].scribble(chaos);
            let mut calls = 0;
            let served = fs.serve(index, &memory, |request, capacity, reply| {
                calls += 1;
                assert!(request.len() <= REQUEST_LIMIT as usize && capacity <= REPLY_LIMIT);
                reply.extend_from_slice(request);
            });
            let ring = fs.queues[usize::from(index)].as_ref().unwrap();
            assert!(calls <= 8 && ring.settled());
            assert_eq!(served.broken, ring.broken());
        }
    });
}
