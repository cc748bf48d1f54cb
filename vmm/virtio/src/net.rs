//! virtio-net (virtio 1.2 5.1): what the registers show and the header of
//! every packet. The queues are served by the switch over vhost-user.

use crate::mmio::{Identity, TRANSPORT_FEATURES};

/// Device type (virtio 1.2 5).
pub const DEVICE_ID: u32 = 1;

/// Index of the queue for packets to the guest.
pub const RECEIVE: u16 = 0;
/// Index of the queue for packets from the guest.
pub const TRANSMIT: u16 = 1;

/// VIRTIO_NET_F_CSUM: the guest may leave checksums to the device.
pub const CSUM: u64 = 1 << 0;
/// VIRTIO_NET_F_GUEST_CSUM: the device may leave checksums to the guest.
pub const GUEST_CSUM: u64 = 1 << 1;
/// VIRTIO_NET_F_MTU: the device says the MTU.
pub const MTU: u64 = 1 << 3;
/// VIRTIO_NET_F_MAC: the device says the Ethernet address.
pub const MAC: u64 = 1 << 5;
/// VIRTIO_NET_F_GUEST_TSO4: the guest takes large TCP packets over IPv4.
pub const GUEST_TSO4: u64 = 1 << 7;
/// VIRTIO_NET_F_GUEST_TSO6: the guest takes large TCP packets over IPv6.
pub const GUEST_TSO6: u64 = 1 << 8;
/// VIRTIO_NET_F_GUEST_ECN: the guest takes large TCP packets with CWR.
pub const GUEST_ECN: u64 = 1 << 9;
/// VIRTIO_NET_F_HOST_TSO4: the device takes large TCP packets over IPv4.
pub const HOST_TSO4: u64 = 1 << 11;
/// VIRTIO_NET_F_HOST_TSO6: the device takes large TCP packets over IPv6.
pub const HOST_TSO6: u64 = 1 << 12;
/// VIRTIO_NET_F_HOST_ECN: the device takes large TCP packets with CWR.
pub const HOST_ECN: u64 = 1 << 13;
/// VIRTIO_NET_F_MRG_RXBUF: a packet to the guest may take several buffers.
pub const MRG_RXBUF: u64 = 1 << 15;
/// VIRTIO_NET_F_GUEST_USO4: the guest takes many UDP datagrams as one, over IPv4.
pub const GUEST_USO4: u64 = 1 << 54;
/// VIRTIO_NET_F_GUEST_USO6: the guest takes many UDP datagrams as one, over IPv6.
pub const GUEST_USO6: u64 = 1 << 55;
/// VIRTIO_NET_F_HOST_USO: the device takes many UDP datagrams as one.
pub const HOST_USO: u64 = 1 << 56;

/// Bytes of `struct virtio_net_hdr` before every packet, both ways, with
/// VERSION_1 (virtio 1.2 5.1.6).
pub const HEADER: usize = 12;

/// `flags`: the checksum is partial and to be completed.
const NEEDS_CSUM: u8 = 1;
/// `flags`: the checksum is right.
const DATA_VALID: u8 = 2;

/// `gso_type`: beside TCP, some segment has CWR.
const GSO_ECN: u8 = 0x80;

/// What `struct virtio_net_hdr` says of a packet (virtio 1.2 5.1.6).
///
/// Offsets count from the start of the Ethernet frame. What a guest says here is
/// its word: nothing was compared with the packet. Its `hdr_len` is not even read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketHeader {
    /// The checksum to be completed.
    pub checksum: Option<Checksum>,
    /// Whether the packet's checksum was found right, so that nobody need look again.
    pub is_valid: bool,
    /// How the packet is to be cut up.
    pub segmentation: Option<Segmentation>,
    /// Bytes of all headers of a large packet to the guest: what it may want to have
    /// in one piece. 0 if it is not large.
    pub header_len: u16,
    /// Receive buffers that a packet to the guest takes: at least 1.
    pub buffers: u16,
}

/// A partial checksum (virtio 1.2 5.1.6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// Bytes from the start of the frame to what is summed.
    pub start: u16,
    /// Bytes from `start` to the field.
    pub offset: u16,
}

/// A packet that stands for many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// What kind of packet it is.
    pub kind: Gso,
    /// Bytes of payload in each of the many.
    pub size: u16,
    /// Whether a TCP segment has CWR.
    pub has_cwr: bool,
}

/// Kinds of packets that stand for many; UFO, which cut one datagram into fragments, is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Gso {
    /// TCP over IPv4.
    TcpV4 = 1,
    /// TCP over IPv6.
    TcpV6 = 4,
    /// UDP datagrams, over either.
    Udp = 5,
}

/// `gso_type` is none that exists, or asks what was not negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOffered;

impl PacketHeader {
    /// Reads the header of a guest's packet, with whom `features` were negotiated.
    ///
    /// # Errors
    /// [`NotOffered`], as virtio 1.2 5.1.6.2 has the driver never ask.
    pub fn parse(header: &[u8; HEADER], features: u64) -> Result<PacketHeader, NotOffered> {
        let le16 = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let (flags, has_cwr) = (header[0], header[1] & GSO_ECN != 0);
        // Flags that are not known are to be ignored (virtio 1.2 5.1.6.2.2).
        let checksum =
            (flags & NEEDS_CSUM != 0).then(|| Checksum { start: le16(6), offset: le16(8) });
        let (kind, needed) = match header[1] & !GSO_ECN {
            0 if !has_cwr => (None, 0),
            1 => (Some(Gso::TcpV4), HOST_TSO4),
            4 => (Some(Gso::TcpV6), HOST_TSO6),
            5 if !has_cwr => (Some(Gso::Udp), HOST_USO),
            _ => return Err(NotOffered),
        };
        let needed =
            needed | if checksum.is_some() { CSUM } else { 0 } | if has_cwr { HOST_ECN } else { 0 };
        if features & needed != needed {
            return Err(NotOffered);
        }
        let segmentation = kind.map(|kind| Segmentation { kind, size: le16(4), has_cwr });
        let is_valid = flags & DATA_VALID != 0;
        Ok(PacketHeader { checksum, is_valid, segmentation, header_len: 0, buffers: le16(10) })
    }

    /// The header as it lies before a packet to the guest.
    pub fn bytes(&self) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        let mut put = |at: usize, value: u16| {
            header[at..at + 2].copy_from_slice(&value.to_le_bytes());
        };
        put(10, self.buffers);
        if let Some(checksum) = self.checksum {
            put(6, checksum.start);
            put(8, checksum.offset);
        }
        if let Some(segmentation) = self.segmentation {
            put(2, self.header_len);
            put(4, segmentation.size);
            header[1] = segmentation.kind as u8 | if segmentation.has_cwr { GSO_ECN } else { 0 };
        }
        // Both flags at once are not allowed (virtio 1.2 5.1.6.4.1).
        header[0] = match (self.checksum, self.is_valid) {
            (Some(_), _) => NEEDS_CSUM,
            (None, true) => DATA_VALID,
            (None, false) => 0,
        };
        header
    }
}

/// The header of a packet to the guest: no offloads, one buffer
/// (`num_buffers`, le16 in the last two bytes, is 1).
pub const PLAIN_HEADER: [u8; HEADER] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];

/// Whether a guest's packet asks for nothing that was not negotiated: no
/// checksum to fill in (`flags`), no segmentation (`gso_type`).
pub fn is_plain(header: &[u8; HEADER]) -> bool {
    header[0] == 0 && header[1] == 0
}

/// A network device with this Ethernet address and MTU (bytes of IP packet).
pub fn identity(mac: [u8; 6], mtu: u16, queue_size: u16) -> Identity {
    let mut config = Vec::with_capacity(12);
    config.extend_from_slice(&mac);
    // Link status and number of queue pairs: their features are not offered.
    config.extend_from_slice(&[0; 4]);
    config.extend_from_slice(&mtu.to_le_bytes());
    Identity {
        device_id: DEVICE_ID,
        features: TRANSPORT_FEATURES | MTU | MAC,
        queue_sizes: vec![queue_size; 2],
        config,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registers_show_address_and_mtu_where_the_standard_has_them() {
        let identity = identity([2, 0, 0, 0, 0, 7], 1400, 256);
        assert_eq!(identity.config[..6], [2, 0, 0, 0, 0, 7]);
        assert_eq!(identity.config[10..], [0x78, 0x05]);
        assert_eq!(identity.queue_sizes, [256, 256]);
    }

    /// TCP over IPv4 in segments of 1448 bytes, checksum at 16 behind byte 34, with CWR.
    const LARGE: [u8; HEADER] = [1, 0x81, 0x42, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];

    #[test]
    fn a_large_packets_header_is_read_as_the_standard_has_it() {
        let header = PacketHeader::parse(&LARGE, CSUM | HOST_TSO4 | HOST_ECN).unwrap();
        assert_eq!(header.checksum, Some(Checksum { start: 34, offset: 16 }));
        let segmentation = Segmentation { kind: Gso::TcpV4, size: 1448, has_cwr: true };
        assert_eq!(header.segmentation, Some(segmentation));
        // The guest's word for the headers' length goes no further.
        assert_eq!(header.header_len, 0);
        let back = PacketHeader { header_len: 0x42, ..header };
        assert_eq!(back.bytes(), LARGE);
    }

    #[test]
    fn what_was_not_negotiated_is_not_read() {
        let all = CSUM | HOST_TSO4 | HOST_TSO6 | HOST_ECN | HOST_USO;
        for missing in [CSUM, HOST_TSO4, HOST_ECN] {
            assert_eq!(PacketHeader::parse(&LARGE, all & !missing), Err(NotOffered));
        }
        for (kind, needed) in [(4, HOST_TSO6), (5, HOST_USO)] {
            let header = [0, kind, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
            assert!(PacketHeader::parse(&header, needed).is_ok());
            assert_eq!(PacketHeader::parse(&header, all & !needed), Err(NotOffered));
        }
        for kind in [2, 3, 6, 0x80, 0x82, 0x83, 0x85, 0xff] {
            let header = [0, kind, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(PacketHeader::parse(&header, u64::MAX), Err(NotOffered), "{kind}");
        }
    }

    #[test]
    fn a_packet_without_offloads_has_the_plain_header() {
        let plain = PacketHeader { buffers: 1, ..PacketHeader::default() };
        assert_eq!(plain.bytes(), PLAIN_HEADER);
        assert_eq!(PacketHeader::parse(&PLAIN_HEADER, 0), Ok(plain));
        let valid = PacketHeader { is_valid: true, ..plain };
        assert_eq!(valid.bytes()[0], DATA_VALID);
        let partial = Some(Checksum { start: 34, offset: 6 });
        assert_eq!(PacketHeader { checksum: partial, ..valid }.bytes()[0], NEEDS_CSUM);
    }

    #[test]
    fn what_is_read_of_an_arbitrary_header_is_written_back_the_same() {
        bolero::check!().with_type::<([u8; HEADER], u64)>().for_each(|(header, features)| {
            if let Ok(read) = PacketHeader::parse(header, *features) {
                let written = read.bytes();
                assert_eq!(
                    PacketHeader::parse(&written, u64::MAX).map(|again| again.segmentation),
                    Ok(read.segmentation)
                );
                assert_eq!(
                    written[6..10],
                    if read.checksum.is_some() { header[6..10].to_vec() } else { vec![0; 4] }
                );
                assert!(header[1] == 0 || features & (HOST_TSO4 | HOST_TSO6 | HOST_USO) != 0);
            }
        });
    }

    #[test]
    fn a_header_that_asks_for_offloads_is_not_plain() {
        assert!(is_plain(&PLAIN_HEADER));
        for byte in [0, 1] {
            let mut header = PLAIN_HEADER;
            header[byte] = 1;
            assert!(!is_plain(&header));
        }
    }
}
