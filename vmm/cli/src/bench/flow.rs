//! Senders and receivers of bulk on both ends of each way.

use std::net::{Ipv4Addr, SocketAddr};

use super::ways::{SPACE, Way, inside, measured};
use crate::failure::Outcome;
use crate::lab::service::Service;
use crate::lab::{A, Host, Lab, Peer};
use crate::report::{Direction, Sent, Stream, Transport};

/// Where receivers listen.
const PORT: u16 = 7008;

/// Payload bytes of a datagram: it fits every algorithm's MTU.
const DATAGRAM: &str = "1200";

/// Receivers on every host, and in the space; ended with this.
pub(super) struct Sinks<'a> {
    lab: &'a Lab,
    _hosts: Vec<Service>,
    inside: Vec<Service>,
}

impl<'a> Sinks<'a> {
    /// Starts those of the hosts.
    pub(super) fn start(lab: &'a Lab) -> Outcome<Self> {
        let peers = Peer::ALL.into_iter().map(|peer| lab.peer(peer));
        let hosts: Outcome<Vec<Service>> = peers.chain([&lab.a]).map(sink).collect();
        Ok(Self { lab, _hosts: hosts?, inside: Vec::new() })
    }

    /// Starts those of the space, which runs.
    pub(super) fn start_inside(&mut self, lab: &'a Lab) -> Outcome<()> {
        let port = PORT.to_string();
        for program in ["tcp-receive", "udp-receive"] {
            let command = inside(lab, &[program, &port]);
            self.inside.push(Service::start(&lab.a, &format!("{program} in {SPACE}"), command)?);
        }
        let b = lab.peer(Way::Personal.peer());
        self.inside[0].answers(b, SocketAddr::from((A, PORT)))
    }

    /// Ends those of the space.
    pub(super) fn stop_inside(&mut self) {
        self.inside.clear();
    }

    /// Sends for a while.
    pub(super) fn send(&self, way: Way, stream: Stream, seconds: f64) -> Outcome<Sent> {
        let (near, far) = (&self.lab.a, self.lab.peer(way.peer()));
        let seconds = seconds.to_string();
        match (stream.direction, way) {
            (Direction::Send, Way::Personal) => {
                let (host, port) = (far.address.to_string(), PORT.to_string());
                let mut program = match stream.transport {
                    Transport::Tcp => vec!["tcp-send", &host, &port],
                    Transport::Udp => vec!["udp-send", &host, &port, "-s", DATAGRAM],
                };
                program.extend(["-t", &seconds, "--json"]);
                measured(&mut inside(self.lab, &program))
            }
            (Direction::Send, _) => source_to(near, far.address, stream.transport, &seconds),
            (Direction::Receive, _) => source_to(far, near.address, stream.transport, &seconds),
        }
    }
}

/// A receiver of both transports.
fn sink(host: &Host) -> Outcome<Service> {
    let address = format!("0.0.0.0:{PORT}");
    let mut sink = Service::start(host, "sink", host.portspace(&["tool", "sink", &address]))?;
    sink.answers(host, SocketAddr::from((host.address, PORT)))?;
    Ok(sink)
}

/// A sender on a host.
pub(super) fn source_to(
    from: &Host,
    address: Ipv4Addr,
    transport: Transport,
    seconds: &str,
) -> Outcome<Sent> {
    let to = format!("{address}:{PORT}");
    let mut arguments = vec!["tool", "source", &to, "--seconds", seconds];
    if transport == Transport::Udp {
        arguments.extend(["--udp", "--size", DATAGRAM]);
    }
    measured(&mut from.portspace(&arguments))
}
