//! Packets of a space on their way out: checked, cut up, sealed into the batch.

use std::net::IpAddr;

use esp::ip::Packet;
use esp::offload::{Offload, Sending};
use esp::{Action, Flow, Mode, ip, mss};

use super::{Outbound, Pair, PairIndex, Place, Tunnel, Tunnels};
use crate::batch::{Batch, Route};
use crate::drops::Reason;

/// A packet of which the beginning is in memory of our own, and the rest maybe still the guest's.
pub struct Outgoing<'a, R> {
    /// The packet's headers and maybe more, Ethernet's not included.
    pub head: &'a mut [u8],
    /// Bytes of the packet with padding behind it.
    pub total: usize,
    /// What is left to do with it.
    pub offload: Offload,
    /// Fills what it is given with the bytes that follow `head`, in order.
    pub rest: R,
}

/// What became of a packet that left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// ESP packets.
    pub packets: usize,
    /// Bytes of the space's packet.
    pub bytes: usize,
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

impl Stopped {
    /// The reason it is counted under.
    pub fn reason(self) -> Reason {
        match self {
            Stopped::Silently(reason) => reason,
            Stopped::Prohibited => Reason::Policy,
            Stopped::TooBig(_) => Reason::TooBig,
        }
    }
}

fn silently(discard: esp::Discard) -> Stopped {
    Stopped::Silently(discard.into())
}

impl Tunnels {
    /// Seals one IP packet of the space at `place` into `batch`.
    ///
    /// # Errors
    /// [`Stopped`], and how to tell the space; it is counted. Packets cut from it before may have
    /// been sealed.
    pub fn seal<R: FnMut(&mut [u8])>(
        &mut self,
        place: Place,
        packet: Outgoing<'_, R>,
        batch: &mut Batch,
        now_ns: u64,
    ) -> Result<Passed, Stopped> {
        let tunnel = self.get_mut(place).ok_or(Stopped::Silently(Reason::Policy))?;
        let result = tunnel.seal(packet, batch, now_ns);
        match result {
            Ok(passed) => tunnel.sent.add(passed.packets as u64, passed.bytes as u64),
            Err(stopped) => tunnel.drops.count(stopped.reason()),
        }
        result
    }
}

impl Tunnel {
    fn seal<R: FnMut(&mut [u8])>(
        &mut self,
        outgoing: Outgoing<'_, R>,
        batch: &mut Batch,
        now_ns: u64,
    ) -> Result<Passed, Stopped> {
        let Outgoing { head, total, offload, mut rest } = outgoing;
        let packet = Packet::parse(head, total).map_err(silently)?;
        let index = self.decide(&packet)?;
        let mtu = self.pairs[index].mtu;
        let packet = if mss::is_offer(&packet) {
            let (l4, limit) = (packet.payload_offset(), mss::limit(mtu, packet.is_v4()));
            mss::clamp(&mut head[l4..], limit, offload.checksum.is_some());
            Packet::parse(head, total).map_err(silently)?
        } else {
            packet
        };
        let mut sending = Sending::new(&packet, offload, self.mode).map_err(silently)?;
        let room = usize::from(mtu) - self.replaced(&packet);
        sending.fit(room).map_err(|esp::offload::TooBig| Stopped::TooBig(mtu))?;
        let route = self.route(&packet);
        let passed = Passed { packets: sending.payloads(), bytes: packet.len() };
        let Pair { outbound, inbound_spi, .. } = &mut self.pairs[index];
        match outbound {
            Outbound::Sealed(sa) => loop {
                let buffer = batch.buffer();
                let start = buffer.len();
                buffer.resize(start + sa.headroom(), 0);
                if !sending.write_next(buffer, &mut rest) {
                    batch.withdraw(start);
                    break;
                }
                if let Err(unsealed) = sa.seal(sending.next_header(), buffer, start) {
                    batch.withdraw(start);
                    return Err(Stopped::Silently(unsealed.into()));
                }
                batch.sealed(start, route);
            },
            Outbound::Local(spi, counted) => {
                let next_header = sending.next_header();
                let mut write = |buffer: &mut Vec<u8>| sending.write_next(buffer, &mut rest);
                while let Some(length) =
                    batch.crossing.add([*inbound_spi, *spi], next_header, route.tos, &mut write)
                {
                    counted.packets += 1;
                    counted.bytes += length as u64;
                }
            }
        }
        self.sent_ns = now_ns;
        Ok(passed)
    }

    /// Which pair of SAs protects a packet.
    fn decide(&mut self, packet: &Packet<'_>) -> Result<PairIndex, Stopped> {
        if !self.own.contains(packet.source()) {
            return Err(Stopped::Silently(Reason::ForeignSource));
        }
        let destination = packet.destination();
        let is_broadcast = matches!(destination, IpAddr::V4(address) if address.is_broadcast());
        if destination.is_multicast() || is_broadcast {
            return Err(Stopped::Silently(Reason::Multicast));
        }
        let flow = Flow::outbound(packet).map_err(silently)?;
        match self.spd.best(&flow) {
            Action::Protect(index) => Ok(index),
            Action::Discard => Err(Stopped::Prohibited),
        }
    }

    /// Bytes of a packet's headers that the outer header replaces.
    fn replaced(&self, packet: &Packet<'_>) -> usize {
        match (self.mode, packet.is_v4()) {
            (Mode::Tunnel, _) => 0,
            (Mode::Transport, true) => ip::V4_HEADER,
            (Mode::Transport, false) => ip::V6_HEADER,
        }
    }

    fn route(&self, packet: &Packet<'_>) -> Route {
        let tos = self.dscp.apply(packet.traffic_class());
        Route { from: self.local, to: self.peer, tos }
    }
}
