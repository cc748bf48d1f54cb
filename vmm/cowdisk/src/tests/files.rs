//! Disks in real files: what is refused, and that nothing is lost by it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::host::{Config, OpenFailure, open};
use crate::layer::Space;
use crate::{CLUSTER, MAX_LAYERS};

const SIZE: usize = 4 * CLUSTER as usize + 512;

struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let image: Vec<u8> = (0..SIZE).map(|at| (at / 512) as u8 | 1).collect();
        fs::write(directory.path().join("image"), image).unwrap();
        Bench { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn config(&self, layers: &[&str]) -> Config {
        let layers = layers.iter().map(|name| self.path(name)).collect();
        Config { image: self.path("image"), layers, writable: true }
    }

    /// Every file with its bytes.
    fn all(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut all: Vec<_> = entries
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read(path).unwrap()))
            .collect();
        all.sort();
        all
    }

    /// The sentence by which the disk is refused; nothing is changed by that.
    fn refused(&self, config: &Config) -> String {
        let before = self.all();
        let failure = open(config).expect_err("it is refused");
        assert!(self.all() == before, "nothing is changed: {failure}");
        match std::error::Error::source(&failure) {
            Some(cause) => format!("{failure}: {cause}"),
            None => failure.to_string(),
        }
        .replace(&format!("{}/", self.directory.path().display()), "")
    }
}

fn blocks(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(&fs::metadata(path).unwrap())
}

#[test]
fn a_layer_is_sparse_keeps_what_was_written_and_leaves_the_image_alone() {
    let bench = Bench::new();
    let image = fs::read(bench.path("image")).unwrap();
    let config = bench.config(&["0.qcow2"]);
    let mut disk = open(&config).unwrap();
    assert_eq!((disk.size(), disk.is_writable()), (SIZE as u64, true));
    assert_eq!(blocks(&bench.path("0.data")), 0);
    disk.write(CLUSTER + 5, b"kept").unwrap();
    disk.write(2 * CLUSTER, &[9; CLUSTER as usize]).unwrap();
    disk.flush().unwrap();
    let taken = blocks(&bench.path("0.data"));
    assert!((256..=300).contains(&taken), "two clusters: {taken}");
    disk.zero(2 * CLUSTER, CLUSTER, Space::GiveBack).unwrap();
    disk.flush().unwrap();
    assert!(blocks(&bench.path("0.data")) < taken - 100, "the discarded one is given back");
    drop(disk);
    let mut model = image.clone();
    model[CLUSTER as usize + 5..CLUSTER as usize + 9].copy_from_slice(b"kept");
    model[2 * CLUSTER as usize..3 * CLUSTER as usize].fill(0);
    let mut found = vec![0; SIZE];
    open(&config).unwrap().read(0, &mut found).unwrap();
    assert!(found == model);
    assert!(fs::read(bench.path("image")).unwrap() == image);
}

#[test]
fn a_read_only_disk_needs_no_layer_and_takes_no_write() {
    let bench = Bench::new();
    let config = Config { writable: false, ..bench.config(&[]) };
    let mut disk = open(&config).unwrap();
    assert!(!disk.is_writable());
    let refused = disk.write(0, b"no").unwrap_err().kind();
    assert_eq!(refused, std::io::ErrorKind::ReadOnlyFilesystem);
    disk.flush().unwrap();
    assert_eq!(bench.all().len(), 1);
}

#[test]
fn what_is_wrong_with_an_image_is_said() {
    let bench = Bench::new();
    let config = bench.config(&["0.qcow2"]);
    let missing = Config { image: bench.path("gone"), ..config.clone() };
    assert!(bench.refused(&missing).starts_with("the image gone cannot be opened; put it back"));
    fs::write(bench.path("odd"), [0; 700]).unwrap();
    let odd = Config { image: bench.path("odd"), ..config.clone() };
    assert!(bench.refused(&odd).starts_with("the image odd has 700 bytes; a disk has a multiple"));
    let directory = Config { image: "/tmp".into(), ..config.clone() };
    assert!(bench.refused(&directory).starts_with("/tmp is no regular file"));
    let device = Config { image: "/dev/zero".into(), ..config };
    assert!(bench.refused(&device).starts_with("/dev/zero is no regular file"));
}

#[test]
fn a_layer_of_another_image_or_size_is_refused_and_kept() {
    let bench = Bench::new();
    let config = bench.config(&["0.qcow2"]);
    open(&config).unwrap().write(0, b"mine").unwrap();
    fs::copy(bench.path("image"), bench.path("other")).unwrap();
    let other = Config { image: bench.path("other"), ..config.clone() };
    let sentence = bench.refused(&other);
    let begin = "the layer 0.qcow2 was made over image, not over other; name that one again";
    assert!(sentence.starts_with(begin), "{sentence}");
    let image = fs::OpenOptions::new().write(true).open(bench.path("image")).unwrap();
    image.set_len(SIZE as u64 + 512).unwrap();
    let sentence = bench.refused(&config);
    let begin = "the layer 0.qcow2 is for 262656 bytes, but image has 263168 now; put back";
    assert!(sentence.starts_with(begin), "{sentence}");
    image.set_len(SIZE as u64).unwrap();
    assert!(open(&config).is_ok());
}

#[test]
fn a_damaged_layer_is_refused_and_kept() {
    let bench = Bench::new();
    let config = bench.config(&["0.qcow2"]);
    let mut disk = open(&config).unwrap();
    disk.write(CLUSTER, b"mine").unwrap();
    disk.flush().unwrap();
    drop(disk);
    let map = bench.path("0.qcow2");
    let good = fs::read(&map).unwrap();
    let entry = 4 * CLUSTER as usize + 8;
    let tails = [
        (0, &b"no"[..], "it is no qcow2 file"),
        (7, &[2], "it is a qcow2 file with another version, which no layer has"),
        (79, &[5], "it is a qcow2 file with other features, which no layer has"),
        (entry + 5, &[7], "an entry is wrong at byte 262152"),
    ];
    for (at, bytes, tail) in tails {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(&map, bad).unwrap();
        let sentence = bench.refused(&config);
        assert!(sentence.starts_with("the layer 0.qcow2 is damaged; restore it, or"), "{sentence}");
        assert!(sentence.ends_with(tail), "{sentence}");
    }
    for length in [0, 100, 70_000, good.len() - 1] {
        fs::write(&map, &good[..length]).unwrap();
        assert!(bench.refused(&config).contains("damaged"), "{length}");
    }
    fs::write(&map, &good).unwrap();
    fs::rename(bench.path("0.data"), bench.path("away")).unwrap();
    assert!(bench.refused(&config).starts_with("the layer 0.data cannot be opened"));
    fs::rename(bench.path("away"), bench.path("0.data")).unwrap();
    fs::remove_file(&map).unwrap();
    let sentence = bench.refused(&config);
    assert!(sentence.starts_with("0.data holds data, but its map 0.qcow2 is gone"), "{sentence}");
}

#[test]
fn a_first_start_that_was_cut_short_is_begun_anew() {
    let bench = Bench::new();
    fs::write(bench.path("0.data"), b"").unwrap();
    fs::write(bench.path("0.new"), b"half a map").unwrap();
    let mut disk = open(&bench.config(&["0.qcow2"])).unwrap();
    disk.write(0, b"well").unwrap();
    disk.flush().unwrap();
    assert!(!bench.path("0.new").exists());
}

#[test]
fn layers_are_stacked_and_a_chain_has_a_bound_and_no_loop() {
    let bench = Bench::new();
    for (layers, byte) in [(&["a.qcow2"][..], 10), (&["a.qcow2", "b.qcow2"], 20)] {
        let mut disk = open(&bench.config(layers)).unwrap();
        disk.write(u64::from(byte) * 512, &[byte; 512]).unwrap();
        disk.flush().unwrap();
    }
    let disk = open(&bench.config(&["a.qcow2", "b.qcow2"])).unwrap();
    for byte in [10, 20] {
        let mut found = [0];
        disk.read(u64::from(byte) * 512, &mut found).unwrap();
        assert_eq!(found, [byte]);
    }
    drop(disk);
    let sentence = bench.refused(&bench.config(&["a.qcow2", "b.qcow2", "a.qcow2"]));
    assert_eq!(sentence, "a.qcow2 is in the disk twice; name each file once");
    let sentence = bench.refused(&bench.config(&["b.qcow2"]));
    assert!(sentence.starts_with("the layer b.qcow2 was made over a.qcow2, not over image"));
    fs::hard_link(bench.path("a.qcow2"), bench.path("c.qcow2")).unwrap();
    assert!(bench.refused(&bench.config(&["a.qcow2", "c.qcow2"])).contains("twice"));
    let mut loop_ = bench.config(&["a.qcow2"]);
    loop_.image = bench.path("a.data");
    assert!(bench.refused(&loop_).contains("was made over image, not over a.data"));
    let many = vec!["a.qcow2"; MAX_LAYERS + 1];
    assert!(bench.refused(&bench.config(&many)).starts_with("the disk has 17 layers"));
}

#[test]
fn a_layer_has_one_writer_or_any_number_of_readers() {
    let bench = Bench::new();
    let config = bench.config(&["0.qcow2"]);
    let above = bench.config(&["0.qcow2", "1.qcow2"]);
    let writer = open(&config).unwrap();
    for second in [&config, &above] {
        assert!(
            matches!(open(second), Err(OpenFailure::InUse(path)) if path == bench.path("0.qcow2"))
        );
    }
    drop(writer);
    let _child = open(&above).unwrap();
    let _other = open(&bench.config(&["0.qcow2", "2.qcow2"])).unwrap();
    assert!(matches!(open(&config), Err(OpenFailure::InUse(_))));
}
