//! Why the switch drops a packet, and how often; what ESP itself discards is counted there.

use std::collections::BTreeMap;

use esp::Discard;

/// Why a packet of a guest or a peer went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// From the guest: no whole virtio-net and Ethernet header, or longer than any frame.
    Runt,
    /// From the guest: asks for an offload that was not negotiated.
    Offload,
    /// From the guest: the source is not the space's own Ethernet address.
    ForeignMac,
    /// From the guest: IPv6, VLAN tags, and every other EtherType.
    EtherType,
    /// From the guest: to an Ethernet or IPv4 multicast or broadcast address.
    Multicast,
    /// From the guest: an ARP message that is no question for an IPv4 address.
    Arp,
    /// From the guest: the IPv4 source is not the space's own address.
    ForeignSource,
    /// From the guest: longer than the SA's MTU.
    TooBig,
    /// From the guest: the SA has used up its sequence numbers.
    Exhausted,
    /// From the peer: the SPI names no SA here.
    UnknownSpi,
    /// From the peer: not from the address the SA's peer has, or to another of our sockets.
    ForeignPeer,
    /// From the peer: neither ESP nor IKE nor a keepalive; or IKE, which nobody here speaks.
    NotEsp,
    /// From the peer: a whole packet inside, which is tunnel mode.
    TunnelMode,
    /// To the guest: it has no receive buffer, or too small a one.
    GuestFull,
    /// Inside the packet; the reasons that [`esp::Discard`] names.
    Malformed,
    /// From the guest: a fragment.
    Fragment,
    /// From the guest: IPv4 options.
    Options,
    /// From the guest: no policy protects it.
    Policy,
}

impl Reason {
    const ALL: [(Reason, &'static str); 18] = [
        (Reason::Runt, "runt"),
        (Reason::Offload, "offload"),
        (Reason::ForeignMac, "foreign_mac"),
        (Reason::EtherType, "ether_type"),
        (Reason::Multicast, "multicast"),
        (Reason::Arp, "arp"),
        (Reason::ForeignSource, "foreign_source"),
        (Reason::TooBig, "too_big"),
        (Reason::Exhausted, "exhausted"),
        (Reason::UnknownSpi, "unknown_spi"),
        (Reason::ForeignPeer, "foreign_peer"),
        (Reason::NotEsp, "not_esp"),
        (Reason::TunnelMode, "tunnel_mode"),
        (Reason::GuestFull, "guest_full"),
        (Reason::Malformed, "malformed"),
        (Reason::Fragment, "fragment"),
        (Reason::Options, "options"),
        (Reason::Policy, "policy"),
    ];
}

impl From<Discard> for Reason {
    fn from(discard: Discard) -> Reason {
        match discard {
            Discard::Fragment => Reason::Fragment,
            Discard::Options => Reason::Options,
            Discard::Policy | Discard::ForeignSelector => Reason::Policy,
            _ => Reason::Malformed,
        }
    }
}

/// Dropped packets by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; Reason::ALL.len()]);

impl Drops {
    /// One more packet dropped for this reason.
    pub fn count(&mut self, reason: Reason) {
        self.0[reason as usize] += 1;
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
        assert_eq!((named["runt"], named["policy"]), (1, Reason::ALL.len() as u64));
    }
}
