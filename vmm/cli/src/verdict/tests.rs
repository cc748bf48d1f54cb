use serde_json::{Value, json};

use super::*;

/// A running space with one pair of SAs through which nothing passed.
fn space(change: impl FnOnce(&mut Value)) -> SpaceStatus {
    let sa = |spi: u32| {
        json!({
            "spi": spi, "suite": "aes-cbc-256+hmac-sha256", "esn": false, "packets": 0,
            "bytes": 0, "sequence": 0, "window": 1024, "accepted": 0, "age_s": 9,
            "lifetime": {}, "state": "fresh", "drops": {},
        })
    };
    let mut value = json!({
        "space": "red", "local": "192.0.2.10:4500", "peer": "192.0.2.20:4500",
        "configured_peer": "192.0.2.20", "encapsulation": "udp", "mode": "transport",
        "addresses": ["192.0.2.10"], "mac": [2, 0, 0, 0, 0, 1], "mtu": 1422, "path_mtu": 1500,
        "machine": "own", "running": true, "offloads": [], "first_answer_ns": null,
        "last_answer_ns": null, "limits": {}, "held": 0,
        "received": {"packets": 0, "bytes": 0}, "sent": {"packets": 0, "bytes": 0},
        "drops": {}, "sas": 1,
        "pairs": [{ "index": 0, "inbound": sa(0x1001), "outbound": sa(0x1002) }],
        "policies": [],
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

const NOW_NS: u64 = 1_000_000_000_000;

fn judged(space: &SpaceStatus, strays: Value, unsent: u64) -> (Verdict, String) {
    let strays = serde_json::from_value(strays).unwrap();
    let facts = Facts { space, strays: &strays, unsent, now_ns: NOW_NS };
    let verdict = Verdict::of(&facts);
    (verdict, verdict.sentence(&facts))
}

/// The verdict on a space that is changed like this, which has to say these words.
fn says(verdict: Verdict, words: &str, change: impl FnOnce(&mut Value)) {
    let (found, sentence) = judged(&space(change), json!({}), 0);
    assert_eq!(found, verdict, "{sentence}");
    assert!(sentence.contains(words), "{sentence}");
}

/// Like [`says`], of a space that has sent 5 packets.
fn answers(verdict: Verdict, words: &str, change: impl FnOnce(&mut Value)) {
    says(verdict, words, |space| {
        space["sent"]["packets"] = 5.into();
        change(space);
    });
}

#[test]
fn a_peer_that_answered_just_now_is_up_whatever_else_was_counted() {
    answers(Verdict::Up, "came 0.5 s ago", |space| {
        space["last_answer_ns"] = (NOW_NS - 500_000_000).into();
        space["pairs"][0]["inbound"]["drops"] = json!({ "forged": 9, "replayed": 3 });
    });
}

#[test]
fn a_peer_that_answered_long_ago_is_quiet_or_has_begun_anew() {
    let long_ago = NOW_NS - 600_000_000_000;
    answers(Verdict::Quiet, "the last time 10m00s ago", |space| {
        space["last_answer_ns"] = long_ago.into();
    });
    answers(Verdict::Replayed, "restart both ends", |space| {
        space["last_answer_ns"] = long_ago.into();
        space["pairs"][0]["inbound"]["drops"] = json!({ "replayed": 3 });
    });
}

#[test]
fn without_a_machine_or_a_driver_nothing_else_matters() {
    says(Verdict::NoMachine, "no front end", |space| space["machine"] = "awaited".into());
    says(Verdict::GuestNotRunning, "does not run its queues", |space| {
        space["running"] = false.into();
        space["drops"] = json!({ "guest_full": 4 });
    });
}

#[test]
fn a_space_that_sent_nothing_is_told_why() {
    says(Verdict::NothingSent, "portspace run red -- ping 192.0.2.20", |_| {});
    for (reason, verdict, words) in [
        ("policy", Verdict::PolicyOut, "no policy protects (4 packets)"),
        ("too_big", Verdict::TooBig, "at most 1422 bytes"),
        ("foreign_source", Verdict::ForeignSource, "set 192.0.2.10 inside"),
        ("exhausted", Verdict::Exhausted, "sequence numbers"),
    ] {
        says(verdict, words, |space| space["drops"][reason] = 4.into());
    }
}

#[test]
fn a_silent_peer_is_named_with_what_has_to_be_open() {
    answers(Verdict::PeerSilent, "5 packets sent to 192.0.2.20:4500", |_| {});
    answers(Verdict::PeerSilent, "is UDP port 4500 open", |_| {});
    answers(Verdict::PeerSilent, "is IP protocol 50 (ESP) open", |space| {
        space["encapsulation"] = "raw".into();
        space["peer"] = "192.0.2.20:0".into();
    });
    answers(Verdict::PeerSilent, "is the other space up", |space| {
        space["encapsulation"] = "local".into();
    });
}

#[test]
fn replies_that_are_discarded_say_what_differs() {
    for (reason, verdict, words) in [
        ("forged", Verdict::Forged, "keys or the algorithms of the two ends differ"),
        ("truncated", Verdict::Forged, "keys or the algorithms of the two ends differ"),
        ("replayed", Verdict::Replayed, "restart both ends"),
        ("expired", Verdict::Expired, "lifetime of the SAs is over"),
        ("policy", Verdict::PolicyIn, "have to mirror each other"),
        ("foreign_selector", Verdict::PolicyIn, "have to mirror each other"),
        ("malformed", Verdict::OtherMode, "no payload for transport mode (2)"),
    ] {
        let drops = |space: &mut Value| space["pairs"][0]["inbound"]["drops"][reason] = 2.into();
        answers(verdict, words, drops);
        // The peer may have spoken first.
        says(verdict, words, drops);
    }
    answers(Verdict::GuestFull, "the guest takes none (7)", |space| {
        space["drops"]["guest_full"] = 7.into();
    });
    answers(Verdict::ForeignSocket, "has to send to 192.0.2.10:4500", |space| {
        space["drops"]["foreign_peer"] = 7.into();
    });
}

#[test]
fn strays_and_losses_are_blamed_only_if_nothing_else_explains_it() {
    let sent = space(|space| space["sent"]["packets"] = 5.into());
    let (verdict, sentence) = judged(&sent, json!({ "unknown_spi": 3 }), 0);
    assert_eq!(verdict, Verdict::UnknownSpi);
    assert!(sentence.contains("has to be 0x1001 here"), "{sentence}");
    assert_eq!(judged(&sent, json!({ "not_esp": 3 }), 0).0, Verdict::NotEsp);
    assert_eq!(judged(&sent, json!({}), 5).0, Verdict::Unsendable);
    assert_eq!(judged(&sent, json!({}), 4).0, Verdict::PeerSilent);
    let forged = space(|space| {
        space["sent"]["packets"] = 5.into();
        space["pairs"][0]["inbound"]["drops"] = json!({ "forged": 1 });
    });
    assert_eq!(judged(&forged, json!({ "unknown_spi": 3 }), 5).0, Verdict::Forged);
}

#[test]
fn sas_that_are_over_are_the_reason_though_the_peer_answered() {
    let over = |space: &mut Value| {
        space["last_answer_ns"] = NOW_NS.into();
        space["pairs"][0]["outbound"]["state"] = "hard_expired".into();
    };
    says(Verdict::Expired, "restart both ends with new keys", over);
    let one_of_two = |space: &mut Value| {
        let fresh = space["pairs"][0].clone();
        over(space);
        space["pairs"].as_array_mut().unwrap().push(fresh);
    };
    says(Verdict::Up, "came 0.0 s ago", one_of_two);
}

#[test]
fn what_else_is_worth_knowing_is_remarked() {
    let quiet = space(|_| {});
    let strays = Counts::new();
    let facts = |space| Facts { space, strays: &strays, unsent: 0, now_ns: NOW_NS };
    assert_eq!(remarks(&facts(&quiet)), Vec::<String>::new());
    let busy = space(|space| {
        space["held"] = 7.into();
        space["path_mtu"] = 1280.into();
        space["peer"] = "198.51.100.7:61234".into();
        space["pairs"][0]["inbound"]["state"] = "soft_expired".into();
    });
    let text = remarks(&facts(&busy)).join("\n");
    for words in ["wait 7 times", "1 SA pair reached", "1280 bytes", "it is at 198.51.100.7:61234"]
    {
        assert!(text.contains(words), "{text}");
    }
}
