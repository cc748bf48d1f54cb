//! A hostile peer: the test has the peer's keys, and does its worst with them and without.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

use cli::config::Config;
use cli::lab::{A, Host, Lab, Peer};
use esp::{Keys, OutboundSa, Parameters, Spi};
use serde_json::json;
use switch::overlay::{Cipher, Key, Overlay, Sa, Suite};
use tests::{Space, eventually};

use crate::frames::{ICMP, TCP, UDP, echo_request, ip, tcp_syn};

const IPV4: u8 = 4;
const IPV6: u8 = 41;
const NO_NEXT_HEADER: u8 = 59;

/// One end of UDP encapsulation, in the test's hands.
struct Wire(UdpSocket);

impl Wire {
    fn on(host: &Host) -> Wire {
        let socket = host.run(|| UdpSocket::bind((host.address, 4500))).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Wire(socket)
    }

    fn send(&self, datagram: &[u8]) {
        self.0.send_to(datagram, (A, 4500)).unwrap();
    }

    /// What comes, if something does soon.
    fn hear(&self) -> Option<Vec<u8>> {
        let mut room = [0; 2048];
        self.0.recv(&mut room).ok().map(|length| room[..length].to_vec())
    }
}

/// The peer's outbound SA.
struct Sealer(OutboundSa);

impl Sealer {
    fn of(sa: Sa) -> Sealer {
        let keys = Keys::new(sa.suite, sa.cipher_key.into_bytes(), sa.auth_key.into_bytes());
        let spi = Spi::new(sa.spi).unwrap();
        Sealer(OutboundSa::new(spi, keys.unwrap(), [7; 16], Parameters::default()))
    }

    fn of_file(file: &Path) -> Sealer {
        let mut overlay = Config::read(file, None).unwrap().overlay;
        Sealer::of(overlay.sas.remove(0).outbound)
    }

    fn seal(&mut self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; self.0.headroom()];
        packet.extend_from_slice(payload);
        self.0.seal(protocol, &mut packet, 0).unwrap();
        packet
    }
}

pub(crate) fn nothing_bad_gets_in(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::AesCbc256, None);
    red.start();
    let (b, c) = (Wire::on(lab.peer(Peer::B)), Wire::on(lab.peer(Peer::C)));
    let mut sealer = Sealer::of_file(&red.far_file);
    let good = sealer.seal(ICMP, &echo_request());
    b.send(&good);
    let mut own = Vec::new();
    eventually("the guest answers a good packet", || {
        own = b.hear().unwrap_or_default();
        !own.is_empty()
    });
    let answered = sent_by_guest(&red);

    let last = good.len() - 1;
    let [seq, iv, inside, icv] = [7, 8, 30, last].map(|at| {
        let mut packet = sealer.seal(ICMP, &echo_request());
        packet[at] ^= 0x80;
        packet
    });
    let spi = &good[..4];
    let random: Vec<u8> =
        (1..1001_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let of_no_sa = [&0xdead_beef_u32.to_be_bytes()[..], &good[4..]].concat();
    let vast = [spi, &[0xff; 60_000]].concat();
    let whole = ip(Peer::B.address(), A, TCP, &tcp_syn());
    for (words, from, datagram, reason) in [
        ("a replay", &b, good.clone(), "replayed"),
        ("a replay from another host", &c, good.clone(), "replayed"),
        ("a changed sequence number", &b, seq, "forged"),
        ("a changed IV", &b, iv, "forged"),
        ("a changed byte inside", &b, inside, "forged"),
        ("a changed ICV from another host", &c, icv, "forged"),
        ("an SPI alone", &b, spi.to_vec(), "truncated"),
        ("a cut header", &b, good[..12].to_vec(), "truncated"),
        ("a cut ICV", &b, good[..good.len() - 3].to_vec(), "truncated"),
        ("the space's own packet", &b, own, "unknown_spi"),
        ("an SPI of no SA", &b, of_no_sa, "unknown_spi"),
        ("random bytes", &b, random, "unknown_spi"),
        ("a reserved SPI", &b, [&[0, 0, 0, 200][..], &good[4..]].concat(), "not_esp"),
        ("IKE", &b, [&[0; 4][..], b"IKE, perhaps"].concat(), "not_esp"),
        ("three bytes", &b, vec![0xff; 3], "not_esp"),
        ("IPv4 inside", &b, sealer.seal(IPV4, &whole), "malformed"),
        ("IPv6 inside", &b, sealer.seal(IPV6, &[0x60; 40]), "malformed"),
        ("a dummy", &b, sealer.seal(NO_NEXT_HEADER, &[0; 64]), "dummy"),
        ("TCP without its ports", &b, sealer.seal(TCP, &[0, 7]), "malformed"),
    ] {
        let before = counted(&red);
        from.send(&datagram);
        eventually(&format!("{words} is counted as {reason}"), || {
            count(&counted(&red), reason) > count(&before, reason)
        });
        assert_eq!(total(&counted(&red)), total(&before) + 1, "{words} is counted once");
    }
    // As long as datagrams get: one of noise, and a right one, which the guest has room for.
    let opened = || red.switch().pairs[0].inbound.packets;
    let before = (total(&counted(&red)), opened());
    b.send(&vast);
    b.send(&sealer.seal(ICMP, &[0; 60_000]));
    eventually("of two datagrams of 60 kB one is dropped", || {
        (total(&counted(&red)), opened()) == (before.0 + 1, before.1 + 1)
    });
    b.send(&[0xff]);
    b.send(&[]);

    assert_eq!(sent_by_guest(&red), answered, "the guest noticed none of it");
    follows_the_keys(&red, &b, &c, &mut sealer);
}

/// The space sends to where an authentic new packet came from last, and to nobody else.
fn follows_the_keys(red: &Space<'_>, b: &Wire, c: &Wire, sealer: &mut Sealer) {
    assert!(!red.run(&["ping", "192.0.2.20", "-c", "1"]).ok(), "nobody answers");
    assert!(b.hear().is_some() && c.hear().is_none(), "what was dropped has moved nothing");
    for (now, before) in [(c, b), (b, c)] {
        let sent = sent_by_guest(red);
        now.send(&sealer.seal(ICMP, &echo_request()));
        eventually("the answer follows", || sent_by_guest(red) > sent && now.hear().is_some());
        // What came until then had been on its way.
        while before.hear().is_some() {}
        now.send(&sealer.seal(ICMP, &echo_request()));
        eventually("so does the next", || now.hear().is_some());
        assert_eq!(before.hear(), None);
    }
}

/// Authentic and welcome, but nonsense: the guest's own stack has to bear it.
pub(crate) fn garbage_from_the_peer(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    red.start();
    let b = Wire::on(lab.peer(Peer::B));
    let mut sealer = Sealer::of_file(&red.far_file);
    let mut state = 1_u64;
    for protocol in [0, ICMP, 2, TCP, UDP, 50, 253, 255] {
        for length in [0, 1, 4, 7, 8, 19, 20, 21, 60, 576, 1400] {
            let payload = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            });
            b.send(&sealer.seal(protocol, &payload.take(length).collect::<Vec<_>>()));
        }
    }
    b.send(&sealer.seal(ICMP, &echo_request()));
    eventually("the switch has opened all of it", || {
        red.switch().pairs[0].inbound.packets > 8 * 11
    });
    assert!(red.run(&["true"]).ok(), "the guest lives");
    let before = sent_by_guest(&red);
    eventually("and answers", || {
        b.send(&sealer.seal(ICMP, &echo_request()));
        sent_by_guest(&red) > before
    });
}

/// An SA for TCP to the peer's port 7 alone carries nothing else, however well sealed.
pub(crate) fn a_narrow_sa(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    red.start();
    let c = Wire::on(lab.peer(Peer::C));
    let key = |spi: u32| Key::from_hex(&format!("{spi:08x}").repeat(8)).unwrap();
    let suite: Suite = "aes-cbc-256+hmac-sha256".parse().unwrap();
    let sa = |spi| Sa { spi, suite, cipher_key: key(spi), auth_key: key(spi) };
    let overlay = json!({
        "local": A, "peer": Peer::C.address(),
        "sas": [{
            "inbound": sa(0x4001), "outbound": sa(0x4002),
            "traffic": { "protocol": TCP, "remote_ports": [7, 7] },
        }],
    });
    let overlay: Overlay = serde_json::from_value(overlay).unwrap();
    let switch = red.ask_switch();
    let _attached = switch.attach("narrow", overlay).unwrap();
    let seen = || {
        let spaces = switch.status().unwrap().spaces;
        let mut narrow = spaces.into_iter().find(|space| space.space == "narrow").unwrap();
        narrow.pairs.remove(0).inbound
    };
    let mut sealer = Sealer::of(sa(0x4001));
    let mut from_port_7 = tcp_syn();
    from_port_7.swap(0, 2);
    from_port_7.swap(1, 3);
    c.send(&sealer.seal(TCP, &from_port_7));
    eventually("what it is for is opened", || seen().packets == 1);
    assert!(seen().drops.is_empty());
    let strangers = [(TCP, tcp_syn()), (UDP, from_port_7), (ICMP, echo_request().to_vec())];
    for (at, (protocol, payload)) in (1..).zip(strangers) {
        c.send(&sealer.seal(protocol, &payload));
        eventually("what it is not for is counted", || {
            count(&seen().drops, "foreign_selector") == at
        });
    }
}

fn sent_by_guest(space: &Space<'_>) -> u64 {
    space.switch().pairs[0].outbound.packets
}

/// All that came from outside and was dropped, by reason.
fn counted(space: &Space<'_>) -> BTreeMap<String, u64> {
    let mut drops = space.drops();
    for (reason, count) in space.strays() {
        *drops.entry(reason).or_default() += count;
    }
    drops
}

fn count(drops: &BTreeMap<String, u64>, reason: &str) -> u64 {
    drops.get(reason).copied().unwrap_or(0)
}

fn total(drops: &BTreeMap<String, u64>) -> u64 {
    drops.values().sum()
}
