//! What goes wrong ends in one sentence, and leaves nothing behind.

use std::net::UdpSocket;
use std::process::Command;

use cli::lab::{A, Lab, Peer};
use switch::overlay::Cipher;
use tests::{Space, eventually, run};

pub(crate) fn bad_files(lab: &Lab) {
    let file = lab.a.directory.join("bad.toml");
    let path = file.to_str().unwrap();
    for (text, sentence) in [
        ("[space]\nmemry = \"64M\"\n", "bad.toml:2"),
        ("[space\n", "bad.toml:1"),
        ("[overlay]\nlocal = \"192.0.2.10\"\npeer = \"nowhere\"\n", "bad.toml:3"),
    ] {
        std::fs::write(&file, text).unwrap();
        let ended = run(lab, &["up", path]);
        assert_eq!(ended.status, Some(1));
        assert!(ended.said.contains(sentence), "{}", ended.said);
    }
    std::fs::remove_file(&file).unwrap();
    assert!(run(lab, &["up", path]).said.contains("bad.toml"));
}

pub(crate) fn a_port_in_use(lab: &Lab) {
    let _taken = UdpSocket::bind((A, 4500)).unwrap();
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    let ended = run(lab, &["up", red.file.to_str().unwrap()]);
    assert!(!ended.ok() && ended.said.contains("4500"), "{}", ended.said);
    assert!(!run(lab, &["ls"]).out.contains("red"), "nothing is left of it");
}

pub(crate) fn an_spi_that_is_taken(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    red.start();
    let twin = lab.a.directory.join("twin.toml");
    std::fs::copy(&red.file, &twin).unwrap();
    let ended = run(lab, &["up", twin.to_str().unwrap()]);
    assert!(!ended.ok() && ended.said.to_lowercase().contains("spi"), "{}", ended.said);
    assert!(red.run(&["true"]).ok());
    assert!(!run(lab, &["ls"]).out.contains("twin"), "nothing is left of it");
}

pub(crate) fn a_killed_vm(lab: &Lab) {
    let red = Space::up(lab, "red", Peer::B, Cipher::Null, None);
    let blue = Space::up(lab, "blue", Peer::C, Cipher::Null, None);
    kill(red.inspect()["vm"]["pid"].as_u64().unwrap());
    eventually("red is seen as stopped", || !red.run(&["true"]).ok());
    assert!(blue.run(&["ping", "192.0.2.30", "-c", "1"]).ok(), "blue goes on");
    red.start();
    assert!(red.run(&["true"]).ok(), "red can be started again");
}

pub(crate) fn a_killed_switch(lab: &Lab) {
    let red = Space::up(lab, "red", Peer::B, Cipher::Null, None);
    let switch = process("switch-process").expect("a switch runs");
    kill(switch);
    eventually("red has ended", || !run(lab, &["ls"]).out.contains("running"));
    let log = red.inspect()["log"].as_str().unwrap().to_owned();
    eventually("its log says why", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains("the switch is gone"))
    });
    let file = red.file.to_str().unwrap();
    eventually("both can be started again", || run(lab, &["up", file]).ok());
    assert!(red.run(&["true"]).ok());
}

pub(crate) fn kill(pid: u64) {
    assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
}

/// The process of ours in this role; the lab has a /proc of its own.
fn process(role: &str) -> Option<u64> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid: &u64| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).nth(1) == Some(role.as_bytes())
    })
}
