use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::overlay::{Lifetime, Limits, Range};
use crate::status::{Amount, InboundStatus, LoopCounters, Machine, OutboundStatus};

/// A switch of so many spaces, each with so many pairs of SAs, at every other place.
struct Made {
    spaces: u64,
    pairs: u64,
}

pub(crate) fn space(name: &str) -> SpaceStatus {
    let (local, peer) = (Ipv4Addr::new(192, 0, 2, 10), Ipv4Addr::new(192, 0, 2, 20));
    SpaceStatus {
        space: name.into(),
        local: (local, 4500).into(),
        peer: (peer, 4501).into(),
        configured_peer: peer.into(),
        encapsulation: "udp".into(),
        mode: Mode::Transport,
        addresses: vec![local.into()],
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1438,
        path_mtu: 1500,
        machine: Machine::Own,
        running: true,
        offloads: Vec::new(),
        first_answer_ns: None,
        last_answer_ns: None,
        limits: Limits::default(),
        held: 3,
        received: Amount { packets: 7, bytes: 700 },
        sent: Amount { packets: 8, bytes: 800 },
        drops: [("too_big".to_owned(), 5)].into(),
        sas: 1,
        pairs: Vec::new(),
        policies: Vec::new(),
    }
}

pub(crate) fn pair(index: u64) -> PairStatus {
    let spi = 0x1001 + 2 * index as u32;
    let suite = "aes-gcm-256".to_owned();
    PairStatus {
        index,
        inbound: InboundStatus {
            spi,
            suite: suite.clone(),
            esn: true,
            packets: 7,
            bytes: 700,
            sequence: 9,
            window: 64,
            accepted: 7,
            age_s: 60,
            lifetime: Lifetime::default(),
            state: Age::Fresh,
            drops: [("forged".to_owned(), 2)].into(),
        },
        outbound: OutboundStatus {
            spi: spi + 1,
            suite,
            esn: true,
            packets: 8,
            bytes: 800,
            sequence: 8,
            age_s: 60,
            lifetime: Lifetime::default(),
            state: Age::SoftExpired,
        },
    }
}

impl Source for Made {
    fn status(&self) -> Status {
        let turns = LoopCounters { wakeups: 4, ..LoopCounters::default() };
        let strays = [("unknown_spi".to_owned(), 6)].into();
        Status { attached: self.spaces, turns, strays, ..Status::default() }
    }

    fn space(&self, place: u64) -> Option<(u64, SpaceStatus)> {
        let place = place.next_multiple_of(2);
        (place < 2 * self.spaces).then(|| (place, space(&format!("s\"{place}"))))
    }

    fn pair(&self, place: u64, index: u64) -> Option<PairStatus> {
        assert_eq!(place % 2, 0);
        (index < self.pairs).then(|| pair(index))
    }

    fn policy(&self, _: u64, index: u64) -> Option<PolicyStatus> {
        let everything = Range::only(IpAddr::from([10, 0, 0, 1]));
        (index == 0).then_some(PolicyStatus {
            protect: Some(0),
            local: everything,
            remote: everything,
            protocol: None,
            local_ports: None,
            remote_ports: None,
            hits: 11,
        })
    }
}

fn whole(source: &Made) -> (String, usize) {
    let (mut text, mut parts, mut from) = (String::new(), 0, Cursor::default());
    loop {
        let (part, next) = part(source, from);
        assert!(part.len() < 2 * PART && part.ends_with('\n'));
        text.push_str(&part);
        parts += 1;
        match next {
            Some(next) => {
                assert!(next > from);
                from = next;
            }
            None => return (text, parts),
        }
    }
}

#[test]
fn a_small_switch_is_one_part_with_every_family() {
    let (text, parts) = whole(&Made { spaces: 1, pairs: 1 });
    assert_eq!(parts, 1);
    for line in [
        "# TYPE portspace_spaces gauge",
        "portspace_spaces 1",
        "portspace_stray_packets_total{reason=\"unknown_spi\"} 6",
        "portspace_loop_wakeups_total 4",
        "portspace_space_info{space=\"s\\\"0\",local=\"192.0.2.10:4500\",peer=\"192.0.2.20:4501\",encapsulation=\"udp\",mode=\"transport\"} 1",
        "# UNIT portspace_space_bytes bytes",
        "portspace_space_bytes_total{space=\"s\\\"0\",direction=\"out\"} 800",
        "portspace_space_dropped_packets_total{space=\"s\\\"0\",reason=\"too_big\"} 5",
        "portspace_sa_info{space=\"s\\\"0\",spi=\"0x00001001\",direction=\"in\",suite=\"aes-gcm-256\",esn=\"on\"} 1",
        "portspace_sa_packets_total{space=\"s\\\"0\",spi=\"0x00001002\",direction=\"out\"} 8",
        "portspace_sa_discarded_packets_total{space=\"s\\\"0\",spi=\"0x00001001\",direction=\"in\",reason=\"forged\"} 2",
        "portspace_sa_state{space=\"s\\\"0\",spi=\"0x00001002\",direction=\"out\",portspace_sa_state=\"soft_expired\"} 1",
        "portspace_policy_packets_total{space=\"s\\\"0\",policy=\"0\",action=\"protect\"} 11",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn parts_put_together_are_one_text_whose_families_do_not_mix() {
    let (text, parts) = whole(&Made { spaces: 40, pairs: 30 });
    assert!(parts > 20, "{parts}");
    let mut family = "";
    let mut seen = std::collections::BTreeSet::new();
    let mut samples = std::collections::BTreeSet::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap();
            assert!(seen.insert(family), "{family} comes twice");
        } else if !line.starts_with('#') {
            let name = line.split(['{', ' ']).next().unwrap();
            let name = name.strip_suffix("_total").or(name.strip_suffix("_info")).unwrap_or(name);
            assert_eq!(name, family);
            assert!(samples.insert(line.rsplit_once(' ').unwrap().0), "{line} comes twice");
        }
    }
    assert_eq!(seen.len(), FAMILIES.len());
    let packets =
        text.lines().filter(|line| line.starts_with("portspace_sa_packets_total")).count();
    assert_eq!(packets, 2 * 40 * 30);
    assert_eq!(text.matches("# EOF").count(), 1);
}

#[test]
fn each_family_is_named_by_the_rules() {
    for family in &FAMILIES {
        let Family { name, kind, unit, help, .. } = family;
        assert!(unit.is_none_or(|unit| name.ends_with(&format!("_{unit}"))), "{name}");
        assert!(!name.ends_with("_total") && !name.ends_with("_info"), "{name}");
        assert!(help.ends_with('.') && !help.contains('\n'), "{name}");
        assert!(*kind != Kind::Info || unit.is_none(), "{name}");
    }
}

#[test]
fn values_of_labels_are_escaped() {
    let mut text = String::new();
    Samples { family: &FAMILIES[0], text: &mut text }.add(&[("space", "a\\b\"c\nd")], 1);
    assert_eq!(text, "portspace_spaces{space=\"a\\\\b\\\"c\\nd\"} 1\n");
}
