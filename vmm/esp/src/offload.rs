//! What a sender's stack left to do for the network card, which is us: checksums
//! and cutting large packets up; and the reverse, to spare a receiver's stack.

mod coalesce;
mod segment;

pub use coalesce::{Accepts, Flush, MAX_PARTS, Merged, Run};
pub use segment::{MAX_SEGMENTS, Sending, TooBig};

/// What is left to do with an IP packet; nothing by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// A checksum to complete.
    pub checksum: Option<PartialChecksum>,
    /// To be cut up into segments, which implies the checksum.
    pub segmentation: Option<Segmentation>,
}

/// A checksum field that holds the sum of the pseudo-header only (virtio 1.2 5.1.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialChecksum {
    /// Bytes from the start of the IP packet to what is summed, to the packet's end.
    pub start: u16,
    /// Bytes from `start` to the field.
    pub offset: u16,
}

/// How a packet is cut up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// What the packet must be.
    pub kind: Kind,
    /// Bytes behind the TCP or UDP header of each segment but the last.
    pub size: u16,
}

/// Kinds of packets that can be cut up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP over either: each segment is a datagram of its own.
    Udp,
}
