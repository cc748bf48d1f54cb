//! Which packets an SA or a policy is for (RFC 4301 4.4.1.1).
//!
//! Local and remote are seen from the space: of a packet it sends, local is the
//! source; of one it receives, local is the destination.

use std::net::IpAddr;

use crate::{Discard, ipv4};

/// Protocols whose payload starts with a source and a destination port: TCP, UDP, DCCP,
/// SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// An inclusive range of addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressRange {
    first: IpAddr,
    /// Of the same family as `first`, and not before it.
    last: IpAddr,
}

/// Two bounds that are no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The families differ or the last address is before the first.
    #[error("{0} to {1} is no range of addresses: give the lower one of the same family first")]
    Addresses(IpAddr, IpAddr),
    /// The last port is before the first.
    #[error("{0} to {1} is no range of ports: give the lower one first")]
    Ports(u16, u16),
}

impl AddressRange {
    /// All addresses from `first` to `last`, both included.
    ///
    /// # Errors
    /// [`RangeError::Addresses`] if they are in the wrong order or of two families.
    pub fn new(first: IpAddr, last: IpAddr) -> Result<AddressRange, RangeError> {
        if first.is_ipv4() != last.is_ipv4() || last < first {
            return Err(RangeError::Addresses(first, last));
        }
        Ok(AddressRange { first, last })
    }

    /// Just this address.
    pub fn only(address: impl Into<IpAddr>) -> AddressRange {
        let address = address.into();
        AddressRange { first: address, last: address }
    }

    /// Whether `address` is in the range; never if it is of the other family.
    pub fn contains(&self, address: IpAddr) -> bool {
        // `IpAddr` orders every IPv4 address before every IPv6 address.
        self.first <= address && address <= self.last
    }

    /// How many addresses follow the first: fewer is more specific.
    pub(crate) fn span(&self) -> u128 {
        match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => u128::from(last.to_bits() - first.to_bits()),
            (IpAddr::V6(first), IpAddr::V6(last)) => last.to_bits() - first.to_bits(),
            _ => unreachable!("both bounds are of one family"),
        }
    }
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: u16,
    /// Not before `first`.
    last: u16,
}

impl PortRange {
    /// Every port, and packets that have none.
    pub const ANY: PortRange = PortRange { first: 0, last: u16::MAX };

    /// All ports from `first` to `last`, both included.
    ///
    /// # Errors
    /// [`RangeError::Ports`] if they are in the wrong order.
    pub fn new(first: u16, last: u16) -> Result<PortRange, RangeError> {
        if last < first {
            Err(RangeError::Ports(first, last))
        } else {
            Ok(PortRange { first, last })
        }
    }

    /// Just this port.
    pub const fn only(port: u16) -> PortRange {
        PortRange { first: port, last: port }
    }

    /// Whether `port` is in the range.
    pub fn contains(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// How many ports follow the first: fewer is more specific.
    pub(crate) fn span(&self) -> u16 {
        self.last - self.first
    }
}

/// The packets an SA or a policy is for: all of its conditions at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Selector {
    /// The space's own addresses.
    pub local: AddressRange,
    /// The addresses at the other end.
    pub remote: AddressRange,
    /// The IP protocol, or `None` for all of them.
    pub protocol: Option<u8>,
    /// Ports at the space's own address; anything but [`PortRange::ANY`] is for
    /// protocols that have ports only.
    pub local_ports: PortRange,
    /// Ports at the other end, likewise.
    pub remote_ports: PortRange,
}

impl Selector {
    /// Every protocol and port between `local` and `remote`.
    pub fn between(local: AddressRange, remote: AddressRange) -> Selector {
        let any = PortRange::ANY;
        Selector { local, remote, protocol: None, local_ports: any, remote_ports: any }
    }

    /// Whether the packets of `flow` are meant.
    pub fn matches(&self, flow: &Flow) -> Match {
        let outside = !self.local.contains(flow.local)
            || !self.remote.contains(flow.remote)
            || self.protocol.is_some_and(|protocol| protocol != flow.protocol);
        let any_ports = self.local_ports == PortRange::ANY && self.remote_ports == PortRange::ANY;
        match flow.ports {
            _ if outside => Match::No,
            _ if any_ports => Match::Yes,
            Ports::Known { local, remote } => {
                let inside = self.local_ports.contains(local) && self.remote_ports.contains(remote);
                if inside { Match::Yes } else { Match::No }
            }
            Ports::Absent => Match::No,
            Ports::Hidden => Match::Unknown,
        }
    }
}

/// Whether a selector means a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// It depends on ports that a later fragment does not show.
    Unknown,
}

/// The ports of a packet, as far as it shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// Both are there.
    Known {
        /// The port at the space's own address.
        local: u16,
        /// The port at the other end.
        remote: u16,
    },
    /// The protocol has none.
    Absent,
    /// The protocol has ports, but they were in the first fragment.
    Hidden,
}

/// What selectors look at in a packet, seen from the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The address at the space's end.
    pub local: IpAddr,
    /// The address at the other end.
    pub remote: IpAddr,
    /// The IP protocol of the payload.
    pub protocol: u8,
    /// The ports.
    pub ports: Ports,
}

impl Flow {
    /// The flow of a packet the space sends.
    ///
    /// # Errors
    /// [`Discard::Malformed`] if the ports should be there and are not.
    pub fn outbound(packet: ipv4::Packet<'_>) -> Result<Flow, Discard> {
        let (source, destination) = (packet.source().into(), packet.destination().into());
        if packet.is_later_fragment() {
            return Ok(Flow::later_fragment(source, destination, packet.protocol()));
        }
        Flow::sent(source, destination, packet.protocol(), packet.payload())
    }

    /// The flow of a packet sent to the space.
    ///
    /// # Errors
    /// [`Discard::Malformed`] if the ports should be there and are not.
    pub fn inbound(packet: ipv4::Packet<'_>) -> Result<Flow, Discard> {
        Ok(Flow::outbound(packet)?.reversed())
    }

    /// The flow of a whole packet the space sends, from its addresses and payload.
    ///
    /// # Errors
    /// [`Discard::Malformed`] if the ports should be there and are not.
    pub fn sent(
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        payload: &[u8],
    ) -> Result<Flow, Discard> {
        let ports = if WITH_PORTS.contains(&protocol) {
            let [a, b, c, d] = *payload.first_chunk().ok_or(Discard::Malformed)?;
            Ports::Known { local: u16::from_be_bytes([a, b]), remote: u16::from_be_bytes([c, d]) }
        } else {
            Ports::Absent
        };
        Ok(Flow { local: source, remote: destination, protocol, ports })
    }

    /// The flow of a whole packet sent to the space: transport mode, after opening.
    ///
    /// # Errors
    /// [`Discard::Malformed`] if the ports should be there and are not.
    pub fn received(
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        payload: &[u8],
    ) -> Result<Flow, Discard> {
        Ok(Flow::sent(source, destination, protocol, payload)?.reversed())
    }

    fn later_fragment(local: IpAddr, remote: IpAddr, protocol: u8) -> Flow {
        let ports = if WITH_PORTS.contains(&protocol) { Ports::Hidden } else { Ports::Absent };
        Flow { local, remote, protocol, ports }
    }

    fn reversed(self) -> Flow {
        let ports = match self.ports {
            Ports::Known { local, remote } => Ports::Known { local: remote, remote: local },
            other => other,
        };
        Flow { local: self.remote, remote: self.local, protocol: self.protocol, ports }
    }
}

#[cfg(test)]
mod tests;
