use super::Peer;
use super::capture::{Kind, classify};

fn frame(to: [u8; 6], from: [u8; 6], kind: [u8; 2], packet: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind, packet].concat()
}

fn udp(protocol: u8, ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    packet.extend_from_slice(&[192, 0, 2, 10, 192, 0, 2, 20]);
    packet.extend_from_slice(&ports[0].to_be_bytes());
    packet.extend_from_slice(&ports[1].to_be_bytes());
    packet.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(payload);
    packet
}

#[test]
fn only_esp_and_keepalives_on_the_port_are_not_foreign() {
    let [near, far] = Peer::B.macs();
    let of = |packet: &[u8]| classify(&frame(far, near, [8, 0], packet), 4500);
    let esp = [0, 0, 0x10, 1, 0, 0, 0, 1, 9, 9];
    assert_eq!(of(&udp(17, [4500, 4500], &esp)), Kind::Esp);
    assert_eq!(of(&udp(17, [4500, 4500], &esp)[..30]), Kind::Foreign, "cut before the SPI");
    assert_eq!(of(&udp(17, [4500, 4500], &[0xff])), Kind::Keepalive);
    assert_eq!(of(&udp(17, [4500, 4500], &[0, 0, 0, 0, 1])), Kind::Foreign, "IKE");
    assert_eq!(of(&udp(17, [4500, 4501], &esp)), Kind::Foreign, "another port");
    assert_eq!(of(&udp(17, [53, 53], &esp)), Kind::Foreign, "DNS");
    assert_eq!(of(&udp(6, [4500, 4500], &esp)), Kind::Foreign, "TCP");
    assert_eq!(of(&[]), Kind::Foreign, "nothing");
    assert_eq!(classify(&[0; 13], 4500), Kind::Foreign, "no frame at all");
    let arp = frame([0xff; 6], near, [8, 6], &[0; 28]);
    assert_eq!(classify(&arp, 4500), Kind::Foreign, "ARP");
    let mut fragment = udp(17, [4500, 4500], &esp);
    fragment[6] = 0x20;
    assert_eq!(of(&fragment), Kind::Foreign, "a fragment");
}

#[test]
fn raw_esp_is_foreign_where_it_is_to_be_in_udp_and_the_other_way_round() {
    let [near, far] = Peer::B.macs();
    let of = |packet: &[u8], port| classify(&frame(far, near, [8, 0], packet), port);
    let esp = [0, 0, 0x10, 1, 0, 0, 0, 1, 9, 9];
    let in_udp = udp(17, [4500, 4500], &esp);
    let raw = [&udp(50, [0, 0], &[])[..20], &esp].concat();
    assert_eq!((of(&in_udp, 4500), of(&in_udp, 0)), (Kind::Esp, Kind::Foreign));
    assert_eq!((of(&raw, 4500), of(&raw, 0)), (Kind::Foreign, Kind::Esp));
    let reserved = [&raw[..20], &[0; 10]].concat();
    assert_eq!(of(&reserved, 0), Kind::Foreign, "a reserved SPI");
}

#[test]
fn a_long_packet_that_the_capture_cut_is_still_esp() {
    let [near, far] = Peer::C.macs();
    let whole = frame(near, far, [8, 0], &udp(17, [4500, 4500], &[7; 1400]));
    assert_eq!(classify(&whole[..256], 4500), Kind::Esp);
}
