//! Where the peer is, and that a NAT on the way remembers it.

use std::net::SocketAddr;

use super::*;

const SECOND_NS: u64 = 1_000_000_000;

fn moved(route: Route, to: &str) -> Route {
    Route { from: to.parse().unwrap(), ..route }
}

#[test]
fn the_peer_is_where_its_newest_authentic_packet_came_from() {
    let (mut ours, mut theirs) = ends(Cipher::AesCbc128);
    let peer = |tunnels: &Tunnels| tunnels.get(0).unwrap().peer();
    let home: SocketAddr = (B, 4500).into();
    let mut packets = (0..4).map(|_| sealed(&mut theirs, &packet(B, A, 20))).collect::<Vec<_>>();
    let (route, newest) = packets.pop().unwrap();
    let (_, held_back) = packets.pop().unwrap();
    let (_, first) = packets.remove(0);
    assert!(open(&mut ours, &route, &first).is_some());
    assert!(open(&mut ours, &moved(route, "198.51.100.1:1"), &first).is_none());
    assert_eq!(peer(&ours), home, "a replayed packet moves nobody");
    let mut forged = newest.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert!(open(&mut ours, &moved(route, "198.51.100.2:2"), &forged).is_none());
    assert_eq!(peer(&ours), home, "a forged packet moves nobody");
    assert!(open(&mut ours, &moved(route, "198.51.100.3:3"), &newest).is_some());
    assert_eq!(peer(&ours), "198.51.100.3:3".parse().unwrap());
    assert!(open(&mut ours, &moved(route, "198.51.100.4:4"), &held_back).is_some());
    assert_eq!(peer(&ours), "198.51.100.3:3".parse().unwrap(), "an old packet moves nobody");
    let (back, _) = sealed(&mut ours, &packet(A, B, 20));
    assert_eq!((back.from, back.to), ((A, 4500).into(), peer(&ours)));
    assert_eq!(ours.get(0).unwrap().remote(), IpAddr::from(B), "inside it is called as ever");
}

#[test]
fn raw_esp_has_no_ports_and_is_not_taken_from_udp() {
    let (mut ours, mut theirs) = (plain((A, 0x1001), (B, 0x2001)), plain((B, 0x2001), (A, 0x1001)));
    ours.encapsulation = Encapsulation::Raw;
    theirs.encapsulation = Encapsulation::Raw;
    let (mut ours, mut theirs) = both(ours, theirs);
    let (route, wire) = sealed(&mut ours, &packet(A, B, 20));
    assert_eq!((route.from, route.to), ((A, 0).into(), (B, 0).into()));
    assert!(route.is_raw());
    let in_udp = Route { to: (B, 4500).into(), ..route };
    assert!(open(&mut theirs, &in_udp, &wire).is_none());
    assert_eq!(theirs.get(0).unwrap().drops.of(Reason::ForeignPeer), 1);
    assert!(open(&mut theirs, &route, &wire).is_some());
    // Of what is not ESP there is nothing on a raw socket, keepalives included.
    assert!(open(&mut theirs, &route, &[0xff]).is_none());
    assert_eq!(theirs.strays.of(Reason::NotEsp), 1);
}

/// A tunnel that keeps its NAT's mapping alive after so many seconds of silence.
fn kept(spi: u32, peer: Ipv4Addr, keepalive_s: u16) -> Overlay {
    Overlay { keepalive_s, ..plain((A, spi), (peer, spi + 0x1000)) }
}

/// Where keepalives went at a time, and when the next are due.
fn keep_alive(tunnels: &mut Tunnels, now_ns: u64) -> (Vec<SocketAddr>, u64) {
    let mut batch = Batch::default();
    let kept = tunnels.keep_alive(now_ns, &mut batch);
    assert_eq!(kept.sent as usize, batch.len());
    assert!(batch.packets().all(|(_, bytes)| bytes == esp::natt::KEEPALIVE));
    let mut peers: Vec<_> = batch.packets().map(|(route, _)| route.to).collect();
    peers.sort();
    (peers, kept.due_ns)
}

#[test]
fn a_silent_peer_gets_one_keepalive_however_many_sas_lead_there() {
    let mut tunnels = Tunnels::default();
    assert_eq!(keep_alive(&mut tunnels, 0), (vec![], u64::MAX));
    for overlay in [kept(0x1001, B, 20), kept(0x1002, B, 30), kept(0x1003, C, 20)] {
        add(&mut tunnels, overlay).unwrap();
    }
    add(&mut tunnels, kept(0x1004, Ipv4Addr::new(192, 0, 2, 40), 0)).unwrap();
    let mut raw = kept(0x1005, Ipv4Addr::new(192, 0, 2, 50), 20);
    raw.encapsulation = Encapsulation::Raw;
    add(&mut tunnels, raw).unwrap();
    let (b, c): (SocketAddr, SocketAddr) = ((B, 4500).into(), (C, 4500).into());
    assert_eq!(keep_alive(&mut tunnels, 20 * SECOND_NS - 1), (vec![], 20 * SECOND_NS));
    assert_eq!(keep_alive(&mut tunnels, 20 * SECOND_NS), (vec![b, c], 40 * SECOND_NS));
    assert_eq!(keep_alive(&mut tunnels, 20 * SECOND_NS), (vec![], 40 * SECOND_NS));
    // Whichever SA carries something: that peer's mapping is fresh.
    let outgoing = packet(A, B, 20);
    let outgoing = Outgoing {
        head: &mut outgoing.clone(),
        total: outgoing.len(),
        offload: Offload::default(),
        rest: |_: &mut [u8]| {},
    };
    tunnels.seal(1, outgoing, &mut Batch::default(), 35 * SECOND_NS).unwrap();
    assert_eq!(keep_alive(&mut tunnels, 40 * SECOND_NS), (vec![c], 55 * SECOND_NS));
    assert_eq!(keep_alive(&mut tunnels, 55 * SECOND_NS), (vec![b], 60 * SECOND_NS));
}
