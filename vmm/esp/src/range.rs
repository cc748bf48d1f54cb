//! Ranges of addresses and of ports, and how they are written.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An inclusive range of addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AddressRange {
    first: IpAddr,
    /// Of the same family as `first`, and not before it.
    last: IpAddr,
}

/// Two bounds that are no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The families differ or the last address is before the first.
    #[error("{0} to {1} is no range of addresses: give the lower one of the same family first")]
    Addresses(IpAddr, IpAddr),
    /// The last port is before the first.
    #[error("{0} to {1} is no range of ports: give the lower one first")]
    Ports(u16, u16),
}

impl AddressRange {
    /// All addresses from `first` to `last`, both included.
    ///
    /// # Errors
    /// [`RangeError::Addresses`] if they are in the wrong order or of two families.
    pub fn new(first: IpAddr, last: IpAddr) -> Result<AddressRange, RangeError> {
        if first.is_ipv4() != last.is_ipv4() || last < first {
            return Err(RangeError::Addresses(first, last));
        }
        Ok(AddressRange { first, last })
    }

    /// Just this address.
    pub fn only(address: impl Into<IpAddr>) -> AddressRange {
        let address = address.into();
        AddressRange { first: address, last: address }
    }

    /// Whether `address` is in the range; never if it is of the other family.
    pub fn contains(&self, address: IpAddr) -> bool {
        // `IpAddr` orders every IPv4 address before every IPv6 address.
        self.first <= address && address <= self.last
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// The range as prefixes, each its first address and the number of bits that are fixed: in
    /// order, and as few as possible.
    pub fn prefixes(&self) -> impl Iterator<Item = (IpAddr, u8)> {
        let is_v4 = self.first.is_ipv4();
        let width = if is_v4 { u32::BITS } else { u128::BITS };
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let (first, last) = (bits(self.first), bits(self.last));
        let mut next = Some(first);
        std::iter::from_fn(move || {
            let start = next?;
            // As long as the start is its own first address, and it ends within the range.
            let open = (0..=start.trailing_zeros().min(width)).rev().find(|&open| {
                let rest = 1_u128.checked_shl(open).map_or(u128::MAX, |size| size - 1);
                start.checked_add(rest).is_some_and(|end| end <= last)
            })?;
            let rest = 1_u128.checked_shl(open).map_or(u128::MAX, |size| size - 1);
            next =
                start.checked_add(rest).and_then(|end| end.checked_add(1)).filter(|n| *n <= last);
            let address = match is_v4 {
                true => Ipv4Addr::from_bits(start as u32).into(),
                false => Ipv6Addr::from_bits(start).into(),
            };
            Some((address, (width - open) as u8))
        })
    }

    /// How many addresses follow the first: fewer is more specific.
    pub(crate) fn span(&self) -> u128 {
        match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => u128::from(last.to_bits() - first.to_bits()),
            (IpAddr::V6(first), IpAddr::V6(last)) => last.to_bits() - first.to_bits(),
            _ => unreachable!("both bounds are of one family"),
        }
    }
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    first: u16,
    /// Not before `first`.
    last: u16,
}

impl PortRange {
    /// Every port, and packets that have none.
    pub const ANY: PortRange = PortRange { first: 0, last: u16::MAX };

    /// All ports from `first` to `last`, both included.
    ///
    /// # Errors
    /// [`RangeError::Ports`] if they are in the wrong order.
    pub fn new(first: u16, last: u16) -> Result<PortRange, RangeError> {
        if last < first {
            Err(RangeError::Ports(first, last))
        } else {
            Ok(PortRange { first, last })
        }
    }

    /// Just this port.
    pub const fn only(port: u16) -> PortRange {
        PortRange { first: port, last: port }
    }

    /// The lowest port.
    pub fn first(&self) -> u16 {
        self.first
    }

    /// The highest port.
    pub fn last(&self) -> u16 {
        self.last
    }

    /// Whether `port` is in the range.
    pub fn contains(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// How many ports follow the first: fewer is more specific.
    pub(crate) fn span(&self) -> u16 {
        self.last - self.first
    }
}

/// Text that is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseRangeError {
    /// No address, prefix or pair of addresses.
    #[error("{0:?} is no range of addresses: write 10.0.0.0/8, 10.0.0.1-10.0.0.9 or 10.0.0.1")]
    Addresses(String),
    /// A prefix longer than an address.
    #[error("{text:?} has a prefix of more than {longest} bits, the length of the address")]
    Prefix {
        /// As it was written.
        text: String,
        /// Bits of an address of its family.
        longest: u8,
    },
    /// Bits behind the prefix are set, so either could be meant.
    #[error(
        "{text:?} has bits set behind its prefix: write {first}/{prefix} for the whole network"
    )]
    Host {
        /// As it was written.
        text: String,
        /// The first address of the prefix.
        first: IpAddr,
        /// Bits of the prefix.
        prefix: u8,
    },
    /// No port or pair of ports.
    #[error("{0:?} is no range of ports: write 80 or 8000-8100")]
    Ports(String),
    /// Bounds that are no range.
    #[error(transparent)]
    Bounds(#[from] RangeError),
}

impl FromStr for AddressRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<AddressRange, ParseRangeError> {
        let unreadable = || ParseRangeError::Addresses(text.to_owned());
        let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| unreadable());
        if let Some((first, last)) = text.split_once('-') {
            return Ok(AddressRange::new(address(first)?, address(last)?)?);
        }
        let Some((first, prefix)) = text.split_once('/') else {
            return Ok(AddressRange::only(address(text)?));
        };
        let (first, prefix) = (address(first)?, prefix.parse::<u8>().map_err(|_| unreadable())?);
        let longest = bits(first);
        if prefix > longest {
            return Err(ParseRangeError::Prefix { text: text.to_owned(), longest });
        }
        let range = AddressRange::network(first, prefix);
        if range.first != first {
            let first = range.first;
            return Err(ParseRangeError::Host { text: text.to_owned(), first, prefix });
        }
        Ok(range)
    }
}

impl AddressRange {
    /// The network that `address` is in.
    fn network(address: IpAddr, prefix: u8) -> AddressRange {
        match address {
            IpAddr::V4(address) => {
                let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
                let first = address.to_bits() & !hosts;
                let last = Ipv4Addr::from_bits(first | hosts);
                AddressRange { first: Ipv4Addr::from_bits(first).into(), last: last.into() }
            }
            IpAddr::V6(address) => {
                let hosts = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
                let first = address.to_bits() & !hosts;
                let last = Ipv6Addr::from_bits(first | hosts);
                AddressRange { first: Ipv6Addr::from_bits(first).into(), last: last.into() }
            }
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return self.first.fmt(f);
        }
        // A network's addresses but the first are as many as ones in binary.
        let prefix = bits(self.first) - self.span().trailing_ones() as u8;
        if AddressRange::network(self.first, prefix) == *self {
            write!(f, "{}/{prefix}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Bits of an address.
fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for PortRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<PortRange, ParseRangeError> {
        let port = |part: &str| {
            part.trim().parse::<u16>().map_err(|_| ParseRangeError::Ports(text.to_owned()))
        };
        match text.split_once('-') {
            Some((first, last)) => Ok(PortRange::new(port(first)?, port(last)?)?),
            None => Ok(PortRange::only(port(text)?)),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

#[cfg(test)]
mod tests;
