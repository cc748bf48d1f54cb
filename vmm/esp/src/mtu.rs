//! How long an inner packet may be so that its ESP packet fits the path outside.

use crate::ip::{MAX_LEN, Mode, V4_HEADER, V6_HEADER};

/// Bytes of a UDP header.
const UDP_HEADER: usize = 8;

/// The path between two hosts, as outer packets take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The longest packet that goes through whole, IP header included.
    pub mtu: u16,
    /// Whether outer headers are IPv4; otherwise they are IPv6.
    pub is_v4: bool,
    /// Whether ESP is in UDP (RFC 3948); otherwise it follows the IP header.
    pub is_udp: bool,
}

impl Path {
    /// Bytes of headers before each ESP packet.
    pub fn headers(&self) -> usize {
        let ip = if self.is_v4 { V4_HEADER } else { V6_HEADER };
        ip + if self.is_udp { UDP_HEADER } else { 0 }
    }

    /// The longest ESP packet, from the SPI to the ICV.
    pub fn esp(&self) -> usize {
        usize::from(self.mtu).saturating_sub(self.headers())
    }

    /// The longest inner IP packet of an SA, where `max_payload` gives the SA's longest
    /// payload for a longest ESP packet, as [`crate::OutboundSa::max_payload`] does.
    ///
    /// In transport mode inner and outer packets are of one family. `None` if
    /// there is no room for any.
    pub fn inner(
        &self,
        mode: Mode,
        max_payload: impl FnOnce(usize) -> Option<usize>,
    ) -> Option<u16> {
        let payload = max_payload(self.esp())?;
        let header = match mode {
            Mode::Tunnel => 0,
            Mode::Transport if self.is_v4 => V4_HEADER,
            Mode::Transport => V6_HEADER,
        };
        let len = (header + payload).min(MAX_LEN);
        (len > V4_HEADER).then_some(len as u16)
    }
}

#[cfg(test)]
mod tests;
