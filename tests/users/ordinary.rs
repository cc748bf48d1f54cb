//! A user who is not root and has no capability.
//!
//! The user is uid 1000 of a user namespace, mapped to whoever runs the tests: no
//! device's permissions are changed, and only what that user may open is opened.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use cli::lab::service::{Ended, finish};
use cli::lab::{Lab, Peer};
use switch::overlay::Cipher;
use tests::{PATIENCE, Space, run};

/// A command of the ordinary user, on A.
fn ordinary(lab: &Lab, arguments: &[&str]) -> Command {
    // /proc/self/exe would be unshare's own, and that of a process outside the user
    // namespace is not to be seen in it.
    let binary = lab.a.directory.join("portspace");
    if !binary.exists() {
        std::fs::copy("/proc/self/exe", &binary).unwrap();
    }
    let mut command = lab.a.command("unshare");
    command.args(["--user", "--map-user=1000", "--map-group=1000"]).arg(binary);
    command.args(arguments);
    command
}

fn as_user(lab: &Lab, arguments: &[&str]) -> Ended {
    finish(&mut ordinary(lab, arguments), PATIENCE).unwrap()
}

pub(crate) fn a_space_lives(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::AesCbc256, None);
    let file = red.file.to_str().unwrap();
    let up = as_user(lab, &["up", file]);
    assert!(up.ok(), "{}", up.why());
    let status = format!("/proc/{}/status", red.inspect()["vm"]["pid"]);
    let status = std::fs::read_to_string(status).unwrap();
    assert!(status.contains("CapEff:\t0000000000000000"), "the VM process has no capability");

    assert!(as_user(lab, &["ls"]).out.contains("running"));
    let input = lab.a.directory.join("input");
    std::fs::write(&input, "an ordinary user's").unwrap();
    let mut write = ordinary(lab, &["run", "red", "--", "write", "/said"]);
    write.stdin(Stdio::from(std::fs::File::open(&input).unwrap()));
    assert!(finish(&mut write, PATIENCE).unwrap().ok());
    assert_eq!(as_user(lab, &["run", "red", "--", "cat", "/said"]).out, "an ordinary user's");
    assert_eq!(as_user(lab, &["run", "red", "--", "false"]).status, Some(1));
    assert_eq!(as_user(lab, &["run", "red", "--", "emacs"]).status, Some(127));
    let up = as_user(lab, &["up", file]);
    assert!(!up.ok() && up.said.contains("red is already running"), "{}", up.said);
    assert!(as_user(lab, &["stop", "red"]).ok());
    let stop = as_user(lab, &["stop", "red"]);
    assert!(!stop.ok() && stop.said.contains("red is stopped"), "{}", stop.said);
    assert!(as_user(lab, &["rm", "red"]).ok());
    assert!(!as_user(lab, &["ls"]).out.contains("red"));
}

pub(crate) fn no_right(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    // The kernel opens no device on a mount with nodev, as if the user had no right to it.
    let script = "mount --bind /dev/kvm /dev/kvm && mount -o remount,bind,nodev /dev/kvm \
                  && exec \"$0\" up \"$1\"";
    let binary = format!("/proc/{}/exe", std::process::id());
    let mut shell = lab.a.command("unshare");
    shell.args(["--mount", "sh", "-c", script, &binary]).arg(&red.file);
    let ended = finish(&mut shell, PATIENCE).unwrap();
    assert_eq!(ended.status, Some(1), "{}", ended.said);
    assert!(ended.said.contains("/dev/kvm") && ended.said.contains("kvm $USER"), "{}", ended.said);
    assert!(!run(lab, &["ls"]).out.contains("red"), "nothing is left of it");
}

pub(crate) fn open_directories(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    let open = lab.a.directory.join("open");
    std::fs::create_dir_all(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
    for variable in ["PORTSPACE_RUNTIME_DIR", "PORTSPACE_STATE_DIR"] {
        let mut up = lab.a.portspace(&["up", red.file.to_str().unwrap()]);
        let ended = finish(up.env(variable, &open), PATIENCE).unwrap();
        assert_eq!(ended.status, Some(1));
        assert!(ended.said.contains("chmod 700"), "{}", ended.said);
    }
    assert_eq!(std::fs::read_dir(&open).unwrap().count(), 0, "nothing is put there");
}
