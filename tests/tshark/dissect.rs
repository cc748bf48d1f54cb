//! tshark itself, and packets written for it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use esp::ip::Header;
use esp::{Aead, Cipher, Integrity, Keys, OutboundSa, Parameters, Spi, Suite};
use tests::{ignore, in_hex};

const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const THERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);
const ICMP: u8 = 1;

/// LINKTYPE_RAW: IP packets without anything before them.
const RAW: u32 = 101;

/// Packets of one file.
const PACKETS: u16 = 5;

/// An SA, as tshark is told of it.
pub(crate) struct Known<'a> {
    pub(crate) from: Ipv4Addr,
    pub(crate) to: Ipv4Addr,
    pub(crate) spi: u32,
    pub(crate) suite: Suite,
    /// In hexadecimal digits.
    pub(crate) cipher_key: &'a str,
    pub(crate) auth_key: &'a str,
}

impl Known<'_> {
    /// A line of its table `esp_sa`.
    fn line(&self) -> String {
        let (cipher, auth) = match self.suite {
            Suite::Aead(Aead::ChaCha20Poly1305) => unreachable!("tshark does not know it"),
            Suite::Aead(_) => ("AES-GCM with 16 octet ICV [RFC4106]", "NULL"),
            Suite::Combined(cipher, integrity) => (
                if cipher == Cipher::Null { "NULL" } else { "AES-CBC [RFC3602]" },
                match integrity {
                    Integrity::HmacSha256 => "HMAC-SHA-256-128 [RFC4868]",
                    Integrity::HmacSha384 => "HMAC-SHA-384-192 [RFC4868]",
                    Integrity::HmacSha512 => "HMAC-SHA-512-256 [RFC4868]",
                },
            ),
        };
        let key = |digits: &str| match digits {
            "" => String::new(),
            digits => format!("0x{digits}"),
        };
        let (cipher_key, auth_key) = (key(self.cipher_key), key(self.auth_key));
        format!(
            r#""IPv4","{}","{}","{:#010x}","{cipher}","{cipher_key}","{auth}","{auth_key}""#,
            self.from, self.to, self.spi
        )
    }
}

/// Ignores the test where there is no tshark.
pub(crate) fn must_be_there() {
    if !Command::new("tshark").arg("--version").output().is_ok_and(|said| said.status.success()) {
        ignore("there is no tshark: apt-get install tshark");
    }
}

/// What tshark sees in a file: for each packet whether its ICV is right (`1`), the kind of ICMP
/// message in it, and its number.
pub(crate) fn read(file: &Path, sas: &[&Known<'_>]) -> Vec<[String; 3]> {
    let mut command = Command::new("tshark");
    command
        // Its own settings are nobody's.
        .env("HOME", file.parent().expect("a file is in a directory"))
        .arg("-r")
        .arg(file)
        .args(["-o", "esp.enable_encryption_decode:TRUE"])
        .args(["-o", "esp.enable_authentication_check:TRUE"]);
    for sa in sas {
        command.arg("-o").arg(format!("uat:esp_sa:{}", sa.line()));
    }
    command.args(["-T", "fields", "-e", "esp.icv_good", "-e", "icmp.type", "-e", "icmp.seq"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !said.contains("UAT"), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| {
            let mut fields = line.split('\t').map(str::to_owned);
            [(); 3].map(|()| fields.next().unwrap_or_default())
        })
        .collect()
}

pub(crate) fn reads_what_we_seal(directory: &Path, suite: Suite) {
    let file = directory.join("sealed.pcap");
    let cipher_key: Vec<u8> = (1..).take(suite.cipher_key_len()).collect();
    let auth_key: Vec<u8> = (101..).take(suite.auth_key_len()).collect();
    let known = Known {
        from: HERE,
        to: THERE,
        spi: 0xc0de_1001,
        suite,
        cipher_key: &in_hex(&cipher_key),
        auth_key: &in_hex(&auth_key),
    };
    let keys = Keys::new(suite, cipher_key.into(), auth_key.into()).unwrap();
    let spi = Spi::new(known.spi).unwrap();
    let mut sa = OutboundSa::new(spi, keys, [7; 16], Parameters::default());
    let mut packets: Vec<_> = (0..PACKETS).map(|number| sealed(&mut sa, number)).collect();
    fs::write(&file, pcap(&packets)).unwrap();
    let expected: Vec<_> =
        (0..PACKETS).map(|number| ["1".to_owned(), "8".to_owned(), number.to_string()]).collect();
    assert_eq!(read(&file, &[&known]), expected);

    // A changed one is not taken for right: the ICVs were looked at.
    *packets[2].last_mut().unwrap() ^= 1;
    fs::write(&file, pcap(&packets)).unwrap();
    let seen = read(&file, &[&known]);
    assert!((0..PACKETS.into()).all(|at| (seen[at][0] == "1") == (at != 2)), "{seen:?}");
}

/// An echo request with a number, in ESP.
fn sealed(sa: &mut OutboundSa, number: u16) -> Vec<u8> {
    let mut echo = [&[8, 0, 0, 0, 0, 7][..], &number.to_be_bytes(), &[b'x'; 40]].concat();
    let sum = esp::checksum::Sum::of(&echo).checksum();
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut packet = vec![0; sa.headroom()];
    packet.append(&mut echo);
    sa.seal(ICMP, &mut packet, 0).unwrap();
    let header = Header::new(HERE.into(), THERE.into(), esp::PROTOCOL).bytes(packet.len()).unwrap();
    [&header[..], &packet].concat()
}

/// A capture file of raw IP packets.
fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let word = u32::to_le_bytes;
    // Magic number, version 2.4, time zone, accuracy, longest packet, link type.
    let mut file = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, RAW].map(word).concat();
    for packet in packets {
        let length = packet.len() as u32;
        file.extend_from_slice(&[0, 0, length, length].map(word).concat());
        file.extend_from_slice(packet);
    }
    file
}
