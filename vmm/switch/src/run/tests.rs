use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use vhost::VhostBackend;
use vhost::vhost_user::{Frontend, VhostUserFrontend, VhostUserProtocolFeatures};

use super::*;
use crate::control::{Attached, Client, Failure as Refused};
use crate::overlay::Cipher;
use crate::tunnel::tests::overlay;

const HERE: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 2);

/// A switch on a thread of its own, in a directory of its own.
fn with_switch(test: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let control = directory.path().join("switch.sock");
    let options = Options { control: control.clone(), spin_us: DEFAULT_SPIN_US };
    std::thread::scope(|scope| {
        let switch = scope.spawn(move || run(&options));
        while !control.exists() {
            std::thread::yield_now();
        }
        // Attached from the start to the end, so that the switch outlives what the test detaches.
        let keeper = Client::connect(&control).unwrap();
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
    UdpSocket::bind(SocketAddrV4::new(HERE, 0), None).unwrap().local().port()
}

fn overlay_on(port: u16, spi: u32) -> Overlay {
    let mut overlay = overlay((HERE, spi), (THERE, spi + 0x1000), Cipher::AesCbc128);
    overlay.port = port;
    overlay
}

fn refusal(result: Result<Attached, Refused>) -> String {
    let Err(Refused::Refused(reason)) = result else { panic!("{result:?}") };
    reason
}

fn eventually(mut condition: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("nothing happened for two seconds");
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
        UdpSocket::bind(SocketAddrV4::new(HERE, port), None).unwrap();
    });
}

#[test]
fn a_request_that_cannot_be_met_is_refused_with_the_reason_and_changes_nothing() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let taken = UdpSocket::bind(SocketAddrV4::new(HERE, 0), None).unwrap();
        let port = free_port();
        let mut foreign = overlay_on(port, 0x1003);
        foreign.local = Ipv4Addr::new(203, 0, 113, 9);
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
        let (mac, mtu) = (red.mac, red.mtu);
        let mut front = Frontend::from_stream(red.vhost_user.into(), 2);
        front.set_owner().unwrap();
        let features = front.get_features().unwrap();
        front.set_features(features).unwrap();
        let protocol = front.get_protocol_features().unwrap();
        assert!(protocol.contains(VhostUserProtocolFeatures::CONFIG));
        front.set_protocol_features(protocol).unwrap();
        let flags = vhost::vhost_user::message::VhostUserConfigFlags::empty();
        let (_, config) = front.get_config(0, 12, flags, &[0; 12]).unwrap();
        assert_eq!((&config[..6], &config[10..]), (&mac[..], &mtu.to_le_bytes()[..]));
        assert!(!client.status().unwrap().spaces[1].running);
    });
}
