//! TCP round trips of one byte: no IPsec, bare IPsec, a personal network.
//!
//! All three in interleaved rounds of one run, over like links to like hosts.
//! The personal network and the bare endpoint have the same algorithm.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use switch::overlay::{Cipher, DEFAULT_PORT, Integrity, Suite};

use crate::failure::{Failure, Outcome, While};
use crate::lab::network::{Endpoint, Keys};
use crate::lab::service::{Ended, Service, finish};
use crate::lab::{self, Host, Lab, Peer};
use crate::progress::Progress;
use crate::report::{Distribution, Figures, Ratio, Report};

/// Where the echo servers listen.
const ECHO_PORT: u16 = 7007;

/// The UDP port of A's own bare IPsec, beside the switch's.
const BARE_PORT: u16 = 4501;

/// Longest wait for one measurement.
const PATIENCE: Duration = Duration::from_secs(60);

/// The space that is measured.
const SPACE: &str = "meter";

/// The algorithms that are measured.
const SUITES: [Suite; 3] = [
    Suite::Combined(Cipher::Null, Integrity::HmacSha256),
    Suite::Combined(Cipher::AesCbc128, Integrity::HmacSha256),
    Suite::Combined(Cipher::AesCbc256, Integrity::HmacSha256),
];

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Rounds per algorithm, each of all three ways.
    pub rounds: u32,
    /// Round trips per measurement.
    pub count: u32,
}

/// A way from A to another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Base,
    Bare,
    Personal,
}

/// The order of each round: every way is first, second and third equally often,
/// and follows each other way equally often.
const ORDERS: [[Way; 3]; 6] = [
    [Way::Base, Way::Bare, Way::Personal],
    [Way::Personal, Way::Bare, Way::Base],
    [Way::Bare, Way::Personal, Way::Base],
    [Way::Base, Way::Personal, Way::Bare],
    [Way::Personal, Way::Base, Way::Bare],
    [Way::Bare, Way::Base, Way::Personal],
];

/// `bench rtt`: enters a lab and measures there.
///
/// # Errors
/// The lab could not be entered or was interrupted.
pub fn start(pace: Pace, json: bool) -> Outcome<ExitCode> {
    let mut arguments = vec![
        "bench-rtt-inside".to_owned(),
        format!("--rounds={}", pace.rounds),
        format!("--count={}", pace.count),
    ];
    arguments.extend(json.then(|| "--json".to_owned()));
    lab::enter("bench rtt", &arguments)
}

/// `bench rtt`, inside.
///
/// # Errors
/// Something could not be started or measured.
pub fn inside(pace: Pace, json: bool) -> Outcome<ExitCode> {
    lab::settle()?;
    let progress = Progress::new();
    progress.step("making hosts A, B, D, E");
    let lab = Lab::build()?;
    let mut report = Report::default();
    measure(&lab, pace, &progress, &mut report)?;
    drop(progress);
    report.print(json);
    Ok(ExitCode::SUCCESS)
}

/// Fills the report's table.
///
/// # Errors
/// Something could not be started or measured.
pub(crate) fn measure(
    lab: &Lab,
    pace: Pace,
    progress: &Progress,
    report: &mut Report,
) -> Outcome<()> {
    let mut echoes = Vec::new();
    for peer in [Peer::B, Peer::D, Peer::E] {
        let host = lab.peer(peer);
        let address = format!("0.0.0.0:{ECHO_PORT}");
        let command = host.portspace(&["tool", "echo", &address]);
        let mut echo = Service::start(host, "echo server", command)?;
        echo.answers(host, SocketAddr::from((host.address, ECHO_PORT)))?;
        echoes.push(echo);
    }
    for (index, suite) in SUITES.into_iter().enumerate() {
        let spi = 0x2000 + 0x10 * index as u32;
        let ways = Ways::start(lab, suite, spi)?;
        progress.step(&format!("{}: warming up", ways.suite));
        for way in ORDERS[0] {
            ways.round_trips(way, pace.count.min(500))?;
        }
        let mut taken: [Vec<Distribution>; 3] = Default::default();
        for round in 0..pace.rounds {
            progress.step(&format!("{}: round {} of {}", ways.suite, round + 1, pace.rounds));
            for way in ORDERS[round as usize % ORDERS.len()] {
                let figures = progress.quiet(|| ways.round_trips(way, pace.count))?;
                taken[way as usize].push(figures);
            }
        }
        ways.stop()?;
        enter(report, &ways.suite, &taken);
        let ratio = report.ratio_personal_bare[&ways.suite];
        progress.done(&format!("{}: personal / bare {:.2}", ways.suite, ratio.median));
    }
    Ok(())
}

fn enter(report: &mut Report, suite: &str, [base, bare, personal]: &[Vec<Distribution>; 3]) {
    let suite = suite.to_owned();
    report.rtt.base.insert(suite.clone(), Figures::of(base));
    report.rtt.bare.insert(suite.clone(), Figures::of(bare));
    report.rtt.personal.insert(suite.clone(), Figures::of(personal));
    report.ratio_personal_bare.insert(suite, Ratio::of(personal, bare));
}

/// Everything that is up while one algorithm is measured.
struct Ways<'a> {
    lab: &'a Lab,
    suite: String,
    /// Bare endpoints on B, D and A; ended with this.
    _bare: Vec<Service>,
}

impl<'a> Ways<'a> {
    fn start(lab: &'a Lab, suite: Suite, spi: u32) -> Outcome<Self> {
        let end = |host: &Host, port| Endpoint { address: host.address, port };
        let (b, d) = (lab.peer(Peer::B), lab.peer(Peer::D));
        let personal = Keys::fresh(suite, spi)?;
        let (near, far) = (end(&lab.a, DEFAULT_PORT), end(b, DEFAULT_PORT));
        let space = lab.a.directory.join(format!("{SPACE}.toml"));
        personal.write_near(&space, near, far, None)?;
        let b_file = personal.write_far(&b.directory.join("bare.toml"), near, far)?;
        let bare = Keys::fresh(suite, spi + 8)?;
        let (near, far) = (end(&lab.a, BARE_PORT), end(d, BARE_PORT));
        let a_file = bare.write_near(&lab.a.directory.join("bare.toml"), near, far, None)?;
        let d_file = bare.write_far(&d.directory.join("bare.toml"), near, far)?;
        let mut services =
            vec![start_bare(b, &b_file)?, start_bare(d, &d_file)?, start_bare(&lab.a, &a_file)?];
        let echo = SocketAddr::from((d.address, ECHO_PORT));
        if let Err(error) = services[2].answers(&lab.a, echo) {
            // The far end may be the one to blame.
            services[1].must_run()?;
            return Err(error);
        }
        services[0].must_run()?;
        let file = space.to_string_lossy();
        expect(finish(&mut lab.a.portspace(&["up", &file]), PATIENCE)?, "up")?;
        let suite = suite.name().to_owned();
        Ok(Self { lab, suite, _bare: services })
    }

    /// Measures one way once.
    fn round_trips(&self, way: Way, count: u32) -> Outcome<Distribution> {
        let peer = match way {
            Way::Base => Peer::E,
            Way::Bare => Peer::D,
            Way::Personal => Peer::B,
        };
        let address = peer.address().to_string();
        let server = format!("{address}:{ECHO_PORT}");
        let (count, port) = (count.to_string(), ECHO_PORT.to_string());
        let mut command = match way {
            Way::Base | Way::Bare => {
                self.lab.a.portspace(&["tool", "rtt", &server, "--count", &count])
            }
            Way::Personal => self
                .lab
                .a
                .portspace(&["run", SPACE, "--", "rtt", &address, &port, "-n", &count, "--json"]),
        };
        let ended = expect(finish(&mut command, PATIENCE)?, "a measurement")?;
        serde_json::from_str(&ended.out)
            .or_fail(|| format!("a measurement answered {:?}, which is no figures", ended.out))
    }

    fn stop(&self) -> Outcome<()> {
        expect(finish(&mut self.lab.a.portspace(&["stop", SPACE]), PATIENCE)?, "stop").map(drop)
    }
}

/// Starts bare IPsec on a host.
///
/// # Errors
/// It cannot be started.
pub fn start_bare(host: &Host, file: &Path) -> Outcome<Service> {
    let file = file.to_string_lossy();
    Service::start(host, "bare IPsec", host.portspace(&["bare", &file]))
}

/// Passes on a success.
///
/// # Errors
/// The program's own words.
pub fn expect(ended: Ended, what: &str) -> Outcome<Ended> {
    match ended.ok() {
        true => Ok(ended),
        false => Err(Failure::because(format!("{what} failed on A"), ended.why())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_orders_are_fair() {
        for way in ORDERS[0] {
            for place in 0..3 {
                let here = ORDERS.iter().filter(|order| order[place] == way).count();
                assert_eq!(here, 2, "{way:?} at {place}");
            }
        }
    }
}
