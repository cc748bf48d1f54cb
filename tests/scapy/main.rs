//! ESP against scapy, an implementation nobody here wrote: every algorithm, both
//! directions, both families and sequence numbers of both lengths, transport and
//! tunnel mode, with UDP encapsulation and without.

mod peer;

use std::ffi::OsString;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use esp::ip::{Header, Mode, Packet, V4_HEADER};
use esp::natt::{Datagram, classify};
use esp::{Discard, Flow, InboundSa, Keys, OutboundSa, Parameters, Spi, Suite};
use libtest_mimic::{Arguments, Completion, Trial};

use crate::peer::{Family, Peer, Sa, Wrapping};

/// A protocol number for experiments (RFC 3692): scapy leaves its payload alone.
const OPAQUE: u8 = 253;

/// Every way around the cipher's blocks, and the sizes of real packets.
const LENGTHS: [usize; 26] = [
    0, 1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 14, 15, 16, 17, 29, 30, 31, 32, 64, 255, 256, 512, 1400,
    1452, 8192,
];

/// How far apart 64-bit sequence numbers are: eight packets pass the half that is not sent.
const STEP: u64 = 1 << 29;

const RAW: Wrapping = Wrapping { udp: false, outer: Family::V4, tunnel: None };

/// The ways of IPv4, which every suite goes.
const WRAPPINGS: [(&str, Wrapping); 4] = [
    ("in UDP, transport mode", Wrapping { udp: true, ..RAW }),
    ("in UDP, tunnel mode", Wrapping { udp: true, tunnel: Some(Family::V4), ..RAW }),
    ("raw, transport mode", RAW),
    ("raw, tunnel mode", Wrapping { tunnel: Some(Family::V4), ..RAW }),
];

/// The ways of IPv6; to a suite they are the same.
const WRAPPINGS_V6: [(&str, Wrapping); 5] = [
    ("raw, transport mode, IPv6", Wrapping { outer: Family::V6, ..RAW }),
    ("in UDP, transport mode, IPv6", Wrapping { outer: Family::V6, udp: true, ..RAW }),
    ("raw, IPv6 in IPv6", Wrapping { outer: Family::V6, tunnel: Some(Family::V6), ..RAW }),
    ("raw, IPv6 in IPv4", Wrapping { tunnel: Some(Family::V6), ..RAW }),
    ("raw, IPv4 in IPv6", Wrapping { outer: Family::V6, tunnel: Some(Family::V4), ..RAW }),
];

/// The suites that go those.
const SUITES_V6: [&str; 2] = ["aes-cbc-256+hmac-sha256", "aes-gcm-256"];

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let python = Python::default();
    let mut trial = |name: String, test: Test| trials.push(self::trial(name, &python, test));
    for suite in Suite::ALL {
        let more = if SUITES_V6.contains(&suite.name()) { &WRAPPINGS_V6[..] } else { &[] };
        let ways = WRAPPINGS.iter().chain(more).map(|way| (*way, false));
        for ((words, wrapping), esn) in ways.chain([(("raw, ESN", RAW), true)]) {
            trial(
                format!("scapy opens what we seal: {suite}, {words}"),
                Box::new(move |peer| scapy_opens_what_we_seal(peer, &sa(suite, esn), wrapping)),
            );
            trial(
                format!("we open what scapy seals: {suite}, {words}"),
                Box::new(move |peer| we_open_what_scapy_seals(peer, &sa(suite, esn), wrapping)),
            );
        }
        trial(
            format!("neither opens what was changed: {suite}"),
            Box::new(move |peer| neither_opens_what_was_changed(peer, &sa(suite, false))),
        );
    }
    libtest_mimic::run(&arguments, trials).exit();
}

type Test = Box<dyn FnOnce(&mut Peer) + Send>;

/// The interpreter, looked for by the first test that runs.
type Python = Arc<OnceLock<Result<OsString, String>>>;

fn trial(name: String, python: &Python, test: Test) -> Trial {
    let python = Arc::clone(python);
    Trial::ignorable_test(name, move || match python.get_or_init(peer::interpreter) {
        Ok(python) => {
            test(&mut Peer::start(python));
            Ok(Completion::Completed)
        }
        Err(missing) => Ok(Completion::ignored_with(missing)),
    })
}

fn scapy_opens_what_we_seal(peer: &mut Peer, sa: &Sa, wrapping: Wrapping) {
    let [here, there] = wrapping.tunnel.unwrap_or(wrapping.outer).ends();
    let mut outbound = OutboundSa::new(sa.spi, keys(sa), [7; 16], parameters(sa));
    for len in LENGTHS {
        let inner = packet(here, there, OPAQUE, &payload(len));
        let outer = seal(&mut outbound, wrapping, &inner);
        let opened = peer.open(sa, wrapping, &outer).expect("scapy opens it");
        // In transport mode the header is the outer one, with the protocol put back.
        assert_eq!(opened, inner, "payload of {len} bytes");
    }
}

fn we_open_what_scapy_seals(peer: &mut Peer, sa: &Sa, wrapping: Wrapping) {
    let [here, there] = wrapping.tunnel.unwrap_or(wrapping.outer).ends();
    let mut inbound = InboundSa::new(sa.spi, keys(sa), parameters(sa));
    let last = if sa.esn { STEP * LENGTHS.len() as u64 } else { u32::MAX.into() };
    for (before_last, len) in (0..LENGTHS.len() as u64).rev().zip(LENGTHS) {
        // Up to the very last of 32 bits, or through several times as many.
        let seq = last - before_last * if sa.esn { STEP } else { 1 };
        let inner = packet(there, here, OPAQUE, &payload(len));
        let outer = peer.seal(sa, seq, wrapping, &inner);
        let mut esp = unwrap(wrapping, &outer);
        if wrapping.udp {
            assert_eq!(classify(&esp), Datagram::Esp(sa.spi));
        }
        let opened = inbound.open(&mut esp.clone()).map(|opened| {
            if let Some(family) = wrapping.tunnel {
                assert_eq!(opened.next_header, if family == Family::V4 { 4 } else { 41 });
                opened.payload.to_vec()
            } else {
                let flow = Flow::received(there, here, opened.next_header, opened.payload);
                assert_eq!(flow.map(|flow| flow.local), Ok(here));
                packet(there, here, opened.next_header, opened.payload)
            }
        });
        assert_eq!(opened, Ok(inner), "payload of {len} bytes");
        assert_eq!(inbound.open(&mut esp), Err(Discard::Replayed));
    }
    assert_eq!(inbound.top(), last);
}

fn neither_opens_what_was_changed(peer: &mut Peer, sa: &Sa) {
    let [here, there] = RAW.outer.ends();
    let inner = packet(here, there, OPAQUE, &payload(100));
    let outer = seal(&mut OutboundSa::new(sa.spi, keys(sa), [7; 16], parameters(sa)), RAW, &inner);
    let mut inbound = InboundSa::new(sa.spi, keys(sa), parameters(sa));
    // A bit of the sequence number, of the payload and of the ICV.
    for at in [V4_HEADER + 6, outer.len() - 40, outer.len() - 1] {
        let mut changed = outer.clone();
        changed[at] ^= 0x10;
        let refused = peer.open(sa, RAW, &changed).expect_err("scapy refuses it");
        assert!(refused.contains("IPSecIntegrityError"), "{refused}");
        assert_eq!(inbound.open(&mut changed[V4_HEADER..].to_vec()), Err(Discard::Forged));
    }
    assert!(peer.open(sa, RAW, &outer).is_ok());
    assert!(inbound.open(&mut outer[V4_HEADER..].to_vec()).is_ok());
}

/// Keys that differ in every byte.
fn sa(suite: Suite, esn: bool) -> Sa {
    Sa {
        spi: Spi::new(0xc0de_1001).expect("it is not reserved"),
        suite,
        cipher_key: (1..).take(suite.cipher_key_len()).collect(),
        auth_key: (101..).take(suite.auth_key_len()).collect(),
        esn,
    }
}

fn parameters(sa: &Sa) -> Parameters {
    Parameters { esn: sa.esn, ..Parameters::default() }
}

fn keys(sa: &Sa) -> Keys {
    Keys::new(sa.suite, sa.cipher_key.clone().into(), sa.auth_key.clone().into())
        .expect("the lengths are right")
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7) as u8).collect()
}

fn packet(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header = Header::new(source, destination, protocol).bytes(payload.len()).expect("it fits");
    [&header[..], payload].concat()
}

/// The outer packet for an inner one from here.
fn seal(sa: &mut OutboundSa, wrapping: Wrapping, inner: &[u8]) -> Vec<u8> {
    let parsed = Packet::parse(inner, inner.len()).expect("it was made here");
    let mode = if wrapping.tunnel.is_some() { Mode::Tunnel } else { Mode::Transport };
    let [here, there] = wrapping.outer.ends();
    let carried = parsed.carried(mode).expect("it is whole");
    let mut esp = vec![0; sa.headroom()];
    esp.extend_from_slice(&parsed.head()[carried.offset..]);
    sa.seal(carried.next_header, &mut esp, 0).expect("it is the first few");
    if !wrapping.udp {
        return packet(here, there, esp::PROTOCOL, &esp);
    }
    let mut datagram = [4500_u16.to_be_bytes(), 4500_u16.to_be_bytes()].concat();
    datagram.extend_from_slice(&(8 + esp.len() as u16).to_be_bytes());
    // RFC 3948 2.1: the checksum should be zero.
    datagram.extend_from_slice(&[0, 0]);
    datagram.append(&mut esp);
    packet(here, there, 17, &datagram)
}

/// The ESP packet in an outer one.
fn unwrap(wrapping: Wrapping, outer: &[u8]) -> Vec<u8> {
    let outer = Packet::parse(outer, outer.len()).expect("scapy sends IP");
    if wrapping.udp {
        assert_eq!((outer.protocol(), &outer.payload()[..4]), (17, &[0x11, 0x94, 0x11, 0x94][..]));
        outer.payload()[8..].to_vec()
    } else {
        assert_eq!(outer.protocol(), esp::PROTOCOL);
        outer.payload().to_vec()
    }
}
