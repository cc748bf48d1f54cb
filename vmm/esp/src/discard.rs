//! Why a packet goes no further, and how often.

/// Why a packet of a guest or a peer is discarded. Nobody is told; it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Discard {
    /// Shorter than its SA's header, trailer and ICV, or not in whole cipher blocks.
    Truncated,
    /// The SPI in the packet is not the SA's.
    ForeignSpi,
    /// The sequence number was accepted before or is older than the window (RFC 4303 3.4.3).
    Replayed,
    /// The ICV does not match: not from the peer, or changed on the way.
    Forged,
    /// Authentic, but the padding is not 1, 2, 3, ... (RFC 4303 2.4).
    BadPadding,
    /// Authentic traffic-flow padding, next header 59 (RFC 4303 2.6).
    Dummy,
    /// The SA has reached a hard limit of its lifetime, or the packet would pass it (RFC 4301 4.4.2.1).
    Expired,
    /// No IP packet, or none that is whole and consistent.
    Malformed,
    /// A fragment where only whole packets may be (RFC 4303 3.1.1, transport mode).
    Fragment,
    /// IPv4 options, or IPv6 hop-by-hop options or a routing header, which the outer
    /// header of transport mode does not carry.
    Options,
    /// Outside the selectors of the SA it came through (RFC 4301 5.2 step 4).
    ForeignSelector,
    /// The SPD's best match discards it, or protects it by another SA, or there is none.
    Policy,
    /// IPv6 extension headers that are refused: routing type 0 (RFC 5095), too many or too long.
    Extension,
    /// Checksum or segmentation left to do where the packet has no place for it.
    Offload,
    /// Congestion marked on the way of a packet that cannot say so (RFC 6040 4.2).
    Congestion,
}

impl Discard {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Discard; 15] = [
        Discard::Truncated,
        Discard::ForeignSpi,
        Discard::Replayed,
        Discard::Forged,
        Discard::BadPadding,
        Discard::Dummy,
        Discard::Expired,
        Discard::Malformed,
        Discard::Fragment,
        Discard::Options,
        Discard::ForeignSelector,
        Discard::Policy,
        Discard::Extension,
        Discard::Offload,
        Discard::Congestion,
    ];

    /// The reason as listings and counters name it.
    pub const fn name(self) -> &'static str {
        match self {
            Discard::Truncated => "truncated",
            Discard::ForeignSpi => "foreign_spi",
            Discard::Replayed => "replayed",
            Discard::Forged => "forged",
            Discard::BadPadding => "bad_padding",
            Discard::Dummy => "dummy",
            Discard::Expired => "expired",
            Discard::Malformed => "malformed",
            Discard::Fragment => "fragment",
            Discard::Options => "options",
            Discard::ForeignSelector => "foreign_selector",
            Discard::Policy => "policy",
            Discard::Extension => "extension",
            Discard::Offload => "offload",
            Discard::Congestion => "congestion",
        }
    }
}

/// Discarded packets by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Discards([u64; Discard::ALL.len()]);

impl Discards {
    /// One more packet discarded for this reason.
    pub fn count(&mut self, reason: Discard) {
        self.0[reason as usize] += 1;
    }

    /// Packets discarded for this reason.
    pub fn of(&self, reason: Discard) -> u64 {
        self.0[reason as usize]
    }

    /// Packets discarded for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Every reason with its count, zeros included.
    pub fn iter(&self) -> impl Iterator<Item = (Discard, u64)> + '_ {
        Discard::ALL.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_counter_of_its_own() {
        let mut discards = Discards::default();
        for (times, reason) in Discard::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| discards.count(reason));
        }
        for (times, (reason, count)) in discards.iter().enumerate() {
            assert_eq!((count, discards.of(reason)), (times as u64, times as u64));
        }
        let reasons = Discard::ALL.len() as u64;
        assert_eq!(discards.total(), reasons * (reasons - 1) / 2);
    }
}
