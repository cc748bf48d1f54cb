//! What the guest may put on the wire: ESP to its peer, whatever it sends.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cli::lab::capture::{Capture, Counts};
use cli::lab::{A, Lab, Peer};
use switch::frame::{Mac, SWITCH};
use switch::overlay::Cipher;
use tests::{Space, eventually, in_hex};

use crate::frames::{
    ARP, EVERYBODY, ICMP, ICMPV6, IPV4, IPV6, OTHER, TCP, UDP, arp, datagram, dhcp, discovery,
    ethernet, ip, ip6, lies, long_segment, net_header, solicited, tcp_syn, udp, with, with_options,
};

/// What becomes of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// It is counted under this reason.
    Dropped(&'static str),
    /// The switch answers the guest.
    Answered,
    /// It leaves as so many ESP packets.
    Sealed(u64),
}

/// A frame of the guest.
pub(crate) struct Case {
    /// What is special about it.
    pub(crate) words: &'static str,
    /// Its virtio-net header, if it is not plain.
    pub(crate) header: Option<Vec<u8>>,
    pub(crate) frame: Vec<u8>,
    pub(crate) fate: Fate,
}

impl Case {
    pub(crate) fn new(words: &'static str, frame: Vec<u8>, fate: Fate) -> Case {
        Case { words, header: None, frame, fate }
    }

    /// One of those that are dropped.
    pub(crate) fn dropped(words: &'static str, frame: Vec<u8>, reason: &'static str) -> Case {
        Case::new(words, frame, Fate::Dropped(reason))
    }
}

pub(crate) fn nothing_but_esp_leaves(lab: &Lab) {
    the_capture_is_awake(lab);
    let counts = captured(lab, 4500, || {
        let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc256, None);
        let mac = red.switch().mac;
        let own: [fn(Mac) -> Vec<Case>; 5] =
            [ip_cases, broken_ip_cases, ethernet_cases, arp_cases, offload_cases];
        for cases in own {
            judge(&red, cases(mac));
        }
        judge(&red, lying_headers(mac, A, Peer::B.address()));
        let expected = red.drops();
        assert!(red.run(&["ping", "192.0.2.20", "-c", "1"]).ok(), "the space still works");
        assert_eq!(red.drops(), expected, "an ordinary packet is not dropped");
    });
    assert_eq!((counts.foreign, counts.first_foreign), (0, None));
    assert!(counts.esp > 0);
}

/// Counts what passes between A and its peers while `work` goes on; ESP is in UDP of this port, or
/// raw if it is 0.
pub(crate) fn captured(lab: &Lab, port: u16, work: impl FnOnce()) -> Counts {
    let capture = lab.a.run(|| Capture::start(&Peer::ALL, port)).unwrap().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let counting = scope.spawn(|| capture.count(&stop));
        let stopping = Raise(&stop);
        work();
        drop(stopping);
        counting.join().unwrap()
    })
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

/// Lets the guest send each frame: it must have its own fate, and no other.
pub(crate) fn judge(red: &Space<'_>, cases: Vec<Case>) {
    let seen = || (red.drops(), red.switch().pairs[0].outbound.packets);
    let (mut drops, mut sealed) = seen();
    for Case { words, header, frame, fate } in cases {
        let (header, frame) = (header.map(|header| in_hex(&header)), in_hex(&frame));
        let sent = match &header {
            Some(header) => red.run(&["raw", "-g", header, &frame]),
            None => red.run(&["raw", &frame]),
        };
        assert!(sent.ok(), "{words}: {}", sent.why());
        match fate {
            Fate::Dropped(reason) => *drops.entry(reason.to_owned()).or_default() += 1,
            Fate::Sealed(packets) => sealed += packets,
            Fate::Answered => {}
        }
        eventually(&format!("{words}: {drops:?}, {sealed} sealed, not {:?}", seen()), || {
            seen() == (drops.clone(), sealed)
        });
    }
}

/// Whole IPv4 packets that are not the space's to send.
fn ip_cases(mac: Mac) -> Vec<Case> {
    let [b, c] = [Peer::B.address(), Peer::C.address()];
    let to_switch = |packet: Vec<u8>| ethernet(SWITCH, mac, IPV4, &packet);
    let syn = |source, destination| to_switch(ip(source, destination, TCP, &tcp_syn()));
    let udp_to = |destination| ip(A, destination, UDP, &datagram());
    let fragment = |field: u16| to_switch(with(udp_to(b), 6, &field.to_be_bytes()));
    let to_all = |packet: &[u8]| ethernet(EVERYBODY, mac, IPV4, packet);
    let dhcp = dhcp(mac);
    [
        ("another source", syn(OTHER, b), "foreign_source"),
        ("the peer as source", syn(b, A), "foreign_source"),
        ("no source", syn(Ipv4Addr::UNSPECIFIED, b), "foreign_source"),
        ("loopback as source", syn(Ipv4Addr::LOCALHOST, b), "foreign_source"),
        ("another space's peer", syn(A, c), "policy"),
        ("anybody else", syn(A, OTHER), "policy"),
        ("the host itself", syn(A, A), "policy"),
        ("the host's loopback", syn(A, Ipv4Addr::LOCALHOST), "policy"),
        ("the link's broadcast", syn(A, Ipv4Addr::new(192, 0, 2, 255)), "policy"),
        ("an IPv4 multicast", to_switch(udp_to(Ipv4Addr::new(224, 0, 0, 1))), "multicast"),
        ("an IPv4 broadcast", to_switch(udp_to(Ipv4Addr::BROADCAST)), "multicast"),
        ("DHCP to everybody", to_all(&dhcp), "multicast"),
        ("DHCP to the switch", to_switch(dhcp), "foreign_source"),
        ("DHCP to a server", to_switch(ip(A, OTHER, UDP, &udp(68, 67, &[1; 240]))), "policy"),
        ("a first fragment", fragment(0x2000), "fragment"),
        ("a middle fragment", fragment(0x2010), "fragment"),
        ("a last fragment", fragment(0x0010), "fragment"),
        ("a packet longer than the MTU", to_switch(ip(A, b, ICMP, &[8; 1480])), "too_big"),
        ("a packet of 30 kB", to_switch(ip(A, b, UDP, &udp(7, 7, &[8; 30_000]))), "too_big"),
        ("IPv4 options", to_switch(with_options(udp_to(b))), "options"),
    ]
    .map(|(words, frame, reason)| Case::dropped(words, frame, reason))
    .into()
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
    .map(|(words, frame)| Case::dropped(words, frame, "malformed"))
    .into()
}

fn ethernet_cases(mac: Mac) -> Vec<Case> {
    let packet = ip(A, Peer::B.address(), UDP, &datagram());
    let to_switch = |kind, rest: &[u8]| ethernet(SWITCH, mac, kind, rest);
    let from = |source| ethernet(SWITCH, source, IPV4, &packet);
    let to = |destination| ethernet(destination, mac, IPV4, &packet);
    let [own, far] = [1, 0x14].map(|last| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last));
    let (group, group_mac) = solicited(far);
    let solicitation = discovery(135, own, group, far);
    let echo = ip6(own, far, ICMPV6, &[128, 0, 0, 0, 0, 0, 0, 1]);
    // A hop-by-hop option for every router, from nowhere (RFC 8200).
    let hop = ip6(Ipv6Addr::UNSPECIFIED, group, 0, &[0; 8]);
    let tagged = [&[0, 1, 0x08, 0x00][..], &packet].concat();
    let twice = [&[0, 1, 0x81, 0x00][..], &tagged].concat();
    let igmp = ip(A, Ipv4Addr::new(224, 0, 0, 1), 2, &[0x11, 0, 0xee, 0xff, 0, 0, 0, 0]);
    [
        ("another source MAC", from([2, 0x11, 0x22, 0x33, 0x44, 0x55]), "foreign_mac"),
        ("the switch's MAC as source", from(SWITCH), "foreign_mac"),
        ("B's MAC as source", from(Peer::B.macs()[1]), "foreign_mac"),
        ("everybody as source", from(EVERYBODY), "foreign_mac"),
        ("an Ethernet broadcast", to(EVERYBODY), "multicast"),
        ("IGMP to all hosts", ethernet([1, 0, 0x5e, 0, 0, 1], mac, IPV4, &igmp), "multicast"),
        ("neighbour discovery", ethernet(group_mac, mac, IPV6, &solicitation), "neighbour"),
        ("neighbour discovery to the switch", to_switch(IPV6, &solicitation), "neighbour"),
        ("an IPv6 multicast", ethernet(group_mac, mac, IPV6, &hop), "multicast"),
        ("IPv6 of a space that has none", to_switch(IPV6, &echo), "foreign_source"),
        ("a VLAN tag", to_switch(0x8100, &tagged), "ether_type"),
        ("two VLAN tags", to_switch(0x88a8, &twice), "ether_type"),
        ("LLDP", to_switch(0x88cc, &[2, 7]), "ether_type"),
        ("an 802.3 length", to_switch(46, &[0; 46]), "ether_type"),
    ]
    .map(|(words, frame, reason)| Case::dropped(words, frame, reason))
    .into()
}

fn arp_cases(mac: Mac) -> Vec<Case> {
    let [b, c] = [Peer::B.address(), Peer::C.address()];
    let question = |target| arp(mac, 1, (mac, A), target);
    let answered = [
        ("ARP for the peer", question(b)),
        ("ARP for another space's peer", question(c)),
        ("ARP for anybody", question(OTHER)),
    ];
    let dropped = [
        ("ARP for its own address", question(A)),
        ("ARP for nobody", question(Ipv4Addr::UNSPECIFIED)),
        ("ARP for everybody", question(Ipv4Addr::BROADCAST)),
        ("gratuitous ARP for the peer's address", arp(mac, 1, (mac, b), b)),
        ("an ARP answer in the peer's name", arp(mac, 2, (mac, b), A)),
        ("an ARP answer", arp(mac, 2, (mac, A), b)),
        ("ARP from another MAC", arp(mac, 1, ([2; 6], A), b)),
        ("ARP without its end", question(b)[..41].to_vec()),
        ("ARP of three bytes", ethernet(EVERYBODY, mac, ARP, &[0, 1, 8])),
    ];
    let answered = answered.map(|(words, frame)| Case::new(words, frame, Fate::Answered));
    let dropped = dropped.map(|(words, frame)| Case::dropped(words, frame, "neighbour"));
    answered.into_iter().chain(dropped).collect()
}

/// Honest frames, alone and for segmentation.
fn offload_cases(mac: Mac) -> Vec<Case> {
    let b = Peer::B.address();
    let (header, frame) = long_segment(mac, A, b);
    let small = ethernet(SWITCH, mac, IPV4, &ip(A, b, UDP, &datagram()));
    let wide = Some(net_header(1, 1, 3000, 34, 16));
    vec![
        Case::new("a datagram", small.clone(), Fate::Sealed(1)),
        Case {
            words: "a datagram with its checksum to be filled in",
            header: Some(net_header(1, 0, 0, 34, 6)),
            frame: small,
            fate: Fate::Sealed(1),
        },
        Case {
            words: "segments longer than the MTU, which are made to fit",
            header: wide,
            frame: frame.clone(),
            fate: Fate::Sealed(3),
        },
        Case { words: "a long segment", header: Some(header), frame, fate: Fate::Sealed(4) },
    ]
}

/// Frames whose virtio-net headers lie.
pub(crate) fn lying_headers(mac: Mac, own: Ipv4Addr, far: Ipv4Addr) -> Vec<Case> {
    let case = |(words, header, frame)| Case {
        words,
        header: Some(header),
        frame,
        fate: Fate::Dropped("offload"),
    };
    lies(mac, own, far).into_iter().map(case).collect()
}
