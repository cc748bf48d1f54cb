//! What takes root, or a user who may make namespaces: ignored, with the reason, where it is refused.
#![expect(clippy::disallowed_types, reason = "an ordinary program's socket is what is tested with")]

use std::fs;
use std::process::{Command, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use std::net::{Ipv4Addr, UdpSocket};

use sys::namespace::{Network, die_with_parent};
use sys::route;
use sys::tun::Tun;

fn main() {
    let arguments = Arguments::from_args();
    let refused = Network::new().err();
    if let Some(reason) = &refused {
        eprintln!("ignoring what needs a network namespace: {reason}");
    }
    let trial = |name: &str, test: fn() -> Result<(), Failed>| {
        Trial::test(name, test).with_ignored_flag(refused.is_some())
    };
    let trials = vec![
        trial(
            "work_in_another_network_sees_that_network_alone",
            work_in_another_network_sees_that_network_alone,
        ),
        trial(
            "a_datagram_to_a_routed_address_comes_out_of_the_tun_device",
            a_datagram_to_a_routed_address_comes_out_of_the_tun_device,
        ),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

fn work_in_another_network_sees_that_network_alone() -> Result<(), Failed> {
    let other = Network::new()?;
    let inside = other.run(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
    assert_eq!(devices(&inside), ["lo"]);

    let mut command = Command::new("cat");
    command.arg("/proc/self/net/dev").stdout(Stdio::piped());
    other.attach(&mut command);
    die_with_parent(&mut command);
    let output = command.spawn()?.wait_with_output()?;
    assert_eq!(devices(&String::from_utf8(output.stdout)?), ["lo"]);
    Ok(())
}

fn a_datagram_to_a_routed_address_comes_out_of_the_tun_device() -> Result<(), Failed> {
    Network::new()?.run(|| -> Result<(), Failed> {
        let (local, peer) = (Ipv4Addr::new(192, 0, 2, 10), Ipv4Addr::new(192, 0, 2, 20));
        route::bring_up("lo", 65536)?;
        route::add_address("lo", local.into(), 32)?;
        let tun = Tun::create("ps%d")?;
        assert_eq!(tun.name(), "ps0");
        route::bring_up(tun.name(), 1400)?;
        route::to(peer.into()).expect_err("no route yet");
        route::add(peer.into(), 32, tun.name(), Some(local.into()))?;
        let found = route::to(peer.into())?;
        assert_eq!((found.device.as_str(), found.source), ("ps0", Some(local.into())));

        UdpSocket::bind((local, 0))?.send_to(b"hello", (peer, 7))?;
        // The host itself may send IPv6 router solicitations into a new interface.
        let mut packet = [0; 1500];
        let length = std::iter::repeat_with(|| tun.read(&mut packet).map(|l| (l, packet[0] >> 4)))
            .find_map(|read| read.map(|(l, v)| l.filter(|_| v == 4)).transpose())
            .ok_or("no packet")??;
        assert_eq!(packet[16..20], peer.octets());
        assert!(packet[..length].ends_with(b"hello"));
        Ok(())
    })?
}

fn devices(proc_net_dev: &str) -> Vec<&str> {
    proc_net_dev.lines().filter_map(|line| Some(line.split_once(':')?.0.trim())).collect()
}
