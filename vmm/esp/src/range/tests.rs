//! Ranges, and how they are written.

use super::*;

#[test]
fn a_range_is_of_one_family_and_in_order() {
    let v4 = |last| IpAddr::from(Ipv4Addr::new(10, 0, 0, last));
    let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    assert!(AddressRange::new(v4(2), v4(1)).is_err());
    assert!(AddressRange::new(v4(2), v6).is_err());
    assert!(AddressRange::new(v6, v4(2)).is_err());
    assert!(PortRange::new(2, 1).is_err());
    let range = AddressRange::new(v4(2), v4(4)).unwrap();
    let inside: Vec<u8> = (0..=255).filter(|last| range.contains(v4(*last))).collect();
    assert_eq!(inside, [2, 3, 4]);
    assert!(!range.contains(v6));
    // An IPv4 address written as IPv6 is not the IPv4 address.
    assert!(!range.contains(Ipv4Addr::new(10, 0, 0, 3).to_ipv6_mapped().into()));
}
