//! Each kind of limit, alone: where it is reached, and that nothing takes it back.

use super::*;

fn usage(soft: Limits, hard: Limits) -> Usage {
    Usage::new(Lifetime { soft, hard }, 100)
}

fn packets(packets: u64) -> Limits {
    Limits { packets: Some(packets), ..Limits::default() }
}

fn bytes(bytes: u64) -> Limits {
    Limits { bytes: Some(bytes), ..Limits::default() }
}

fn seconds(seconds: u64) -> Limits {
    Limits { seconds: Some(seconds), ..Limits::default() }
}

#[test]
fn an_sa_without_limits_stays_fresh() {
    let mut usage = usage(Limits::default(), Limits::default());
    usage.add(usize::MAX / 2).unwrap();
    assert_eq!((usage.add(usize::MAX / 2), usage.tick(u64::MAX)), (Ok(()), Age::Fresh));
    assert_eq!((usage.due_s(), usage.packets()), (None, 2));
    assert_eq!(usage.lifetime(), Lifetime::default());
}

#[test]
fn packets_reach_the_soft_limit_then_the_hard_one() {
    let mut usage = usage(packets(2), packets(3));
    let ages = [Age::Fresh, Age::SoftExpired, Age::HardExpired].map(|age| {
        assert_eq!(usage.add(10), Ok(()));
        usage.age() == age
    });
    assert_eq!((ages, usage.add(10)), ([true; 3], Err(Expired)));
    assert_eq!((usage.packets(), usage.bytes()), (3, 30));
}

#[test]
fn bytes_reach_the_soft_limit_then_the_hard_one() {
    let mut usage = usage(bytes(20), bytes(30));
    let ages = [Age::Fresh, Age::SoftExpired, Age::HardExpired].map(|age| {
        assert_eq!(usage.add(10), Ok(()));
        usage.age() == age
    });
    // Not even a packet without payload.
    assert_eq!((ages, usage.add(0)), ([true; 3], Err(Expired)));
}

#[test]
fn a_packet_that_would_pass_the_hard_limit_is_the_end() {
    let mut usage = usage(Limits::default(), bytes(30));
    assert_eq!((usage.add(29), usage.add(2)), (Ok(()), Err(Expired)));
    // Although it would fit.
    assert_eq!((usage.add(1), usage.age(), usage.bytes()), (Err(Expired), Age::HardExpired, 29));
}

#[test]
fn seconds_reach_the_soft_limit_then_the_hard_one_and_never_turn_back() {
    let mut usage = usage(seconds(20), seconds(30));
    assert_eq!((usage.due_s(), usage.tick(119)), (Some(120), Age::Fresh));
    assert_eq!((usage.tick(120), usage.due_s()), (Age::SoftExpired, Some(130)));
    // A clock that is set back makes nobody younger.
    assert_eq!((usage.tick(0), usage.add(1)), (Age::SoftExpired, Ok(())));
    assert_eq!((usage.tick(130), usage.due_s()), (Age::HardExpired, None));
    assert_eq!((usage.tick(0), usage.add(1)), (Age::HardExpired, Err(Expired)));
}

#[test]
fn a_limit_of_zero_is_reached_at_once() {
    for limits in [packets(0), bytes(0), seconds(0)] {
        assert_eq!(usage(limits, Limits::default()).age(), Age::SoftExpired);
        assert_eq!(usage(Limits::default(), limits).age(), Age::HardExpired);
        assert_eq!(usage(Limits::default(), limits).add(0), Err(Expired));
    }
}

#[test]
fn limits_are_shown_as_they_were_given() {
    let limits = Limits { packets: Some(1), bytes: None, seconds: Some(3) };
    let lifetime = Lifetime { soft: limits, hard: bytes(7) };
    assert_eq!(Usage::new(lifetime, 5).lifetime(), lifetime);
    assert_eq!(Usage::new(lifetime, 5).born_s(), 5);
}

#[test]
fn no_order_of_packets_and_ticks_passes_a_hard_limit_or_makes_an_sa_younger() {
    type Case = (u8, u16, u8, Vec<(u8, u8)>);
    bolero::check!().with_type::<Case>().for_each(|(packets, bytes, seconds, events)| {
        let hard = Limits {
            packets: Some((*packets).into()),
            bytes: Some((*bytes).into()),
            seconds: Some((*seconds).into()),
        };
        let half = |limit: Option<u64>| limit.map(|limit| limit / 2);
        let soft = Limits {
            packets: half(hard.packets),
            bytes: half(hard.bytes),
            seconds: half(hard.seconds),
        };
        let mut usage = usage(soft, hard);
        let mut age = usage.age();
        for (kind, value) in events {
            let before = usage.age();
            if kind % 4 == 0 {
                usage.tick(100 + u64::from(*value));
            } else {
                let added = usage.add((*value).into());
                assert!(added.is_err() || before != Age::HardExpired);
            }
            assert!(usage.age() >= age);
            age = usage.age();
        }
        assert!(usage.packets() <= u64::from(*packets) && usage.bytes() <= u64::from(*bytes));
    });
}
