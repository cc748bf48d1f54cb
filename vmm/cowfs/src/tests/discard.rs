//! Discarding: the parent's version is back.

use super::changes::lines;
use super::crash::seen;
use super::guest::Place;
use crate::{DiscardFailure, Unselectable};
use std::path::PathBuf;

fn discard(place: &Place, paths: &[&str]) -> Result<(), DiscardFailure> {
    let mut own = place.config().take().unwrap();
    let compared = own.compare(&mut |_| {}).unwrap();
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    own.discard(&compared, &paths)
}

fn changed() -> Place {
    let place = Place::new();
    for path in ["content", "gone", "theirs/deep/file", "theirs/other", "again/old", "first"] {
        place.write(&format!("lower/{path}"), path);
    }
    std::fs::hard_link(place.path("lower/first"), place.path("lower/second")).unwrap();
    let mut guest = place.guest();
    guest.append("content", "+").unwrap();
    guest.append("first", "+").unwrap();
    guest.unlink("gone").unwrap();
    guest.rename("theirs", "moved", 0).unwrap();
    guest.rename("moved/deep", "deeper", 0).unwrap();
    guest.unlink("again/old").unwrap();
    guest.rmdir("again").unwrap();
    guest.mkdir("again").unwrap();
    guest.write("again/new", "").unwrap();
    guest.mkdir("made").unwrap();
    guest.write("made/file", "").unwrap();
    place
}

#[test]
fn each_path_is_the_parents_again() {
    let place = changed();
    for (paths, left) in [
        (&["content"][..], 10),
        (&["/gone"], 9),
        (&["made/file"], 8),
        (&["made"], 7),
        (&["again"], 5),
        (&["deeper"], 4),
        (&["moved"], 3),
        (&["first", "second"], 0),
    ] {
        discard(&place, paths).unwrap_or_else(|failure| panic!("{paths:?}: {failure}"));
        // One less than was listed each time, or what goes together.
        assert!(lines(&place).len() <= left, "{paths:?}: {:?}", lines(&place));
    }
    let mut guest = place.guest();
    assert_eq!(guest.read("content").unwrap(), "content");
    assert_eq!(guest.read("gone").unwrap(), "gone");
    assert_eq!(guest.read("theirs/deep/file").unwrap(), "theirs/deep/file");
    assert_eq!(guest.list("again", 4096).unwrap(), ["old"]);
    assert_eq!(guest.read("second").unwrap(), "first");
    assert!(guest.find("moved").is_err() && guest.find("made").is_err());
    assert_eq!(place.left_in_work(), 0);
}

#[test]
fn everything_is_the_parents_again() {
    let place = changed();
    let parents = {
        let other = Place::new();
        let mut config = place.config();
        (config.upper, config.work) = (other.path("upper"), other.path("work"));
        seen(&mut super::guest::Guest::new(crate::FileSpace::open(config).unwrap()))
    };
    discard(&place, &[]).unwrap();
    assert!(lines(&place).is_empty());
    assert!(std::fs::read_dir(place.path("upper")).unwrap().next().is_none());
    assert_eq!(seen(&mut place.guest()), parents);
}

#[test]
fn what_goes_together_is_not_discarded_apart() {
    let place = changed();
    let failure = |path: &str| match discard(&place, &[path]) {
        Err(DiscardFailure::Selection(failure)) => failure,
        other => panic!("{path}: {other:?}"),
    };
    assert!(matches!(failure("first"), Unselectable::Linked { .. }));
    assert!(matches!(failure("moved"), Unselectable::MovedOut { .. }));
    assert!(matches!(failure("again/new"), Unselectable::PartOf { .. }));
    assert!(matches!(failure("theirs"), Unselectable::Renamed { .. }));
}

#[test]
fn a_deep_tree_is_removed_without_deep_recursion() {
    let place = Place::new();
    let mut guest = place.guest();
    guest.mkdir("d").unwrap();
    drop(guest);
    let mut at = crate::host::Directory::root(&place.path("upper/d")).unwrap();
    for _ in 0..3000 {
        let name = fuse::Name::new(b"d").unwrap();
        at.make_directory(name, 0o755).unwrap();
        at = at.directory(name, true).unwrap();
    }
    assert_eq!(lines(&place).len(), 3001);
    discard(&place, &["d"]).unwrap();
    assert!(lines(&place).is_empty());
}
