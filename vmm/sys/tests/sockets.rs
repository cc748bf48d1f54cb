//! Sockets over loopback, each test once per family and kind of socket: ignored, with the reason,
//! where this host has no such address or gives no right to raw sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use libtest_mimic::{Arguments, Failed, Trial};
use rustix::event::{PollFd, PollFlags, poll};
use sys::raw::{EspSocket, Family};
use sys::socket::{Envelope, MAX_BYTES, Message, Received, Sent, Socket};
use sys::udp::UdpSocket;

type Outcome = Result<(), Failed>;

fn main() {
    let mut trials = Vec::new();
    for (family, address) in
        [(Family::V4, Ipv4Addr::LOCALHOST.into()), (Family::V6, Ipv6Addr::LOCALHOST.into())]
    {
        let missing = UdpSocket::bind(SocketAddr::new(address, 0), None).err();
        if let Some(reason) = &missing {
            eprintln!("ignoring UDP over {family}: {reason}");
        }
        let mut udp = |name: &str, test: fn(IpAddr) -> Outcome| {
            let name = format!("{name}_over_{family}").replace("IP", "ip");
            let trial = Trial::test(name, move || test(address));
            trials.push(trial.with_ignored_flag(missing.is_some()));
        };
        udp("datagrams_sent_as_one_message_arrive_one_by_one_and_in_order", joined_datagrams);
        udp("a_message_the_kernel_refuses_is_one_lost_packet_and_no_more", refused_message);
        udp("each_datagram_keeps_its_traffic_class", traffic_class);
        udp("one_batch_holds_the_datagrams_of_many_senders", many_senders);
        udp("a_closed_port_is_reported_with_what_was_sent_to_it", closed_port);
        udp("errors_that_wait_stop_neither_receiving_nor_sending", errors_that_wait);

        let refused = EspSocket::open(family, None).err();
        if let Some(reason) = &refused {
            eprintln!("ignoring raw sockets: {reason}");
        }
        let mut esp = |name: &str, test: fn(IpAddr) -> Outcome| {
            let name = format!("{name}_over_{family}").replace("IP", "ip");
            let trial = Trial::test(name, move || test(address));
            trials.push(trial.with_ignored_flag(refused.is_some() || missing.is_some()));
        };
        esp("an_esp_packet_arrives_without_its_ip_header", esp_packet);
        esp("joined_esp_packets_are_sent_one_by_one", joined_esp_packets);
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn bind(address: IpAddr) -> Result<UdpSocket, Failed> {
    Ok(UdpSocket::bind(SocketAddr::new(address, 0), None)?)
}

fn message(to: SocketAddr, bytes: &[u8]) -> Message<'_> {
    Message { from: to.ip(), to, tos: 0, bytes, segment: bytes.len().max(1) }
}

fn sent(socket: &Socket, messages: &[Message<'_>]) -> Sent {
    let mut sent = Sent::default();
    socket.send(messages, &mut sent);
    sent
}

/// Receives until `count` datagrams are there, or five seconds have passed without one.
fn receive(socket: &Socket, count: usize) -> Result<Vec<(Envelope, Vec<u8>)>, Failed> {
    let (mut batch, mut got) = (Received::default(), Vec::new());
    while got.len() < count {
        ready(socket)?;
        socket.receive(&mut batch)?;
        let datagrams: Vec<_> = batch.datagrams().collect();
        got.extend(datagrams.into_iter().map(|(envelope, bytes)| (envelope, bytes.to_vec())));
    }
    assert!(!socket.receive(&mut batch)?, "more than {count} datagrams");
    Ok(got)
}

fn ready(socket: &Socket) -> Outcome {
    let limit = rustix::time::Timespec { tv_sec: 5, tv_nsec: 0 };
    match poll(&mut [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)], Some(&limit))? {
        0 => Err("nothing came".into()),
        _ => Ok(()),
    }
}

fn joined_datagrams(address: IpAddr) -> Outcome {
    let (a, b) = (bind(address)?, bind(address)?);
    let (from, to) = (a.local(), b.local());
    let (a, b) = (Socket::from(a), Socket::from(b));
    let bytes: Vec<u8> = (0..60_000u32).map(|at| (at / 100) as u8).collect();
    let messages = [
        Message { segment: 100, ..message(to, &bytes[..950]) },
        message(to, &[42]),
        message(to, &[]),
        Message { segment: 1400, ..message(to, &bytes) },
        Message { segment: 7, ..message(to, &bytes[..14]) },
    ];
    let sent = sent(&a, &messages);
    assert_eq!((sent.calls, sent.messages, sent.lost), (1, 5, 0));
    let expected: Vec<&[u8]> = messages
        .iter()
        .flat_map(|m| match m.bytes {
            [] => vec![m.bytes],
            bytes => bytes.chunks(m.segment).collect(),
        })
        .collect();
    let got = receive(&b, expected.len())?;
    let envelope = Envelope { from, to: address, tos: 0 };
    assert!(got.iter().all(|datagram| datagram.0 == envelope));
    assert!(got.iter().map(|datagram| &datagram.1[..]).eq(expected));
    Ok(())
}

fn refused_message(address: IpAddr) -> Outcome {
    let (a, b) = (bind(address)?, bind(address)?);
    let to = b.local();
    let (a, b) = (Socket::from(a), Socket::from(b));
    let too_long = vec![0; MAX_BYTES + 21];
    let sent = sent(&a, &[message(to, &[1]), message(to, &too_long), message(to, &[2])]);
    assert_eq!((sent.messages, sent.lost, sent.too_big), (2, 1, 1));
    let bytes: Vec<_> = receive(&b, 2)?.into_iter().map(|datagram| datagram.1).collect();
    assert_eq!(bytes, [[1], [2]]);
    Ok(())
}

fn traffic_class(address: IpAddr) -> Outcome {
    let (a, b) = (bind(address)?, bind(address)?);
    let to = b.local();
    let (a, b) = (Socket::from(a), Socket::from(b));
    // Expedited forwarding, ECT(0), congestion experienced, both, neither.
    let classes = [0xb8, 0x02, 0x03, 0xba, 0];
    let bytes = [7; 300];
    let messages = classes.map(|tos| Message { tos, segment: 100, ..message(to, &bytes) });
    assert_eq!(sent(&a, &messages).messages, 5);
    let got = receive(&b, 15)?;
    let expected = classes.iter().flat_map(|tos| [*tos; 3]);
    assert!(got.iter().map(|(envelope, _)| envelope.tos).eq(expected), "{got:?}");
    Ok(())
}

fn many_senders(address: IpAddr) -> Outcome {
    let b = bind(address)?;
    let to = b.local();
    let b = Socket::from(b);
    let senders: Vec<UdpSocket> = (0..5).map(|_| bind(address)).collect::<Result<_, _>>()?;
    let mut sent = Sent::default();
    for (number, sender) in senders.iter().enumerate() {
        let bytes = [number as u8; 9];
        sender.send(&[Message { segment: 3, ..message(to, &bytes) }], &mut sent);
    }
    let got = receive(&b, 15)?;
    let expected = senders.iter().enumerate().flat_map(|(number, sender)| {
        std::iter::repeat_n((sender.local(), vec![number as u8; 3]), 3)
    });
    assert!(got.into_iter().map(|(envelope, bytes)| (envelope.from, bytes)).eq(expected));
    Ok(())
}

/// A port that takes nothing but what it sends itself, and that no other test is given.
fn closed(address: IpAddr) -> Result<UdpSocket, Failed> {
    let socket = bind(address)?;
    rustix::net::connect(&socket, &socket.local())?;
    Ok(socket)
}

fn closed_port(address: IpAddr) -> Outcome {
    let (a, closed) = (Socket::from(bind(address)?), closed(address)?);
    let nobody = closed.local();
    assert_eq!(sent(&a, &[message(nobody, b"0123SEQUrest")]).messages, 1);
    ready(&a)?;
    assert!(!a.receive(&mut Received::default())?);
    let mut seen = Vec::new();
    a.errors(|error| {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        assert_eq!((error.mtu, error.offender), (None, Some(address)));
        seen.push((error.destination, error.quoted.to_vec()));
    });
    assert_eq!(seen, [(Some(nobody), b"0123SEQUrest".to_vec())]);
    a.errors(|error| panic!("{error:?} was taken before"));
    Ok(())
}

fn errors_that_wait(address: IpAddr) -> Outcome {
    let (a, b) = (bind(address)?, bind(address)?);
    let closed = closed(address)?;
    let (from, to, nobody) = (a.local(), b.local(), closed.local());
    let (a, b) = (Socket::from(a), Socket::from(b));
    for number in 0..200 {
        assert_eq!(sent(&a, &[message(nobody, &[number])]).lost, 0);
        assert_eq!(sent(&a, &[message(to, &[number])]).lost, 0);
        assert_eq!(sent(&b, &[message(from, &[number])]).lost, 0);
        assert_eq!(receive(&a, 1)?[0].1, [number]);
    }
    assert_eq!(receive(&b, 200)?.len(), 200);
    let mut batches = Vec::new();
    loop {
        let mut count = 0;
        a.errors(|_| count += 1);
        if count == 0 {
            break;
        }
        batches.push(count);
    }
    // How many the kernel keeps is its own affair (ICMP rate limits, the receive buffer).
    assert!(batches.iter().all(|&count| count <= 64) && !batches.is_empty(), "{batches:?}");
    Ok(())
}

fn esp_packet(address: IpAddr) -> Outcome {
    let (a, b) = (EspSocket::open(address.into(), None)?, EspSocket::open(address.into(), None)?);
    let (a, b) = (Socket::from(a), Socket::from(b));
    // The port counts for nothing.
    let to = SocketAddr::new(address, 4500);
    // Other tests' packets come by as well: what is ours is told by its bytes.
    let big = [&b"big?"[..], &[9; 9000]].concat();
    let packets = [Message { tos: 0xb8, ..message(to, b"SPI0SEQ0payload") }, message(to, &big)];
    assert_eq!(sent(&a, &packets).messages, 2);
    let got = receive_esp(&b, 2, |bytes| bytes == b"SPI0SEQ0payload" || bytes == big)?;
    let envelope = Envelope { from: SocketAddr::new(address, 0), to: address, tos: 0xb8 };
    assert_eq!(got[0], (envelope, b"SPI0SEQ0payload".to_vec()));
    assert_eq!(got[1], (Envelope { tos: 0, ..envelope }, big));
    Ok(())
}

fn joined_esp_packets(address: IpAddr) -> Outcome {
    let (a, b) = (EspSocket::open(address.into(), None)?, EspSocket::open(address.into(), None)?);
    let (a, b) = (Socket::from(a), Socket::from(b));
    let to = SocketAddr::new(address, 0);
    let bytes: Vec<u8> = (0..40).flat_map(|number| [b'J', number, 0, 0]).chain(*b"J!").collect();
    let sent = sent(&a, &[Message { segment: 4, ..message(to, &bytes) }]);
    assert_eq!((sent.messages, sent.lost, sent.calls), (41, 0, 3));
    let got = receive_esp(&b, 41, |bytes| bytes[0] == b'J')?;
    assert!(got.iter().map(|(_, bytes)| &bytes[..]).eq(bytes.chunks(4)));
    Ok(())
}

/// As `receive`, of the packets that are `ours` alone.
fn receive_esp(
    socket: &Socket,
    count: usize,
    ours: impl Fn(&[u8]) -> bool,
) -> Result<Vec<(Envelope, Vec<u8>)>, Failed> {
    let (mut batch, mut got) = (Received::default(), Vec::new());
    while got.len() < count {
        ready(socket)?;
        socket.receive(&mut batch)?;
        let mine = batch.datagrams().filter(|(_, bytes)| ours(bytes));
        got.extend(mine.map(|(envelope, bytes)| (envelope, bytes.to_vec())));
    }
    Ok(got)
}
