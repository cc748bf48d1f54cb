//! Rings as hostile or poor guests have them.

use virtio::net;

use super::*;

fn no_merging(buffers: u16, bytes: u32) -> Setup {
    Setup { features: !net::MRG_RXBUF, buffers, bytes }
}

/// A space set up like this, with its peer, while the test runs.
fn with_guest(setup: Setup, test: impl FnOnce(&Client, &mut Peer, &mut Guest)) {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let (mut peer, overlay) = Peer::new(free_port(), 0x1001);
        let mut guest = Guest::with(client.attach("red", overlay).unwrap(), setup);
        test(&client, &mut peer, &mut guest);
    });
}

/// Waits until so many packets were lost for want of room.
fn expect_full(client: &Client, packets: u64) {
    eventually(|| second(client).drops.get("guest_full").copied().unwrap_or(0) == packets);
}

#[test]
fn buffers_that_come_late_take_what_comes_later() {
    with_guest(Setup { buffers: 0, ..Setup::default() }, |client, peer, guest| {
        peer.send(&packet(THERE, HERE, 40));
        expect_full(client, 1);
        guest.give(0, 2048);
        let late = packet(THERE, HERE, 50);
        peer.send(&late);
        eventually(|| {
            let status = second(client);
            status.pairs[0].inbound.packets == 2 && status.first_answer_ns.is_some()
        });
        assert_eq!(second(client).drops["guest_full"], 1);
    });
}

#[test]
fn a_buffer_too_small_for_one_packet_takes_the_next() {
    with_guest(no_merging(8, 128), |client, peer, guest| {
        for round in 1..4 {
            peer.send(&packet(THERE, HERE, 400));
            expect_full(client, round);
            let short = packet(THERE, HERE, 60);
            peer.send(&short);
            assert_eq!(guest.expect_frame()[34..], short[20..]);
        }
    });
}

#[test]
fn a_buffer_too_small_for_any_packet_is_out_of_the_way() {
    with_guest(no_merging(4, 65), |client, peer, guest| {
        for at in 0..4 {
            peer.send(&packet(THERE, HERE, 400));
            expect_full(client, at + 1);
            assert!(guest.expect_frame().is_empty(), "it comes back empty");
        }
    });
}

#[test]
fn many_tiny_buffers_are_one_large_one_where_the_guest_merges_them() {
    let setup = Setup { buffers: 256, bytes: 20, ..Setup::default() };
    with_guest(setup, |client, peer, guest| {
        for round in 1..4 {
            let sent = packet(THERE, HERE, 1000);
            peer.send(&sent);
            assert_eq!(guest.expect_frame()[34..], sent[20..]);
            // More buffers than one packet is spread over.
            peer.send(&packet(THERE, HERE, 1400));
            expect_full(client, round);
        }
    });
}

#[test]
fn a_frame_arrives_whatever_pieces_it_is_in() {
    with_guest(Setup::default(), |_, peer, guest| {
        let sent = packet(HERE, THERE, 1000);
        let bytes = [&[0; 12][..], &guest.frame(&sent)].concat();
        let pieces: [&[usize]; 8] = [
            &[],
            &[12],
            &[11, 1],
            &[12, 14],
            &[0, 0, 12, 0, 14, 0],
            &[1; 60],
            &[4; 250],
            &[300, 12, 1],
        ];
        for pieces in pieces {
            guest.send_in(&bytes, pieces);
            assert_eq!(peer.expect(1)[0][20..], sent[20..], "{pieces:?}");
        }
    });
}

#[test]
fn a_frame_longer_than_any_ends_its_own_queue_alone() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let (_, overlay) = Peer::new(free_port(), 0x1001);
        let mut hostile = Guest::new(client.attach("hostile", overlay).unwrap());
        let (mut peer, overlay) = Peer::new(free_port(), 0x1002);
        let mut guest = Guest::new(client.attach("red", overlay).unwrap());
        hostile.put(&vec![0; crate::port::READABLE_LIMIT as usize + 1], &[]);
        for _ in 0..20 {
            guest.send_packet(&packet(HERE, THERE, 40));
            assert_eq!(peer.expect(1).len(), 1);
        }
        assert_eq!(hostile.taken(), 0);
    });
}
