//! Spaces made from spaces.

use std::fs;
use std::path::PathBuf;

use cli::lab::Lab;
use tests::{run, tree};

use crate::{Mounts, text};

/// A child of `red`, and where it is mounted.
pub(crate) struct Child<'a> {
    lab: &'a Lab,
    name: &'static str,
    file: PathBuf,
    pub(crate) directory: PathBuf,
}

impl<'a> Child<'a> {
    pub(crate) fn of(lab: &'a Lab, parent: &str, name: &'static str) -> Child<'a> {
        let directory = lab.a.directory.join(format!("mnt-{name}"));
        fs::create_dir_all(&directory).unwrap();
        let file = lab.a.directory.join(format!("{name}.toml"));
        fs::write(&file, format!("[space]\nparent = {parent:?}\n")).unwrap();
        Child { lab, name, file, directory }
    }

    pub(crate) fn mount(&self) -> cli::lab::service::Ended {
        run(self.lab, &["mount", text(&self.file), text(&self.directory)])
    }

    pub(crate) fn must_mount(&self) {
        let ended = self.mount();
        assert!(ended.ok(), "{}", ended.why());
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.directory.join(path)).unwrap()
    }
}

impl Drop for Child<'_> {
    fn drop(&mut self) {
        run(self.lab, &["stop", self.name]);
        run(self.lab, &["rm", self.name]);
        let _ = fs::remove_dir(&self.directory);
    }
}

pub(crate) fn apart(lab: &Lab) {
    let red = Mounts::new(lab);
    fs::create_dir_all(red.lower.join("deep")).unwrap();
    for (path, text) in [("deep/file", "host"), ("gone", "host"), ("plain", "host")] {
        fs::write(red.lower.join(path), text).unwrap();
    }
    fs::hard_link(red.lower.join("plain"), red.lower.join("linked")).unwrap();
    let before = tree(&red.lower);
    red.must_mount();
    fs::write(red.at("plain"), "red").unwrap();
    fs::rename(red.at("deep"), red.at("moved")).unwrap();
    fs::remove_file(red.at("gone")).unwrap();
    assert!(run(lab, &["stop", "red"]).ok());

    let blue = Child::of(lab, "red", "blue");
    blue.must_mount();
    assert_eq!(
        (blue.read("plain"), blue.read("linked"), blue.read("moved/file")),
        ("red".into(), "red".into(), "host".into())
    );
    assert!(!blue.directory.join("gone").exists() && !blue.directory.join("deep").exists());
    red.must_mount();
    fs::write(blue.directory.join("moved/file"), "blue").unwrap();
    fs::write(blue.directory.join("linked"), "blue").unwrap();
    fs::write(red.at("moved/file"), "red").unwrap();
    fs::write(red.at("later"), "red").unwrap();
    assert_eq!((blue.read("moved/file"), blue.read("plain")), ("blue".into(), "blue".into()));
    assert_eq!(fs::read_to_string(red.at("plain")).unwrap(), "red");
    assert!(!blue.directory.join("later").exists());
    let changes = run(lab, &["diff", "blue"]).out;
    assert!(changes.contains("moved/file") && !changes.contains("gone"), "{changes}");
    let shown = run(lab, &["inspect", "blue"]).out;
    assert!(shown.contains("space red") && shown.contains("red/1"), "{shown}");
    assert_eq!(tree(&red.lower), before);

    for command in [["stop", "red"], ["rm", "red"], ["stop", "blue"]] {
        assert!(run(lab, &command).ok());
    }
    let refused = run(lab, &["commit", "blue"]);
    assert!(refused.said.contains("was made from space red"), "{}", refused.said);
    let green = Child::of(lab, "blue", "green");
    green.must_mount();
    blue.must_mount();
    assert_eq!((green.read("moved/file"), green.read("plain")), ("blue".into(), "blue".into()));
    drop(blue);
    assert_eq!(green.read("linked"), "blue", "what its parents wrote stays");
    let layers = lab.a.directory.join("state/layers");
    assert!(layers.join("red/1").exists() && layers.join("blue/1").exists());
    drop(green);
    assert_eq!(fs::read_dir(&layers).unwrap().count(), 0, "the last one takes the layers along");
}
