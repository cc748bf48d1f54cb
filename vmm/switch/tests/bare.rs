//! Bare IPsec between two network namespaces: ignored, with the reason, where they cannot be made.
#![expect(clippy::disallowed_types, reason = "ordinary programs' sockets are what is tested with")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use switch::bare::Options;
use switch::overlay::Overlay;
use sys::namespace::{Network, die_with_parent};
use sys::{clock, route};

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);

/// A cipher and an encapsulation, as messages name them.
type Kind = (&'static str, &'static str);

const UDP: &str = r#"{"udp":{}}"#;
const RAW: &str = r#""raw""#;
const KINDS: [Kind; 3] = [("null", UDP), ("aes-cbc-256", UDP), ("aes-cbc-256", RAW)];

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("bare-endpoint") {
        return endpoint(&arguments.next().unwrap_or_default());
    }
    let refused = Network::new().err().map(|refused| refused.to_string());
    let missing = match Command::new("ip").arg("-V").stdout(Stdio::null()).status() {
        Ok(_) => None,
        Err(e) => Some(format!("the command ip (Debian package iproute2): {e}")),
    };
    let reason = refused.or(missing);
    if let Some(reason) = &reason {
        eprintln!("ignoring what needs two networks: {reason}");
    }
    let trials = vec![
        Trial::test("tcp_runs_between_two_bare_endpoints_and_nothing_is_left_behind", tcp_runs)
            .with_ignored_flag(reason.is_some()),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// The program that is tested: one bare endpoint.
fn endpoint(overlay: &str) {
    let overlay: Overlay = serde_json::from_str(overlay).expect("the test wrote it");
    let options = Options { device: "ps%d".into(), spin_us: switch::DEFAULT_SPIN_US };
    match switch::bare(overlay, &options, |device| println!("ready {device}")) {
        Ok(counters) => eprintln!("{counters:?}"),
        Err(failure) => {
            println!("{failure}");
            std::process::exit(1);
        }
    }
}

fn overlay(
    (cipher, encapsulation): Kind,
    (local, inbound): (Ipv4Addr, u32),
    (peer, outbound): (Ipv4Addr, u32),
) -> String {
    let length = match cipher {
        "null" => 0,
        _ => 32,
    };
    let sa = |spi: u32| {
        let byte = format!("{:02x}", (spi >> 8) as u8);
        let (cipher_key, auth_key) = (byte.repeat(length), byte.repeat(32));
        format!(
            r#"{{"spi":{spi},"suite":"{cipher}+hmac-sha256","cipher_key":"{cipher_key}","auth_key":"{auth_key}"}}"#
        )
    };
    let (inbound, outbound) = (sa(inbound), sa(outbound));
    format!(
        r#"{{"local":"{local}","peer":"{peer}","encapsulation":{encapsulation},"sas":[{{"inbound":{inbound},"outbound":{outbound}}}]}}"#
    )
}

fn start(network: &Network, overlay: &str) -> Result<Child, Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bare-endpoint", overlay]).stdout(Stdio::piped());
    network.attach(&mut command);
    die_with_parent(&mut command);
    let mut child = command.spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    if line.starts_with("ready ps") { Ok(child) } else { Err(line.into()) }
}

fn ip(network: &Network, arguments: &str) -> Result<(), Failed> {
    let mut command = Command::new("ip");
    command.args(arguments.split(' '));
    network.attach(&mut command);
    if command.status()?.success() { Ok(()) } else { Err(format!("ip {arguments}").into()) }
}

fn tcp_runs() -> Result<(), Failed> {
    let (a, b) = (Network::new()?, Network::new()?);
    // The second end is moved by the number of a process that lives there.
    let mut holder = Command::new("sleep");
    holder.arg("60");
    b.attach(&mut holder);
    die_with_parent(&mut holder);
    let mut holder = holder.spawn()?;
    ip(&a, &format!("link add veth0 type veth peer name veth1 netns {}", holder.id()))?;
    for (network, device, address) in [(&a, "veth0", A), (&b, "veth1", B)] {
        network.run(|| {
            route::bring_up("lo", 65536)?;
            route::add_address(device, address.into(), 24)?;
            route::bring_up(device, 1500)
        })??;
    }
    round_trips("base", &a, &b)?;
    for kind in KINDS {
        let left = start(&a, &overlay(kind, (A, 0x1001), (B, 0x2001)))?;
        let right = start(&b, &overlay(kind, (B, 0x2001), (A, 0x1001)))?;
        round_trips(&format!("{kind:?}"), &a, &b)?;
        for mut child in [left, right] {
            Command::new("kill").arg(child.id().to_string()).status()?;
            assert!(child.wait()?.success());
        }
    }
    for network in [&a, &b] {
        let devices = network.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
        assert!(!devices.contains("ps0"), "{devices}");
    }
    holder.kill()?;
    holder.wait()?;
    Ok(())
}

/// Many round trips of one byte, and one transfer of a megabyte.
fn round_trips(name: &str, a: &Network, b: &Network) -> Result<(), Failed> {
    let listener = b.run(|| TcpListener::bind(SocketAddrV4::new(B, 0)))??;
    let port = listener.local_addr()?.port();
    std::thread::scope(|scope| {
        let server = scope.spawn(move || -> std::io::Result<usize> {
            let (mut stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            let mut byte = [0];
            for _ in 0..3000 {
                stream.read_exact(&mut byte)?;
                stream.write_all(&byte)?;
            }
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest)
        });
        let mut stream = a.run(|| TcpStream::connect(SocketAddrV4::new(B, port)))??;
        stream.set_nodelay(true)?;
        let mut taken = Vec::new();
        for _ in 0..3000 {
            let before = clock::monotonic_ns();
            stream.write_all(&[7])?;
            stream.read_exact(&mut [0])?;
            taken.push(clock::monotonic_ns() - before);
        }
        stream.write_all(&vec![7; 1 << 20])?;
        drop(stream);
        let rest = server.join().map_err(|_| "the server panicked")??;
        assert_eq!(rest, 1 << 20);
        taken.sort_unstable();
        eprintln!("{name}: p50 {} us, p99 {} us", taken[1500] / 1000, taken[2970] / 1000);
        Ok(())
    })
}
