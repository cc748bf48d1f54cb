//! SAs grow old, more are added, and all go.

use super::*;
use crate::overlay::{Bounds, Lifetime};

const SUITE: Suite = Suite::Combined(Cipher::AesCbc128, Integrity::HmacSha256);

fn living(lifetime: Lifetime) -> (Tunnels, Tunnels) {
    let (mut ours, theirs) = (plain((A, 0x1001), (B, 0x2001)), plain((B, 0x2001), (A, 0x1001)));
    ours.sas[0].lifetime = lifetime;
    both(ours, theirs)
}

fn hard(hard: Bounds) -> Lifetime {
    Lifetime { soft: Bounds::default(), hard }
}

#[test]
fn an_sa_carries_the_packets_and_bytes_of_its_life_and_no_more() {
    for bounds in [
        Bounds { packets: Some(3), ..Bounds::default() },
        Bounds { bytes: Some(60), ..Bounds::default() },
    ] {
        let (mut ours, mut theirs) = living(hard(bounds));
        for _ in 0..3 {
            assert_eq!(send(&mut ours, &mut theirs, &packet(A, B, 20)).unwrap().len(), 1);
            assert_eq!(send(&mut theirs, &mut ours, &packet(B, A, 20)).unwrap().len(), 1);
        }
        let over = send(&mut ours, &mut theirs, &packet(A, B, 20));
        assert_eq!(over, Err(Stopped::Silently(Reason::Expired)));
        assert!(send(&mut theirs, &mut ours, &packet(B, A, 20)).unwrap().is_empty());
        assert_eq!(inbound(&ours, 0).discards().of(esp::Discard::Expired), 1);
        assert_eq!(ours.get(0).unwrap().drops.of(Reason::Expired), 1);
    }
}

#[test]
fn an_sa_is_over_after_its_seconds_and_old_before() {
    let bounds = |seconds| Bounds { seconds: Some(seconds), ..Bounds::default() };
    let (mut ours, mut theirs) = living(Lifetime { soft: bounds(50), hard: bounds(60) });
    assert!(ours.ages() && !theirs.ages());
    for (now_s, age) in [(49, esp::Age::Fresh), (50, esp::Age::SoftExpired)] {
        ours.expire(now_s);
        assert_eq!(inbound(&ours, 0).age(), age);
        assert_eq!(send(&mut ours, &mut theirs, &packet(A, B, 20)).unwrap().len(), 1);
        assert_eq!(send(&mut theirs, &mut ours, &packet(B, A, 20)).unwrap().len(), 1);
    }
    ours.expire(60);
    assert!(send(&mut ours, &mut theirs, &packet(A, B, 20)).is_err());
    assert!(send(&mut theirs, &mut ours, &packet(B, A, 20)).unwrap().is_empty());
}

#[test]
fn more_sas_are_added_all_or_none() {
    let (mut ours, _) = ends(Cipher::AesCbc128);
    let mut seed = || [9; 16];
    let traffic = |port| Traffic {
        protocol: Some(UDP),
        remote_ports: Some([port, port]),
        ..Traffic::default()
    };
    let more = |number: u32, port| SaPair {
        traffic: traffic(port),
        ..pair(0x1000 + number, 0x2000 + number, SUITE)
    };
    let before = (ours.sas(), ours.senders.len(), ours.get(0).unwrap().policies().count());
    let taken = pair(0x1001, 0x2009, SUITE);
    let taken_outside = pair(0x1009, 0x2001, SUITE);
    let twice = more(2, 7);
    let reserved = pair(0x1009, 8, SUITE);
    let mut bad_window = pair(0x1009, 0x2009, SUITE);
    bad_window.window = 5;
    for bad in [taken, taken_outside, twice, reserved, bad_window] {
        let refused = ours.extend(0, vec![more(2, 7), more(3, 8), bad], 0, &mut seed);
        assert!(refused.is_err());
        let tunnel = ours.get(0).unwrap();
        let after = (ours.sas(), ours.senders.len(), tunnel.policies().count());
        assert_eq!((&after, tunnel.pairs()), (&before, 1));
    }
    ours.extend(0, vec![more(2, 7), more(3, 8)], 0, &mut seed).unwrap();
    assert_eq!((ours.sas(), ours.get(0).unwrap().pairs()), (3, 3));
    let (_, wire) = sealed(&mut ours, &packet(A, B, 20));
    assert_eq!(wire[..4], 0x2002u32.to_be_bytes());
    assert!(ours.extend(7, vec![more(4, 9)], 0, &mut seed).is_err(), "no such space");
}

#[test]
fn a_space_that_goes_takes_its_sas_along_and_nobody_elses() {
    let mut tunnels = Tunnels::default();
    let red = add(&mut tunnels, plain((A, 0x1001), (B, 0x2001))).unwrap();
    let blue = add(&mut tunnels, plain((A, 0x1002), (B, 0x2002))).unwrap();
    tunnels.remove(red);
    assert_eq!((tunnels.sas(), tunnels.senders.len(), tunnels.iter().count()), (1, 1, 1));
    let (mut peer_of_red, mut peer_of_blue) = (Tunnels::default(), Tunnels::default());
    add(&mut peer_of_red, plain((B, 0x2001), (A, 0x1001))).unwrap();
    add(&mut peer_of_blue, plain((B, 0x2002), (A, 0x1002))).unwrap();
    assert!(send(&mut peer_of_red, &mut tunnels, &packet(B, A, 20)).unwrap().is_empty());
    assert_eq!(tunnels.strays.of(Reason::UnknownSpi), 1);
    assert_eq!(send(&mut peer_of_blue, &mut tunnels, &packet(B, A, 20)).unwrap().len(), 1);
    // SPIs and place are free again.
    assert_eq!(add(&mut tunnels, plain((A, 0x1001), (B, 0x2001))).unwrap(), red);
    tunnels.remove(red);
    tunnels.remove(red);
    tunnels.remove(99);
    assert!(tunnels.get(blue).is_some());
}
