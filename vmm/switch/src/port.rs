//! One space's rings: frames from its guest, packets to it.
//!
//! All that touches guest memory. Each byte of a frame is read once into private
//! memory, its headers into a buffer and the rest straight to where it is sealed;
//! whatever the driver does, at worst its own queues end.

use esp::icmp::{self, Unreachable};
use esp::ip::Packet;
use esp::offload::{Accepts, Merged};
use virtio::Memory;
use virtio::chain::Chain;
use virtio::net::{HEADER as NET_HEADER, PacketHeader};
use virtio::ring::Ring;

use crate::batch::Batch;
use crate::capture::Taps;
use crate::drops::Reason;
use crate::frame::{self, Asked, Mac};
use crate::limiter::Limiter;
use crate::offload;
use crate::tunnel::{Outgoing, Place, Stopped, Tunnels};

/// Bytes of a packet that are looked at: all headers that are understood fit.
const HEAD: usize = 256;

/// Most device-readable bytes of a chain; a longer one breaks the queue.
pub const READABLE_LIMIT: u32 = 128 * 1024;

/// Most chains that one packet to the guest is spread over.
const MOST_MERGED: usize = 64;

/// Bytes of all headers before an IP packet.
const BEFORE: usize = NET_HEADER + frame::HEADER;

/// What one space may move in one turn, before the others get theirs.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Frames taken.
    pub frames: usize,
    /// Bytes taken, the last frame not counted.
    pub bytes: usize,
    /// The time, nanoseconds.
    pub now_ns: u64,
}

/// The guest's memory and rings, as far as they are there and run.
#[derive(Default)]
pub struct Port {
    /// The guest's memory.
    pub memory: Option<Memory>,
    /// For packets to the guest.
    pub receive: Option<Ring>,
    /// For packets from the guest.
    pub transmit: Option<Ring>,
    /// The features both sides agreed on.
    pub features: u64,
    /// Room for the chains of one packet.
    taken: Vec<Chain>,
}

/// Where frames go and what is asked on the way.
pub struct Exits<'a> {
    /// The space.
    pub place: Place,
    /// Its guest's Ethernet address.
    pub mac: Mac,
    /// Its tunnel and all others.
    pub tunnels: &'a mut Tunnels,
    /// What it may send.
    pub limiter: &'a mut Limiter,
    /// For what was sealed.
    pub batch: &'a mut Batch,
    /// Who wants to see them.
    pub taps: &'a mut Taps,
}

impl Port {
    /// The large packets the guest takes.
    pub fn accepts(&self) -> Accepts {
        offload::accepts(self.features)
    }

    /// Writes a packet from the peer into the guest's next receive chains.
    ///
    /// # Errors
    /// [`Reason::GuestFull`]: no chains, too small ones, or a queue that ended.
    pub fn deliver(&mut self, mac: Mac, packet: &Merged<'_, '_>) -> Result<(), Reason> {
        let first = packet.headers.first().or_else(|| packet.payloads.first()?.first());
        let ethernet = frame::to_guest(mac, *first.ok_or(Reason::Malformed)?);
        let headers = packet.headers.len();
        let header = offload::to_header(&packet.offload, frame::HEADER, headers);
        let payloads = packet.payloads.iter().copied();
        self.write_frame(header, [&ethernet[..], packet.headers].into_iter().chain(payloads))
    }

    /// Takes frames from the guest and seals their packets; gives how many frames there were.
    pub fn transmit(&mut self, turn: Turn, exits: &mut Exits<'_>) -> usize {
        let (mut frames, mut bytes) = (0, 0);
        while frames < turn.frames && bytes < turn.bytes {
            if exits.limiter.holds(turn.now_ns) {
                break;
            }
            let (Some(memory), Some(ring)) = (&self.memory, &mut self.transmit) else { break };
            let Ok(Some(mut chain)) = ring.pop(memory) else { break };
            frames += 1;
            bytes += chain.readable();
            let served = serve(memory, self.features, &mut chain, exits, turn.now_ns);
            ring.stage(memory, chain);
            let done = served.and_then(|answer| match answer {
                None => Ok(()),
                Some(Said::Neighbour(answer)) => self.write_plain([answer.bytes(), &[]]),
                Some(Said::Error(error)) => {
                    self.write_plain([&frame::to_guest(exits.mac, error[0]), &error])
                }
            });
            if let (Err(reason), Some(tunnel)) = (done, exits.tunnels.get_mut(exits.place)) {
                tunnel.drops.count(reason);
            }
        }
        if let (Some(memory), Some(ring)) = (&self.memory, &mut self.transmit) {
            ring.publish(memory);
        }
        frames
    }

    /// Whether the guest has frames waiting; cheap enough to spin on.
    pub fn has_work(&self) -> bool {
        match (&self.memory, &self.transmit) {
            (Some(memory), Some(ring)) => ring.has_work(memory),
            _ => false,
        }
    }

    /// Whether the guest wants to be told about chains given back: received, transmitted.
    pub fn wants_notification(&mut self) -> [bool; 2] {
        let Some(memory) = &self.memory else { return [false; 2] };
        [&mut self.receive, &mut self.transmit]
            .map(|ring| ring.as_mut().is_some_and(|ring| ring.wants_notification(memory)))
    }

    /// Asks the guest to notify about frames; true if some are there already.
    #[must_use = "frames that are there already are not announced"]
    pub fn arm(&mut self) -> bool {
        match (&self.memory, &mut self.transmit) {
            (Some(memory), Some(ring)) => ring.arm(memory),
            _ => false,
        }
    }

    /// Asks the guest not to notify: somebody looks all the time.
    pub fn disarm(&mut self) {
        let Some(memory) = &self.memory else { return };
        // Receive chains are looked for when a packet is there, never waited for.
        for ring in [&mut self.receive, &mut self.transmit].into_iter().flatten() {
            ring.disarm(memory);
        }
    }

    fn write_plain(&mut self, parts: [&[u8]; 2]) -> Result<(), Reason> {
        let header = PacketHeader { buffers: 1, ..PacketHeader::default() };
        self.write_frame(header, parts.into_iter())
    }

    /// Writes a frame into one chain, or into several where the guest merges them
    /// (virtio 1.2 5.1.6.4). The guest sees all of it at once.
    fn write_frame<'a>(
        &mut self,
        header: PacketHeader,
        parts: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> Result<(), Reason> {
        let (Some(memory), Some(ring)) = (&self.memory, &mut self.receive) else {
            return Err(Reason::GuestFull);
        };
        let length = NET_HEADER + parts.clone().map(<[u8]>::len).sum::<usize>();
        let merges = self.features & virtio::net::MRG_RXBUF != 0;
        let most = if merges { MOST_MERGED } else { 1 };
        let mut room = 0;
        while room < length {
            let chain = match ring.pop(memory) {
                Ok(Some(chain)) if self.taken.len() < most => chain,
                Ok(chain) => {
                    // Too few or too small: they stay where they are for a shorter packet.
                    chain.into_iter().for_each(|chain| ring.put_back(chain));
                    return Err(give_up(&mut self.taken, most, memory, ring));
                }
                Err(_) => return Err(give_up(&mut self.taken, most, memory, ring)),
            };
            room += chain.writable();
            self.taken.push(chain);
        }
        let header = PacketHeader { buffers: self.taken.len() as u16, ..header }.bytes();
        let mut chains = self.taken.drain(..);
        let mut current = chains.next();
        let mut write = |mut part: &[u8]| {
            while let (Some(chain), false) = (&mut current, part.is_empty()) {
                part = &part[chain.write(memory, part)..];
                if chain.writable() == 0 {
                    current.take().into_iter().for_each(|chain| ring.stage(memory, chain));
                    current = chains.next();
                }
            }
        };
        write(&header);
        parts.for_each(write);
        current.into_iter().chain(chains).for_each(|chain| ring.stage(memory, chain));
        ring.publish(memory);
        Ok(())
    }
}

/// Puts chains that are not used back. If as many as one packet may take have no room for any, the
/// first goes to the driver empty, a runt: it would be in the way for ever.
fn give_up(taken: &mut Vec<Chain>, most: usize, memory: &Memory, ring: &mut Ring) -> Reason {
    let room: usize = taken.iter().map(Chain::writable).sum();
    let is_useless = taken.len() == most && room < BEFORE + esp::ip::V6_HEADER;
    while let Some(chain) = taken.pop() {
        if taken.is_empty() && is_useless {
            ring.complete(memory, chain);
        } else {
            ring.put_back(chain);
        }
    }
    Reason::GuestFull
}

/// What the switch itself answers to a frame.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on the stack")]
enum Said {
    Neighbour(frame::Answer),
    Error(icmp::ErrorBytes),
}

/// Does what a frame asks; a packet that is stopped is counted already.
fn serve(
    memory: &Memory,
    features: u64,
    chain: &mut Chain,
    exits: &mut Exits<'_>,
    now_ns: u64,
) -> Result<Option<Said>, Reason> {
    let (mac, place) = (exits.mac, exits.place);
    let own = exits.tunnels.get(place).ok_or(Reason::Policy)?.own();
    let mut buffer = [0; BEFORE + HEAD];
    let length = chain.read(memory, &mut buffer);
    exits.limiter.charge(now_ns, 1, length + chain.readable());
    let (header, frame) = buffer[..length].split_first_chunk_mut().ok_or(Reason::Runt)?;
    let header = PacketHeader::parse(header, features).map_err(|_| Reason::Offload)?;
    let offload = offload::from_header(&header, frame::HEADER).ok_or(Reason::Offload)?;
    match frame::from_guest(frame, mac, own)? {
        Asked::Neighbour(answer) => return Ok(Some(Said::Neighbour(answer))),
        Asked::Packet => {}
    }
    let head = &mut frame[frame::HEADER..];
    let total = head.len() + chain.readable();
    // What somebody watches is read as a whole: it is sealed as it was seen.
    let mut seen = Vec::new();
    if exits.taps.wants_inner_of(place) {
        seen.resize(chain.readable(), 0);
        chain.read(memory, &mut seen);
        exits.taps.inner_out(place, now_ns, &[head, &seen]);
    }
    let mut seen = &seen[..];
    let rest = |bytes: &mut [u8]| {
        let read = match seen.split_at_checked(bytes.len()) {
            Some((part, rest)) if !part.is_empty() => {
                bytes.copy_from_slice(part);
                seen = rest;
                part.len()
            }
            _ => chain.read(memory, bytes),
        };
        // Only if guest memory went away; then the queue ends with it.
        bytes[read..].fill(0);
    };
    let outgoing = Outgoing { head, total, offload, rest };
    let why = match exits.tunnels.seal(place, outgoing, exits.batch, now_ns) {
        Ok(passed) => {
            exits.limiter.charge(now_ns, passed.packets.saturating_sub(1), 0);
            return Ok(None);
        }
        Err(Stopped::Silently(_)) => return Ok(None),
        Err(Stopped::Prohibited) => Unreachable::Prohibited,
        Err(Stopped::TooBig(mtu)) => Unreachable::TooBig(mtu),
    };
    let head = &frame[frame::HEADER..];
    let packet = Packet::parse(head, total).map_err(Reason::from)?;
    Ok(icmp::unreachable(&packet, why).map(Said::Error))
}
