//! How a mount ends.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::process::Stdio;

use cli::lab::Lab;
use tests::{eventually, run};

use crate::{Mounts, signal, text, umount};

pub(crate) fn unmounted(lab: &Lab) {
    let red = Mounts::new(lab);
    for round in 0..3 {
        red.must_mount();
        fs::write(red.at(&format!("{round}")), "kept").unwrap();
        let process = format!("/proc/{}/stat", red.process());
        assert!(umount(&red.directory));
        eventually("the mount process has ended", || !is_alive(&process));
    }
    red.must_mount();
    assert_eq!(fs::read_dir(&red.directory).unwrap().count(), 3);
}

pub(crate) fn interrupted(lab: &Lab) {
    let red = Mounts::new(lab);
    for by_user in [true, false] {
        let mut command =
            lab.a.portspace(&["mount", text(&red.file), text(&red.directory), "--foreground"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("Ctrl-C ends it"), "{line}");
        fs::write(red.at("file"), "kept").unwrap();
        match by_user {
            true => signal("INT", child.id().into()),
            false => assert!(umount(&red.directory)),
        }
        eventually("the command has ended", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(!red.is_there());
        assert_eq!(fs::read_to_string(red.upper("file")).unwrap(), "kept");
    }
}

pub(crate) fn stopped(lab: &Lab) {
    let red = Mounts::new(lab);
    fs::write(red.lower.join("file"), vec![1; 1 << 20]).unwrap();
    red.must_mount();
    let mut file = File::open(red.at("file")).unwrap();
    let busy = umount(&red.directory);
    assert!(!busy && red.is_there(), "who uses it keeps umount from ending it");
    let stop = run(lab, &["stop", "red"]);
    assert!(stop.ok() && stop.out.contains("no longer mounted"), "{}", stop.why());
    assert!(!red.is_there());
    let read = file.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(read.kind(), ErrorKind::NotConnected);
    assert!(run(lab, &["rm", "red"]).ok());
}

pub(crate) fn killed(lab: &Lab) {
    let red = Mounts::new(lab);
    red.must_mount();
    fs::write(red.at("file"), "kept").unwrap();
    signal("KILL", red.process());
    let not_connected =
        || fs::metadata(&red.directory).is_err_and(|e| e.kind() == ErrorKind::NotConnected);
    eventually("there is nobody to ask", not_connected);
    assert!(!run(lab, &["rm", "red"]).ok(), "what is mounted is not removed");
    // What is left of the mount is of no use to anybody.
    red.must_mount();
    assert_eq!(fs::read_to_string(red.at("file")).unwrap(), "kept");
    signal("KILL", red.process());
    eventually("there is nobody to ask", not_connected);
    assert!(run(lab, &["stop", "red"]).ok(), "stop removes what is left of it");
    assert!(!red.is_there());
}

/// Whether a process is there and no zombie: in the lab nobody waits for orphans.
fn is_alive(stat: &str) -> bool {
    let stat = fs::read_to_string(stat).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
