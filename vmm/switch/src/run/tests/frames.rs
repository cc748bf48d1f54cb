//! Frames of a hostile guest: nothing leaves but ESP, and each is counted for what it is.

use std::net::Ipv6Addr;

use bolero::TypeGenerator;

use super::*;
use crate::frame::SWITCH;
use crate::overlay::Mode;
use crate::tunnel::tests::carried_by;
use crate::tunnel::tests::modes::{INNER_A, INNER_B};
use crate::tunnel::tests::offload::{large, text};

const ICMPV6: u8 = 58;
const UDP: u8 = 17;
const TCP: u8 = 6;

/// Tunnel mode, with inner addresses of both families: the widest choice of packets.
fn in_tunnel_mode(theirs: &mut Overlay, ours: &mut Overlay) {
    for (overlay, own) in [(theirs, INNER_B), (ours, INNER_A)] {
        overlay.mode = Mode::Tunnel;
        overlay.addresses = own.to_vec();
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(address) => address,
        IpAddr::V4(_) => panic!("{address} is no IPv6 address"),
    }
}

/// A frame's beginning, by who it is to and what it says it is.
fn link(guest: &Guest, to: [u8; 6], kind: [u8; 2]) -> Vec<u8> {
    [&to[..], &guest.mac, &kind].concat()
}

/// A virtio-net header with these fields.
fn net_header(flags: u8, gso: u8, size: u16, start: u16, offset: u16) -> [u8; 12] {
    let mut header = [0; 12];
    (header[0], header[1]) = (flags, gso);
    header[2..4].copy_from_slice(&0xffffu16.to_le_bytes());
    header[4..6].copy_from_slice(&size.to_le_bytes());
    header[6..8].copy_from_slice(&start.to_le_bytes());
    header[8..10].copy_from_slice(&offset.to_le_bytes());
    header
}

const PLAIN: [u8; 12] = [0; 12];
const ALL_NODES: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const VLAN: [u8; 2] = [0x81, 0];
const IPV4: [u8; 2] = [8, 0];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ARP: [u8; 2] = [8, 6];

/// What a guest must not get out, each with the reason it is counted under.
fn forbidden(guest: &Guest) -> Vec<(&'static str, [u8; 12], Vec<u8>)> {
    let [own, own6] = INNER_A;
    let [far, far6] = INNER_B;
    let to = |to, kind, rest: &[u8]| [&link(guest, to, kind), rest].concat();
    let unicast = |rest: &[u8]| guest.frame(rest);
    let sound = packet(own, far, 40);
    let all_nodes: IpAddr = "ff02::1".parse().unwrap();
    let discovery = |kind: u8| {
        let target = v6(own6).octets();
        carried_by(own6, far6, ICMPV6, [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target].concat())
    };
    let listener_report = [ICMPV6, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0, 0, 0, 0, 0];
    let routing_0 = [UDP, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 7, 0, 8, 0, 0];
    let mut truncated = sound.clone();
    truncated.truncate(50);
    let mut foreign_mac = unicast(&sound);
    foreign_mac[11] ^= 1;
    let mut wrong_sum = sound.clone();
    wrong_sum[10] ^= 1;
    vec![
        ("runt", PLAIN, vec![]),
        ("runt", PLAIN, unicast(&sound)[..13].to_vec()),
        ("foreign_mac", PLAIN, foreign_mac),
        ("ether_type", PLAIN, to(SWITCH, VLAN, &[&[0, 7][..], &IPV4, &sound].concat())),
        ("ether_type", PLAIN, to(SWITCH, [0x88, 0xcc], &sound)),
        ("neighbour", PLAIN, to([0xff; 6], ARP, &[0; 28])),
        ("neighbour", PLAIN, to([0xff; 6], ARP, &[0; 3])),
        // Router solicitation and advertisement, neighbour advertisement, redirect.
        ("neighbour", PLAIN, unicast(&discovery(133))),
        ("neighbour", PLAIN, to(ALL_NODES, IPV6, &discovery(134))),
        ("neighbour", PLAIN, unicast(&discovery(136))),
        ("neighbour", PLAIN, unicast(&discovery(137))),
        // A question for the guest's own address.
        ("neighbour", PLAIN, to(ALL_NODES, IPV6, &discovery(135))),
        (
            "multicast",
            PLAIN,
            to(ALL_NODES, IPV6, &carried_by(own6, all_nodes, 0, listener_report.to_vec())),
        ),
        ("multicast", PLAIN, unicast(&carried_by(own6, all_nodes, 0, listener_report.to_vec()))),
        // DHCP: from nobody to everybody, by both kinds of address.
        ("multicast", PLAIN, to([0xff; 6], IPV4, &packet([0, 0, 0, 0], [255; 4], 40))),
        ("foreign_source", PLAIN, unicast(&packet([0, 0, 0, 0], [255; 4], 40))),
        ("multicast", PLAIN, unicast(&packet(own, [255; 4], 40))),
        ("foreign_source", PLAIN, unicast(&packet(far, own, 40))),
        ("malformed", PLAIN, unicast(&truncated)),
        ("malformed", PLAIN, unicast(&wrong_sum)),
        ("malformed", PLAIN, to(SWITCH, IPV6, &[0x60, 0, 0, 0, 0, 0])),
        ("options", PLAIN, unicast(&carried_by(own6, far6, 43, routing_0.to_vec()))),
        ("offload", net_header(0, 2, 100, 0, 0), unicast(&sound)),
        ("offload", net_header(0, 3, 100, 0, 0), unicast(&sound)),
        ("offload", net_header(1, 0x80, 100, 34, 6), unicast(&sound)),
        // A checksum in the Ethernet header, the IP header, and beyond the packet.
        ("offload", net_header(1, 0, 0, 0, 0), unicast(&sound)),
        ("offload", net_header(1, 0, 0, 13, 21), unicast(&sound)),
        ("offload", net_header(1, 0, 0, 14, 26), unicast(&sound)),
        ("offload", net_header(1, 0, 0, 34, 39), unicast(&sound)),
        ("offload", net_header(1, 0, 0, 0xffff, 0xffff), unicast(&sound)),
        // Ports are no checksum.
        ("offload", net_header(1, 0, 0, 34, 0), unicast(&sound)),
    ]
}

/// Large packets that are none, or others than they say.
fn lies(guest: &Guest) -> Vec<([u8; 12], Vec<u8>)> {
    let [own, own6] = INNER_A;
    let [far, far6] = INNER_B;
    let data = text(4000);
    let (tcp, _) = large(own, far, TCP, &data, 1000);
    let (tcp6, _) = large(own6, far6, TCP, &data, 1000);
    let (udp, _) = large(own, far, UDP, &data, 1000);
    let [tcp, tcp6, udp] = [tcp, tcp6, udp].map(|packet| guest.frame(&packet));
    let mut syn = tcp.clone();
    syn[47] |= 2;
    vec![
        (net_header(1, 1, 0, 34, 16), tcp.clone()),
        (net_header(1, 1, 1, 34, 16), tcp.clone()),
        (net_header(0, 1, 1000, 34, 16), tcp.clone()),
        (net_header(1, 4, 1000, 34, 16), tcp.clone()),
        (net_header(1, 5, 1000, 34, 16), tcp.clone()),
        (net_header(1, 1, 1000, 34, 6), udp.clone()),
        (net_header(1, 5, 1, 34, 6), udp),
        (net_header(1, 1, 1000, 54, 16), tcp6),
        (net_header(1, 1, 1000, 33, 16), tcp.clone()),
        (net_header(1, 1, 1000, 34, 4000), tcp),
        (net_header(1, 1, 1000, 34, 16), syn),
    ]
}

#[test]
fn each_frame_that_may_not_leave_is_counted_for_what_it_is() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let (mut peer, overlay) = Peer::with(free_port(), 0x1001, in_tunnel_mode);
        let mut guest = Guest::new(client.attach("red", overlay).unwrap());
        let lies = lies(&guest).into_iter().map(|(header, frame)| ("offload", header, frame));
        let mut expected = std::collections::BTreeMap::<String, u64>::new();
        for (at, (reason, header, frame)) in forbidden(&guest).into_iter().chain(lies).enumerate() {
            guest.send(header, &frame);
            *expected.entry(reason.into()).or_default() += 1;
            assert_eq!(second(&client).drops, expected, "frame {at}");
        }
        assert!(peer.receive().is_empty());
        // Lengths of headers are the guest's word, which nobody asks for.
        let (tcp, _) = large(INNER_A[0], INNER_B[0], TCP, &text(3000), 1000);
        guest.send(net_header(1, 1, 1000, 34, 16), &guest.frame(&tcp));
        assert_eq!(peer.expect(3).len(), 3);
    });
}

/// A frame from arbitrary bytes to almost right.
#[derive(Clone, Debug, TypeGenerator)]
struct Frame {
    header: Option<[u8; 12]>,
    shape: u8,
    bytes: Vec<u8>,
    changes: Vec<(u16, u8)>,
    pieces: Vec<u8>,
}

impl Frame {
    fn build(&self, guest: &Guest) -> ([u8; 12], Vec<u8>) {
        let [own, own6] = INNER_A;
        let [far, far6] = INNER_B;
        let mut bytes = self.bytes.clone();
        bytes.resize(bytes.len().max(20), 0x50);
        let mut header = self.header.unwrap_or_default();
        let shapes = forbidden(guest);
        let mut frame = match self.shape % 8 {
            0 => self.bytes.clone(),
            1 => guest.frame(&packet(far, own, bytes.len())),
            2 => guest.frame(&packet(own, far, bytes.len())),
            3 => guest.frame(&carried_by(own6, far6, ICMPV6, bytes)),
            4 => guest.frame(&carried_by(own6, far6, [0, 43, 44, 51, 60][bytes.len() % 5], bytes)),
            5 => {
                let size = u16::from_le_bytes([header[4], header[5]]);
                header = net_header(1, 1, size, 34, 16);
                guest.frame(&large(own, far, TCP, &bytes.repeat(40), size).0)
            }
            _ => shapes[bytes.len() % shapes.len()].2.clone(),
        };
        for (at, value) in &self.changes {
            if let Some(byte) = frame.get_mut(usize::from(*at) % 100) {
                *byte = *value;
            }
        }
        (header, frame)
    }
}

#[test]
fn whatever_frames_a_guest_sends_the_peer_sees_esp_and_nothing_else() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let (peer, overlay) = Peer::with(free_port(), 0x1001, in_tunnel_mode);
        let attached = client.attach("red", overlay).unwrap();
        let ends = std::sync::Mutex::new((peer, Guest::new(attached)));
        bolero::check!().with_type::<Frame>().with_iterations(2000).for_each(|frame| {
            let (peer, guest) = &mut *ends.lock().unwrap();
            let (header, bytes) = frame.build(guest);
            let pieces: Vec<_> = frame.pieces.iter().map(|piece| usize::from(*piece)).collect();
            guest.send_in(&[&header[..], &bytes].concat(), &pieces);
            while guest.receive().is_some() {}
            for (wire, packet) in peer.receive() {
                assert_eq!(wire[..4], 0x2001u32.to_be_bytes());
                // The peer's policy lets all in that comes from the space's own addresses.
                let Some(packet) = packet else { continue };
                let source = esp::ip::Packet::parse(&packet, packet.len()).unwrap().source();
                assert!(INNER_A.contains(&source));
            }
        });
        let (mut peer, mut guest) = ends.into_inner().unwrap();
        peer.receive();
        guest.send_packet(&packet(INNER_A[0], INNER_B[0], 40));
        assert_eq!(peer.expect(1).len(), 1, "the space still works");
    });
}
