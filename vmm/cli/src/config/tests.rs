use std::net::Ipv4Addr;

use switch::overlay::{Action, Bounds, Dscp, Encapsulation, Lifetime, Limits, Mode, Traffic};

use super::*;

pub(super) const GOOD: &str = r#"[space]
memory = "64M"

[overlay]
local = "192.0.2.10"
peer = "192.0.2.20"
mode = "transport"

[overlay.manual]
cipher = "aes-cbc-128"

[overlay.manual.in]
spi = 0x1001
cipher_key = "000102030405060708090a0b0c0d0e0f"
auth_key = "000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f"

[overlay.manual.out]
spi = 0x1002
cipher_key = "101112131415161718191a1b1c1d1e1f"
auth_key = "101112131415161718191a1b1c1d1e1f101112131415161718191a1b1c1d1e1f"
"#;

fn mistake(change: impl Fn(&str) -> String) -> String {
    Config::parse("red.toml", "red", &change(GOOD)).unwrap_err().to_string()
}

#[test]
fn a_good_file_becomes_a_configuration_named_by_its_stem() {
    let config = Config::parse("red.toml", "red", GOOD).unwrap();
    assert_eq!(config.name.as_str(), "red");
    assert_eq!(config.memory_bytes, 64 << 20);
    assert_eq!(config.overlay.peer, Ipv4Addr::new(192, 0, 2, 20));
    let usual = Encapsulation::Udp { port: 4500, peer_port: 4500 };
    assert_eq!(config.overlay.encapsulation, usual);
    let [pair] = &config.overlay.sas[..] else { panic!("one pair") };
    assert_eq!(pair.inbound.suite.name(), "aes-cbc-128+hmac-sha256");
    assert_eq!(pair.inbound.suite, pair.outbound.suite);
    assert_eq!((pair.inbound.spi, pair.outbound.spi), (0x1001, 0x1002));
    let key = serde_json::to_value(&pair.outbound.cipher_key).unwrap();
    assert_eq!(key, "101112131415161718191a1b1c1d1e1f");
    assert!(config.files.root.is_none());
}

#[test]
fn each_mistake_is_named_with_file_line_field_and_remedy() {
    let table: &[(&str, &str, &str)] = &[
        ("\"64M\"", "\"lots\"", "red.toml:2: [space] memory: is no size; write"),
        ("\"64M\"", "\"1K\"", "red.toml:2: [space] memory: is not a size a guest can have; use"),
        ("memory", "memroy", "red.toml:2: [space] memroy: unknown field `memroy`"),
        (
            "\"64M\"",
            "\"64M\"\nguest = \"linux\"",
            "red.toml:3: [space] guest: the Linux guest is not available yet; use",
        ),
        (
            "\"64M\"",
            "\"64M\"\nname = \"Red\"",
            "red.toml:3: [space] name: \"Red\" cannot name a space; use",
        ),
        (
            "\"192.0.2.20\"",
            "\"192.0.2.10\"",
            "red.toml:6: [overlay] peer: is the local address; name",
        ),
        (
            "\"192.0.2.20\"",
            "\"b.example\"",
            "red.toml:6: [overlay] peer: \"b.example\" is no IP address; write",
        ),
        (
            "\"transport\"",
            "\"transport\"\nport = 0",
            "red.toml:8: [overlay] port: port 0 is none; use",
        ),
        (
            "\"transport\"",
            "\"transport\"\nport = 70000",
            "red.toml:8: [overlay] port: invalid value",
        ),
        (
            "\"transport\"",
            "\"transport\"\nremote = [\"10.0.0.0/8\"]",
            "red.toml:8: [overlay] remote: contradicts transport mode",
        ),
        (
            "\"aes-cbc-128\"",
            "\"aes-gcm\"",
            "red.toml:10: [overlay.manual] cipher: \"aes-gcm\" must not be keyed by hand",
        ),
        (
            "\"aes-cbc-128\"",
            "\"rot13\"",
            "red.toml:10: [overlay.manual] cipher: \"rot13\" is no cipher",
        ),
        (
            "\"aes-cbc-128\"",
            "\"null\"",
            "red.toml:14: [overlay.manual.in] cipher_key: contradicts cipher \"null\"",
        ),
        (
            "\"aes-cbc-128\"",
            "\"aes-cbc-256\"",
            "red.toml:14: [overlay.manual.in] cipher_key: has 32 hex digits where 64 are needed",
        ),
        (
            "0x1001",
            "255",
            "red.toml:13: [overlay.manual.in] spi: SPIs below 256 are reserved (RFC 4303 2.1); use",
        ),
        ("0x1001", "0x100000000", "red.toml:13: [overlay.manual.in] spi: invalid value"),
        (
            "\"0001",
            "\"zz01",
            "red.toml:14: [overlay.manual.in] cipher_key: has characters that are not hex digits",
        ),
        ("[overlay.manual]", "[overlay.manual", "red.toml:9: "),
        (
            "[space]",
            "[ports]\ninherit = [\"tcp/22\"]\n[space]",
            "red.toml:2: [ports] inherit: inherited ports are not available yet",
        ),
        (
            "[space]",
            "[files]\nroot = \"here\"\n[space]",
            "red.toml:2: [files] root: is not absolute; write",
        ),
        (
            "[space]",
            "[files]\nroot = \"/srv\"\nmask = [\"/etc/x\"]\n[space]",
            "red.toml:3: [files] mask: \"/etc/x\" is not below the root /srv; write a path",
        ),
        (
            "[space]",
            "[overlay.ike]\npsk = \"x\"\n[space]",
            "red.toml:1: [overlay.ike]: contradicts [overlay.manual]; keep one",
        ),
        (
            "[space]",
            "[tuning]\nspin_us = 2000000\n[space]",
            "red.toml:2: [tuning] spin_us: is longer than a second",
        ),
        ("[space]", "[spaces]", "red.toml:1: [spaces]: unknown field `spaces`"),
        (
            "\"101112131415161718191a1b1c1d1e1f101112131415161718191a1b1c1d1e1f\"",
            "\"000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f\"",
            "red.toml:20: [overlay.manual.out] auth_key: is the key of the other direction too; give",
        ),
        (
            "cipher = \"aes-cbc-128\"\n",
            "",
            "red.toml:9: [overlay.manual]: missing field `cipher`; add the field",
        ),
        (
            "spi = 0x1002\ncipher_key = \"101112131415161718191a1b1c1d1e1f\"",
            "spi = 0x1002",
            "red.toml:18: [overlay.manual.out] cipher_key: is missing, and aes-cbc-128 needs 16 bytes; add",
        ),
    ];
    for (from, to, sentence) in table {
        let text = mistake(|good| {
            assert!(good.contains(from), "{from}");
            good.replacen(from, to, 1)
        });
        assert!(text.starts_with(sentence), "\n{from} -> {to}\n got {text}\nwant {sentence}");
        assert!(!text.contains('\n'), "{text}");
        assert!(text.contains("; "), "no remedy: {text}");
    }
}

/// `text` after [overlay] mode, and the sentence it leads to.
fn says(text: &str, place_and_words: &str) {
    let got = mistake(|good| good.replacen("mode = \"transport\"", text, 1));
    assert!(
        got.starts_with(&format!("red.toml:{place_and_words}")),
        "\n got {got}\nwant {place_and_words}"
    );
    assert!(got.contains("; ") && !got.contains('\n'), "{got}");
}

#[test]
fn parts_of_an_overlay_that_contradict_each_other_are_named() {
    says("mode = \"express\"", "7: [overlay] mode: \"express\" is no mode; use");
    says("mode = \"tunnel\"", "9: [overlay.manual]: tunnel mode needs to know what is behind");
    says("remote = [\"10.0.0.0/8\"]", "7: [overlay] remote: contradicts transport mode");
    says("remote = [\n  \"10.0.0.0/8\"]", "7: [overlay] remote: contradicts transport mode");
    let tunnel = |remote: &str| format!("mode = \"tunnel\"\nremote = [\n{remote}\n]");
    says(
        &tunnel("\"10.0.0.1/8\""),
        "9: [overlay] remote: \"10.0.0.1/8\" has bits set behind its prefix; write",
    );
    says(&tunnel("\"10.0.0.0/8\",\n\"::/0\""), "10: [overlay] remote: ::/0 is IPv6, and the space");
    says(&tunnel("\"ten\""), "9: [overlay] remote: \"ten\" is no range of addresses; write");
    says(
        &tunnel("\"10.0.0.0/33\""),
        "9: [overlay] remote: \"10.0.0.0/33\" has a prefix of more than 32",
    );
    says("encapsulation = \"gre\"", "7: [overlay] encapsulation: \"gre\" is no encapsulation; use");
    says("port = 4500\nencapsulation = \"raw\"", "7: [overlay] port: contradicts encapsulation");
    says("peer_port = 4\nencapsulation = \"local\"", "7: [overlay] peer_port: contradicts encaps");
    says("keepalive = 20\nencapsulation = \"raw\"", "7: [overlay] keepalive: is for NATs");
    says("dscp = \"copy\"\nencapsulation = \"local\"", "7: [overlay] dscp: contradicts");
    says("dscp = \"af41\"", "7: [overlay] dscp: \"af41\" is nothing to do with it; use");
    says(
        "mode = \"tunnel\"\nencapsulation = \"local\"",
        "8: [overlay] encapsulation: \"local\" rea",
    );
    says("encapsulation = \"local\"", "10: [overlay.manual] cipher: contradicts encapsulation");
    says("[limits]\npackets = 0", "8: [limits] packets: 0 would let nothing out; write");
    says("[limits]\nbytes = \"10MB\"", "8: [limits] bytes: is no size; write");
    says("[limits]\nbytes = true", "8: [limits] bytes: invalid type");
    says(
        "[[overlay.sa]]\nin.spi = 1\nout.spi = 2",
        "7: [[overlay.sa]]: contradicts [overlay.manual]",
    );
}

#[test]
fn both_ends_are_hosts_of_one_family() {
    let ends = |local: &str, peer: &str| {
        mistake(|good| good.replacen("192.0.2.10", local, 1).replacen("192.0.2.20", peer, 1))
    };
    for (local, peer, sentence) in [
        ("192.0.2.10", "2001:db8::1", "6: [overlay] peer: is IPv6 where local is IPv4; name"),
        ("::", "2001:db8::1", "5: [overlay] local: is not one host's address; name"),
        ("192.0.2.10", "224.0.0.1", "6: [overlay] peer: is not one host's address; name"),
        (
            "::ffff:192.0.2.10",
            "::1",
            "5: [overlay] local: is an IPv4 address in IPv6's clothes; wri",
        ),
        ("fe80::1", "2001:db8::1", "5: [overlay] local: means something on one link only; name"),
    ] {
        let text = ends(local, peer);
        assert!(text.starts_with(&format!("red.toml:{sentence}")), "{text}");
    }
}

#[test]
fn algorithms_windows_and_lifetimes_are_checked_where_they_stand() {
    let sa = |line: &str, words: &str| {
        let text = mistake(|good| {
            good.replacen(
                "cipher = \"aes-cbc-128\"",
                &format!("{line}\ncipher = \"aes-cbc-128\""),
                1,
            )
        });
        assert!(text.starts_with(&format!("red.toml:10: [overlay.manual] {words}")), "{text}");
        assert!(text.contains("; "), "{text}");
    };
    sa("auth = \"hmac-sha1\"", "auth: \"hmac-sha1\" is no integrity algorithm");
    sa("window = 63", "window: a replay window of 63 packets is not possible; use");
    sa("window = 5000", "window: a replay window of 5000 packets");
    sa("esn = 1", "esn: invalid type");
    sa("lifetime = { hard = { packets = 0 } }", "lifetime: a lifetime of 0 is over at once; rem");
    sa("lifetime = { hard = { bytes = \"x\" } }", "lifetime: is no size; write");
    sa(
        "lifetime = { soft = { bytes = \"2K\" }, hard = { bytes = \"2K\" } }",
        "lifetime: the soft lifetime of 2048 bytes does not end before the hard one of 2048; make",
    );
    sa(
        "lifetime = { hard = { packets = 5000000000 } }",
        "lifetime: 5000000000 packets are more than an SA without ESN can number; use",
    );
    sa("protocol = \"tcp\"", "protocol: contradicts [overlay.manual], which is for all");
    let long = |good: &str| {
        good.replace("cipher = \"aes-cbc-128\"", "cipher = \"aes-cbc-128\"\nauth = \"hmac-sha512\"")
    };
    let text = mistake(long);
    assert!(text.contains("auth_key: has 64 hex digits where 128 are needed"), "{text}");
}

const SEVERAL: &str = r#"[space]
address = ["10.1.0.5", "2001:db8:1::5"]
[overlay]
local = "2001:db8::10"
peer = "2001:db8::20"
mode = "tunnel"
remote = ["10.0.0.0/8"]
encapsulation = "raw"
dscp = "copy"

[[overlay.sa]]
cipher = "null"
auth = "hmac-sha384"
esn = true
window = 64
lifetime = { soft = { bytes = "1G" }, hard = { bytes = "2G", seconds = 3600, packets = 5000000000 } }
in = { spi = 0x1001, auth_key = "K1" }
out = { spi = 0x1002, auth_key = "K2" }

[[overlay.sa]]
cipher = "null"
auth = "hmac-sha384"
remote = ["10.9.0.1-10.9.0.3", "2001:db8:2::/48"]
protocol = "tcp"
local_ports = 22
remote_ports = "8000-8100"
in = { spi = 0x2001, auth_key = "K3" }
out = { spi = 0x2002, auth_key = "K4" }

[[overlay.policy]]
action = "discard"
remote = ["10.9.9.0/24"]
protocol = "icmp"

[[overlay.policy]]
action = "protect"
sa = 1
remote = ["10.9.8.0/24"]
protocol = 47

[limits]
packets = 10000
bytes = "10M"
"#;

/// [`SEVERAL`] with keys, and `from` replaced.
fn several(from: &str, to: &str) -> Result<Config, Mistake> {
    assert!(SEVERAL.contains(from), "{from}");
    let mut text = SEVERAL.replacen(from, to, 1);
    for key in 1..=4 {
        text = text.replace(&format!("K{key}"), &format!("0{key}").repeat(48));
    }
    Config::parse("red.toml", "red", &text)
}

#[test]
fn everything_a_file_can_say_of_an_overlay_arrives() {
    let overlay = several("[space]", "[space]").unwrap().overlay;
    assert_eq!(overlay.addresses.len(), 2);
    assert_eq!((overlay.mode, overlay.encapsulation), (Mode::Tunnel, Encapsulation::Raw));
    assert_eq!((overlay.dscp, overlay.keepalive_s), (Dscp::Copy, 0));
    let limits = Limits { packets_per_s: Some(10000), bytes_per_s: Some(10 << 20) };
    assert_eq!(overlay.limits, limits);
    let [wide, narrow] = &overlay.sas[..] else { panic!("two pairs") };
    assert_eq!(
        wide.traffic,
        Traffic { remote: vec!["10.0.0.0/8".parse().unwrap()], ..Traffic::default() }
    );
    assert_eq!((wide.esn, wide.window), (true, 64));
    let soft = Bounds { bytes: Some(1 << 30), ..Bounds::default() };
    let hard = Bounds { bytes: Some(2 << 30), seconds: Some(3600), packets: Some(5_000_000_000) };
    assert_eq!(wide.lifetime, Lifetime { soft, hard });
    assert_eq!(narrow.traffic.remote.len(), 2);
    assert_eq!(narrow.traffic.protocol, Some(6));
    assert_eq!(narrow.traffic.local_ports, Some([22, 22]));
    assert_eq!(narrow.traffic.remote_ports, Some([8000, 8100]));
    let actions = overlay.policies.iter().map(|policy| policy.action).collect::<Vec<_>>();
    assert_eq!(actions, [Action::Discard, Action::Protect(1)]);
    assert_eq!(overlay.policies[1].traffic.protocol, Some(47));
}

#[test]
fn mistakes_of_one_of_several_sas_or_policies_are_named_where_they_stand() {
    for (from, to, sentence) in [
        (
            "[\"10.1.0.5\", ",
            "[\"10.1.0.5\", \"10.1.0.6\", ",
            "2: [space] address: 10.1.0.6 is a second",
        ),
        ("[\"10.1.0.5\", \"2001:db8:1::5\"]", "[]", "2: [space] address: is empty; use"),
        ("[\"10.1.0.5\", \"2001:db8:1::5\"]", "7", "2: [space] address: invalid type"),
        ("\"tunnel\"", "\"transport\"", "2: [space] address: in transport mode a space has"),
        ("remote = [\"10.0.0.0/8\"]", "", "11: [[overlay.sa]]: tunnel mode needs to know"),
        ("0x2001", "0x1001", "27: [[overlay.sa]] in: is the SPI of another SA of this direction"),
        ("0x2002", "0x1002", "28: [[overlay.sa]] out: is the SPI of another SA of this direction"),
        ("K3", "K2", "27: [[overlay.sa]] in: is the key of another SA too; give"),
        ("\"tcp\"", "\"ip\"", "24: [[overlay.sa]] protocol: \"ip\" is no protocol; use"),
        ("\"tcp\"", "256", "24: [[overlay.sa]] protocol: \"256\" is no protocol; use"),
        ("\"tcp\"", "\"icmp\"", "25: [[overlay.sa]] local_ports: needs a protocol with ports"),
        ("8000-8100", "8100-8000", "26: [[overlay.sa]] remote_ports: \"8100-8000\" ends before"),
        ("= 22", "= 0", "25: [[overlay.sa]] local_ports: \"0\" is no port and no range"),
        ("sa = 1", "sa = 2", "37: [[overlay.policy]] sa: there is no pair of SAs 2; there are 2"),
        (
            "sa = 1",
            "",
            "36: [[overlay.policy]] action: \"protect\" needs to know by which SAs; add",
        ),
        ("\"discard\"", "\"discard\"\nsa = 0", "32: [[overlay.policy]] sa: contradicts action"),
        (
            "\"discard\"",
            "\"bypass\"",
            "31: [[overlay.policy]] action: \"bypass\" is no action; use",
        ),
        ("\"raw\"", "\"local\"\n", "8: [overlay] encapsulation: \"local\" reaches one other"),
    ] {
        let text = several(from, to).unwrap_err().to_string();
        assert!(text.starts_with(&format!("red.toml:{sentence}")), "{text}");
        assert!(text.contains("; "), "no remedy: {text}");
    }
}

#[test]
fn two_spaces_of_this_host_are_bound_by_two_numbers() {
    let text = r#"[overlay]
local = "192.0.2.10"
peer = "192.0.2.99"
encapsulation = "local"
manual.in.spi = 0x1001
manual.out.spi = 0x1002
"#;
    let overlay = Config::parse("red.toml", "red", text).unwrap().overlay;
    assert_eq!((overlay.encapsulation, overlay.keepalive_s), (Encapsulation::Local, 0));
    let [pair] = &overlay.sas[..] else { panic!("one pair") };
    assert_eq!((pair.inbound.spi, pair.outbound.spi), (0x1001, 0x1002));
    assert!(pair.inbound.auth_key.is_empty());
    let own = text.replace("0x1002", "0x1001");
    let own = Config::parse("red.toml", "red", &own).unwrap_err().to_string();
    assert!(own.contains("is the space's own SPI; name"), "{own}");
}

#[test]
fn the_documented_files_are_read() {
    let document = include_str!("../../../../docs/configuration.md");
    let blocks: Vec<&str> = document
        .split("```toml\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .collect();
    let [whole, several] = blocks[..] else { panic!("two files") };
    let keyed = |text: &str| {
        // A key of its own for each, as long as the document says.
        let mut keys = 0..;
        let mut pieces = text.split("\"...\"");
        let mut keyed = pieces.next().unwrap().to_owned();
        for piece in pieces {
            keyed.push_str(&format!("\"{:064x}\"{piece}", keys.next().unwrap()));
        }
        keyed
    };
    let config = Config::parse("red.toml", "blue", &keyed(whole)).unwrap();
    assert_eq!((config.name.as_str(), config.overlay.sas.len()), ("red", 1));
    assert_eq!(config.overlay.keepalive_s, switch::overlay::DEFAULT_KEEPALIVE_S);
    assert_eq!(config.overlay.sas[0].window, switch::overlay::DEFAULT_WINDOW);
    let tunnel = "[overlay]\nlocal = \"192.0.2.10\"\npeer = \"192.0.2.20\"\nmode = \"tunnel\"\n";
    let several = Config::parse("red.toml", "red", &keyed(&format!("{tunnel}{several}"))).unwrap();
    assert_eq!((several.overlay.sas.len(), several.overlay.policies.len()), (1, 1));
}

/// A file without SAs, with `keys` as session keys.
fn with_session_keys(file: &str, keys: &str) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let [toml, json] = ["red.toml", "keys.json"].map(|name| directory.path().join(name));
    std::fs::write(&toml, file).unwrap();
    std::fs::write(&json, keys).unwrap();
    Config::read(&toml, Some(&json)).map_err(|mistake| mistake.to_string())
}

#[test]
fn session_keys_take_the_place_of_those_of_the_file_and_are_checked() {
    let bare = &GOOD[..GOOD.find("[overlay.manual]").unwrap()];
    let sa = |spi: u32| {
        format!(r#"{{"spi":{spi},"suite":"aes-gcm-256","cipher_key":"{}"}}"#, "07".repeat(36))
    };
    let keys = format!(r#"[{{"inbound":{},"outbound":{}}}]"#, sa(0x1001), sa(0x1002));
    let overlay = with_session_keys(bare, &keys).unwrap().overlay;
    assert_eq!(overlay.sas[0].outbound.suite.name(), "aes-gcm-256");
    let tunnel = bare.replace("\"transport\"", "\"tunnel\"\nremote = [\"10.0.0.0/8\"]");
    let overlay = with_session_keys(&tunnel, &keys).unwrap().overlay;
    assert_eq!(overlay.sas[0].traffic.remote, ["10.0.0.0/8".parse().unwrap()]);
    let twice = format!("[{0},{0}]", &keys[1..keys.len() - 1]);
    let narrow = keys.replace("\"inbound\"", "\"traffic\":{\"remote\":[\"10.0.0.1\"]},\"inbound\"");
    let tunnel_alone = bare.replace("transport", "tunnel");
    for (file, keys, words) in [
        (GOOD, &keys[..], "[overlay.manual]: contradicts --session-keys; keep"),
        (bare, "[]", "holds no SAs; "),
        (bare, "{}", "is no list of SAs (invalid type"),
        (bare, &keys.replace("4097", "9"), "pair 0: SPIs below 256 are reserved"),
        (
            bare,
            &keys.replacen("0707", "07", 1),
            "pair 0: cipher_key of SPI 0x1001 has 35 bytes where aes-gcm-256 needs 36",
        ),
        (
            bare,
            &keys.replacen("\"inbound\"", "\"window\":1,\"inbound\"", 1),
            "pair 0: a replay window of 1",
        ),
        (bare, &twice, "pair 1: has the SPI of another"),
        (bare, &narrow, "pair 0: remote contradicts transport mode"),
        (&tunnel_alone, &keys, "pair 0: tunnel mode needs to know what is behind"),
    ] {
        let text = with_session_keys(file, keys).unwrap_err();
        assert!(text.contains(words) && text.contains("; ") && !text.contains("0707"), "{text}");
    }
}

#[test]
fn an_aead_keyed_by_hand_is_refused_with_its_rfc() {
    let text = mistake(|good| good.replace("aes-cbc-128", "chacha20-poly1305"));
    assert!(text.contains("RFC 8221"), "{text}");
}

#[test]
fn an_overlay_that_nothing_keys_says_what_to_add() {
    let text = mistake(|good| good[..good.find("[overlay.manual]").unwrap()].to_owned());
    assert_eq!(
        text,
        "red.toml:5: [overlay]: nothing keys the overlay; add [overlay.manual] with cipher, in and out"
    );
}

#[test]
fn a_key_is_never_printed() {
    let config = Config::parse("red.toml", "red", GOOD).unwrap();
    let text = format!("{config:?}");
    assert!(!text.contains("0c0d0e0f") && text.contains("Key(16 bytes)"), "{text}");
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::read(Path::new("/nonexistent/red.toml"), None).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/red.toml: cannot be read"));
}
