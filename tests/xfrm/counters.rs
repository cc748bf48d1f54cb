//! What Linux counts of packets that are wrong.

use std::collections::BTreeMap;
use std::net::UdpSocket;

use cli::lab::Lab;
use esp::{Keys, OutboundSa, Parameters, Spi};
use tests::{Linux, eventually};

use crate::row::{Row, packets};
use crate::uml::Family;

/// What it counted of packets that were wrong, by its names; what it did not count is not here.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats(BTreeMap<String, u64>);

impl Stats {
    pub(crate) fn of(linux: &mut Linux) -> Stats {
        Stats::and_packets(linux).0
    }

    /// Of all packets (`/proc/net/xfrm_stat`) and of those of its SAs (`ip -s xfrm state`); and how
    /// many the SAs found right.
    fn and_packets(linux: &mut Linux) -> (Stats, u64) {
        // In this order: of a packet that an SA found right, all before it are counted by then.
        let text = linux.must("ip -s xfrm state; cat /proc/net/xfrm_stat");
        let of_all = text.lines().filter(|line| line.starts_with("Xfrm"));
        let of_all = of_all.filter_map(|line| line.split_once(char::is_whitespace));
        // `stats:`, then a line of names and numbers.
        let titled = text.lines().zip(text.lines().skip(1));
        let of_sas: Vec<&str> = titled
            .filter(|(title, _)| title.trim() == "stats:")
            .flat_map(|(_, counts)| counts.split_whitespace())
            .collect();
        let of_sas = of_sas.chunks_exact(2).map(|pair| (pair[0], pair[1]));
        let mut counts = BTreeMap::new();
        for (name, count) in of_all.chain(of_sas) {
            let count: u64 = count.trim().parse().expect("a number");
            *counts.entry(name.to_owned()).or_default() += count;
        }
        let known = ["XfrmInStateProtoError", "failed"];
        assert!(known.iter().all(|name| counts.contains_key(*name)), "{text}");
        (Stats(counts), packets(&text).iter().sum())
    }

    /// What was counted since.
    pub(crate) fn since(&self, before: &Stats) -> Stats {
        let rise = |(name, count): (&String, &u64)| {
            let rise = count - before.0.get(name).copied().unwrap_or(0);
            (rise > 0).then(|| (name.clone(), rise))
        };
        Stats(self.0.iter().filter_map(rise).collect())
    }

    /// One packet, under these names.
    fn one(names: &[&str]) -> Stats {
        Stats(names.iter().map(|name| ((*name).to_owned(), 1)).collect())
    }
}

/// How Linux counts a packet whose ICV is wrong, one that it has had, and one that may be either.
const FORGED: [&str; 2] = ["XfrmInStateProtoError", "failed"];
const REPLAYED: [&str; 2] = ["XfrmInStateSeqError", "replay"];
const BEHIND: [&str; 2] = ["XfrmInStateSeqError", "replay-window"];

pub(crate) fn replays_and_forgeries(lab: &Lab, linux: &mut Linux, row: Row) {
    let own = row.key(lab, linux).overlay.sas.remove(0).outbound;
    let keys = Keys::new(row.suite, own.cipher_key.into_bytes(), own.auth_key.into_bytes());
    let parameters = Parameters { esn: row.esn, ..Parameters::default() };
    let mut sa = OutboundSa::new(Spi::new(own.spi).unwrap(), keys.unwrap(), [7; 16], parameters);
    let [near, far] = row.outer.outer();
    let socket = lab.a.run(|| UdpSocket::bind((near, 4500))).unwrap().unwrap();
    // Nobody answers an echo reply.
    let (icmp, echo_reply) = if row.outer == Family::V4 { (1, 0) } else { (58, 129) };
    let mut seal = || {
        let mut packet = vec![0; sa.headroom()];
        packet.extend_from_slice(&[echo_reply, 0, 0xff, 0xff]);
        // Linux 6.1 drops ESP of fewer than 40 bytes in UDP over IPv6.
        packet.extend_from_slice(&[0; 32]);
        sa.seal(icmp, &mut packet, 0).unwrap();
        packet
    };
    let changed = |at: usize, mut packet: Vec<u8>| {
        packet[at] ^= 1;
        packet
    };
    let first = seal();
    let last = first.len() - 1;
    let singly: [(&str, Vec<u8>, &[&str]); 7] = [
        ("an ICV changed", changed(last, first.clone()), &FORGED),
        ("a number changed", changed(6, first.clone()), &FORGED),
        ("a byte changed", changed(12, first.clone()), &FORGED),
        ("another SPI", changed(2, first.clone()), &["XfrmInNoStates"]),
        ("a packet", first.clone(), &[]),
        ("its replay", first.clone(), &REPLAYED),
        ("its replay, changed", changed(last, first.clone()), &REPLAYED),
    ];
    // Behind each is one that is right: when that has come, the other has.
    let steps = singly.map(|(words, packet, names)| (words, vec![packet, seal()], names));
    let many: Vec<_> = (0..70).map(|_| seal()).collect();
    // 64-bit numbers are guessed: behind the window begin the next 2^32 (RFC 4303 A2.2).
    let behind = if row.esn { &FORGED } else { &BEHIND };
    let at_last = [
        ("more packets than the window has room for", many, &[][..]),
        ("a packet behind the window", vec![first, seal()], behind),
    ];
    let mut before = Stats::and_packets(linux);
    for (words, sent, names) in steps.into_iter().chain(at_last) {
        for packet in &sent {
            socket.send_to(packet, (far, 4500)).unwrap();
        }
        let right = sent.len() as u64 - u64::from(!names.is_empty());
        let mut after = (Stats::default(), 0);
        eventually(words, || {
            after = Stats::and_packets(linux);
            after.1 >= before.1 + right
        });
        assert_eq!(after.0.since(&before.0), Stats::one(names), "{words}");
        assert_eq!(after.1, before.1 + right, "{words}");
        before = after;
    }
    linux.must("ip xfrm policy flush; ip xfrm state flush");
}
