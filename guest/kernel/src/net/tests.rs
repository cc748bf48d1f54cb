use super::*;
use crate::lab::{GUEST, Lab, NOBODY, PEER};
use core::cell::Cell;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, Ipv4Packet, Ipv4Repr};

/// The IPv4 packets among the frames the guest sent.
fn sent(lab: &Lab) -> impl Iterator<Item = Vec<u8>> + '_ {
    lab.peer.seen.iter().filter_map(|frame| {
        let frame = EthernetFrame::new_checked(frame).ok()?;
        (frame.ethertype() == EthernetProtocol::Ipv4).then(|| frame.payload().to_vec())
    })
}

/// A frame with "host unreachable" about `packet`, as the switch sends it: its
/// header and eight bytes of payload, no more.
fn unreachable(packet: &[u8]) -> Vec<u8> {
    let mut icmp = vec![3, 1, 0, 0, 0, 0, 0, 0];
    icmp.extend_from_slice(&packet[..28]);
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let ip = Ipv4Repr {
        src_addr: PEER,
        dst_addr: GUEST,
        next_header: IpProtocol::Icmp,
        payload_len: icmp.len(),
        hop_limit: 64,
    };
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.resize(34, 0);
    frame.extend(icmp);
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut frame[14..]), &ChecksumCapabilities::default());
    frame
}

/// RFC 1071, over bytes whose checksum field counts as zero.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).enumerate().filter(|(at, _)| *at != 1);
    let sum = words.fold(0_u32, |sum, (_, word)| {
        sum + (u32::from(word[0]) << 8) + u32::from(*word.get(1).unwrap_or(&0))
    });
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// An ARP answer: everybody is at the peer's place, as the switch has it.
fn arp_answer(to: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2];
    frame.extend([2, 0, 0, 0, 0, 2]);
    frame.extend(to.octets());
    frame.extend([2, 0, 0, 0, 0, 1]);
    frame.extend(GUEST.octets());
    frame
}

#[test]
fn an_unreachable_host_ends_connecting_at_once() {
    let mut lab = Lab::new();
    let (net, outcome) = (lab.net.clone(), Rc::new(Cell::new(None)));
    let seen = outcome.clone();
    lab.executor.spawner().spawn(async move {
        seen.set(net.connect((NOBODY, 7).into(), Windows::PLAIN).await.err());
    });
    lab.turn();
    lab.peer.end.leaving.borrow_mut().push_back(arp_answer(NOBODY));
    lab.turn();
    lab.turn();
    let syn = sent(&lab).next().expect("the first segment");
    lab.peer.end.leaving.borrow_mut().push_back(unreachable(&syn));
    lab.turn();
    lab.turn();
    assert_eq!(outcome.get(), Some(ConnectFailed::Unreachable(Unreachable(1))));
    assert!(lab.cpu.now_us.get() < 1_000_000);
}

#[test]
fn an_unreachable_host_ends_a_ping_at_once() {
    let mut lab = Lab::new();
    let (net, outcome) = (lab.net.clone(), Rc::new(Cell::new(None)));
    let seen = outcome.clone();
    lab.executor.spawner().spawn(async move {
        seen.set(Some(net.ping(NOBODY.into(), 1, 2, 1_000_000).await));
    });
    lab.turn();
    lab.peer.end.leaving.borrow_mut().push_back(arp_answer(NOBODY));
    lab.turn();
    lab.turn();
    let request = sent(&lab).next().expect("the echo request");
    lab.peer.end.leaving.borrow_mut().push_back(unreachable(&request));
    lab.turn();
    assert_eq!(outcome.get(), Some(Err(PingFailed::Unreachable(Unreachable(1)))));
}

#[test]
fn what_a_program_leaves_is_closed_and_forgotten() {
    let mut lab = Lab::new();
    let net = lab.net.clone();
    lab.executor.spawner().spawn(async move {
        let stream = net.connect((PEER, 7).into(), Windows::PLAIN).await.expect("the peer listens");
        stream.write_all(b"last words").await.expect("connected");
        stream.close();
    });
    for _ in 0..100_000 {
        lab.turn();
    }
    let wire: Vec<u8> = lab.peer.seen.concat();
    assert!(wire.windows(10).any(|window| window == b"last words"));
    let inner = lab.net.inner.borrow();
    assert_eq!(
        (inner.sockets.iter().count(), inner.leaving.len()),
        (2, 0),
        "ICMP's alone are left"
    );
}

#[test]
fn near_ports_are_dynamic_ones_and_differ() {
    let mut lab = Lab::new();
    for _ in 0..2 {
        let net = lab.net.clone();
        lab.executor.spawner().spawn(async move {
            assert_eq!(
                net.connect((PEER, 8).into(), Windows::PLAIN).await.err(),
                Some(ConnectFailed::Refused)
            );
        });
    }
    for _ in 0..100 {
        lab.turn();
    }
    let mut ports: Vec<u16> =
        sent(&lab).map(|packet| u16::from_be_bytes([packet[20], packet[21]])).collect();
    ports.sort_unstable();
    ports.dedup();
    assert!(ports.len() == 2 && ports[0] >= FIRST_PORT, "{ports:?}");
}

#[test]
fn the_space_itself_is_no_peer_and_says_so_at_once() {
    let mut lab = Lab::new();
    let net = lab.net.clone();
    let seen = Rc::new(Cell::new(None));
    let outcome = seen.clone();
    lab.executor.spawner().spawn(async move {
        outcome.set(net.connect((GUEST, 7).into(), Windows::PLAIN).await.err());
    });
    lab.turn();
    assert_eq!(seen.get(), Some(ConnectFailed::Own));
}

#[test]
fn random_numbers_do_not_repeat_soon() {
    let mut random = Random(1);
    let mut numbers: Vec<u64> = (0..1000).map(|_| random.next()).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 1000);
}
