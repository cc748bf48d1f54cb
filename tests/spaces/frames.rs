//! Frames and packets, byte by byte: right ones, and what wrong ones are made of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use switch::frame::{Mac, SWITCH};

pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const IPV6: u16 = 0x86dd;
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// Who hears a broadcast.
pub(crate) const EVERYBODY: Mac = [0xff; 6];

/// Nobody's address (RFC 5737).
pub(crate) const OTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Bytes of the Ethernet and the IPv4 header.
const BEFORE_L4: u16 = 34;

pub(crate) fn ethernet(to: Mac, from: Mac, kind: u16, rest: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), rest].concat()
}

/// A whole packet of either family, with a right header.
pub(crate) fn packet(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ip(from, to, protocol, payload),
        (IpAddr::V6(from), IpAddr::V6(to)) => ip6(from, to, protocol, payload),
        _ => panic!("{from} and {to} are not of one family"),
    }
}

/// A whole IPv4 packet with a right checksum.
pub(crate) fn ip(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    with(packet, 0, &[])
}

/// A whole IPv6 packet; its hop limit is that of neighbour discovery (RFC 4861).
pub(crate) fn ip6(from: Ipv6Addr, to: Ipv6Addr, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, 255]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// The IPv4 packet with `bytes` at `at` of its header, and a checksum that is right again.
pub(crate) fn with(mut packet: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    packet[at..at + bytes.len()].copy_from_slice(bytes);
    packet[10..12].fill(0);
    let header = (usize::from(packet[0] & 0x0f) * 4).min(packet.len());
    let sum = checksum(&packet[..header]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The IPv4 packet with four bytes of options: no operation (RFC 791).
pub(crate) fn with_options(mut packet: Vec<u8>) -> Vec<u8> {
    packet.splice(20..20, [1; 4]);
    let length = packet.len() as u16;
    packet[0] = 0x46;
    with(packet, 2, &length.to_be_bytes())
}

/// The Internet checksum (RFC 1071).
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let sum: u32 = bytes.chunks(2).map(word).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Port 8080 to port 7, SYN.
pub(crate) fn tcp_syn() -> Vec<u8> {
    tcp(2, &[])
}

/// Port 8080 to port 7 with these flags.
pub(crate) fn tcp(flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x1f, 0x90, 0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0x20, 0];
    segment.extend([0; 4]);
    segment.extend(payload);
    segment
}

/// A datagram without a checksum between two ports.
pub(crate) fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    let head = [from, to, length, 0].map(u16::to_be_bytes).concat();
    [&head, payload].concat()
}

/// An empty datagram between ESP's ports.
pub(crate) fn datagram() -> Vec<u8> {
    udp(4500, 4500, &[])
}

/// An ICMP echo request (RFC 792), without its IP header.
pub(crate) fn echo_request() -> [u8; 16] {
    let mut bytes = [0; 16];
    (bytes[0], bytes[5], bytes[7]) = (8, 1, 1);
    let sum = checksum(&bytes);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// An ARP message (RFC 826), Ethernet header and all.
pub(crate) fn arp(mac: Mac, operation: u16, sender: (Mac, Ipv4Addr), target: Ipv4Addr) -> Vec<u8> {
    let mut message = vec![0, 1, 8, 0, 6, 4];
    message.extend(operation.to_be_bytes());
    message.extend(sender.0);
    message.extend(sender.1.octets());
    message.extend([0; 6]);
    message.extend(target.octets());
    ethernet(EVERYBODY, mac, ARP, &message)
}

/// A message of neighbour discovery about `target` (RFC 4861): solicitations and advertisements of
/// routers (133, 134) and neighbours (135, 136), redirects (137).
pub(crate) fn discovery(kind: u8, from: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let message = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat();
    ip6(from, to, ICMPV6, &message)
}

/// The address at which solicitations for `target` are heard (RFC 4291 2.7.1), and its Ethernet one.
pub(crate) fn solicited(target: Ipv6Addr) -> (Ipv6Addr, Mac) {
    let [.., a, b, c] = target.octets();
    let [high, low] = [0xff00 | u16::from(a), u16::from_be_bytes([b, c])];
    (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, high, low), [0x33, 0x33, 0xff, a, b, c])
}

/// DHCP, from nobody to everybody: the start of a DISCOVER (RFC 2131).
pub(crate) fn dhcp(mac: Mac) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[28..34].copy_from_slice(&mac);
    message[236..].copy_from_slice(&[99, 130, 83, 99]);
    message.extend([53, 1, 1, 255]);
    ip(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, UDP, &udp(68, 67, &message))
}

/// A virtio-net header (virtio 1.2 5.1.6): flags, kind of segmentation, size, where the checksum
/// begins and where in what is summed it stands.
pub(crate) fn net_header(flags: u8, gso: u8, size: u16, start: u16, offset: u16) -> Vec<u8> {
    let fields = [u16::MAX, size, start, offset, 0].map(u16::to_le_bytes).concat();
    [&[flags, gso][..], &fields].concat()
}

/// An honest frame of one long TCP segment over IPv4, to be cut into segments of 1000 bytes: its
/// virtio-net header, and the frame.
pub(crate) fn long_segment(mac: Mac, from: Ipv4Addr, to: Ipv4Addr) -> (Vec<u8>, Vec<u8>) {
    let segment = ip(from, to, TCP, &tcp(0x10, &[0x55; 4000]));
    (net_header(1, 1, 1000, BEFORE_L4, 16), ethernet(SWITCH, mac, IPV4, &segment))
}

/// Headers that lie about what follows them, each with its frame.
pub(crate) fn lies(
    mac: Mac,
    from: Ipv4Addr,
    to: Ipv4Addr,
) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let frame = |packet: Vec<u8>| ethernet(SWITCH, mac, IPV4, &packet);
    let small = frame(ip(from, to, UDP, &datagram()));
    let (_, long) = long_segment(mac, from, to);
    let long_udp = frame(ip(from, to, UDP, &udp(7, 7, &[0x55; 4000])));
    let syn = frame(ip(from, to, TCP, &tcp(2, &[0x55; 4000])));
    vec![
        ("an unknown kind of segmentation", net_header(1, 2, 1000, 34, 16), long.clone()),
        ("segmentation of fragments", net_header(1, 3, 1000, 34, 16), long.clone()),
        ("a kind that was not negotiated", net_header(1, 5, 1000, 34, 6), long_udp.clone()),
        ("IPv4 as TCP over IPv6", net_header(1, 4, 1000, 34, 16), long.clone()),
        ("UDP as TCP", net_header(1, 1, 1000, 34, 16), long_udp),
        ("segments of no bytes", net_header(1, 1, 0, 34, 16), long.clone()),
        ("segments of one byte", net_header(1, 1, 1, 34, 16), long.clone()),
        ("segments without a checksum", net_header(0, 1, 1000, 34, 16), long.clone()),
        ("a long segment that opens a connection", net_header(1, 1, 1000, 34, 16), syn),
        ("a checksum that begins elsewhere", net_header(1, 1, 1000, 33, 16), long.clone()),
        ("a checksum within the payload", net_header(1, 1, 1000, 34, 3000), long),
        ("a checksum of the Ethernet header", net_header(1, 0, 0, 0, 0), small.clone()),
        ("a checksum of the IP header", net_header(1, 0, 0, 14, 10), small.clone()),
        ("a checksum that is the ports", net_header(1, 0, 0, 34, 0), small.clone()),
        ("a checksum at the very end", net_header(1, 0, 0, 34, 7), small.clone()),
        ("a checksum beyond the frame", net_header(1, 0, 0, u16::MAX, u16::MAX), small),
    ]
}
