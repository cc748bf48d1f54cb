//! The ways from A to another host that are compared, and what is up for them.
//!
//! All over like links to like hosts. The personal network and the bare endpoint
//! have the same algorithm, and far ends that are the same program.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use switch::overlay::{DEFAULT_PORT, Suite};

use crate::failure::{Failure, Outcome, While};
use crate::lab::network::{Endpoint, Keys, arguments};
use crate::lab::service::{Ended, Service, finish};
use crate::lab::{Host, Lab, Peer};
use crate::report::Distribution;

/// Where the echo servers listen.
pub(super) const ECHO_PORT: u16 = 7007;

/// The UDP port of A's own bare IPsec, beside the switch's.
const BARE_PORT: u16 = 4501;

/// Longest wait for one measurement.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// The space that is measured.
pub(super) const SPACE: &str = "meter";

/// A way from A to another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// No IPsec, from A itself to E.
    Base,
    /// A's own bare IPsec, to D.
    Bare,
    /// The space on A, to B.
    Personal,
}

impl Way {
    /// Every way, in the order of the tables.
    pub(super) const ALL: [Self; 3] = [Self::Base, Self::Bare, Self::Personal];

    /// The host it leads to.
    pub(super) fn peer(self) -> Peer {
        match self {
            Self::Base => Peer::E,
            Self::Bare => Peer::D,
            Self::Personal => Peer::B,
        }
    }
}

/// Echo servers on the hosts of every way; ended with this.
pub(super) fn echoes(lab: &Lab) -> Outcome<Vec<Service>> {
    Way::ALL.into_iter().map(|way| echo(lab, way.peer())).collect()
}

/// An echo server that answers.
pub(super) fn echo(lab: &Lab, peer: Peer) -> Outcome<Service> {
    let host = lab.peer(peer);
    let address = format!("0.0.0.0:{ECHO_PORT}");
    let mut echo =
        Service::start(host, "echo server", host.portspace(&["tool", "echo", &address]))?;
    echo.answers(host, SocketAddr::from((host.address, ECHO_PORT)))?;
    Ok(echo)
}

/// Everything that is up while one algorithm is measured.
pub(super) struct Ways<'a> {
    lab: &'a Lab,
    /// Bare endpoints on B, D and A; ended with this.
    _bare: Vec<Service>,
}

impl<'a> Ways<'a> {
    /// Starts both ends of both overlays with fresh keys; `spi` and the 15 after it are theirs.
    pub(super) fn start(lab: &'a Lab, suite: Suite, spi: u32) -> Outcome<Self> {
        let far = start_personal(lab, suite, spi)?;
        let d = lab.peer(Peer::D);
        let keys = Keys::fresh(suite, spi + 8)?;
        let (near_end, far_end) = (end(&lab.a, BARE_PORT), end(d, BARE_PORT));
        let a_file =
            keys.write_near(&lab.a.directory.join("bare.toml"), near_end, far_end, None)?;
        let d_file = keys.write_far(&d.directory.join("bare.toml"), near_end, far_end)?;
        let mut services = vec![far, start_bare(d, &d_file)?, start_bare(&lab.a, &a_file)?];
        let echo = SocketAddr::from((d.address, ECHO_PORT));
        if let Err(error) = services[2].answers(&lab.a, echo) {
            // The far end may be the one to blame.
            services[1].must_run()?;
            return Err(error);
        }
        services[0].must_run()?;
        Ok(Self { lab, _bare: services })
    }

    /// Measures the round trips of one way once.
    pub(super) fn round_trips(&self, way: Way, count: u32) -> Outcome<Distribution> {
        match way {
            Way::Personal => personal_round_trips(self.lab, count),
            Way::Base | Way::Bare => host_round_trips(self.lab, way.peer().address(), count),
        }
    }

    /// Stops the space; the bare endpoints end with this.
    pub(super) fn stop(self) -> Outcome<()> {
        stop(self.lab, SPACE)
    }
}

/// Starts the space and its far end on B, which is ended with what is returned.
pub(super) fn start_personal(lab: &Lab, suite: Suite, spi: u32) -> Outcome<Service> {
    let b = lab.peer(Peer::B);
    let keys = Keys::fresh(suite, spi)?;
    let (near_end, far_end) = (end(&lab.a, DEFAULT_PORT), end(b, DEFAULT_PORT));
    let file = lab.a.directory.join(format!("{SPACE}.toml"));
    let file = keys.write_near(&file, near_end, far_end, None)?;
    let far_file = keys.write_far(&b.directory.join("bare.toml"), near_end, far_end)?;
    let far = start_bare(b, &far_file)?;
    up(lab, &file)?;
    Ok(far)
}

/// The round trips of the space.
pub(super) fn personal_round_trips(lab: &Lab, count: u32) -> Outcome<Distribution> {
    let (address, port) = (Way::Personal.peer().address().to_string(), ECHO_PORT.to_string());
    let count = count.to_string();
    measured(&mut inside(lab, &["rtt", &address, &port, "-n", &count, "--json"]))
}

/// The round trips of A itself to an echo server.
pub(super) fn host_round_trips(lab: &Lab, address: Ipv4Addr, count: u32) -> Outcome<Distribution> {
    let (server, count) = (format!("{address}:{ECHO_PORT}"), count.to_string());
    measured(&mut lab.a.portspace(&["tool", "rtt", &server, "--count", &count]))
}

/// A program inside the space.
pub(super) fn inside(lab: &Lab, program: &[&str]) -> Command {
    let mut command = lab.a.portspace(&["run", SPACE, "--"]);
    command.args(program);
    command
}

/// Runs a measurement that prints its figures as JSON.
pub(super) fn measured<T: serde::de::DeserializeOwned>(command: &mut Command) -> Outcome<T> {
    let ended = expect(finish(command, PATIENCE)?, "a measurement")?;
    serde_json::from_str(&ended.out)
        .or_fail(|| format!("a measurement answered {:?}, which is no figures", ended.out))
}

/// An end of an overlay.
pub(super) fn end(host: &Host, port: u16) -> Endpoint {
    Endpoint { address: host.address, port }
}

/// Starts a space on A.
pub(super) fn up(lab: &Lab, file: &Path) -> Outcome<()> {
    expect(finish(&mut of_file(&lab.a, "up", file), PATIENCE)?, "up").map(drop)
}

/// A command of a configuration file, on a host.
fn of_file(host: &Host, command: &str, file: &Path) -> Command {
    let arguments = arguments(command, file);
    host.portspace(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Stops a space on A.
pub(super) fn stop(lab: &Lab, space: &str) -> Outcome<()> {
    expect(finish(&mut lab.a.portspace(&["stop", space]), PATIENCE)?, "stop").map(drop)
}

/// Starts bare IPsec on a host.
///
/// # Errors
/// It cannot be started.
pub(crate) fn start_bare(host: &Host, file: &Path) -> Outcome<Service> {
    Service::start(host, "bare IPsec", of_file(host, "bare", file))
}

/// Passes on a success.
///
/// # Errors
/// The program's own words.
pub(crate) fn expect(ended: Ended, what: &str) -> Outcome<Ended> {
    match ended.ok() {
        true => Ok(ended),
        false => Err(Failure::because(format!("{what} failed on A"), ended.why())),
    }
}
