//! ESP against scapy, an implementation nobody here wrote: every algorithm, both
//! directions, transport and tunnel mode, with UDP encapsulation and without.

mod peer;

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

use esp::ip::{Header, Mode, Packet, V4_HEADER};
use esp::natt::{Datagram, classify};
use esp::{Discard, Flow, InboundSa, Keys, OutboundSa, Parameters, Spi, Suite};
use libtest_mimic::{Arguments, Completion, Trial};

use crate::peer::{Peer, Sa, Wrapping};

const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);

/// A protocol number for experiments (RFC 3692): scapy leaves its payload alone.
const OPAQUE: u8 = 253;

/// Every way around the cipher's blocks, and the sizes of real packets.
const LENGTHS: [usize; 26] = [
    0, 1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 14, 15, 16, 17, 29, 30, 31, 32, 64, 255, 256, 512, 1400,
    1452, 8192,
];

const WRAPPINGS: [(&str, Wrapping); 4] = [
    ("in UDP, transport mode", Wrapping { udp: true, tunnel: false }),
    ("in UDP, tunnel mode", Wrapping { udp: true, tunnel: true }),
    ("raw, transport mode", Wrapping { udp: false, tunnel: false }),
    ("raw, tunnel mode", Wrapping { udp: false, tunnel: true }),
];

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    let python = Python::default();
    let mut trial = |name: String, test: Test| trials.push(self::trial(name, &python, test));
    for suite in Suite::ALL {
        for (words, wrapping) in WRAPPINGS {
            trial(
                format!("scapy opens what we seal: {suite}, {words}"),
                Box::new(move |peer| scapy_opens_what_we_seal(peer, suite, wrapping)),
            );
            trial(
                format!("we open what scapy seals: {suite}, {words}"),
                Box::new(move |peer| we_open_what_scapy_seals(peer, suite, wrapping)),
            );
        }
        trial(
            format!("neither opens what was changed: {suite}"),
            Box::new(move |peer| neither_opens_what_was_changed(peer, suite)),
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

fn scapy_opens_what_we_seal(peer: &mut Peer, suite: Suite, wrapping: Wrapping) {
    let sa = sa(suite);
    let mut outbound = OutboundSa::new(sa.spi, keys(&sa), [7; 16], Parameters::default());
    for len in LENGTHS {
        let inner = packet(HERE, THERE, OPAQUE, &payload(len));
        let outer = seal(&mut outbound, wrapping, &inner);
        let opened = peer.open(&sa, wrapping, &outer).expect("scapy opens it");
        // In transport mode the header is the outer one, with the protocol put back.
        assert_eq!(opened, inner, "payload of {len} bytes");
    }
}

fn we_open_what_scapy_seals(peer: &mut Peer, suite: Suite, wrapping: Wrapping) {
    let sa = sa(suite);
    let mut inbound = InboundSa::new(sa.spi, keys(&sa), Parameters::default());
    // Up to the very last sequence number.
    for (at, len) in (1..).zip(LENGTHS) {
        let seq = u32::MAX - LENGTHS.len() as u32 + at;
        let inner = packet(THERE, HERE, OPAQUE, &payload(len));
        let outer = peer.seal(&sa, seq, wrapping, &inner);
        let mut esp = unwrap(wrapping, &outer);
        if wrapping.udp {
            assert_eq!(classify(&esp), Datagram::Esp(sa.spi));
        }
        let opened = inbound.open(&mut esp.clone()).map(|opened| {
            if wrapping.tunnel {
                assert_eq!(opened.next_header, 4);
                opened.payload.to_vec()
            } else {
                let flow =
                    Flow::received(THERE.into(), HERE.into(), opened.next_header, opened.payload);
                assert_eq!(flow.map(|flow| flow.local), Ok(HERE.into()));
                packet(THERE, HERE, opened.next_header, opened.payload)
            }
        });
        assert_eq!(opened, Ok(inner), "payload of {len} bytes");
        assert_eq!(inbound.open(&mut esp), Err(Discard::Replayed));
    }
    assert_eq!(inbound.top(), u64::from(u32::MAX));
}

fn neither_opens_what_was_changed(peer: &mut Peer, suite: Suite) {
    let sa = sa(suite);
    let wrapping = Wrapping { udp: false, tunnel: false };
    let inner = packet(HERE, THERE, OPAQUE, &payload(100));
    let outer = seal(
        &mut OutboundSa::new(sa.spi, keys(&sa), [7; 16], Parameters::default()),
        wrapping,
        &inner,
    );
    let mut inbound = InboundSa::new(sa.spi, keys(&sa), Parameters::default());
    // A bit of the sequence number, of the payload and of the ICV.
    for at in [V4_HEADER + 6, outer.len() - 40, outer.len() - 1] {
        let mut changed = outer.clone();
        changed[at] ^= 0x10;
        let refused = peer.open(&sa, wrapping, &changed).expect_err("scapy refuses it");
        assert!(refused.contains("IPSecIntegrityError"), "{refused}");
        assert_eq!(inbound.open(&mut changed[V4_HEADER..].to_vec()), Err(Discard::Forged));
    }
    assert!(peer.open(&sa, wrapping, &outer).is_ok());
    assert!(inbound.open(&mut outer[V4_HEADER..].to_vec()).is_ok());
}

/// Keys that differ in every byte.
fn sa(suite: Suite) -> Sa {
    Sa {
        spi: Spi::new(0xc0de_1001).expect("it is not reserved"),
        suite,
        cipher_key: (1..).take(suite.cipher_key_len()).collect(),
        auth_key: (101..).take(suite.auth_key_len()).collect(),
    }
}

fn keys(sa: &Sa) -> Keys {
    Keys::new(sa.suite, sa.cipher_key.clone().into(), sa.auth_key.clone().into())
        .expect("the lengths are right")
}

fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7) as u8).collect()
}

fn packet(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let header = Header::new(source.into(), destination.into(), protocol)
        .bytes(payload.len())
        .expect("it fits");
    [&header[..], payload].concat()
}

/// The outer packet for an inner one from here.
fn seal(sa: &mut OutboundSa, wrapping: Wrapping, inner: &[u8]) -> Vec<u8> {
    let parsed = Packet::parse(inner, inner.len()).expect("it was made here");
    let mode = if wrapping.tunnel { Mode::Tunnel } else { Mode::Transport };
    let carried = parsed.carried(mode).expect("it is whole");
    let mut esp = vec![0; sa.headroom()];
    esp.extend_from_slice(&parsed.head()[carried.offset..]);
    sa.seal(carried.next_header, &mut esp, 0).expect("it is the first few");
    if !wrapping.udp {
        return packet(HERE, THERE, esp::PROTOCOL, &esp);
    }
    let mut datagram = [4500_u16.to_be_bytes(), 4500_u16.to_be_bytes()].concat();
    datagram.extend_from_slice(&(8 + esp.len() as u16).to_be_bytes());
    // RFC 3948 2.1: the checksum should be zero.
    datagram.extend_from_slice(&[0, 0]);
    datagram.append(&mut esp);
    packet(HERE, THERE, 17, &datagram)
}

/// The ESP packet in an outer one.
fn unwrap(wrapping: Wrapping, outer: &[u8]) -> Vec<u8> {
    let outer = Packet::parse(outer, outer.len()).expect("scapy sends IPv4");
    if wrapping.udp {
        assert_eq!((outer.protocol(), &outer.payload()[..4]), (17, &[0x11, 0x94, 0x11, 0x94][..]));
        outer.payload()[8..].to_vec()
    } else {
        assert_eq!(outer.protocol(), esp::PROTOCOL);
        outer.payload().to_vec()
    }
}
