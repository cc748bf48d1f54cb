//! Two spaces of this host that are bound to each other: all of it stays in the switch.

use cli::lab::capture::Counts;
use cli::lab::service::Service;
use cli::lab::{A, Lab, Peer};
use serde_json::Value;
use switch::frame::SWITCH;
use tests::{Space, eventually, in_hex};

use crate::frames::{IPV4, UDP, ethernet, ip, udp};
use crate::wire::{Case, Fate, captured, judge};

/// The alias addresses under which the two see each other; both have the host's as their own.
const RED: [u8; 4] = [192, 0, 2, 101];
const BLUE: [u8; 4] = [192, 0, 2, 102];

/// Ports at which blue does not want to be asked.
const CLOSED: u16 = 8000;

pub(crate) fn two_bound_spaces(lab: &Lab) {
    let counts = captured(lab, 4500, || {
        let red = up(lab, "red", BLUE, [0x5001, 0x5002], "");
        let policy = "[[overlay.policy]]\naction = \"discard\"\nprotocol = \"udp\"\n\
                      local_ports = \"8000-8100\"\n";
        let blue = up(lab, "blue", RED, [0x5002, 0x5001], policy);
        they_talk(lab, &red, &blue);
        policies_hold(&red, &blue);
        assert!(red.run(&["ping", "192.0.2.102", "-c", "1"]).ok(), "they still talk");
    });
    assert_eq!(counts, Counts::default(), "nothing is on any wire");
}

/// A space bound to the one that it sees as `peer`, by the SPIs in and out.
fn up<'a>(
    lab: &'a Lab,
    name: &'static str,
    peer: [u8; 4],
    [inbound, outbound]: [u32; 2],
    further: &str,
) -> Space<'a> {
    let space = Space::named(lab, name, Peer::B);
    let peer = std::net::Ipv4Addr::from(peer);
    let text = format!(
        "[overlay]\nlocal = \"{A}\"\npeer = \"{peer}\"\nencapsulation = \"local\"\n\
         [overlay.manual]\nin = {{ spi = {inbound} }}\nout = {{ spi = {outbound} }}\n{further}"
    );
    std::fs::write(&space.file, text).unwrap();
    space.start();
    space
}

/// Echoes both ways, and a stream in long segments.
fn they_talk(lab: &Lab, red: &Space<'_>, blue: &Space<'_>) {
    for (from, to) in [(red, "192.0.2.102"), (blue, "192.0.2.101")] {
        assert!(from.run(&["ping", to, "-c", "2"]).ok(), "{to} answers");
    }
    // A space asks for its peer when it starts, and the other one was not there yet.
    let early = red.strays().get("unknown_spi").copied().unwrap_or(0);
    let receiver = lab.a.portspace(&["run", blue.name, "--", "tcp-receive", "7"]);
    let receiver = Service::start(&lab.a, "tcp-receive", receiver).unwrap();
    eventually("a stream arrives whole", || {
        let sent = red.run(&["tcp-send", "192.0.2.102", "7", "-b", "2000000", "--json"]);
        let bytes = serde_json::from_str(&sent.out).map(|said: Value| said["bytes"].clone());
        sent.ok() && bytes.is_ok_and(|bytes| bytes == 2_000_000)
    });
    drop(receiver);
    let passed = |space: &Space<'_>| {
        let pair = space.switch().pairs.remove(0);
        (pair.outbound.packets, pair.inbound.packets)
    };
    eventually("what the one sends the other gets", || {
        let ((red_out, red_in), (blue_out, blue_in)) = (passed(red), passed(blue));
        red_out > 1000 && (red_out, blue_out) == (blue_in + early, red_in)
    });
}

/// Each end's policies are asked, the sender's before and the receiver's after.
fn policies_hold(red: &Space<'_>, blue: &Space<'_>) {
    let mac = red.switch().mac;
    let to = |destination: [u8; 4], port: u16| {
        let datagram = udp(1000, port, b"between spaces");
        ethernet(SWITCH, mac, IPV4, &ip(A, destination.into(), UDP, &datagram))
    };
    let prohibited = blue.dropped("policy");
    judge(
        red,
        vec![
            Case::dropped("the alias of its own", to(RED, 7), "policy"),
            Case::dropped("a peer on the wire", to(Peer::B.address().octets(), 7), "policy"),
            Case::dropped("the host itself", to(A.octets(), 7), "policy"),
            Case::new("what the other end wants", to(BLUE, 7), Fate::Sealed(1)),
            Case::new("what it does not", to(BLUE, CLOSED), Fate::Sealed(1)),
            Case::new("nor this", to(BLUE, CLOSED + 100), Fate::Sealed(1)),
        ],
    );
    eventually("the receiver has discarded it", || blue.dropped("policy") == prohibited + 2);
    let mac = blue.switch().mac;
    let answer = ip(A, RED.into(), UDP, &udp(CLOSED, 1000, b"not even an answer"));
    let answer = ethernet(SWITCH, mac, IPV4, &answer);
    judge(blue, vec![Case::dropped("from there", answer, "policy")]);
    assert!(blue.run(&["raw", &in_hex(&to(RED, 7))]).ok());
    eventually("nor in the other's name", || blue.dropped("foreign_mac") == 1);
}
