//! An overlay as configuration describes it: the peer, its SAs and its policies.
//!
//! What is here is well-formed; whether it can be used on this host is for
//! the switch to say when a space is attached.

mod key;
mod range;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use esp::{Aead, Cipher, Integrity, Suite};
pub use key::{BadKey, Key};
pub use range::Range;

/// The UDP port of encapsulated ESP (RFC 3948).
pub const DEFAULT_PORT: u16 = 4500;

/// Silence after which a NAT on the way is reminded, seconds (RFC 3948 4).
pub const DEFAULT_KEEPALIVE_S: u16 = 20;

/// Packets of a replay window where nobody says otherwise.
pub const DEFAULT_WINDOW: u16 = 1024;

/// What a space is bound to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlay {
    /// This host's address, which its ESP is sent from and received on.
    pub local: IpAddr,
    /// The other end, of the same family; with [`Encapsulation::Local`] the address under which
    /// the other space is seen.
    pub peer: IpAddr,
    /// What the ESP packets travel in.
    #[serde(default)]
    pub encapsulation: Encapsulation,
    /// What the ESP packets hold.
    #[serde(default)]
    pub mode: Mode,
    /// The space's own addresses inside, at most one of each family; empty: `local` alone.
    #[serde(default)]
    pub addresses: Vec<IpAddr>,
    /// The SAs, in pairs; each is a policy to protect its traffic.
    pub sas: Vec<SaPair>,
    /// Further policies.
    #[serde(default)]
    pub policies: Vec<Policy>,
    /// What outer headers say of the class of traffic inside.
    #[serde(default)]
    pub dscp: Dscp,
    /// Seconds of silence before a NAT keepalive is sent; 0: none is.
    #[serde(default = "default_keepalive")]
    pub keepalive_s: u16,
    /// What the space may send.
    #[serde(default)]
    pub limits: Limits,
}

fn default_keepalive() -> u16 {
    DEFAULT_KEEPALIVE_S
}

/// What ESP packets travel in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Encapsulation {
    /// UDP (RFC 3948).
    Udp {
        /// The port ESP is sent from and received on.
        #[serde(default = "default_port")]
        port: u16,
        /// The peer's port.
        #[serde(default = "default_port")]
        peer_port: u16,
    },
    /// IP itself, protocol 50 (RFC 4303).
    Raw,
    /// Nothing: the peer is another space of this host, found by the outbound SPI. Its SAs are
    /// their SPIs alone; suite and keys are not looked at.
    Local,
}

fn default_port() -> u16 {
    DEFAULT_PORT
}

impl Default for Encapsulation {
    fn default() -> Self {
        Encapsulation::Udp { port: DEFAULT_PORT, peer_port: DEFAULT_PORT }
    }
}

/// How packets are wrapped (RFC 4301 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Only the payload travels inside ESP: the space talks to the peer itself.
    #[default]
    Transport,
    /// Whole packets travel inside ESP: the space talks to what is behind the peer.
    Tunnel,
}

/// What becomes of the inner DSCP (RFC 4301 5.1.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dscp {
    /// It stays inside: the outer one is 0.
    #[default]
    Clear,
    /// Everybody on the way may read it.
    Copy,
}

/// Two SAs for the same packets, one for each direction.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaPair {
    /// For packets from the peer: this host chose its SPI.
    pub inbound: Sa,
    /// For packets to the peer: the peer chose its SPI.
    pub outbound: Sa,
    /// Which packets.
    #[serde(default)]
    pub traffic: Traffic,
    /// Whether sequence numbers have 64 bits (RFC 4303 2.2.1).
    #[serde(default)]
    pub esn: bool,
    /// The replay window, packets.
    #[serde(default = "default_window")]
    pub window: u16,
    /// How long they may be used.
    #[serde(default)]
    pub lifetime: Lifetime,
}

fn default_window() -> u16 {
    DEFAULT_WINDOW
}

/// One SA.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sa {
    /// Its number on the wire.
    pub spi: u32,
    /// Its algorithms, by name.
    #[serde(with = "suite_by_name")]
    pub suite: Suite,
    /// [`Suite::cipher_key_len`] bytes.
    #[serde(default)]
    pub cipher_key: Key,
    /// [`Suite::auth_key_len`] bytes.
    #[serde(default)]
    pub auth_key: Key,
}

/// Which packets an SA or a policy is for, seen from the space: all conditions at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// The addresses at the other end; empty: the peer's in transport mode, all of the families
    /// the space has in tunnel mode.
    #[serde(default)]
    pub remote: Vec<Range>,
    /// The IP protocol, if not all.
    #[serde(default)]
    pub protocol: Option<u8>,
    /// Ports at the space's end, first and last; for protocols that have ports.
    #[serde(default)]
    pub local_ports: Option<[u16; 2]>,
    /// Ports at the other end, likewise.
    #[serde(default)]
    pub remote_ports: Option<[u16; 2]>,
}

/// A further entry of the space's SPD (RFC 4301 4.4.1); the most specific match decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Which packets.
    #[serde(default)]
    pub traffic: Traffic,
    /// What becomes of them.
    pub action: Action,
}

/// What a policy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// They go nowhere.
    Discard,
    /// They go through the pair of SAs at this place of [`Overlay::sas`].
    Protect(usize),
}

/// How long a pair of SAs may be used (RFC 4301 4.4.2.1); nothing set: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifetime {
    /// When they are to be replaced: it is shown.
    #[serde(default)]
    pub soft: Bounds,
    /// When they are over: packets are dropped and counted.
    #[serde(default)]
    pub hard: Bounds,
}

/// Whichever comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Packets, of one direction.
    #[serde(default)]
    pub packets: Option<u64>,
    /// Payload bytes, of one direction.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// Since they were added.
    #[serde(default)]
    pub seconds: Option<u64>,
}

impl From<esp::Lifetime> for Lifetime {
    fn from(lifetime: esp::Lifetime) -> Lifetime {
        let bounds = |limits: esp::Limits| {
            let esp::Limits { packets, bytes, seconds } = limits;
            Bounds { packets, bytes, seconds }
        };
        Lifetime { soft: bounds(lifetime.soft), hard: bounds(lifetime.hard) }
    }
}

/// What a space may send; nothing set: all it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Packets per second.
    #[serde(default)]
    pub packets_per_s: Option<u64>,
    /// Bytes of IP packets per second.
    #[serde(default)]
    pub bytes_per_s: Option<u64>,
}

/// A suite in messages: its name.
mod suite_by_name {
    use std::borrow::Cow;

    use esp::Suite;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        suite: &Suite,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(suite.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Suite, D::Error> {
        Cow::<str>::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}
