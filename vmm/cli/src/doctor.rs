//! What will work on this machine, measured and in words.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use serde::Serialize;

use crate::failure::{Outcome, While};
use crate::lab::service::finish;
use crate::lab::{self, THRESHOLD};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    name: &'static str,
    ok: bool,
    detail: String,
}

/// Everything that was looked at.
#[derive(Debug, Serialize)]
struct Diagnosis {
    findings: Vec<Finding>,
    /// What KVM costs here, if it works.
    kvm: Option<Costs>,
    /// What will work, in sentences.
    conclusions: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Costs {
    ring3_turn_ns: f64,
    ring0_turn_ns: Option<f64>,
    exit_us: f64,
}

/// Looks at everything; the exit status says whether spaces can run here.
///
/// # Errors
/// Nothing could be looked at.
pub fn doctor(json: bool) -> Outcome<ExitCode> {
    let mut diagnosis = Diagnosis { findings: Vec::new(), kvm: None, conclusions: Vec::new() };
    diagnosis.kvm();
    diagnosis.namespaces()?;
    diagnosis.port();
    diagnosis.conclude();
    let ok = diagnosis.ok("kvm");
    if json {
        say!("{}", serde_json::to_string_pretty(&diagnosis).expect("findings are JSON"));
    } else {
        diagnosis.print();
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Diagnosis {
    fn find(&mut self, name: &'static str, ok: bool, detail: impl Into<String>) {
        self.findings.push(Finding { name, ok, detail: detail.into() });
    }

    fn ok(&self, name: &str) -> bool {
        self.findings.iter().any(|finding| finding.name == name && finding.ok)
    }

    fn kvm(&mut self) {
        match kvm::probe(|| Duration::from_nanos(sys::clock::monotonic_ns())) {
            Err(error) => self.find("kvm", false, crate::Failure::from_error(error).chain()),
            Ok(costs) => {
                let ring0 = match costs.ring0_turn_ns {
                    Some(turn) => format!("{turn:.1} ns"),
                    None => "does not run".to_owned(),
                };
                let detail = format!(
                    "a loop's turn takes {:.2} ns in ring 3, in ring 0 {ring0}; an exit {:.1} µs",
                    costs.ring3_turn_ns, costs.exit_us
                );
                self.find("kvm", true, detail);
                let ring0_detail = match costs.emulates_ring0() {
                    true => "emulated in software: the native guest stays in ring 3",
                    false => "at native speed",
                };
                self.find("ring 0", !costs.emulates_ring0(), ring0_detail);
                self.kvm = Some(Costs {
                    ring3_turn_ns: costs.ring3_turn_ns,
                    ring0_turn_ns: costs.ring0_turn_ns,
                    exit_us: costs.exit_us,
                });
            }
        }
    }

    /// Namespaces and TUN, tried by a process of its own that really enters them.
    fn namespaces(&mut self) -> Outcome<()> {
        let mut threshold = Command::new("/proc/self/exe");
        threshold.args([THRESHOLD, "doctor-inside"]).stdin(Stdio::null());
        let tried = finish(&mut threshold, Duration::from_secs(10))?;
        let found = tried.out.lines().find_map(|line| line.strip_prefix("tun: "));
        let Some(tun) = found else {
            self.find("namespaces", false, tried.why());
            self.find("tun", false, "could not be tried without namespaces");
            return Ok(());
        };
        let whose = match rustix::process::geteuid().is_root() {
            true => "as root",
            false => "as an ordinary user",
        };
        self.find("namespaces", true, format!("hosts can be made {whose}"));
        self.find(
            "tun",
            tun == "ok",
            if tun == "ok" { "devices can be made in them" } else { tun },
        );
        Ok(())
    }

    fn port(&mut self) {
        let port = switch::overlay::DEFAULT_PORT;
        match UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)) {
            Ok(_) => self.find("udp 4500", true, "free for ESP in UDP"),
            Err(error) => self.find(
                "udp 4500",
                false,
                format!("{error}; end the program that uses it, or set port in [overlay]"),
            ),
        }
    }

    fn conclude(&mut self) {
        let mut say = Vec::new();
        if self.ok("kvm") {
            say.push("personal networks with the native guest will work");
            say.push(match self.ok("ring 0") {
                true => {
                    "ring 0 is fast: a Linux guest would fit this machine, once it is available"
                }
                false => "ring 0 is emulated: a Linux guest would not be usable here",
            });
        } else {
            say.push("no personal network can start: see kvm above");
        }
        say.push(match (self.ok("kvm"), self.ok("namespaces") && self.ok("tun")) {
            (true, true) => "portspace demo and bench will work",
            (false, true) => "portspace demo and bench will not work without KVM",
            (_, false) => "portspace demo and bench will not work: see namespaces and tun above",
        });
        if self.ok("tun") {
            say.push("portspace bare will work where it has CAP_NET_ADMIN");
        }
        if !self.ok("udp 4500") {
            say.push("overlays must use another port than 4500");
        }
        self.conclusions = say.into_iter().map(str::to_owned).collect();
    }

    fn print(&self) {
        for finding in &self.findings {
            let mark = if finding.ok { "ok" } else { "no" };
            say!("{mark}  {:<10}  {}", finding.name, finding.detail);
        }
        say!("");
        for sentence in &self.conclusions {
            say!("{sentence}");
        }
    }
}

/// The part that is tried inside the lab's namespaces.
///
/// # Errors
/// The lab's file system cannot be mounted.
pub fn inside() -> Outcome<()> {
    lab::settle()?;
    match sys::tun::Tun::create("doctor") {
        Ok(_) => say!("tun: ok"),
        Err(error) => say!("tun: {error}"),
    }
    std::io::Write::flush(&mut std::io::stdout()).or_fail(|| "cannot answer".to_owned())
}
