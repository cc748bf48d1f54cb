//! What a user writes: requests to the switch and configuration files; and the overlays of the
//! other targets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use esp::ip::Mode;
use switch::control::Request;
use switch::overlay::{Cipher, Integrity, Overlay, Suite};
use switch::tunnel::Tunnels;

use crate::seeds::Seed;

pub(crate) const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub(crate) const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);
pub(crate) const SUITE: Suite = Suite::Combined(Cipher::AesCbc128, Integrity::HmacSha256);
pub(crate) const INBOUND: u32 = 0x1001;
pub(crate) const OUTBOUND: u32 = 0x2001;

/// The space's own addresses in tunnel mode, and some at the other end.
pub(crate) const OWN: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 1, 0, 5)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 5)),
];
pub(crate) const FAR: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 2, 0, 5)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 0, 5)),
];

/// An SA in a message, with keys of these bytes.
fn sa(spi: u32, cipher: u8, auth: u8) -> String {
    let key = |byte: u8, length: usize| format!("{byte:02x}").repeat(length);
    let (cipher, auth) = (key(cipher, 16), key(auth, 32));
    format!(r#"{{"spi":{spi},"suite":"{SUITE}","cipher_key":"{cipher}","auth_key":"{auth}"}}"#)
}

fn overlay(more: &str) -> String {
    let (inbound, outbound) = (sa(INBOUND, 1, 2), sa(OUTBOUND, 3, 4));
    let sas = format!(r#"[{{"inbound":{inbound},"outbound":{outbound}}}]"#);
    format!(r#"{{"local":"{A}","peer":"{B}","sas":{sas}{more}}}"#)
}

fn in_tunnel_mode() -> String {
    let [own, own6] = OWN;
    overlay(&format!(r#","mode":"tunnel","addresses":["{own}","{own6}"]"#))
}

/// The tunnels of a switch with one space.
pub(crate) fn tunnels(mode: Mode) -> Tunnels {
    let text = match mode {
        Mode::Transport => overlay(""),
        Mode::Tunnel => in_tunnel_mode(),
    };
    let mut tunnels = Tunnels::default();
    tunnels.add(serde_json::from_str(&text).unwrap(), 1500, 0, || [5; 16]).unwrap();
    tunnels
}

pub(crate) fn request_seeds() -> Vec<Seed> {
    let attach = |overlay: &str| format!(r#"{{"attach":{{"space":"red","overlay":{overlay}}}}}"#);
    let everything = overlay(
        r#","encapsulation":{"udp":{"port":4501}},"keepalive_s":20,"dscp":"copy",
        "limits":{"packets_per_s":1000,"bytes_per_s":1000000},
        "policies":[{"traffic":{"remote":["192.0.2.20"],"protocol":17,"remote_ports":[7,9]},
        "action":"discard"},{"action":{"protect":0}}]"#,
    );
    let texts = [
        ("attach", attach(&overlay(""))),
        ("tunnel", attach(&in_tunnel_mode())),
        ("everything", attach(&everything)),
        ("raw", attach(&overlay(r#","encapsulation":"raw""#))),
        ("extend", r#"{"extend":{"space":"red","sas":[]}}"#.into()),
        ("detach", r#"{"detach":{"space":"red"}}"#.into()),
        ("status", r#""status""#.into()),
        ("spaces", r#"{"spaces":{"from":0}}"#.into()),
    ];
    texts.map(|(name, text)| (name, text.into_bytes())).into()
}

/// A request is refused, or is one that can be written again; its overlay makes a tunnel or
/// leaves nothing behind.
pub(crate) fn request(bytes: &[u8]) {
    let Ok(request) = serde_json::from_slice::<Request>(bytes) else { return };
    let again = serde_json::to_vec(&request).unwrap();
    let again: Request = serde_json::from_slice(&again).expect("what was written can be read");
    assert_eq!(format!("{request:?}"), format!("{again:?}"));
    if let Request::Attach { overlay, .. } | Request::Plug { overlay, .. } = request {
        use_or_refuse(overlay);
    }
}

fn use_or_refuse(overlay: Overlay) {
    let mut tunnels = Tunnels::default();
    if let Ok(place) = tunnels.add(overlay, 1500, 0, || [5; 16]) {
        assert!(tunnels.sas() > 0 && tunnels.get(place).is_some());
        tunnels.remove(place);
    }
    assert_eq!((tunnels.sas(), tunnels.iter().count()), (0, 0));
}

pub(crate) fn file_seeds() -> Vec<Seed> {
    let keys = |spi: u32, byte: u8| {
        let (cipher, auth) = (format!("{byte:02x}").repeat(32), format!("{byte:02x}").repeat(32));
        format!("spi = {spi}\ncipher_key = \"{cipher}\"\nauth_key = \"{auth}\"\n")
    };
    let manual = format!(
        "[overlay.manual]\ncipher = \"aes-cbc-256\"\nauth = \"hmac-sha256\"\nesn = true\n\
         [overlay.manual.in]\n{}[overlay.manual.out]\n{}",
        keys(0x1001, 1),
        keys(0x2001, 2),
    );
    let plain = format!("[overlay]\nlocal = \"{A}\"\npeer = \"{B}\"\n{manual}");
    let tunnel = format!(
        "[space]\naddress = [\"10.1.0.5\"]\n[overlay]\nlocal = \"{A}\"\npeer = \"{B}\"\n\
         mode = \"tunnel\"\nremote = [\"10.2.0.0/16\"]\nencapsulation = \"raw\"\n{manual}\
         [[overlay.policy]]\naction = \"discard\"\nprotocol = \"udp\"\nremote_ports = \"9-20\"\n\
         [limits]\npackets = 1000\nbytes = \"10M\"\n\
         [[disks]]\nimage = \"/image\"\nformat = \"raw\"\nread_only = true\n"
    );
    vec![("plain", plain.into_bytes()), ("tunnel", tunnel.into_bytes())]
}

/// A file is a whole configuration, whose overlay can be used, or one sentence with its place.
pub(crate) fn file(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match cli::config::Config::parse("seed.toml", "seed", text) {
        Ok(config) => use_or_refuse(config.overlay),
        Err(mistake) => {
            let sentence = mistake.to_string();
            assert!(sentence.contains("seed.toml"), "{sentence}");
        }
    }
}
