//! A tunnel of strongSwan, with its end at A and with ours in its place.

use std::fs;

use cli::lab::network::{arguments, session_keys};
use cli::lab::service::{Ended, Service, finish};
use cli::lab::strongswan::{Keys, NEAR_PORT, Strongswan};
use cli::lab::{A, Lab, Peer};
use switch::overlay::{Aead, DEFAULT_WINDOW, Key, Lifetime, Sa, SaPair, Suite, Traffic};
use tests::{PATIENCE, eventually, ignore};

const SUITE: Suite = Suite::Aead(Aead::AesGcm256);

pub(crate) fn its_own_tunnel(lab: &Lab) {
    let _tunnel = start(lab, Keys::Secret);
    let pinged = ping(lab, 1200);
    assert!(pinged.ok(), "{}", pinged.out);
}

/// strongSwan's IKE has made the keys; then its end at A is gone, and ours is there. The peer's
/// end cannot tell.
pub(crate) fn our_end_of_its_tunnel(lab: &Lab) {
    let mut tunnel = start(lab, Keys::Logged);
    tunnel.end_near();
    assert!(!ping(lab, 56).ok(), "nothing else leads there");
    let log = fs::read_to_string(Strongswan::near_log(lab)).unwrap();
    let pair = SaPair {
        inbound: sa(&log, "adding inbound ESP SA", "encryption responder key"),
        outbound: sa(&log, "adding outbound ESP SA", "encryption initiator key"),
        traffic: Traffic::default(),
        esn: false,
        window: DEFAULT_WINDOW,
        lifetime: Lifetime::default(),
    };
    let file = lab.a.directory.join("strongswan.toml");
    let [near, far] = [Strongswan::NEAR, Strongswan::FAR];
    let peer = Peer::E.address();
    let text = format!(
        "[space]\naddress = [\"{near}\"]\n[overlay]\nlocal = \"{A}\"\npeer = \"{peer}\"\n\
         port = {NEAR_PORT}\nmode = \"tunnel\"\nremote = [\"{far}\"]\n"
    );
    fs::write(&file, text).unwrap();
    fs::write(session_keys(&file), serde_json::to_vec(&[pair]).unwrap()).unwrap();
    let arguments = arguments("bare", &file);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut bare = Service::start(&lab.a, "bare IPsec", lab.a.portspace(&arguments)).unwrap();
    eventually("strongSwan answers us", || {
        bare.must_run().expect("bare IPsec runs");
        ping(lab, 56).ok()
    });
    let long = ping(lab, 1200);
    assert!(long.ok(), "{}", long.out);
}

fn start(lab: &Lab, keys: Keys) -> Strongswan {
    if let Some(reason) = Strongswan::missing() {
        ignore(reason);
    }
    Strongswan::start(lab, Peer::E, SUITE, keys)
        .unwrap_or_else(|failure| panic!("{}", failure.chain()))
}

fn ping(lab: &Lab, bytes: usize) -> Ended {
    let (bytes, far) = (bytes.to_string(), Strongswan::FAR.to_string());
    let mut command = lab.a.command("busybox");
    command.args(["ping", "-c", "1", "-W", "5", "-s", &bytes, &far]);
    finish(&mut command, PATIENCE).expect("busybox runs")
}

/// The SA that strongSwan's log says it added, with the key it says it derived for it.
fn sa(log: &str, added: &str, derived: &str) -> Sa {
    let after =
        |mark: &str| log.rsplit_once(mark).unwrap_or_else(|| panic!("it did not say {mark}")).1;
    let spi = after(added).split_once("SPI 0x").unwrap().1;
    let spi = u32::from_str_radix(&spi[..8], 16).unwrap();
    // `=> 36 bytes @ 0x...`, then lines of 16: `10[CHD]    0: DB 1E ...  ...(?..`.
    let mut digits = String::new();
    for line in after(derived).lines().skip(1) {
        let Some((_, bytes)) = line.split_once(": ") else { break };
        let bytes = bytes.split("  ").next().unwrap_or_default();
        digits.extend(bytes.split_whitespace());
        if digits.len() >= 2 * SUITE.cipher_key_len() {
            break;
        }
    }
    let cipher_key = Key::from_hex(&digits).unwrap();
    assert_eq!(cipher_key.len(), SUITE.cipher_key_len());
    Sa { spi, suite: SUITE, cipher_key, auth_key: Key::default() }
}
