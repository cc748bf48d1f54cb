//! Against trying every length.

use super::*;

const HEADROOM: usize = 8 + 16;
const ICV: usize = 16;

/// Bytes of the ESP packet of a payload, with blocks of 16 bytes.
fn sealed_len(payload_len: usize) -> usize {
    HEADROOM + (payload_len + 2).next_multiple_of(16) + ICV
}

/// What an SA says, found by trying.
fn max_payload(limit: usize) -> Option<usize> {
    (0..=limit).rev().find(|payload_len| sealed_len(*payload_len) <= limit)
}

#[test]
fn the_longest_inner_packet_fits_and_one_byte_more_does_not() {
    for mtu in [1280, 1400, 1492, 1500, 9000] {
        for (is_v4, is_udp) in [(true, true), (true, false), (false, true), (false, false)] {
            let path = Path { mtu, is_v4, is_udp };
            for mode in [Mode::Transport, Mode::Tunnel] {
                let inner = usize::from(path.inner(mode, max_payload).unwrap());
                let own_header = match (mode, is_v4) {
                    (Mode::Tunnel, _) => 0,
                    (Mode::Transport, true) => 20,
                    (Mode::Transport, false) => 40,
                };
                let outer = |inner: usize| {
                    let ip = if is_v4 { 20 } else { 40 };
                    ip + if is_udp { 8 } else { 0 } + sealed_len(inner - own_header)
                };
                assert!(outer(inner) <= usize::from(mtu), "{path:?} {mode:?} {inner}");
                assert!(outer(inner + 1) > usize::from(mtu), "{path:?} {mode:?} {inner}");
            }
        }
    }
}

#[test]
fn the_usual_path_leaves_the_usual_room() {
    let path = Path { mtu: 1500, is_v4: true, is_udp: true };
    assert_eq!((path.headers(), path.esp()), (28, 1472));
    assert_eq!(path.inner(Mode::Tunnel, max_payload), Some(1422));
    assert_eq!(path.inner(Mode::Transport, max_payload), Some(1442));
}

#[test]
fn a_path_too_narrow_for_any_packet_has_no_mtu_and_a_wide_one_at_most_65535() {
    for mtu in [0, 27, 28, 70, 80] {
        let path = Path { mtu, is_v4: true, is_udp: true };
        assert_eq!(path.inner(Mode::Tunnel, max_payload), None, "{mtu}");
    }
    let path = Path { mtu: u16::MAX, is_v4: false, is_udp: false };
    assert_eq!(path.inner(Mode::Transport, Some), Some(u16::MAX));
    assert_eq!(path.inner(Mode::Transport, |_| Some(70_000)), Some(u16::MAX));
}
