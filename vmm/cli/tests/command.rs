//! The command as a user meets it: one sentence, an exit status, nothing left behind.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn portspace(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portspace"))
        .args(arguments)
        .env("PORTSPACE_RUNTIME_DIR", home.join("run"))
        .env("PORTSPACE_STATE_DIR", home.join("state"))
        .output()
        .expect("the binary was built for this test")
}

fn sentence(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn wrong_usage_is_status_2() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(portspace(home.path(), &["frobnicate"]).status.code(), Some(2));
    assert_eq!(portspace(home.path(), &["stop", "../x"]).status.code(), Some(2));
}

#[test]
fn a_mistake_in_a_file_is_one_sentence_with_its_line() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("red.toml");
    fs::write(&file, "[overlay]\nlocal = \"192.0.2.10\"\npeer = 5\n").unwrap();
    for command in ["up", "bare"] {
        let output = portspace(home.path(), &[command, &file.to_string_lossy()]);
        let text = sentence(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.starts_with("portspace: ") && text.contains("red.toml:3: [overlay] peer"));
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    assert!(!home.path().join("state/spaces/red").exists());
}

#[test]
fn what_is_not_there_is_named() {
    let home = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 4] =
        [&["run", "red", "--", "ls"], &["stop", "red"], &["rm", "red"], &["inspect", "red"]];
    for command in commands {
        let output = portspace(home.path(), command);
        assert_eq!(output.status.code(), Some(1));
        assert!(sentence(&output).contains("there is no space red"), "{}", sentence(&output));
    }
}

#[test]
fn a_space_that_a_killed_process_left_behind_is_listed_as_stopped_and_can_be_removed() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path();
    assert!(portspace(path, &["ls"]).status.success());
    let space = path.join("run/spaces/red");
    fs::create_dir_all(&space).unwrap();
    fs::create_dir_all(path.join("state/spaces/red/own/upper")).unwrap();
    for left in ["vm.sock", "vm.lock", "state.json"] {
        fs::write(space.join(left), "{}").unwrap();
    }
    fs::write(space.join("vm.log"), "portspace: the guest failed\n").unwrap();
    let listed = portspace(path, &["ls", "--json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed[0]["name"], "red");
    assert_eq!(listed[0]["state"], "stopped");
    let run = portspace(path, &["run", "red", "--", "ls"]);
    assert!(sentence(&run).contains("ended by itself (the guest failed)"), "{}", sentence(&run));
    assert!(portspace(path, &["rm", "red"]).status.success());
    assert!(!space.exists() && !path.join("state/spaces/red").exists());
}

#[test]
fn the_doctor_says_in_words_what_will_work() {
    let home = tempfile::tempdir().unwrap();
    let output = portspace(home.path(), &["doctor", "--json"]);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = found["findings"].as_array().unwrap();
    let kvm = findings.iter().find(|finding| finding["name"] == "kvm").unwrap();
    assert_eq!(output.status.success(), kvm["ok"].as_bool().unwrap());
    assert!(!found["conclusions"].as_array().unwrap().is_empty());
}
