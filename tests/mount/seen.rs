//! What of the host is seen, by configuration.

use std::fs;
use std::io::{ErrorKind, Write};

use cli::lab::Lab;
use tests::{run, tree};

use crate::Mounts;

pub(crate) fn configured(lab: &Lab) {
    let red = Mounts::new(lab);
    let outside = lab.a.directory.join("outside");
    for path in [outside.join("read"), outside.join("shared"), red.lower.join("etc")] {
        fs::create_dir_all(path).unwrap();
    }
    fs::write(outside.join("read/file"), "the host's").unwrap();
    fs::write(outside.join("alone"), "a file of the host").unwrap();
    for (path, text) in [("etc/hosts", "the parent's"), ("secret", "hidden"), ("plain", "plain")] {
        fs::write(red.lower.join(path), text).unwrap();
    }
    let bind = |path: &str, source: &str, mode: &str| {
        let source = outside.join(source);
        format!("[[files.bind]]\npath = {path:?}\nsource = {source:?}\nmode = {mode:?}\n")
    };
    let configuration = format!(
        "[files]\nroot = {:?}\nmask = [{:?}]\nquota = \"1M\"\n{}{}{}[files.inject]\n\"/etc/hosts\" = \"injected\"\n[overlay]\ndns = [\"10.1.0.53\"]\n",
        red.lower,
        red.lower.join("secret"),
        bind("/in/read", "read", "read-only"),
        bind("/in/shared", "shared", "shared"),
        bind("/alone", "alone", "read-only"),
    );
    fs::write(&red.file, configuration).unwrap();
    let before = tree(&red.lower);
    red.must_mount();
    let read = |path: &str| fs::read_to_string(red.at(path)).unwrap();
    assert_eq!(read("etc/hosts"), "injected");
    assert_eq!(read("etc/resolv.conf"), "nameserver 10.1.0.53\n");
    assert_eq!(
        (read("in/read/file"), read("alone")),
        ("the host's".into(), "a file of the host".into())
    );
    assert_eq!(fs::read(red.at("secret")).unwrap_err().kind(), ErrorKind::NotFound);
    let refused = fs::write(red.at("in/read/new"), "").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    fs::write(red.at("in/shared/new"), vec![7; 3 << 20]).unwrap();
    assert_eq!(fs::read(outside.join("shared/new")).unwrap(), vec![7; 3 << 20]);
    let changes = run(lab, &["diff", "red"]);
    assert!(changes.ok() && !changes.out.contains("etc"), "{}", changes.out);
    assert!(!changes.out.contains("alone"), "what is bound is no change: {}", changes.out);

    let mut full = fs::File::create(red.at("big")).unwrap();
    let end = (0..1000).find_map(|_| full.write_all(&[1; 4096]).err()).expect("it is bounded");
    assert_eq!(end.kind(), ErrorKind::StorageFull);
    drop(full);
    let size = fs::metadata(red.at("big")).unwrap().len();
    assert!((900_000..=1 << 20).contains(&size), "{size}");
    fs::remove_file(red.at("big")).unwrap();
    fs::write(red.at("etc/hosts"), "changed inside").unwrap();
    fs::write(red.at("plain"), "changed").unwrap();
    assert_eq!(tree(&red.lower), before);
    assert!(run(lab, &["stop", "red"]).ok());
    let refused = run(lab, &["commit", "red"]);
    assert!(
        refused.said.contains("etc/hosts") && refused.said.contains("by its configuration"),
        "{}",
        refused.said
    );
    assert!(run(lab, &["commit", "red", "plain"]).ok());
    assert_eq!(fs::read_to_string(red.lower.join("plain")).unwrap(), "changed");
    red.must_mount();
    assert_eq!(read("etc/hosts"), "changed inside");
}

pub(crate) fn not_its_own(lab: &Lab) {
    let red = Mounts::new(lab);
    let around = red.directory.parent().unwrap();
    fs::write(&red.file, format!("[files]\nroot = {around:?}\n")).unwrap();
    red.must_mount();
    for name in ["state", "run"] {
        assert!(around.join(name).is_dir());
        assert_eq!(fs::read_dir(red.at(name)).unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert!(run(lab, &["stop", "red"]).ok());
    for (files, said) in [
        (format!("root = {:?}", around.join("state")), "[files] root"),
        (
            format!("[[files.bind]]\npath = \"/in\"\nsource = {:?}", around.join("run")),
            "[[files.bind]] source",
        ),
        ("[[files.bind]]\npath = \"/in\"\nsource = \"/proc\"".into(), "the kernel's own state"),
        ("[files.inject]\n\"/in\" = { from = \"/not/there\" }".into(), "[files.inject] \"/in\""),
    ] {
        fs::write(&red.file, format!("[files]\n{files}\n")).unwrap();
        let refused = red.mount();
        assert!(!refused.ok() && refused.said.contains(said), "{}", refused.said);
    }
}
