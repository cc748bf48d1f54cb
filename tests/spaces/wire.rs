//! What the guest may put on the wire: ESP to its peer, whatever it sends.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cli::lab::capture::Capture;
use cli::lab::{A, Lab, Peer};
use switch::frame::{Mac, SWITCH};
use switch::overlay::Cipher;
use tests::{Space, eventually, in_hex};

const OTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const UDP: u8 = 17;
const TCP: u8 = 6;

/// A frame, in words and in bytes, and why the switch drops it; without a reason it answers.
type Case = (&'static str, Vec<u8>, Option<&'static str>);

pub(crate) fn nothing_but_esp_leaves(lab: &Lab) {
    the_capture_is_awake(lab);
    let capture = lab.a.run(|| Capture::start(&[Peer::B, Peer::C], 4500)).unwrap().unwrap();
    let stop = AtomicBool::new(false);
    let counts = std::thread::scope(|scope| {
        let counting = scope.spawn(|| capture.count(&stop));
        {
            let _stop = Raise(&stop);
            frames_of_every_kind(lab);
        }
        counting.join().unwrap()
    });
    assert_eq!((counts.foreign, counts.first_foreign), (0, None));
    assert!(counts.esp > 0);
}

/// Raises its flag when dropped: a thread that waits for it ends although the test failed.
pub(crate) struct Raise<'a>(pub(crate) &'a AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A plain datagram from A to B is seen, and is foreign.
fn the_capture_is_awake(lab: &Lab) {
    let capture = lab.a.run(|| Capture::start(&[Peer::B], 4500)).unwrap().unwrap();
    let to = lab.peer(Peer::B).run(|| UdpSocket::bind((Peer::B.address(), 0))).unwrap().unwrap();
    to.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let from = lab.a.run(|| UdpSocket::bind((A, 0))).unwrap().unwrap();
    from.send_to(b"in the clear", to.local_addr().unwrap()).unwrap();
    to.recv(&mut [0; 64]).unwrap();
    assert!(capture.count(&AtomicBool::new(true)).foreign > 0);
}

fn frames_of_every_kind(lab: &Lab) {
    let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc256, None);
    let mac = red.switch().mac;
    let cases = [ip_cases(mac), broken_ip_cases(mac), ethernet_cases(mac), arp_cases(mac)].concat();
    let sealed = red.switch().pairs[0].outbound.packets;
    let mut expected = red.drops();
    for (words, frame, reason) in &cases {
        let sent = red.run(&["raw", &in_hex(frame)]);
        assert!(sent.ok(), "{words}: {}", sent.why());
        if let Some(reason) = reason {
            *expected.entry((*reason).to_owned()).or_default() += 1;
        }
        eventually(&format!("{words} is counted: {expected:?}, not {:?}", red.drops()), || {
            red.drops() == expected
        });
    }
    assert_eq!(red.switch().pairs[0].outbound.packets, sealed, "none of them was sealed");
    assert!(red.run(&["ping", "192.0.2.20", "-c", "1"]).ok(), "the space still works");
    assert_eq!(red.drops(), expected, "an ordinary packet is not dropped");
}

/// Whole IPv4 packets that are not the space's to send.
fn ip_cases(mac: Mac) -> Vec<Case> {
    let [b, c] = [Peer::B.address(), Peer::C.address()];
    let to_switch = |packet: Vec<u8>| ethernet(SWITCH, mac, IPV4, &packet);
    let syn = |source, destination| to_switch(ip(source, destination, TCP, &tcp_syn()));
    let udp = |destination| ip(A, destination, UDP, &datagram());
    let fragment = |field: u16| to_switch(with(udp(b), 6, &field.to_be_bytes()));
    vec![
        ("another source", syn(OTHER, b), Some("foreign_source")),
        ("the peer as source", syn(b, A), Some("foreign_source")),
        ("no source", syn(Ipv4Addr::UNSPECIFIED, b), Some("foreign_source")),
        ("loopback as source", syn(Ipv4Addr::LOCALHOST, b), Some("foreign_source")),
        ("another space's peer", syn(A, c), Some("policy")),
        ("anybody else", syn(A, OTHER), Some("policy")),
        ("the host itself", syn(A, A), Some("policy")),
        ("the host's loopback", syn(A, Ipv4Addr::LOCALHOST), Some("policy")),
        ("an IPv4 multicast", to_switch(udp(Ipv4Addr::new(224, 0, 0, 1))), Some("multicast")),
        ("an IPv4 broadcast", to_switch(udp(Ipv4Addr::BROADCAST)), Some("multicast")),
        ("a first fragment", fragment(0x2000), Some("fragment")),
        ("a middle fragment", fragment(0x2010), Some("fragment")),
        ("a last fragment", fragment(0x0010), Some("fragment")),
        ("a packet longer than the MTU", to_switch(ip(A, b, UDP, &[0; 1480])), Some("too_big")),
        ("IPv4 options", to_switch(with_options(udp(b))), Some("options")),
    ]
}

/// What only begins like IPv4.
fn broken_ip_cases(mac: Mac) -> Vec<Case> {
    let to_switch = |packet: &[u8]| ethernet(SWITCH, mac, IPV4, packet);
    let whole = ip(A, Peer::B.address(), UDP, &datagram());
    let mut wrong_sum = whole.clone();
    wrong_sum[10] ^= 1;
    let lying = |at, bytes: &[u8]| to_switch(&with(whole.clone(), at, bytes));
    let portless = ip(A, Peer::B.address(), TCP, &[0, 7]);
    [
        ("no packet at all", to_switch(&[])),
        ("two bytes of a header", to_switch(&whole[..2])),
        ("a header without its last byte", to_switch(&whole[..19])),
        ("a packet without its last byte", to_switch(&whole[..whole.len() - 1])),
        ("a length beyond the frame", lying(2, &[0xff, 0xff])),
        ("a length within the header", lying(2, &[0, 19])),
        ("a header length of four words", lying(0, &[0x44])),
        ("a header longer than its packet", lying(0, &[0x4f])),
        ("IPv6 as IPv4", lying(0, &[0x65])),
        ("a wrong checksum", to_switch(&wrong_sum)),
        ("TCP without its ports", to_switch(&portless)),
    ]
    .map(|(words, frame)| (words, frame, Some("malformed")))
    .to_vec()
}

fn ethernet_cases(mac: Mac) -> Vec<Case> {
    let packet = ip(A, Peer::B.address(), UDP, &datagram());
    let to_switch = |kind, rest: &[u8]| ethernet(SWITCH, mac, kind, rest);
    let from = |source| ethernet(SWITCH, source, IPV4, &packet);
    let to = |destination| ethernet(destination, mac, IPV4, &packet);
    // Neighbour solicitation (RFC 4861) to ff02::1:ff00:14, hop limit 255.
    let mut nd = [&[0x60, 0, 0, 0, 0, 24, 58, 255][..], &[0xfe, 0x80], &[0; 13], &[1]].concat();
    nd.extend([0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0x14]);
    nd.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    nd.extend([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14]);
    let tagged = [&[0, 1, 0x08, 0x00][..], &packet].concat();
    let twice = [&[0, 1, 0x81, 0x00][..], &tagged].concat();
    let mut igmp = vec![0x11, 0, 0xee, 0xff];
    igmp.extend([0; 4]);
    let igmp = ip(A, Ipv4Addr::new(224, 0, 0, 1), 2, &igmp);
    vec![
        ("another source MAC", from([2, 0x11, 0x22, 0x33, 0x44, 0x55]), Some("foreign_mac")),
        ("the switch's MAC as source", from(SWITCH), Some("foreign_mac")),
        ("B's MAC as source", from(Peer::B.macs()[1]), Some("foreign_mac")),
        ("an Ethernet broadcast", to([0xff; 6]), Some("multicast")),
        ("IGMP to all hosts", ethernet([1, 0, 0x5e, 0, 0, 1], mac, IPV4, &igmp), Some("multicast")),
        (
            "neighbour discovery",
            ethernet([0x33, 0x33, 0xff, 0, 0, 0x14], mac, 0x86dd, &nd),
            Some("ether_type"),
        ),
        ("IPv6", to_switch(0x86dd, &nd), Some("ether_type")),
        ("a VLAN tag", to_switch(0x8100, &tagged), Some("ether_type")),
        ("two VLAN tags", to_switch(0x88a8, &twice), Some("ether_type")),
        ("LLDP", to_switch(0x88cc, &[2, 7]), Some("ether_type")),
        ("an 802.3 length", to_switch(46, &[0; 46]), Some("ether_type")),
    ]
}

fn arp_cases(mac: Mac) -> Vec<Case> {
    let [b, c] = [Peer::B.address(), Peer::C.address()];
    let arp = |operation: u16, sender_mac: Mac, sender: Ipv4Addr, target: Ipv4Addr| {
        let mut message = vec![0, 1, 8, 0, 6, 4];
        message.extend(operation.to_be_bytes());
        message.extend(sender_mac);
        message.extend(sender.octets());
        message.extend([0; 6]);
        message.extend(target.octets());
        ethernet([0xff; 6], mac, ARP, &message)
    };
    vec![
        ("ARP for the peer", arp(1, mac, A, b), None),
        ("ARP for another space's peer", arp(1, mac, A, c), None),
        ("ARP for anybody", arp(1, mac, A, OTHER), None),
        ("ARP for its own address", arp(1, mac, A, A), Some("arp")),
        ("ARP for nobody", arp(1, mac, A, Ipv4Addr::UNSPECIFIED), Some("arp")),
        ("ARP for everybody", arp(1, mac, A, Ipv4Addr::BROADCAST), Some("arp")),
        ("gratuitous ARP for the peer's address", arp(1, mac, b, b), Some("arp")),
        ("an ARP answer in the peer's name", arp(2, mac, b, A), Some("arp")),
        ("an ARP answer", arp(2, mac, A, b), Some("arp")),
        ("ARP from another MAC", arp(1, [2; 6], A, b), Some("arp")),
        ("ARP without its end", arp(1, mac, A, b)[..41].to_vec(), Some("arp")),
    ]
}

pub(crate) fn ethernet(to: Mac, from: Mac, kind: u16, rest: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), rest].concat()
}

/// A whole IPv4 packet with a right checksum.
pub(crate) fn ip(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    with(packet, 0, &[])
}

/// The packet with `bytes` at `at` of its header, and a checksum that is right again.
fn with(mut packet: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    packet[at..at + bytes.len()].copy_from_slice(bytes);
    packet[10..12].fill(0);
    let header = (usize::from(packet[0] & 0x0f) * 4).min(packet.len());
    let sum = checksum(&packet[..header]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The packet with four bytes of options: no operation (RFC 791).
fn with_options(mut packet: Vec<u8>) -> Vec<u8> {
    packet.splice(20..20, [1; 4]);
    let length = packet.len() as u16;
    packet[0] = 0x46;
    with(packet, 2, &length.to_be_bytes())
}

/// The Internet checksum (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let sum: u32 = bytes.chunks(2).map(word).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Port 8080 to port 7, SYN.
pub(crate) fn tcp_syn() -> Vec<u8> {
    let mut header = vec![0x1f, 0x90, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0];
    header.extend([0; 4]);
    header
}

/// An empty datagram between ESP's ports.
fn datagram() -> [u8; 8] {
    [0x11, 0x94, 0x11, 0x94, 0, 8, 0, 0]
}
