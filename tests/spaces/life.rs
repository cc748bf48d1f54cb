//! What one does with spaces.

use std::net::TcpStream;
use std::time::Duration;

use cli::lab::{A, Lab, Peer};
use serde_json::Value;
use switch::frame::SWITCH;
use switch::overlay::Cipher;
use tests::{Space, echo_server, eventually, in_hex, run};

use crate::frames::{ethernet, ip, tcp_syn};

pub(crate) fn a_space_lives(lab: &Lab) {
    let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc256, None);
    let listed = run(lab, &["ls", "--json"]);
    let listed: Value = serde_json::from_str(&listed.out).unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["state"]), (&"red".into(), &"running".into()));
    let inspected = red.inspect();
    assert_eq!(
        (&inspected["address"], &inspected["switch"]["running"]),
        (&"192.0.2.10".into(), &true.into())
    );
    assert!(inspected["vm"]["vm_kib"].as_u64().unwrap() > 0);

    assert!(red.run(&["true"]).ok());
    assert_eq!(red.run(&["false"]).status, Some(1));
    assert!(red.run_with_input(&["write", "/said"], b"through stdin").ok());
    assert_eq!(red.run(&["cat", "/said"]).out, "through stdin");
    assert_eq!(red.run_with_input(&["cat"], b"and back").out, "and back");
    let unknown = red.run(&["emacs"]);
    assert_eq!(unknown.status, Some(127));
    assert!(unknown.said.contains("there is no such program"), "{}", unknown.said);

    let again = run(lab, &["up", red.file.to_str().unwrap()]);
    assert_eq!(again.status, Some(1));
    assert!(again.said.contains("space red is already running"), "{}", again.said);
    assert!(run(lab, &["stop", "red"]).ok());
    let stopped = run(lab, &["stop", "red"]);
    assert_eq!(stopped.status, Some(1));
    assert!(stopped.said.contains("space red is stopped"), "{}", stopped.said);
    let stopped = red.run(&["true"]);
    assert!(!stopped.ok() && stopped.said.contains("space red is stopped"), "{}", stopped.said);
    red.start();
    assert_eq!(red.run(&["cat", "/said"]).out, "through stdin", "files outlive the machine");
    assert!(run(lab, &["stop", "red"]).ok());
    assert!(run(lab, &["rm", "red"]).ok());
    assert!(!run(lab, &["ls"]).out.contains("red"));
}

pub(crate) fn two_spaces(lab: &Lab) {
    let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc256, None);
    let blue = Space::up(lab, "blue", Peer::C, Cipher::Null, None);
    let _echoes = [&lab.a, lab.peer(Peer::B), lab.peer(Peer::C)].map(echo_server);
    let reaches = |space: &Space<'_>, host: &str| space.run(&["rtt", host, "7", "-n", "3"]).ok();
    assert!(reaches(&red, "192.0.2.20") && reaches(&blue, "192.0.2.30"));
    assert!(!reaches(&red, "192.0.2.30") && !reaches(&blue, "192.0.2.20"));
    assert!(!reaches(&red, "192.0.2.10") && !reaches(&blue, "192.0.2.10"));
    // The guest's own stack may have refused that: a frame past it does not get further.
    for space in [&red, &blue] {
        let before = space.dropped("policy");
        let syn = ethernet(SWITCH, space.switch().mac, 0x0800, &ip(A, A, 6, &tcp_syn()));
        assert!(space.run(&["raw", &in_hex(&syn)]).ok());
        eventually("the switch drops it", || space.dropped("policy") == before + 1);
    }
    let own = lab.a.run(|| TcpStream::connect_timeout(&(A, 7).into(), Duration::from_secs(5)));
    assert!(own.unwrap().is_ok(), "A itself reaches its service");
}

pub(crate) fn a_flood(lab: &Lab) {
    let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc256, None);
    let blue = Space::up(lab, "blue", Peer::C, Cipher::Null, None);
    let _echo = echo_server(lab.peer(Peer::B));
    let frame = in_hex(&ethernet(SWITCH, blue.switch().mac, 0x0800, &ip(A, A, 6, &tcp_syn())));
    let flood = [vec!["raw"], vec![frame.as_str(); 400]].concat();
    let done = std::sync::atomic::AtomicBool::new(false);
    let trip = std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Acquire) {
                    blue.run(&flood);
                    blue.run(&["ping", "192.0.2.30", "-c", "500", "-i", "0"]);
                }
            });
        }
        let _done = crate::wire::Raise(&done);
        eventually("the flood has begun", || blue.dropped("policy") > 1000);
        let before = (blue.dropped("policy"), blue.switch().pairs[0].outbound.packets);
        let trip = red.run(&["rtt", "192.0.2.20", "7", "-n", "2000"]);
        eventually("the flood went on", || {
            blue.dropped("policy") > before.0 && blue.switch().pairs[0].outbound.packets > before.1
        });
        trip
    });
    assert!(trip.ok(), "{}", trip.why());
}
