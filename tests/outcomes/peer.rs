//! Packets of a peer that has the keys, and of others that have none.

use std::net::{SocketAddrV4, UdpSocket};
use std::path::Path;
use std::time::Duration;

use cli::lab::{A, Host, Lab, Peer};
use esp::{Integrity, Keys, OutboundSa, Parameters, Spi, Suite};
use serde_json::{Value, json};
use switch::control::{Client, Status};
use switch::overlay::{Cipher, Key, Overlay};
use tests::{Space, eventually};

const PORT: u16 = 4500;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Bytes that begin with ports 7 and 7.
const PORTS: [u8; 20] = [0, 7, 0, 7, 0, 20, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0];

pub(crate) fn each_packet(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::AesCbc256, None);
    red.start();
    let (b, c) = (socket(lab.peer(Peer::B), PORT), socket(lab.peer(Peer::C), PORT));
    let mut sa = outbound(&red.far_file);
    let mut sealed = |next_header: u8, payload: &[u8]| seal(&mut sa, next_header, payload);
    let ping = sealed(ICMP, &echo_request());
    b.send_to(&ping, (A, PORT)).unwrap();
    eventually("the guest answers a good packet", || answers(&b) > 0);

    let own = (0..20).find_map(|_| receive_own(&red, &b)).expect("red's own packets reach B");
    let tampered = |at: usize, mut packet: Vec<u8>| {
        packet[at] ^= 0x80;
        packet
    };
    let last = ping.len() - 1;
    let spi = &ping[..4];
    let packets: Vec<(&UdpSocket, &str, Vec<u8>)> = vec![
        (&b, "replayed", ping.clone()),
        (&b, "replayed", tampered(last, ping.clone())),
        (&b, "forged", tampered(last, sealed(ICMP, &echo_request()))),
        (&b, "forged", tampered(7, sealed(ICMP, &echo_request()))),
        (&b, "forged", tampered(8, sealed(ICMP, &echo_request()))),
        (&b, "forged", tampered(30, sealed(ICMP, &echo_request()))),
        // Whole blocks, as far as lengths tell.
        (&b, "forged", [spi, &[0x7f; 60_004]].concat()),
        (&b, "truncated", ping[..4].to_vec()),
        (&b, "truncated", ping[..12].to_vec()),
        (&b, "truncated", ping[..last].to_vec()),
        (&b, "truncated", [spi, &[0x7f; 50_001]].concat()),
        (&b, "dummy", sealed(59, &[0; 64])),
        (&b, "malformed", sealed(4, &[0x45; 40])),
        (&b, "malformed", sealed(41, &[0x60; 60])),
        (&b, "malformed", sealed(TCP, &[0, 7])),
        (&b, "malformed", sealed(UDP, &[])),
        (&c, "forged", tampered(last, sealed(ICMP, &echo_request()))),
        (&c, "replayed", ping.clone()),
        (&b, "stray unknown_spi", tampered(1, ping.clone())),
        (&b, "stray unknown_spi", own),
        (&b, "stray not_esp", [&[0; 4][..], b"an IKE message, perhaps"].concat()),
        (&b, "stray not_esp", vec![0, 0, 0, 0xff, 1, 2, 3, 4]),
        (&b, "stray not_esp", vec![0xff, 0xff]),
        (&b, "stray not_esp", Vec::new()),
    ];
    for (at, (from, reason, packet)) in packets.iter().enumerate() {
        answers(&b);
        let before = counters(lab, "red");
        from.send_to(packet, (A, PORT)).unwrap();
        let what = format!("packet {at} is counted as {reason}");
        eventually(&what, || counters(lab, "red") != before);
        let mut expected = before.clone();
        *expected.entry((*reason).to_owned()).or_default() += 1;
        assert_eq!(counters(lab, "red"), expected, "{what} alone");
    }
    // A keepalive means nothing; the packet behind it shows that it was passed over.
    let before = counters(lab, "red");
    b.send_to(&[0xff], (A, PORT)).unwrap();
    let sent = sealed_by(lab, "red");
    b.send_to(&sealed(ICMP, &echo_request()), (A, PORT)).unwrap();
    eventually("the space still works", || sealed_by(lab, "red") == sent + 1);
    assert_eq!(counters(lab, "red"), before);
    // Who sends an authentic packet is the peer, wherever it is now (RFC 3948 4).
    for (now, then) in [(&c, &b), (&b, &c)] {
        answers(then);
        now.send_to(&sealed(ICMP, &echo_request()), (A, PORT)).unwrap();
        eventually("the peer is answered where it is", || answers(now) > 0);
        assert_eq!(answers(then), 0);
    }
}

/// The command line cannot narrow an SA down yet: the switch is asked directly.
pub(crate) fn selectors(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::AesCbc256, None);
    red.start();
    let file = Space::configure(lab, "narrow", Peer::C, Cipher::AesCbc256, None);
    let client = Client::connect(&lab.a.directory.join("run/switch.sock")).unwrap();
    let peer = Peer::C.address();
    let overlay = json!({
        "local": A, "peer": peer,
        "sas": [{
            "inbound": sa(&file.file, "in"), "outbound": sa(&file.file, "out"),
            "traffic": { "protocol": TCP, "local_ports": [7, 7] },
        }],
    });
    let overlay: Overlay = serde_json::from_value(overlay).unwrap();
    let attached = client.attach("narrow", overlay).unwrap();
    let c = socket(lab.peer(Peer::C), PORT);
    let mut sa = outbound(&file.far_file);
    let mut sealed = |next_header: u8, payload: &[u8]| seal(&mut sa, next_header, payload);
    let mut other_port = PORTS;
    other_port[3] = 8;
    for (reason, packet) in [
        // Nobody drives its rings: what is welcome finds no room in them.
        ("guest_full", sealed(TCP, &PORTS)),
        ("foreign_selector", sealed(TCP, &other_port)),
        ("foreign_selector", sealed(UDP, &PORTS)),
        ("foreign_selector", sealed(ICMP, &echo_request())),
        ("malformed", sealed(TCP, &PORTS[..3])),
    ] {
        let before = counters(lab, "narrow");
        c.send_to(&packet, (A, PORT)).unwrap();
        eventually(&format!("it is counted as {reason}"), || counters(lab, "narrow") != before);
        let mut expected = before.clone();
        *expected.entry(reason.to_owned()).or_default() += 1;
        assert_eq!(counters(lab, "narrow"), expected);
    }
    drop(attached);
    let is_there = || status(lab).spaces.iter().any(|space| space.space == "narrow");
    eventually("it is let go with its connection", || !is_there());
    assert!(red.run(&["true"]).ok());
}

/// Every packet that was dropped: of the space, of its SA, and of nobody ("stray").
fn counters(lab: &Lab, space: &str) -> std::collections::BTreeMap<String, u64> {
    let status = status(lab);
    let space = status.spaces.iter().find(|other| other.space == space).unwrap();
    let strays = status.strays.iter().map(|(name, count)| (format!("stray {name}"), *count));
    let mut counters: std::collections::BTreeMap<_, _> = strays.collect();
    for (name, count) in space.drops.iter().chain(&space.pairs[0].inbound.drops) {
        *counters.entry(name.clone()).or_default() += count;
    }
    counters.retain(|_, count| *count > 0);
    counters
}

fn sealed_by(lab: &Lab, space: &str) -> u64 {
    let status = status(lab);
    let space = status.spaces.iter().find(|other| other.space == space).unwrap();
    space.pairs[0].outbound.packets
}

fn status(lab: &Lab) -> Status {
    Client::connect(&lab.a.directory.join("run/switch.sock")).unwrap().status().unwrap()
}

fn socket(host: &Host, port: u16) -> UdpSocket {
    let address = SocketAddrV4::new(host.address, port);
    let socket = host.run(|| UdpSocket::bind(address)).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    socket
}

/// How many datagrams are there, or come while one may wait.
fn answers(socket: &UdpSocket) -> usize {
    let mut buffer = [0; 65536];
    std::iter::from_fn(|| socket.recv_from(&mut buffer).ok()).count()
}

/// A packet that the space itself sealed.
fn receive_own(space: &Space<'_>, socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut buffer = [0; 65536];
    // Nobody answers it: it fails, and that is no matter.
    let _ = space.run(&["ping", "192.0.2.20", "-c", "1"]);
    socket.recv_from(&mut buffer).ok().map(|(length, _)| buffer[..length].to_vec())
}

fn seal(sa: &mut OutboundSa, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; sa.headroom()];
    packet.extend_from_slice(payload);
    sa.seal(next_header, &mut packet, 0).unwrap();
    packet
}

/// One direction of a configuration file, as the switch is told.
fn sa(file: &Path, direction: &str) -> Value {
    let text = std::fs::read_to_string(file).unwrap();
    let section = text.split(&format!("[overlay.manual.{direction}]")).nth(1).unwrap();
    let value = |name: &str| {
        let line = section.lines().find(|line| line.starts_with(name)).unwrap();
        line.split('=').nth(1).unwrap().trim().trim_matches('"').to_owned()
    };
    json!({
        "spi": u32::from_str_radix(value("spi").trim_start_matches("0x"), 16).unwrap(),
        "suite": "aes-cbc-256+hmac-sha256",
        "cipher_key": value("cipher_key"),
        "auth_key": value("auth_key"),
    })
}

/// The outbound SA of an end, from its configuration file.
fn outbound(file: &Path) -> OutboundSa {
    let sa = sa(file, "out");
    let bytes = |name: &str| Key::from_hex(sa[name].as_str().unwrap()).unwrap().into_bytes();
    let suite = Suite::Combined(esp::Cipher::AesCbc256, Integrity::HmacSha256);
    let keys = Keys::new(suite, bytes("cipher_key"), bytes("auth_key")).unwrap();
    let spi = Spi::new(sa["spi"].as_u64().unwrap() as u32).unwrap();
    OutboundSa::new(spi, keys, [7; 16], Parameters::default())
}

/// An ICMP echo request (RFC 792), without its IP header.
fn echo_request() -> [u8; 16] {
    let mut bytes = [0; 16];
    (bytes[0], bytes[5], bytes[7]) = (8, 1, 1);
    let sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    bytes[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    bytes
}
