//! What the switch says of itself, its spaces, their SAs and policies; never a key.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::frame::Mac;
use crate::overlay::{Lifetime, Limits, Mode, Range};

/// Counts by reason; reasons that did not occur are left out.
pub type Counts = BTreeMap<String, u64>;

/// The switch at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The moment, nanoseconds of CLOCK_MONOTONIC: rates are differences over its differences.
    pub at_ns: u64,
    /// Packets from outside that belonged to no space, by reason.
    pub strays: Counts,
    /// What the loop did.
    pub turns: LoopCounters,
    /// Spaces.
    pub attached: u64,
    /// Pairs of SAs, of all spaces.
    pub sas: u64,
    /// In the order of their places; the switch itself leaves them to [`crate::control::Client`].
    #[serde(default)]
    pub spaces: Vec<SpaceStatus>,
}

/// How a loop spent its time since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopCounters {
    /// Spins that ended with work.
    pub spins_won: u64,
    /// Spins that ended with sleep.
    pub spins_lost: u64,
    /// Times the loop slept and was woken.
    pub wakeups: u64,
    /// System calls that received, those that found nothing included.
    pub receive_calls: u64,
    /// System calls that sent.
    pub send_calls: u64,
    /// Packets the kernel did not take.
    pub send_lost: u64,
    /// Notifications sent to guests.
    pub notifications: u64,
    /// NAT keepalives sent (RFC 3948 4).
    pub keepalives: u64,
}

/// One space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceStatus {
    /// Its name.
    pub space: String,
    /// Where its ESP comes from and arrives; port 0 without UDP.
    pub local: SocketAddr,
    /// Where its ESP goes now: a NAT on the way may have moved the peer.
    pub peer: SocketAddr,
    /// The peer's address as it was configured.
    pub configured_peer: IpAddr,
    /// What its ESP travels in: `udp`, `raw`, or `local`.
    pub encapsulation: String,
    /// What its ESP holds.
    pub mode: Mode,
    /// Its own addresses inside.
    pub addresses: Vec<IpAddr>,
    /// Its Ethernet address.
    pub mac: Mac,
    /// The longest IP packet that fits, bytes.
    pub mtu: u16,
    /// The longest outer packet on the way to the peer, as far as is known, bytes.
    pub path_mtu: u16,
    /// Who drives its queues.
    pub machine: Machine,
    /// Whether the guest's driver runs both of its queues.
    pub running: bool,
    /// Offloads the guest's driver took, as virtio-net names them.
    pub offloads: Vec<String>,
    /// When the first packet from the peer was given to the guest; nanoseconds of CLOCK_MONOTONIC.
    pub first_answer_ns: Option<u64>,
    /// When the last one was.
    pub last_answer_ns: Option<u64>,
    /// What it may send.
    pub limits: Limits,
    /// Times it was made to wait for its limits.
    pub held: u64,
    /// Packets from the peer that were welcome.
    pub received: Amount,
    /// Packets to the peer.
    pub sent: Amount,
    /// Packets dropped outside of its SAs, by reason.
    pub drops: Counts,
    /// How many pairs of SAs it has.
    pub sas: u64,
    /// Its SAs; the switch itself leaves them to [`crate::control::Client`].
    #[serde(default)]
    pub pairs: Vec<PairStatus>,
    /// Its policies, in the order they are looked at; likewise.
    #[serde(default)]
    pub policies: Vec<PolicyStatus>,
}

/// Who drives a space's queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Machine {
    /// A VM process of ours.
    #[default]
    Own,
    /// A foreign front end that is connected.
    Foreign,
    /// A foreign front end that is awaited.
    Awaited,
}

/// Packets, and the bytes of IP packet or payload in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Amount {
    /// So much more.
    pub fn add(&mut self, packets: u64, bytes: u64) {
        self.packets += packets;
        self.bytes += bytes;
    }
}

/// Two SAs of a space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairStatus {
    /// Its place among the space's pairs, from 0: what policies call it.
    pub index: u64,
    /// From the peer.
    pub inbound: InboundStatus,
    /// To the peer.
    pub outbound: OutboundStatus,
}

/// One inbound SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundStatus {
    /// Its number.
    pub spi: u32,
    /// Its algorithms by name; `none` of a local binding.
    pub suite: String,
    /// Whether sequence numbers have 64 bits.
    pub esn: bool,
    /// Packets opened.
    pub packets: u64,
    /// Payload bytes opened.
    pub bytes: u64,
    /// The highest sequence number accepted: the top of the replay window.
    pub sequence: u64,
    /// The window's size, packets; 0 of a local binding.
    pub window: u16,
    /// How many sequence numbers in the window were accepted.
    pub accepted: u16,
    /// How old it is, seconds.
    pub age_s: u64,
    /// How long it may be used.
    pub lifetime: Lifetime,
    /// How far it has come in its lifetime.
    pub state: Age,
    /// Packets discarded, by reason.
    pub drops: Counts,
}

/// One outbound SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboundStatus {
    /// Its number.
    pub spi: u32,
    /// Its algorithms by name; `none` of a local binding.
    pub suite: String,
    /// Whether sequence numbers have 64 bits.
    pub esn: bool,
    /// Packets sealed.
    pub packets: u64,
    /// Payload bytes sealed.
    pub bytes: u64,
    /// The last sequence number used.
    pub sequence: u64,
    /// How old it is, seconds.
    pub age_s: u64,
    /// How long it may be used.
    pub lifetime: Lifetime,
    /// How far it has come in its lifetime.
    pub state: Age,
}

/// How far an SA has come in its lifetime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Age {
    /// No bound is reached.
    #[default]
    Fresh,
    /// A soft bound is reached: time for a new one.
    SoftExpired,
    /// A hard bound is reached: nothing passes any more.
    HardExpired,
}

impl From<esp::Age> for Age {
    fn from(age: esp::Age) -> Age {
        match age {
            esp::Age::Fresh => Age::Fresh,
            esp::Age::SoftExpired => Age::SoftExpired,
            esp::Age::HardExpired => Age::HardExpired,
        }
    }
}

/// One policy of a space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// The pair that protects, by its place; `None`: the packets are discarded.
    pub protect: Option<u64>,
    /// The space's own addresses it is for.
    pub local: Range,
    /// The addresses at the other end.
    pub remote: Range,
    /// The IP protocol, if not all.
    pub protocol: Option<u8>,
    /// Ports at the space's end, first and last, if not all.
    pub local_ports: Option<[u16; 2]>,
    /// Ports at the other end, likewise.
    pub remote_ports: Option<[u16; 2]>,
    /// Packets of either direction it decided about.
    pub hits: u64,
}

/// Part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// In order.
    pub items: Vec<T>,
    /// Where the next part begins, if there is one.
    pub next: Option<u64>,
}

impl SpaceStatus {
    /// Packets dropped for any reason, outside of the SAs and in them.
    pub fn dropped(&self) -> u64 {
        let in_sas = self.pairs.iter().flat_map(|pair| pair.inbound.drops.values());
        self.drops.values().chain(in_sas).sum()
    }
}
