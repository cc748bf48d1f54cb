//! IPsec between spaces and peers: what the switch and a bare endpoint share.
//!
//! Pure: IP packets in, ESP packets out, and back. Knows no device and no
//! socket; a packet that no SA and no policy wants goes nowhere.

mod build;
mod crossing;
mod incoming;
mod keepalive;
mod outgoing;
mod path;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use esp::mtu::Path as Way;
use esp::{InboundSa, Mode, OutboundSa, Sad, Selector, Spd, Spi};

use crate::addresses::Addresses;
use crate::drops::Drops;
use crate::overlay::{Overlay, SaPair};
use crate::status::Amount;

pub use build::Refusal;
pub use crossing::Crossing;
pub use incoming::Arrived;
pub use keepalive::KeptAlive;
pub use outgoing::{Outgoing, Passed, Stopped};
use path::Path;

/// Which space, in the order of their places.
pub type Place = usize;

/// A pair of SAs of one space.
pub type PairIndex = usize;

/// What an inbound SA's packets are for.
struct Owner {
    place: Place,
    pair: PairIndex,
    /// What may come through it: one of these.
    selectors: Box<[Selector]>,
}

/// What passed through one direction of a local binding, which has no SA to count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// Packets.
    pub packets: u64,
    /// Bytes of what ESP would have carried.
    pub bytes: u64,
}

/// One direction of a local binding: an SPI, and no keys.
struct LocalSa {
    owner: Owner,
    passed: Passage,
}

/// How packets of a pair leave.
enum Outbound {
    /// Sealed, to the peer.
    Sealed(OutboundSa),
    /// To another space of this host, by its SPI.
    Local(Spi, Passage),
}

/// Two directions for the same packets.
struct Pair {
    outbound: Outbound,
    inbound_spi: Spi,
    /// The longest inner packet, bytes.
    mtu: u16,
}

/// One space's side of its overlay.
pub struct Tunnel {
    /// Where ESP is sent from and received on; port 0 for raw ESP.
    local: SocketAddr,
    /// Where ESP is sent to: where the last authentic packet came from.
    peer: SocketAddr,
    /// The peer's own address, which transport mode shows inside.
    remote: IpAddr,
    own: Addresses,
    mode: Mode,
    dscp: esp::ecn::Dscp,
    is_local: bool,
    /// Some address on the way was translated: the peer's checksums are for others.
    is_translated: bool,
    spd: Spd<PairIndex>,
    pairs: Vec<Pair>,
    path: Path,
    /// Some SA ends after a number of seconds.
    has_lifetime: bool,
    /// Seconds of silence after which a NAT may forget the mapping; 0: never.
    keepalive_s: u16,
    /// When the last packet was sealed or a keepalive sent, nanoseconds.
    sent_ns: u64,
    /// What came from the peer and was welcome.
    pub received: Amount,
    /// What went to the peer.
    pub sent: Amount,
    /// Packets from and to the space that were dropped.
    pub drops: Drops,
}

/// Every tunnel of this host, and the SPIs that lead to them.
pub struct Tunnels {
    sad: Sad<Owner>,
    /// Local bindings by the SPI of their receiving side; none of them is in the SAD.
    locals: HashMap<Spi, LocalSa>,
    /// Who sends to a peer by an SPI: what the network says about packets is asked here.
    senders: HashMap<(IpAddr, Spi), Place>,
    tunnels: Vec<Option<Tunnel>>,
    /// Packets from outside that belong to no space.
    pub strays: Drops,
}

impl Default for Tunnels {
    fn default() -> Self {
        Tunnels {
            sad: Sad::new(),
            locals: HashMap::new(),
            senders: HashMap::new(),
            tunnels: Vec::new(),
            strays: Drops::default(),
        }
    }
}

/// Both directions of a pair, to look at.
pub enum PairView<'a> {
    /// Two SAs.
    Sealed(&'a InboundSa, &'a OutboundSa),
    /// A local binding: the SPIs and what passed, inbound first.
    Local([(Spi, Passage); 2]),
}

impl Tunnels {
    /// Adds the tunnel of a space over a way of at most `mtu` bytes of IP packet; `seed` gives 16
    /// random bytes for each SA, `now_s` is when the SAs' lifetimes begin.
    ///
    /// # Errors
    /// [`Refusal`]; nothing is changed then.
    pub fn add(
        &mut self,
        overlay: Overlay,
        mtu: u16,
        now_s: u64,
        seed: impl FnMut() -> [u8; 16],
    ) -> Result<Place, Refusal> {
        let place = self.tunnels.iter().position(Option::is_none).unwrap_or(self.tunnels.len());
        let (mut tunnel, sas, policies) = build::tunnel(overlay, mtu)?;
        // A NAT has nothing to forget yet.
        tunnel.sent_ns = now_s.saturating_mul(1_000_000_000);
        if place == self.tunnels.len() {
            self.tunnels.push(None);
        }
        self.tunnels[place] = Some(tunnel);
        let added = self
            .extend(place, sas, now_s, seed)
            .and_then(|()| build::policies(self.tunnels[place].as_mut(), policies));
        if let Err(refusal) = added {
            self.remove(place);
            return Err(refusal);
        }
        Ok(place)
    }

    /// Gives the space at `place` more pairs of SAs, all or none.
    ///
    /// # Errors
    /// [`Refusal`]; nothing is changed then.
    pub fn extend(
        &mut self,
        place: Place,
        sas: Vec<SaPair>,
        now_s: u64,
        mut seed: impl FnMut() -> [u8; 16],
    ) -> Result<(), Refusal> {
        let before = self.get(place).map_or(0, |tunnel| tunnel.pairs.len());
        let added =
            sas.into_iter().try_for_each(|pair| self.add_pair(place, pair, now_s, &mut seed));
        if added.is_err()
            && let Some(Some(tunnel)) = self.tunnels.get_mut(place)
        {
            let taken_back = tunnel.pairs.split_off(before);
            let peer = tunnel.peer.ip();
            (before..before + taken_back.len()).for_each(|index| tunnel.spd.remove(index));
            taken_back.iter().for_each(|pair| self.forget(place, peer, pair));
        }
        added
    }

    /// Removes a space's tunnel; its keys are zeroed.
    pub fn remove(&mut self, place: Place) {
        if let Some(tunnel) = self.tunnels.get_mut(place).and_then(Option::take) {
            tunnel.pairs.iter().for_each(|pair| self.forget(place, tunnel.peer.ip(), pair));
        }
    }

    fn forget(&mut self, place: Place, peer: IpAddr, pair: &Pair) {
        self.sad.remove(pair.inbound_spi);
        self.locals.remove(&pair.inbound_spi);
        if let Outbound::Sealed(sa) = &pair.outbound
            && self.senders.get(&(peer, sa.spi())) == Some(&place)
        {
            self.senders.remove(&(peer, sa.spi()));
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

    /// How many pairs of SAs there are.
    pub fn sas(&self) -> usize {
        self.sad.len() + self.locals.len()
    }

    /// The space whose SA an ESP packet from outside is for.
    pub fn receiver(&self, datagram: &[u8]) -> Option<Place> {
        self.sad.get(spi_of(datagram)?).map(|(_, owner)| owner.place)
    }

    /// The space whose SA sealed an ESP packet to `peer`.
    pub fn sender(&self, peer: SocketAddr, packet: &[u8]) -> Option<Place> {
        let spi = spi_of(packet)?;
        let of = |remote: IpAddr| self.senders.get(&(remote, spi)).copied();
        let is_there = |place: &Place| self.get(*place).is_some_and(|tunnel| tunnel.peer == peer);
        of(peer.ip()).filter(is_there).or_else(|| {
            // The peer has moved: it is known by the address it was configured with.
            self.iter().filter(|tunnel| tunnel.peer == peer).find_map(|tunnel| of(tunnel.remote))
        })
    }

    /// The pair of a space with this index.
    pub fn pair(&self, place: Place, index: PairIndex) -> Option<PairView<'_>> {
        let pair = self.get(place)?.pairs.get(index)?;
        match &pair.outbound {
            Outbound::Sealed(sa) => {
                self.sad.get(pair.inbound_spi).map(|(inbound, _)| PairView::Sealed(inbound, sa))
            }
            Outbound::Local(spi, out) => {
                let inbound = self.locals.get(&pair.inbound_spi)?.passed;
                Some(PairView::Local([(pair.inbound_spi, inbound), (*spi, *out)]))
            }
        }
    }

    /// Lets SAs grow old: those whose seconds are over are used no more.
    pub fn expire(&mut self, now_s: u64) {
        for tunnel in self.tunnels.iter_mut().flatten().filter(|tunnel| tunnel.has_lifetime) {
            for pair in &mut tunnel.pairs {
                let Outbound::Sealed(outbound) = &mut pair.outbound else { continue };
                outbound.tick(now_s);
                if let Some((inbound, _)) = self.sad.lookup(pair.inbound_spi) {
                    inbound.tick(now_s);
                }
            }
        }
    }
}

impl Tunnel {
    /// Where its ESP packets come from and arrive; port 0 for raw ESP.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Where its ESP packets go now.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The peer's own address, as it was configured.
    pub fn remote(&self) -> IpAddr {
        self.remote
    }

    /// The space's own addresses.
    pub fn own(&self) -> Addresses {
        self.own
    }

    /// What ESP carries.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether it leads to another space of this host.
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Whether ESP follows the IP header directly.
    pub fn is_raw(&self) -> bool {
        !self.is_local && self.local.port() == 0
    }

    /// The longest IP packet that fits any of its SAs, bytes.
    pub fn mtu(&self) -> u16 {
        self.pairs.iter().map(|pair| pair.mtu).min().unwrap_or(u16::MAX)
    }

    /// The longest outer packet on the way to the peer, as far as is known, bytes.
    pub fn path_mtu(&self) -> u16 {
        self.path.mtu()
    }

    /// The policies in the order they are looked at, and how many packets each decided about.
    pub fn policies(&self) -> impl Iterator<Item = (&esp::Policy<PairIndex>, u64)> {
        self.spd.policies().iter().zip(self.spd.hits().iter().copied())
    }

    /// How many pairs of SAs it has.
    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    fn way(&self) -> Way {
        Way { mtu: self.path.mtu(), is_v4: self.local.is_ipv4(), is_udp: !self.is_raw() }
    }
}

/// The SPI an ESP packet begins with.
fn spi_of(packet: &[u8]) -> Option<Spi> {
    Spi::new(u32::from_be_bytes(*packet.first_chunk()?)).ok()
}

#[cfg(test)]
pub(crate) mod tests;
