//! The addresses a space has as its own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// At most one address of each family, and one at the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl Addresses {
    /// These addresses; `None` if there is none, two of one family, or one that is no host's.
    pub fn new(addresses: &[IpAddr]) -> Option<Addresses> {
        let (mut v4, mut v6) = (None, None);
        for address in addresses {
            let taken = match address {
                IpAddr::V4(address) => v4.replace(*address).is_some(),
                IpAddr::V6(address) => v6.replace(*address).is_some(),
            };
            if taken || !is_host(*address) {
                return None;
            }
        }
        (v4.is_some() || v6.is_some()).then_some(Addresses { v4, v6 })
    }

    /// The IPv4 address.
    pub fn v4(self) -> Option<Ipv4Addr> {
        self.v4
    }

    /// The IPv6 address.
    pub fn v6(self) -> Option<Ipv6Addr> {
        self.v6
    }

    /// Whether this is one of them.
    pub fn contains(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4 == Some(address),
            IpAddr::V6(address) => self.v6 == Some(address),
        }
    }

    /// All of them, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::from).into_iter().chain(self.v6.map(IpAddr::from))
    }
}

/// Whether an address can be one host's: not unspecified, multicast or broadcast.
pub fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !broadcast
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_has_one_address_of_a_family_and_each_is_a_hosts() {
        let (v4, v6) = ("192.0.2.10".parse().unwrap(), "2001:db8::10".parse().unwrap());
        let both = Addresses::new(&[v6, v4]).unwrap();
        assert_eq!(both.iter().collect::<Vec<_>>(), [v4, v6]);
        assert!(both.contains(v4) && both.contains(v6));
        assert!(!Addresses::new(&[v4]).unwrap().contains(v6));
        for bad in [&[][..], &[v4, v4], &["ff02::1".parse().unwrap()], &[[0; 4].into()]] {
            assert_eq!(Addresses::new(bad), None);
        }
    }
}
