//! A space's disks: the image stays, what is written stays in the space's own layer.

use std::io::Write;
use std::path::{Path, PathBuf};

use cli::lab::{Lab, Peer};
use switch::overlay::Cipher;
use tests::{Space, eventually, run};

const SIZE: usize = 3 << 20;
const CLUSTER: usize = 64 << 10;

/// What the image is made of.
fn contents() -> Vec<u8> {
    (0..SIZE as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

/// A raw image, and what is in it.
fn image(lab: &Lab) -> (PathBuf, Vec<u8>) {
    let path = lab.a.directory.join("disk.raw");
    std::fs::write(&path, contents()).unwrap();
    (path, contents())
}

/// A space that runs with these disks, its peer being somewhere else.
fn with_disks<'a>(lab: &'a Lab, disks: &str) -> Space<'a> {
    let red = Space::configure(lab, "red", Peer::B, Cipher::AesCbc256, None);
    add(&red, disks);
    red.start();
    red
}

fn add(space: &Space<'_>, text: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).open(&space.file).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn disk(image: &Path, more: &str) -> String {
    format!("\n[[disks]]\nimage = \"{}\"\nformat = \"raw\"\n{more}", image.display())
}

/// `blk` inside, which must succeed.
fn blk(space: &Space<'_>, arguments: &[&str], input: &[u8]) -> String {
    let ended = space.run_with_input(&[&["blk"], arguments].concat(), input);
    assert!(ended.ok(), "blk {arguments:?}: {}", ended.why());
    ended.out
}

fn sum(space: &Space<'_>) -> String {
    blk(space, &["sha256", "0", &SIZE.to_string()], b"")
}

/// The same sum, made by the guest of what the test says.
fn expected(space: &Space<'_>, bytes: &[u8]) -> String {
    let ended = space.run_with_input(&["sha256"], bytes);
    ended.out.replace("  -", "")
}

/// Ends the VM process as a machine ends that loses power, but for the host's own memory.
fn kill(space: &Space<'_>) {
    crate::failures::kill(space.inspect()["vm"]["pid"].as_u64().unwrap());
    eventually("the VM process is gone", || space.inspect()["state"] == "stopped");
}

pub(crate) fn own_layer(lab: &Lab) {
    let (path, mut model) = image(lab);
    let red = with_disks(lab, &disk(&path, ""));
    assert_eq!(blk(&red, &["size"], b""), format!("{SIZE}\n"));
    assert_eq!(sum(&red), expected(&red, &model));
    for (at, length) in [(512, 1024), (3 * CLUSTER - 512, 100 * 512), (20 * CLUSTER, 3 * CLUSTER)] {
        let bytes: Vec<u8> = (0..length).map(|n| (n / 7 + at) as u8).collect();
        blk(&red, &["write", &at.to_string()], &bytes);
        model[at..at + length].copy_from_slice(&bytes);
    }
    for (order, at, length) in [
        ("discard", 21 * CLUSTER, CLUSTER),
        ("discard", 30 * CLUSTER, 5 * CLUSTER),
        ("zero", 1024, 4096),
    ] {
        blk(&red, &[order, &at.to_string(), &length.to_string()], b"");
        model[at..at + length].fill(0);
    }
    assert_eq!(sum(&red), expected(&red, &model));
    let layer = PathBuf::from(red.inspect()["disks"][0]["layers"][0].as_str().unwrap());
    assert!(run(lab, &["stop", "red"]).ok(), "what nobody flushed is kept by an orderly end");
    red.start();
    assert_eq!(sum(&red), expected(&red, &model), "the layer outlives the machine");
    blk(&red, &["flush"], b"");
    let blocks = std::os::unix::fs::MetadataExt::blocks(
        &std::fs::metadata(layer.with_extension("data")).unwrap(),
    );
    // The first, those around the third's end, and two of three that were written whole.
    assert!(blocks * 512 <= 6 * CLUSTER as u64 + 8192, "{blocks} blocks: the layer is sparse");
    assert!(std::fs::read(&path).unwrap() == contents(), "the image is as it was");
    assert!(run(lab, &["stop", "red"]).ok() && run(lab, &["rm", "red"]).ok());
    assert!(!layer.exists() && path.exists());
}

pub(crate) fn flushed_is_kept(lab: &Lab) {
    let (path, mut model) = image(lab);
    let red = with_disks(lab, &disk(&path, ""));
    for round in 0..3 {
        let (at, bytes) = (round * 5 * CLUSTER + 512, vec![round as u8 + 1; 2 * CLUSTER]);
        blk(&red, &["write", &at.to_string()], &bytes);
        model[at..at + bytes.len()].copy_from_slice(&bytes);
        let hole = round * 3 * CLUSTER + 16 * CLUSTER;
        blk(&red, &["discard", &hole.to_string(), &CLUSTER.to_string()], b"");
        model[hole..hole + CLUSTER].fill(0);
        blk(&red, &["flush"], b"");
        // Not flushed, in clusters that nobody has written before: it may be there or not.
        let lost = (40 + round) * CLUSTER;
        blk(&red, &["write", &lost.to_string()], &[0xee; 512]);
        kill(&red);
        red.start();
        let found = blk(&red, &["sha256", &lost.to_string(), "512"], b"");
        let either = [&model[lost..lost + 512], &[0xee; 512]].map(|bytes| expected(&red, bytes));
        assert!(either.contains(&found), "round {round}: neither old nor new");
        blk(&red, &["write", &lost.to_string()], &model[lost..lost + 512]);
        assert_eq!(sum(&red), expected(&red, &model), "round {round}");
    }
    assert!(std::fs::read(&path).unwrap() == contents(), "the image is as it was");
}

pub(crate) fn several(lab: &Lab) {
    let (path, model) = image(lab);
    let (writable, read_only) = (disk(&path, ""), disk(&path, "read_only = true\n"));
    let red = with_disks(lab, &[&*read_only, &writable, &writable, &writable].concat());
    for number in ["1", "2", "3"] {
        blk(&red, &["-d", number, "write", "0"], &[number.as_bytes()[0]; 512]);
    }
    let refused = red.run_with_input(&["blk", "-d", "0", "write", "0"], &[0; 512]);
    assert!(refused.said.contains("the disk reports an error"), "{}", refused.said);
    let refused = red.run(&["blk", "-d", "0", "discard", "0", "65536"]);
    assert!(refused.said.contains("this disk cannot do that"), "{}", refused.said);
    assert_eq!(red.run(&["blk", "-d", "4", "size"]).status, Some(1));
    for (number, bytes) in [("0", &model[..512]), ("1", &[b'1'; 512]), ("3", &[b'3'; 512])] {
        let found = blk(&red, &["-d", number, "sha256", "0", "512"], b"");
        assert_eq!(found, expected(&red, bytes), "disk {number}");
    }
}

pub(crate) fn refused(lab: &Lab) {
    let (path, model) = image(lab);
    let red = with_disks(lab, &disk(&path, ""));
    blk(&red, &["write", "0"], &[7; 512]);
    let layer = PathBuf::from(red.inspect()["disks"][0]["layers"][0].as_str().unwrap());
    assert!(run(lab, &["stop", "red"]).ok());
    let refusal = |words: &str| {
        let ended = run(lab, &["up", red.file.to_str().unwrap()]);
        assert!(!ended.ok() && ended.said.contains(words), "{} has no {words:?}", ended.said);
        assert_eq!(ended.said.trim_end().lines().count(), 1, "{}", ended.said);
    };
    let away = path.with_extension("away");
    std::fs::rename(&path, &away).unwrap();
    refusal("cannot open its disk 0: the image");
    std::fs::rename(&away, &path).unwrap();
    std::fs::write(&path, &model[512..]).unwrap();
    refusal("is for 3145728 bytes, but");
    std::fs::write(&path, &model).unwrap();
    let text = std::fs::read_to_string(&red.file).unwrap();
    std::fs::copy(&path, &away).unwrap();
    std::fs::write(&red.file, text.replace("disk.raw", "disk.away")).unwrap();
    refusal("was made over");
    std::fs::write(&red.file, text.replace("format = \"raw\"", "format = \"vmdk\"")).unwrap();
    refusal("[[disks]] format: \"vmdk\" is no format of an image here");
    std::fs::write(&red.file, text.replace("format = \"raw\"\n", "")).unwrap();
    refusal("[[disks]] format: is missing, and never guessed");
    std::fs::write(&red.file, &text).unwrap();
    let map = std::fs::read(&layer).unwrap();
    let mut damaged = map.clone();
    damaged[4 * CLUSTER + 1] ^= 0x40;
    std::fs::write(&layer, damaged).unwrap();
    refusal("is damaged; restore it, or remove the space");
    std::fs::write(&layer, map).unwrap();
    red.start();
    let found = blk(&red, &["sha256", "0", "512"], b"");
    assert_eq!(found, expected(&red, &[7; 512]), "nothing was lost by all that");
}
