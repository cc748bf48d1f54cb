//! A space of a test, with its peer; both end with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use cli::lab::network::{Endpoint, Keys};
use cli::lab::service::{Ended, Service, finish};
use cli::lab::{A, Host, Lab, Peer};
use serde_json::Value;
use switch::control::{Client, SpaceStatus};
use switch::overlay::{Integrity, Suite};

/// Longest wait for what must work.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// ESP's UDP port (RFC 3948).
const PORT: u16 = 4500;

/// Runs a portspace command on A to its end.
///
/// # Panics
/// If it cannot be started.
pub fn run(lab: &Lab, arguments: &[&str]) -> Ended {
    finish(&mut lab.a.portspace(arguments), PATIENCE).expect("portspace can be started")
}

/// Waits for something that comes about by itself.
///
/// # Panics
/// If it does not within [`PATIENCE`].
#[expect(clippy::disallowed_methods, reason = "a test may look at the clock")]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A space of A, bound to a peer.
pub struct Space<'a> {
    lab: &'a Lab,
    /// Its name.
    pub name: &'static str,
    /// A's configuration file.
    pub file: PathBuf,
    /// The peer's.
    pub far_file: PathBuf,
    peer: Option<Service>,
}

impl<'a> Space<'a> {
    /// Writes the configuration of both ends with fresh keys; nothing runs yet.
    ///
    /// # Panics
    /// If files cannot be written.
    pub fn configure(
        lab: &'a Lab,
        name: &'static str,
        peer: Peer,
        cipher: switch::overlay::Cipher,
        root: Option<&Path>,
    ) -> Space<'a> {
        let space = Space::named(lab, name, peer);
        let spi = 0x3000 + 0x10 * peer as u32;
        let suite = Suite::Combined(cipher, Integrity::HmacSha256);
        let keys = Keys::fresh(suite, spi).expect("the kernel has random numbers");
        let near = Endpoint { address: A, port: PORT };
        let far = Endpoint { address: peer.address(), port: PORT };
        keys.write_near(&space.file, near, far, root).expect("the lab's disk takes a file");
        keys.write_far(&space.far_file, near, far).expect("the lab's disk takes a file");
        space
    }

    /// A space whose files the test writes itself.
    pub fn named(lab: &'a Lab, name: &'static str, peer: Peer) -> Space<'a> {
        let file = lab.a.directory.join(format!("{name}.toml"));
        let far_file = lab.peer(peer).directory.join(format!("{name}.toml"));
        Space { lab, name, file, far_file, peer: None }
    }

    /// The same, with a bare endpoint running on the peer and the space up.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn up(
        lab: &'a Lab,
        name: &'static str,
        peer: Peer,
        cipher: switch::overlay::Cipher,
        root: Option<&Path>,
    ) -> Space<'a> {
        let mut space = Space::configure(lab, name, peer, cipher, root);
        let host = lab.peer(peer);
        let bare = host.portspace(&["bare", space.far_file.to_str().expect("a plain path")]);
        space.peer = Some(Service::start(host, "bare IPsec", bare).expect("bare can be started"));
        space.start();
        let address = peer.address().to_string();
        eventually("the peer answers", || space.run(&["ping", &address, "-c", "1"]).ok());
        space
    }

    /// Starts the space alone.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(&self) {
        let ended = run(self.lab, &["up", self.file.to_str().expect("a plain path")]);
        assert!(ended.ok(), "up: {}", ended.why());
    }

    /// Runs a program inside.
    pub fn run(&self, program: &[&str]) -> Ended {
        run(self.lab, &[&["run", self.name, "--"], program].concat())
    }

    /// Runs a program inside with `input`.
    ///
    /// # Panics
    /// If the input cannot be written to a file.
    pub fn run_with_input(&self, program: &[&str], input: &[u8]) -> Ended {
        let path = self.lab.a.directory.join("input");
        std::fs::write(&path, input).expect("the lab's disk takes a file");
        let mut command = self.lab.a.portspace(&[&["run", self.name, "--"], program].concat());
        command.stdin(Stdio::from(std::fs::File::open(&path).expect("it was written just now")));
        finish(&mut command, PATIENCE).expect("portspace can be started")
    }

    /// `portspace inspect --json`.
    ///
    /// # Panics
    /// If that fails.
    pub fn inspect(&self) -> Value {
        let ended = run(self.lab, &["inspect", self.name, "--json"]);
        assert!(ended.ok(), "inspect: {}", ended.why());
        serde_json::from_str(&ended.out).expect("inspect prints JSON")
    }

    /// How many packets the switch dropped for this reason, of the space or of its SA.
    pub fn dropped(&self, reason: &str) -> u64 {
        self.drops().get(reason).copied().unwrap_or(0)
    }

    /// All that the switch dropped of the space's packets and its SA's, by reason.
    ///
    /// # Panics
    /// If the switch does not know the space.
    pub fn drops(&self) -> BTreeMap<String, u64> {
        let status = self.switch();
        let mut drops = status.drops;
        for (reason, count) in status.pairs.into_iter().flat_map(|pair| pair.inbound.drops) {
            *drops.entry(reason).or_default() += count;
        }
        drops
    }

    /// What the switch says about the space.
    ///
    /// # Panics
    /// If the switch does not know the space.
    pub fn switch(&self) -> SpaceStatus {
        let status = switch_of(self.lab).status().expect("the switch answers");
        let own = status.spaces.into_iter().find(|space| space.space == self.name);
        own.expect("the switch knows a space that runs")
    }

    /// Packets from outside that belong to no space, by reason.
    ///
    /// # Panics
    /// If no switch runs.
    pub fn strays(&self) -> BTreeMap<String, u64> {
        switch_of(self.lab).status().expect("the switch answers").strays
    }

    /// The switch that the space is attached to.
    ///
    /// # Panics
    /// If no switch runs.
    pub fn ask_switch(&self) -> Client {
        switch_of(self.lab)
    }
}

fn switch_of(lab: &Lab) -> Client {
    Client::connect(&lab.a.directory.join("run/switch.sock")).expect("a switch runs")
}

/// A TCP echo server on port 7 of a host, which answers that host already.
///
/// # Panics
/// If it cannot be started.
pub fn echo_server(host: &Host) -> Service {
    let address = SocketAddr::from((host.address, 7));
    let command = host.portspace(&["tool", "echo", &address.to_string()]);
    let mut echo = Service::start(host, "echo server", command).expect("it can be started");
    echo.answers(host, address).expect("it answers");
    echo
}

/// Two hexadecimal digits for each byte.
pub fn in_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        // Whatever state a failed test left it in.
        let _ = finish(&mut self.lab.a.portspace(&["stop", self.name]), PATIENCE);
        let _ = finish(&mut self.lab.a.portspace(&["rm", self.name]), PATIENCE);
    }
}
