//! What one does with spaces.

use cli::lab::service::Service;
use cli::lab::{Lab, Peer};
use switch::overlay::Cipher;
use tests::{Space, run};

pub(crate) fn a_space_lives(lab: &Lab) {
    let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc256, None);
    assert!(run(lab, &["ls"]).out.contains("red"));
    assert!(red.run(&["true"]).ok());
    assert_eq!(red.run(&["false"]).status, Some(1));
    assert!(red.run_with_input(&["write", "/said"], b"through stdin").ok());
    assert_eq!(red.run(&["cat", "/said"]).out, "through stdin");
    let unknown = red.run(&["emacs"]);
    assert_eq!(unknown.status, Some(127));
    assert!(unknown.said.contains("there is no such program"), "{}", unknown.said);

    let again = run(lab, &["up", red.file.to_str().unwrap()]);
    assert!(!again.ok() && again.said.contains("red"), "{}", again.said);
    assert!(run(lab, &["stop", "red"]).ok());
    let stopped = red.run(&["true"]);
    assert!(!stopped.ok() && stopped.said.contains("red"), "{}", stopped.said);
    red.start();
    assert_eq!(red.run(&["cat", "/said"]).out, "through stdin", "files outlive the machine");
    assert!(run(lab, &["stop", "red"]).ok());
    assert!(run(lab, &["rm", "red"]).ok());
    assert!(!run(lab, &["ls"]).out.contains("red"));
}

pub(crate) fn two_spaces(lab: &Lab) {
    let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc256, None);
    let blue = Space::up(lab, "blue", Peer::C, Cipher::Null, None);
    let mut echoes = Vec::new();
    for host in [&lab.a, lab.peer(Peer::B), lab.peer(Peer::C)] {
        let address = format!("{}:7", host.address);
        let echo = host.portspace(&["tool", "echo", &address]);
        let mut echo = Service::start(host, "echo server", echo).unwrap();
        echo.answers(host, address.parse().unwrap()).unwrap();
        echoes.push(echo);
    }
    let reaches = |space: &Space<'_>, host: &str| space.run(&["rtt", host, "7", "-n", "3"]).ok();
    assert!(reaches(&red, "192.0.2.20") && reaches(&blue, "192.0.2.30"));
    assert!(!reaches(&red, "192.0.2.30") && !reaches(&blue, "192.0.2.20"));
    assert!(!reaches(&red, "192.0.2.10") && !reaches(&blue, "192.0.2.10"));
}

pub(crate) fn files(lab: &Lab) {
    let parent = lab.a.directory.join("parent");
    std::fs::create_dir_all(&parent).unwrap();
    std::fs::write(parent.join("notes"), "the parent's").unwrap();
    let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc128, Some(&parent));
    assert_eq!(red.run(&["cat", "/notes"]).out, "the parent's");
    assert!(red.run_with_input(&["write", "/notes"], b"red's").ok());
    assert!(red.run_with_input(&["write", "/new"], b"new").ok());
    assert_eq!(red.run(&["cat", "/notes"]).out, "red's");
    assert_eq!(std::fs::read_to_string(parent.join("notes")).unwrap(), "the parent's");
    assert_eq!(std::fs::read_dir(&parent).unwrap().count(), 1);
    let upper = red.inspect()["upper"].as_str().unwrap().to_owned();
    assert_eq!(std::fs::read_to_string(format!("{upper}/notes")).unwrap(), "red's");
    assert_eq!(std::fs::read_to_string(format!("{upper}/new")).unwrap(), "new");
}
