//! IP and UDP headers around ESP, as the host's kernel makes and takes them away.

use std::net::{IpAddr, SocketAddr};

const UDP: usize = 8;

/// A hop limit to show: the real one is known to the kernel alone.
const HOPS: u8 = 64;

/// The headers before an ESP packet.
pub(super) struct Outer {
    bytes: [u8; 40 + UDP],
    length: usize,
}

impl Outer {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}

/// The headers of a packet that carries `esp` from `from` to `to`, whose families are one.
pub(super) fn header(from: SocketAddr, to: SocketAddr, is_udp: bool, tos: u8, esp: &[u8]) -> Outer {
    let mut outer = Outer { bytes: [0; 40 + UDP], length: 0 };
    let payload = esp.len() + if is_udp { UDP } else { 0 };
    let protocol = if is_udp { 17 } else { esp::PROTOCOL };
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let length = u16::try_from(20 + payload).unwrap_or(u16::MAX).to_be_bytes();
            // RFC 791 3.1; not to be fragmented, as our sockets ask.
            let mut ip = [0x45, tos, length[0], length[1], 0, 0, 0x40, 0, HOPS, protocol, 0, 0]
                .into_iter()
                .chain(source.octets())
                .chain(destination.octets())
                .collect::<Vec<u8>>();
            let sum = checksum(&[&ip]).to_be_bytes();
            ip[10..12].copy_from_slice(&sum);
            outer.push(&ip);
        }
        (source, destination) => {
            let length = u16::try_from(payload).unwrap_or(u16::MAX).to_be_bytes();
            // RFC 8200 3.
            outer.push(&[0x60 | tos >> 4, tos << 4, 0, 0, length[0], length[1], protocol, HOPS]);
            outer.push(&v6(source));
            outer.push(&v6(destination));
        }
    }
    if is_udp {
        let length = u16::try_from(payload).unwrap_or(u16::MAX).to_be_bytes();
        let [source, destination] = [from, to].map(|end| end.port().to_be_bytes());
        let mut udp =
            [source[0], source[1], destination[0], destination[1], length[0], length[1], 0, 0];
        // Over IPv4 it is sent as 0 (RFC 3948 2.1); over IPv6 there must be one (RFC 8200 8.1).
        if from.is_ipv6() {
            let pseudo = [0, 0, length[0], length[1], 0, 0, 0, 17];
            let parts = [&v6(from.ip())[..], &v6(to.ip()), &pseudo, &udp, esp];
            let sum = match checksum(&parts) {
                0 => u16::MAX,
                sum => sum,
            };
            udp[6..].copy_from_slice(&sum.to_be_bytes());
        }
        outer.push(&udp);
    }
    outer
}

fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The Internet checksum of `parts`, of which only the last may have an odd length (RFC 1071).
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u64::from(*low));
    let mut sum: u64 = words.map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn headers_over_ipv4_are_right_and_as_long_as_they_say() {
        let (a, b) = (end("192.0.2.10:4500"), end("192.0.2.20:4501"));
        let udp = header(a, b, true, 0xb8, &[7; 40]);
        let bytes = udp.bytes();
        assert_eq!((bytes.len(), bytes[0], bytes[1], bytes[9]), (28, 0x45, 0xb8, 17));
        assert_eq!(checksum(&[&bytes[..20]]), 0);
        assert_eq!((&bytes[2..4], &bytes[24..28]), (&[0, 68][..], &[0, 48, 0, 0][..]));
        assert_eq!(bytes[20..24], [0x11, 0x94, 0x11, 0x95]);
        let raw = header(a, b, false, 0, &[7; 41]);
        assert_eq!((raw.bytes().len(), raw.bytes()[9], raw.bytes()[3]), (20, 50, 61));
    }

    #[test]
    fn headers_over_ipv6_carry_the_class_and_a_checksum() {
        let (a, b) = (end("[2001:db8::1]:4500"), end("[2001:db8::2]:4500"));
        let esp = [9; 41];
        let udp = header(a, b, true, 0xb8, &esp);
        let bytes = udp.bytes();
        assert_eq!((bytes.len(), &bytes[..8]), (48, &[0x6b, 0x80, 0, 0, 0, 49, 17, 64][..]));
        let pseudo = [0, 0, 0, 49, 0, 0, 0, 17];
        assert_eq!(checksum(&[&bytes[8..40], &pseudo, &bytes[40..], &esp]), 0);
        let raw = header(a, b, false, 0, &esp);
        assert_eq!((raw.bytes().len(), raw.bytes()[6]), (40, 50));
    }
}
