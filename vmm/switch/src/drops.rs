//! Why the switch drops a packet, and how often; what ESP itself discards is counted there.

use std::collections::BTreeMap;

use esp::{Discard, Unsealed};

/// Why a packet of a guest or a peer went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// From the guest: no whole virtio-net and Ethernet header.
    Runt,
    /// From the guest: asks for an offload that was not negotiated, or that its packet is not fit for.
    Offload,
    /// From the guest: the source is not the space's own Ethernet address.
    ForeignMac,
    /// From the guest: VLAN tags, and every other EtherType than IPv4, IPv6 and ARP.
    EtherType,
    /// From the guest: to an Ethernet or IP multicast or broadcast address.
    Multicast,
    /// From the guest: ARP or neighbour discovery that is no question for a neighbour.
    Neighbour,
    /// From the guest: the IP source is not the space's own address.
    ForeignSource,
    /// From the guest: longer than the SA's MTU.
    TooBig,
    /// From the guest: the SA has used up its sequence numbers.
    Exhausted,
    /// From the guest: the SA's lifetime is over.
    Expired,
    /// From the peer: the SPI names no SA here.
    UnknownSpi,
    /// From the peer: to another of our sockets than the SA's; in a local binding, from another space.
    ForeignPeer,
    /// From the peer: neither ESP nor IKE nor a keepalive; or IKE, which nobody here speaks.
    NotEsp,
    /// From the network: an ICMP error that quotes no SA of ours.
    ForeignError,
    /// To the guest: it has no receive buffers, or too small ones.
    GuestFull,
    /// Inside the packet; the reasons that [`esp::Discard`] names.
    Malformed,
    /// From the guest: a fragment in transport mode.
    Fragment,
    /// From the guest: IP options or extension headers that are not carried.
    Options,
    /// From the guest: no policy protects it.
    Policy,
    /// To the guest: congestion was marked, and the packet cannot say so (RFC 6040).
    Congestion,
}

impl Reason {
    const ALL: [(Reason, &'static str); 20] = [
        (Reason::Runt, "runt"),
        (Reason::Offload, "offload"),
        (Reason::ForeignMac, "foreign_mac"),
        (Reason::EtherType, "ether_type"),
        (Reason::Multicast, "multicast"),
        (Reason::Neighbour, "neighbour"),
        (Reason::ForeignSource, "foreign_source"),
        (Reason::TooBig, "too_big"),
        (Reason::Exhausted, "exhausted"),
        (Reason::Expired, "expired"),
        (Reason::UnknownSpi, "unknown_spi"),
        (Reason::ForeignPeer, "foreign_peer"),
        (Reason::NotEsp, "not_esp"),
        (Reason::ForeignError, "foreign_error"),
        (Reason::GuestFull, "guest_full"),
        (Reason::Malformed, "malformed"),
        (Reason::Fragment, "fragment"),
        (Reason::Options, "options"),
        (Reason::Policy, "policy"),
        (Reason::Congestion, "congestion"),
    ];
}

impl From<Discard> for Reason {
    fn from(discard: Discard) -> Reason {
        match discard {
            Discard::Fragment => Reason::Fragment,
            Discard::Options | Discard::Extension => Reason::Options,
            Discard::Policy | Discard::ForeignSelector => Reason::Policy,
            Discard::Offload => Reason::Offload,
            Discard::Congestion => Reason::Congestion,
            _ => Reason::Malformed,
        }
    }
}

impl From<Unsealed> for Reason {
    fn from(unsealed: Unsealed) -> Reason {
        match unsealed {
            Unsealed::Exhausted => Reason::Exhausted,
            Unsealed::Expired => Reason::Expired,
        }
    }
}

/// Dropped packets by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; Reason::ALL.len()]);

impl Drops {
    /// One more packet dropped for this reason.
    pub fn count(&mut self, reason: Reason) {
        self.count_many(reason, 1);
    }

    /// So many more packets dropped for this reason.
    pub fn count_many(&mut self, reason: Reason, packets: u64) {
        self.0[reason as usize] += packets;
    }

    /// Packets dropped for this reason.
    pub fn of(&self, reason: Reason) -> u64 {
        self.0[reason as usize]
    }

    /// Packets dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reasons that occurred, by name.
    pub fn by_name(&self) -> BTreeMap<String, u64> {
        let counted = Reason::ALL.into_iter().zip(self.0).filter(|(_, count)| *count > 0);
        counted.map(|((_, name), count)| (name.to_owned(), count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_under_its_own_name() {
        let mut drops = Drops::default();
        for (at, (reason, _)) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
            (0..=at).for_each(|_| drops.count(reason));
        }
        let named = drops.by_name();
        assert_eq!(named.len(), Reason::ALL.len());
        assert_eq!((named["runt"], named["congestion"]), (1, Reason::ALL.len() as u64));
    }
}
