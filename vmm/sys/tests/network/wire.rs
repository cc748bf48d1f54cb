//! A TUN device as the wire to a peer, and the packets on it.

use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

use libtest_mimic::Failed;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sys::clock::monotonic_ns;
use sys::raw::Family;
use sys::route;
use sys::sched::give_way;
use sys::tun::Tun;

/// Waits until something is there, for five seconds at most.
pub(super) fn ready(fd: impl AsFd) -> Result<(), Failed> {
    let limit = Timespec { tv_sec: 5, tv_nsec: 0 };
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit))? {
        0 => Err("nothing came".into()),
        _ => Ok(()),
    }
}

/// A network with this host and the way to one peer.
pub(super) struct Wire {
    tun: Tun,
    /// This host's first address.
    pub(super) local: IpAddr,
    /// Its other address.
    pub(super) second: IpAddr,
    /// The peer's, which is routed into the device.
    pub(super) peer: IpAddr,
}

fn host(family: Family, network: u16, number: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(198, 18, network as u8, number).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, number.into()).into(),
    }
}

/// Waits until the kernel takes packets to an address it was given.
fn taken(address: Ipv6Addr) -> Result<(), Failed> {
    const RTF_LOCAL: u32 = 0x8000_0000;
    let digits = format!("{:032x}", u128::from(address));
    let end = monotonic_ns() + 5_000_000_000;
    while monotonic_ns() < end {
        let routes = std::fs::read_to_string("/proc/thread-self/net/ipv6_route")?;
        let is_local = routes.lines().filter(|line| line.starts_with(&digits)).any(|line| {
            let flags = line.split_whitespace().nth(8).map(|flags| u32::from_str_radix(flags, 16));
            matches!(flags, Some(Ok(flags)) if flags & RTF_LOCAL != 0)
        });
        if is_local {
            return Ok(());
        }
        give_way();
    }
    Err(format!("{address} is not routed").into())
}

impl Wire {
    /// Sets it up in the current network namespace.
    pub(super) fn new(family: Family) -> Result<Wire, Failed> {
        let [local, second, peer] = [10, 11, 20].map(|number| host(family, 0, number));
        let tun = Tun::create("ps%d")?;
        let wire = Wire { tun, local, second, peer };
        route::bring_up("lo", 65536)?;
        route::add_address("lo", local, wire.host_bits())?;
        route::add_address("lo", second, wire.host_bits())?;
        route::bring_up(wire.device(), super::MTU)?;
        route::add(peer, wire.host_bits(), wire.device(), Some(local))?;
        for address in [local, second] {
            if let IpAddr::V6(v6) = address {
                taken(v6)?;
            }
        }
        Ok(wire)
    }

    pub(super) fn device(&self) -> &str {
        self.tun.name()
    }

    pub(super) fn host_bits(&self) -> u8 {
        if self.local.is_ipv4() { 32 } else { 128 }
    }

    /// An address of a network that is not routed.
    pub(super) fn in_network(&self, number: u8) -> IpAddr {
        host(self.local.into(), 7, number)
    }

    pub(super) fn network_bits(&self) -> u8 {
        if self.local.is_ipv4() { 24 } else { 64 }
    }

    /// The next packet from this host's addresses; it sends others of its own accord.
    pub(super) fn read(&self) -> Result<Packet, Failed> {
        loop {
            ready(&self.tun)?;
            let mut bytes = vec![0; 65536];
            let Some(length) = self.tun.read(&mut bytes)? else { continue };
            bytes.truncate(length);
            let packet = Packet(bytes);
            if [self.local, self.second].contains(&packet.source()) {
                return Ok(packet);
            }
        }
    }

    pub(super) fn write(&self, packet: &[u8]) {
        assert!(self.tun.write(&[IoSlice::new(packet)]));
    }

    /// What a router with the peer's address says to a packet that is longer than `mtu`: RFC 1191 4,
    /// RFC 4443 3.2.
    pub(super) fn too_big(&self, packet: &Packet, mtu: u16) -> Vec<u8> {
        let (kind, code) = if packet.is_ipv4() { (3, 4) } else { (2, 0) };
        let mut icmp = vec![kind, code, 0, 0, 0, 0];
        icmp.extend_from_slice(&mtu.to_be_bytes());
        icmp.extend_from_slice(&packet.0);
        let (IpAddr::V6(from), IpAddr::V6(to)) = (self.peer, self.local) else {
            let sum = checksum(&icmp);
            icmp[2..4].copy_from_slice(&sum.to_be_bytes());
            return self.ipv4_of(1, &[], 0, &icmp);
        };
        let length = (icmp.len() as u32).to_be_bytes();
        let pseudo = [&from.octets()[..], &to.octets(), &length, &[0, 0, 0, 58], &icmp].concat();
        let sum = checksum(&pseudo);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut bytes = vec![0x60, 0, 0, 0, length[2], length[3], 58, 64];
        bytes.extend_from_slice(&[&from.octets()[..], &to.octets(), &icmp].concat());
        bytes
    }

    /// An IPv4 packet of ESP from the peer; `fragment` are flags and offset (RFC 791 3.1).
    pub(super) fn ipv4(&self, options: &[u8], fragment: u16, payload: &[u8]) -> Vec<u8> {
        self.ipv4_of(50, options, fragment, payload)
    }

    fn ipv4_of(&self, protocol: u8, options: &[u8], fragment: u16, payload: &[u8]) -> Vec<u8> {
        let (IpAddr::V4(from), IpAddr::V4(to)) = (self.peer, self.local) else {
            panic!("an IPv4 packet on an IPv6 wire");
        };
        let words = 5 + options.len() / 4;
        let length = ((words * 4 + payload.len()) as u16).to_be_bytes();
        let fragment = fragment.to_be_bytes();
        let start = [0x40 | words as u8, 0, length[0], length[1], 0, 42, fragment[0], fragment[1]];
        let mut header =
            [&start[..], &[64, protocol, 0, 0], &from.octets(), &to.octets(), options].concat();
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        [&header, payload].concat()
    }
}

/// An IP packet.
pub(super) struct Packet(pub(super) Vec<u8>);

impl Packet {
    pub(super) fn is_ipv4(&self) -> bool {
        self.0[0] >> 4 == 4
    }

    pub(super) fn source(&self) -> IpAddr {
        if self.is_ipv4() { v4(&self.0[12..]) } else { v6(&self.0[8..]) }
    }

    pub(super) fn destination(&self) -> IpAddr {
        if self.is_ipv4() { v4(&self.0[16..]) } else { v6(&self.0[24..]) }
    }

    pub(super) fn tos(&self) -> u8 {
        if self.is_ipv4() { self.0[1] } else { self.0[0] << 4 | self.0[1] >> 4 }
    }

    pub(super) fn protocol(&self) -> u8 {
        if self.is_ipv4() { self.0[9] } else { self.0[6] }
    }

    pub(super) fn payload(&self) -> &[u8] {
        if self.is_ipv4() { &self.0[20..] } else { &self.0[40..] }
    }

    /// IPv6 routers never fragment (RFC 8200 5): there the packet must be no fragment itself.
    pub(super) fn forbids_fragments(&self) -> bool {
        const FRAGMENT: u8 = 44;
        if self.is_ipv4() { self.0[6] == 0x40 } else { self.protocol() != FRAGMENT }
    }
}

/// Exchanges source and destination.
pub(super) fn turn_round(packet: &mut [u8]) {
    let (start, length) = if packet[0] >> 4 == 4 { (12, 4) } else { (8, 16) };
    let (source, destination) = packet[start..start + 2 * length].split_at_mut(length);
    source.swap_with_slice(destination);
}

fn v4(bytes: &[u8]) -> IpAddr {
    bytes.first_chunk::<4>().map(|address| IpAddr::from(*address)).expect("a whole header")
}

fn v6(bytes: &[u8]) -> IpAddr {
    bytes.first_chunk::<16>().map(|address| IpAddr::from(*address)).expect("a whole header")
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    let sum: u32 = words.map(u32::from).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}
