//! Large packets through real rings: cut up outward, put together inward.

use esp::ip::Packet;
use virtio::net;

use super::*;
use crate::tunnel::tests::assert_right;
use crate::tunnel::tests::offload::{large, received, text};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SEGMENT: u16 = 1200;

/// A virtio-net header for a packet of this protocol over IPv4.
fn net_header(protocol: u8) -> [u8; 12] {
    let (gso, offset) = if protocol == TCP { (1, 16) } else { (5, 6) };
    let [low, high] = SEGMENT.to_le_bytes();
    [1, gso, 0, 0, low, high, 34, 0, offset, 0, 0, 0]
}

#[test]
fn one_frame_of_64_kib_arrives_as_right_packets() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let (mut peer, overlay) = Peer::new(free_port(), 0x1001);
        let mut guest = Guest::new(client.attach("red", overlay).unwrap());
        for protocol in [TCP, UDP] {
            for length in [1, 1201, 65_000] {
                let payload = text(length);
                let (packet, _) = large(HERE, THERE, protocol, &payload, SEGMENT);
                guest.send(net_header(protocol), &guest.frame(&packet));
                let packets = peer.expect(length.div_ceil(SEGMENT.into()));
                let packets: Vec<_> = packets.into_iter().map(|packet| (0, packet)).collect();
                assert_eq!(received(&packets, SEGMENT.into()), payload);
            }
        }
        assert!(second(&client).drops.is_empty());
    });
}

/// Lets the peer send 20 segments to a guest set up like this; gives what it received.
fn inward(setup: Setup, protocol: u8) -> Vec<([u8; 12], Vec<u8>)> {
    let mut frames = Vec::new();
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let (mut peer, overlay) = Peer::new(free_port(), 0x1001);
        let mut guest = Guest::with(client.attach("red", overlay).unwrap(), setup);
        let payload = text(usize::from(SEGMENT) * 20);
        let (packet, offload) = large(THERE, HERE, protocol, &payload, SEGMENT);
        peer.send_with(&packet, offload);
        let headers = 14 + packet.len() - payload.len();
        let mut got = Vec::new();
        eventually(|| {
            while let Some((header, frame)) = guest.receive_with_header() {
                got.extend_from_slice(&frame[headers..]);
                frames.push((header, frame));
            }
            got.len() >= payload.len()
        });
        assert_eq!(got, payload);
        assert!(second(&client).drops.is_empty());
    });
    frames
}

#[test]
fn a_guest_that_takes_large_packets_gets_few_over_many_small_buffers() {
    for protocol in [TCP, UDP] {
        let frames = inward(Setup { buffers: 256, bytes: 600, ..Setup::default() }, protocol);
        assert!(frames.len() < 20, "{} frames", frames.len());
        for (header, frame) in &frames {
            let buffers = u16::from_le_bytes([header[10], header[11]]);
            assert_eq!(usize::from(buffers), (12 + frame.len()).div_ceil(600));
            let packet = Packet::parse(&frame[14..], frame.len() - 14).unwrap();
            assert_eq!(packet.len(), frame.len() - 14);
            if packet.len() > 1300 {
                let gso = if protocol == TCP { 1 } else { 5 };
                assert_eq!((header[0], header[1]), (1, gso), "a partial checksum, and its kind");
                assert_eq!(u16::from_le_bytes([header[4], header[5]]), SEGMENT);
                assert_eq!(u16::from_le_bytes([header[6], header[7]]), 34);
            }
        }
    }
}

#[test]
fn a_guest_that_takes_none_gets_every_packet_by_itself() {
    let large = net::GUEST_TSO4 | net::GUEST_TSO6 | net::GUEST_USO4 | net::GUEST_USO6;
    for refused in [large, net::GUEST_CSUM, large | net::MRG_RXBUF | net::GUEST_CSUM] {
        for protocol in [TCP, UDP] {
            let frames = inward(Setup { features: !refused, ..Setup::default() }, protocol);
            assert_eq!(frames.len(), 20);
            for (header, frame) in &frames {
                assert_right(&frame[14..]);
                // What nobody has checked is not said to be right.
                assert_eq!(header, &net::PLAIN_HEADER);
            }
        }
    }
}
