//! What the two ends of an SA agree on, or this end decides, besides its keys.

use crate::{Lifetime, WindowSize};

/// The parameters of an SA (RFC 4301 4.4.2.1) that are not keys; by default
/// 32-bit sequence numbers, a window of 1024 packets and no limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Whether sequence numbers have 64 bits (RFC 4303 2.2.1): both ends must agree.
    pub esn: bool,
    /// How many packets may overtake one another; only an inbound SA has a window.
    pub window: WindowSize,
    /// How long the SA may be used.
    pub lifetime: Lifetime,
    /// When the SA was made, seconds of the clock that [`crate::InboundSa::tick`]
    /// and [`crate::OutboundSa::tick`] are told.
    pub born_s: u64,
}
