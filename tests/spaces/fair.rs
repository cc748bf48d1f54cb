//! A space that floods does not starve another: it waits in its own queue.

use std::time::Duration;

use cli::lab::network::{Endpoint, Keys};
use cli::lab::service::Service;
use cli::lab::{A, Lab, Peer};
use serde_json::Value;
use switch::overlay::Cipher;
use tests::{Space, echo_server, eventually};

/// Round trips of one measure, and how many measures there are of either kind.
const TRIPS: &str = "1000";
const MEASURES: usize = 3;

/// How often all of it is measured.
const ATTEMPTS: usize = 3;

pub(crate) fn a_quiet_space_beside_a_flood(lab: &Lab) {
    let quiet = Space::up(lab, "quiet", Peer::B, Cipher::AesCbc256, None);
    let _echo = echo_server(lab.peer(Peer::B));
    for limits in ["packets = 5000\n", "bytes = \"2M\"\n"] {
        let (flooder, _bare) = limited(lab, limits);
        let measured = || {
            let (alone, beside): (Vec<_>, Vec<_>) = (0..MEASURES)
                .map(|_| (trip_us(&quiet), beside(lab, &flooder, || trip_us(&quiet))))
                .unzip();
            (median(alone), median(beside))
        };
        // Other work of this machine may spoil a measure, but not each.
        let all: Vec<_> = (0..ATTEMPTS).map(|_| measured()).collect();
        let kept = all.iter().any(|(alone, beside)| *beside <= 2.0 * alone);
        assert!(kept, "{limits:?}: more than twice: {all:?} µs alone and beside a flood");
    }
}

/// A space with limits, and its peer.
fn limited<'a>(lab: &'a Lab, limits: &str) -> (Space<'a>, Service) {
    let space = Space::named(lab, "flooder", Peer::C);
    let c = lab.peer(Peer::C);
    let [near, far] = [A, c.address].map(|address| Endpoint { address, port: 4500 });
    let keys = Keys::fresh("aes-cbc-256+hmac-sha256".parse().unwrap(), 0x7200).unwrap();
    keys.write_far(&space.far_file, near, far).unwrap();
    let keys = keys.further(&format!("[limits]\n{limits}"));
    keys.write_near(&space.file, near, far, None).unwrap();
    let bare = c.portspace(&["bare", space.far_file.to_str().unwrap()]);
    let bare = Service::start(c, "bare IPsec", bare).unwrap();
    space.start();
    let to = c.address.to_string();
    eventually("the peer answers", || space.run(&["ping", &to, "-c", "1"]).ok());
    (space, bare)
}

/// Does `work` while the space sends as much as it can, and is held back.
fn beside<T>(lab: &Lab, flooder: &Space<'_>, work: impl FnOnce() -> T) -> T {
    let to = Peer::C.address().to_string();
    let flood = ["run", flooder.name, "--", "udp-send", &to, "9", "-t", "60", "-s", "600"];
    let flood = Service::start(&lab.a, "flood", lab.a.portspace(&flood)).unwrap();
    let held = || flooder.switch().held;
    let before = held();
    eventually("the flood is held back", || held() > before + 10);
    let before = held();
    let result = work();
    assert!(held() > before + 10, "the flood went on");
    drop(flood);
    let sent = || flooder.switch().pairs[0].outbound.packets;
    eventually("the flood has ended", || {
        let before = sent();
        std::thread::sleep(Duration::from_millis(20));
        sent() == before
    });
    result
}

/// The median round trip of a space to its peer.
fn trip_us(space: &Space<'_>) -> f64 {
    let to = Peer::B.address().to_string();
    let ran = space.run(&["rtt", &to, "7", "-n", TRIPS, "--json"]);
    assert!(ran.ok(), "{}", ran.why());
    serde_json::from_str::<Value>(&ran.out).unwrap()["p50_us"].as_f64().unwrap()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
