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

fn range(text: &str) -> Result<AddressRange, ParseRangeError> {
    text.parse()
}

#[test]
fn ranges_are_written_as_networks_where_they_are_some() {
    let written = [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0-10.255.255.255", "10.0.0.0/8"),
        ("10.0.0.1-10.0.0.9", "10.0.0.1-10.0.0.9"),
        ("10.0.0.1 - 10.0.0.2", "10.0.0.1-10.0.0.2"),
        ("10.0.0.2-10.0.0.3", "10.0.0.2/31"),
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1/32", "10.0.0.1"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("0.0.0.0-255.255.255.254", "0.0.0.0-255.255.255.254"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::/0", "::/0"),
        ("2001:db8::1-2001:db8::f", "2001:db8::1-2001:db8::f"),
        ("2001:db8::1/128", "2001:db8::1"),
    ];
    for (text, expected) in written {
        assert_eq!(range(text).unwrap().to_string(), expected);
    }
    let network = range("10.1.2.0/23").unwrap();
    let bounds = (network.first().to_string(), network.last().to_string());
    assert_eq!(bounds, ("10.1.2.0".to_owned(), "10.1.3.255".to_owned()));
}

#[test]
fn text_that_is_no_range_is_refused_with_a_way_out() {
    let refused = [
        ("", "is no range of addresses: write 10.0.0.0/8"),
        ("10.0.0", "is no range of addresses"),
        ("10.0.0.0/", "is no range of addresses"),
        ("10.0.0.0/x", "is no range of addresses"),
        ("10.0.0.1-", "is no range of addresses"),
        ("10.0.0.0/8-10.0.0.1", "is no range of addresses"),
        ("10.0.0.0/33", "more than 32 bits"),
        ("2001:db8::/129", "more than 128 bits"),
        ("10.0.0.1/8", "write 10.0.0.0/8 for the whole network"),
        ("10.0.0.2-10.0.0.1", "give the lower one"),
        ("10.0.0.2-2001:db8::1", "of the same family"),
    ];
    for (text, expected) in refused {
        let sentence = range(text).unwrap_err().to_string();
        assert!(sentence.contains(expected), "{text:?}: {sentence}");
    }
}

#[test]
fn every_range_is_read_back_as_it_was_written() {
    bolero::check!().with_type::<(bool, u128, u128, u8)>().for_each(|(v6, one, other, prefix)| {
        let address = |bits: u128| match v6 {
            true => IpAddr::V6(Ipv6Addr::from_bits(bits)),
            false => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        };
        let (one, other) = (address(*one), address(*other));
        let bounds = AddressRange::new(one.min(other), one.max(other)).unwrap();
        let network = AddressRange::network(one, prefix % (bits(one) + 1));
        assert!(network.contains(one));
        for range in [bounds, network, AddressRange::only(one)] {
            assert_eq!(range.to_string().parse(), Ok(range));
        }
        let has_prefix = network.to_string().contains('/');
        assert_eq!(has_prefix, network != AddressRange::only(one));
    });
}

#[test]
fn a_range_is_the_fewest_prefixes_that_cover_it_in_order() {
    let text = |range: &str| {
        let range = self::range(range).unwrap();
        let prefixes = range.prefixes();
        prefixes.map(|(first, prefix)| format!("{first}/{prefix}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(text("10.0.0.0/8"), "10.0.0.0/8");
    assert_eq!(text("10.0.0.1-10.0.0.9"), "10.0.0.1/32 10.0.0.2/31 10.0.0.4/30 10.0.0.8/31");
    assert_eq!((text("0.0.0.0/0"), text("::/0")), ("0.0.0.0/0".to_owned(), "::/0".to_owned()));
    assert_eq!(text("255.255.255.255"), "255.255.255.255/32");

    bolero::check!().with_type::<(bool, u128, u128)>().for_each(|(v6, one, other)| {
        let address = |bits: u128| match v6 {
            true => IpAddr::V6(Ipv6Addr::from_bits(bits)),
            false => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        };
        let (one, other) = (address(*one), address(*other));
        let whole = AddressRange::new(one.min(other), one.max(other)).unwrap();
        let networks: Vec<AddressRange> = whole
            .prefixes()
            .map(|(first, prefix)| {
                let network = AddressRange::network(first, prefix);
                assert_eq!(network.first(), first);
                network
            })
            .collect();
        assert_eq!(networks.first().map(AddressRange::first), Some(whole.first()));
        assert_eq!(networks.last().map(AddressRange::last), Some(whole.last()));
        for pair in networks.windows(2) {
            // Nothing lies between two neighbours, and no wider network fits instead of them.
            let both = AddressRange::new(pair[0].first(), pair[1].last()).unwrap();
            assert_eq!(both.span(), pair[0].span() + pair[1].span() + 1);
            assert!(!both.to_string().contains('/'));
        }
    });
}

#[test]
fn ports_are_written_alone_or_in_pairs() {
    for (text, first, last) in [("80", 80, 80), ("8000-8100", 8000, 8100), ("0-65535", 0, 65535)] {
        let range: PortRange = text.parse().unwrap();
        assert_eq!((range.first(), range.last(), &range.to_string()[..]), (first, last, text));
    }
    for text in ["", "http", "65536", "1-", "-1", "1-2-3"] {
        assert_eq!(text.parse::<PortRange>(), Err(ParseRangeError::Ports(text.to_owned())));
    }
    assert_eq!("2-1".parse::<PortRange>(), Err(RangeError::Ports(2, 1).into()));
}

#[test]
fn arbitrary_text_is_read_or_refused() {
    bolero::check!().with_type::<String>().for_each(|text| {
        if let Ok(range) = text.parse::<AddressRange>() {
            assert!(range.contains(range.first()) && range.contains(range.last()));
        }
        if let Ok(range) = text.parse::<PortRange>() {
            assert!(range.first() <= range.last());
        }
    });
}
