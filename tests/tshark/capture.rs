//! A capture as `portspace capture` writes it.

use cli::config::Config;
use cli::lab::service::finish;
use cli::lab::{A, Lab, Peer};
use switch::overlay::Cipher;
use tests::{PATIENCE, Space, eventually};

use crate::dissect::{Known, read};

/// Packets captured.
const PACKETS: usize = 6;

pub(crate) fn of_a_space(lab: &Lab) {
    let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc256, None);
    let file = lab.a.directory.join("red.pcapng");
    let path = file.to_str().unwrap();
    let count = PACKETS.to_string();
    let mut command =
        lab.a.portspace(&["capture", "red", "--outer", "-w", path, "--packets", &count]);
    let ended = std::thread::scope(|scope| {
        let capture = scope.spawn(|| finish(&mut command, PATIENCE).unwrap());
        eventually("the capture ends with its last packet", || {
            assert!(red.run(&["ping", "192.0.2.20", "-c", "1"]).ok());
            capture.is_finished()
        });
        capture.join().unwrap()
    });
    assert!(ended.ok(), "{}", ended.why());
    let pair = Config::read(&red.file, None).unwrap().overlay.sas.remove(0);
    let b = Peer::B.address();
    let hex = |sa: &switch::overlay::Sa| [sa.cipher_key.to_hex(), sa.auth_key.to_hex()];
    let keys = [hex(&pair.outbound), hex(&pair.inbound)];
    let known = |from, to, sa: &switch::overlay::Sa, at: usize| Known {
        from,
        to,
        spi: sa.spi,
        suite: sa.suite,
        cipher_key: &keys[at][0],
        auth_key: &keys[at][1],
    };
    let out = known(A, b, &pair.outbound, 0);
    let back = known(b, A, &pair.inbound, 1);
    let seen = read(&file, &[&out, &back]);
    assert_eq!(seen.len(), PACKETS);
    for [icv, kind, number] in &seen {
        assert!(icv == "1" && ["0", "8"].contains(&kind.as_str()), "{seen:?}");
        assert!(!number.is_empty(), "{seen:?}");
    }
    assert!(["0", "8"].iter().all(|kind| seen.iter().any(|packet| packet[1] == *kind)), "{seen:?}");
}
