//! The page with which the native guest starts.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the monitor tells the native guest, at [`crate::layout::START_PAGE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StartPage {
    /// [`MAGIC`].
    pub magic: u64,
    /// Bytes of guest memory, from address 0; all mapped one to one, writable, user.
    pub memory_bytes: u64,
    /// First byte after the image and its stack: the heap starts here.
    pub heap_start: u64,
    /// Time-stamp counter ticks per second.
    pub tsc_hz: u64,
    /// Wall-clock time at the start, nanoseconds since 1970.
    pub wall_ns: u64,
    /// Longest spin on the used rings before sleeping, microseconds.
    pub spin_us: u32,
    /// The one network's MTU, bytes of IP packet.
    pub mtu: u32,
    /// The space's own IPv4 address, network order, if [`HAS_V4`].
    pub address_v4: [u8; 4],
    /// The overlay's peer, if [`PEER_V4`]: asked for one echo at the start so that its
    /// reachability is known. At most one peer is given.
    pub peer_v4: [u8; 4],
    /// The space's own IPv6 address, if [`HAS_V6`].
    pub address_v6: [u8; 16],
    /// The overlay's peer, if [`PEER_V6`].
    pub peer_v6: [u8; 16],
    /// The space's Ethernet address.
    pub mac: [u8; 6],
    /// Which of the addresses are given.
    pub given: u8,
    /// How many disks there are, in the first of [`crate::layout::Place::DISKS`].
    pub disks: u8,
}

/// In [`StartPage::given`]: the space has an IPv4 address.
pub const HAS_V4: u8 = 1;
/// The space has an IPv6 address.
pub const HAS_V6: u8 = 1 << 1;
/// The peer is named by an IPv4 address.
pub const PEER_V4: u8 = 1 << 2;
/// The peer is named by an IPv6 address.
pub const PEER_V6: u8 = 1 << 3;

impl StartPage {
    /// Says who the space and its peer are: the first address of each family counts.
    pub fn name(&mut self, addresses: &[IpAddr], peer: Option<IpAddr>) {
        for address in addresses.iter().rev() {
            match address {
                IpAddr::V4(v4) => self.address_v4 = v4.octets(),
                IpAddr::V6(v6) => self.address_v6 = v6.octets(),
            }
            self.given |= if address.is_ipv4() { HAS_V4 } else { HAS_V6 };
        }
        match peer {
            Some(IpAddr::V4(v4)) => {
                (self.peer_v4, self.given) = (v4.octets(), self.given | PEER_V4)
            }
            Some(IpAddr::V6(v6)) => {
                (self.peer_v6, self.given) = (v6.octets(), self.given | PEER_V6)
            }
            None => {}
        }
    }

    /// The space's own IPv4 address.
    pub fn own_v4(&self) -> Option<Ipv4Addr> {
        self.is_given(HAS_V4).then(|| self.address_v4.into())
    }

    /// The space's own IPv6 address.
    pub fn own_v6(&self) -> Option<Ipv6Addr> {
        self.is_given(HAS_V6).then(|| self.address_v6.into())
    }

    /// The overlay's peer.
    pub fn peer(&self) -> Option<IpAddr> {
        if self.is_given(PEER_V4) {
            return Some(self.peer_v4.into());
        }
        self.is_given(PEER_V6).then(|| self.peer_v6.into())
    }

    fn is_given(&self, which: u8) -> bool {
        self.given & which != 0
    }
}

/// "portspac" as bytes.
pub const MAGIC: u64 = u64::from_le_bytes(*b"portspac");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_is_there_only_if_it_was_named() {
        let blank = StartPage {
            magic: MAGIC,
            memory_bytes: 0,
            heap_start: 0,
            tsc_hz: 0,
            wall_ns: 0,
            spin_us: 0,
            mtu: 0,
            address_v4: [0; 4],
            peer_v4: [0; 4],
            address_v6: [0; 16],
            peer_v6: [0; 16],
            mac: [0; 6],
            given: 0,
            disks: 0,
        };
        assert_eq!((blank.own_v4(), blank.own_v6(), blank.peer()), (None, None, None));
        let (v4, v6) = (Ipv4Addr::new(10, 1, 0, 5), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5));
        let mut page = blank;
        page.name(&[v6.into(), v4.into()], Some(v6.into()));
        assert_eq!(
            (page.own_v4(), page.own_v6(), page.peer()),
            (Some(v4), Some(v6), Some(v6.into()))
        );
        let mut page = blank;
        page.name(&[v4.into()], Some(v4.into()));
        assert_eq!((page.own_v4(), page.own_v6(), page.peer()), (Some(v4), None, Some(v4.into())));
    }
}
