//! IPsec between spaces and peers: what the switch and a bare endpoint share.
//!
//! Pure: IP packets in, ESP packets out, and back. Knows no device and no
//! socket; a packet that no SA and no policy wants goes nowhere.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use esp::ip::{self, Header, HeaderBytes, Mode, Packet};
use esp::natt::{self, Datagram};
use esp::{
    Action, AddressRange, DuplicateSpi, Flow, InboundSa, KeyLength, Keys, OutboundSa, Policy,
    PortRange, RangeError, ReservedSpi, Sad, Selector, Spd, Spi, WindowSize, ipv4,
};

use crate::batch::Batch;
use crate::drops::{Drops, Reason};
use crate::overlay::{
    Encapsulation, Integrity, Lifetime, Mode, Overlay, Sa, SaPair, Suite, Traffic,
};

/// Bytes of the packets between the hosts: what Ethernet carries.
const OUTER_MTU: usize = 1500;

/// Bytes of an outer IPv4 and UDP header.
const OUTER_HEADERS: usize = 20 + 8;

/// Protocol numbers of whole packets inside (RFC 4303 2.6): IPv4 and IPv6.
const WHOLE_PACKETS: [u8; 2] = [4, 41];

/// Why an overlay cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// An SPI that RFC 4303 reserves.
    #[error(transparent)]
    Spi(#[from] ReservedSpi),
    /// Two SAs with one inbound SPI.
    #[error(transparent)]
    Duplicate(#[from] DuplicateSpi),
    /// A key of the wrong length.
    #[error("SPI {spi:#x}: {source}")]
    Key {
        /// The SA.
        spi: u32,
        /// What is wrong.
        source: KeyLength,
    },
    /// No SA at all.
    #[error("the overlay has no SA: give [overlay.manual] with an inbound and an outbound SA")]
    NoSa,
    /// An address that is no host's.
    #[error("{0} is no address of a host: local and peer are unicast IPv4 addresses")]
    Address(IpAddr),
    /// Local and peer are one.
    #[error("local and peer are both {0}: the peer is another host")]
    SelfPeer(IpAddr),
    /// What configuration can say, and the switch cannot do yet.
    #[error("{0} is not available yet: use transport mode, ESP in UDP, IPv4, and HMAC-SHA256")]
    NotYet(&'static str),
    /// Port 0.
    #[error("port 0 is no port: 4500 is usual for ESP in UDP, at both ends")]
    Port,
    /// Ports in the wrong order.
    #[error(transparent)]
    Ports(RangeError),
    /// Ports without a protocol that has ports.
    #[error("a selector with a port takes a protocol with ports: 6 (TCP) or 17 (UDP)")]
    PortWithoutProtocol,
}

/// Which space, in the order of their places.
pub type Place = usize;

/// A pair of SAs of one space.
type PairIndex = usize;

/// What an inbound SA's packets are for.
struct Owner {
    place: Place,
    pair: PairIndex,
    selector: Selector,
}

/// One space's side of its overlay.
pub struct Tunnel {
    /// Where ESP is sent from and received on; its address is the space's own.
    local: SocketAddrV4,
    /// Where ESP is sent to.
    peer: SocketAddrV4,
    spd: Spd<PairIndex>,
    pairs: Vec<Pair>,
    mtu: u16,
    /// Packets from and to the space that were dropped.
    pub drops: Drops,
}

struct Pair {
    outbound: OutboundSa,
    inbound_spi: Spi,
}

/// Every tunnel of this host, and the SPIs that lead to them.
pub struct Tunnels {
    sad: Sad<Owner>,
    tunnels: Vec<Option<Tunnel>>,
    /// Packets from outside that belong to no space.
    pub strays: Drops,
}

impl Default for Tunnels {
    fn default() -> Self {
        Tunnels { sad: Sad::new(), tunnels: Vec::new(), strays: Drops::default() }
    }
}

/// An inner packet from the peer: authentic, and welcome to the SA and the policy.
#[derive(Debug)]
pub struct Arrived<'a> {
    /// The space it is for.
    pub place: Place,
    /// The inner IP header.
    pub header: HeaderBytes,
    /// What follows it.
    pub payload: &'a [u8],
}

/// Why a packet of the space does not leave, as the space is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Dropped, nobody is told.
    Silently(Reason),
    /// No policy protects it: administratively prohibited (RFC 1812 5.2.7.1).
    Prohibited,
    /// At most this many bytes fit (RFC 1191).
    TooBig(u16),
}

impl Tunnels {
    /// Adds the tunnel of a space; `seed` gives 16 random bytes for each SA.
    ///
    /// # Errors
    /// [`Refusal`]; nothing is changed then.
    pub fn add(
        &mut self,
        overlay: Overlay,
        mut seed: impl FnMut() -> [u8; 16],
    ) -> Result<Place, Refusal> {
        let (local, peer) = addresses(&overlay)?;
        let place = self.tunnels.iter().position(Option::is_none).unwrap_or(self.tunnels.len());
        let mut tunnel = Tunnel {
            local,
            peer,
            spd: Spd::new(),
            pairs: Vec::new(),
            mtu: u16::MAX,
            drops: Drops::default(),
        };
        for pair in overlay.sas {
            if let Err(refusal) = self.add_pair(place, &mut tunnel, pair, &mut seed) {
                self.forget(&tunnel);
                return Err(refusal);
            }
        }
        if place == self.tunnels.len() {
            self.tunnels.push(None);
        }
        self.tunnels[place] = Some(tunnel);
        Ok(place)
    }

    fn add_pair(
        &mut self,
        place: Place,
        tunnel: &mut Tunnel,
        pair: SaPair,
        seed: &mut impl FnMut() -> [u8; 16],
    ) -> Result<(), Refusal> {
        let selector = selector(*tunnel.local.ip(), *tunnel.peer.ip(), &pair.traffic)?;
        if pair.esn || pair.lifetime != Lifetime::default() {
            return Err(Refusal::NotYet("ESN, or a lifetime,"));
        }
        let (outbound_spi, outbound_keys) = keys(pair.outbound)?;
        let (inbound_spi, inbound_keys) = keys(pair.inbound)?;
        let outbound = OutboundSa::new(outbound_spi, outbound_keys, seed(), Parameters::default());
        let inbound = InboundSa::new(inbound_spi, inbound_keys, Parameters::default());
        let index = tunnel.pairs.len();
        self.sad.insert(inbound, Owner { place, pair: index, selector })?;
        let payload = outbound.max_payload(OUTER_MTU - OUTER_HEADERS).unwrap_or(0);
        tunnel.mtu = tunnel.mtu.min((ip::V4_HEADER + payload) as u16);
        tunnel.spd.add(Policy { selector, action: Action::Protect(index) });
        tunnel.pairs.push(Pair { outbound, inbound_spi });
        Ok(())
    }

    fn forget(&mut self, tunnel: &Tunnel) {
        for pair in &tunnel.pairs {
            self.sad.remove(pair.inbound_spi);
        }
    }

    /// Removes a space's tunnel; its keys are zeroed.
    pub fn remove(&mut self, place: Place) {
        if let Some(tunnel) = self.tunnels.get_mut(place).and_then(Option::take) {
            self.forget(&tunnel);
        }
    }

    /// The tunnel of a space.
    pub fn get(&self, place: Place) -> Option<&Tunnel> {
        self.tunnels.get(place)?.as_ref()
    }

    /// Every tunnel.
    pub fn iter(&self) -> impl Iterator<Item = &Tunnel> {
        self.tunnels.iter().flatten()
    }

    /// The tunnel of a space, to count with.
    pub fn get_mut(&mut self, place: Place) -> Option<&mut Tunnel> {
        self.tunnels.get_mut(place)?.as_mut()
    }

    /// Opens a datagram that came from `from` to the socket bound to `to`, in place; `None` if it is
    /// dropped, which is counted.
    pub fn open<'a>(
        &mut self,
        to: SocketAddrV4,
        from: SocketAddrV4,
        datagram: &'a mut [u8],
    ) -> Option<Arrived<'a>> {
        let spi = match natt::classify(datagram) {
            Datagram::Esp(spi) => spi,
            Datagram::Keepalive => return None,
            Datagram::Ike(_) | Datagram::Malformed => {
                self.strays.count(Reason::NotEsp);
                return None;
            }
        };
        let Some((sa, owner)) = self.sad.lookup(spi) else {
            self.strays.count(Reason::UnknownSpi);
            return None;
        };
        let tunnel = self.tunnels[owner.place].as_mut().expect("an SA goes with its tunnel");
        // Only the peer's port may differ from what was configured: a NAT on the way chose it.
        if to != tunnel.local || from.ip() != tunnel.peer.ip() {
            tunnel.drops.count(Reason::ForeignPeer);
            return None;
        }
        let opened = sa.open(datagram).ok()?;
        if WHOLE_PACKETS.contains(&opened.next_header) {
            tunnel.drops.count(Reason::TunnelMode);
            return None;
        }
        let (source, destination) = (*tunnel.peer.ip(), *tunnel.local.ip());
        let payload = &*opened.payload;
        let admitted =
            Flow::received(source.into(), destination.into(), opened.next_header, payload)
                .and_then(|flow| tunnel.spd.admit(&flow, &[owner.selector], owner.pair));
        if let Err(discard) = admitted {
            sa.count(discard);
            return None;
        }
        let header = Header::new(source.into(), destination.into(), opened.next_header)
            .bytes(payload.len())?;
        Some(Arrived { place: owner.place, header, payload })
    }

    /// Seals one IPv4 packet of the space at `place` into `batch`; what follows the packet is padding.
    ///
    /// # Errors
    /// [`Stopped`], and how to tell the space; it is counted.
    pub fn seal(&mut self, place: Place, packet: &[u8], batch: &mut Batch) -> Result<(), Stopped> {
        let tunnel = self.get_mut(place).ok_or(Stopped::Silently(Reason::Policy))?;
        let result = tunnel.seal(packet, batch);
        match result {
            Ok(()) => {}
            Err(Stopped::Silently(reason)) => tunnel.drops.count(reason),
            Err(Stopped::Prohibited) => tunnel.drops.count(Reason::Policy),
            Err(Stopped::TooBig(_)) => tunnel.drops.count(Reason::TooBig),
        }
        result
    }

    /// Shows `each` pair of SAs of a space, the inbound one first.
    pub fn each_pair(&mut self, place: Place, mut each: impl FnMut(&InboundSa, &OutboundSa)) {
        let Some(Some(tunnel)) = self.tunnels.get(place) else { return };
        for pair in &tunnel.pairs {
            if let Some((inbound, _)) = self.sad.lookup(pair.inbound_spi) {
                each(inbound, &pair.outbound);
            }
        }
    }
}

impl Tunnel {
    /// The space's own address, and the port its packets leave from.
    pub fn local(&self) -> SocketAddrV4 {
        self.local
    }

    /// Where its packets go.
    pub fn peer(&self) -> SocketAddrV4 {
        self.peer
    }

    /// The longest IP packet that fits, bytes.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    fn seal(&mut self, packet: &[u8], batch: &mut Batch) -> Result<(), Stopped> {
        let silently = |discard: esp::Discard| Stopped::Silently(discard.into());
        let packet = Packet::parse(packet, packet.len()).map_err(silently)?;
        if packet.source() != *self.local.ip() {
            return Err(Stopped::Silently(Reason::ForeignSource));
        }
        let destination = packet.destination();
        if destination.is_multicast() || destination == Ipv4Addr::BROADCAST {
            return Err(Stopped::Silently(Reason::Multicast));
        }
        let carried = packet.carried(Mode::Transport).map_err(silently)?;
        let payload = &packet.head()[carried.offset..];
        let flow = Flow::outbound(&packet).map_err(silently)?;
        let Action::Protect(index) = self.spd.best(&flow) else {
            return Err(Stopped::Prohibited);
        };
        let sa = &mut self.pairs[index].outbound;
        if sa.sealed_len(payload.len()) > OUTER_MTU - OUTER_HEADERS {
            return Err(Stopped::TooBig(self.mtu));
        }
        batch.add(self.local, self.peer, |bytes, start| {
            bytes.resize(start + sa.headroom(), 0);
            bytes.extend_from_slice(payload);
            sa.seal(packet.protocol(), bytes, start)
                .map_err(|_: esp::Unsealed| Stopped::Silently(Reason::Exhausted))
        })
    }
}

fn addresses(overlay: &Overlay) -> Result<(SocketAddrV4, SocketAddrV4), Refusal> {
    let v4 = |address: IpAddr| match address {
        IpAddr::V4(v4) if v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() => {
            Err(Refusal::Address(address))
        }
        IpAddr::V4(v4) => Ok(v4),
        IpAddr::V6(_) => Err(Refusal::NotYet("IPv6")),
    };
    let (local, peer) = (v4(overlay.local)?, v4(overlay.peer)?);
    if local == peer {
        return Err(Refusal::SelfPeer(overlay.local));
    }
    let Encapsulation::Udp { port, peer_port } = overlay.encapsulation else {
        return Err(Refusal::NotYet("this encapsulation"));
    };
    if port == 0 || peer_port == 0 {
        return Err(Refusal::Port);
    }
    if overlay.mode != Mode::Transport {
        return Err(Refusal::NotYet("tunnel mode"));
    }
    if !overlay.policies.is_empty() {
        return Err(Refusal::NotYet("a further policy"));
    }
    if overlay.sas.is_empty() {
        return Err(Refusal::NoSa);
    }
    Ok((SocketAddrV4::new(local, port), SocketAddrV4::new(peer, peer_port)))
}

fn selector(local: Ipv4Addr, peer: Ipv4Addr, traffic: &Traffic) -> Result<Selector, Refusal> {
    let with_ports = traffic.local_ports.is_some() || traffic.remote_ports.is_some();
    if with_ports && !traffic.protocol.is_some_and(|protocol| [6, 17].contains(&protocol)) {
        return Err(Refusal::PortWithoutProtocol);
    }
    if !traffic.remote.is_empty() {
        return Err(Refusal::NotYet("a remote range"));
    }
    let ports = |ports: Option<[u16; 2]>| match ports {
        None => Ok(PortRange::ANY),
        Some([first, last]) => PortRange::new(first, last).map_err(Refusal::Ports),
    };
    let everything = Selector::between(AddressRange::only(local), AddressRange::only(peer));
    Ok(Selector {
        protocol: traffic.protocol,
        local_ports: ports(traffic.local_ports)?,
        remote_ports: ports(traffic.remote_ports)?,
        ..everything
    })
}

fn keys(sa: Sa) -> Result<(Spi, Keys), Refusal> {
    let Suite::Combined(cipher, Integrity::HmacSha256) = sa.suite else {
        return Err(Refusal::NotYet(sa.suite.name()));
    };
    let (cipher_key, auth_key) = (sa.cipher_key.into_bytes(), sa.auth_key.into_bytes());
    let keys = Keys::new(cipher, cipher_key, auth_key)
        .map_err(|source| Refusal::Key { spi: sa.spi, source })?;
    Ok((Spi::new(sa.spi)?, keys))
}

#[cfg(test)]
pub(crate) mod tests;
