//! What a comparison says of every kind of change, and of what the parent did meanwhile.

use super::guest::{Guest, Place};
use crate::host::Directory;
use crate::stored;
use crate::{Change, Comparison, Conflict, What};
use fuse::Errno;
use fuse::request::{SetAttr, SetTime, rename_flags};
use std::os::unix::fs::symlink;
use std::path::PathBuf;

pub(super) fn compared(place: &Place) -> Comparison {
    place.config().compare(&mut |_| {}).unwrap()
}

/// A change in a line.
fn line(change: &Change) -> String {
    let what = match &change.what {
        What::Added => "added".to_owned(),
        What::Deleted => "deleted".to_owned(),
        What::Changed(parts) => parts.names().join("+"),
        What::Renamed { from, parts } => match parts.any() {
            false => format!("from {}", from.display()),
            true => format!("from {} {}", from.display(), parts.names().join("+")),
        },
    };
    let conflict = change.conflict.map_or(String::new(), |conflict| format!(" {conflict:?}"));
    format!("{} {what}{conflict}", change.path.display())
}

pub(super) fn lines(place: &Place) -> Vec<String> {
    let compared = compared(place);
    assert!(compared.unreadable.is_empty() && compared.parent.is_none(), "{compared:?}");
    compared.changes.iter().map(line).collect()
}

fn mode(mode: u32) -> SetAttr {
    SetAttr { mode: Some(mode), ..SetAttr::default() }
}

#[test]
fn what_was_not_written_is_no_change() {
    let place = Place::new();
    place.write("lower/d/file", "text");
    let mut guest = place.guest();
    assert!(lines(&place).is_empty());
    guest.append("d/file", "").unwrap();
    guest.append("d/file", "+").unwrap();
    assert_eq!(lines(&place), ["d/file content"], "also while it is served");
    guest.write("d/file", "text").unwrap();
    assert!(lines(&place).is_empty(), "it is as the parent's again");
    let at = SetTime::At(fuse::Time { seconds: 1, nanoseconds: 0 });
    guest.set("d/file", SetAttr { modified: Some(at), ..SetAttr::default() }).unwrap();
    assert!(lines(&place).is_empty(), "a time alone is none");
    assert!(place.path("upper/d/file").exists());
}

#[test]
fn every_kind_of_change_is_told() {
    let place = Place::new();
    for path in ["content", "mode", "owner", "gone", "to-link", "to-directory", "same/inner"] {
        place.write(&format!("lower/{path}"), "text");
    }
    place.write("lower/old/deep/file", "text");
    symlink("target", place.path("lower/link")).unwrap();
    let mut guest = place.guest();
    guest.append("content", "+").unwrap();
    guest.set("mode", mode(0o4711)).unwrap();
    guest.set("owner", SetAttr { uid: Some(33), ..SetAttr::default() }).unwrap();
    guest.unlink("gone").unwrap();
    guest.unlink("to-link").unwrap();
    guest.symlink("to-link", "elsewhere").unwrap();
    guest.unlink("to-directory").unwrap();
    guest.mkdir("to-directory").unwrap();
    guest.write("to-directory/new", "").unwrap();
    guest.unlink("link").unwrap();
    guest.symlink("link", "other").unwrap();
    guest.mkdir("made").unwrap();
    guest.write("made/file", "").unwrap();
    guest.set("same", mode(0o700)).unwrap();
    let told = [
        "content content",
        "gone deleted",
        "link content",
        "made added",
        "made/file added",
        "mode mode",
        "owner owner",
        "same mode",
        "to-directory type",
        "to-directory/new added",
        "to-link type",
    ];
    assert_eq!(lines(&place), told);
    guest.unlink("old/deep/file").unwrap();
    guest.rmdir("old/deep").unwrap();
    guest.rmdir("old").unwrap();
    let compared = compared(&place);
    let old = compared.at(std::path::Path::new("old")).map(line).collect::<Vec<_>>();
    assert_eq!(old, ["old deleted", "old/deep deleted", "old/deep/file deleted"]);
}

#[test]
fn a_directory_made_again_hides_what_was_there() {
    let place = Place::new();
    place.write("lower/d/gone", "");
    place.write("lower/d/e/gone", "");
    place.write("lower/d/kept", "text");
    let mut guest = place.guest();
    for path in ["d/gone", "d/kept", "d/e/gone"] {
        guest.unlink(path).unwrap();
    }
    guest.rmdir("d/e").unwrap();
    guest.rmdir("d").unwrap();
    guest.mkdir("d").unwrap();
    guest.write("d/kept", "text").unwrap();
    guest.write("d/new", "").unwrap();
    let told = ["d/e deleted", "d/e/gone deleted", "d/gone deleted", "d/new added"];
    assert_eq!(lines(&place), told);
    place.write("lower/d/later", "");
    assert!(lines(&place).contains(&"d/later deleted Changed".to_owned()));
}

#[test]
fn renamed_directories_are_told_by_both_names() {
    let place = Place::new();
    place.write("lower/theirs/deep/file", "");
    place.write("lower/theirs/other", "");
    place.write("lower/empty/file", "");
    let mut guest = place.guest();
    guest.rename("theirs", "moved", 0).unwrap();
    assert_eq!(lines(&place), ["moved from theirs"]);
    guest.rename("moved/deep", "deeper", 0).unwrap();
    guest.append("moved/other", "+").unwrap();
    guest.write("deeper/new", "").unwrap();
    guest.write("theirs", "a file now").unwrap();
    let told = [
        "deeper from theirs/deep",
        "deeper/new added",
        "moved from theirs",
        "moved/other content",
        "theirs added",
    ];
    assert_eq!(lines(&place), told);
    std::fs::remove_dir_all(place.path("lower/theirs/deep")).unwrap();
    assert_eq!(lines(&place)[0], "deeper from theirs/deep Gone");
}

#[test]
fn exchanged_and_replaced_directories_are_two_renames_or_one() {
    let place = Place::new();
    place.write("lower/a/in-a", "");
    place.write("lower/b/in-b", "");
    let mut guest = place.guest();
    guest.rename("a", "b", rename_flags::EXCHANGE).unwrap();
    assert_eq!(lines(&place), ["a from b", "b from a"]);
    let place = Place::new();
    place.write("lower/a/in-a", "");
    place.write("lower/b/in-b", "");
    let mut guest = place.guest();
    guest.unlink("b/in-b").unwrap();
    guest.rename("a", "b", 0).unwrap();
    assert_eq!(lines(&place), ["b from a"]);
    place.write("lower/b/in-b", "again");
    assert_eq!(lines(&place), ["b from a Changed"]);
}

#[test]
fn a_renamed_file_is_gone_and_added() {
    let place = Place::new();
    place.write("lower/file", "text");
    place.write("lower/target", "text");
    let mut guest = place.guest();
    guest.rename("file", "new", 0).unwrap();
    assert_eq!(lines(&place), ["file deleted", "new added"]);
    guest.write("temporary", "as editors do it").unwrap();
    guest.rename("temporary", "target", 0).unwrap();
    assert_eq!(lines(&place), ["file deleted", "new added", "target content"]);
}

#[test]
fn all_names_of_a_linked_file_are_changed_with_it() {
    let place = Place::new();
    place.write("lower/d/first", "text");
    std::fs::create_dir(place.path("lower/e")).unwrap();
    for name in ["e/second", "third"] {
        std::fs::hard_link(place.path("lower/d/first"), place.path(&format!("lower/{name}")))
            .unwrap();
    }
    let mut guest = place.guest();
    guest.append("d/first", "+").unwrap();
    assert_eq!(lines(&place), ["d/first content", "e/second content", "third content"]);
    guest.rename("e/second", "e/moved", 0).unwrap();
    guest.unlink("third").unwrap();
    let told = ["d/first content", "e/moved added", "e/second deleted", "third deleted"];
    assert_eq!(lines(&place), told);
}

#[test]
fn what_the_parent_did_meanwhile_is_a_conflict() {
    let place = Place::new();
    for path in ["changed", "gone", "deleted", "replaced", "quiet"] {
        place.write(&format!("lower/{path}"), "text");
    }
    place.write("lower/d/file", "");
    let mut guest = place.guest();
    for path in ["changed", "gone", "replaced", "quiet"] {
        guest.append(path, "+").unwrap();
    }
    guest.unlink("deleted").unwrap();
    guest.unlink("d/file").unwrap();
    guest.rmdir("d").unwrap();
    guest.write("both", "mine").unwrap();
    guest.mkdir("directory").unwrap();
    guest.write("alone", "mine").unwrap();
    place.write("lower/changed", "other");
    std::fs::remove_file(place.path("lower/gone")).unwrap();
    place.write("lower/deleted", "it matters");
    place.write("lower/temporary", "text");
    std::fs::rename(place.path("lower/temporary"), place.path("lower/replaced")).unwrap();
    place.write("lower/d/later", "");
    place.write("lower/both", "theirs");
    place.write("lower/directory/file", "theirs");
    let told = [
        "alone added",
        "both content Appeared",
        "changed content Changed",
        "d deleted Changed",
        "d/file deleted",
        "d/later deleted Changed",
        "deleted deleted Changed",
        "directory/file deleted Changed",
        "gone added Gone",
        "quiet content",
        "replaced content Changed",
    ];
    assert_eq!(lines(&place), told);
}

#[test]
fn masked_places_are_marked() {
    let place = Place::new();
    place.write("lower/.ssh/key", "secret");
    let mut config = place.config();
    config.masks = vec![PathBuf::from(".ssh")];
    let mut guest = Guest::new(crate::FileSpace::open(config.clone()).unwrap());
    guest.mkdir(".ssh").unwrap();
    guest.write(".ssh/key", "own").unwrap();
    let compared = config.compare(&mut |_| {}).unwrap();
    let told: Vec<_> =
        compared.changes.iter().map(|change| (line(change), change.is_masked)).collect();
    assert_eq!(told, [(".ssh added".to_owned(), true), (".ssh/key added".to_owned(), true)]);
}

#[test]
fn what_is_there_is_told_without_the_parent_and_of_a_damaged_layer() {
    let place = Place::new();
    place.write("lower/file", "text");
    place.write("lower/gone", "text");
    let mut guest = place.guest();
    guest.append("file", "+").unwrap();
    guest.unlink("gone").unwrap();
    guest.write("new", "").unwrap();
    std::fs::rename(place.path("lower"), place.path("elsewhere")).unwrap();
    let told = compared(&place);
    assert!(told.parent.as_ref().unwrap().to_string().contains("lower"));
    let blind: Vec<_> = told.changes.iter().map(line).collect();
    assert_eq!(blind, ["file content", "gone deleted", "new added"]);
    std::fs::rename(place.path("elsewhere"), place.path("lower")).unwrap();
    drop(guest);
    std::fs::create_dir(place.path("upper/odd")).unwrap();
    let odd = Directory::root(&place.path("upper/odd")).unwrap();
    stored::set_redirect(&odd, b"../../x").unwrap();
    let told = ["file content", "gone deleted", "new added", "odd from ../../x Gone"];
    assert_eq!(lines(&place), told);
}

#[test]
fn both_texts_of_a_change_can_be_read() {
    let place = Place::new();
    place.write("lower/d/file", "old");
    symlink("before", place.path("lower/link")).unwrap();
    let mut guest = place.guest();
    guest.write("d/file", "newer").unwrap();
    guest.unlink("link").unwrap();
    guest.symlink("link", "after").unwrap();
    let compared = compared(&place);
    let texts: Vec<_> =
        compared.changes.iter().map(|change| compared.texts(change, 100).unwrap()).collect();
    let some = |text: &str| Some(text.as_bytes().to_vec());
    assert_eq!(texts, [[some("old"), some("newer")], [some("before"), some("after")]]);
    assert_eq!(compared.texts(&compared.changes[0], 3).unwrap(), [some("old"), None]);
    guest.unlink("d/file").unwrap();
    assert_eq!(compared.texts(&compared.changes[0], 9), Err(Errno::ESTALE));
    assert_eq!(compared.changes[0].conflict, None::<Conflict>);
}
