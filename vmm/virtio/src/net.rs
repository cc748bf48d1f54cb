//! virtio-net (virtio 1.2 5.1): what the registers show and the header of
//! every packet. The queues are served by the switch over vhost-user.

use crate::mmio::{Identity, TRANSPORT_FEATURES};

/// Device type (virtio 1.2 5).
pub const DEVICE_ID: u32 = 1;

/// Index of the queue for packets to the guest.
pub const RECEIVE: u16 = 0;
/// Index of the queue for packets from the guest.
pub const TRANSMIT: u16 = 1;

/// VIRTIO_NET_F_MTU: the device says the MTU.
pub const MTU: u64 = 1 << 3;
/// VIRTIO_NET_F_MAC: the device says the Ethernet address.
pub const MAC: u64 = 1 << 5;

/// Bytes of `struct virtio_net_hdr` before every packet, both ways, with
/// VERSION_1 (virtio 1.2 5.1.6).
pub const HEADER: usize = 12;

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
