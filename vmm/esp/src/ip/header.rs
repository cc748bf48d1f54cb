//! IP headers made here: of opened transport payloads and of ICMP errors.

use std::net::IpAddr;

use super::{MAX_LEN, V6_HEADER};
use crate::checksum::Sum;

/// A header without options or extension headers, of either family.
pub type HeaderBytes = heapless::Vec<u8, V6_HEADER>;

/// What a header made here says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The source address.
    pub source: IpAddr,
    /// The destination address, of the same family.
    pub destination: IpAddr,
    /// The protocol of what the header carries.
    pub protocol: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// The hop limit, or time to live.
    pub hop_limit: u8,
    /// Whether an IPv4 packet must not be fragmented.
    pub dont_fragment: bool,
    /// The identification of an IPv4 packet.
    pub identification: u16,
}

impl Header {
    /// The header of a packet that is never fragmented, with hop limit 64 and traffic class 0.
    ///
    /// Its identification is zero, as befits such a packet (RFC 6864 4.1).
    pub fn new(source: IpAddr, destination: IpAddr, protocol: u8) -> Header {
        Header {
            source,
            destination,
            protocol,
            traffic_class: 0,
            hop_limit: 64,
            dont_fragment: true,
            identification: 0,
        }
    }

    /// The header before a payload of `payload_len` bytes.
    ///
    /// `None` if the packet would be longer than 65535 bytes or the addresses are
    /// of two families.
    pub fn bytes(&self, payload_len: usize) -> Option<HeaderBytes> {
        let mut header = HeaderBytes::new();
        let fits = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let length = u16::try_from(super::V4_HEADER + payload_len).ok()?;
                header.extend_from_slice(&self.v4(length, source.octets(), destination.octets()))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) if payload_len <= MAX_LEN - V6_HEADER => {
                let fixed = self.v6(payload_len as u16, source.octets(), destination.octets());
                header.extend_from_slice(&fixed)
            }
            _ => return None,
        };
        fits.expect("it holds the longer of both headers");
        Some(header)
    }

    fn v4(&self, length: u16, source: [u8; 4], destination: [u8; 4]) -> [u8; super::V4_HEADER] {
        let mut header = [0; super::V4_HEADER];
        header[0] = 0x45;
        header[1] = self.traffic_class;
        header[2..4].copy_from_slice(&length.to_be_bytes());
        header[4..6].copy_from_slice(&self.identification.to_be_bytes());
        header[6] = u8::from(self.dont_fragment) << 6;
        header[8] = self.hop_limit;
        header[9] = self.protocol;
        header[12..16].copy_from_slice(&source);
        header[16..20].copy_from_slice(&destination);
        let sum = Sum::of(&header).checksum();
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    fn v6(&self, length: u16, source: [u8; 16], destination: [u8; 16]) -> [u8; V6_HEADER] {
        let mut header = [0; V6_HEADER];
        header[0] = 0x60 | self.traffic_class >> 4;
        header[1] = self.traffic_class << 4;
        header[4..6].copy_from_slice(&length.to_be_bytes());
        header[6] = self.protocol;
        header[7] = self.hop_limit;
        header[8..24].copy_from_slice(&source);
        header[24..40].copy_from_slice(&destination);
        header
    }
}
