//! Socket addresses of both families as the kernel lays them out, read and written as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes of struct sockaddr_in.
const V4: usize = size_of::<libc::sockaddr_in>();

/// Bytes of struct sockaddr_in6, the longer of the two.
pub(super) const ADDRESS: usize = size_of::<libc::sockaddr_in6>();

/// A struct sockaddr_in or sockaddr_in6.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub(super) struct Address([u8; ADDRESS]);

impl Address {
    pub(super) const EMPTY: Address = Address([0; ADDRESS]);

    /// The address as a structure, and how many bytes of it count.
    pub(super) fn new(address: SocketAddr) -> (Address, usize) {
        let mut bytes = [0; ADDRESS];
        bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        match address {
            SocketAddr::V4(v4) => {
                bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
                bytes[4..8].copy_from_slice(&v4.ip().octets());
                (Address(bytes), V4)
            }
            SocketAddr::V6(v6) => {
                bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
                bytes[8..24].copy_from_slice(&v6.ip().octets());
                bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                (Address(bytes), ADDRESS)
            }
        }
    }

    /// The address in it, if the kernel wrote one.
    pub(super) fn get(&self) -> Option<SocketAddr> {
        parse(&self.0)
    }
}

/// Reads a struct sockaddr_in or sockaddr_in6; `None` if it is neither, or cut short.
pub(super) fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*bytes.first_chunk()?);
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match i32::from(family) {
        libc::AF_INET => {
            let address: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
            Some(SocketAddrV4::new(address.into(), port).into())
        }
        libc::AF_INET6 => {
            let address: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(address.into(), port, 0, scope).into())
        }
        _ => None,
    }
}

/// The address that means any, in the family of `address`.
pub(super) fn unspecified(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
