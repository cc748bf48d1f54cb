//! The same files through QEMU's eyes, and QEMU's through ours. Needs Debian's `qemu-utils`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use cowdisk::host::{Config, open};
use cowdisk::{CLUSTER, SECTOR, Space};
use libtest_mimic::{Arguments, Completion, Trial};

fn main() -> ExitCode {
    let trial = Trial::ignorable_test("QEMU reads, checks and writes what we write", || {
        let there = |program| Command::new(program).arg("--version").output().is_ok();
        if !there("qemu-img") || !there("qemu-io") {
            return Ok(Completion::ignored_with("there is no qemu-img; install qemu-utils"));
        }
        a_layer_and_the_one_above_it();
        Ok(Completion::Completed)
    });
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

const SIZE: u64 = 40 * CLUSTER + 512;

fn tool(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(directory).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}

fn config(directory: &Path, layers: &[&str]) -> Config {
    let layers = layers.iter().map(|name| directory.join(name)).collect();
    Config { image: directory.join("image"), layers, writable: true }
}

fn all(config: &Config) -> Vec<u8> {
    let mut bytes = vec![0; SIZE as usize];
    open(config).unwrap().read(0, &mut bytes).unwrap();
    bytes
}

fn a_layer_and_the_one_above_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let image: Vec<u8> = (0..SIZE).map(|at| (at / SECTOR) as u8 | 1).collect();
    fs::write(path.join("image"), &image).unwrap();
    let (lower, both) = (config(path, &["0.qcow2"]), config(path, &["0.qcow2", "1.qcow2"]));
    for (config, salt) in [(&lower, 1), (&both, 2)] {
        let mut disk = open(config).unwrap();
        for at in (0..SIZE / 3).step_by(50_000) {
            let place = at * salt % (SIZE - 70_000) / SECTOR * SECTOR;
            match at % 3 {
                0 => disk.zero(place, 2 * CLUSTER, Space::GiveBack).unwrap(),
                _ => disk
                    .write(place, &vec![at as u8 ^ salt as u8; 512 * (at % 99) as usize])
                    .unwrap(),
            }
        }
        disk.flush().unwrap();
    }
    for (config, top) in [(&lower, "0.qcow2"), (&both, "1.qcow2")] {
        let checked = tool(path, "qemu-img", &["check", "-f", "qcow2", top]);
        assert!(checked.contains("No errors were found"), "{checked}");
        tool(path, "qemu-img", &["convert", "-f", "qcow2", "-O", "raw", top, "seen"]);
        assert!(fs::read(path.join("seen")).unwrap() == all(config), "{top}");
    }
    let orders =
        ["write -P 7 1M 5k", "write -z 128k 64k", "write -zu 256k 64k", "discard 512k 64k"];
    let orders: Vec<_> = orders.iter().flat_map(|order| ["-c", order]).collect();
    tool(path, "qemu-io", &[&["-f", "qcow2"], &orders[..], &["1.qcow2"]].concat());
    tool(path, "qemu-img", &["convert", "-f", "qcow2", "-O", "raw", "1.qcow2", "seen"]);
    assert!(fs::read(path.join("seen")).unwrap() == all(&both), "what QEMU wrote");
    assert!(fs::read(path.join("image")).unwrap() == image);
    let (moved, before) = (path.join("moved"), all(&lower));
    fs::rename(path.join("image"), &moved).unwrap();
    let below = moved.to_str().unwrap();
    tool(path, "qemu-img", &["rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", below, "0.qcow2"]);
    let lower = Config { image: moved, ..lower };
    assert!(all(&lower) == before, "over an image that was moved");
}
