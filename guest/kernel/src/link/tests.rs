use alloc::rc::Rc;
use core::cell::RefCell;
use core::net::IpAddr;
use std::string::String;
use std::vec;
use std::vec::Vec;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;

use super::*;
use crate::lab::device::{ALL, Conditions, PLAIN};
use crate::lab::{GUEST, GUEST_V6, Lab, PEER, PEER_V6};
use crate::net::Windows;

const BYTES: usize = 4 << 20;

/// Every way the wire may be.
fn every_condition() -> Vec<Conditions> {
    let sums = Offloads { sums_out: true, sums_in: true, ..Offloads::default() };
    let mut all = Vec::new();
    for offloads in [Offloads::default(), sums, ALL] {
        for (lose, swap) in
            [(None, None), (Some(211), None), (None, Some(17)), (Some(307), Some(23))]
        {
            all.push(Conditions { offloads, mtu: 1400, lose, swap });
        }
    }
    all
}

fn pattern(count: usize) -> Vec<u8> {
    (0..count as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// What one of the peer's sockets has received since the last time.
fn take(lab: &mut Lab, socket: SocketHandle, into: &mut Vec<u8>) {
    let socket = lab.peer.socket(socket);
    while socket.can_recv() {
        socket
            .recv(|bytes| {
                into.extend_from_slice(bytes);
                (bytes.len(), ())
            })
            .unwrap();
    }
}

/// Sends from the guest to the peer at `to`; what came, and how long it took in microseconds.
fn guest_sends(lab: &mut Lab, to: IpAddr, bytes: Vec<u8>) -> (Vec<u8>, u64) {
    let server = lab.peer.listen(9);
    let net = lab.net.clone();
    let wanted = bytes.len();
    lab.executor.spawner().spawn(async move {
        let stream = net.connect((to, 9).into(), Windows::SEND).await.expect("it listens");
        stream.write_all(&bytes).await.expect("it takes all");
        stream.close();
    });
    let mut came = Vec::new();
    for _ in 0..600_000 {
        lab.turn();
        take(lab, server, &mut came);
        if came.len() >= wanted {
            break;
        }
    }
    (came, lab.cpu.now_us.get())
}

/// Sends from the peer to the guest; what came.
fn peer_sends(lab: &mut Lab, bytes: &[u8]) -> Vec<u8> {
    let net = lab.net.clone();
    let came: Rc<RefCell<Vec<u8>>> = Rc::default();
    let into = came.clone();
    lab.executor.spawner().spawn(async move {
        let mut listener = net.listen(9, Windows::RECEIVE).expect("it is free");
        let stream = listener.accept().await;
        let mut piece = vec![0; 50_000];
        while let Ok(count @ 1..) = stream.read(&mut piece).await {
            into.borrow_mut().extend_from_slice(&piece[..count]);
        }
    });
    lab.turn();
    let caller = lab.peer.call(9);
    let mut sent = 0;
    for _ in 0..600_000 {
        lab.turn();
        let socket = lab.peer.socket(caller);
        if sent < bytes.len() && socket.can_send() {
            sent += socket.send_slice(&bytes[sent..]).unwrap();
        }
        if came.borrow().len() == bytes.len() {
            break;
        }
    }
    came.take()
}

#[test]
fn four_mebibytes_leave_intact_whatever_is_offloaded_lost_and_swapped() {
    for conditions in every_condition() {
        let mut lab = Lab::under(conditions);
        let (came, _) = guest_sends(&mut lab, PEER.into(), pattern(BYTES));
        assert!(came == pattern(BYTES), "{conditions:?}: {} came", came.len());
        let is_long = lab.device.longest[0] > 10_000;
        assert_eq!(is_long, conditions.offloads.segments_out, "{conditions:?}");
        assert_eq!(lab.refused(), 0);
    }
}

#[test]
fn four_mebibytes_leave_intact_over_ipv6_too() {
    for offloads in [Offloads::default(), ALL] {
        let mut lab =
            Lab::under(Conditions { offloads, mtu: 1400, lose: Some(311), swap: Some(29) });
        let (came, _) = guest_sends(&mut lab, PEER_V6.into(), pattern(BYTES));
        assert!(came == pattern(BYTES), "{offloads:?}: {} came", came.len());
        assert_eq!(lab.device.longest[0] > 10_000, offloads.segments_out);
    }
}

#[test]
fn four_mebibytes_arrive_intact_whatever_is_offloaded_lost_and_swapped() {
    for conditions in every_condition() {
        let mut lab = Lab::under(conditions);
        let came = peer_sends(&mut lab, &pattern(BYTES));
        assert!(came == pattern(BYTES), "{conditions:?}: {} came", came.len());
        let is_long = lab.device.longest[1] > 2 * 1400;
        assert_eq!(is_long, conditions.offloads.sums_in, "{conditions:?}");
        assert_eq!(lab.refused(), 0);
    }
}

#[test]
fn what_one_lost_frame_costs_is_bounded() {
    let conditions = Conditions { offloads: ALL, mtu: 1400, lose: Some(1500), swap: None };
    let (came, us) = guest_sends(&mut Lab::under(conditions), PEER.into(), pattern(BYTES));
    assert_eq!(came.len(), BYTES);
    assert!(us < 1_000_000, "no retransmission waits for the timer: {us}");
}

/// The MSS of the first segments the guest sent, by family.
fn offered_mss(lab: &Lab) -> Vec<u16> {
    let syns = lab.peer.seen.iter().filter_map(|frame| {
        let transport = Transport::find(frame)?;
        (transport.is_tcp && transport.is_syn(frame)).then(|| transport.mss(frame))?
    });
    syns.map(|(_, mss)| mss).collect()
}

#[test]
fn the_peer_hears_of_the_true_mtu_though_smoltcp_believes_in_another() {
    for offloads in [Offloads::default(), ALL] {
        for (to, mss) in [(IpAddr::from(PEER), 1360), (PEER_V6.into(), 1340)] {
            let mut lab = Lab::under(Conditions { offloads, mtu: 1400, ..PLAIN });
            guest_sends(&mut lab, to, vec![0]);
            assert_eq!(offered_mss(&lab), [mss], "{offloads:?} {to}");
        }
    }
}

/// A frame of TCP over IPv6 from the peer with an MSS option, or to it.
fn syn(port: u16, mss: u16) -> Vec<u8> {
    let mut frame =
        vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 6, 64];
    frame.extend(PEER_V6.octets());
    frame.extend(GUEST_V6.octets());
    frame.extend(port.to_be_bytes());
    frame.extend([0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 6 << 4, 2, 0, 0, 0, 0, 0, 0, 2, 4]);
    frame.extend(mss.to_be_bytes());
    frame
}

/// A long frame of TCP over IPv6 to the peer.
fn long(port: u16) -> Vec<u8> {
    let mut frame =
        vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0, 0x20, 0, 6, 64];
    frame.extend(GUEST_V6.octets());
    frame.extend(PEER_V6.octets());
    frame.extend([0, 7]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, 16, 0, 0, 0, 0, 0, 0]);
    frame.resize(ETHERNET + 40 + 0x2000, 1);
    frame
}

fn offload(offloads: Offloads) -> Offload {
    Offload { offloads, mtu: 1400, small_peers: SmallPeers::default(), long: Cell::new(0) }
}

#[test]
fn a_peer_with_a_small_mss_is_never_sent_more_even_if_it_had_to_be_forgotten() {
    let mut offload = offload(ALL);
    let size = |offload: &Offload, port| {
        let header = offload.leave(&mut long(port), None);
        assert_eq!((header[0], header[1]), (1, 4));
        u16::from_le_bytes([header[4], header[5]])
    };
    let packet = |port, mss| [&[2; 1][..], &[0; HEADER - 1], &syn(port, mss)].concat();
    assert_eq!(size(&offload, 5), 1340);
    for port in 0..64 {
        assert!(offload.takes(&packet(port, 600 + port)));
    }
    assert_eq!((size(&offload, 0), size(&offload, 63), size(&offload, 64)), (600, 663, 1340));
    assert!(offload.takes(&packet(3, 1400)));
    assert_eq!(size(&offload, 3), 1340, "it came back with a large one");
    for port in 64..66 {
        assert!(offload.takes(&packet(port, 900)));
    }
    assert_eq!((size(&offload, 0), size(&offload, 1), size(&offload, 3)), (600, 601, 600));
}

#[test]
fn a_packet_is_believed_if_the_device_vouches_for_it_or_its_checksum_is_right() {
    let mut lab = Lab::new();
    guest_sends(&mut lab, PEER.into(), vec![1; 100]);
    guest_sends(&mut lab, PEER_V6.into(), vec![1; 100]);
    let good: Vec<_> =
        lab.peer.seen.iter().filter(|frame| Transport::find(frame).is_some()).collect();
    assert!(good.len() >= 4);
    for frame in good {
        for (offloads, flags, right, wrong) in [
            (ALL, 0, true, false),
            (ALL, NEEDS_CSUM, true, true),
            (ALL, DATA_VALID, true, true),
            // smoltcp checks then.
            (Offloads::default(), 0, true, true),
        ] {
            let mut header = [0; HEADER];
            header[0] = flags;
            let mut packet = [&header[..], frame].concat();
            assert_eq!(offload(offloads).takes(&packet), right);
            let last = packet.len() - 1;
            packet[last] ^= 1;
            assert_eq!(offload(offloads).takes(&packet), wrong, "{flags}");
        }
    }
}

#[test]
fn a_frame_of_a_wrong_checksum_is_counted_and_reaches_no_program() {
    let mut lab = Lab::under(Conditions { offloads: ALL, ..PLAIN });
    let mut packet = vec![0; HEADER];
    packet.extend(syn(5, 1000));
    lab.device.port.arriving.borrow_mut().push_back(packet);
    lab.turn();
    assert_eq!(lab.refused(), 1);
    assert!(lab.peer.seen.is_empty(), "no answer");
}

#[test]
fn features_that_need_others_are_accepted_with_them_only() {
    let all = Offloads::CSUM
        | Offloads::GUEST_CSUM
        | Offloads::GUEST_TSO
        | Offloads::HOST_TSO
        | Offloads::MERGE
        | Offloads::MAC
        | Offloads::MTU;
    assert_eq!(Offloads::accept(u32::MAX), all);
    assert_eq!(Offloads::of(all), ALL);
    assert_eq!(Offloads::accept(0), 0);
    for (missing, gone) in [
        (Offloads::CSUM, Offloads::CSUM | Offloads::HOST_TSO),
        (1 << 11, Offloads::HOST_TSO),
        (Offloads::GUEST_CSUM, Offloads::GUEST_CSUM | Offloads::GUEST_TSO),
        (Offloads::MERGE, Offloads::MERGE | Offloads::GUEST_TSO),
    ] {
        assert_eq!(Offloads::accept(all & !missing), all & !gone, "{missing:#x}");
    }
}

#[test]
fn whatever_arrives_the_guest_goes_on() {
    bolero::check!().with_type::<(u8, Vec<u8>, Vec<u8>)>().for_each(|(kind, header, rest)| {
        let mut lab = Lab::under(Conditions { offloads: ALL, ..PLAIN });
        // Beginnings that get far, bytes that do not.
        let mut packet: Vec<u8> = header.iter().copied().chain([0; HEADER]).take(HEADER).collect();
        match kind % 4 {
            0 => packet.extend(syn(5, 1000)),
            1 => packet.extend(long(5)),
            2 => packet.extend([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45]),
            _ => {}
        }
        let cut = packet.len() - usize::from(kind >> 2).min(packet.len());
        for (at, byte) in rest.iter().enumerate() {
            match packet.get_mut(cut + at) {
                Some(place) => *place = *byte,
                None => packet.push(*byte),
            }
        }
        lab.device.port.arriving.borrow_mut().push_back(packet);
        lab.turn();
        assert!(lab.device.port.arriving.borrow().is_empty(), "it was taken");
    });
}

#[test]
fn programs_find_the_peer_over_either_family() {
    for (lab, host) in [(Lab::new(), "192.0.2.20"), (Lab::new(), "2001:db8:1::20")] {
        let mut lab = lab;
        let outcome = lab.run(&std::format!("ping {host} -c 2 -i 10"), b"");
        assert_eq!((outcome.status, outcome.errors), (0, String::new()));
        let outcome = lab.run(&std::format!("rtt {host} 7 -n 5 -w 1"), b"");
        assert_eq!((outcome.status, outcome.errors), (0, String::new()));
    }
}

#[test]
fn nothing_leaves_a_space_with_an_ipv6_address_that_was_not_asked_for() {
    let mut lab = Lab::new();
    for _ in 0..50_000 {
        lab.turn();
    }
    assert!(lab.peer.seen.is_empty(), "{:?}", lab.peer.seen);
    let addresses: Vec<_> = lab.net.addresses().collect();
    assert_eq!(addresses, [IpAddr::from(GUEST), GUEST_V6.into()]);
}

#[test]
fn a_closed_connection_says_so_to_its_peer_in_either_mode() {
    for offloads in [Offloads::default(), ALL] {
        let mut lab = Lab::under(Conditions { offloads, ..PLAIN });
        let server = lab.peer.listen(9);
        let net = lab.net.clone();
        lab.executor.spawner().spawn(async move {
            let stream = net.connect((PEER, 9).into(), Windows::PLAIN).await.expect("it listens");
            stream.finish();
            core::future::pending::<()>().await;
        });
        for _ in 0..100 {
            lab.turn();
        }
        assert_eq!(lab.peer.socket(server).state(), tcp::State::CloseWait);
    }
}
