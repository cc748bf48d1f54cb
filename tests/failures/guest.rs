//! What ends, or goes wrong, while it runs.

use std::process::{Command, Stdio};

use cli::lab::{Lab, Peer};
use switch::overlay::Cipher;
use tests::{Space, eventually, run};

pub(crate) fn a_panic(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    red.start();
    let ended = red.run(&["panic", "out of biscuits"]);
    assert_eq!(ended.status, Some(1));
    assert!(ended.said.contains("out of biscuits"), "{}", ended.said);
    assert!(ended.said.contains("portspace up"), "{}", ended.said);
    assert!(run(lab, &["ls"]).out.contains("out of biscuits"));
    assert!(run(lab, &["inspect", "red"]).out.contains("out of biscuits"));
    assert!(red.run(&["true"]).said.contains("out of biscuits"));
    red.start();
    assert!(red.run(&["true"]).ok(), "it can be started again");
}

pub(crate) fn a_killed_vm(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    red.start();
    signal("KILL", red.inspect()["vm"]["pid"].as_u64().unwrap());
    eventually("it has ended", || !red.run(&["true"]).ok());
    let said = red.run(&["true"]).said;
    assert!(said.contains("its VM process was killed"), "{said}");
    assert!(run(lab, &["ls"]).out.contains("its VM process was killed"));
    let socket = lab.a.directory.join("run/switch.sock");
    eventually("the switch has ended with its last space", || !socket.exists());
}

pub(crate) fn an_interrupt(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    red.start();
    let mut command = lab.a.portspace(&["run", "red", "--", "ping", "192.0.2.20", "-c", "100"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = u64::from(child.id());
    // Before it catches the signal it would die of it.
    eventually("it catches Ctrl-C", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & 2 != 0
    });
    signal("INT", pid);
    eventually("it ends", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(red.run(&["true"]).ok());
}

pub(crate) fn a_full_disk(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    let state = lab.a.directory.join("state");
    std::fs::create_dir_all(&state).unwrap();
    let small = ["-t", "tmpfs", "-o", "size=256k,mode=0700", "small"];
    assert!(Command::new("mount").args(small).arg(&state).status().unwrap().success());
    red.start();
    let ended = red.run_with_input(&["write", "/big"], &[7; 1 << 20]);
    let alive = red.run(&["true"]).ok();
    assert!(run(lab, &["stop", "red"]).ok());
    assert!(Command::new("umount").arg(&state).status().unwrap().success());
    assert!(!ended.ok() && ended.said.contains("/big"), "{:?}", ended);
    assert!(alive, "the space goes on");
}

pub(crate) fn a_closed_pipe(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    red.start();
    let said = unread(lab, &["run", "red", "--", "help"]);
    assert!(!said.contains("panicked"), "{said}");
    assert!(red.run(&["true"]).ok());
}

pub(crate) fn an_unread_listing(lab: &Lab) {
    assert_eq!(unread(lab, &["ls"]), "");
}

/// Runs what must fail because nobody reads its output; what it says.
fn unread(lab: &Lab, arguments: &[&str]) -> String {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = lab.a.portspace(arguments);
    let (mut errors, writes) = std::io::pipe().unwrap();
    let mut child = command.stdout(writer).stderr(writes).spawn().unwrap();
    drop(command);
    eventually("it ends", || child.try_wait().unwrap().is_some());
    let mut said = String::new();
    std::io::Read::read_to_string(&mut errors, &mut said).unwrap();
    assert!(!child.wait().unwrap().success());
    said
}

fn signal(name: &str, pid: u64) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.unwrap().success());
}
