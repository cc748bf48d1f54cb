//! strongSwan between two hosts of a lab: IKEv2, and ESP in user space.
//!
//! charon with kernel-libipsec, as Debian ships it: a TUN device, ESP in UDP, tunnel
//! mode. Each end has an address of its own inside, so that nothing else is caught.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use switch::overlay::{Aead, Cipher, Integrity, Suite};
use zeroize::Zeroizing;

use super::netlink::Routing;
use super::network::random;
use super::service::{Service, finish};
use super::{Host, LOOPBACK, Lab, Peer};
use crate::failure::{Failure, Outcome, While};

/// The daemon and the command that tells it what to do.
const DAEMON: &str = "/usr/sbin/charon-systemd";
const COMMAND: &str = "/usr/sbin/swanctl";

/// What brings ESP in user space; where Debian puts it.
const PLUGIN: &str = "/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so";

/// The Debian packages of all three.
const PACKAGES: &str = "charon-systemd strongswan-swanctl libcharon-extra-plugins";

/// A's UDP port for its ESP: the usual one is the switch's.
pub const NEAR_PORT: u16 = 4510;

/// The peer's, which is nobody else's there.
const FAR_PORT: u16 = 4500;

/// The addresses inside, A's first (RFC 1918).
const INSIDE: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 77, 0, 2)];

/// Longest wait for a daemon to answer, and for a tunnel to stand.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether the daemons write down the keys they derive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Nobody needs them.
    Secret,
    /// Somebody takes an end of the tunnel over: they are in A's log.
    Logged,
}

/// A tunnel of strongSwan from A; ended with this.
pub struct Strongswan {
    /// A's, unless it was ended, and the peer's.
    daemons: (Option<Service>, Service),
}

/// One end.
struct End<'a> {
    host: &'a Host,
    directory: PathBuf,
    port: u16,
    inside: Ipv4Addr,
}

impl Strongswan {
    /// A's address inside.
    pub const NEAR: Ipv4Addr = INSIDE[0];

    /// The peer's address inside: what is sent there goes through the tunnel.
    pub const FAR: Ipv4Addr = INSIDE[1];

    /// Why there is no strongSwan on this machine; `None` if there is.
    pub fn missing() -> Option<String> {
        let gone = [DAEMON, COMMAND, PLUGIN].into_iter().find(|path| !Path::new(path).exists())?;
        Some(format!("there is no {gone}; install the Debian packages {PACKAGES}"))
    }

    /// Starts both daemons and waits until the tunnel stands.
    ///
    /// # Errors
    /// In the words of whoever failed; `suite` is none that it has in user space.
    pub fn start(lab: &Lab, peer: Peer, suite: Suite, keys: Keys) -> Outcome<Self> {
        let far = lab.peer(peer);
        let ends = [(&lab.a, NEAR_PORT, INSIDE[0]), (far, FAR_PORT, INSIDE[1])].map(
            |(host, port, inside)| {
                let directory = host.directory.join("strongswan");
                End { host, directory, port, inside }
            },
        );
        let [near, far] = &ends;
        let secret = hex(&random(32)?);
        let daemons = (Some(near.start(keys)?), far.start(Keys::Secret)?);
        let names = proposals(suite)?;
        far.load(near, names, &secret)?;
        near.load(far, names, &secret)?;
        near.swanctl(&["--initiate", "--child", "lab", "--timeout", "10"])?;
        Ok(Self { daemons })
    }

    /// Kills A's daemon: the peer is not told, and its end of the tunnel stays.
    pub fn end_near(&mut self) {
        self.daemons.0 = None;
    }

    /// Where A's daemon says what it does.
    pub fn near_log(lab: &Lab) -> PathBuf {
        lab.a.directory.join("strongswan/charon.log")
    }

    /// Waits until a TCP connection through the tunnel succeeds.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn answers(lab: &Lab, port: u16) -> Outcome<()> {
        let server = SocketAddr::from((Self::FAR, port));
        let connected = lab.a.run(|| TcpStream::connect_timeout(&server, PATIENCE))?;
        connected.map(drop).or_fail(|| format!("strongSwan's tunnel does not reach {server}"))
    }
}

impl End<'_> {
    fn socket(&self) -> String {
        format!("unix://{}", self.directory.join("vici").display())
    }

    /// Starts the daemon, which has no connection yet.
    fn start(&self, keys: Keys) -> Outcome<Service> {
        let directory = self.directory.display();
        std::fs::create_dir_all(&self.directory)
            .or_fail(|| format!("cannot create {directory}"))?;
        let inside = self.inside;
        let added = self.host.run(|| Routing::open()?.add_address(LOOPBACK, inside))?;
        // It may be there from an earlier tunnel.
        added
            .or_else(|error| match error.kind() {
                ErrorKind::AlreadyExists => Ok(()),
                _ => Err(error),
            })
            .or_fail(|| format!("cannot give host {} an address inside", self.host.letter))?;
        // Of child SAs, level 4 is the first with their keys.
        let level = if keys == Keys::Logged { 4 } else { 1 };
        let settings = format!(
            "charon {{\n load_modular = no\n \
             load = random nonce openssl kdf kernel-libipsec kernel-netlink socket-default vici\n \
             port_nat_t = {port}\n \
             filelog {{ log {{\n path = {directory}/charon.log\n flush_line = yes\n \
             default = 1\n chd = {level}\n }} }}\n \
             plugins {{ vici {{ socket = {socket} }} }}\n}}\n\
             charon-systemd {{ journal {{ default = -1 }} }}\n",
            port = self.port,
            socket = self.socket(),
        );
        let path = self.directory.join("strongswan.conf");
        write(&path, settings.as_bytes())?;
        let mut command = self.host.command(DAEMON);
        command.env("STRONGSWAN_CONF", &path);
        let mut daemon = Service::start(self.host, "strongSwan", command)?;
        let start_ns = sys::clock::monotonic_ns();
        while self.swanctl(&["--stats"]).is_err() {
            daemon.must_run()?;
            if u128::from(sys::clock::monotonic_ns() - start_ns) > PATIENCE.as_nanos() {
                return Err(Failure::new(format!(
                    "strongSwan on {} does not answer",
                    self.host.letter
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    /// Tells the daemon of the connection to the other end.
    fn load(&self, other: &End<'_>, [ike, esp]: [&str; 2], secret: &str) -> Outcome<()> {
        let text = Zeroizing::new(format!(
            "connections {{ lab {{\n version = 2\n local_addrs = {own}\n remote_addrs = {peer}\n \
             proposals = {ike}\n local {{\n auth = psk\n id = {me}.lab\n }}\n \
             remote {{\n auth = psk\n id = {you}.lab\n }}\n children {{ lab {{\n \
             local_ts = {inside}/32\n remote_ts = {outside}/32\n esp_proposals = {esp}\n }} }}\n}} }}\n\
             secrets {{ ike-lab {{\n id-1 = {me}.lab\n id-2 = {you}.lab\n secret = 0x{secret}\n}} }}\n",
            own = self.host.address,
            peer = other.host.address,
            me = self.host.letter,
            you = other.host.letter,
            inside = self.inside,
            outside = other.inside,
        ));
        let path = self.directory.join("swanctl.conf");
        write(&path, text.as_bytes())?;
        let path = path.to_string_lossy();
        self.swanctl(&["--load-all", "--file", &path])
    }

    fn swanctl(&self, arguments: &[&str]) -> Outcome<()> {
        let mut command = self.host.command(COMMAND);
        command.args(arguments).args(["--uri", &self.socket()]);
        // Its own settings would load every plugin there is.
        command.env("STRONGSWAN_CONF", self.directory.join("strongswan.conf"));
        let ended = finish(&mut command, PATIENCE)?;
        match ended.ok() {
            true => Ok(()),
            false => {
                let what = format!("swanctl {} failed on {}", arguments[0], self.host.letter);
                Err(Failure::because(what, ended.why()))
            }
        }
    }
}

/// Proposals of IKE and of ESP for a suite, as strongSwan writes them.
fn proposals(suite: Suite) -> Outcome<[&'static str; 2]> {
    let sha256 = "aes256-sha256-x25519";
    match suite {
        Suite::Aead(Aead::AesGcm128) => Ok(["aes128gcm16-prfsha256-x25519", "aes128gcm16"]),
        Suite::Aead(Aead::AesGcm256) => Ok(["aes256gcm16-prfsha256-x25519", "aes256gcm16"]),
        Suite::Combined(Cipher::Null, Integrity::HmacSha256) => Ok([sha256, "null-sha256"]),
        Suite::Combined(Cipher::AesCbc128, Integrity::HmacSha256) => Ok([sha256, "aes128-sha256"]),
        Suite::Combined(Cipher::AesCbc256, Integrity::HmacSha256) => Ok([sha256, "aes256-sha256"]),
        other => Err(Failure::new(format!("strongSwan is not compared for {other}"))),
    }
}

fn write(path: &Path, bytes: &[u8]) -> Outcome<()> {
    std::fs::write(path, bytes).or_fail(|| format!("cannot write {}", path.display()))
}

fn hex(bytes: &[u8]) -> Zeroizing<String> {
    use std::fmt::Write as _;
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len()));
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes every write");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::SUITES;

    #[test]
    fn every_suite_that_is_measured_has_a_name_there() {
        for suite in SUITES {
            assert!(proposals(suite).is_ok(), "{suite}");
        }
    }
}
