//! The whole switch on a thread, with real rings at one side and sockets at the other.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use esp::offload::Offload;
use sys::socket::Sent;
use sys::udp::UdpSocket;

use vhost::VhostBackend;
use vhost::vhost_user::{Frontend, VhostUserFrontend, VhostUserProtocolFeatures};

use super::*;
use crate::control::{Attached, Client, Failure as Refused};
use crate::overlay::{Cipher, DEFAULT_PORT, Encapsulation, Overlay};
use crate::tunnel::tests::{add, overlay, packet, seal_with};

mod asked;
mod frames;
mod guest;
mod large;
mod limits;
mod plug;
mod rings;

use guest::{Guest, Setup};

const HERE: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 2);

/// A switch on a thread of its own, in a directory of its own.
fn with_switch(test: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join("switch.sock");
    let options = Options { control: control.clone(), spin_us: DEFAULT_SPIN_US };
    std::thread::scope(|scope| {
        let switch = scope.spawn(move || run(&options));
        // Attached from the start to the end, so that the switch outlives what the test detaches.
        let mut connected = None;
        eventually(|| {
            connected = Client::connect(&control).ok();
            connected.is_some()
        });
        let keeper = connected.unwrap();
        let kept = keeper.attach("keeper", overlay_on(free_port(), 0x9001)).unwrap();
        let tested = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&control)));
        // A test that failed half way must not leave the switch waiting for its spaces.
        for space in keeper.status().unwrap().spaces.into_iter().skip(1) {
            let _ = keeper.detach(&space.space);
        }
        drop(keeper);
        drop(kept);
        switch.join().unwrap().unwrap();
        assert!(!control.exists());
        tested.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn free_port() -> u16 {
    UdpSocket::bind((HERE, 0).into(), None).unwrap().local().port()
}

fn overlay_on(port: u16, spi: u32) -> Overlay {
    let mut overlay = overlay((HERE, spi), (THERE, spi + 0x1000), Cipher::AesCbc128);
    overlay.encapsulation = Encapsulation::Udp { port, peer_port: DEFAULT_PORT };
    overlay
}

/// An ordinary host at the other end, with the same tunnels and a socket.
struct Peer {
    tunnels: Tunnels,
    socket: UdpSocket,
    received: Received,
}

impl Peer {
    /// A peer, and the overlay with which a space of this host reaches it.
    fn new(port: u16, spi: u32) -> (Peer, Overlay) {
        Peer::with(port, spi, |_, _| {})
    }

    /// The same after a change of the peer's overlay and the space's.
    fn with(port: u16, spi: u32, change: fn(&mut Overlay, &mut Overlay)) -> (Peer, Overlay) {
        let socket = UdpSocket::bind((THERE, 0).into(), None).unwrap();
        let mut own = overlay((THERE, spi + 0x1000), (HERE, spi), Cipher::AesCbc128);
        let own_port = socket.local().port();
        own.encapsulation = Encapsulation::Udp { port: own_port, peer_port: port };
        let mut theirs = overlay_on(port, spi);
        theirs.encapsulation = Encapsulation::Udp { port, peer_port: own_port };
        change(&mut own, &mut theirs);
        let mut tunnels = Tunnels::default();
        add(&mut tunnels, own).unwrap();
        (Peer { tunnels, socket, received: Received::default() }, theirs)
    }

    /// Every datagram that is there, and what it held if it was for us.
    fn receive(&mut self) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let mut all = Vec::new();
        while self.socket.receive(&mut self.received).unwrap() {
            for (envelope, bytes) in self.received.datagrams() {
                let wire = bytes.to_vec();
                let port = self.socket.local().port();
                let arrived = self.tunnels.open(port, &envelope, bytes);
                let packet = arrived.map(|arrived| [&arrived.made[..], arrived.rest].concat());
                all.push((wire, packet));
            }
        }
        all
    }

    fn send(&mut self, packet: &[u8]) {
        self.send_with(packet, Offload::default());
    }

    fn send_with(&mut self, packet: &[u8], offload: Offload) {
        let mut batch = Batch::default();
        seal_with(&mut self.tunnels, 0, packet, offload, &mut batch).unwrap();
        let mut messages = Vec::new();
        batch.messages(|_| true, &mut messages);
        self.socket.send(&messages, &mut Sent::default());
    }

    /// Waits for so many packets.
    fn expect(&mut self, packets: usize) -> Vec<Vec<u8>> {
        let mut got = Vec::new();
        eventually(|| {
            got.extend(self.receive().into_iter().map(|(_, packet)| packet.unwrap()));
            got.len() >= packets
        });
        assert_eq!(got.len(), packets);
        got
    }
}

/// The status of the space that was attached after the keeper.
fn second(client: &Client) -> crate::control::SpaceStatus {
    client.status().unwrap().spaces.swap_remove(1)
}

fn refusal(result: Result<Attached, Refused>) -> String {
    let Err(Refused::Refused(reason)) = result else { panic!("{result:?}") };
    reason
}

/// Gives way until `condition` holds, for ten seconds at most.
fn eventually(mut condition: impl FnMut() -> bool) {
    let end = monotonic_ns() + 10_000_000_000;
    while !condition() {
        assert!(monotonic_ns() < end, "nothing happened for ten seconds");
        sys::sched::give_way();
    }
}

#[test]
fn spaces_come_and_go_by_request_and_by_hanging_up() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let port = free_port();
        let red = client.attach("red", overlay_on(port, 0x1001)).unwrap();
        let blue = client.attach("blue", overlay_on(port, 0x1002)).unwrap();
        assert_ne!(red.mac, blue.mac);
        let names = || {
            let spaces = client.status().unwrap().spaces;
            spaces.into_iter().map(|space| space.space).collect::<Vec<_>>()
        };
        assert_eq!(names(), ["keeper", "red", "blue"]);
        drop(red);
        eventually(|| names() == ["keeper", "blue"]);
        client.detach("blue").unwrap();
        assert_eq!(names(), ["keeper"]);
        assert!(client.detach("blue").is_err());
        // The port is free again.
        UdpSocket::bind((HERE, port).into(), None).unwrap();
    });
}

#[test]
fn a_request_that_cannot_be_met_is_refused_with_the_reason_and_changes_nothing() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let taken = UdpSocket::bind((HERE, 0).into(), None).unwrap();
        let port = free_port();
        let mut foreign = overlay_on(port, 0x1003);
        foreign.local = Ipv4Addr::new(203, 0, 113, 9).into();
        let cases = [
            ("keeper", overlay_on(port, 0x1001), "keeper is attached already"),
            ("red", overlay_on(port, 0x9001), "0x00009001 is in use"),
            ("red", overlay_on(taken.local().port(), 0x1001), "in use by another program"),
            ("red", foreign, "203.0.113.9 is no address of this host"),
            ("", overlay_on(port, 0x1001), "1 to 64 bytes"),
        ];
        for (name, overlay, words) in cases {
            let reason = refusal(client.attach(name, overlay));
            assert!(reason.contains(words), "{reason}");
        }
        assert_eq!(client.status().unwrap().spaces.len(), 1);
        client.attach("red", overlay_on(port, 0x1001)).unwrap();
    });
}

#[test]
fn arbitrary_bytes_on_either_socket_end_that_connection_alone() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let port = free_port();
        bolero::check!().with_iterations(200).for_each(|bytes: &[u8]| {
            let stranger = sys::seqpacket::Connection::connect(control).unwrap();
            let _ = stranger.send(bytes, &[]);
            let hostile = client.attach("hostile", overlay_on(port, 0x1001)).unwrap();
            let mut stream = UnixStream::from(hostile.vhost_user);
            let _ = stream.write_all(bytes);
            drop(stream);
            eventually(|| client.status().unwrap().spaces.len() == 1);
        });
    });
}

#[test]
fn a_front_end_sets_the_device_up_by_the_protocol() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let red = client.attach("red", overlay_on(free_port(), 0x1001)).unwrap();
        let mut front = Frontend::from_stream(red.vhost_user.into(), 2);
        front.set_owner().unwrap();
        let features = front.get_features().unwrap();
        front.set_features(features).unwrap();
        let protocol = front.get_protocol_features().unwrap();
        assert_eq!(protocol, VhostUserProtocolFeatures::REPLY_ACK);
        front.set_protocol_features(protocol).unwrap();
        assert!(!client.status().unwrap().spaces[1].running);
    });
}

#[test]
fn rings_are_enabled_before_features_as_qemu_does() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let red = client.attach("red", overlay_on(free_port(), 0x1001)).unwrap();
        let mut stream = UnixStream::from(red.vhost_user);
        let enable = |flags: u32, index: u32, state: u32| {
            [18, flags, 8, index, state].map(u32::to_ne_bytes).concat()
        };
        // Nobody asked for replies yet: the next thing to come is the features'.
        stream.write_all(&enable(1 | 8, 1, 1)).unwrap();
        let mut front = Frontend::from_stream(stream.try_clone().unwrap(), 2);
        let features = front.get_features().unwrap();
        let protocol = front.get_protocol_features().unwrap();
        front.set_protocol_features(protocol).unwrap();
        stream.write_all(&enable(1 | 8, 0, 1)).unwrap();
        let mut reply = [0; 20];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[..12], [18, 1 | 4, 8].map(u32::to_ne_bytes).concat());
        assert_eq!(reply[12..], [0; 8]);
        front.set_features(features).unwrap();
        assert!(client.status().unwrap().spaces.iter().any(|space| space.space == "red"));

        let blue = client.attach("blue", overlay_on(free_port(), 0x3001)).unwrap();
        let mut stream = UnixStream::from(blue.vhost_user);
        stream.write_all(&enable(1, 7, 1)).unwrap();
        assert_eq!(stream.read(&mut reply).unwrap(), 0, "there is no such ring");
    });
}

#[test]
fn a_guest_and_its_peer_exchange_packets_through_the_rings() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let (mut peer, overlay) = Peer::new(free_port(), 0x1001);
        let mut guest = Guest::new(client.attach("red", overlay).unwrap());
        for round in 0..200 {
            let out = packet(HERE, THERE, 8 + round);
            guest.send_packet(&out);
            let mut got = Vec::new();
            eventually(|| {
                got.extend(peer.receive());
                !got.is_empty()
            });
            assert_eq!(got.len(), 1);
            assert_eq!(got[0].1.as_ref().unwrap()[20..], out[20..]);
            let back = packet(THERE, HERE, 8 + round);
            peer.send(&back);
            let frame = guest.expect_frame();
            assert_eq!((&frame[..6], &frame[12..14]), (&guest.mac[..], &[8, 0][..]));
            assert_eq!(frame[34..], back[20..]);
        }
        let status = client.status().unwrap();
        let red = &status.spaces[1];
        assert!(red.running && red.first_answer_ns.is_some() && red.drops.is_empty());
        assert_eq!((red.pairs[0].inbound.packets, red.pairs[0].outbound.sequence), (200, 200));
    });
}

#[test]
fn a_packet_that_may_not_leave_is_answered_with_an_icmp_error() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let (mut peer, overlay) = Peer::new(free_port(), 0x1001);
        let mut guest = Guest::new(client.attach("red", overlay).unwrap());
        let elsewhere = packet(HERE, Ipv4Addr::new(127, 77, 0, 3), 100);
        guest.send_packet(&elsewhere);
        let frame = guest.expect_frame();
        assert_eq!((frame[23], &frame[34..36]), (1, &[3, 13][..]));
        let too_big = packet(HERE, THERE, usize::from(guest.mtu) - 19);
        guest.send_packet(&too_big);
        let frame = guest.expect_frame();
        assert_eq!(&frame[34..36], &[3, 4][..]);
        assert_eq!(frame[40..42], guest.mtu.to_be_bytes());
        assert!(peer.receive().is_empty());
    });
}

#[test]
fn memory_that_could_vanish_or_is_not_there_ends_the_connection() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let port = free_port();
        let sealed = sys::memfd::sealed("guest", 1 << 20).unwrap();
        let open: OwnedFd =
            rustix::fs::memfd_create("open", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&open, 1 << 20).unwrap();
        let (_memory, good) = guest::map(&sealed);
        let unsealed = {
            let mut info = good;
            info.mmap_handle = open.as_raw_fd();
            info
        };
        let beyond = {
            let mut info = good;
            info.mmap_offset = 4096;
            info
        };
        let endless = {
            let mut info = good;
            info.memory_size = u64::MAX - 4096;
            info
        };
        for bad in [vec![unsealed], vec![beyond], vec![endless], vec![good, good]] {
            let attached = client.attach("hostile", overlay_on(port, 0x1001)).unwrap();
            let front = Frontend::from_stream(attached.vhost_user.into(), 2);
            front.set_owner().unwrap();
            let _ = front.set_mem_table(&bad);
            eventually(|| client.status().unwrap().spaces.len() == 1);
        }
    });
}

#[test]
fn half_a_message_keeps_nobody_waiting() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let attached = client.attach("slow", overlay_on(free_port(), 0x1001)).unwrap();
        let mut stream = UnixStream::from(attached.vhost_user);
        // SET_FEATURES, version 1, 8 bytes announced: only 4 of them come.
        let message = [2u32, 1, 8, 0].map(u32::to_ne_bytes).concat();
        stream.write_all(&message).unwrap();
        assert_eq!(client.status().unwrap().spaces.len(), 2);
        let before = client.status().unwrap().turns.wakeups;
        std::thread::sleep(Duration::from_millis(20));
        assert!(client.status().unwrap().turns.wakeups < before + 10);
        // A body longer than any is the end at once.
        let attached = client.attach("endless", overlay_on(free_port(), 0x1005)).unwrap();
        let mut stream = UnixStream::from(attached.vhost_user);
        stream.write_all(&[2u32, 1, u32::MAX].map(u32::to_ne_bytes).concat()).unwrap();
        eventually(|| client.status().unwrap().spaces.len() == 2);
    });
}
