//! The scapy process of one test, spoken to in JSON lines (see `peer.py`).

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use esp::{Spi, Suite};
use serde_json::{Value, json};

const SCRIPT: &str = include_str!("peer.py");

/// Both keys of an SA, and its SPI.
#[derive(Clone)]
pub(crate) struct Sa {
    pub(crate) spi: Spi,
    pub(crate) suite: Suite,
    pub(crate) cipher_key: Vec<u8>,
    pub(crate) auth_key: Vec<u8>,
    /// Whether sequence numbers have 64 bits.
    pub(crate) esn: bool,
}

/// What is around the ESP packet, and what is in it.
#[derive(Clone, Copy)]
pub(crate) struct Wrapping {
    pub(crate) udp: bool,
    /// The family of the outer header.
    pub(crate) outer: Family,
    /// The family of the packet inside, in tunnel mode.
    pub(crate) tunnel: Option<Family>,
}

/// A version of IP.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// Our address and scapy's.
    pub(crate) fn ends(self) -> [IpAddr; 2] {
        match self {
            Family::V4 => [10, 20].map(|last| Ipv4Addr::new(192, 0, 2, last).into()),
            Family::V6 => {
                [10, 20].map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into())
            }
        }
    }
}

/// A Python interpreter that has scapy.
///
/// # Errors
/// Why there is none, in words for whoever runs the tests.
pub(crate) fn interpreter() -> Result<OsString, String> {
    tests::python("cryptography, scapy.layers.ipsec", "pip install scapy cryptography")
}

/// A running scapy; it ends when it is dropped.
pub(crate) struct Peer {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    pub(crate) fn start(python: &OsString) -> Peer {
        let mut process = Command::new(python)
            .args(["-c", SCRIPT])
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the interpreter ran a moment ago");
        let requests = process.stdin.take().expect("it is piped");
        let answers = BufReader::new(process.stdout.take().expect("it is piped"));
        Peer { process, requests, answers }
    }

    /// The outer packet scapy makes of the inner one.
    pub(crate) fn seal(&mut self, sa: &Sa, seq: u64, wrapping: Wrapping, inner: &[u8]) -> Vec<u8> {
        self.ask("seal", sa, seq, wrapping, inner).expect("scapy seals everything")
    }

    /// The inner packet scapy finds in the outer one.
    ///
    /// # Errors
    /// Why it refuses, in its words.
    pub(crate) fn open(
        &mut self,
        sa: &Sa,
        wrapping: Wrapping,
        outer: &[u8],
    ) -> Result<Vec<u8>, String> {
        self.ask("open", sa, 1, wrapping, outer)
    }

    fn ask(
        &mut self,
        op: &str,
        sa: &Sa,
        seq: u64,
        wrapping: Wrapping,
        packet: &[u8],
    ) -> Result<Vec<u8>, String> {
        let request = json!({
            "op": op,
            "suite": sa.suite.name(),
            "cipher_key": hex(&sa.cipher_key),
            "auth_key": hex(&sa.auth_key),
            "spi": sa.spi.number(),
            "seq": seq as u32,
            "esn": sa.esn.then_some(seq >> 32),
            "udp": wrapping.udp,
            "tunnel": wrapping.tunnel.map(|_| wrapping.outer.ends().map(|end| end.to_string())),
            "packet": hex(packet),
        });
        writeln!(self.requests, "{request}").expect("scapy listens");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("scapy answers");
        let answer: Value = serde_json::from_str(&line).expect("scapy answers in JSON");
        match answer["packet"].as_str() {
            Some(packet) => Ok(unhex(packet)),
            None => Err(answer["refused"].to_string()),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Whether it was still there or not, it is gone now.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hexadecimal digit") as u8;
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
