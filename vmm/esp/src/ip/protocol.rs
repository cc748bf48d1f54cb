//! Protocol numbers that something here depends on (IANA, Assigned Internet
//! Protocol Numbers).

/// IPv6 hop-by-hop options (RFC 8200 4.3).
pub const HOP_BY_HOP: u8 = 0;
/// ICMP of IPv4 (RFC 792).
pub const ICMP: u8 = 1;
/// A whole IPv4 packet (RFC 2003).
pub const IPV4: u8 = 4;
/// TCP (RFC 9293).
pub const TCP: u8 = 6;
/// UDP (RFC 768).
pub const UDP: u8 = 17;
/// DCCP (RFC 4340).
pub const DCCP: u8 = 33;
/// A whole IPv6 packet (RFC 2473).
pub const IPV6: u8 = 41;
/// IPv6 routing header (RFC 8200 4.4).
pub const ROUTING: u8 = 43;
/// IPv6 fragment header (RFC 8200 4.5).
pub const FRAGMENT: u8 = 44;
/// Authentication header (RFC 4302).
pub const AH: u8 = 51;
/// ICMP of IPv6 (RFC 4443).
pub const ICMPV6: u8 = 58;
/// IPv6 destination options (RFC 8200 4.6).
pub const DESTINATION_OPTIONS: u8 = 60;
/// SCTP (RFC 9260).
pub const SCTP: u8 = 132;
/// UDP-Lite (RFC 3828).
pub const UDP_LITE: u8 = 136;

/// Protocols whose payload starts with a source and a destination port.
pub const WITH_PORTS: [u8; 5] = [TCP, UDP, DCCP, SCTP, UDP_LITE];
