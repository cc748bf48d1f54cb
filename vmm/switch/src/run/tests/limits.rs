//! What a space may send: more of it waits, and nobody else does.

use super::*;
use crate::overlay::Limits;

/// A guest that has sent one frame, and holds three that have to wait; and its peer.
fn held_back(client: &Client) -> (Peer, Guest) {
    // A frame of 100 bytes is more than a minute's worth.
    let (mut peer, overlay) = Peer::with(free_port(), 0x1001, |_, ours| {
        ours.limits = Limits { packets_per_s: None, bytes_per_s: Some(1) };
    });
    let mut guest = Guest::new(client.attach("slow", overlay).unwrap());
    let frame = [&[0; 12][..], &guest.frame(&packet(HERE, THERE, 100))].concat();
    (0..4).for_each(|_| guest.put(&frame, &[]));
    peer.expect(1);
    (peer, guest)
}

#[test]
fn a_space_over_its_limit_waits_in_its_own_ring_while_another_is_served() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let (mut slow_peer, mut slow) = held_back(&client);
        let (mut peer, overlay) = Peer::new(free_port(), 0x1002);
        let mut guest = Guest::new(client.attach("red", overlay).unwrap());
        for _ in 0..100 {
            guest.send_packet(&packet(HERE, THERE, 100));
            peer.expect(1);
        }
        assert_eq!((slow.taken(), slow_peer.receive().len()), (1, 0));
        assert!(second(&client).drops.is_empty(), "it waits, it is not lost");
        // What comes for it is not held up.
        let back = packet(THERE, HERE, 100);
        slow_peer.send(&back);
        assert_eq!(slow.expect_frame()[34..], back[20..]);
    });
}

#[test]
fn what_was_held_leaves_when_its_time_comes() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let (mut peer, overlay) = Peer::with(free_port(), 0x1001, |_, ours| {
            ours.limits = Limits { packets_per_s: Some(200), bytes_per_s: None };
        });
        let mut guest = Guest::new(client.attach("red", overlay).unwrap());
        let frame = [&[0; 12][..], &guest.frame(&packet(HERE, THERE, 100))].concat();
        (0..20).for_each(|_| guest.put(&frame, &[]));
        peer.expect(20);
        assert!(second(&client).drops.is_empty());
    });
}

#[test]
fn frames_that_are_held_end_no_look_for_those_of_others() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let _held = held_back(&client);
        let (mut peer, overlay) = Peer::new(free_port(), 0x1002);
        let mut guest = Guest::new(client.attach("red", overlay).unwrap());
        // The guest answers nothing, though it could at any moment: each look for that is in vain.
        let lost = || client.status().unwrap().turns.spins_lost;
        let before = lost();
        for _ in 0..20 {
            peer.send(&packet(THERE, HERE, 100));
            guest.expect_frame();
        }
        assert!(lost() >= before + 19, "the first is announced instead");
    });
}
