use std::net::Ipv4Addr;

use switch::overlay::Encapsulation;

use super::*;

const GOOD: &str = r#"[space]
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
    assert!(config.root.is_none());
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
            "red.toml:6: [overlay] peer: \"b.example\" is no IPv4 address; write",
        ),
        (
            "\"transport\"",
            "\"tunnel\"",
            "red.toml:7: [overlay] mode: tunnel mode is not available yet; use",
        ),
        (
            "\"transport\"",
            "\"transport\"\nencapsulation = \"raw\"",
            "red.toml:8: [overlay] encapsulation: raw ESP",
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
            "[files]\nmask = [\"~/.ssh\"]\n[space]",
            "red.toml:2: [files] mask: masking is not available yet",
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
            "red.toml:20: [overlay.manual.out] auth_key: is the key of [overlay.manual.in] too; give",
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
    let error = Config::read(Path::new("/nonexistent/red.toml")).unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/red.toml: cannot be read"));
}
