//! What the switch says of itself, a part at a time: no list keeps packets waiting for long.

use esp::{InboundSa, OutboundSa, PortRange};
use sys::clock::monotonic_ns;
use virtio::net;

use super::Switch;
use super::spaces::Space;
use crate::metrics::Source;
use crate::overlay::{Lifetime, Range};
use crate::status::{
    Age, Counts, InboundStatus, LoopCounters, Machine, OutboundStatus, Page, PairStatus,
    PolicyStatus, SpaceStatus, Status,
};
use crate::tunnel::{PairView, Passage};

/// Most items in a part of a list: with all their counters they fill half a message.
pub(super) const PART: usize = 32;

/// Offloads as virtio-net names them (virtio 1.2 5.1.3).
const OFFLOADS: [(u64, &str); 11] = [
    (net::CSUM, "csum"),
    (net::GUEST_CSUM, "guest_csum"),
    (net::HOST_TSO4, "host_tso4"),
    (net::HOST_TSO6, "host_tso6"),
    (net::HOST_USO, "host_uso"),
    (net::HOST_ECN, "host_ecn"),
    (net::GUEST_TSO4, "guest_tso4"),
    (net::GUEST_TSO6, "guest_tso6"),
    (net::GUEST_USO4, "guest_uso4"),
    (net::GUEST_USO6, "guest_uso6"),
    (net::MRG_RXBUF, "mrg_rxbuf"),
];

impl Switch {
    /// The spaces from the one at place `from` on.
    pub(super) fn spaces_from(&self, from: u64) -> Page<SpaceStatus> {
        let mut items = Vec::new();
        let mut at = from;
        while let Some((place, space)) = self.space(at) {
            if items.len() == PART {
                return Page { items, next: Some(at) };
            }
            items.push(space);
            at = place + 1;
        }
        Page { items, next: None }
    }

    /// The SAs of the space at `place`, from the pair with index `from` on.
    pub(super) fn pairs_from(&self, place: u64, from: u64) -> Page<PairStatus> {
        page(from, |index| self.pair(place, index))
    }

    /// The policies of the space at `place`, from the one with index `from` on.
    pub(super) fn policies_from(&self, place: u64, from: u64) -> Page<PolicyStatus> {
        page(from, |index| self.policy(place, index))
    }
}

fn page<T>(from: u64, item: impl Fn(u64) -> Option<T>) -> Page<T> {
    let end = from.saturating_add(PART as u64);
    let items: Vec<T> = (from..end).map_while(&item).collect();
    let next = (items.len() == PART && item(end).is_some()).then_some(end);
    Page { items, next }
}

impl Source for Switch {
    fn status(&self) -> Status {
        Status {
            at_ns: monotonic_ns(),
            strays: self.tunnels.strays.by_name(),
            turns: LoopCounters {
                spins_won: self.spin.won,
                spins_lost: self.spin.lost,
                ..self.counters
            },
            attached: self.spaces.iter().count() as u64,
            sas: self.tunnels.sas() as u64,
            spaces: Vec::new(),
        }
    }

    fn space(&self, place: u64) -> Option<(u64, SpaceStatus)> {
        let from = usize::try_from(place).ok()?;
        let (place, space) = self.spaces.from(from)?;
        let tunnel = self.tunnels.get(place)?;
        let (running, features) = space.backend.as_ref().map_or((false, 0), |backend| {
            let device = backend.queues();
            (device.is_running(), device.port.features)
        });
        let taken = OFFLOADS.iter().filter(|(bit, _)| features & bit != 0);
        let status = SpaceStatus {
            space: space.name.clone(),
            local: tunnel.local(),
            peer: tunnel.peer(),
            configured_peer: tunnel.remote(),
            encapsulation: match (tunnel.is_local(), tunnel.is_raw()) {
                (true, _) => "local".into(),
                (_, true) => "raw".into(),
                _ => "udp".into(),
            },
            mode: match tunnel.mode() {
                esp::Mode::Transport => crate::overlay::Mode::Transport,
                esp::Mode::Tunnel => crate::overlay::Mode::Tunnel,
            },
            addresses: tunnel.own().iter().collect(),
            mac: crate::frame::mac(place),
            mtu: tunnel.mtu(),
            path_mtu: tunnel.path_mtu(),
            machine: machine(space),
            running,
            offloads: taken.map(|(_, name)| (*name).to_owned()).collect(),
            first_answer_ns: space.first_answer_ns,
            last_answer_ns: space.last_answer_ns,
            limits: space.limits,
            held: space.limiter.held,
            received: tunnel.received,
            sent: tunnel.sent,
            drops: tunnel.drops.by_name(),
            sas: tunnel.pairs() as u64,
            pairs: Vec::new(),
            policies: Vec::new(),
        };
        Some((place as u64, status))
    }

    fn pair(&self, place: u64, index: u64) -> Option<PairStatus> {
        let (place, at) = (usize::try_from(place).ok()?, usize::try_from(index).ok()?);
        let now_s = self.upkeep.now_s();
        Some(match self.tunnels.pair(place, at)? {
            PairView::Sealed(inbound, outbound) => PairStatus {
                index,
                inbound: opened(inbound, now_s),
                outbound: sealed(outbound, now_s),
            },
            PairView::Local([(inbound, came), (outbound, went)]) => PairStatus {
                index,
                inbound: passed_in(inbound.number(), came),
                outbound: passed_out(outbound.number(), went),
            },
        })
    }

    fn policy(&self, place: u64, index: u64) -> Option<PolicyStatus> {
        let tunnel = self.tunnels.get(usize::try_from(place).ok()?)?;
        let (policy, hits) = tunnel.policies().nth(usize::try_from(index).ok()?)?;
        let selector = &policy.selector;
        Some(PolicyStatus {
            protect: match policy.action {
                esp::Action::Protect(pair) => Some(pair as u64),
                esp::Action::Discard => None,
            },
            local: Range::from(selector.local),
            remote: Range::from(selector.remote),
            protocol: selector.protocol,
            local_ports: ports(selector.local_ports),
            remote_ports: ports(selector.remote_ports),
            hits,
        })
    }
}

fn machine(space: &Space) -> Machine {
    match (&space.socket, &space.backend) {
        (None, _) => Machine::Own,
        (Some(_), Some(_)) => Machine::Foreign,
        (Some(_), None) => Machine::Awaited,
    }
}

fn opened(sa: &InboundSa, now_s: u64) -> InboundStatus {
    let drops = sa.discards().iter().filter(|(_, count)| *count > 0);
    InboundStatus {
        spi: sa.spi().number(),
        suite: sa.suite().name().into(),
        esn: sa.esn(),
        packets: sa.packets(),
        bytes: sa.bytes(),
        sequence: sa.top(),
        window: sa.window().packets(),
        accepted: sa.accepted(),
        age_s: now_s.saturating_sub(sa.born_s()),
        lifetime: sa.lifetime().into(),
        state: sa.age().into(),
        drops: drops.map(|(reason, count)| (reason.name().into(), count)).collect(),
    }
}

fn sealed(sa: &OutboundSa, now_s: u64) -> OutboundStatus {
    OutboundStatus {
        spi: sa.spi().number(),
        suite: sa.suite().name().into(),
        esn: sa.esn(),
        packets: sa.packets(),
        bytes: sa.bytes(),
        sequence: sa.sequence(),
        age_s: now_s.saturating_sub(sa.born_s()),
        lifetime: sa.lifetime().into(),
        state: sa.age().into(),
    }
}

/// What a local binding has in the place of an SA's suite.
const NO_SUITE: &str = "none";

fn passed_in(spi: u32, passed: Passage) -> InboundStatus {
    InboundStatus {
        spi,
        suite: NO_SUITE.into(),
        esn: false,
        packets: passed.packets,
        bytes: passed.bytes,
        sequence: 0,
        window: 0,
        accepted: 0,
        age_s: 0,
        lifetime: Lifetime::default(),
        state: Age::Fresh,
        drops: Counts::new(),
    }
}

fn passed_out(spi: u32, passed: Passage) -> OutboundStatus {
    OutboundStatus {
        spi,
        suite: NO_SUITE.into(),
        esn: false,
        packets: passed.packets,
        bytes: passed.bytes,
        sequence: 0,
        age_s: 0,
        lifetime: Lifetime::default(),
        state: Age::Fresh,
    }
}

/// A range of ports that is not all of them.
fn ports(range: PortRange) -> Option<[u16; 2]> {
    (range != PortRange::ANY).then(|| [range.first(), range.last()])
}
