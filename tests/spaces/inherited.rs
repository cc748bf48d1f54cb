//! Files that whoever starts a run has open go on inside.

use std::fs;
use std::path::Path;
use std::process::Command;

use cli::lab::service::{Ended, finish};
use cli::lab::{Lab, Peer};
use switch::overlay::Cipher;
use tests::{PATIENCE, Space};

/// A shell line on A, `RUN` being portspace's run of red's.
fn shell(lab: &Lab, directory: &Path, line: &str) -> Ended {
    let environment = lab.a.portspace(&[]);
    let mut shell: Command = lab.a.command("sh");
    for (name, value) in environment.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    let exe = std::env::current_exe().unwrap();
    let line = line.replace("RUN", &format!("{} run red", exe.display()));
    finish(shell.current_dir(directory).args(["-c", &line]), PATIENCE).unwrap()
}

pub(crate) fn go_on(lab: &Lab) {
    let parent = lab.a.directory.join("parent");
    fs::create_dir_all(&parent).unwrap();
    fs::write(parent.join("lines"), "one\ntwo\nthree\n").unwrap();
    fs::write(parent.join("log"), "first\n").unwrap();
    fs::write(lab.a.directory.join("elsewhere"), "not inside").unwrap();
    let red = Space::configure(lab, "red", Peer::B, Cipher::AesCbc128, Some(&parent));
    red.start();
    let shell = |line: &str| shell(lab, &parent, line);

    // A line of bash would be read byte by byte as well: sh reads no further than it uses.
    let ended = shell("exec 3<lines; read -r line <&3; RUN -- cat /dev/fd/3");
    assert_eq!(ended.out, "two\nthree\n", "{}", ended.why());
    let ended = shell("exec 5<>lines; read -r line <&5; echo 2nd | RUN -- write /dev/fd/5");
    assert!(ended.ok(), "{}", ended.why());
    assert_eq!(red.run(&["cat", "/lines"]).out, "one\n2nd\nthree\n");
    let ended = shell("exec 4>>log; echo inside | RUN -- write /dev/fd/4; echo outside >&4");
    assert!(ended.ok(), "{}", ended.why());
    assert_eq!(red.run(&["cat", "/log"]).out, "first\ninside\n");
    assert_eq!(fs::read_to_string(parent.join("lines")).unwrap(), "one\ntwo\nthree\n");
    assert_eq!(fs::read_to_string(parent.join("log")).unwrap(), "first\noutside\n");
    // It is the space's own view: its own lines from the same place on.
    let ended = shell("exec 3<lines; read -r line <&3; RUN -- cat /dev/fd/3");
    assert_eq!(ended.out, "2nd\nthree\n", "{}", ended.why());

    let ended = shell("exec 3<lines; echo no | RUN -- write /dev/fd/3");
    assert!(!ended.ok() && ended.said.contains("/dev/fd/3"), "{}", ended.why());
    // What is not below the root stays outside, and standard input is a stream as ever.
    let ended = shell("exec 3<../elsewhere; RUN -- cat <lines");
    assert_eq!(ended.out, "one\ntwo\nthree\n", "{}", ended.why());
    let ended = shell("exec 3<../elsewhere; RUN -- cat /dev/fd/3");
    assert!(!ended.ok(), "it is not there");
}

pub(crate) fn cannot(lab: &Lab) {
    let parent = lab.a.directory.join("parent");
    fs::create_dir_all(&parent).unwrap();
    for name in ["kept", "gone"] {
        fs::write(parent.join(name), "text").unwrap();
    }
    let red = Space::configure(lab, "red", Peer::B, Cipher::AesCbc128, Some(&parent));
    let file = fs::read_to_string(&red.file).unwrap();
    let mask = format!("[files]\nmask = [{:?}]", parent.join("secret"));
    let masked = file.replace("[files]", &mask);
    assert_ne!(file, masked);
    fs::write(&red.file, masked).unwrap();
    fs::write(parent.join("secret"), "text").unwrap();
    red.start();
    let shell = |line: &str| shell(lab, &parent, line);
    let ended = shell("exec 3<secret; echo ran | RUN -- write /ran");
    assert_eq!(ended.status, Some(126), "{}", ended.why());
    assert!(
        ended.said.contains("descriptor 3, /secret: no such file") && ended.said.contains("3<&-"),
        "{}",
        ended.said
    );
    let ended = shell("exec 3<gone; rm gone; echo ran | RUN -- write /ran");
    assert!(!ended.ok() && ended.said.contains("descriptor 3 is a removed file"), "{}", ended.said);
    assert!(!red.run(&["cat", "/ran"]).ok(), "nothing was run");
    let ended = shell("exec 3<secret; RUN --no-files -- cat /kept");
    assert_eq!(ended.out, "text", "{}", ended.why());
}
