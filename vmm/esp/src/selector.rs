//! Which packets an SA or a policy is for (RFC 4301 4.4.1.1).
//!
//! Local and remote are seen from the space: of a packet it sends, local is the
//! source; of one it receives, local is the destination.

use std::net::IpAddr;

use crate::Discard;
use crate::ip::protocol::WITH_PORTS;
use crate::ip::{Fragment, Packet, upper_layer};
use crate::range::{AddressRange, PortRange};

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
    /// [`Discard::Malformed`] if the ports should be there, in the packet's head, and are not.
    #[inline]
    pub fn outbound(packet: &Packet<'_>) -> Result<Flow, Discard> {
        let ports = if packet.fragment() == Fragment::Later {
            hidden(packet.protocol())
        } else {
            ports(packet.protocol(), packet.payload())?
        };
        Ok(Flow {
            local: packet.source(),
            remote: packet.destination(),
            protocol: packet.protocol(),
            ports,
        })
    }

    /// The flow of a packet sent to the space.
    ///
    /// # Errors
    /// [`Discard::Malformed`] if the ports should be there and are not.
    #[inline]
    pub fn inbound(packet: &Packet<'_>) -> Result<Flow, Discard> {
        Ok(Flow::outbound(packet)?.reversed())
    }

    /// The flow of a whole packet the space sends, from its addresses and what
    /// transport mode carries of it.
    ///
    /// # Errors
    /// [`Discard::Malformed`] if the ports should be there and are not; what
    /// [`upper_layer`] refuses.
    #[inline]
    pub fn sent(
        source: IpAddr,
        destination: IpAddr,
        next_header: u8,
        carried: &[u8],
    ) -> Result<Flow, Discard> {
        let (protocol, offset) = upper_layer(source.is_ipv4(), next_header, carried)?;
        let ports = ports(protocol, &carried[offset..])?;
        Ok(Flow { local: source, remote: destination, protocol, ports })
    }

    /// The flow of a whole packet sent to the space: transport mode, after opening.
    ///
    /// # Errors
    /// As for [`Flow::sent`].
    #[inline]
    pub fn received(
        source: IpAddr,
        destination: IpAddr,
        next_header: u8,
        carried: &[u8],
    ) -> Result<Flow, Discard> {
        Ok(Flow::sent(source, destination, next_header, carried)?.reversed())
    }

    fn reversed(self) -> Flow {
        let ports = match self.ports {
            Ports::Known { local, remote } => Ports::Known { local: remote, remote: local },
            other => other,
        };
        Flow { local: self.remote, remote: self.local, protocol: self.protocol, ports }
    }
}

/// The ports at the start of a payload.
fn ports(protocol: u8, payload: &[u8]) -> Result<Ports, Discard> {
    if !WITH_PORTS.contains(&protocol) {
        return Ok(Ports::Absent);
    }
    let [a, b, c, d] = *payload.first_chunk().ok_or(Discard::Malformed)?;
    Ok(Ports::Known { local: u16::from_be_bytes([a, b]), remote: u16::from_be_bytes([c, d]) })
}

/// The ports of a later fragment.
fn hidden(protocol: u8) -> Ports {
    if WITH_PORTS.contains(&protocol) { Ports::Hidden } else { Ports::Absent }
}

#[cfg(test)]
mod tests;
