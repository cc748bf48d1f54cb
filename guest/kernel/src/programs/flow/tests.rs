use super::*;
use crate::lab::device::{ALL, Conditions, PLAIN};
use crate::lab::{GUEST, GUEST_V6, Lab, Started};
use smoltcp::socket::tcp::State;
use smoltcp::wire::IpEndpoint;

fn json(output: &str) -> serde_json::Value {
    serde_json::from_str(output).expect("one line of JSON")
}

/// Turns the lab until the program has ended; its status and what it said.
fn end(
    lab: &mut Lab,
    started: &Started,
    mut each: impl FnMut(&mut Lab),
) -> (u8, std::string::String) {
    for _ in 0..200_000 {
        lab.turn();
        each(lab);
        if let Some(outcome) = started.outcome() {
            return (outcome.status, outcome.output + &outcome.errors);
        }
    }
    panic!("it does not end");
}

/// Sends a stream to a peer that answers `less` bytes fewer than came.
fn send_stream(conditions: Conditions, less: u64) -> (u8, std::string::String) {
    let mut lab = Lab::under(conditions);
    let sink = lab.peer.listen(9);
    let started = lab.start("tcp-send 192.0.2.20 9 -b 1000001 --json", b"");
    let (mut came, mut told) = (0, false);
    end(&mut lab, &started, |lab| {
        let socket = lab.peer.socket(sink);
        while socket.can_recv() {
            came += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap() as u64;
        }
        if socket.state() == State::CloseWait && !told {
            socket.send_slice(&(came - less).to_le_bytes()).unwrap();
            socket.close();
            told = true;
        }
    })
}

#[test]
fn a_sender_reports_what_the_receiver_says_came() {
    for offloads in [PLAIN.offloads, ALL] {
        let (status, said) = send_stream(Conditions { offloads, ..PLAIN }, 0);
        let (said, bytes) = (json(&said), 1_000_001);
        assert_eq!((status, said["bytes"].as_u64()), (0, Some(bytes)));
        let rate = bytes as f64 * 8.0 / said["seconds"].as_f64().unwrap();
        assert!((said["bits_per_s"].as_f64().unwrap() / rate - 1.0).abs() < 0.01, "{said}");
    }
}

#[test]
fn a_receiver_that_got_less_is_no_success() {
    let (status, said) = send_stream(PLAIN, 1);
    assert_eq!((status, &said[..]), (1, "192.0.2.20:9: of 1000001 bytes 1000000 came\n"));
}

#[test]
fn a_receiver_answers_how_much_came_and_reports_it() {
    let mut lab = Lab::new();
    let started = lab.start("tcp-receive 9 -1 --json", b"");
    lab.turn();
    let peer = lab.peer.call(9);
    let (mut left, mut answer) = (300_000, Vec::new());
    let (status, said) = end(&mut lab, &started, |lab| {
        let socket = lab.peer.socket(peer);
        if socket.can_send() && left > 0 {
            left -= socket.send_slice(&alloc::vec![7; left]).unwrap();
            if left == 0 {
                socket.close();
            }
        }
    });
    for _ in 0..10 {
        lab.turn();
        let socket = lab.peer.socket(peer);
        if socket.can_recv() {
            socket
                .recv(|bytes| {
                    answer.extend_from_slice(bytes);
                    (bytes.len(), ())
                })
                .unwrap();
        }
    }
    assert_eq!((status, json(&said)["bytes"].as_u64()), (0, Some(300_000)));
    assert_eq!(answer, 300_000_u64.to_le_bytes());
}

#[test]
fn a_sender_of_datagrams_keeps_its_pace_and_sees_what_was_lost() {
    for (host, offloads) in [("192.0.2.20", PLAIN.offloads), ("2001:db8:1::20", ALL)] {
        let mut lab = Lab::under(Conditions { offloads, ..PLAIN });
        let sink = lab.peer.udp(9);
        let line = alloc::format!("udp-send {host} 9 -b 100000 -s 1000 -r 8000000 --json");
        let started = lab.start(&line, b"");
        let mut tally = Tally::default();
        let (status, said) = end(&mut lab, &started, |lab| {
            let socket = lab.peer.udp_socket(sink);
            while let Ok((bytes, from)) = socket.recv().map(|(bytes, from)| (bytes.to_vec(), from))
            {
                let said = Datagram::parse(&bytes).expect("the sender's own");
                if said.kind == Kind::Data && said.number % 10 == 9 {
                    continue;
                }
                if let Some(answer) = tally.take(&said, bytes.len(), 0) {
                    socket.send_slice(&answer.encode(), from.endpoint).unwrap();
                }
            }
        });
        let said = json(&said);
        let figures =
            ["packets", "received", "lost", "late", "bytes"].map(|name| said[name].as_u64());
        assert_eq!((status, figures), (0, [100, 90, 10, 0, 90_000].map(Some)));
        // 800,000 bits at 8 Mbit/s.
        assert!((0.09..0.12).contains(&said["seconds"].as_f64().unwrap()), "{said}");
    }
}

#[test]
fn datagrams_that_do_not_fit_or_have_no_receiver_are_said() {
    let mut lab = Lab::new();
    let outcome = lab.run("udp-send 192.0.2.20 9 -s 1473 -b 1473", b"");
    assert_eq!(outcome.errors, "192.0.2.20:9: a datagram takes at most 1472 bytes there\n");
    let outcome = lab.run("udp-send 2001:db8:1::20 9 -s 1453 -b 1453", b"");
    assert_eq!(outcome.errors, "[2001:db8:1::20]:9: a datagram takes at most 1452 bytes there\n");
    let outcome = lab.run("udp-send 192.0.2.20 9 -b 5000", b"");
    assert_eq!(outcome.errors, "192.0.2.20:9: no receiver answers there\n");
}

#[test]
fn a_receiver_of_datagrams_reports_each_measurement_once() {
    for own in [IpAddr::from(GUEST), GUEST_V6.into()] {
        let mut lab = Lab::new();
        let started = lab.start("udp-receive 9 -1 --json", b"");
        lab.turn();
        let source = lab.peer.udp(50_000);
        let guest = IpEndpoint::new(own.into(), 9);
        let mut reports = Vec::new();
        let mut sent = 0;
        let (status, said) = end(&mut lab, &started, |lab| {
            let socket = lab.peer.udp_socket(source);
            let datagram = if sent < 20 { Datagram::data(3, sent) } else { Datagram::end(3, 20) };
            if sent < 22 {
                socket.send_slice(&datagram.encode(), guest).unwrap();
                sent += 1;
            }
            while let Ok((bytes, _)) = socket.recv() {
                reports.extend(Datagram::parse(bytes));
            }
        });
        assert_eq!((status, json(&said)["received"].as_u64()), (0, Some(20)));
        assert_eq!(reports.len(), 2, "each question is answered");
        assert!(reports.iter().all(|said| (said.kind, said.number) == (Kind::Report, 20)));
    }
}
