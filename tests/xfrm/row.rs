//! One way to protect traffic between A and Linux, and the traffic.

use std::fs;
use std::net::IpAddr;

use cli::config::Config;
use cli::lab::Lab;
use cli::lab::network::{Endpoint, Keys, arguments, session_keys};
use cli::lab::service::{Ended, Service, finish};
use switch::overlay::{Aead, Cipher, Encapsulation, Integrity, Sa, Suite};
use tests::{Linux, PATIENCE, eventually};

use crate::counters::Stats;
use crate::uml::{Family, PORT};

/// The SPI to Linux; the next one is to A.
const SPI: u32 = 0x1000;

/// ESP's UDP port (RFC 3948).
const ESP_PORT: u16 = 4500;

/// What the packets hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Transport,
    /// A whole packet of this family.
    Tunnel(Family),
}

/// A row of the table.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) suite: Suite,
    pub(crate) mode: Mode,
    /// Of the ESP packets, or of the datagrams around them.
    pub(crate) outer: Family,
    pub(crate) in_udp: bool,
    pub(crate) esn: bool,
}

impl Row {
    pub(crate) fn name(self) -> String {
        let mode = match self.mode {
            Mode::Transport => "transport mode".to_owned(),
            Mode::Tunnel(inner) => format!("{} in tunnels", inner.name()),
        };
        let wrapping = if self.in_udp { "in UDP over" } else { "raw over" };
        let esn = if self.esn { ", ESN" } else { "" };
        format!("{mode}, {wrapping} {}{esn}, {}", self.outer.name(), self.suite.name())
    }

    /// The addresses that talk to each other: A's and Linux's.
    fn ends(self) -> [IpAddr; 2] {
        match self.mode {
            Mode::Transport => self.outer.outer(),
            Mode::Tunnel(inner) => inner.inner(),
        }
    }

    /// Pings and fetches both ways; Linux finds nothing wrong with any packet.
    pub(crate) fn carries(self, lab: &Lab, linux: &mut Linux) {
        self.key(lab, linux);
        let mut end = bare(lab);
        // Before its routes were there, Linux refused what came unprotected.
        let before = Stats::of(linux);
        let [near, far] = self.ends();
        eventually("Linux answers a ping", || on_a(lab, &ping(far, 56, 1)).ok());
        let long = on_a(lab, &ping(far, 1300, 5));
        assert!(long.ok(), "{}", long.out);
        linux.must(&ping(near, 1300, 5));
        let expected = on_a(lab, "busybox sha256sum <www/parcel").out;
        let fetched = on_a(lab, &fetch(far));
        assert_eq!(fetched.out, expected, "from Linux: {}", fetched.why());
        let fetched = linux.must(&fetch(near));
        assert_eq!(fetched.trim(), expected.trim(), "from A");

        end.must_run().expect("our end still runs");
        let states = linux.must("ip -s xfrm state");
        assert_eq!(packets(&states).len(), 2, "{states}");
        assert!(packets(&states).iter().all(|&count| count > 50), "both SAs were used: {states}");
        assert_eq!(states.contains("esn"), self.esn, "{states}");
        assert_eq!(Stats::of(linux).since(&before), Stats::default(), "no packet was wrong");
        linux.must("ip xfrm policy flush; ip xfrm state flush");
    }

    /// Gives Linux its SAs and policies, and writes A's configuration.
    pub(crate) fn key(self, lab: &Lab, linux: &mut Linux) -> Config {
        let [near, far] = self.outer.outer();
        let mut keys = Keys::fresh(self.suite, SPI).expect("random numbers").esn(self.esn);
        if let Mode::Tunnel(inner) = self.mode {
            let [near, far] = inner.inner().map(|own| own.to_string().parse().expect("a range"));
            keys = keys.tunnel(near, far);
        }
        if !self.in_udp {
            keys = keys.encapsulation(Encapsulation::Raw);
        }
        let file = lab.a.directory.join("linux.toml");
        let _ = fs::remove_file(session_keys(&file));
        let end = |address| Endpoint { address, port: ESP_PORT };
        keys.write_near(&file, end(near), end(far), None).expect("the lab's disk takes a file");
        let secret = Some(session_keys(&file)).filter(|secret| secret.exists());
        let config = Config::read(&file, secret.as_deref()).expect("it was written just now");

        linux.must("ip xfrm policy flush; ip xfrm state flush");
        let pair = &config.overlay.sas[0];
        for (from, to, sa) in [(near, far, &pair.outbound), (far, near, &pair.inbound)] {
            linux.must(&self.state(from, to, sa));
        }
        let [own_near, own_far] = self.ends();
        for (way, from, to, outer) in
            [("in", own_near, own_far, (near, far)), ("out", own_far, own_near, (far, near))]
        {
            linux.must(&format!(
                "ip xfrm policy add src {from} dst {to} dir {way} priority 2 \
                 tmpl src {} dst {} proto esp mode {}",
                outer.0,
                outer.1,
                self.linux_mode()
            ));
        }
        // Policies are looked up for the datagrams around ESP too.
        linux.must(&format!(
            "ip xfrm policy add src {near} dst {far} proto udp dport {ESP_PORT} dir in priority 1"
        ));
        config
    }

    fn linux_mode(self) -> &'static str {
        if self.mode == Mode::Transport { "transport" } else { "tunnel" }
    }

    /// One SA, as Linux is told of it.
    fn state(self, from: IpAddr, to: IpAddr, sa: &Sa) -> String {
        let mixed = matches!(self.mode, Mode::Tunnel(inner) if inner != self.outer);
        let flags = match (self.esn, mixed) {
            (false, false) => "",
            (true, false) => "flag esn",
            (false, true) => "flag af-unspec",
            (true, true) => "flag esn flag af-unspec",
        };
        let encapsulation = if self.in_udp {
            format!("encap espinudp {ESP_PORT} {ESP_PORT} {to}")
        } else {
            String::new()
        };
        let window = if self.esn { 64 } else { 32 };
        format!(
            "ip xfrm state add src {from} dst {to} proto esp spi {} mode {} replay-window {window} \
             {flags} {} {encapsulation}",
            sa.spi,
            self.linux_mode(),
            algorithms(sa)
        )
    }
}

/// An SA's suite and keys, as Linux is told of them.
fn algorithms(sa: &Sa) -> String {
    let cipher_key = sa.cipher_key.to_hex();
    match sa.suite {
        Suite::Aead(aead) => {
            let name = match aead {
                Aead::AesGcm128 | Aead::AesGcm256 => "rfc4106(gcm(aes))",
                Aead::ChaCha20Poly1305 => "rfc7539esp(chacha20,poly1305)",
            };
            format!("aead '{name}' 0x{} 128", *cipher_key)
        }
        Suite::Combined(cipher, integrity) => {
            let encryption = match cipher {
                Cipher::Null => "'ecb(cipher_null)' ''".to_owned(),
                _ => format!("'cbc(aes)' 0x{}", *cipher_key),
            };
            let (name, bits) = match integrity {
                Integrity::HmacSha256 => ("hmac(sha256)", 128),
                Integrity::HmacSha384 => ("hmac(sha384)", 192),
                Integrity::HmacSha512 => ("hmac(sha512)", 256),
            };
            format!("enc {encryption} auth-trunc '{name}' 0x{} {bits}", *sa.auth_key.to_hex())
        }
    }
}

/// Bare IPsec on A, ready for packets.
fn bare(lab: &Lab) -> Service {
    let file = lab.a.directory.join("linux.toml");
    let arguments = arguments("bare", &file);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut end = Service::start(&lab.a, "bare IPsec", lab.a.portspace(&arguments))
        .expect("bare can be started");
    let log = lab.a.directory.join("bare-IPsec-on-A.log");
    eventually("bare IPsec is there", || {
        end.must_run().expect("bare IPsec runs");
        fs::read_to_string(&log).is_ok_and(|said| said.contains("goes through"))
    });
    end
}

fn on_a(lab: &Lab, script: &str) -> Ended {
    finish(lab.a.command("sh").args(["-c", script]), PATIENCE).expect("a shell can be started")
}

fn ping(whom: IpAddr, bytes: usize, patience_s: u32) -> String {
    let program = if whom.is_ipv6() { "ping6" } else { "ping" };
    format!("busybox {program} -c 1 -s {bytes} -W {patience_s} {whom}")
}

fn fetch(from: IpAddr) -> String {
    let host = if from.is_ipv6() { format!("[{from}]") } else { from.to_string() };
    let url = format!("http://{host}:{PORT}/parcel");
    format!("busybox timeout 15 busybox wget -q -O - {url} | busybox sha256sum")
}

/// The packets of each SA in `ip -s xfrm state`.
pub(crate) fn packets(states: &str) -> Vec<u64> {
    let mut lines = states.lines();
    let mut found = Vec::new();
    while lines.any(|line| line.contains("lifetime current:")) {
        let line = lines.next().unwrap_or_default();
        let count = line.split(", ").nth(1).and_then(|rest| rest.split('(').next());
        found.extend(count.and_then(|count| count.parse::<u64>().ok()));
    }
    found
}
