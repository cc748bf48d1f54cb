//! The main job, shown: three hosts, two personal networks, one address.

mod checks;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use switch::overlay::{Cipher, DEFAULT_PORT, Integrity, Suite};

use crate::bench::rtt::{self, Pace};
use crate::bench::{expect, start_bare};
use crate::failure::{Failure, Outcome, While};
use crate::lab::capture::{Capture, Counts};
use crate::lab::network::{Endpoint, Keys, random};
use crate::lab::service::{Ended, Service, finish};
use crate::lab::{self, Host, Lab, Peer};
use crate::processes::last_sentence;
use crate::progress::Progress;
use crate::report::{Report, Space, to_thousandths};

/// Where the hosts' HTTP servers listen.
const HTTP_PORT: u16 = 8000;

/// The file on B and C, and its size, bytes.
const PARCEL: &str = "parcel.bin";
const PARCEL_BYTES: usize = 4 << 20;

/// Longest wait for what must work.
const PATIENCE: Duration = Duration::from_secs(12);

/// How long something that must not be reachable is tried.
const TRY: Duration = Duration::from_secs(2);

/// The rounds of the demo's table: each order once.
const PACE: Pace = Pace { rounds: 6, count: 1500 };

/// One space of the demo.
#[derive(Clone, Copy, Debug)]
struct Role {
    name: &'static str,
    peer: Peer,
    suite: Suite,
    spi: u32,
}

const AES_256: Suite = Suite::Combined(Cipher::AesCbc256, Integrity::HmacSha256);
const AES_128: Suite = Suite::Combined(Cipher::AesCbc128, Integrity::HmacSha256);

/// The algorithms of the demo's table.
const SUITES: [Suite; 3] = [Suite::Combined(Cipher::Null, Integrity::HmacSha256), AES_128, AES_256];

const RED: Role = Role { name: "red", peer: Peer::B, suite: AES_256, spi: 0x1000 };
const BLUE: Role = Role { name: "blue", peer: Peer::C, suite: AES_128, spi: 0x1010 };

/// `demo`: enters a lab and shows it there.
///
/// # Errors
/// The lab could not be entered or was interrupted.
pub fn start(json: bool) -> Outcome<ExitCode> {
    let mut arguments = vec!["demo-inside".to_owned()];
    arguments.extend(json.then(|| "--json".to_owned()));
    lab::enter("demo", &arguments)
}

/// `demo`, inside.
///
/// # Errors
/// Something could not be started; a check that is not ok is no error but the exit status.
pub fn inside(json: bool) -> Outcome<ExitCode> {
    lab::settle()?;
    let progress = Progress::new();
    let mut report = Report::default();
    progress.step("making hosts A, B, C (and D, E to compare with)");
    let lab = Lab::build()?;
    let capture = lab.a.run(|| Capture::start(&[Peer::B, Peer::C], DEFAULT_PORT))?;
    let capture = capture.or_fail(|| "cannot capture on A".to_owned())?;
    let stop = AtomicBool::new(false);
    let (shown, counts) = std::thread::scope(|scope| {
        let counting = scope.spawn(|| capture.count(&stop));
        let shown = show(&lab, &progress, &mut report);
        stop.store(true, Ordering::Release);
        (shown, counting.join().expect("counting frames does not panic"))
    });
    drop(progress);
    shown?;
    check_capture(&mut report, &counts);
    report.print(json);
    Ok(if report.ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All of it but the capture.
fn show(lab: &Lab, progress: &Progress, report: &mut Report) -> Outcome<()> {
    let scene = Scene::set(lab, progress)?;
    for role in [RED, BLUE] {
        progress.step(&format!("booting {}, bound to {}", role.name, role.peer.letter()));
        scene.up(role)?;
        let space = scene.space(role)?;
        progress.done(&format!("{} answered after {:.1} ms", space.name, space.boot_ms));
        report.spaces.push(space);
    }
    checks::run(&scene, progress, report)?;
    for (space, role) in report.spaces.iter_mut().zip([RED, BLUE]) {
        // By now the guests have touched the memory they need.
        *space = Space { boot_ms: space.boot_ms, ..scene.space(role)? };
        expect(finish(&mut lab.a.portspace(&["stop", role.name]), PATIENCE)?, "stop")?;
    }
    drop(scene);
    rtt::measure(lab, PACE, &SUITES, progress, report)
}

fn check_capture(report: &mut Report, counts: &Counts) {
    let ok = counts.esp > 0 && counts.foreign == 0;
    let mut detail = format!(
        "{} frames between A and B or C: {} ESP in UDP {DEFAULT_PORT}, {} keepalives, {} others",
        counts.esp + counts.keepalive + counts.foreign,
        counts.esp,
        counts.keepalive,
        counts.foreign
    );
    if let Some(frame) = &counts.first_foreign {
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        detail.push_str(&format!("; the first other: {hex}"));
    }
    report.check("nothing but ESP on the wire", ok, detail);
}

/// The hosts with their servers and files.
struct Scene<'a> {
    lab: &'a Lab,
    /// SHA-256 of the file on B and C.
    parcel: String,
    /// What serves the file on B.
    server: &'static str,
    /// The directory of A that `red` sees.
    parent: PathBuf,
    /// Servers and bare endpoints; ended with this.
    _services: Vec<Service>,
}

impl<'a> Scene<'a> {
    fn set(lab: &'a Lab, progress: &Progress) -> Outcome<Self> {
        let write = |path: PathBuf, bytes: &[u8]| {
            std::fs::write(&path, bytes).or_fail(|| format!("cannot write {}", path.display()))
        };
        let parcel = random(PARCEL_BYTES)?;
        let parent = lab.a.directory.join("parent");
        make_directory(&parent)?;
        write(parent.join("notes.txt"), checks::NOTES)?;
        let mut services = Vec::new();
        let mut server = "";
        for role in [RED, BLUE] {
            let host = lab.peer(role.peer);
            progress.step(&format!("starting bare IPsec and a web server on {}", host.letter));
            let www = host.directory.join("www");
            make_directory(&www)?;
            write(www.join(PARCEL), &parcel)?;
            let root = (role.name == RED.name).then_some(parent.as_path());
            let end = |host: &Host| Endpoint { address: host.address, port: DEFAULT_PORT };
            let keys = Keys::fresh(role.suite, role.spi)?;
            let (near, far) = (end(&lab.a), end(host));
            keys.write_near(&role.file(lab), near, far, root)?;
            let file = keys.write_far(&host.directory.join("bare.toml"), near, far)?;
            services.push(start_bare(host, &file)?);
            let (name, command) = web_server(host, &www.to_string_lossy());
            let mut web = Service::start(host, name, command)?;
            web.answers(host, SocketAddr::from((host.address, HTTP_PORT)))?;
            services.push(web);
            if role.name == RED.name {
                server = name;
            }
        }
        progress.step("starting a service on A");
        let address = format!("0.0.0.0:{HTTP_PORT}");
        let command = lab.a.portspace(&["tool", "http", &parent.to_string_lossy(), &address]);
        let mut own = Service::start(&lab.a, "web server", command)?;
        own.answers(&lab.a, SocketAddr::from((lab.a.address, HTTP_PORT)))?;
        services.push(own);
        let parcel = checks::sha256(&parcel);
        Ok(Self { lab, parcel, server, parent, _services: services })
    }

    fn up(&self, role: Role) -> Outcome<()> {
        let file = role.file(self.lab);
        let mut up = self.lab.a.portspace(&["up", &file.to_string_lossy()]);
        expect(finish(&mut up, PATIENCE)?, "up").map(drop)
    }

    /// Boot time and memory of a running space, after its first answered packet.
    fn space(&self, role: Role) -> Outcome<Space> {
        #[derive(Deserialize)]
        struct Inspection {
            vm: Option<Vm>,
            switch: Option<Switch>,
        }
        #[derive(Deserialize)]
        struct Vm {
            started_ns: u64,
            vm_kib: u64,
            guest_kib: u64,
        }
        #[derive(Deserialize)]
        struct Switch {
            first_answer_ns: Option<u64>,
        }
        let start = sys::clock::monotonic_ns();
        loop {
            let mut inspect = self.lab.a.portspace(&["inspect", role.name, "--json"]);
            let ended = expect(finish(&mut inspect, PATIENCE)?, "inspect")?;
            let seen: Inspection = serde_json::from_str(&ended.out)
                .or_fail(|| format!("cannot inspect space {}", role.name))?;
            let (Some(vm), Some(switch)) = (seen.vm, seen.switch) else {
                let log = format!("run/spaces/{}/vm.log", role.name);
                let said = last_sentence(&self.lab.a.directory.join(log));
                let said =
                    said.unwrap_or_else(|| "its VM process or the switch was killed".to_owned());
                let sentence = format!("space {} does not run any more", role.name);
                return Err(Failure::because(sentence, said));
            };
            if let Some(answered_ns) = switch.first_answer_ns {
                return Ok(Space {
                    name: role.name.to_owned(),
                    address: self.lab.a.address.to_string(),
                    boot_ms: to_thousandths(answered_ns.saturating_sub(vm.started_ns) as f64 / 1e6),
                    vm_kib: vm.vm_kib,
                    guest_kib: vm.guest_kib,
                });
            }
            if sys::clock::monotonic_ns() - start > 5_000_000_000 {
                return Err(Failure::new(format!(
                    "{} does not answer {}: no packet came back within 5 s",
                    role.peer.letter(),
                    role.name
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a program inside, with `input`.
    fn run(&self, role: Role, program: &[&str], patience: Duration) -> Outcome<Ended> {
        finish(&mut self.command(role, program), patience)
    }

    /// Runs a program inside with a file of A as its input.
    fn run_with_input(&self, role: Role, program: &[&str], input: &str) -> Outcome<Ended> {
        let path = self.lab.a.directory.join("input");
        std::fs::write(&path, input).or_fail(|| format!("cannot write {}", path.display()))?;
        let file =
            std::fs::File::open(&path).or_fail(|| format!("cannot read {}", path.display()))?;
        finish(self.command(role, program).stdin(Stdio::from(file)), PATIENCE)
    }

    fn command(&self, role: Role, program: &[&str]) -> Command {
        let mut command = self.lab.a.portspace(&["run", role.name, "--"]);
        command.args(program);
        command
    }
}

impl Role {
    fn file(self, lab: &Lab) -> PathBuf {
        lab.a.directory.join(format!("{}.toml", self.name))
    }

    /// What the space is bound to, for people.
    fn binding(self) -> String {
        format!("{} ({})", self.peer.letter(), self.suite)
    }
}

fn make_directory(path: &PathBuf) -> Outcome<()> {
    std::fs::create_dir_all(path).or_fail(|| format!("cannot create {}", path.display()))
}

/// An ordinary web server if there is one: python3's, busybox's, else our own.
fn web_server(host: &Host, directory: &str) -> (&'static str, Command) {
    let there = |program: &str, arguments: &[&str]| {
        let mut command = host.command(program);
        command.args(arguments);
        finish(&mut command, Duration::from_secs(10)).is_ok_and(|ended| ended.ok())
    };
    let port = HTTP_PORT.to_string();
    if there("python3", &["-c", "import http.server"]) {
        let mut command = host.command("python3");
        command.args(["-m", "http.server", &port, "--bind", "0.0.0.0", "--directory", directory]);
        return ("python3 http.server", command);
    }
    if there("busybox", &["httpd", "--help"]) {
        let mut command = host.command("busybox");
        command.args(["httpd", "-f", "-p", &port, "-h", directory]);
        return ("busybox httpd", command);
    }
    let address = format!("0.0.0.0:{HTTP_PORT}");
    ("portspace tool http", host.portspace(&["tool", "http", directory, &address]))
}
