//! What the commands show of a space that works, and of one that does not.

use std::process::Stdio;

use cli::lab::service::{Service, finish};
use cli::lab::{Lab, Peer};
use serde_json::Value;
use switch::overlay::Cipher;
use tests::{PATIENCE, Space, eventually, run};

fn json(lab: &Lab, arguments: &[&str]) -> Value {
    let ended = run(lab, arguments);
    assert!(ended.ok(), "{arguments:?}: {}", ended.why());
    serde_json::from_str(&ended.out).unwrap()
}

pub(crate) fn counters(lab: &Lab) {
    let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc256, None);
    let status = json(lab, &["switch", "status", "--json"]);
    assert_eq!((&status["attached"], &status["spaces"][0]["space"]), (&1.into(), &"red".into()));
    assert!(status["spaces"][0]["received"]["packets"].as_u64().unwrap() > 0);
    let sas = json(lab, &["sa", "ls", "red", "--json"]);
    let inbound = &sas[0]["inbound"];
    assert_eq!(inbound["suite"], "aes-cbc-256+hmac-sha256");
    assert_eq!((&inbound["state"], &inbound["window"]), (&"fresh".into(), &1024.into()));
    assert!(inbound["packets"].as_u64().unwrap() > 0);
    let policies = json(lab, &["policy", "ls", "--json"]);
    assert_eq!(
        (&policies[0]["remote"], &policies[0]["protect"]),
        (&"192.0.2.20".into(), &0.into())
    );
    assert!(policies[0]["hits"].as_u64().unwrap() > 0);
    for (listing, words) in [
        (&["switch", "status"][..], "udp transport"),
        (&["sa", "ls"], "aes-cbc-256+hmac-sha256"),
        (&["policy", "ls"], "protect by 0"),
        (&["inspect", "red"], "overlay  up: the last packet from the peer came"),
    ] {
        let shown = run(lab, listing);
        assert!(shown.ok() && shown.out.contains(words), "{}", shown.out);
    }
    let metrics = run(lab, &["switch", "metrics"]).out;
    assert!(metrics.contains("portspace_space_running{space=\"red\"} 1\n"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"));
    let file = std::fs::read_to_string(&red.file).unwrap();
    let keys = file.lines().filter_map(|line| line.split_once("_key = \"")).map(|(_, key)| key);
    let shown = [metrics, sas.to_string(), status.to_string(), red.inspect().to_string()].concat();
    assert!(keys.into_iter().all(|key| !shown.contains(key.trim_matches('"'))));
}

pub(crate) fn a_silent_peer(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::AesCbc256, None);
    red.start();
    let verdict = || json(lab, &["inspect", "red", "--json"])["overlay"]["verdict"].clone();
    assert!(!red.run(&["ping", "192.0.2.20", "-c", "1"]).ok());
    eventually("the verdict is that the peer is silent", || verdict() == "peer_silent");
    let shown = run(lab, &["inspect", "red"]).out;
    assert!(shown.contains("overlay  down: "), "{shown}");
    assert!(shown.contains("is UDP port 4500 open on the way"), "{shown}");
}

pub(crate) fn captures(lab: &Lab) {
    let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc256, None);
    for layer in ["--inner", "--outer"] {
        let file = lab.a.directory.join(format!("red{layer}.pcapng"));
        let path = file.to_str().unwrap();
        let arguments = ["capture", "red", layer, "-w", path, "--packets", "4"];
        let mut command = lab.a.portspace(&arguments);
        command.stdout(Stdio::null());
        let capture = std::thread::scope(|scope| {
            let capture = scope.spawn(|| finish(&mut command, PATIENCE).unwrap());
            // It has begun once there is a file with a head.
            eventually("the capture ends with its last packet", || {
                assert!(red.run(&["ping", "192.0.2.20", "-c", "1"]).ok());
                capture.is_finished()
            });
            capture.join().unwrap()
        });
        assert!(capture.ok() && capture.said.contains("4 packets"), "{}", capture.said);
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(bytes[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
        // An echo's payload is in clear inside alone; ICMP (1) or UDP (17) shows in each header.
        let protocols = |number: u8| bytes.windows(2).filter(|w| *w == [64, number]).count();
        assert!(protocols(if layer == "--inner" { 1 } else { 17 }) >= 4);
    }
}

pub(crate) fn a_plugged_space(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::AesCbc256, None);
    let socket = lab.a.directory.join("red.sock");
    let (file, path) = (red.file.to_str().unwrap(), socket.to_str().unwrap());
    let command = lab.a.portspace(&["plug", file, "--socket", path]);
    let plugged = Service::start(&lab.a, "plug", command).unwrap();
    eventually("the front end's socket is there", || socket.exists());
    let state = || json(lab, &["inspect", "red", "--json"])["overlay"]["verdict"].clone();
    eventually("the switch knows the space", || run(lab, &["inspect", "red"]).ok());
    assert_eq!(state(), "no_machine");
    let listed = json(lab, &["ls", "--json"]);
    assert_eq!((&listed[0]["name"], &listed[0]["state"]), (&"red".into(), &"awaited".into()));
    // A front end that comes and goes leaves the space where it is.
    for _ in 0..3 {
        drop(std::os::unix::net::UnixStream::connect(&socket).unwrap());
        eventually("the next one is awaited", || state() == "no_machine");
    }
    drop(plugged);
    eventually("the space goes with its command", || !run(lab, &["inspect", "red"]).ok());
}
