//! What a space writes is its own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cli::lab::service::{Service, finish};
use cli::lab::{Lab, Peer};
use switch::overlay::Cipher;
use tests::{Space, ignore, tree};

pub(crate) fn own_layer(lab: &Lab) {
    let parent = lab.a.directory.join("parent");
    std::fs::create_dir_all(parent.join("deep/er")).unwrap();
    std::fs::write(parent.join("notes"), "the parent's").unwrap();
    std::fs::write(parent.join("deep/er/notes"), vec![7; 100_000]).unwrap();
    let before = tree(&parent);
    let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc128, Some(&parent));
    assert_eq!(red.run(&["cat", "/notes"]).out, "the parent's");
    for (path, text) in [("/notes", "red's"), ("/deep/er/notes", "deep"), ("/new", "new")] {
        let written = red.run_with_input(&["write", path], text.as_bytes());
        assert!(written.ok(), "{path}: {}", written.why());
        assert_eq!(red.run(&["cat", path]).out, text);
    }
    assert_eq!(tree(&parent), before, "the parent's directory is as it was");
    let upper = PathBuf::from(red.inspect()["upper"].as_str().unwrap());
    let upper: BTreeMap<_, _> =
        tree(&upper).into_iter().map(|(path, (.., bytes))| (path, bytes)).collect();
    let expected = [("notes", "red's"), ("deep/er/notes", "deep"), ("new", "new")];
    assert_eq!(upper, expected.map(|(path, text)| (path.into(), text.into())).into());
}

pub(crate) fn a_fetched_file(lab: &Lab) {
    let b = lab.peer(Peer::B);
    let www = b.directory.join("www");
    std::fs::create_dir_all(&www).unwrap();
    let parcel: Vec<u8> = (0..3_000_001_u32).map(|n| (n.wrapping_mul(n) >> 11) as u8).collect();
    std::fs::write(www.join("parcel"), &parcel).unwrap();
    let mut digest = b.command("python3");
    digest.args(["-c", "import hashlib, http.server; print(hashlib.sha256(open('www/parcel', 'rb').read()).hexdigest())"]);
    let Some(digest) = finish(&mut digest, Duration::from_secs(10)).ok().filter(|ended| ended.ok())
    else {
        ignore("python3 is not installed: no unmodified web server to fetch from");
    };
    let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc256, None);
    let mut server = b.command("python3");
    server.args(["-m", "http.server", "8000", "--bind", "0.0.0.0", "--directory", "www"]);
    let mut server = Service::start(b, "python3 http.server", server).unwrap();
    server.answers(b, (b.address, 8000).into()).unwrap();

    let fetched = red.run(&["fetch", "http://192.0.2.20:8000/parcel", "-o", "/parcel"]);
    assert!(fetched.ok(), "{}", fetched.why());
    let inside = red.run(&["sha256", "/parcel"]).out;
    assert_eq!(inside.split_whitespace().next(), Some(digest.out.trim()));
    let upper = PathBuf::from(red.inspect()["upper"].as_str().unwrap());
    assert!(std::fs::read(upper.join("parcel")).unwrap() == parcel, "the same bytes on A");
    let missing = red.run(&["fetch", "http://192.0.2.20:8000/nothing", "-o", "/nothing"]);
    assert!(!missing.ok() && missing.said.contains("404"), "{}", missing.said);
}

pub(crate) fn a_child_of_a_running_space(lab: &Lab) {
    let parent = lab.a.directory.join("parent");
    std::fs::create_dir_all(&parent).unwrap();
    std::fs::write(parent.join("notes"), "the host's").unwrap();
    std::fs::write(parent.join("other"), "the host's").unwrap();
    let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc128, Some(&parent));
    assert!(red.run_with_input(&["write", "/notes"], b"red's").ok());
    let blue = Space::configure(lab, "blue", Peer::C, Cipher::AesCbc128, None);
    let text = std::fs::read_to_string(&blue.file).unwrap();
    assert!(!text.contains("[space]"), "{text}");
    std::fs::write(&blue.file, format!("[space]\nparent = \"red\"\n{text}")).unwrap();
    blue.start();
    let read = |space: &Space<'_>, path| space.run(&["cat", path]).out;
    assert_eq!(
        (read(&blue, "/notes"), read(&blue, "/other")),
        ("red's".into(), "the host's".into())
    );
    for (space, text) in [(&red, "red again"), (&blue, "blue's")] {
        for path in ["/notes", "/new"] {
            let written = space.run_with_input(&["write", path], text.as_bytes());
            assert!(written.ok(), "{path}: {}", written.why());
        }
    }
    for path in ["/notes", "/new"] {
        assert_eq!((read(&red, path), read(&blue, path)), ("red again".into(), "blue's".into()));
    }
    let shown = blue.inspect();
    assert_eq!((&shown["parent"], &shown["chain"][0]["from"]), (&"red".into(), &"red".into()));
    assert_eq!(std::fs::read_to_string(parent.join("notes")).unwrap(), "the host's");
}
