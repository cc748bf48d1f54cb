//! What the switch tells those who ask: lists in parts, counters, copies of packets.

use std::io::{PipeReader, Read};
use std::os::unix::net::UnixListener;

use super::*;
use crate::capture::{Direction, Layer, MAX_SNAPLEN, Record};
use crate::metrics::tests::{pair, space};
use crate::status::{Amount, Page};

/// Pairs of SAs with these inbound SPIs.
fn pairs(spis: std::ops::Range<u32>) -> Vec<crate::overlay::SaPair> {
    spis.flat_map(|spi| overlay_on(4500, spi).sas).collect()
}

#[test]
fn lists_longer_than_a_part_come_whole_and_in_order() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let port = free_port();
        let attached: Vec<_> = (0..40)
            .map(|at| client.attach(&format!("s{at}"), overlay_on(port, 0x2000 + at)).unwrap())
            .collect();
        client.extend("s7", pairs(0x5000..0x5000 + 200)).unwrap();
        let status = client.status().unwrap();
        assert_eq!((status.attached, status.sas), (41, 241));
        let names = status.spaces.iter().skip(1).map(|space| space.space.clone());
        assert!(names.eq((0..40).map(|at| format!("s{at}"))));
        let busy = &status.spaces[8];
        assert_eq!((busy.sas, busy.pairs.len()), (201, 201));
        assert!(busy.pairs.iter().map(|pair| pair.index).eq(0..201));
        assert_eq!(busy.pairs[200].inbound.spi, 0x5000 + 199);
        assert_eq!(busy.policies.len(), 201);
        assert_eq!(client.overview().unwrap().spaces[8].pairs, []);
        assert_eq!(client.space("s7").unwrap().unwrap(), *busy);
        assert_eq!(client.space("s70").unwrap(), None);
        assert!(client.each_pair("s70", |_| {}).is_err());
        let mut text = String::new();
        client.metrics(|part| text.push_str(part)).unwrap();
        let samples = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(samples("portspace_sa_packets_total{"), 2 * 241);
        assert_eq!((samples("portspace_space_info{"), samples("# EOF")), (41, 1));
        drop(attached);
    });
}

#[test]
fn a_part_of_a_list_fits_a_message_however_much_was_counted() {
    let most = u64::MAX;
    let amount = Amount { packets: most, bytes: most };
    let drops = |length: usize| (0..length).map(|at| (format!("a_long_reason_{at}"), most));
    let mut worst = space(&"\u{1}".repeat(64));
    (worst.received, worst.sent, worst.held) = (amount, amount, most);
    (worst.first_answer_ns, worst.last_answer_ns) = (Some(most), Some(most));
    worst.drops = drops(24).collect();
    worst.offloads = vec!["guest_tso4".into(); 16];
    worst.addresses = vec!["ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe".parse().unwrap(); 2];
    let mut pair = pair(most >> 2);
    pair.inbound.drops = drops(24).collect();
    for number in [&mut pair.inbound.packets, &mut pair.inbound.bytes, &mut pair.outbound.bytes] {
        *number = most;
    }
    let length = |value: serde_json::Value| value.to_string().len();
    let items = report::PART;
    let spaces = Page { items: vec![worst; items], next: Some(most) };
    assert!(length(serde_json::to_value(spaces).unwrap()) < sys::seqpacket::MAX_MESSAGE - 64);
    let pairs = Page { items: vec![pair; items], next: Some(most) };
    assert!(length(serde_json::to_value(pairs).unwrap()) < sys::seqpacket::MAX_MESSAGE - 64);
}

#[test]
fn who_captures_sees_what_the_guest_and_the_wire_see() {
    with_switch(|control| {
        let client = Client::connect(control).unwrap();
        let (mut peer, overlay) = Peer::new(free_port(), 0x1001);
        let mut guest = Guest::new(client.attach("red", overlay).unwrap());
        let inner = client.capture("red", Layer::Inner, MAX_SNAPLEN).unwrap();
        let outer = client.capture("red", Layer::Outer, 64).unwrap();
        let of_another = client.capture("keeper", Layer::Outer, 64).unwrap();
        assert!(client.capture("nobody", Layer::Inner, 64).is_err());
        let (out, back) = (packet(HERE, THERE, 600), packet(THERE, HERE, 500));
        guest.send_packet(&out);
        let mut wire = Vec::new();
        eventually(|| {
            wire.extend(peer.receive());
            !wire.is_empty()
        });
        peer.send(&back);
        guest.expect_frame();
        client.detach("red").unwrap();
        client.detach("keeper").unwrap();

        let read = |pipe: OwnedFd| {
            let mut bytes = Vec::new();
            PipeReader::from(pipe).read_to_end(&mut bytes).unwrap();
            bytes
        };
        let inner = read(inner);
        let mut rest = &inner[..];
        let [first, second] = [(); 2].map(|()| Record::take(&mut rest).unwrap().unwrap());
        assert_eq!((first.direction, first.packet), (Direction::Out, &out[..]));
        assert_eq!((second.direction, &second.packet[20..]), (Direction::In, &back[20..]));
        assert!(rest.is_empty() && first.time_ns <= second.time_ns);

        let outer = read(outer);
        let mut rest = &outer[..];
        let [first, second] = [(); 2].map(|()| Record::take(&mut rest).unwrap().unwrap());
        assert_eq!(
            (first.direction, first.original as usize),
            (Direction::Out, 28 + wire[0].0.len())
        );
        assert_eq!((first.packet.len(), &first.packet[28..]), (64, &wire[0].0[..36]));
        assert_eq!(first.packet[12..20], [HERE.octets(), THERE.octets()].concat());
        assert_eq!(second.packet[12..20], [THERE.octets(), HERE.octets()].concat());
        // Sealed, as it came: not what was made of it in place.
        assert_eq!(second.packet[28..32], 0x1001_u32.to_be_bytes());
        assert_ne!(second.packet[44..64], back[20..40]);
        assert!(rest.is_empty() && read(of_another).is_empty());
    });
}

#[test]
fn a_plugged_space_outlives_its_front_ends_and_not_its_client() {
    with_switch(|control| {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("red.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let client = Client::connect(control).unwrap();
        let asker = Client::connect(control).unwrap();
        let overlay = overlay_on(free_port(), 0x1001);
        client.plug("red", overlay, std::os::fd::AsFd::as_fd(&listener)).unwrap();
        let machine = || asker.space("red").unwrap().map(|space| space.machine);
        for _ in 0..3 {
            let front_end = UnixStream::connect(&socket).unwrap();
            eventually(|| machine() == Some(crate::status::Machine::Foreign));
            // A second one is not taken: it is hung up on.
            let mut second = UnixStream::connect(&socket).unwrap();
            assert_eq!(second.read(&mut [0]).unwrap(), 0);
            drop(front_end);
            eventually(|| machine() == Some(crate::status::Machine::Awaited));
        }
        drop(client);
        eventually(|| machine().is_none());
    });
}
