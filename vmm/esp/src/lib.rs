//! IPsec data plane: ESP, SAD, SPD, replay window, NAT traversal; pure.
//!
//! Bytes and randomness come as arguments. Outbound: [`Flow`], [`Spd::best`],
//! [`OutboundSa::seal`]. Inbound: [`natt::classify`], [`Sad::lookup`],
//! [`InboundSa::open`], [`Spd::admit`]. What is not allowed is discarded.

pub mod aead;
pub mod checksum;
mod cipher;
mod discard;
pub mod ecn;
mod hmac;
pub mod icmp;
mod inbound;
pub mod ip;
mod keys;
mod lifetime;
pub mod mss;
pub mod mtu;
pub mod natt;
pub mod offload;
mod outbound;
mod parameters;
mod range;
mod replay;
mod sad;
mod selector;
mod spd;
mod spi;
mod suite;
mod transform;
#[cfg(test)]
mod vectors;

pub use discard::{Discard, Discards};
pub use inbound::{InboundSa, Opened};
pub use ip::Mode;
pub use keys::{KeyLength, Keys};
pub use lifetime::{Age, Lifetime, Limits};
pub use outbound::{OutboundSa, Unsealed};
pub use parameters::Parameters;
pub use range::{AddressRange, ParseRangeError, PortRange, RangeError};
pub use replay::{Fresh, ReplayWindow, WindowSize, WindowSizeError};
pub use sad::{DuplicateSpi, Sad};
pub use selector::{Flow, Match, Ports, Selector};
pub use spd::{Action, Policy, Spd};
pub use spi::{ReservedSpi, Spi};
pub use suite::{Aead, Cipher, Integrity, Suite, UnknownSuite};

/// IP protocol number of ESP (RFC 4303 2), of a packet that is not UDP-encapsulated.
pub const PROTOCOL: u8 = 50;

/// Most headroom any SA asks for before a payload, bytes: SPI, sequence number and IV.
pub const MAX_HEADROOM: usize = transform::HEADER + suite::MAX_IV_LEN;

/// Most bytes any SA adds to a payload: headroom, padding, trailer and ICV.
pub const MAX_OVERHEAD: usize = MAX_HEADROOM + 15 + 2 + suite::MAX_ICV_LEN;
