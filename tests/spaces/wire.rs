//! What is on the wire, whoever sends it.

use std::net::UdpSocket;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cli::lab::capture::Capture;
use cli::lab::{A, Lab, Peer};
use esp::{Keys, OutboundSa, Spi};
use switch::overlay::Cipher;
use tests::{Space, eventually};
use zeroize::Zeroizing;

pub(crate) fn nothing_but_esp_leaves(lab: &Lab) {
    let capture = lab.a.run(|| Capture::start(&[Peer::B, Peer::C], 4500)).unwrap().unwrap();
    let stop = AtomicBool::new(false);
    let counts = std::thread::scope(|scope| {
        let counting = scope.spawn(|| capture.count(&stop));
        let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc256, None);
        let mac = red.inspect()["switch"]["mac"].clone();
        let mac: Vec<u8> =
            mac.as_array().unwrap().iter().map(|b| b.as_u64().unwrap() as u8).collect();
        let before = red.dropped_in_all();
        let frames = hostile_frames(&mac);
        for frame in &frames {
            red.run(&["raw", frame]);
        }
        eventually("what may not leave is counted", || {
            red.dropped_in_all() >= before + frames.len() as u64 / 2
        });
        assert!(red.run(&["ping", "192.0.2.20", "-c", "1"]).ok(), "the space still works");
        drop(red);
        stop.store(true, Ordering::Release);
        counting.join().unwrap()
    });
    assert_eq!((counts.foreign, counts.first_foreign), (0, None));
    assert!(counts.esp > 0);
}

/// Frames in hexadecimal that have no business on the wire.
fn hostile_frames(mac: &[u8]) -> Vec<String> {
    let own = hex(mac);
    let ip = |source: &str, destination: &str, flags: &str, protocol: &str, payload: &str| {
        let length = 20 + payload.len() / 2;
        format!("4500{length:04x}0001{flags}40{protocol}0000{source}{destination}{payload}")
    };
    let (a, b, c, other) = ("c000020a", "c0000214", "c000021e", "c6336401");
    let syn = "1f901f9000000000000000005002200000000000";
    let udp = "1194119400080000";
    let to_gate = |kind: &str, rest: &str| format!("025053ffffff{own}{kind}{rest}");
    vec![
        to_gate("0800", &ip(other, b, "0000", "06", syn)),
        to_gate("0800", &ip(b, a, "0000", "06", syn)),
        to_gate("0800", &ip(a, c, "0000", "06", syn)),
        to_gate("0800", &ip(a, a, "0000", "06", syn)),
        to_gate("0800", &ip(a, "e0000001", "0000", "11", udp)),
        to_gate("0800", &ip(a, "ffffffff", "0000", "11", udp)),
        to_gate("0800", &ip(a, b, "2000", "11", udp)),
        to_gate("0800", &ip(a, b, "0010", "11", udp)),
        to_gate("0800", "46000018000100004011000000000000"),
        to_gate("0800", "45ff"),
        to_gate("0800", &format!("4500ffff000100004011{}{a}{b}", "0000")),
        format!("025053ffffff021122334455{}{}", "0800", ip(a, b, "0000", "11", udp)),
        to_gate("86dd", &format!("60000000000000ff{}{}", "00".repeat(16), "ff02".repeat(8))),
        to_gate("8100", &format!("00010800{}", ip(a, b, "0000", "11", udp))),
        format!("ffffffffffff{own}08060001080006040001{own}{a}000000000000{c}"),
        format!("ffffffffffff{own}08060001080006040001{own}{other}000000000000{other}"),
        format!("01005e000001{own}0800{}", ip(a, "e0000001", "0000", "02", "1100eeff00000000")),
        to_gate("88cc", "0207"),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The test is the peer: it has the keys, and does its worst with them and without.
pub(crate) fn a_hostile_peer(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::AesCbc256, None);
    red.start();
    let host = lab.peer(Peer::B);
    let socket = host.run(|| UdpSocket::bind((host.address, 4500))).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let send = |bytes: &[u8]| {
        socket.send_to(bytes, (A, 4500)).unwrap();
    };
    let answers = || {
        let mut buffer = [0; 65536];
        std::iter::from_fn(|| socket.recv_from(&mut buffer).ok()).count()
    };
    let (spi, mut sa) = outbound(&red.far_file);
    let mut ping = || {
        let mut packet = vec![0; sa.headroom()];
        packet.extend_from_slice(&echo_request());
        sa.seal(1, &mut packet, 0).unwrap();
        packet
    };
    // The guest asked its peer for an echo at the start, again and again until it is answered.
    let good = ping();
    send(&good);
    eventually("the guest answers a good packet", || answers() > 0);
    eventually("the first packet is accepted", || inbound_packets(&red) == 1);

    let mut corrupted = ping();
    *corrupted.last_mut().unwrap() ^= 1;
    let unknown = [&0xdead_beef_u32.to_be_bytes()[..], &good[4..]].concat();
    let replays = red.dropped("replayed");
    for packet in [&good[..], &corrupted, &good[..12], &good[..good.len() - 3], &unknown] {
        send(packet);
    }
    send(&[&spi.to_be_bytes()[..], &[0; 60000]].concat());
    send(&[0xff]);
    send(&[]);
    send(&[&[0; 4][..], b"IKE, perhaps"].concat());
    send(&(0..1000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>());
    eventually("the replay is counted", || red.dropped("replayed") > replays);
    eventually("the forgery is counted", || red.dropped("forged") > 0);
    assert_eq!(inbound_packets(&red), 1, "nothing of it reached the guest");
    send(&ping());
    eventually("the space still works", || inbound_packets(&red) == 2);
}

fn inbound_packets(space: &Space<'_>) -> u64 {
    space.inspect()["switch"]["pairs"][0]["inbound"]["packets"].as_u64().unwrap()
}

/// The peer's outbound SA, from its configuration file.
fn outbound(file: &Path) -> (u32, OutboundSa) {
    let text = std::fs::read_to_string(file).unwrap();
    let section = text.split("[overlay.manual.out]").nth(1).unwrap();
    let value = |name: &str| {
        let line = section.lines().find(|line| line.starts_with(name)).unwrap();
        line.split('=').nth(1).unwrap().trim().trim_matches('"').to_owned()
    };
    let bytes = |name: &str| {
        let digits = value(name);
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        Zeroizing::new((0..digits.len()).step_by(2).map(byte).collect::<Vec<u8>>())
    };
    let spi = u32::from_str_radix(value("spi").trim_start_matches("0x"), 16).unwrap();
    let keys = Keys::new(esp::Cipher::AesCbc256, bytes("cipher_key"), bytes("auth_key")).unwrap();
    (spi, OutboundSa::new(Spi::new(spi).unwrap(), keys, [7; 16]))
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
