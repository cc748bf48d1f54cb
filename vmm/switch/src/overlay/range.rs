//! Ranges of addresses, as files and messages write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use esp::AddressRange;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Addresses of one family, both ends included: `10.0.0.0/8`, `10.0.0.1-10.0.0.9`, `10.0.0.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    first: IpAddr,
    /// Of the family of `first`, and not before it.
    last: IpAddr,
}

/// Text that is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRange {
    /// Not even addresses.
    #[error(
        "{0:?} is no range of addresses; write it like 10.0.0.0/8, 10.0.0.1-10.0.0.9 or 2001:db8::1"
    )]
    Text(String),
    /// The second address is before the first, or of the other family.
    #[error("{0} to {1} is no range; give the lower address of the same family first")]
    Order(IpAddr, IpAddr),
    /// Bits below the prefix.
    #[error("{text} has bits set below its prefix; write {prefix}")]
    Host {
        /// As it was written.
        text: String,
        /// What was meant, perhaps.
        prefix: Range,
    },
}

impl Range {
    /// Every IPv4 address.
    pub const ALL_V4: Range =
        Range { first: IpAddr::V4(Ipv4Addr::UNSPECIFIED), last: IpAddr::V4(Ipv4Addr::BROADCAST) };

    /// Every IPv6 address.
    pub const ALL_V6: Range = Range {
        first: IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        last: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
    };

    /// From `first` to `last`, both included.
    ///
    /// # Errors
    /// [`BadRange::Order`].
    pub fn new(first: IpAddr, last: IpAddr) -> Result<Range, BadRange> {
        match first.is_ipv4() == last.is_ipv4() && first <= last {
            true => Ok(Range { first, last }),
            false => Err(BadRange::Order(first, last)),
        }
    }

    /// One address.
    pub fn only(address: impl Into<IpAddr>) -> Range {
        let address = address.into();
        Range { first: address, last: address }
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// Whether these are IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// Whether `address` is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        // `IpAddr` orders every IPv4 address before every IPv6 address.
        self.first <= address && address <= self.last
    }

    /// The addresses that share the first `length` bits of `address`; `None` if it has fewer bits.
    fn prefix(address: IpAddr, length: u32) -> Option<Range> {
        match address {
            IpAddr::V4(address) => {
                let rest = u32::MAX.checked_shr(length).unwrap_or(0);
                let first = address.to_bits() & !rest;
                let [first, last] =
                    [first, first | rest].map(|bits| Ipv4Addr::from_bits(bits).into());
                (length <= 32).then_some(Range { first, last })
            }
            IpAddr::V6(address) => {
                let rest = u128::MAX.checked_shr(length).unwrap_or(0);
                let first = address.to_bits() & !rest;
                let [first, last] =
                    [first, first | rest].map(|bits| Ipv6Addr::from_bits(bits).into());
                (length <= 128).then_some(Range { first, last })
            }
        }
    }

    /// The length of the prefix all of them share, if the range is all that share it.
    fn prefix_length(&self) -> Option<u32> {
        let (differing, width) = match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                (u128::from(first.to_bits() ^ last.to_bits()), 32)
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits() ^ last.to_bits(), 128),
            _ => unreachable!("both ends are of one family"),
        };
        let length = width - (u128::BITS - differing.leading_zeros());
        (Range::prefix(self.first, length) == Some(*self)).then_some(length)
    }
}

impl From<Range> for AddressRange {
    fn from(range: Range) -> AddressRange {
        AddressRange::new(range.first, range.last).expect("a Range is in order")
    }
}

impl From<AddressRange> for Range {
    fn from(range: AddressRange) -> Range {
        Range { first: range.first(), last: range.last() }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix_length() {
            _ if self.first == self.last => write!(f, "{}", self.first),
            Some(length) => write!(f, "{}/{length}", self.first),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl FromStr for Range {
    type Err = BadRange;

    fn from_str(text: &str) -> Result<Range, BadRange> {
        let bad = || BadRange::Text(text.into());
        let address = |text: &str| text.parse::<IpAddr>().map_err(|_| bad());
        if let Some((first, length)) = text.split_once('/') {
            let (first, length) = (address(first)?, length.parse().map_err(|_| bad())?);
            let prefix = Range::prefix(first, length).ok_or_else(bad)?;
            if prefix.first != first {
                return Err(BadRange::Host { text: text.into(), prefix });
            }
            Ok(prefix)
        } else if let Some((first, last)) = text.split_once('-') {
            Range::new(address(first)?, address(last)?)
        } else {
            Ok(Range::only(address(text)?))
        }
    }
}

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Range, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_printed_as_it_is_best_read() {
        for text in [
            "10.0.0.0/8",
            "0.0.0.0/0",
            "10.0.0.1-10.0.0.9",
            "10.0.0.1",
            "2001:db8::/32",
            "::/0",
            "2001:db8::1",
            "2001:db8::1-2001:db8::3",
        ] {
            let range: Range = text.parse().unwrap();
            assert_eq!(range.to_string(), text);
            let json = serde_json::to_string(&range).unwrap();
            assert_eq!(serde_json::from_str::<Range>(&json).unwrap(), range);
        }
        assert_eq!("10.0.0.1/32".parse::<Range>().unwrap().to_string(), "10.0.0.1");
        assert_eq!("10.0.0.0-10.0.0.255".parse::<Range>().unwrap().to_string(), "10.0.0.0/24");
        assert_eq!("0.0.0.0/0".parse::<Range>().unwrap(), Range::ALL_V4);
        assert_eq!("::/0".parse::<Range>().unwrap(), Range::ALL_V6);
    }

    #[test]
    fn text_that_is_no_range_is_refused_with_what_to_write() {
        for text in ["", "10.0.0.0/33", "::/129", "10.0.0.0/x", "b.example", "10.0.0.1-", "/8"] {
            let error = text.parse::<Range>().unwrap_err().to_string();
            assert!(error.contains("write it like"), "{error}");
        }
        for text in ["10.0.0.9-10.0.0.1", "10.0.0.1-::1"] {
            let error = text.parse::<Range>().unwrap_err().to_string();
            assert!(error.contains("the same family first"), "{error}");
        }
        let error = "10.1.2.3/8".parse::<Range>().unwrap_err().to_string();
        assert_eq!(error, "10.1.2.3/8 has bits set below its prefix; write 10.0.0.0/8");
    }
}
