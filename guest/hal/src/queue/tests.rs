use super::*;
use std::boxed::Box;
use std::vec::Vec;

fn doorbell() -> Doorbell {
    Doorbell::for_test(Box::leak(Box::new(0)))
}

fn read(address: usize, length: usize) -> Vec<u8> {
    // SAFETY: tests pass what a queue described, which it owns for ever.
    unsafe { core::slice::from_raw_parts(address as *const u8, length) }.to_vec()
}

fn write(address: usize, bytes: &[u8]) {
    // SAFETY: as above; the queue has handed the buffer to "the device".
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) };
}

#[test]
fn received_bytes_are_those_the_device_wrote_and_the_buffer_goes_back() {
    let mut queue = ReceiveQueue::over(Rings::new(4), doorbell(), 100);
    assert_eq!(queue.rings.offered_index(), 4);
    for round in 0..20_u16 {
        let chain = queue.rings.offered_chain(round);
        assert_eq!((chain.len(), chain[0].1, chain[0].2), (1, 100, 2));
        write(chain[0].0, &[round as u8; 5]);
        assert!(!queue.pending());
        queue.rings.device_uses(round, 5);
        assert_eq!(&*queue.receive().expect("one is used"), &[round as u8; 5]);
        assert!(queue.receive().is_none());
        assert_eq!(queue.rings.offered_index(), 5 + round);
    }
}

#[test]
fn a_device_that_claims_to_have_written_more_than_the_buffer_gives_the_buffer() {
    let mut queue = ReceiveQueue::over(Rings::new(2), doorbell(), 10);
    queue.rings.device_uses(0, 4_000_000);
    assert_eq!(queue.receive().expect("one is used").len(), 10);
}

#[test]
fn sending_stops_when_the_device_has_every_buffer_and_goes_on_when_it_gives_one_back() {
    let mut queue = SendQueue::over(Rings::new(4), doorbell(), 16);
    for byte in 0..4 {
        queue.slot().expect("free").send(3, |bytes| bytes.fill(byte));
    }
    assert!(queue.slot().is_none() && queue.full());
    let chain = queue.rings.offered_chain(2);
    assert_eq!((chain[0].1, chain[0].2), (3, 0));
    assert_eq!(read(chain[0].0, 3), [2; 3]);
    assert!(!queue.arm());
    queue.rings.device_uses(0, 0);
    assert!(queue.arm() && !queue.full());
    assert!(queue.slot().is_some());
}

#[test]
fn a_buffer_not_sent_is_free_again() {
    let mut queue = SendQueue::over(Rings::new(2), doorbell(), 16);
    for _ in 0..10 {
        assert!(queue.slot().is_some());
    }
    assert_eq!(queue.rings.offered_index(), 0);
}

#[test]
fn a_request_and_its_reply_are_one_chain_and_tokens_match() {
    let mut queue = RequestQueue::over(Rings::new(8), doorbell(), 32, 64);
    let tokens: Vec<_> = (1..=4)
        .map(|length| {
            queue.submit(|bytes| {
                bytes[..length].fill(length as u8);
                length
            })
        })
        .collect();
    assert!(!queue.ready() && queue.submit(|_| 0).is_none());
    // Answered out of order.
    for (position, token) in [(2, tokens[2]), (0, tokens[0])] {
        let chain = queue.rings.offered_chain(position);
        assert_eq!(chain.len(), 2);
        let request = read(chain[0].0, chain[0].1);
        assert_eq!((chain[1].1, chain[1].2), (64, 2));
        write(chain[1].0, &request);
        queue.rings.device_uses(position, request.len() as u32);
        let (answered, reply) =
            queue.complete(|token, reply| (token, reply.to_vec())).expect("one is used");
        assert_eq!((Some(answered), reply), (token, request));
    }
    assert!(queue.ready());
}

#[test]
fn the_device_is_notified_only_when_its_event_index_is_passed() {
    let mut queue = SendQueue::over(Rings::new(8), doorbell(), 16);
    let send = |queue: &mut SendQueue| queue.slot().expect("free").send(1, |bytes| bytes[0] = 0);
    assert!(!queue.kick(), "nothing was sent");
    send(&mut queue);
    assert!(queue.kick(), "a device that never set its event wants the first");
    send(&mut queue);
    assert!(!queue.kick(), "the event is behind");
    queue.rings.device_asks(3);
    send(&mut queue);
    assert!(!queue.kick());
    send(&mut queue);
    send(&mut queue);
    assert!(queue.kick(), "the index went from 3 to 5, past 3");
}

#[test]
fn arming_asks_for_the_next_used_chain_and_sees_one_that_came_before() {
    let mut queue = ReceiveQueue::over(Rings::new(4), doorbell(), 8);
    assert!(!queue.arm());
    assert_eq!(queue.rings.used_event(), 0);
    queue.rings.device_uses(0, 1);
    assert!(queue.arm());
    drop(queue.receive());
    assert!(!queue.arm());
    assert_eq!(queue.rings.used_event(), 1);
}
