//! What the guest may send through a tunnel: packets of its own inner addresses, of both families,
//! to what is behind its peer; on the wire there is raw ESP alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use cli::lab::network::{Endpoint, Keys};
use cli::lab::service::Service;
use cli::lab::{A, Lab, Peer};
use switch::frame::{Mac, SWITCH};
use switch::overlay::Encapsulation;
use tests::{Space, eventually, run};

use crate::frames::{
    EVERYBODY, ICMP, ICMPV6, IPV4, IPV6, OTHER, TCP, UDP, arp, datagram, dhcp, discovery, ethernet,
    ip, ip6, long_segment, net_header, packet, solicited, tcp, udp, with, with_options,
};
use crate::wire::{Case, Fate, captured, judge, lying_headers};

const OWN: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 5);
const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 5);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 7);
const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 7);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 7);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 5);
const ALL_NODES: (Ipv6Addr, Mac) =
    (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), [0x33, 0x33, 0, 0, 0, 1]);

pub(crate) fn nothing_but_esp_leaves(lab: &Lab) {
    // Where this machine does without IPv6, the peer's new devices would too.
    let setting = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    lab.peer(Peer::B).run(|| std::fs::write(setting, "0")).unwrap().unwrap();
    let counts = captured(lab, 0, || {
        let (red, _bare) = up(lab);
        let mac = red.switch().mac;
        let own: [fn(Mac) -> Vec<Case>; 5] =
            [ipv4_cases, ipv6_cases, link_cases, discovery_cases, large_cases];
        for cases in own {
            judge(&red, cases(mac));
        }
        judge(&red, lying_headers(mac, OWN, FAR));
        for far in [IpAddr::from(FAR), FAR6.into()] {
            assert!(red.run(&["ping", &far.to_string(), "-c", "1"]).ok(), "{far} still answers");
        }
    });
    assert_eq!((counts.foreign, counts.first_foreign), (0, None));
    assert!(counts.esp > 0);
}

/// A space with an address of each family, and its peer, which answers with both.
fn up(lab: &Lab) -> (Space<'_>, Service) {
    let red = Space::named(lab, "red", Peer::B);
    let b = lab.peer(Peer::B);
    let [near, far] = [A, b.address].map(|address| Endpoint { address, port: 4500 });
    let keys = Keys::fresh("aes-cbc-256+hmac-sha256".parse().unwrap(), 0x7100).unwrap();
    let [own, behind] = [OWN, FAR].map(|address| address.to_string().parse().unwrap());
    let keys = keys.tunnel(own, behind).encapsulation(Encapsulation::Raw);
    keys.write_near(&red.file, near, far, None).unwrap();
    keys.write_far(&red.far_file, near, far).unwrap();
    // The second family.
    for file in [&red.file, &red.far_file] {
        let mut text = std::fs::read_to_string(file).unwrap();
        for (v4, v6) in [(OWN, OWN6), (FAR, FAR6)] {
            text = text.replace(&format!("[\"{v4}\"]"), &format!("[\"{v4}\", \"{v6}\"]"));
        }
        std::fs::write(file, text).unwrap();
    }
    let bare = b.portspace(&["bare", red.far_file.to_str().unwrap()]);
    let bare = Service::start(b, "bare IPsec", bare).unwrap();
    red.start();
    for far in [IpAddr::from(FAR), FAR6.into()] {
        let far = far.to_string();
        eventually("the peer answers", || {
            run(lab, &["run", red.name, "--", "ping", &far, "-c", "1"]).ok()
        });
    }
    (red, bare)
}

fn ipv4_cases(mac: Mac) -> Vec<Case> {
    let to_switch = |packet: Vec<u8>| ethernet(SWITCH, mac, IPV4, &packet);
    let of = |source, destination| ip(source, destination, UDP, &datagram());
    let good = of(OWN, FAR);
    let fragment = |field: u16| to_switch(with(good.clone(), 6, &field.to_be_bytes()));
    let mut cases: Vec<Case> = [
        ("the host's own address as source", to_switch(of(A, FAR)), "foreign_source"),
        ("the peer's inner address as source", to_switch(of(FAR, OWN)), "foreign_source"),
        ("no source", to_switch(of(Ipv4Addr::UNSPECIFIED, FAR)), "foreign_source"),
        ("the peer itself", to_switch(of(OWN, Peer::B.address())), "policy"),
        ("the host itself", to_switch(of(OWN, A)), "policy"),
        ("its own address", to_switch(of(OWN, OWN)), "policy"),
        (
            "what is beside the remote range",
            to_switch(of(OWN, Ipv4Addr::new(10, 2, 0, 8))),
            "policy",
        ),
        ("anybody else", to_switch(of(OWN, OTHER)), "policy"),
        ("the loopback", to_switch(of(OWN, Ipv4Addr::LOCALHOST)), "policy"),
        ("a multicast", to_switch(of(OWN, Ipv4Addr::new(224, 0, 0, 251))), "multicast"),
        ("DHCP", ethernet(EVERYBODY, mac, IPV4, &dhcp(mac)), "multicast"),
        ("DHCP to the switch", to_switch(dhcp(mac)), "foreign_source"),
        ("a truncated packet", to_switch(good[..27].to_vec()), "malformed"),
        ("a length beyond the frame", to_switch(with(good.clone(), 2, &[4, 0])), "malformed"),
        ("too long a packet", to_switch(ip(OWN, FAR, ICMP, &[8; 1480])), "too_big"),
    ]
    .map(|(words, frame, reason)| Case::dropped(words, frame, reason))
    .into();
    // A tunnel carries whole packets: whatever is in them is the two ends' own matter.
    cases.extend([
        Case::new("a datagram", to_switch(good.clone()), Fate::Sealed(1)),
        Case::new("options", to_switch(with_options(good.clone())), Fate::Sealed(1)),
        Case::new("a first fragment", fragment(0x2000), Fate::Sealed(1)),
        Case::new("a last fragment", fragment(0x0010), Fate::Sealed(1)),
    ]);
    cases
}

fn ipv6_cases(mac: Mac) -> Vec<Case> {
    let to_switch = |packet: Vec<u8>| ethernet(SWITCH, mac, IPV6, &packet);
    let of = |source, destination| ip6(source, destination, UDP, &datagram());
    let extended = |first: u8, headers: &[u8]| {
        to_switch(ip6(OWN6, FAR6, first, &[headers, &datagram()].concat()))
    };
    let good = of(OWN6, FAR6);
    let mut longer = good.clone();
    longer[4..6].copy_from_slice(&1000_u16.to_be_bytes());
    let mapped = A.to_ipv6_mapped();
    let mut cases: Vec<Case> = [
        ("another source", to_switch(of(OTHER6, FAR6)), "foreign_source"),
        ("a link-local source", to_switch(of(LINK_LOCAL, FAR6)), "foreign_source"),
        ("no source", to_switch(of(Ipv6Addr::UNSPECIFIED, FAR6)), "foreign_source"),
        ("the loopback as source", to_switch(of(Ipv6Addr::LOCALHOST, FAR6)), "foreign_source"),
        ("a mapped source", to_switch(of(mapped, FAR6)), "foreign_source"),
        ("a mapped destination", to_switch(of(OWN6, mapped)), "policy"),
        ("anybody else", to_switch(of(OWN6, OTHER6)), "policy"),
        ("the loopback", to_switch(of(OWN6, Ipv6Addr::LOCALHOST)), "policy"),
        ("a multicast to the switch", to_switch(of(OWN6, ALL_NODES.0)), "multicast"),
        ("a multicast", ethernet(ALL_NODES.1, mac, IPV6, &of(OWN6, ALL_NODES.0)), "multicast"),
        ("half a header", to_switch(good[..20].to_vec()), "malformed"),
        ("a length beyond the frame", to_switch(longer), "malformed"),
        ("a routing header", extended(43, &[UDP, 0, 0, 1, 0, 0, 0, 0]), "options"),
        ("an extension without an end", extended(60, &[UDP, 200, 1, 4, 0, 0, 0, 0]), "malformed"),
        ("too long a packet", to_switch(ip6(OWN6, FAR6, ICMPV6, &[128; 1480])), "too_big"),
    ]
    .map(|(words, frame, reason)| Case::dropped(words, frame, reason))
    .into();
    cases.extend([
        Case::new("a datagram", to_switch(good), Fate::Sealed(1)),
        Case::new("a hop-by-hop option", extended(0, &[UDP, 0, 1, 4, 0, 0, 0, 0]), Fate::Sealed(1)),
        Case::new("a fragment", extended(44, &[UDP, 0, 0, 1, 0, 0, 0, 9]), Fate::Sealed(1)),
    ]);
    cases
}

fn link_cases(mac: Mac) -> Vec<Case> {
    let good = ip6(OWN6, FAR6, UDP, &datagram());
    let tagged = [&[0, 7][..], &IPV6.to_be_bytes(), &good].concat();
    let twice = [&[0, 7, 0x81, 0x00][..], &tagged].concat();
    [
        ("a VLAN tag", ethernet(SWITCH, mac, 0x8100, &tagged), "ether_type"),
        ("two VLAN tags", ethernet(SWITCH, mac, 0x88a8, &twice), "ether_type"),
        ("MPLS", ethernet(SWITCH, mac, 0x8847, &good), "ether_type"),
        ("another source MAC", ethernet(SWITCH, [2; 6], IPV6, &good), "foreign_mac"),
        ("an Ethernet broadcast", ethernet(EVERYBODY, mac, IPV6, &good), "multicast"),
    ]
    .map(|(words, frame, reason)| Case::dropped(words, frame, reason))
    .into()
}

fn discovery_cases(mac: Mac) -> Vec<Case> {
    let ask = |from, target| {
        let (group, group_mac) = solicited(target);
        ethernet(group_mac, mac, IPV6, &discovery(135, from, group, target))
    };
    let to_all = |kind| ethernet(ALL_NODES.1, mac, IPV6, &discovery(kind, OWN6, ALL_NODES.0, OWN6));
    let to_far = |kind| ethernet(SWITCH, mac, IPV6, &discovery(kind, OWN6, FAR6, FAR6));
    // Multicast listener report (RFC 3810), and DHCP's solicitation (RFC 8415).
    let report =
        ip6(LINK_LOCAL, ALL_NODES.0, 0, &[ICMPV6, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0, 0, 0, 0, 0]);
    let servers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
    let dhcp6 = ip6(LINK_LOCAL, servers, UDP, &udp(546, 547, &[1, 0, 0, 1]));
    let dropped = [
        ("a search for duplicates of its address", ask(Ipv6Addr::UNSPECIFIED, OWN6), "neighbour"),
        ("a solicitation from another source", ask(OTHER6, FAR6), "neighbour"),
        ("a router solicitation", to_all(133), "neighbour"),
        ("a router advertisement", to_all(134), "neighbour"),
        ("a neighbour advertisement", to_all(136), "neighbour"),
        ("an advertisement to the far end", to_far(136), "neighbour"),
        ("a redirect of the far end", to_far(137), "neighbour"),
        (
            "a multicast listener report",
            ethernet([0x33, 0x33, 0, 0, 0, 0x16], mac, IPV6, &report),
            "multicast",
        ),
        ("DHCPv6", ethernet([0x33, 0x33, 0, 1, 0, 2], mac, IPV6, &dhcp6), "multicast"),
        ("DHCPv6 to the switch", ethernet(SWITCH, mac, IPV6, &dhcp6), "foreign_source"),
        ("ARP for its own address", arp(mac, 1, (mac, OWN), OWN), "neighbour"),
        ("ARP in the host's name", arp(mac, 1, (mac, A), FAR), "neighbour"),
    ]
    .map(|(words, frame, reason)| Case::dropped(words, frame, reason));
    let answered = [
        ("a solicitation for the far end", ask(OWN6, FAR6)),
        ("a solicitation for anybody", ask(LINK_LOCAL, OTHER6)),
        ("ARP for the far end", arp(mac, 1, (mac, OWN), FAR)),
        ("ARP for the peer", arp(mac, 1, (mac, OWN), Peer::B.address())),
    ]
    .map(|(words, frame)| Case::new(words, frame, Fate::Answered));
    dropped.into_iter().chain(answered).collect()
}

/// Long segments of both families, and a packet of another than its header says.
fn large_cases(mac: Mac) -> Vec<Case> {
    let (header, v4) = long_segment(mac, OWN, FAR);
    let segment = packet(OWN6.into(), FAR6.into(), TCP, &tcp(0x10, &[0x55; 4000]));
    let v6 = ethernet(SWITCH, mac, IPV6, &segment);
    let case = |words, header, frame, fate| Case { words, header: Some(header), frame, fate };
    let offload = Fate::Dropped("offload");
    vec![
        case("a long segment", header, v4.clone(), Fate::Sealed(4)),
        case("a long segment of IPv6", net_header(1, 4, 1000, 54, 16), v6.clone(), Fate::Sealed(4)),
        case("IPv6 as TCP over IPv4", net_header(1, 1, 1000, 54, 16), v6.clone(), offload),
        case("an offset of IPv4 in IPv6", net_header(1, 4, 1000, 34, 16), v6.clone(), offload),
        case("segments that are made to fit", net_header(1, 4, 3000, 54, 16), v6, Fate::Sealed(3)),
    ]
}
