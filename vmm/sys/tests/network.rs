//! Sockets in a network of their own, in which a TUN device plays the peer and the way to it; once
//! per family. Ignored, with the reason, where no network namespace can be made.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};

use libtest_mimic::{Arguments, Failed, Trial};
use sys::capability::{self, CapabilitySet};
use sys::namespace::Network;
use sys::raw::{EspSocket, Family, OpenFailure};
use sys::route;
use sys::socket::{Message, Received, Sent, Socket};
use sys::tun::{MAX_READ, Tun, VNET_HEADER};
use sys::udp::UdpSocket;

use wire::{Wire, ready};

#[path = "network/wire.rs"]
mod wire;

type Outcome = Result<(), Failed>;

const MTU: u32 = 1400;

fn main() {
    let refused = Network::new().err();
    if let Some(reason) = &refused {
        eprintln!("ignoring what needs a network namespace: {reason}");
    }
    let no_ipv6 = UdpSocket::bind("[::1]:0".parse().expect("an address"), None).err();
    if let Some(reason) = &no_ipv6 {
        eprintln!("ignoring IPv6: {reason}");
    }
    let mut trials = Vec::new();
    for family in [Family::V4, Family::V6] {
        let ignored = refused.is_some() || family == Family::V6 && no_ipv6.is_some();
        let mut trial = |name: &str, test: fn(&Wire) -> Outcome| {
            let name = format!("{name}_over_{family}").replace("IP", "ip");
            let test = move || Network::new()?.run(|| test(&Wire::new(family)?))?;
            trials.push(Trial::test(name, test).with_ignored_flag(ignored));
        };
        trial("packets_go_out_whole_from_the_address_they_name", chosen_source);
        trial("a_packet_too_big_for_the_device_is_reported_with_its_mtu", too_big_here);
        trial("a_packet_too_big_on_the_way_is_reported_and_changes_nothing", too_big_on_the_way);
        trial("a_route_to_a_network_has_the_mtu_of_its_device", network_route);
        trial("long_udp_packets_cross_a_device_with_offloads_uncut", offloads);
        trial("an_open_raw_socket_outlives_the_capability_to_open_one", capabilities);
    }
    let test = || Network::new()?.run(|| fragments(&Wire::new(Family::V4)?))?;
    let name = "an_esp_packet_in_fragments_or_with_ip_options_arrives_as_its_payload";
    trials.push(Trial::test(name, test).with_ignored_flag(refused.is_some()));
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn sockets(wire: &Wire) -> Result<[Socket; 2], Failed> {
    let udp = UdpSocket::bind(SocketAddr::new(wire.local, 4500), None)?;
    Ok([udp.into(), EspSocket::open(wire.local.into(), None)?.into()])
}

fn message(wire: &Wire, bytes: &'static [u8]) -> Message<'static> {
    let to = SocketAddr::new(wire.peer, 4500);
    Message { from: wire.local, to, tos: 0, bytes, segment: bytes.len() }
}

fn send(socket: &Socket, message: Message<'_>) -> Sent {
    let mut sent = Sent::default();
    socket.send(&[message], &mut sent);
    sent
}

fn chosen_source(wire: &Wire) -> Outcome {
    // Bound to another device, which leads nowhere: the wire does not see it.
    let bound = Socket::from(EspSocket::open(wire.local.into(), Some("lo"))?);
    send(&bound, message(wire, b"elsewhere"));
    let esp = Socket::from(EspSocket::open(wire.local.into(), None)?);
    for from in [wire.local, wire.second] {
        let message = Message { from, tos: 0xb8, ..message(wire, b"SPI0SEQ0payload") };
        assert_eq!(send(&esp, message).messages, 1);
        let packet = wire.read()?;
        assert_eq!((packet.source(), packet.destination()), (from, wire.peer));
        assert_eq!((packet.tos(), packet.protocol()), (0xb8, 50));
        assert_eq!(packet.payload(), b"SPI0SEQ0payload");
        assert!(packet.forbids_fragments());
    }
    let unknown = EspSocket::open(wire.local.into(), Some("ps-none")).expect_err("no device");
    assert!(unknown.to_string().contains("ps-none"), "{unknown}");
    let foreign = Message { from: wire.peer, ..message(wire, b"SPI0SEQ0payload") };
    assert_eq!(send(&esp, foreign).lost, 1);
    Ok(())
}

fn too_big_here(wire: &Wire) -> Outcome {
    for socket in sockets(wire)? {
        let joined = Message { segment: 1500, ..message(wire, &[7; 4500]) };
        for (message, datagrams) in [(message(wire, &[7; 1500]), 1), (joined, 3)] {
            let sent = send(&socket, message);
            assert_eq!((sent.messages, sent.lost, sent.too_big), (0, datagrams, datagrams));
            let mut seen = 0;
            socket.errors(|error| {
                let destination = error.destination.map(|to| to.ip());
                assert_eq!((error.errno, error.offender), (libc::EMSGSIZE, None));
                assert_eq!((error.mtu, destination), (Some(MTU), Some(wire.peer)));
                seen += 1;
            });
            assert!(seen >= datagrams, "{seen} of {datagrams}");
        }
        // Joined datagrams that fit pass, whatever the length of all of them.
        assert_eq!(send(&socket, Message { segment: 1000, ..joined }).lost, 0);
        std::iter::repeat_with(|| wire.read()).take(5).try_for_each(|read| read.map(drop))?;
    }
    Ok(())
}

fn too_big_on_the_way(wire: &Wire) -> Outcome {
    for socket in sockets(wire)? {
        assert_eq!(send(&socket, message(wire, b"SPI0SEQ0payload")).messages, 1);
        wire.write(&wire.too_big(&wire.read()?, 1300));
        ready(&socket)?;
        assert!(!socket.receive(&mut Received::default())?);
        let mut seen = Vec::new();
        socket.errors(|error| {
            assert_eq!((error.errno, error.offender), (libc::EMSGSIZE, Some(wire.peer)));
            assert_eq!(error.destination.map(|to| to.ip()), Some(wire.peer));
            seen.push((error.mtu, error.quoted.to_vec()));
        });
        assert_eq!(seen, [(Some(1300), b"SPI0SEQ0payload".to_vec())]);
        // Anybody may have said so: the socket still sends what the device takes.
        assert_eq!(route::path_mtu(wire.local, wire.peer)?, MTU);
        assert_eq!(send(&socket, message(wire, &[7; 1340])).messages, 1);
        let packet = wire.read()?;
        assert!(packet.payload().ends_with(&[7; 1340]) && packet.forbids_fragments());
    }
    Ok(())
}

fn network_route(wire: &Wire) -> Outcome {
    let inside = wire.in_network(7);
    route::to(inside).expect_err("no route yet");
    route::path_mtu(wire.local, inside).expect_err("no route yet");
    route::add(wire.in_network(0), wire.network_bits(), wire.device(), Some(wire.second))?;
    let found = route::to(inside)?;
    assert_eq!((found.device.as_str(), found.source), (wire.device(), Some(wire.second)));
    assert_eq!(route::path_mtu(wire.local, inside)?, MTU);
    assert_eq!(route::path_mtu(wire.local, wire.second)?, 65536);
    Ok(())
}

fn offloads(wire: &Wire) -> Outcome {
    let tun = Tun::create_with_offloads("ps-long%d")?;
    route::bring_up(tun.name(), MTU)?;
    let host = wire.in_network(9);
    route::add(host, wire.host_bits(), tun.name(), Some(wire.local))?;
    let (local, peer) = (SocketAddr::new(wire.local, 4500), SocketAddr::new(host, 4500));
    let socket = Socket::from(UdpSocket::bind(local, None)?);
    let bytes: Vec<u8> = (0..40_050u32).map(|at| (at / 1000) as u8).collect();
    let message = Message { from: wire.local, to: peer, tos: 0, bytes: &bytes, segment: 1000 };
    assert_eq!(send(&socket, message).messages, 1);
    // Up to Linux 6.1 the kernel cuts it up: 41 packets then, each with a header.
    let mut packets = 0;
    let mut got = Vec::new();
    while got.len() < 41 {
        let mut packet = read_from(&tun, wire.local)?;
        packets += 1;
        // Sent back as it is, but for the direction: the sum over the addresses stays.
        wire::turn_round(&mut packet[VNET_HEADER..]);
        let (header, body) = packet.split_at(VNET_HEADER);
        let (head, payload) = body.split_at(20);
        assert!(tun.write(&[header, head, payload].map(IoSlice::new)));
        ready(&socket)?;
        let mut batch = Received::default();
        while socket.receive(&mut batch)? {
            got.extend(batch.datagrams().map(|(envelope, bytes)| (envelope.from, bytes.to_vec())));
        }
    }
    assert!(packets == 1 || packets == 41, "{packets}");
    assert!(got.into_iter().eq(bytes.chunks(1000).map(|bytes| (peer, bytes.to_vec()))));
    Ok(())
}

/// The next packet with its header from `source`, among those the host sends of its own accord.
fn read_from(tun: &Tun, source: IpAddr) -> Result<Vec<u8>, Failed> {
    loop {
        ready(tun)?;
        let mut packet = vec![0; MAX_READ];
        let Some(length) = tun.read(&mut packet)? else { continue };
        packet.truncate(length);
        if wire::Packet(packet[VNET_HEADER..].to_vec()).source() == source {
            return Ok(packet);
        }
    }
}

/// Capabilities are those of the thread: the namespace's is the test's own.
fn capabilities(wire: &Wire) -> Outcome {
    let esp = Socket::from(EspSocket::open(wire.local.into(), None)?);
    capability::keep_only(CapabilitySet::NET_RAW)?;
    assert!(capability::has(CapabilitySet::NET_RAW));
    assert!(!capability::has(CapabilitySet::NET_ADMIN));
    EspSocket::open(wire.local.into(), None)?;
    route::bring_up(wire.device(), 1280).expect_err("it takes CAP_NET_ADMIN");

    capability::drop_all()?;
    assert!(!capability::has(CapabilitySet::NET_RAW));
    let refused = EspSocket::open(wire.local.into(), None).expect_err("it takes CAP_NET_RAW");
    assert!(matches!(refused, OpenFailure::Capability), "{refused}");
    capability::keep_only(CapabilitySet::NET_RAW)?;
    assert!(!capability::has(CapabilitySet::NET_RAW), "what is given up does not come back");

    let from_second = Message { from: wire.second, ..message(wire, b"SPI0SEQ0payload") };
    assert_eq!(send(&esp, from_second).messages, 1);
    let mut packet = wire.read()?;
    assert_eq!(packet.source(), wire.second);
    wire::turn_round(&mut packet.0);
    wire.write(&packet.0);
    ready(&esp)?;
    let mut batch = Received::default();
    assert!(esp.receive(&mut batch)?);
    let (envelope, bytes) = batch.datagrams().next().ok_or("nothing came")?;
    assert_eq!((envelope.from.ip(), envelope.to), (wire.peer, wire.second));
    assert_eq!(bytes, b"SPI0SEQ0payload");
    Ok(())
}

fn fragments(wire: &Wire) -> Outcome {
    let esp = Socket::from(EspSocket::open(wire.local.into(), None)?);
    let payload: Vec<u8> = (0..2000u32).map(|at| at as u8).collect();
    let (first, second) = payload.split_at(1200);
    const MORE: u16 = 0x2000;
    wire.write(&wire.ipv4(&[], 1200 / 8, second));
    wire.write(&wire.ipv4(&[], MORE, first));
    // Four options of no operation (RFC 791 3.1).
    wire.write(&wire.ipv4(&[1; 4], 0, b"SPI0SEQ0payload"));
    let (mut batch, mut got) = (Received::default(), Vec::new());
    while got.len() < 2 {
        ready(&esp)?;
        esp.receive(&mut batch)?;
        got.extend(batch.datagrams().map(|(envelope, bytes)| (envelope.to, bytes.to_vec())));
    }
    let expected = [&payload[..], b"SPI0SEQ0payload"].map(|bytes| (wire.local, bytes.to_vec()));
    assert_eq!(got, expected);
    Ok(())
}
