//! What Linux counts: `/proc/net/xfrm_stat`.

use std::collections::BTreeMap;
use std::net::UdpSocket;

use cli::lab::Lab;
use esp::{Keys, OutboundSa, Parameters, Spi};
use tests::{Linux, eventually};

use crate::row::{Mode, Row};
use crate::uml::Family;

/// What it counted of packets that were wrong, by its names; what it did not count is not here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats(BTreeMap<String, u64>);

impl Stats {
    pub(crate) fn of(linux: &mut Linux) -> Stats {
        let text = linux.must("cat /proc/net/xfrm_stat");
        let mut counts = BTreeMap::new();
        for line in text.lines() {
            let (name, count) = line.split_once(char::is_whitespace).expect("a name and a number");
            counts.insert(name.to_owned(), count.trim().parse().expect("a number"));
        }
        assert!(counts.contains_key("XfrmInStateProtoError"), "{text}");
        Stats(counts)
    }

    /// What was counted since.
    pub(crate) fn since(&self, before: &Stats) -> Stats {
        let rise = |(name, count): (&String, &u64)| {
            let rise = count - before.0.get(name).copied().unwrap_or(0);
            (rise > 0).then(|| (name.clone(), rise))
        };
        Stats(self.0.iter().filter_map(rise).collect())
    }

    fn only<const N: usize>(counts: [(&str, u64); N]) -> Stats {
        Stats(counts.map(|(name, count)| (name.to_owned(), count)).into())
    }
}

pub(crate) fn replays_and_forgeries(lab: &Lab, linux: &mut Linux, esn: bool) {
    let suite = "aes-cbc-256+hmac-sha256".parse().unwrap();
    let row = Row { suite, mode: Mode::Transport, outer: Family::V4, in_udp: true, esn };
    let own = row.key(lab, linux).overlay.sas.remove(0).outbound;
    let keys = Keys::new(suite, own.cipher_key.into_bytes(), own.auth_key.into_bytes()).unwrap();
    let parameters = Parameters { esn, ..Parameters::default() };
    let mut sa = OutboundSa::new(Spi::new(own.spi).unwrap(), keys, [7; 16], parameters);
    let [near, far] = Family::V4.outer();
    let socket = lab.a.run(|| UdpSocket::bind((near, 4500))).unwrap().unwrap();
    let mut seal = || {
        let mut packet = vec![0; sa.headroom()];
        // An echo reply: nobody answers it.
        packet.extend_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0, 0]);
        sa.seal(1, &mut packet, 0).unwrap();
        packet
    };
    let mut forged = seal();
    *forged.last_mut().unwrap() ^= 1;
    let first = seal();
    let fresh: Vec<_> = (0..70).map(|_| seal()).collect();
    let mut steps: Vec<(&str, &[u8], Stats)> = vec![
        ("a forgery", &forged, Stats::only([("XfrmInStateProtoError", 1)])),
        ("a packet", &first, Stats::default()),
        ("its replay", &first, Stats::only([("XfrmInStateSeqError", 1)])),
        ("its replay again", &first, Stats::only([("XfrmInStateSeqError", 1)])),
    ];
    steps.extend(fresh.iter().map(|packet| ("a fresh packet", &packet[..], Stats::default())));
    // 64-bit numbers are guessed: behind the window begin the next 2^32 (RFC 4303 A2.2).
    let behind = if esn { "XfrmInStateProtoError" } else { "XfrmInStateSeqError" };
    steps.push(("a packet behind the window", &first, Stats::only([(behind, 1)])));
    for (words, packet, expected) in steps {
        let before = (Stats::of(linux), received(linux));
        socket.send_to(packet, (far, 4500)).unwrap();
        eventually(words, || received(linux) > before.1);
        assert_eq!(Stats::of(linux).since(&before.0), expected, "{words}");
    }
    linux.must("ip xfrm policy flush; ip xfrm state flush");
}

/// IP packets that have arrived on the cable.
fn received(linux: &mut Linux) -> u64 {
    let text = linux.must("cat /sys/class/net/vec0/statistics/rx_packets");
    text.trim().parse().expect("a number")
}
