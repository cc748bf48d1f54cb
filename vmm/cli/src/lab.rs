//! Hosts on one machine: network namespaces joined to host A by veth pairs.
//!
//! The lab lives in namespaces of its own (user, network, mount, process), so
//! the kernel removes all of it when the first process inside ends.

pub mod capture;
mod enter;
mod netlink;
pub mod network;
pub mod service;
pub mod strongswan;
#[cfg(test)]
mod tests;

pub use enter::{LAB_DIRECTORY, enter, settle};
pub(crate) use enter::{THRESHOLD, threshold};

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use sys::namespace::Network;

use crate::failure::{Outcome, While};
use netlink::{End, Routing};

/// The hosts beside A, in the order of their links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Peer {
    /// An ordinary host with bare IPsec: `red`'s peer.
    B = 2,
    /// An ordinary host with bare IPsec: `blue`'s peer.
    C = 3,
    /// The peer of A's own bare IPsec, to compare with.
    D = 4,
    /// A host without IPsec, to compare with.
    E = 5,
}

impl Peer {
    /// Every peer.
    pub const ALL: [Self; 4] = [Self::B, Self::C, Self::D, Self::E];

    /// 192.0.2.20 to 192.0.2.50 (RFC 5737).
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, 10 * self as u8)
    }

    /// The letter of the host.
    pub fn letter(self) -> char {
        char::from(b'A' + self as u8 - 1)
    }

    /// The number of the link's device, on both ends.
    pub fn device(self) -> u32 {
        10 + u32::from(self as u8)
    }

    /// The Ethernet addresses of the link: A's end, the peer's end.
    pub fn macs(self) -> [[u8; 6]; 2] {
        [0x0a, 0x0b].map(|end| [0x02, 0x50, 0x53, 0, self as u8, end])
    }

    fn ends(self) -> [End; 2] {
        let [near, far] = self.macs();
        let letter = self.letter().to_ascii_lowercase();
        let index = self.device();
        [
            End { name: format!("veth-{letter}"), index, mac: near },
            End { name: "veth-a".to_owned(), index, mac: far },
        ]
    }
}

/// Host A's address.
pub const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// The loopback device has this number in every network namespace.
const LOOPBACK: u32 = 1;

/// One host: a network namespace and a directory of its own.
#[derive(Debug)]
pub struct Host {
    /// The letter of the host.
    pub letter: char,
    /// Its only address.
    pub address: Ipv4Addr,
    /// Where its processes keep state and files.
    pub directory: PathBuf,
    network: Network,
}

impl Host {
    /// This binary with `arguments`, to be started on this host, with no input.
    pub fn portspace(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("/proc/self/exe");
        command.args(arguments);
        command
    }

    /// Any program, to be started on this host, with no input.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("PORTSPACE_RUNTIME_DIR", self.directory.join("run"))
            .env("PORTSPACE_STATE_DIR", self.directory.join("state"))
            .current_dir(&self.directory)
            .stdin(Stdio::null());
        self.network.attach(&mut command);
        command
    }

    /// Runs `work` on a thread inside the host's network.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Outcome<T> {
        self.network.run(work).or_fail(|| format!("cannot enter host {}", self.letter))
    }
}

/// The hosts of a lab.
#[derive(Debug)]
pub struct Lab {
    /// The host under test.
    pub a: Host,
    peers: Vec<Host>,
}

impl Lab {
    /// Makes host A of the calling process's own network, and the peers around it.
    ///
    /// # Errors
    /// What the kernel refused; nothing stays after the process ends.
    pub fn build() -> Outcome<Self> {
        let a = host('A', A, Network::current().or_fail(|| "cannot make host A".to_owned())?)?;
        let mut peers = Vec::new();
        a.run(|| prepare(None))??;
        for peer in Peer::ALL {
            let network =
                Network::new().or_fail(|| format!("cannot make host {}", peer.letter()))?;
            let far = host(peer.letter(), peer.address(), network)?;
            a.run(|| join_near(peer, &far))??;
            far.run(|| prepare(Some(peer)))??;
            peers.push(far);
        }
        Ok(Self { a, peers })
    }

    /// One of the hosts around A.
    pub fn peer(&self, peer: Peer) -> &Host {
        &self.peers[peer as usize - Peer::B as usize]
    }
}

fn host(letter: char, address: Ipv4Addr, network: Network) -> Outcome<Host> {
    let directory = PathBuf::from(LAB_DIRECTORY).join(letter.to_ascii_lowercase().to_string());
    std::fs::create_dir_all(&directory)
        .or_fail(|| format!("cannot create {}", directory.display()))?;
    Ok(Host { letter, address, directory, network })
}

/// A's side of a link, and the pair itself.
fn join_near(peer: Peer, far: &Host) -> Outcome<()> {
    let [near_end, far_end] = peer.ends();
    let failed = || format!("cannot join A and {} by a veth pair", peer.letter());
    let routing = Routing::open().or_fail(failed)?;
    let network = far.run(|| std::fs::File::open("/proc/thread-self/ns/net"))?.or_fail(failed)?;
    routing.add_veth(&near_end, &far_end, network.as_raw_fd()).or_fail(failed)?;
    quieten(&near_end.name)?;
    address(&routing, &near_end, &far_end, A, peer.address()).or_fail(failed)
}

/// Inside a host: the loopback device, and the far side of the link if it is no A.
fn prepare(peer: Option<Peer>) -> Outcome<()> {
    let failed = || "cannot configure a host".to_owned();
    quieten("all")?;
    quieten("default")?;
    let routing = Routing::open().or_fail(failed)?;
    routing.set_up(LOOPBACK).or_fail(failed)?;
    let Some(peer) = peer else { return Ok(()) };
    let [near_end, far_end] = peer.ends();
    quieten(&far_end.name)?;
    address(&routing, &far_end, &near_end, peer.address(), A).or_fail(failed)
}

/// One end's addresses, routes and the other end's Ethernet address.
fn address(
    routing: &Routing,
    end: &End,
    other: &End,
    own: Ipv4Addr,
    theirs: Ipv4Addr,
) -> std::io::Result<()> {
    routing.add_address(end.index, own)?;
    routing.set_up(end.index)?;
    routing.add_route(end.index, theirs, own)?;
    routing.add_neighbour(end.index, theirs, other.mac)
}

/// No IPv6, no reverse path filter: the wire carries what is sent, nothing else.
fn quieten(device: &str) -> Outcome<()> {
    for (path, value) in [
        (format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"), "1"),
        (format!("/proc/sys/net/ipv4/conf/{device}/rp_filter"), "0"),
    ] {
        match std::fs::write(&path, value) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).or_fail(|| format!("cannot write {path}"));
            }
            // A kernel without IPv6 is quiet already.
            _ => {}
        }
    }
    Ok(())
}
