//! From an overlay, as configuration describes it, to a tunnel.

use std::net::{IpAddr, SocketAddr};

use esp::{
    Action, AddressRange, DuplicateSpi, InboundSa, KeyLength, Keys, Lifetime, Limits, Mode,
    OutboundSa, Parameters, Policy, PortRange, RangeError, ReservedSpi, Selector, Spd, Spi,
    WindowSize, WindowSizeError,
};

use super::path::Path;
use super::{LocalSa, Outbound, Owner, Pair, PairIndex, Passage, Place, Tunnel, Tunnels};
use crate::addresses::{Addresses, is_host};
use crate::drops::Drops;
use crate::overlay::{self, Bounds, Encapsulation, Overlay, Sa, SaPair, Traffic};
use crate::status::Amount;

/// Protocols with ports that a selector may name: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// Why an overlay cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// An SPI that RFC 4303 reserves.
    #[error(transparent)]
    Spi(#[from] ReservedSpi),
    /// Two SAs with one inbound SPI.
    #[error(transparent)]
    Duplicate(#[from] DuplicateSpi),
    /// Two SAs to one peer with one outbound SPI.
    #[error(
        "outbound SPI {spi} to {peer} is in use: the peer gives each of its SAs an SPI of its own"
    )]
    DuplicateOutbound {
        /// The SPI.
        spi: Spi,
        /// The peer.
        peer: IpAddr,
    },
    /// A key of the wrong length.
    #[error("SPI {spi:#x}: {source}")]
    Key {
        /// The SA.
        spi: u32,
        /// What is wrong.
        source: KeyLength,
    },
    /// Both directions with one key: an attacker could send packets back to where they came from.
    #[error("SPI {0:#x}: both directions have one key: give each direction a key of its own")]
    SameKey(u32),
    /// A window nobody can have.
    #[error(transparent)]
    Window(#[from] WindowSizeError),
    /// Ports in the wrong order.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// No SA at all.
    #[error("the overlay has no SA: give [overlay.manual] with an inbound and an outbound SA")]
    NoSa,
    /// An address that is no host's.
    #[error("{0} is no address of a host: local and peer are unicast addresses")]
    Address(IpAddr),
    /// Local and peer are one.
    #[error("local and peer are both {0}: the peer is another host")]
    SelfPeer(IpAddr),
    /// Local and peer of two families.
    #[error("local {local} and peer {peer} are of two families: give both as IPv4 or both as IPv6")]
    Families {
        /// The local address.
        local: IpAddr,
        /// The peer's.
        peer: IpAddr,
    },
    /// The space's own addresses.
    #[error("a space has one address of each family at the most, and each is a host's")]
    Own,
    /// Transport mode with other addresses than the outer ones.
    #[error(
        "transport mode shows the outer addresses inside: leave the space's own addresses and \
         the remote ranges out, or use tunnel mode"
    )]
    TransportAddresses,
    /// A local binding is in transport mode.
    #[error("a local binding carries payloads between two spaces: use mode transport")]
    LocalTunnel,
    /// A local binding has no keys.
    #[error("a local binding has no keys: give its two SPIs alone")]
    LocalKeys,
    /// Port 0.
    #[error("port 0 is no port: 4500 is usual for ESP in UDP, at both ends")]
    Port,
    /// Ports without a protocol that has ports.
    #[error("a selector with a port takes a protocol with ports: 6 (TCP) or 17 (UDP)")]
    PortWithoutProtocol,
    /// A policy for a pair that is not there.
    #[error("a policy protects by pair {0} of SAs, which is not there: pairs are counted from 0")]
    NoSuchPair(usize),
    /// No room for any packet.
    #[error("a way of {0} bytes per packet has no room for ESP: its device's MTU is too small")]
    Mtu(u16),
}

/// A tunnel without SAs, and what is left of the overlay.
pub(super) fn tunnel(
    overlay: Overlay,
    mtu: u16,
) -> Result<(Tunnel, Vec<SaPair>, Vec<overlay::Policy>), Refusal> {
    let (local, peer) = ends(&overlay)?;
    if overlay.sas.is_empty() {
        return Err(Refusal::NoSa);
    }
    let is_local = matches!(overlay.encapsulation, Encapsulation::Local);
    let mode = match overlay.mode {
        overlay::Mode::Tunnel if is_local => return Err(Refusal::LocalTunnel),
        overlay::Mode::Transport => Mode::Transport,
        overlay::Mode::Tunnel => Mode::Tunnel,
    };
    let given = !overlay.addresses.is_empty() && overlay.addresses != [overlay.local];
    if given && mode == Mode::Transport {
        return Err(Refusal::TransportAddresses);
    }
    let own = if given { &overlay.addresses[..] } else { &[overlay.local] };
    let tunnel = Tunnel {
        local,
        peer,
        remote: overlay.peer,
        own: Addresses::new(own).ok_or(Refusal::Own)?,
        mode,
        dscp: match overlay.dscp {
            overlay::Dscp::Clear => esp::ecn::Dscp::Clear,
            overlay::Dscp::Copy => esp::ecn::Dscp::Copy,
        },
        is_local,
        is_translated: false,
        spd: Spd::new(),
        pairs: Vec::new(),
        path: Path::new(mtu, overlay.local.is_ipv4()),
        has_lifetime: false,
        keepalive_s: match overlay.encapsulation {
            Encapsulation::Udp { .. } => overlay.keepalive_s,
            Encapsulation::Raw | Encapsulation::Local => 0,
        },
        sent_ns: 0,
        received: Amount::default(),
        sent: Amount::default(),
        drops: Drops::default(),
    };
    Ok((tunnel, overlay.sas, overlay.policies))
}

fn ends(overlay: &Overlay) -> Result<(SocketAddr, SocketAddr), Refusal> {
    let (local, peer) = (overlay.local, overlay.peer);
    if let Some(bad) = [local, peer].into_iter().find(|address| !is_host(*address)) {
        return Err(Refusal::Address(bad));
    }
    if local.is_ipv4() != peer.is_ipv4() {
        return Err(Refusal::Families { local, peer });
    }
    if local == peer {
        return Err(Refusal::SelfPeer(local));
    }
    let (port, peer_port) = match overlay.encapsulation {
        Encapsulation::Udp { port: 0, .. } | Encapsulation::Udp { peer_port: 0, .. } => {
            return Err(Refusal::Port);
        }
        Encapsulation::Udp { port, peer_port } => (port, peer_port),
        Encapsulation::Raw | Encapsulation::Local => (0, 0),
    };
    Ok(((local, port).into(), (peer, peer_port).into()))
}

/// Adds the further policies of an overlay.
pub(super) fn policies(
    tunnel: Option<&mut Tunnel>,
    policies: Vec<overlay::Policy>,
) -> Result<(), Refusal> {
    let tunnel = tunnel.expect("it was just added");
    for policy in policies {
        let action = match policy.action {
            overlay::Action::Discard => Action::Discard,
            overlay::Action::Protect(pair) if pair < tunnel.pairs.len() => Action::Protect(pair),
            overlay::Action::Protect(pair) => return Err(Refusal::NoSuchPair(pair)),
        };
        for selector in selectors(tunnel, &policy.traffic)? {
            tunnel.spd.add(Policy { selector, action });
        }
    }
    Ok(())
}

/// What traffic means for the space's own addresses: every pair of one of them and a remote range
/// of its family. Without ranges the peer alone in transport mode, everybody in tunnel mode.
fn selectors(tunnel: &Tunnel, traffic: &Traffic) -> Result<Box<[Selector]>, Refusal> {
    let with_ports = traffic.local_ports.is_some() || traffic.remote_ports.is_some();
    if with_ports && !traffic.protocol.is_some_and(|protocol| WITH_PORTS.contains(&protocol)) {
        return Err(Refusal::PortWithoutProtocol);
    }
    let ports = |ports: Option<[u16; 2]>| {
        ports.map_or(Ok(PortRange::ANY), |[first, last]| PortRange::new(first, last))
    };
    let (local_ports, remote_ports) = (ports(traffic.local_ports)?, ports(traffic.remote_ports)?);
    let peer = overlay::Range::only(tunnel.remote);
    let remote = match (tunnel.mode, &traffic.remote[..]) {
        (Mode::Transport, []) => vec![peer],
        (Mode::Transport, ranges) if ranges.iter().any(|range| *range != peer) => {
            return Err(Refusal::TransportAddresses);
        }
        (Mode::Tunnel, []) => overlay::Range::all().to_vec(),
        (_, ranges) => ranges.to_vec(),
    };
    let mut all = Vec::new();
    for own in tunnel.own.iter() {
        let of_family = remote.iter().filter(|range| range.is_ipv4() == own.is_ipv4());
        all.extend(of_family.map(|range| Selector {
            protocol: traffic.protocol,
            local_ports,
            remote_ports,
            ..Selector::between(AddressRange::only(own), (*range).into())
        }));
    }
    Ok(all.into())
}

impl Tunnels {
    /// Adds one pair to the tunnel at `place`.
    pub(super) fn add_pair(
        &mut self,
        place: Place,
        pair: SaPair,
        now_s: u64,
        seed: &mut impl FnMut() -> [u8; 16],
    ) -> Result<(), Refusal> {
        let Some(tunnel) = self.tunnels.get_mut(place).and_then(Option::as_mut) else {
            return Err(Refusal::NoSa);
        };
        let index: PairIndex = tunnel.pairs.len();
        let selectors = selectors(tunnel, &pair.traffic)?;
        let (inbound_spi, outbound_spi) =
            (Spi::new(pair.inbound.spi)?, Spi::new(pair.outbound.spi)?);
        if self.locals.contains_key(&inbound_spi) || self.sad.get(inbound_spi).is_some() {
            return Err(DuplicateSpi(inbound_spi).into());
        }
        let policies: Vec<_> = selectors
            .iter()
            .map(|selector| Policy { selector: *selector, action: Action::Protect(index) })
            .collect();
        let owner = Owner { place, pair: index, selectors };
        let added = if tunnel.is_local {
            if [&pair.inbound, &pair.outbound].iter().any(|sa| !sa.auth_key.is_empty()) {
                return Err(Refusal::LocalKeys);
            }
            self.locals.insert(inbound_spi, LocalSa { owner, passed: Passage::default() });
            let outbound = Outbound::Local(outbound_spi, Passage::default());
            Pair { outbound, inbound_spi, mtu: tunnel.path.mtu() }
        } else {
            let peer = tunnel.peer.ip();
            if self.senders.contains_key(&(peer, outbound_spi)) {
                return Err(Refusal::DuplicateOutbound { spi: outbound_spi, peer });
            }
            let parameters = parameters(&pair, now_s)?;
            let lifetime = pair.lifetime;
            let [inbound_keys, outbound_keys] = keys(pair)?;
            let outbound = OutboundSa::new(outbound_spi, outbound_keys, seed(), parameters);
            let mtu = tunnel.way().inner(tunnel.mode, |limit| outbound.max_payload(limit));
            let mtu = mtu.ok_or(Refusal::Mtu(tunnel.path.mtu()))?;
            self.sad.insert(InboundSa::new(inbound_spi, inbound_keys, parameters), owner)?;
            self.senders.insert((peer, outbound_spi), place);
            tunnel.has_lifetime |=
                lifetime.soft.seconds.is_some() || lifetime.hard.seconds.is_some();
            Pair { outbound: Outbound::Sealed(outbound), inbound_spi, mtu }
        };
        policies.into_iter().for_each(|policy| tunnel.spd.add(policy));
        tunnel.pairs.push(added);
        Ok(())
    }
}

fn parameters(pair: &SaPair, born_s: u64) -> Result<Parameters, Refusal> {
    let limits = |bounds: Bounds| Limits {
        packets: bounds.packets,
        bytes: bounds.bytes,
        seconds: bounds.seconds,
    };
    Ok(Parameters {
        esn: pair.esn,
        window: WindowSize::new(pair.window)?,
        lifetime: Lifetime { soft: limits(pair.lifetime.soft), hard: limits(pair.lifetime.hard) },
        born_s,
    })
}

/// The keys of both directions, inbound first; no key serves both.
fn keys(pair: SaPair) -> Result<[Keys; 2], Refusal> {
    let same = |one: &overlay::Key, other: &overlay::Key| !one.is_empty() && one == other;
    let (inbound, outbound) = (pair.inbound, pair.outbound);
    let one_key = same(&inbound.auth_key, &outbound.auth_key)
        || inbound.suite.is_aead() && same(&inbound.cipher_key, &outbound.cipher_key);
    if one_key {
        return Err(Refusal::SameKey(inbound.spi));
    }
    let keys = |sa: Sa| {
        Keys::new(sa.suite, sa.cipher_key.into_bytes(), sa.auth_key.into_bytes())
            .map_err(|source| Refusal::Key { spi: sa.spi, source })
    };
    Ok([keys(inbound)?, keys(outbound)?])
}
