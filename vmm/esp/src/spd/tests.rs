//! The best match against the obvious slow search, and the inbound check.

use std::net::Ipv4Addr;

use super::*;
use crate::{AddressRange, PortRange};

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn addresses(first: u8, last: u8) -> AddressRange {
    AddressRange::new(address(first), address(last)).unwrap()
}

fn to_peer(peer: u8) -> Selector {
    Selector::between(addresses(1, 1), addresses(peer, peer))
}

fn flow(remote: u8, protocol: u8, ports: Ports) -> Flow {
    Flow { local: address(1), remote: address(remote), protocol, ports }
}

fn tcp(remote: u8, remote_port: u16) -> Flow {
    flow(remote, 6, Ports::Known { local: 1000, remote: remote_port })
}

#[test]
fn an_spd_without_policies_discards_everything() {
    assert_eq!(Spd::<u32>::new().best(&tcp(2, 80)), Action::Discard);
    let wanted = Spd::new().admit(&tcp(2, 80), &[to_peer(2)], 1);
    assert_eq!(wanted, Err(Discard::Policy));
}

#[test]
fn the_more_specific_policy_decides_whatever_the_order() {
    let narrow = Selector {
        protocol: Some(6),
        remote_ports: PortRange::only(22),
        ..Selector::between(addresses(1, 1), addresses(2, 2))
    };
    let protect = Policy { selector: to_peer(2), action: Action::Protect(7) };
    let discard = Policy { selector: narrow, action: Action::Discard };
    for policies in [[protect, discard], [discard, protect]] {
        let mut spd = Spd::new();
        policies.into_iter().for_each(|policy| spd.add(policy));
        assert_eq!(spd.best(&tcp(2, 80)), Action::Protect(7));
        assert_eq!(spd.best(&tcp(2, 22)), Action::Discard);
        assert_eq!(spd.best(&tcp(3, 80)), Action::Discard);
        // This fragment may be of a packet to port 22.
        assert_eq!(spd.best(&flow(2, 6, Ports::Hidden)), Action::Discard);
        assert_eq!(spd.best(&flow(2, 17, Ports::Hidden)), Action::Protect(7));
        assert_eq!(spd.best(&flow(2, 1, Ports::Absent)), Action::Protect(7));
    }
}

#[test]
fn between_equals_the_first_decides_until_its_sa_is_gone() {
    let mut spd = Spd::new();
    spd.add(Policy { selector: to_peer(2), action: Action::Protect(1) });
    spd.add(Policy { selector: to_peer(2), action: Action::Protect(2) });
    assert_eq!(spd.best(&tcp(2, 80)), Action::Protect(1));
    spd.remove(1);
    assert_eq!(spd.best(&tcp(2, 80)), Action::Protect(2));
    spd.remove(2);
    assert_eq!(spd.best(&tcp(2, 80)), Action::Discard);
    assert!(spd.policies().is_empty());
}

#[test]
fn an_opened_packet_is_admitted_only_if_its_sa_and_the_best_policy_both_want_it() {
    let mut spd = Spd::new();
    let wide = Selector::between(addresses(1, 1), addresses(0, 255));
    spd.add(Policy { selector: wide, action: Action::Protect(1) });
    spd.add(Policy { selector: to_peer(9), action: Action::Protect(2) });
    assert_eq!(spd.admit(&tcp(5, 80), &[wide], 1), Ok(()));
    assert_eq!(spd.admit(&tcp(9, 80), &[to_peer(9)], 2), Ok(()));
    // The SA wants it, but the best policy names another SA; then the reverse.
    assert_eq!(spd.admit(&tcp(9, 80), &[wide], 1), Err(Discard::Policy));
    assert_eq!(spd.admit(&tcp(5, 80), &[to_peer(9)], 2), Err(Discard::ForeignSelector));
    let other_local = Flow { local: address(3), ..tcp(5, 80) };
    assert_eq!(spd.admit(&other_local, &[wide], 1), Err(Discard::ForeignSelector));
}

/// All policies are looked at, and a later one is better only if it is more specific.
fn slow_best(policies: &[Policy<usize>], flow: &Flow) -> Action<usize> {
    let mut best: Option<&Policy<usize>> = None;
    for policy in policies {
        let Selector { local, remote, protocol, local_ports, remote_ports } = policy.selector;
        let ports = match flow.ports {
            Ports::Known { local, remote } => {
                local_ports.contains(local) && remote_ports.contains(remote)
            }
            Ports::Absent => local_ports == PortRange::ANY && remote_ports == PortRange::ANY,
            Ports::Hidden => true,
        };
        let meant = local.contains(flow.local)
            && remote.contains(flow.remote)
            && (protocol.is_none() || protocol == Some(flow.protocol))
            && ports;
        if meant && best.is_none_or(|best| more_specific(&policy.selector, &best.selector)) {
            best = Some(policy);
        }
    }
    let asks_ports = |selector: &Selector| {
        selector.local_ports != PortRange::ANY || selector.remote_ports != PortRange::ANY
    };
    match best {
        Some(best) if flow.ports == Ports::Hidden && asks_ports(&best.selector) => Action::Discard,
        Some(best) => best.action,
        None => Action::Discard,
    }
}

fn more_specific(one: &Selector, other: &Selector) -> bool {
    let addresses = |range: &AddressRange| {
        (0..=255).filter(|last| range.contains(address(*last))).count() as u32
    };
    let ports = |range: &PortRange| (0..=u16::MAX).filter(|port| range.contains(*port)).count();
    let (a, b) = (addresses(&one.remote), addresses(&other.remote));
    let (c, d) = (addresses(&one.local), addresses(&other.local));
    let (e, f) = (one.protocol.is_some(), other.protocol.is_some());
    if a != b {
        return a < b;
    }
    if c != d {
        return c < d;
    }
    if e != f {
        return e;
    }
    let (g, h) = (ports(&one.remote_ports), ports(&other.remote_ports));
    if g != h {
        return g < h;
    }
    ports(&one.local_ports) < ports(&other.local_ports)
}

type Numbers = (u8, u8, u8, u8, u8);

/// A selector out of few addresses, protocols and ports, so that many match.
fn selector((remote, local, protocol, remote_port, local_port): Numbers) -> Selector {
    let range = |number: u8| {
        let (first, len) = (number % 4, number / 4 % 4);
        addresses(first, first + len)
    };
    let ports = |number: u8| match number % 4 {
        0 | 1 => PortRange::ANY,
        2 => PortRange::only(u16::from(number / 4 % 4)),
        _ => PortRange::new(0, u16::from(number / 4 % 4)).unwrap(),
    };
    Selector {
        local: range(local),
        remote: range(remote),
        protocol: [None, Some(6), Some(17), None][usize::from(protocol % 4)],
        local_ports: ports(local_port),
        remote_ports: ports(remote_port),
    }
}

fn any_flow((remote, local, protocol, remote_port, local_port): Numbers) -> Flow {
    let known = Ports::Known { local: (local_port % 4).into(), remote: (remote_port % 4).into() };
    Flow {
        local: address(local % 8),
        remote: address(remote % 8),
        protocol: [6, 17][usize::from(protocol % 2)],
        ports: [known, known, Ports::Hidden, Ports::Absent][usize::from(protocol / 4 % 4)],
    }
}

#[test]
fn the_best_match_is_that_of_the_obvious_slow_search() {
    let input = bolero::produce::<(Vec<(Numbers, bool)>, [Numbers; 4])>();
    bolero::check!().with_generator(input).with_iterations(500).for_each(|(policies, flows)| {
        let policies: Vec<_> = policies
            .iter()
            .take(24)
            .enumerate()
            .map(|(name, (numbers, discard))| Policy {
                selector: selector(*numbers),
                action: if *discard { Action::Discard } else { Action::Protect(name) },
            })
            .collect();
        let mut spd = Spd::new();
        policies.iter().for_each(|policy| spd.add(*policy));
        // The second time around, what was decided before is remembered.
        for flow in flows.map(any_flow).iter().chain(&flows.map(any_flow)) {
            assert_eq!(spd.best(flow), slow_best(&policies, flow));
        }
    });
}

#[test]
fn what_is_remembered_is_forgotten_when_policies_come_and_go() {
    let input = bolero::produce::<(Vec<(Numbers, u8)>, Vec<Numbers>)>();
    bolero::check!().with_generator(input).with_iterations(300).for_each(|(changes, flows)| {
        let flows: Vec<Flow> = flows.iter().take(8).map(|numbers| any_flow(*numbers)).collect();
        let mut spd = Spd::new();
        let mut policies = Vec::new();
        for (name, (numbers, removed)) in changes.iter().take(12).enumerate() {
            let policy = Policy { selector: selector(*numbers), action: Action::Protect(name) };
            spd.add(policy);
            policies.push(policy);
            if removed % 3 == 0 {
                let gone = usize::from(*removed) % (name + 1);
                spd.remove(gone);
                policies.retain(|policy| policy.action != Action::Protect(gone));
            }
            for flow in flows.iter().chain(&flows) {
                assert_eq!(spd.best(flow), slow_best(&policies, flow));
            }
        }
    });
}

#[test]
fn more_flows_than_are_remembered_are_decided_all_the_same() {
    let mut spd = Spd::new();
    for port in 0..200 {
        let selector = Selector { remote_ports: PortRange::only(port), ..to_peer(2) };
        let selector = Selector { protocol: Some(6), ..selector };
        spd.add(Policy { selector, action: Action::Protect(port) });
    }
    for _ in 0..2 {
        for port in 0..1000 {
            let expected = if port < 200 { Action::Protect(port) } else { Action::Discard };
            assert_eq!(spd.best(&tcp(2, port)), expected);
        }
    }
}

#[test]
fn any_of_an_sas_selectors_may_want_an_opened_packet() {
    let mut spd = Spd::new();
    let both = [to_peer(5), to_peer(9)];
    for selector in both {
        spd.add(Policy { selector, action: Action::Protect(1) });
    }
    assert_eq!(spd.admit(&tcp(5, 80), &both, 1), Ok(()));
    assert_eq!(spd.admit(&tcp(9, 80), &both, 1), Ok(()));
    assert_eq!(spd.admit(&tcp(6, 80), &both, 1), Err(Discard::ForeignSelector));
    assert_eq!(spd.admit(&tcp(5, 80), &[], 1), Err(Discard::ForeignSelector));
}
