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
    let mut queue = SendQueue::over(Rings::new(4), doorbell(), 16, (0, 0));
    for byte in 0..4 {
        queue.slot().expect("free").send(3, |bytes| bytes.fill(byte));
    }
    assert!(queue.slot().is_none() && queue.full());
    let chain = queue.rings().offered_chain(2);
    assert_eq!((chain[0].1, chain[0].2), (3, 0));
    assert_eq!(read(chain[0].0, 3), [2; 3]);
    assert!(!queue.arm());
    queue.rings().device_uses(0, 0);
    assert!(queue.arm() && !queue.full());
    assert!(queue.slot().is_some());
}

#[test]
fn a_buffer_not_sent_is_free_again() {
    let mut queue = SendQueue::over(Rings::new(2), doorbell(), 16, (0, 0));
    for _ in 0..10 {
        assert!(queue.slot().is_some());
    }
    assert_eq!(queue.rings().offered_index(), 0);
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
fn a_reply_has_the_room_asked_for_and_a_mark_where_the_device_writes_nothing() {
    let mut queue = RequestQueue::over(Rings::new(4), doorbell(), 32, 64);
    for (position, room) in [(0, 10), (1, 1), (2, 64)] {
        queue.submit_with_room(room, 0xff, |_| 16).expect("free");
        let chain = queue.rings.offered_chain(position);
        assert_eq!((chain[1].1, chain[1].2), (room, 2));
        write(chain[1].0, &alloc::vec![7; room - 1]);
        queue.rings.device_uses(position, 0);
        let reply = queue.complete_whole(|_, reply| reply.to_vec()).expect("one is used");
        assert_eq!(reply, [&alloc::vec![7; room - 1][..], &[0xff]].concat());
    }
}

#[test]
fn the_device_is_notified_only_when_its_event_index_is_passed() {
    let mut queue = SendQueue::over(Rings::new(8), doorbell(), 16, (0, 0));
    let send = |queue: &mut SendQueue| queue.slot().expect("free").send(1, |bytes| bytes[0] = 0);
    assert!(!queue.kick(), "nothing was sent");
    send(&mut queue);
    assert!(queue.kick(), "a device that never set its event wants the first");
    send(&mut queue);
    assert!(!queue.kick(), "the event is behind");
    queue.rings().device_asks(3);
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

#[test]
fn long_packets_take_the_long_buffers_and_short_ones_never_do() {
    let mut queue = SendQueue::over(Rings::new(8), doorbell(), 16, (2, 1000));
    for _ in 0..2 {
        let slot = queue.roomy_slot().expect("free");
        assert_eq!(slot.longest(), 1000);
        slot.send(900, |bytes| bytes.fill(7));
    }
    assert!(queue.roomy_slot().is_none() && queue.full(), "both long ones are the device's");
    let slot = queue.slot().expect("short ones are free");
    assert_eq!(slot.longest(), 16);
    slot.send(3, |bytes| bytes.fill(1));
    let chain = queue.rings().offered_chain(1);
    assert_eq!(read(chain[0].0, chain[0].1), [7; 900]);
    assert!(!queue.arm());
    queue.rings().device_uses(0, 0);
    assert!(queue.arm() && !queue.full());
    assert!(queue.roomy_slot().is_some());
}

/// Has the device fill the next buffers with `packet`, of which the first byte says how many it takes.
fn deliver(queue: &MergeQueue, position: &mut u16, packet: &[u8]) {
    for part in packet.chunks(8) {
        let chain = queue.rings().offered_chain(*position);
        write(chain[0].0, part);
        queue.rings().device_uses(*position, part.len() as u32);
        *position += 1;
    }
}

fn counted(packet: &[u8]) -> usize {
    packet.first().copied().unwrap_or_default().into()
}

#[test]
fn a_packet_in_several_buffers_is_one_run_of_bytes_wherever_it_begins() {
    let mut queue = MergeQueue::over(Rings::new(8), doorbell(), 64, 64 * 5);
    let mut position = 0_u16;
    for round in 0..40_usize {
        let count = 1 + round % 5;
        let length = (count - 1) * 64 + 1 + round % 60;
        let packet: Vec<u8> =
            (0..length).map(|at| if at == 0 { count as u8 } else { (at + round) as u8 }).collect();
        for part in packet.chunks(64) {
            let chain = queue.rings().offered_chain(position);
            assert_eq!((chain[0].1, chain[0].2), (64, 2));
            write(chain[0].0, part);
            queue.rings().device_uses(position, part.len() as u32);
            position += 1;
        }
        assert_eq!(&*queue.receive(counted).expect("one came"), &packet[..], "round {round}");
        assert!(queue.receive(counted).is_none());
    }
    assert_eq!(queue.malformed(), 0);
}

#[test]
fn a_packet_whose_count_is_a_lie_is_counted_and_its_buffers_go_back() {
    // Eight-byte buffers are not end to end: every longer packet is copied together.
    let mut queue = MergeQueue::over(Rings::new(4), doorbell(), 8, 24);
    let mut position = 0;
    for lie in [0, 2, 4, 200] {
        deliver(&queue, &mut position, &[lie, 1, 2]);
        assert!(queue.receive(counted).is_none());
    }
    assert_eq!(queue.malformed(), 4);
    deliver(&queue, &mut position, &[3, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2]);
    assert_eq!(queue.receive(counted).expect("an honest one").len(), 17);
    assert_eq!(queue.rings().offered_index(), 4 + position);
}

#[test]
fn whatever_a_device_says_of_its_buffers_a_packet_stays_within_its_bounds() {
    bolero::check!().with_type::<Vec<(u8, u32)>>().for_each(|said| {
        let mut queue = MergeQueue::over(Rings::new(8), doorbell(), 64, 200);
        for (position, (first, written)) in said.iter().enumerate() {
            let position = position as u16;
            let chain = queue.rings().offered_chain(position);
            write(chain[0].0, &[*first]);
            queue.rings().device_uses(position, *written);
            if first % 3 == 0 {
                while let Some(packet) = queue.receive(counted) {
                    assert!(packet.len() <= 200);
                }
                assert_eq!(queue.rings().offered_index(), 8 + position + 1);
            }
            if queue.rings().offered_index() == position + 1 {
                // Nothing is left for the device to fill.
                return;
            }
        }
    });
}
