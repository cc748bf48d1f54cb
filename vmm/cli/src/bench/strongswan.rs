//! The same job done by strongSwan's ESP in user space, in the same rounds.

use switch::overlay::Suite;

use super::flow::{Sinks, source_to};
use super::orders::fair;
use super::throughput::Pace;
use super::ways::{ECHO_PORT, Way, Ways, echo, host_round_trips};
use crate::failure::Outcome;
use crate::lab::strongswan::{Keys, Strongswan as Tunnel};
use crate::lab::{Lab, Peer};
use crate::progress::Progress;
use crate::report::{
    Against, Contender, Direction, Distribution, Figures, Sent, Spread, Stream, Strongswan,
    Transport,
};

/// The host at the other end of its tunnel.
const PEER: Peer = Peer::C;

/// Round trips of a measurement: the slow way takes half a millisecond for each.
const COUNT: u32 = 500;

/// The ways in the order of the table.
const WAYS: [&str; 4] = ["base (no IPsec)", "strongSwan", "bare IPsec", "personal network"];

/// What of each way was measured.
#[derive(Default)]
struct Taken {
    rtt: Vec<Distribution>,
    tcp: Vec<Sent>,
}

/// Measures all ways, those of `ways` being up; says so if there is no strongSwan.
pub(super) fn measure(
    lab: &Lab,
    ways: &Ways<'_>,
    sinks: &Sinks<'_>,
    (suite, pace): (Suite, Pace),
    progress: &Progress,
) -> Outcome<Strongswan> {
    if let Some(why) = Tunnel::missing() {
        return Ok(Strongswan::Missing(why));
    }
    progress.step(&format!("{suite}: starting strongSwan"));
    let _tunnel = Tunnel::start(lab, PEER, suite, Keys::Secret)?;
    let _echo = echo(lab, PEER)?;
    Tunnel::answers(lab, ECHO_PORT)?;
    let out = Stream { transport: Transport::Tcp, direction: Direction::Send };
    let mut taken: [Taken; 4] = Default::default();
    let orders = fair(WAYS.len());
    for round in 0..pace.rounds {
        progress.step(&format!("against strongSwan: round {} of {}", round + 1, pace.rounds));
        for &way in &orders[round as usize % orders.len()] {
            let ours = match way {
                0 => Some(Way::Base),
                1 => None,
                2 => Some(Way::Bare),
                _ => Some(Way::Personal),
            };
            let (rtt, tcp) = progress.quiet(|| match ours {
                Some(way) => {
                    let rtt = ways.round_trips(way, COUNT)?;
                    Outcome::Ok((rtt, sinks.send(way, out, pace.seconds)?))
                }
                None => {
                    let rtt = host_round_trips(lab, Tunnel::FAR, COUNT)?;
                    let seconds = pace.seconds.to_string();
                    Ok((rtt, source_to(&lab.a, Tunnel::FAR, Transport::Tcp, &seconds)?))
                }
            })?;
            taken[way].rtt.push(rtt);
            taken[way].tcp.push(tcp);
        }
    }
    Ok(Strongswan::Measured(Box::new(against(suite, &taken))))
}

fn against(suite: Suite, taken: &[Taken; 4]) -> Against {
    let [base, theirs, _, ours] = taken;
    let contender = |(way, taken): (&&'static str, &Taken)| Contender {
        way,
        rtt: Figures::of(&taken.rtt),
        tcp_mbit_per_s: Spread::of(
            &taken.tcp.iter().map(|s| s.bits_per_s / 1e6).collect::<Vec<_>>(),
        ),
    };
    let added = |way: &Taken| -> Vec<f64> {
        way.rtt.iter().zip(&base.rtt).map(|(way, base)| way.p50_us - base.p50_us).collect()
    };
    Against {
        suite: suite.name().to_owned(),
        ways: WAYS.iter().zip(taken).map(contender).collect(),
        ratio_tcp: Sent::ratios(&ours.tcp, &theirs.tcp),
        ratio_added: Spread::of_ratios(&added(ours), &added(theirs)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_over_base_and_compared_within_a_round() {
        let rtt = |p50_us| Distribution {
            count: 1,
            min_us: p50_us,
            p50_us,
            p90_us: p50_us,
            p99_us: p50_us,
            max_us: p50_us,
        };
        let taken =
            [(10.0, 9e9), (510.0, 1e9), (24.0, 4e9), (35.0, 6e9)].map(|(us, bits_per_s)| {
                let sent = Sent { bits_per_s, ..Sent::default() };
                Taken { rtt: vec![rtt(us)], tcp: vec![sent] }
            });
        let against = against("aes-gcm-256".parse().unwrap(), &taken);
        assert_eq!(against.ratio_tcp.median, 6.0);
        assert_eq!(against.ratio_added.median, 0.05);
        let ways: Vec<_> = against.ways.iter().map(|way| (way.way, way.rtt.p50_us)).collect();
        assert_eq!((ways[1], ways[3]), (("strongSwan", 510.0), ("personal network", 35.0)));
    }
}
