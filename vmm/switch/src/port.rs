//! A space's virtio-net device, the switch's side: frames out of and into the guest's rings.
//!
//! Pure over guest memory. Each byte of a frame is read once into a private
//! buffer; whatever the driver does, at worst its own queues end.

use std::net::Ipv4Addr;

use esp::icmp::{Unreachable, unreachable};
use esp::ip::Packet;
use virtio::Memory;
use virtio::net::{HEADER as NET_HEADER, PLAIN_HEADER, is_plain};
use virtio::ring::Ring;

use crate::batch::Batch;
use crate::drops::Reason;
use crate::frame::{self, Asked, Mac};
use crate::tunnel::{Arrived, Place, Stopped, Tunnels};

/// Longest frame taken from a guest with its virtio-net header: no offload is offered, so
/// whatever is longer than an MTU is for the "too big" answer alone.
const LONGEST: usize = NET_HEADER + frame::HEADER + 9216;

/// Most device-readable bytes of a chain; a longer one breaks the queue.
pub const READABLE_LIMIT: u32 = 128 * 1024;

/// The guest's memory and rings, as far as they are there and run.
#[derive(Default)]
pub struct Port {
    /// The guest's memory.
    pub memory: Option<Memory>,
    /// For packets to the guest.
    pub receive: Option<Ring>,
    /// For packets from the guest.
    pub transmit: Option<Ring>,
}

impl Port {
    /// Writes a packet from the peer into the guest's next receive chain.
    ///
    /// # Errors
    /// [`Reason::GuestFull`]: no chain, one that is too small, or a queue that ended.
    pub fn deliver(&mut self, mac: Mac, arrived: &Arrived<'_>) -> Result<(), Reason> {
        let memory = self.memory.as_ref().ok_or(Reason::GuestFull)?;
        let ethernet = frame::to_guest(mac);
        write_frame(memory, &mut self.receive, [&ethernet, &arrived.header, arrived.payload])
    }

    /// Takes at most `budget` frames from the guest of the space at `place` and seals their packets
    /// into `batch`; gives how many frames there were.
    pub fn transmit(
        &mut self,
        (place, mac): (Place, Mac),
        budget: usize,
        tunnels: &mut Tunnels,
        batch: &mut Batch,
    ) -> usize {
        let (Some(memory), Some(ring)) = (&self.memory, &mut self.transmit) else { return 0 };
        let Some(own) = tunnels.get(place).map(|tunnel| *tunnel.local().ip()) else { return 0 };
        let mut buffer = [0; LONGEST];
        for taken in 0..budget {
            let Ok(Some(mut chain)) = ring.pop(memory) else { return taken };
            let whole = chain.readable() <= LONGEST;
            let length = chain.read(memory, &mut buffer);
            ring.complete(memory, chain);
            let frame = if whole { plain_frame(&buffer[..length]) } else { Err(Reason::Runt) };
            let done = frame.and_then(|frame| {
                let answer = serve((place, mac, own), frame, tunnels, batch)?;
                answer.map_or(Ok(()), |answer| answer.write(memory, &mut self.receive))
            });
            if let (Err(reason), Some(tunnel)) = (done, tunnels.get_mut(place)) {
                tunnel.drops.count(reason);
            }
        }
        budget
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
}

/// A frame from the switch itself: an ARP reply, or an ICMP error.
struct Answer {
    bytes: [u8; frame::HEADER + 1280],
    length: usize,
}

impl Answer {
    fn new(parts: [&[u8]; 2]) -> Answer {
        let mut answer = Answer { bytes: [0; _], length: 0 };
        for part in parts {
            answer.bytes[answer.length..][..part.len()].copy_from_slice(part);
            answer.length += part.len();
        }
        answer
    }

    fn write(&self, memory: &Memory, receive: &mut Option<Ring>) -> Result<(), Reason> {
        write_frame(memory, receive, [&self.bytes[..self.length], &[], &[]])
    }
}

/// Does what a frame asks; a packet that is stopped is counted already.
fn serve(
    (place, mac, own): (Place, Mac, Ipv4Addr),
    frame: &[u8],
    tunnels: &mut Tunnels,
    batch: &mut Batch,
) -> Result<Option<Answer>, Reason> {
    let packet = match frame::from_guest(frame, mac, own)? {
        Asked::Arp(reply) => return Ok(Some(Answer::new([&reply, &[]]))),
        Asked::Packet(packet) => packet,
    };
    let why = match tunnels.seal(place, packet, batch) {
        Ok(()) | Err(Stopped::Silently(_)) => return Ok(None),
        Err(Stopped::Prohibited) => Unreachable::Prohibited,
        Err(Stopped::TooBig(mtu)) => Unreachable::TooBig(mtu),
    };
    let ethernet = frame::to_guest(mac);
    let error =
        Packet::parse(packet, packet.len()).ok().and_then(|packet| unreachable(&packet, why));
    Ok(error.map(|error| Answer::new([&ethernet, &error])))
}

fn write_frame(
    memory: &Memory,
    receive: &mut Option<Ring>,
    parts: [&[u8]; 3],
) -> Result<(), Reason> {
    let ring = receive.as_mut().ok_or(Reason::GuestFull)?;
    let Ok(Some(mut chain)) = ring.pop(memory) else { return Err(Reason::GuestFull) };
    let length = NET_HEADER + parts.iter().map(|part| part.len()).sum::<usize>();
    let fits = chain.writable() >= length;
    if fits {
        chain.write(memory, &PLAIN_HEADER);
        for part in parts {
            chain.write(memory, part);
        }
    }
    // A chain that is too small goes back empty: a runt, which the driver drops.
    ring.complete(memory, chain);
    if fits { Ok(()) } else { Err(Reason::GuestFull) }
}

fn plain_frame(bytes: &[u8]) -> Result<&[u8], Reason> {
    let (header, frame) = bytes.split_first_chunk::<NET_HEADER>().ok_or(Reason::Runt)?;
    if is_plain(header) { Ok(frame) } else { Err(Reason::Offload) }
}
