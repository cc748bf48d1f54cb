//! Packets from peers: opened, checked, and given to the space they are for.

use std::net::SocketAddr;

use esp::ip::{Header, HeaderBytes, Packet, protocol};
use esp::natt::{self, Datagram};
use esp::{Discard, Flow, Mode, Spi, checksum, ecn, ip, mss};
use sys::socket::{Envelope, NetworkError};

use super::crossing::{Crossed, Crossing};
use super::{Outbound, Owner, Place, Tunnel, Tunnels};
use crate::drops::Reason;

/// Protocol numbers of whole packets inside (RFC 4303 2.6).
const WHOLE_PACKETS: [u8; 2] = [protocol::IPV4, protocol::IPV6];

/// Payloads of at most this many bytes are looked at for a sign of address translation.
const SHORT: usize = 128;

/// An inner packet for a space: authentic, and welcome to the SA and the policy.
#[derive(Debug)]
pub struct Arrived<'a> {
    /// The space it is for.
    pub place: Place,
    /// In transport mode, the IP header made for it; in tunnel mode, nothing.
    pub made: HeaderBytes,
    /// The rest of the packet; in tunnel mode, all of it.
    pub rest: &'a [u8],
}

impl Tunnels {
    /// Opens a datagram that came through the socket with local port `port` (0: raw ESP), in place;
    /// `None` if it is dropped, which is counted.
    pub fn open<'a>(
        &mut self,
        port: u16,
        envelope: &Envelope,
        datagram: &'a mut [u8],
    ) -> Option<Arrived<'a>> {
        let spi = match natt::classify(datagram) {
            Datagram::Esp(spi) => spi,
            Datagram::Keepalive if port != 0 => return None,
            Datagram::Keepalive | Datagram::Ike(_) | Datagram::Malformed => {
                self.strays.count(Reason::NotEsp);
                return None;
            }
        };
        let Some((sa, owner)) = self.sad.lookup(spi) else {
            self.strays.count(Reason::UnknownSpi);
            return None;
        };
        let tunnel = self.tunnels[owner.place].as_mut().expect("an SA goes with its tunnel");
        if (envelope.to, port) != (tunnel.local.ip(), tunnel.local.port()) {
            tunnel.drops.count(Reason::ForeignPeer);
            return None;
        }
        let opened = sa.open(datagram).ok()?;
        // Only the newest packet shows where the peer is now: an older one may have been held back.
        let moved = opened.is_newest && envelope.from != tunnel.peer;
        let admitted = tunnel.admit(owner, opened.next_header, envelope.tos, opened.payload);
        let admitted = admitted.inspect_err(|reason| sa.count(*reason)).ok();
        if moved {
            let place = owner.place;
            self.follow(place, envelope.from);
        }
        admitted
    }

    /// Sends to where the peer is now.
    fn follow(&mut self, place: Place, peer: SocketAddr) {
        let Some(Some(tunnel)) = self.tunnels.get_mut(place) else { return };
        let before = std::mem::replace(&mut tunnel.peer, peer).ip();
        if before == peer.ip() {
            return;
        }
        for pair in &tunnel.pairs {
            let super::Outbound::Sealed(sa) = &pair.outbound else { continue };
            if self.senders.get(&(before, sa.spi())) == Some(&place) {
                self.senders.remove(&(before, sa.spi()));
                self.senders.entry((peer.ip(), sa.spi())).or_insert(place);
            }
        }
    }

    /// Takes in what spaces of this host have sent to others: what is welcome is added to `arrived`.
    pub fn cross<'a>(&mut self, crossing: &'a mut Crossing, arrived: &mut Vec<Arrived<'a>>) {
        for Crossed { from, spi, next_header, traffic_class, bytes } in crossing.payloads() {
            let Some(local) = self.locals.get_mut(&spi) else {
                self.strays.count(Reason::UnknownSpi);
                continue;
            };
            let place = local.owner.place;
            let tunnel = self.tunnels[place].as_mut().expect("an SA goes with its tunnel");
            // Bound to each other, and not the one to the other alone.
            let bound_to = &tunnel.pairs[local.owner.pair].outbound;
            if !matches!(bound_to, Outbound::Local(back, _) if *back == from) {
                tunnel.drops.count(Reason::ForeignPeer);
                continue;
            }
            local.passed.packets += 1;
            local.passed.bytes += bytes.len() as u64;
            match tunnel.admit(&local.owner, next_header, traffic_class, bytes) {
                Ok(packet) => arrived.push(packet),
                Err(discard) => tunnel.drops.count(discard.into()),
            }
        }
    }

    /// Hears that a packet from the socket at `local` was too long for the way. It counts only if it
    /// quotes an SA of ours to that peer: who cannot see our packets cannot know one.
    pub fn too_big(&mut self, error: &NetworkError<'_>, is_udp: bool, now_ns: u64) {
        let quoted = error.quoted.first_chunk().map(|spi| u32::from_be_bytes(*spi));
        let spi = quoted.and_then(|number| Spi::new(number).ok());
        let (Some(mtu), Some(destination), Some(spi)) = (error.mtu, error.destination, spi) else {
            return;
        };
        let Some(place) = self.senders.get(&(destination.ip(), spi)).copied() else {
            self.strays.count(Reason::ForeignError);
            return;
        };
        let Some(tunnel) = self.tunnels[place].as_mut() else { return };
        let is_its_way = is_udp != tunnel.is_raw() && (!is_udp || destination == tunnel.peer);
        if is_its_way && tunnel.path.lower(mtu, now_ns) {
            tunnel.fit();
        }
    }

    /// Lets what is known of ways grow old: longer packets are tried again.
    pub fn forget_paths(&mut self, now_ns: u64) {
        for tunnel in self.tunnels.iter_mut().flatten() {
            if tunnel.path.forget(now_ns) {
                tunnel.fit();
            }
        }
    }
}

impl Tunnel {
    /// Checks what an SA of this tunnel carried, and makes it a packet for the space.
    fn admit<'a>(
        &mut self,
        owner: &Owner,
        next_header: u8,
        traffic_class: u8,
        payload: &'a mut [u8],
    ) -> Result<Arrived<'a>, Discard> {
        let packet = match self.mode {
            Mode::Tunnel => self.admit_packet(owner, next_header, traffic_class, payload),
            Mode::Transport => self.admit_payload(owner, next_header, traffic_class, payload),
        }?;
        self.received.add(1, (packet.made.len() + packet.rest.len()) as u64);
        Ok(packet)
    }

    /// Tunnel mode: a whole packet with addresses of its own.
    fn admit_packet<'a>(
        &mut self,
        owner: &Owner,
        next_header: u8,
        traffic_class: u8,
        bytes: &'a mut [u8],
    ) -> Result<Arrived<'a>, Discard> {
        let packet = Packet::parse(bytes, bytes.len())?;
        if next_header != WHOLE_PACKETS[usize::from(!packet.is_v4())] {
            return Err(Discard::Malformed);
        }
        let flow = Flow::inbound(&packet)?;
        self.spd.admit(&flow, &owner.selectors, owner.pair)?;
        let (length, l4, is_v4) = (packet.len(), packet.payload_offset(), packet.is_v4());
        let offers_mss = mss::is_offer(&packet);
        ecn::decapsulate(bytes, traffic_class)?;
        if offers_mss {
            let limit = mss::limit(self.pairs[owner.pair].mtu, is_v4);
            mss::clamp(&mut bytes[l4..length], limit, false);
        }
        Ok(Arrived { place: owner.place, made: HeaderBytes::new(), rest: &bytes[..length] })
    }

    /// Transport mode: what followed the peer's IP header, which is made anew.
    fn admit_payload<'a>(
        &mut self,
        owner: &Owner,
        next_header: u8,
        traffic_class: u8,
        payload: &'a mut [u8],
    ) -> Result<Arrived<'a>, Discard> {
        if WHOLE_PACKETS.contains(&next_header) {
            return Err(Discard::Malformed);
        }
        let (source, destination) = (self.remote, self.local.ip());
        let header = Header {
            traffic_class: self.dscp.apply(traffic_class),
            ..Header::new(source, destination, next_header)
        };
        let made = header.bytes(payload.len()).ok_or(Discard::Malformed)?;
        let flow = Flow::received(source, destination, next_header, payload)?;
        self.spd.admit(&flow, &owner.selectors, owner.pair)?;
        // IPv6 destination options may stand before the TCP or UDP header.
        let (protocol, l4) = ip::upper_layer(source.is_ipv4(), next_header, payload)?;
        self.repair(protocol, &mut payload[l4..])?;
        if protocol == protocol::TCP {
            let limit = mss::limit(self.pairs[owner.pair].mtu, source.is_ipv4());
            mss::clamp(&mut payload[l4..], limit, false);
        }
        Ok(Arrived { place: owner.place, made, rest: payload })
    }

    /// Gives a transport-mode payload the checksum for the addresses it is shown with, if it was
    /// made for others: behind a NAT the peer sums its own, and in a local binding each side has its
    /// own name for the other (RFC 3948 3.1.2). That it is whole was proved by the SA.
    ///
    /// No long payload comes before a short one that tells, such as TCP's SYN.
    fn repair(&mut self, protocol: u8, payload: &mut [u8]) -> Result<(), Discard> {
        let (source, destination) = (self.remote, self.local.ip());
        let is_asked = self.is_translated || self.is_local || self.peer.ip() != self.remote;
        if !is_asked && payload.len() > SHORT
            || checksum::is_right(source, destination, protocol, payload)
        {
            return Ok(());
        }
        self.is_translated = true;
        checksum::fill(source, destination, protocol, payload)
    }

    /// Computes again what fits the SAs, after the way has changed.
    fn fit(&mut self) {
        let (way, mode) = (self.way(), self.mode);
        for pair in &mut self.pairs {
            if let Outbound::Sealed(sa) = &pair.outbound {
                let mtu = way.inner(mode, |limit| sa.max_payload(limit));
                pair.mtu = mtu.expect("no way is believed so narrow that ESP has no room");
            }
        }
    }
}
