//! Every kind of overlay a file can ask for, between a space and a bare peer.

use cli::lab::network::{Endpoint, Keys, arguments};
use cli::lab::service::Service;
use cli::lab::{A, Lab, Peer};
use serde_json::Value;
use switch::overlay::{Encapsulation, Range, Suite};
use tests::{eventually, run};

/// Starts both ends, and waits until `inside` answers the space.
fn works(lab: &Lab, name: &str, keys: &Keys, inside: &str) {
    let host = lab.peer(Peer::B);
    let (near, far) =
        (Endpoint { address: A, port: 4500 }, Endpoint { address: host.address, port: 4500 });
    let file = lab.a.directory.join(format!("{name}.toml"));
    let far_file = host.directory.join(format!("{name}.toml"));
    keys.write_near(&file, near, far, None).unwrap();
    keys.write_far(&far_file, near, far).unwrap();
    let words = arguments("bare", &far_file);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let _bare = Service::start(host, "bare IPsec", host.portspace(&words)).unwrap();
    let words = arguments("up", &file);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let up = run(lab, &words);
    assert!(up.ok(), "up: {}", up.why());
    let ping = || run(lab, &["run", name, "--", "ping", inside, "-c", "1"]).ok();
    eventually(&format!("{name} is answered by {inside}"), ping);
    let shown: Value = serde_json::from_str(&run(lab, &["inspect", name, "--json"]).out).unwrap();
    assert_eq!(shown["overlay"]["verdict"], "up", "{}", shown["overlay"]);
    for command in ["stop", "rm"] {
        assert!(run(lab, &[command, name]).ok());
    }
}

pub(crate) fn every_suite(lab: &Lab) {
    for (at, suite) in (0..).zip(Suite::ALL) {
        let keys = Keys::fresh(suite, 0x6000 + 2 * at).unwrap().esn(at % 2 == 0);
        works(lab, "suite", &keys, "192.0.2.20");
    }
}

pub(crate) fn tunnels(lab: &Lab) {
    // Where this machine does without IPv6, its new devices would too.
    let setting = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    lab.peer(Peer::B).run(|| std::fs::write(setting, "0")).unwrap().unwrap();
    let aead = "aes-gcm-256".parse().unwrap();
    let cbc = "aes-cbc-192+hmac-sha512".parse().unwrap();
    let range = |text: &str| text.parse::<Range>().unwrap();
    for (at, (suite, encapsulation, [near, far])) in (0..).zip([
        (cbc, None, ["10.1.0.5", "10.2.0.7"]),
        (aead, Some(Encapsulation::Raw), ["10.1.0.5", "10.2.0.7"]),
        (aead, None, ["2001:db8:1::5", "2001:db8:2::7"]),
    ]) {
        let mut keys = Keys::fresh(suite, 0x7000 + 2 * at).unwrap().tunnel(range(near), range(far));
        if let Some(encapsulation) = encapsulation {
            keys = keys.encapsulation(encapsulation);
        }
        works(lab, "tunnel", &keys, far);
    }
}
