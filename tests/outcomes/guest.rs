//! Frames of a guest. Their IPv4 checksums are right unless that is what is wrong
//! with them: a wrong one would hide every later check.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};

use cli::lab::capture::{Capture, Counts};
use cli::lab::{A, Lab, Peer};
use esp::ip::Header;
use switch::overlay::Cipher;
use tests::{Space, eventually};

/// The switch's Ethernet address on the space's cable.
const GATE: [u8; 6] = switch::frame::SWITCH;
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const UDP: u8 = 17;
const ICMP: u8 = 1;

/// 8 bytes of UDP, or 8 bytes of anything: port 4500 to port 4500.
const DATAGRAM: [u8; 8] = [0x11, 0x94, 0x11, 0x94, 0, 8, 0, 0];

pub(crate) fn each_frame(lab: &Lab) {
    let counts = captured(lab, |red| {
        let mac = own_mac(red);
        for (at, (reason, frame)) in bad_frames(mac).into_iter().enumerate() {
            let (drops, sealed) = (drops(red), sealed(red));
            let mut expected = drops.clone();
            *expected.entry(reason.to_owned()).or_default() += 1;
            let ran = red.run(&["raw", &hex(&frame)]);
            assert!(ran.ok(), "frame {at}, {reason}: {}", ran.why());
            let what = format!("frame {at} is counted as {reason} alone");
            eventually(&what, || self::drops(red) != drops);
            assert_eq!(self::drops(red), expected, "{what}");
            assert_eq!(self::sealed(red), sealed, "frame {at}, {reason}: nothing is sealed");
        }
        // The same frame without its fault is sealed: the faults alone were the reason.
        let (drops, sealed) = (drops(red), sealed(red));
        let good = packet(A, Peer::B.address(), UDP, &DATAGRAM);
        assert!(red.run(&["raw", &hex(&ethernet(GATE, mac, IPV4, &good))]).ok());
        eventually("a good frame is sealed", || self::sealed(red) == sealed + 1);
        assert_eq!(self::drops(red), drops);
        assert!(red.run(&["ping", "192.0.2.20", "-c", "1"]).ok(), "the space still works");
    });
    assert_eq!((counts.foreign, counts.first_foreign), (0, None));
    assert!(counts.esp > 0);
}

pub(crate) fn arp(lab: &Lab) {
    let counts = captured(lab, |red| {
        let (mac, before, sealed) = (own_mac(red), drops(red), sealed(red));
        for target in [Peer::B.address(), Peer::C.address(), Ipv4Addr::new(8, 8, 8, 8)] {
            let question = ethernet([0xff; 6], mac, ARP, &question(mac, A, target));
            assert!(red.run(&["raw", &hex(&question)]).ok());
        }
        // Frames are served in order: when the last is counted, those before it were answered.
        let gratuitous = ethernet([0xff; 6], mac, ARP, &question(mac, A, A));
        assert!(red.run(&["raw", &hex(&gratuitous)]).ok());
        eventually("the last frame is counted", || drops(red) != before);
        let count = |drops: &BTreeMap<String, u64>| drops.get("neighbour").copied().unwrap_or(0);
        assert_eq!(count(&drops(red)), count(&before) + 1, "questions for others are no fault");
        assert_eq!(self::sealed(red), sealed);
    });
    assert_eq!((counts.foreign, counts.first_foreign), (0, None));
}

/// Shows `work` a space bound to B; counts what passes between A and both peers meanwhile.
fn captured(lab: &Lab, work: impl FnOnce(&Space<'_>)) -> Counts {
    let capture = lab.a.run(|| Capture::start(&[Peer::B, Peer::C], 4500)).unwrap().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let counting = scope.spawn(|| capture.count(&stop));
        // However `work` ends, counting ends: the scope waits for it.
        let ending = Ending(&stop);
        let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc256, None);
        work(&red);
        drop(red);
        drop(ending);
        counting.join().unwrap()
    })
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A frame and the reason for which it must be dropped.
fn bad_frames(mac: [u8; 6]) -> Vec<(&'static str, Vec<u8>)> {
    let (b, c, stranger) = (Peer::B.address(), Peer::C.address(), Ipv4Addr::new(198, 51, 100, 1));
    let to_gate = |kind: u16, rest: &[u8]| ethernet(GATE, mac, kind, rest);
    let ip = |source, destination| to_gate(IPV4, &packet(source, destination, UDP, &DATAGRAM));
    let good = packet(A, b, UDP, &DATAGRAM);
    let mut wrong_checksum = good.clone();
    wrong_checksum[10] ^= 1;
    let ether = |kind| to_gate(kind, &good);
    vec![
        // Ethernet.
        ("foreign_mac", ethernet(GATE, [2, 0, 0, 0, 0, 0x66], IPV4, &good)),
        ("foreign_mac", ethernet([0xff; 6], [0xff; 6], ARP, &question(mac, A, b))),
        ("ether_type", to_gate(0x8100, &[&[0, 1, 8, 0], &good[..]].concat())),
        ("ether_type", ether(0x88a8)),
        ("ether_type", ether(0x88cc)),
        ("ether_type", ether(0x0600)),
        ("ether_type", ether(28)),
        ("multicast", ethernet([0xff; 6], mac, IPV4, &good)),
        ("multicast", ethernet([1, 0, 0x5e, 0, 0, 1], mac, IPV4, &good)),
        // ARP: not the guest's own, not a question, or too short.
        ("neighbour", ethernet([0xff; 6], mac, ARP, &question(mac, stranger, c))),
        ("neighbour", ethernet([0xff; 6], mac, ARP, &question([2, 0, 0, 0, 0, 0x66], A, c))),
        ("neighbour", ethernet([0xff; 6], mac, ARP, &with(question(mac, A, c), 7, 2))),
        ("neighbour", ethernet([0xff; 6], mac, ARP, &question(mac, A, c)[..27])),
        // IPv6, of which this space has no address.
        ("foreign_source", to_gate(IPV6, &ipv6())),
        ("multicast", ethernet([0x33, 0x33, 0, 0, 0, 2], mac, IPV6, &ipv6())),
        ("malformed", to_gate(IPV6, &ipv6()[..39])),
        // IPv4.
        ("malformed", to_gate(IPV4, &[])),
        ("malformed", to_gate(IPV4, &good[..19])),
        ("malformed", to_gate(IPV4, &good[..27])),
        ("malformed", to_gate(IPV4, &wrong_checksum)),
        ("malformed", to_gate(IPV4, &corrected(with(good.clone(), 0, 0x65)))),
        ("malformed", to_gate(IPV4, &corrected(with(good.clone(), 0, 0x44)))),
        ("malformed", to_gate(IPV4, &corrected(with(good.clone(), 2, 0xff)))),
        ("malformed", to_gate(IPV4, &packet(A, b, UDP, &[0x11; 3]))),
        ("foreign_source", ip(stranger, b)),
        ("foreign_source", ip(b, A)),
        ("foreign_source", ip(Ipv4Addr::UNSPECIFIED, b)),
        ("foreign_source", ip(Ipv4Addr::LOCALHOST, b)),
        ("multicast", ip(A, Ipv4Addr::new(224, 0, 0, 1))),
        ("multicast", ip(A, Ipv4Addr::BROADCAST)),
        ("fragment", to_gate(IPV4, &corrected(with(good.clone(), 6, 0x20)))),
        ("fragment", to_gate(IPV4, &corrected(with(good.clone(), 7, 0x10)))),
        ("options", to_gate(IPV4, &options(b))),
        ("policy", ip(A, c)),
        ("policy", ip(A, A)),
        ("policy", ip(A, Ipv4Addr::new(192, 0, 2, 255))),
        ("policy", ip(A, Ipv4Addr::LOCALHOST)),
        ("too_big", to_gate(IPV4, &packet(A, b, ICMP, &[8; 1480]))),
    ]
}

fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, rest: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), rest].concat()
}

fn packet(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header =
        Header::new(source.into(), destination.into(), protocol).bytes(payload.len()).unwrap();
    [&header[..], payload].concat()
}

/// A packet with four bytes of options: no operation.
fn options(to: Ipv4Addr) -> Vec<u8> {
    let mut bytes = packet(A, to, UDP, &[&[1; 4], &DATAGRAM[..]].concat());
    bytes[0] = 0x46;
    corrected(bytes)
}

/// A hop-by-hop option to every router, from nowhere (RFC 8200).
fn ipv6() -> Vec<u8> {
    let mut bytes = vec![0; 48];
    (bytes[0], bytes[5], bytes[7], bytes[40]) = (0x60, 8, 1, 59);
    (bytes[24], bytes[25], bytes[39]) = (0xff, 2, 2);
    bytes
}

/// An ARP question (RFC 826).
fn question(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let start = [0, 1, 8, 0, 6, 4, 0, 1];
    [&start[..], &mac, &sender.octets(), &[0; 6], &target.octets()].concat()
}

fn with(mut bytes: Vec<u8>, at: usize, value: u8) -> Vec<u8> {
    bytes[at] = value;
    bytes
}

/// Makes the header's checksum right (RFC 1071).
fn corrected(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = (usize::from(bytes[0] & 15) * 4).min(bytes.len());
    bytes[10..12].fill(0);
    let word = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    let sum: u32 = bytes[..length].chunks_exact(2).map(word).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn own_mac(space: &Space<'_>) -> [u8; 6] {
    serde_json::from_value(space.inspect()["switch"]["mac"].clone()).unwrap()
}

/// What the switch dropped of the space's, by reason.
fn drops(space: &Space<'_>) -> BTreeMap<String, u64> {
    serde_json::from_value(space.inspect()["switch"]["drops"].clone()).unwrap()
}

/// Packets that were sealed for the peer.
fn sealed(space: &Space<'_>) -> u64 {
    space.inspect()["switch"]["pairs"][0]["outbound"]["packets"].as_u64().unwrap()
}
