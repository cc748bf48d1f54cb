use super::*;
use crate::lab::{Lab, Outcome};
use alloc::string::ToString;
use std::vec;

fn said(output: &str) -> Outcome {
    Outcome { status: 0, output: output.to_string(), errors: String::new() }
}

fn failed(status: u8, errors: &str) -> Outcome {
    Outcome { status, output: String::new(), errors: errors.to_string() }
}

#[test]
fn true_succeeds_false_fails_and_help_names_every_program() {
    let mut lab = Lab::new();
    assert_eq!(lab.run("true", b""), said(""));
    assert_eq!(lab.run("false", b""), failed(1, ""));
    let help = lab.run("help", b"").output;
    assert!(PROGRAMS.iter().all(|(name, ..)| help.contains(name)));
}

#[test]
fn an_unknown_program_is_127_and_names_those_there_are() {
    let outcome = Lab::new().run("emacs", b"");
    assert_eq!(outcome.status, 127);
    assert!(
        outcome.errors.starts_with("emacs: there is no such program; there are blk, cat, echo")
    );
}

#[test]
fn wrong_use_is_2_and_shows_the_right_one() {
    for line in [
        "ping",
        "ping x",
        "ping 192.0.2.20 -c 0",
        "ping 192.0.2.20 -c",
        "rtt 192.0.2.20",
        "rtt 192.0.2.20 7 -n 0",
        "echo",
        "echo 0",
        "echo 70000",
        "fetch",
        "fetch -o x",
        "ls a b",
        "raw",
        "raw 00",
        "raw -g 00 ffffffffffff0200000000010806",
        "tcp-send 192.0.2.20",
        "tcp-send 192.0.2.20 0",
        "tcp-send 192.0.2.20 7 -t -1",
        "tcp-send 192.0.2.20 7 -t NaN",
        "tcp-receive",
        "tcp-receive 0",
        "udp-send 192.0.2.20 7 -s 39",
        "udp-receive x",
        "stat x",
        "blk",
        "blk -d x size",
        "blk spin",
        "blk read 0",
        "blk flush 1",
        "write",
    ] {
        let outcome = Lab::new().run(line, b"");
        assert_eq!(outcome.status, 2, "{line}");
        assert!(outcome.errors.starts_with("usage: "), "{line}: {}", outcome.errors);
    }
}

#[test]
fn ping_counts_answers_and_fails_without_any() {
    let mut lab = Lab::new();
    let outcome = lab.run("ping 192.0.2.20 -c 3 -i 10", b"");
    assert_eq!(outcome.status, 0);
    assert!(outcome.output.ends_with("3 of 3 answered\n"), "{}", outcome.output);
    let outcome = lab.run("ping 198.51.100.1 -c 1", b"");
    assert_eq!(outcome.status, 1);
    assert_eq!(outcome.errors, "198.51.100.1: not reachable from this space\n");
}

#[test]
fn rtt_measures_as_many_round_trips_as_asked_for() {
    let mut lab = Lab::new();
    let outcome = lab.run("rtt 192.0.2.20 7 -n 50 -w 5", b"");
    assert_eq!((outcome.status, outcome.errors), (0, String::new()));
    assert!(outcome.output.starts_with("50 round trips: min "), "{}", outcome.output);
}

#[test]
fn rtt_shows_data_for_programs() {
    let outcome = Lab::new().run("rtt 192.0.2.20 7 -n 3 -w 0 --raw", b"");
    assert_eq!(outcome.output.lines().count(), 3);
    let outcome = Lab::new().run("rtt 192.0.2.20 7 -n 3 -w 0 --json", b"");
    let value: serde_json::Value = serde_json::from_str(&outcome.output).unwrap();
    assert_eq!(value["count"], 3);
    assert!(value["p50_us"].as_f64().unwrap() <= value["p99_us"].as_f64().unwrap());
}

#[test]
fn a_peer_that_falls_silent_ends_rtt_within_its_patience() {
    let mut lab = Lab::new();
    let started = lab.start("rtt 192.0.2.20 7 -n 1000000", b"");
    for _ in 0..500 {
        lab.turn();
    }
    let end = lab.peer.end.clone();
    let mut outcome = None;
    while outcome.is_none() {
        // Nothing reaches the guest any more.
        end.leaving.borrow_mut().clear();
        lab.turn();
        outcome = started.outcome();
    }
    let errors = outcome.expect("it ended").errors;
    assert!(errors.starts_with("192.0.2.20:7: no answer within 5 s, after "), "{errors}");
    assert!(lab.cpu.now_us.get() < 6_000_000);
}

#[test]
fn connecting_to_nobody_ends_in_bounded_time_with_a_sentence() {
    let mut lab = Lab::new();
    let outcome = lab.run("rtt 198.51.100.1 7", b"");
    assert_eq!(outcome, failed(1, "198.51.100.1:7: no answer within 5 s\n"));
    assert!(lab.cpu.now_us.get() < 6_000_000);
    let outcome = lab.run("rtt 192.0.2.20 8", b"");
    assert_eq!(outcome, failed(1, "192.0.2.20:8: connection refused: nobody listens there\n"));
}

#[test]
fn echo_serves_one_peer_and_ends_with_it() {
    let mut lab = Lab::new();
    let started = lab.start("echo 9 -1", b"");
    lab.turn();
    let peer = lab.peer.call(9);
    let (mut asked, mut heard) = (false, std::vec::Vec::new());
    for _ in 0..1000 {
        lab.turn();
        let socket = lab.peer.socket(peer);
        if socket.can_send() && !asked {
            socket.send_slice(b"hello").unwrap();
            asked = true;
        }
        if socket.can_recv() {
            socket
                .recv(|bytes| {
                    heard.extend_from_slice(bytes);
                    (bytes.len(), ())
                })
                .unwrap();
            socket.close();
        }
    }
    assert_eq!(heard, b"hello");
    assert_eq!(started.outcome(), Some(said("listening on 192.0.2.10:9 [2001:db8::10]:9\n")));
}

#[test]
fn a_taken_port_is_said_to_be_taken() {
    let mut lab = Lab::new();
    let _first = lab.start("echo 9", b"");
    lab.turn();
    assert_eq!(lab.run("echo 9", b""), failed(1, "9: somebody listens there already\n"));
}

#[test]
fn fetch_gets_a_file_into_the_file_space() {
    let mut lab = Lab::with_files();
    let body: vec::Vec<u8> = (0..150_000_u32).map(|n| n as u8).collect();
    let head = alloc::format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    lab.peer.answer = Some([head.as_bytes(), &body].concat());
    assert_eq!(lab.run("fetch http://192.0.2.20:7/big -o sub/got", b""), said(""));
    assert!(std::fs::read(lab.root().join("upper/sub/got")).unwrap() == body);
    let wire: vec::Vec<u8> = lab.peer.seen.concat();
    let asked = b"GET /big HTTP/1.1\r\nHost: 192.0.2.20:7\r\n";
    assert!(wire.windows(asked.len()).any(|window| window == asked));
}

#[test]
fn a_failed_fetch_leaves_the_file_as_it_was() {
    let mut lab = Lab::with_files();
    lab.peer.answer = Some(b"HTTP/1.1 404 Not Found\r\n\r\n".to_vec());
    assert_eq!(
        lab.run("fetch http://192.0.2.20:7/x -o hello", b""),
        failed(1, "http://192.0.2.20:7/x: the server says 404 Not Found\n")
    );
    assert_eq!(lab.run("cat hello", b""), said("hello, space\n"));
}

#[test]
fn files_are_listed_shown_and_summed() {
    let mut lab = Lab::with_files();
    assert_eq!(lab.run("ls", b""), said("hello\nlink\nloop\nsub\n"));
    assert_eq!(lab.run("cat hello sub/../link", b""), said("hello, space\nhello, space\n"));
    let long = lab.run("ls -l sub", b"").output;
    assert!(long.starts_with('-') && long.ends_with("      200000 big\n"), "{long}");
    let outcome = lab.run("sha256 sub/big", b"");
    assert_eq!(outcome.output.len(), 64 + "  sub/big\n".len());
}

#[test]
fn a_file_that_stays_the_same_is_read_from_the_server_once() {
    let mut lab = Lab::with_files();
    let mut sum = || {
        let sum = lab.run("sha256 sub/big", b"").output;
        (sum, lab.shelf().asked().matches("Read").count())
    };
    let ((first, reads), (again, fewer)) = (sum(), sum());
    assert_eq!(first, again);
    assert_eq!((reads, fewer), (5, 1), "where a live parent's file ends is asked");
    std::fs::write(lab.root().join("lower/sub/big"), [b'y'; 200_000]).unwrap();
    assert_ne!(lab.run("sha256 sub/big", b"").output, first);
    std::fs::write(lab.root().join("lower/hello"), "longer than before\n").unwrap();
    assert_eq!(lab.run("cat hello", b""), said("longer than before\n"));
    assert_eq!(lab.run("write hello", b"own"), said(""));
    assert_eq!(lab.run("cat hello", b""), said("own"));
}

#[test]
fn sha256_of_nothing_is_the_known_one() {
    let sum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  -\n";
    assert_eq!(Lab::new().run("sha256", b""), said(sum));
}

#[test]
fn standard_input_goes_through_cat_and_into_files() {
    let mut lab = Lab::with_files();
    assert_eq!(lab.run("cat", b"as it is"), said("as it is"));
    assert_eq!(lab.run("write hello", b"new"), said(""));
    assert_eq!(lab.run("cat /hello", b""), said("new"));
    assert_eq!(std::fs::read(lab.root().join("lower/hello")).unwrap(), b"hello, space\n");
}

#[test]
fn files_that_cannot_be_had_are_named_with_the_reason() {
    let mut lab = Lab::with_files();
    let outcome = lab.run("cat gone sub loop hello/x hello", b"");
    assert_eq!(outcome.status, 1);
    assert_eq!(outcome.output, "hello, space\n");
    let lines: vec::Vec<_> = outcome.errors.lines().collect();
    assert_eq!(lines.len(), 4, "{}", outcome.errors);
    assert!(lines[0].starts_with("gone: no such file"), "{}", lines[0]);
    assert!(lines[1].starts_with("sub: is a directory"), "{}", lines[1]);
    let outcome = Lab::new().run("cat hello", b"");
    assert_eq!(outcome, failed(1, "hello: this space has no files\n"));
}

#[test]
fn raw_frames_reach_the_wire_as_they_are() {
    let mut lab = Lab::new();
    let frame =
        "ffffffffffff020000000001080600010800060400010200000000016363636300000000000005050505";
    assert_eq!(lab.run(&alloc::format!("raw {frame}"), b""), said("sent 1\n"));
    let hex = |frame: &vec::Vec<u8>| {
        frame.iter().map(|byte| alloc::format!("{byte:02x}")).collect::<String>()
    };
    assert!(lab.peer.seen.iter().any(|seen| hex(seen) == frame));
}
