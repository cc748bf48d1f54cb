//! The network card of one space: its rings, as its front end sets them up.

use backend::Queues;
use sys::eventfd::EventFd;
use virtio::Memory;
use virtio::mmio::Identity;
use virtio::net;
use virtio::ring::Ring;

use crate::frame::Mac;
use crate::port::{Port, READABLE_LIMIT};

/// Descriptors of a queue, where the front end asks.
const QUEUE_SIZE: u16 = 256;

/// What the switch spares its guests, and they it: checksums, and packets of up to 64 KiB.
const OFFLOADS: u64 = net::CSUM
    | net::GUEST_CSUM
    | net::HOST_TSO4
    | net::HOST_TSO6
    | net::HOST_ECN
    | net::HOST_USO
    | net::GUEST_TSO4
    | net::GUEST_TSO6
    | net::GUEST_ECN
    | net::GUEST_USO4
    | net::GUEST_USO6
    | net::MRG_RXBUF;

const TRANSMIT: usize = net::TRANSMIT as usize;

/// What changed in the events to wait for.
#[derive(Debug)]
pub enum Kick {
    /// No longer to be watched.
    Retired(EventFd),
    /// To be watched from now on: the card's current one.
    Fresh,
}

/// The virtio-net device of one space.
pub struct Card {
    identity: Identity,
    mac: Mac,
    kick: Option<EventFd>,
    kicks: Vec<Kick>,
    calls: [Option<EventFd>; 2],
    /// The running queues.
    pub port: Port,
}

impl Card {
    /// A card nobody has set up.
    pub fn new(mac: Mac, mtu: u16) -> Card {
        let mut identity = net::identity(mac, mtu, QUEUE_SIZE);
        identity.features |= OFFLOADS;
        let (kick, kicks, calls) = (None, Vec::new(), Default::default());
        Card { identity, mac, kick, kicks, calls, port: Port::default() }
    }

    /// The space's Ethernet address.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Whether both queues run.
    pub fn is_running(&self) -> bool {
        self.port.receive.is_some() && self.port.transmit.is_some()
    }

    /// What changed in the events of the transmit queue. The receive queue's are not
    /// waited for: buffers are looked for when there is a packet.
    pub fn take_kicks(&mut self) -> Vec<Kick> {
        std::mem::take(&mut self.kicks)
    }

    /// The event with which the guest says that frames wait.
    pub fn kick(&self) -> Option<&EventFd> {
        self.kick.as_ref()
    }

    /// Tells the guest about chains given back, if it wants to know; gives the notifications sent.
    pub fn notify(&mut self) -> u64 {
        let mut sent = 0;
        for (call, wanted) in self.calls.iter().zip(self.port.wants_notification()) {
            if let (true, Some(call)) = (wanted, call) {
                call.signal();
                sent += 1;
            }
        }
        sent
    }

    fn ring(&mut self, index: usize) -> &mut Option<Ring> {
        match index {
            TRANSMIT => &mut self.port.transmit,
            _ => &mut self.port.receive,
        }
    }
}

impl Queues for Card {
    const COUNT: usize = 2;
    const ARE_COUNTED: bool = false;
    const READABLE_LIMIT: u32 = READABLE_LIMIT;

    fn offered(&self) -> u64 {
        self.identity.features
    }

    fn agreed(&mut self, features: u64) {
        self.port.features = features;
    }

    fn mapped(&mut self, memory: Memory) {
        self.port.memory = Some(memory);
    }

    fn kicked_by(&mut self, index: usize, kick: Option<EventFd>) {
        if index != TRANSMIT {
            return;
        }
        self.kicks.extend(self.kick.take().map(Kick::Retired));
        self.kicks.extend(kick.is_some().then_some(Kick::Fresh));
        self.kick = kick;
    }

    fn calls(&mut self, index: usize, call: Option<EventFd>) {
        self.calls[index] = call;
    }

    fn start(&mut self, index: usize, ring: Ring) {
        *self.ring(index) = Some(ring);
    }

    fn stop(&mut self, index: usize) -> Option<Ring> {
        self.ring(index).take()
    }
}
