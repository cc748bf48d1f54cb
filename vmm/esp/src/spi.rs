//! The number that names an SA on the wire.

use std::fmt;

/// A security parameters index (RFC 4303 2.1): more than 255, the others are reserved.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spi(u32);

/// 0 to 255 are reserved and name no SA (RFC 4303 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("SPI {0} is reserved (RFC 4303): choose one from 256 to 4294967295")]
pub struct ReservedSpi(pub u32);

impl Spi {
    /// The SPI with this number.
    ///
    /// # Errors
    /// [`ReservedSpi`] for 0 to 255.
    pub const fn new(number: u32) -> Result<Spi, ReservedSpi> {
        if number > 255 { Ok(Spi(number)) } else { Err(ReservedSpi(number)) }
    }

    /// The number, as RFC 4303 writes it.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// As it stands in a packet.
    pub const fn to_be_bytes(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }
}

impl TryFrom<u32> for Spi {
    type Error = ReservedSpi;

    fn try_from(number: u32) -> Result<Spi, ReservedSpi> {
        Spi::new(number)
    }
}

impl fmt::Display for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

impl fmt::Debug for Spi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_numbers_name_no_sa() {
        for number in 0..=255 {
            assert_eq!(Spi::new(number), Err(ReservedSpi(number)));
        }
        assert_eq!(Spi::new(256).map(Spi::number), Ok(256));
        assert_eq!(Spi::new(0x1001).unwrap().to_string(), "0x00001001");
    }
}
