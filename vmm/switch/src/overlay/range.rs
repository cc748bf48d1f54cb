//! Ranges of addresses, as files and messages write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::str::FromStr;

use esp::{AddressRange, ParseRangeError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A range of addresses that is written as text: `10.0.0.0/8`, `10.0.0.1-10.0.0.9`, `10.0.0.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range(AddressRange);

impl Range {
    /// Just this address.
    pub fn only(address: impl Into<IpAddr>) -> Range {
        Range(AddressRange::only(address))
    }

    /// Every address, IPv4 first.
    pub fn all() -> [Range; 2] {
        let v4 = (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into());
        let v6 = (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::from_bits(u128::MAX).into());
        [v4, v6].map(|(first, last)| {
            Range(AddressRange::new(first, last).expect("the lowest comes before the highest"))
        })
    }

    /// Whether its addresses are IPv4.
    pub fn is_ipv4(&self) -> bool {
        self.0.first().is_ipv4()
    }
}

impl Deref for Range {
    type Target = AddressRange;

    fn deref(&self) -> &AddressRange {
        &self.0
    }
}

impl From<AddressRange> for Range {
    fn from(range: AddressRange) -> Range {
        Range(range)
    }
}

impl From<Range> for AddressRange {
    fn from(range: Range) -> AddressRange {
        range.0
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Range {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Range, ParseRangeError> {
        text.parse().map(Range)
    }
}

impl Serialize for Range {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
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
    fn a_range_is_text_in_messages_and_everything_is_two() {
        let range: Range = serde_json::from_str("\"10.0.0.0/8\"").unwrap();
        assert!(range.is_ipv4() && range.contains([10, 1, 2, 3].into()));
        assert_eq!(serde_json::to_string(&range).unwrap(), "\"10.0.0.0/8\"");
        assert!(serde_json::from_str::<Range>("\"10.0.0.0/33\"").is_err());
        assert_eq!(Range::all().map(|range| range.to_string()), ["0.0.0.0/0", "::/0"]);
    }
}
