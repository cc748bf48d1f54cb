//! What a datagram on the UDP encapsulation port is (RFC 3948 2).

use crate::Spi;

/// A NAT keepalive (RFC 3948 2.3), to be sent as it is.
pub const KEEPALIVE: [u8; 1] = [0xff];

/// Stands before an IKE message on the encapsulation port (RFC 3948 2.2).
pub const NON_ESP_MARKER: [u8; 4] = [0; 4];

/// The kinds of datagram on the encapsulation port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// Keeps a NAT mapping alive; to be ignored (RFC 3948 4).
    Keepalive,
    /// An IKE message, without its marker.
    Ike(&'a [u8]),
    /// The datagram is an ESP packet with this SPI.
    Esp(Spi),
    /// None of them: no SPI, or a reserved one.
    Malformed,
}

/// Says what a datagram's payload is, by its first bytes alone.
pub fn classify(datagram: &[u8]) -> Datagram<'_> {
    let Some((first, rest)) = datagram.split_first_chunk() else {
        return if datagram == KEEPALIVE { Datagram::Keepalive } else { Datagram::Malformed };
    };
    match u32::from_be_bytes(*first) {
        0 => Datagram::Ike(rest),
        number => Spi::new(number).map_or(Datagram::Malformed, Datagram::Esp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_four_bytes_tell_keepalive_ike_and_esp_apart() {
        assert_eq!(classify(&[0xff]), Datagram::Keepalive);
        assert_eq!(classify(&[0, 0, 0, 0, 1, 2]), Datagram::Ike(&[1, 2]));
        assert_eq!(classify(&[0, 0, 0x10, 1, 9]), Datagram::Esp(Spi::new(0x1001).unwrap()));
        let esp = classify(&[0xff, 0xff, 0xff, 0xff]);
        assert_eq!(esp, Datagram::Esp(Spi::new(u32::MAX).unwrap()));
    }

    #[test]
    fn runts_and_reserved_spis_are_nothing() {
        for datagram in [&[][..], &[0xfe], &[0xff, 0xff], &[0, 0, 0], &[0, 0, 0, 1, 0, 0]] {
            assert_eq!(classify(datagram), Datagram::Malformed);
        }
    }

    #[test]
    fn any_datagram_is_exactly_one_kind() {
        bolero::check!().for_each(|datagram: &[u8]| match classify(datagram) {
            Datagram::Keepalive => assert_eq!(datagram, [0xff]),
            Datagram::Ike(message) => {
                assert_eq!((&datagram[..4], &datagram[4..]), (&[0; 4][..], message));
            }
            Datagram::Esp(spi) => assert_eq!(datagram[..4], spi.to_be_bytes()),
            Datagram::Malformed => {
                assert!(datagram.len() < 4 || datagram[..3] == [0; 3] && datagram[3] != 0);
            }
        });
    }
}
