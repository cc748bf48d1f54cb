//! What a space had sealed, gathered: nobody sees a difference, and it can be committed.

use super::changes::compared;
use super::commit::{PATHS, change, tree};
use super::crash::seen;
use super::guest::{Guest, Place};
use crate::host::{Fault, with_fault};
use crate::{Change, Conflict, FileSpace, GatherFailure, Gathered, What};
use fuse::Errno;
use fuse::request::{SetAttr, SetTime, rename_flags};
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, symlink};

fn gather(place: &Place) -> Result<Gathered, GatherFailure> {
    place.over_host().gather(&mut |_| {})
}

fn open(place: &Place) -> Guest {
    Guest::new(FileSpace::open(place.over_host()).unwrap())
}

/// Which of the paths are one file, and how many names it has.
fn links(guest: &mut Guest) -> BTreeMap<String, (usize, u32)> {
    let mut first = BTreeMap::new();
    let each = PATHS.iter().enumerate().filter_map(|(number, path)| {
        let attr = guest.attr(path).ok().filter(|attr| attr.mode & 0o170_000 == 0o100_000)?;
        Some(((*path).to_owned(), (*first.entry(attr.inode).or_insert(number), attr.links)))
    });
    each.collect()
}

/// Gathers and settles, the sealed layers staying as they are.
fn gathered(place: &Place) {
    let mut guest = open(place);
    let (view, linked) = (seen(&mut guest), links(&mut guest));
    drop(guest);
    let layers = || {
        let layers = (0..).map(|number| place.path(&format!("layer{number}")));
        layers.take_while(|layer| layer.exists()).map(|layer| tree(&layer)).collect::<Vec<_>>()
    };
    let before = layers();
    let gathered = gather(place).unwrap();
    assert_eq!(seen(&mut open(place)), view, "nothing is seen of it");
    assert_eq!(layers(), before);
    assert_eq!(gather(place).unwrap(), gathered, "again it comes to the same");
    let text = serde_json::to_string(&gathered).unwrap();
    let gathered: Gathered = serde_json::from_str(&text).unwrap();
    place.unseal();
    for _ in 0..2 {
        place.over_host().settle_gathered(&gathered).unwrap();
        assert_eq!(seen(&mut open(place)), view);
    }
    let now = links(&mut open(place));
    let one = |links: &BTreeMap<String, (usize, u32)>| {
        links.iter().map(|(path, (first, _))| (path.clone(), *first)).collect::<Vec<_>>()
    };
    assert_eq!(one(&now), one(&linked));
    assert_eq!(place.left_in_work(), 0);
}

#[test]
fn each_kind_of_what_was_sealed_comes_back() {
    let place = Place::new();
    for path in ["file", "gone", "was/deep/file", "was/other", "hard", "replaced/old", "kept/in"] {
        place.write(&format!("lower/{path}"), path);
    }
    symlink("target", place.path("lower/link")).unwrap();
    std::fs::hard_link(place.path("lower/hard"), place.path("lower/harder")).unwrap();
    let mut guest = open(&place);
    guest.append("file", "+").unwrap();
    guest.unlink("gone").unwrap();
    guest.rename("was", "is", 0).unwrap();
    guest.append("hard", "+").unwrap();
    guest.write("made", "made").unwrap();
    guest.link("made", "made-too").unwrap();
    guest.unlink("replaced/old").unwrap();
    guest.rmdir("replaced").unwrap();
    guest.unlink("link").unwrap();
    guest.symlink("link", "other").unwrap();
    guest.set("kept", SetAttr { mode: Some(0o700), ..SetAttr::default() }).unwrap();
    guest.set("", SetAttr { mode: Some(0o711), ..SetAttr::default() }).unwrap();
    drop(guest);
    place.seal();
    let mut guest = open(&place);
    guest.append("file", "+").unwrap();
    guest.mkdir("replaced").unwrap();
    guest.write("replaced/new", "new").unwrap();
    guest.rename("is/deep", "deep", 0).unwrap();
    guest.append("made", "+").unwrap();
    guest.rename("kept", "is/kept", 0).unwrap();
    drop(guest);
    place.seal();
    let mut guest = open(&place);
    guest.append("deep/file", "+").unwrap();
    guest.rename("is", "was", rename_flags::NO_REPLACE).unwrap();
    drop(guest);
    gathered(&place);
    assert_eq!(open(&place).read("harder").unwrap(), "hard+");
    let lines = super::changes::lines(&place);
    assert_eq!(
        lines,
        [
            " mode",
            "deep from was/deep",
            "deep/file content",
            "file content",
            "gone deleted",
            "hard content",
            "harder content",
            "link content",
            "made added",
            "made-too added",
            "replaced/new added",
            "replaced/old deleted",
            "was/kept from kept mode",
        ]
    );
    // What is changed of a link is not another space's.
    let of_layer = || std::fs::symlink_metadata(place.path("layer0.old/link")).unwrap().mtime();
    let before = of_layer();
    let at = SetTime::At(fuse::Time { seconds: 1, nanoseconds: 0 });
    let set = SetAttr { modified: Some(at), ..SetAttr::default() };
    open(&place).set("link", set).unwrap();
    assert_eq!(of_layer(), before);
    // The parent goes on where the space is not in the way, as if nothing had been sealed.
    place.write("lower/was/later", "later");
    place.write("lower/replaced/later", "later");
    place.write("lower/file", "theirs");
    let mut guest = open(&place);
    assert_eq!(guest.read("was/later").unwrap(), "later");
    assert_eq!(guest.find("replaced/later"), Err(Errno::ENOENT));
    assert_eq!(guest.read("file").unwrap(), "file++");
}

#[test]
fn what_the_parent_did_since_the_first_copy_is_a_conflict() {
    let place = Place::new();
    for path in ["changed", "replaced", "gone", "deleted", "dropped"] {
        place.write(&format!("lower/{path}"), path);
    }
    let mut guest = open(&place);
    for path in ["changed", "replaced", "gone"] {
        guest.append(path, "+").unwrap();
    }
    guest.unlink("deleted").unwrap();
    guest.unlink("dropped").unwrap();
    guest.write("both", "ours").unwrap();
    guest.symlink("link", "ours").unwrap();
    drop(guest);
    place.seal();
    place.write("lower/changed", "theirs");
    std::fs::remove_file(place.path("lower/replaced")).unwrap();
    place.write("lower/replaced", "theirs");
    std::fs::remove_file(place.path("lower/gone")).unwrap();
    place.write("lower/deleted", "theirs");
    place.write("lower/both", "theirs");
    symlink("theirs", place.path("lower/link")).unwrap();
    let mut guest = open(&place);
    guest.append("changed", "+").unwrap();
    drop(guest);
    gathered(&place);
    let conflicts = compared_at_host(&place);
    assert_eq!(
        conflicts,
        [
            ("both", Some(Conflict::Appeared)),
            ("changed", Some(Conflict::Changed)),
            ("deleted", Some(Conflict::Changed)),
            ("dropped", None),
            ("gone", Some(Conflict::Gone)),
            ("link", Some(Conflict::Appeared)),
            ("replaced", Some(Conflict::Changed)),
        ]
        .map(|(path, conflict)| (path.to_owned(), conflict))
    );
}

fn compared_at_host(place: &Place) -> Vec<(String, Option<Conflict>)> {
    let compared = compared(place);
    let each = compared.changes.iter();
    each.map(|change| (change.path.display().to_string(), change.conflict)).collect()
}

#[test]
fn a_failure_at_any_step_changes_nothing_of_what_is_seen() {
    for number in 1.. {
        let place = Place::quick();
        for path in ["d/file", "d/other", "was/file", "hard"] {
            place.write(&format!("lower/{path}"), path);
        }
        std::fs::hard_link(place.path("lower/hard"), place.path("lower/harder")).unwrap();
        let mut guest = open(&place);
        guest.append("d/file", "+").unwrap();
        guest.unlink("d/other").unwrap();
        guest.rename("was", "is", 0).unwrap();
        guest.append("hard", "+").unwrap();
        guest.unlink("hard").unwrap();
        drop(guest);
        place.seal();
        let mut guest = open(&place);
        guest.rename("is", "now", 0).unwrap();
        let view = seen(&mut guest);
        drop(guest);
        let (done, reached) = with_fault(number, Fault::Once(Errno::ENOSPC), || gather(&place));
        assert_eq!(seen(&mut open(&place)), view, "after step {number}");
        if !reached {
            done.unwrap();
            assert!(number > 20);
            break;
        }
        gathered(&place);
        assert_eq!(seen(&mut open(&place)), view, "after step {number}");
    }
}

#[test]
fn whatever_was_sealed_between_the_parent_gets_it() {
    bolero::check!().with_type::<Vec<[u8; 3]>>().with_iterations(400).for_each(|numbers| {
        let place = Place::quick();
        for path in ["a/a/a", "a/a/b", "a/b", "b/a/a", "b/b/x", "c/a"] {
            place.write(&format!("lower/{path}"), path);
        }
        std::fs::hard_link(place.path("lower/a/b"), place.path("lower/b/linked")).unwrap();
        let before = tree(&place.path("lower"));
        let mut guest = open(&place);
        for [what, one, two] in numbers.iter().copied() {
            match what % 11 {
                9 => {
                    let path = |number: u8| PATHS[usize::from(number) % PATHS.len()];
                    let _ = guest.link(path(one), path(two));
                }
                10 => {
                    drop(guest);
                    place.seal();
                    guest = open(&place);
                }
                what => change(&mut guest, [what, one, two]),
            }
        }
        drop(guest);
        gathered(&place);
        let view = seen(&mut open(&place));
        let found = place.over_host().compare(&mut |_| {}).unwrap();
        assert!(found.unreadable.is_empty());
        let conflict = found.changes.iter().find(|change| change.conflict.is_some());
        assert!(conflict.is_none(), "{conflict:?}");
        let is_moved = |change: &Change| matches!(change.what, What::Renamed { .. });
        let is_same = view == before && !found.changes.iter().any(is_moved);
        assert_eq!(found.changes.is_empty(), is_same, "{:#?}", found.changes);
        let mut own = place.over_host().take().unwrap();
        let compared = own.compare(&mut |_| {}).unwrap();
        let plan = own.plan(&compared, &[], false).unwrap_or_else(|failure| panic!("{failure:?}"));
        own.commit(plan).unwrap_or_else(|failure| panic!("{failure:?}"));
        drop(own);
        assert_eq!(tree(&place.path("lower")), view);
        assert_eq!(seen(&mut open(&place)), view);
    });
}
