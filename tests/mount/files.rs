//! What is done with files through a mount.

use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use cli::lab::{Lab, Peer};
use switch::overlay::Cipher;
use tests::{Space, ignore, run, tree};

use crate::{Mounts, text};

pub(crate) fn own_layer(lab: &Lab) {
    let red = Mounts::new(lab);
    fs::create_dir_all(red.lower.join("deep/er")).unwrap();
    fs::write(red.lower.join("deep/er/notes"), vec![7; 3_000_000]).unwrap();
    fs::write(red.lower.join("plain"), "the parent's").unwrap();
    fs::write(red.lower.join("gone"), "").unwrap();
    symlink("deep/er", red.lower.join("link")).unwrap();
    let before = tree(&red.lower);
    red.must_mount();

    assert_eq!(names(&red, ""), ["deep", "gone", "link", "plain"]);
    assert_eq!(fs::read_to_string(red.at("plain")).unwrap(), "the parent's");
    assert_eq!(fs::read(red.at("link/notes")).unwrap(), vec![7; 3_000_000]);
    let file = OpenOptions::new().write(true).open(red.at("deep/er/notes")).unwrap();
    file.write_all_at(b"red's", 2_000_000).unwrap();
    file.sync_all().unwrap();
    drop(file);
    fs::create_dir(red.at("new")).unwrap();
    fs::write(red.at("new/made"), "made here").unwrap();
    fs::set_permissions(red.at("new/made"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::rename(red.at("plain"), red.at("new/moved")).unwrap();
    fs::hard_link(red.at("new/made"), red.at("new/again")).unwrap();
    symlink("made", red.at("new/short")).unwrap();
    fs::remove_file(red.at("gone")).unwrap();

    assert_eq!(names(&red, ""), ["deep", "link", "new"]);
    assert_eq!(names(&red, "new"), ["again", "made", "moved", "short"]);
    assert_eq!(fs::read_to_string(red.at("new/short")).unwrap(), "made here");
    assert_eq!(fs::metadata(red.at("new/again")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(red.at("new/made")).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(tree(&red.lower), before, "the parent's directory is as it was");

    assert!(run(lab, &["stop", "red"]).ok());
    assert_eq!(fs::read_to_string(red.upper("new/moved")).unwrap(), "the parent's");
    assert_eq!(fs::read_to_string(red.upper("new/made")).unwrap(), "made here");
    let copied = fs::read(red.upper("deep/er/notes")).unwrap();
    assert_eq!((&copied[2_000_000..2_000_005], copied.len()), (&b"red's"[..], 3_000_000));
    assert!(names(&red, "").is_empty(), "the directory is empty again");
}

pub(crate) fn itself(lab: &Lab) {
    let red = Mounts::new(lab);
    let around = red.directory.parent().unwrap();
    fs::write(&red.file, format!("[files]\nroot = {around:?}\n")).unwrap();
    red.must_mount();
    // What asks the mount about itself from within would wait for ever.
    let mut find = Command::new("timeout");
    let found = find.args(["20", "find", text(&red.directory)]).output().unwrap();
    assert!(found.status.success(), "{found:?}");
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.contains("/mnt/red.toml"), "{found}");
    assert!(!found.contains("/mnt/mnt"), "{found}");
    fs::create_dir(red.at("mnt")).unwrap();
    fs::write(red.at("mnt/own"), "the name is free").unwrap();
    assert_eq!(names(&red, "mnt"), ["own"]);
}

pub(crate) fn machine(lab: &Lab) {
    if let Err(missing) = tests::means() {
        ignore(missing);
    }
    let mounts = Mounts::new(lab);
    fs::write(mounts.lower.join("notes"), "the parent's").unwrap();
    let red = Space::configure(lab, "red", Peer::B, Cipher::AesCbc128, Some(&mounts.lower));
    red.start();
    assert!(red.run_with_input(&["write", "/inside"], b"from the machine").ok());
    let refused = run(lab, &["mount", "red", text(&mounts.directory)]);
    assert!(refused.said.contains("first: portspace stop red"), "{}", refused.said);
    assert!(run(lab, &["stop", "red"]).ok());

    let ended = run(lab, &["mount", "red", text(&mounts.directory)]);
    assert!(ended.ok(), "{}", ended.why());
    assert_eq!(fs::read_to_string(mounts.at("inside")).unwrap(), "from the machine");
    assert_eq!(fs::read_to_string(mounts.at("notes")).unwrap(), "the parent's");
    fs::write(mounts.at("notes"), "from the mount").unwrap();
    let refused = run(lab, &["up", text(&red.file)]);
    assert!(refused.said.contains("first: portspace stop red"), "{}", refused.said);
    assert!(run(lab, &["ls"]).out.contains("mounted"));
    assert!(run(lab, &["stop", "red"]).ok());
    red.start();
    let read = red.run(&["cat", "/notes"]);
    assert_eq!(read.out, "from the mount", "{}", read.why());
}

pub(crate) fn at_once(lab: &Lab) {
    let red = Mounts::new(lab);
    red.must_mount();
    std::thread::scope(|scope| {
        for number in 0..8_u8 {
            let red = &red;
            scope.spawn(move || {
                let directory = red.at(&format!("{number}"));
                fs::create_dir(&directory).unwrap();
                for round in 0..40_u8 {
                    let path = directory.join(format!("{round}"));
                    let bytes = vec![number ^ round; 30_000];
                    let mut file = OpenOptions::new();
                    let file = file.read(true).write(true).create_new(true);
                    let mut file = file.open(&path).unwrap();
                    file.write_all(&bytes).unwrap();
                    file.seek(SeekFrom::Start(0)).unwrap();
                    let mut read = Vec::new();
                    file.read_to_end(&mut read).unwrap();
                    assert!(read == bytes, "{path:?}");
                    if round % 2 == 0 {
                        fs::remove_file(path).unwrap();
                    }
                }
                assert_eq!(fs::read_dir(directory).unwrap().count(), 20);
            });
        }
    });
}

fn names(red: &Mounts<'_>, path: &str) -> Vec<String> {
    let entries = fs::read_dir(red.at(path)).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
