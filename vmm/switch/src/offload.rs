//! What virtio-net says of a packet and what `esp` makes of it, one in terms of the other.
//!
//! virtio-net counts from the start of the link's frame, `esp` from the IP packet.

use esp::offload::{Accepts, Kind, Offload, PartialChecksum, Segmentation};
use virtio::net::{self, Checksum, Gso, PacketHeader};

/// What is left to do with a packet from a guest, `link` bytes into its frame; `None` if
/// the checksum lies before the packet.
pub fn from_header(header: &PacketHeader, link: usize) -> Option<Offload> {
    let checksum = match header.checksum {
        None => None,
        Some(Checksum { start, offset }) => {
            Some(PartialChecksum { start: start.checked_sub(link as u16)?, offset })
        }
    };
    let segmentation = header.segmentation.map(|s| Segmentation {
        kind: match s.kind {
            Gso::TcpV4 => Kind::TcpV4,
            Gso::TcpV6 => Kind::TcpV6,
            Gso::Udp => Kind::Udp,
        },
        size: s.size,
    });
    Some(Offload { checksum, segmentation })
}

/// The header before a packet to a guest, `link` bytes into its frame and with `headers` bytes of
/// headers.
///
/// Of a packet that is no run of many the guest checks the checksum itself: an ICV vouches for the
/// way from the peer, which in tunnel mode may have it from somebody else.
pub fn to_header(offload: &Offload, link: usize, headers: usize) -> PacketHeader {
    PacketHeader {
        checksum: offload
            .checksum
            .map(|c| Checksum { start: c.start + link as u16, offset: c.offset }),
        is_valid: false,
        segmentation: offload.segmentation.map(|s| net::Segmentation {
            kind: match s.kind {
                Kind::TcpV4 => Gso::TcpV4,
                Kind::TcpV6 => Gso::TcpV6,
                Kind::Udp => Gso::Udp,
            },
            size: s.size,
            has_cwr: false,
        }),
        header_len: if offload.segmentation.is_some() { (link + headers) as u16 } else { 0 },
        buffers: 1,
    }
}

/// The large packets a guest takes that negotiated `features`.
pub fn accepts(features: u64) -> Accepts {
    // A large packet's checksum is partial.
    let takes = |bit: u64| features & bit != 0 && features & net::GUEST_CSUM != 0;
    Accepts {
        tcp_v4: takes(net::GUEST_TSO4),
        tcp_v6: takes(net::GUEST_TSO6),
        udp_v4: takes(net::GUEST_USO4),
        udp_v6: takes(net::GUEST_USO6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_count_from_the_packet_here_and_from_the_frame_there() {
        let header = PacketHeader {
            checksum: Some(Checksum { start: 34, offset: 16 }),
            segmentation: Some(net::Segmentation { kind: Gso::TcpV4, size: 1000, has_cwr: false }),
            ..PacketHeader::default()
        };
        let offload = from_header(&header, 14).unwrap();
        assert_eq!(offload.checksum, Some(PartialChecksum { start: 20, offset: 16 }));
        let back = to_header(&offload, 14, 40);
        assert_eq!((back.checksum, back.segmentation), (header.checksum, header.segmentation));
        assert_eq!((back.header_len, back.is_valid), (54, false));
        assert_eq!(from_header(&header, 35), None);
    }

    #[test]
    fn a_guest_that_sums_nothing_itself_takes_no_large_packets() {
        assert!(accepts(net::GUEST_TSO4 | net::GUEST_CSUM).tcp_v4);
        assert_eq!(accepts(net::GUEST_TSO4 | net::GUEST_TSO6), Accepts::default());
    }
}
