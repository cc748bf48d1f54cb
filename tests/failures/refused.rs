//! What never starts.

use std::path::Path;

use cli::lab::service::finish;
use cli::lab::{Lab, Peer};
use switch::overlay::Cipher;
use tests::{PATIENCE, Space, run};

/// Runs `up` on the file's text after a replacement; the sentence it ends with.
fn changed(lab: &Lab, from: &str, to: &str) -> String {
    let red = Space::configure(lab, "red", Peer::B, Cipher::AesCbc128, None);
    let text = std::fs::read_to_string(&red.file).unwrap();
    assert!(text.contains(from), "{from} is in the file");
    std::fs::write(&red.file, text.replacen(from, to, 1)).unwrap();
    refused(lab, &["up", red.file.to_str().unwrap()])
}

/// Runs what must fail; its only sentence. Nothing is left of it.
fn refused(lab: &Lab, arguments: &[&str]) -> String {
    let ended = run(lab, arguments);
    assert_eq!(ended.status, Some(1), "{}", ended.said);
    assert!(!run(lab, &["ls"]).out.contains("red"), "nothing is left of it");
    ended.said
}

fn names(sentence: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(sentence.contains(word), "{word} is in: {sentence}"));
}

pub(crate) fn a_missing_file(lab: &Lab) {
    names(&refused(lab, &["up", "/nowhere.toml"]), &["/nowhere.toml", "readable TOML file"]);
    names(&refused(lab, &["bare", "/nowhere.toml"]), &["/nowhere.toml", "readable TOML file"]);
}

pub(crate) fn mistakes(lab: &Lab) {
    let memory = |size| changed(lab, "[overlay]", &format!("[space]\nmemory = {size}\n[overlay]"));
    names(&memory("\"1M\""), &["red.toml:", "[space] memory", "16M to 3G"]);
    names(&memory("\"64G\""), &["red.toml:", "[space] memory", "16M to 3G"]);
    names(&memory("64"), &["red.toml:", "[space] memory"]);
    names(&changed(lab, "192.0.2.20", "192.0.2.10"), &["[overlay] peer", "name the other end"]);
    names(&changed(lab, "aes-cbc-128", "null"), &["red.toml:", "cipher_key", "contradicts"]);
    names(&changed(lab, "aes-cbc-128", "rot13"), &["red.toml:", "cipher"]);
}

pub(crate) fn a_foreign_address(lab: &Lab) {
    names(&changed(lab, "192.0.2.10", "198.51.100.1"), &["198.51.100.1"]);
}

pub(crate) fn no_route(lab: &Lab) {
    names(&changed(lab, "192.0.2.20", "198.51.100.9"), &["no route", "198.51.100.9"]);
}

pub(crate) fn a_missing_root(lab: &Lab) {
    let to = "[files]\nroot = \"/not/there\"\n[overlay]";
    names(&changed(lab, "[overlay]", to), &["red.toml", "[files] root", "/not/there"]);
}

pub(crate) fn no_such_space(lab: &Lab) {
    names(&refused(lab, &["run", "red", "--", "true"]), &["there is no space red"]);
    names(&refused(lab, &["stop", "red"]), &["there is no space red"]);
    names(&refused(lab, &["rm", "red"]), &["there is no space red"]);
}

pub(crate) fn no_kvm(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    names(&without(lab, "up", &red.file), &["/dev/kvm"]);
    assert!(!run(lab, &["ls"]).out.contains("red"), "nothing is left of it");
}

pub(crate) fn no_tun(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    names(&without(lab, "bare", &red.file), &["/dev/net/tun"]);
}

/// Runs a command where /dev has nothing but null.
fn without(lab: &Lab, command: &str, file: &Path) -> String {
    let script = "mount -t tmpfs none /dev && : > /dev/null && exec \"$0\" \"$@\"";
    let mut shell = lab.a.command("unshare");
    // The binary's own path may be hidden by the lab's file system.
    let binary = format!("/proc/{}/exe", std::process::id());
    shell.args(["--mount", "sh", "-c", script, &binary, command]).arg(file);
    let ended = finish(&mut shell, PATIENCE).unwrap();
    assert_eq!(ended.status, Some(1), "{}", ended.said);
    ended.said
}
