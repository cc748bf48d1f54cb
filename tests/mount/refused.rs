//! What is not mounted, and what a mount process may not do.

use std::fs;
use std::process::Command;

use cli::lab::Lab;
use cli::lab::service::{Ended, finish};
use tests::{PATIENCE, run};

use crate::{Mounts, text, umount};

pub(crate) fn directories(lab: &Lab) {
    let red = Mounts::new(lab);
    let on = |directory: &str| run(lab, &["mount", text(&red.file), directory]);
    says(&on("/not/there"), &["/not/there is not there", "mkdir /not/there"]);
    says(&on("/etc/passwd"), &["/etc/passwd is no directory"]);
    red.must_mount();
    let blue = lab.a.directory.join("blue.toml");
    fs::copy(&red.file, &blue).unwrap();
    let twice = run(lab, &["mount", text(&blue), text(&red.directory)]);
    says(&twice, &["is a mount of a space already", "first: umount"]);
    assert!(!run(lab, &["ls"]).out.contains("blue"), "nothing is left of it");
    // On top of a mount of somebody else there is nothing to be said against it.
    let other = lab.a.directory.join("other");
    fs::create_dir_all(&other).unwrap();
    let tmpfs = ["-t", "tmpfs", "none"];
    assert!(Command::new("mount").args(tmpfs).arg(&other).status().unwrap().success());
    assert!(run(lab, &["mount", text(&blue), text(&other)]).ok());
    assert!(run(lab, &["stop", "blue"]).ok());
    assert!(run(lab, &["rm", "blue"]).ok());
    assert!(umount(&other));
}

pub(crate) fn spaces(lab: &Lab) {
    let red = Mounts::new(lab);
    let directory = text(&red.directory);
    says(&run(lab, &["mount", "red", directory]), &["there is no space red", "FILE.toml"]);
    says(&run(lab, &["mount", "Red", directory]), &["cannot name a space"]);
    says(&run(lab, &["mount", "/nowhere.toml", directory]), &["/nowhere.toml"]);
    fs::write(&red.file, "[files]\nroot = \"relative\"\n").unwrap();
    says(&red.mount(), &["red.toml:2", "[files] root", "is not absolute"]);
    fs::write(&red.file, "[files]\nroot = \"/not/there\"\n").unwrap();
    says(&red.mount(), &["[files] root", "/not/there"]);
    assert!(!run(lab, &["ls"]).out.contains("red"), "nothing is left of it");

    fs::write(&red.file, "[files]\n").unwrap();
    red.must_mount();
    let elsewhere = lab.a.directory.join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    let twice = run(lab, &["mount", "red", text(&elsewhere)]);
    says(&twice, &["red is mounted on", directory, "portspace stop red"]);
    says(&run(lab, &["rm", "red"]), &["red is mounted on", "portspace stop red"]);
    assert!(red.is_there());
}

pub(crate) fn no_device(lab: &Lab) {
    let red = Mounts::new(lab);
    let script = "mount -t tmpfs none /dev && : > /dev/null && exec \"$0\" \"$@\"";
    let mut shell = lab.a.command("unshare");
    let binary = format!("/proc/{}/exe", std::process::id());
    shell.args(["--mount", "sh", "-c", script, &binary, "mount"]).args([&red.file, &red.directory]);
    let ended = finish(&mut shell, PATIENCE).unwrap();
    says(&ended, &["/dev/fuse", "modprobe fuse"]);
    assert!(!run(lab, &["ls"]).out.contains("red"), "nothing is left of it");
}

pub(crate) fn jail(lab: &Lab) {
    let red = Mounts::new(lab);
    red.must_mount();
    let status = fs::read_to_string(format!("/proc/{}/status", red.process())).unwrap();
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.lines().any(|found| found == line), "{line} is in {status}");
    }
    let open = fs::read_dir(format!("/proc/{}/fd", red.process())).unwrap();
    let open = open.map(|fd| fs::read_link(fd.unwrap().path()).unwrap_or_default());
    let sockets = open.filter(|target| target.to_string_lossy().starts_with("socket:")).count();
    // The one at which commands ask it to hold still while its layer is sealed.
    assert_eq!(sockets, 1, "nothing leads to another process but the kernel's connection");
}

fn says(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.status, Some(1), "{}", ended.said);
    words.iter().for_each(|word| assert!(ended.said.contains(word), "{word}: {}", ended.said));
}
