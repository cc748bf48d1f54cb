use super::*;

fn read(text: &str) -> Result<Overlay, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

const SHORT: &str = r#"{"local":"192.0.2.10","peer":"192.0.2.20","sas":[]}"#;

#[test]
fn a_short_overlay_has_the_usual_values_and_an_unknown_field_is_named() {
    let overlay = read(SHORT).unwrap();
    let usual = Encapsulation::Udp { port: 4500, peer_port: 4500 };
    assert_eq!((overlay.encapsulation, overlay.mode), (usual, Mode::Transport));
    assert_eq!((overlay.dscp, overlay.keepalive_s), (Dscp::Clear, 20));
    assert_eq!(overlay.limits, Limits::default());
    assert!(overlay.addresses.is_empty() && overlay.policies.is_empty());
    let error = read(&SHORT.replace("peer\"", "pear\"")).unwrap_err();
    assert!(error.contains("pear"), "{error}");
}

#[test]
fn a_short_pair_of_sas_is_for_all_packets_and_for_ever() {
    let sa = |spi: u32| format!(r#"{{"spi":{spi},"suite":"aes-gcm-256","cipher_key":"00ff"}}"#);
    let pair = format!(r#"{{"inbound":{},"outbound":{}}}"#, sa(0x1001), sa(0x1002));
    let pair: SaPair = serde_json::from_str(&pair).unwrap();
    assert_eq!((pair.esn, pair.window, pair.lifetime), (false, 1024, Lifetime::default()));
    assert_eq!((pair.inbound.suite, pair.outbound.spi), (Suite::Aead(Aead::AesGcm256), 0x1002));
    assert!(pair.traffic.remote.is_empty() && pair.inbound.auth_key.is_empty());
    let error = serde_json::from_str::<Sa>(&sa(1).replace("gcm", "ctr")).unwrap_err().to_string();
    assert!(error.contains("aes-ctr-256"), "{error}");
}

#[test]
fn an_overlay_is_read_as_it_was_written() {
    let text = r#"{
        "local": "2001:db8::10", "peer": "2001:db8::20",
        "encapsulation": "raw", "mode": "tunnel", "addresses": ["10.1.0.5"],
        "sas": [{
            "inbound": {"spi": 4097, "suite": "null+hmac-sha384", "auth_key": "01"},
            "outbound": {"spi": 4098, "suite": "aes-cbc-192+hmac-sha512", "cipher_key": "02", "auth_key": "03"},
            "traffic": {"remote": ["10.0.0.0/8", "10.9.0.1-10.9.0.3"], "protocol": 6, "local_ports": [80, 80], "remote_ports": null},
            "esn": true, "window": 64,
            "lifetime": {"soft": {"packets": 5, "bytes": null, "seconds": null}, "hard": {"packets": 6, "bytes": 7, "seconds": 8}}
        }],
        "policies": [
            {"traffic": {"remote": ["10.0.0.1"], "protocol": null, "local_ports": null, "remote_ports": null}, "action": "discard"},
            {"traffic": {"remote": [], "protocol": 17, "local_ports": null, "remote_ports": [8000, 8100]}, "action": {"protect": 0}}
        ],
        "dscp": "copy", "keepalive_s": 0, "limits": {"packets_per_s": 10, "bytes_per_s": null}
    }"#;
    let value: serde_json::Value = serde_json::from_str(text).unwrap();
    let overlay = read(text).unwrap();
    let mut written = serde_json::to_value(&overlay).unwrap();
    // The shorter forms are filled up; nothing else differs.
    written["sas"][0]["inbound"].as_object_mut().unwrap().remove("cipher_key");
    assert_eq!(written, value);
    let udp = SHORT.replace("\"sas\"", "\"encapsulation\":{\"udp\":{\"port\":500}},\"sas\"");
    let udp = read(&udp).unwrap().encapsulation;
    assert_eq!(udp, Encapsulation::Udp { port: 500, peer_port: 4500 });
}
