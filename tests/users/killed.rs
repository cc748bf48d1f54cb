//! What is left of processes that are refused, or killed.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::atonce::Inside;
use cli::lab::{A, Host, Lab, Peer};
use switch::overlay::Cipher;
use tests::{Space, eventually, run};

pub(crate) fn a_refused_start(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    let sockets = lab.a.directory.join("run");
    let sockets_there = || found(&sockets, ".sock");
    eventually("no switch is left of earlier tests", || {
        sockets_there().is_empty() && roles(&["switch-process", "vm"]).is_empty()
    });
    {
        let _taken = UdpSocket::bind((A, 4500)).unwrap();
        let ended = run(lab, &["up", red.file.to_str().unwrap()]);
        assert_eq!(ended.status, Some(1));
        assert!(ended.said.contains("4500") && ended.said.contains("stop it"), "{}", ended.said);
    }
    eventually("its switch ends by itself", || roles(&["switch-process", "vm"]).is_empty());
    assert_eq!(sockets_there(), BTreeSet::new());
    for directory in ["run/spaces", "state/spaces"] {
        let mut entries = std::fs::read_dir(lab.a.directory.join(directory)).unwrap();
        assert!(entries.next().is_none(), "{directory} is empty");
    }
    red.start();
    assert!(red.run(&["true"]).ok(), "it starts once the port is free");
}

pub(crate) fn bare(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    let host = lab.peer(Peer::B);
    let before = devices_and_routes(host);
    for signal in ["KILL", "TERM", "INT"] {
        let command = host.portspace(&["bare", red.far_file.to_str().unwrap()]);
        let mut child = { command }.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("it has a device", || devices_and_routes(host) != before);
        send(signal, child.id());
        eventually("it ends", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().success(), signal != "KILL", "{signal}");
        eventually("device and route are gone", || devices_and_routes(host) == before);
    }
}

pub(crate) fn a_run(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    red.start();
    let mut inside = Inside::start(lab, &red);
    send("KILL", inside.child.id());
    inside.child.wait().unwrap();
    assert!(red.run(&["true"]).ok());
    // The slot it had inside is free again: it can be taken any number of times.
    for _ in 0..20 {
        assert!(red.run(&["true"]).ok());
    }
    assert_eq!(run(lab, &["ls"]).out.matches("running").count(), 1);
}

/// The names below `directory` that end so.
fn found(directory: &Path, end: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            names.extend(found(&entry.path(), end));
        } else if name.ends_with(end) {
            names.insert(name);
        }
    }
    names
}

/// Our processes in these roles; the lab has a /proc of its own.
fn roles(roles: &[&str]) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let role = line.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        roles.iter().any(|wanted| wanted.as_bytes() == role)
    })
    .collect()
}

/// A host's devices and routes as the kernel lists them.
fn devices_and_routes(host: &Host) -> BTreeSet<String> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
    let texts = host.run(|| [read("dev").unwrap(), read("route").unwrap()]).unwrap();
    // Counters of traffic come and go; names and destinations do not.
    let start = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let [devices, routes] = texts;
    let device = |line: &str| line.split(':').next().unwrap_or_default().trim().to_owned();
    devices.lines().skip(2).map(device).chain(routes.lines().skip(1).map(start)).collect()
}

fn send(signal: &str, pid: u32) {
    let status = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status();
    assert!(status.unwrap().success());
}
