//! Spaces whose machines are foreign front ends, and spaces that get more SAs.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;

use super::*;
use crate::overlay::{Integrity, Suite, Traffic};
use crate::tunnel::tests::pair;

#[test]
fn front_ends_come_and_go_and_the_sas_count_on() {
    with_switch(|control| {
        let socket = control.with_file_name("plug.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let client = Client::connect(control).unwrap();
        let (mut peer, overlay) = Peer::new(free_port(), 0x1001);
        let link = client.plug("red", overlay, listener.as_fd()).unwrap();
        drop(listener);
        for round in 1..4 {
            let stream = UnixStream::connect(&socket).unwrap();
            let mut guest = Guest::on(stream, link, Setup::default());
            // Another at the same time is hung up on.
            let mut second_one = UnixStream::connect(&socket).unwrap();
            assert_eq!(second_one.read(&mut [0]).unwrap(), 0);
            let sent = packet(HERE, THERE, 40);
            guest.send_packet(&sent);
            assert_eq!(peer.expect(1)[0][20..], sent[20..]);
            let back = packet(THERE, HERE, 50);
            peer.send(&back);
            assert_eq!(guest.expect_frame()[34..], back[20..]);
            let status = second(&client);
            assert!(status.running);
            assert_eq!(status.pairs[0].outbound.sequence, round);
            assert_eq!(status.pairs[0].inbound.packets, round);
            drop(guest);
            eventually(|| !second(&client).running);
        }
        // Without a machine what comes finds no room.
        peer.send(&packet(THERE, HERE, 40));
        eventually(|| second(&client).drops.get("guest_full") == Some(&1));
    });
}

#[test]
fn a_plugged_space_goes_with_the_client_that_asked_for_it() {
    with_switch(|control| {
        let other = Client::connect(control).unwrap();
        let socket = control.with_file_name("plug.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let client = Client::connect(control).unwrap();
        let link = client.plug("red", overlay_on(free_port(), 0x1001), listener.as_fd()).unwrap();
        drop(listener);
        let stream = UnixStream::connect(&socket).unwrap();
        let _guest = Guest::on(stream, link, Setup::default());
        assert_eq!(other.status().unwrap().spaces.len(), 2);
        drop(client);
        eventually(|| other.status().unwrap().spaces.len() == 1);
        assert!(UnixStream::connect(&socket).is_err(), "nobody listens any more");
    });
}

#[test]
fn a_front_end_that_breaks_the_protocol_leaves_room_for_the_next() {
    with_switch(|control| {
        let socket = control.with_file_name("plug.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let client = Client::connect(control).unwrap();
        let (mut peer, overlay) = Peer::new(free_port(), 0x1001);
        let link = client.plug("red", overlay, listener.as_fd()).unwrap();
        for _ in 0..3 {
            let mut hostile = UnixStream::connect(&socket).unwrap();
            hostile.write_all(&[0xff; 40]).unwrap();
            // It is hung up on, with a reset if it was not read to the end.
            let ended = hostile.read(&mut [0]);
            assert!(ended.is_err() || ended.is_ok_and(|bytes| bytes == 0));
        }
        let mut guest = None;
        eventually(|| {
            let stream = UnixStream::connect(&socket).unwrap();
            guest = Some(Guest::on(stream, link, Setup::default()));
            second(&client).running
        });
        guest.unwrap().send_packet(&packet(HERE, THERE, 40));
        assert_eq!(peer.expect(1).len(), 1);
    });
}

#[test]
fn what_is_no_listening_socket_is_refused_and_does_not_keep_the_switch_awake() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let (connected, other_end) = UnixStream::pair().unwrap();
        drop(other_end);
        let refused = client.plug("red", overlay_on(free_port(), 0x1001), connected.as_fd());
        let Err(Refused::Refused(reason)) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("listening socket"), "{reason}");
        assert_eq!(client.status().unwrap().spaces.len(), 1);
    });
}

#[test]
fn a_space_gets_more_sas_while_it_runs_all_or_none() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let (mut peer, overlay) = Peer::new(free_port(), 0x1001);
        let mut guest = Guest::new(client.attach("red", overlay).unwrap());
        let suite = Suite::Combined(Cipher::AesCbc256, Integrity::HmacSha256);
        let narrow = |local: Option<[u16; 2]>, remote: Option<[u16; 2]>| Traffic {
            protocol: Some(17),
            local_ports: local,
            remote_ports: remote,
            ..Traffic::default()
        };
        let to_port_7 = narrow(None, Some([7, 7]));
        let more =
            || crate::overlay::SaPair { traffic: to_port_7.clone(), ..pair(0x1002, 0x2002, suite) };
        let taken = pair(0x9001, 0x2003, suite);
        let refused = client.extend("red", vec![more(), taken]);
        let Err(Refused::Refused(reason)) = refused else { panic!("{refused:?}") };
        assert!(reason.contains("0x00009001 is in use"), "{reason}");
        assert_eq!(second(&client).pairs.len(), 1);
        assert!(client.extend("nobody", vec![more()]).is_err());
        client.extend("red", vec![more()]).unwrap();
        let mut theirs = pair(0x2002, 0x1002, suite);
        theirs.traffic = narrow(Some([7, 7]), None);
        peer.tunnels.extend(0, vec![theirs], 0, random_seed).unwrap();
        guest.send_packet(&packet(HERE, THERE, 40));
        assert_eq!(peer.expect(1).len(), 1);
        let sent: Vec<_> = second(&client).pairs.iter().map(|pair| pair.outbound.packets).collect();
        assert_eq!(sent, [0, 1]);
    });
}
