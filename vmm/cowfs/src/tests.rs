//! The file space as a guest and its parent see it.

mod beside;
mod changes;
mod commit;
mod crash;
mod discard;
mod gather;
mod guest;
mod hostile;
mod layer;
mod model;
mod reseat;
mod saved;
mod seen;

use crate::{LowerLayer, OpenFailure};
use fuse::request::{SetAttr, SetTime, open_flags, rename_flags};
use fuse::{Errno, NodeId, Operation, Time, reply};
use guest::Place;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

#[test]
fn a_space_sees_the_parents_files() {
    let place = Place::new();
    place.write("lower/directory/file", "from the parent");
    symlink("directory/file", place.path("lower/link")).unwrap();
    let mut guest = place.guest();
    assert_eq!(guest.read("directory/file").unwrap(), "from the parent");
    assert_eq!(guest.readlink("link").unwrap(), "directory/file");
    assert_eq!(guest.attr("directory/file").unwrap().size, 15);
    assert_eq!(guest.attr("directory/file").unwrap().uid, 0);
    assert_eq!(guest.find("directory/nothing"), Err(Errno::ENOENT));
    assert_eq!(guest.find("directory/file/below"), Err(Errno::ENOTDIR));
    assert!(std::fs::read_dir(place.path("upper")).unwrap().next().is_none());
}

#[test]
fn writing_copies_up_and_leaves_the_parents_file_as_it_was() {
    let place = Place::new();
    place.write("lower/a/b/file", "old");
    let before = std::fs::metadata(place.path("lower/a/b/file")).unwrap();
    let mut guest = place.guest();
    let inode = guest.attr("a/b/file").unwrap().inode;
    let directory = guest.attr("a/b").unwrap().inode;
    guest.append("a/b/file", " and new").unwrap();
    assert_eq!(guest.read("a/b/file").unwrap(), "old and new");
    assert_eq!(place.read("upper/a/b/file"), "old and new");
    assert_eq!(place.read("lower/a/b/file"), "old");
    let after = std::fs::metadata(place.path("lower/a/b/file")).unwrap();
    let facts = |data: &std::fs::Metadata| (data.ino(), data.mtime_nsec(), data.ctime_nsec());
    assert_eq!(facts(&before), facts(&after));
    assert_eq!(guest.attr("a/b/file").unwrap().inode, inode);
    let mut guest = guest.restart(&place);
    assert_eq!(guest.attr("a/b/file").unwrap().inode, inode, "also for the next server");
    assert_eq!(guest.attr("a/b").unwrap().inode, directory);
    assert_eq!(guest.read("a/b/file").unwrap(), "old and new");
    assert_eq!(place.left_in_work(), 0);
}

#[test]
fn a_reader_that_was_there_before_sees_what_is_written() {
    let place = Place::new();
    place.write("lower/file", "old");
    let mut guest = place.guest();
    let reader = guest.open("file", open_flags::READ_ONLY).unwrap();
    guest.write("file", "new").unwrap();
    assert_eq!(guest.read_at(reader, 0).unwrap(), b"new");
}

#[test]
fn mode_and_times_survive_copy_up_and_set_id_bits_stay_inside() {
    let place = Place::new();
    place.write("lower/program", "x");
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(place.path("lower/program"), mode(0o4555)).unwrap();
    let mut guest = place.guest();
    let before = guest.attr("program").unwrap();
    assert_eq!(before.mode, 0o104_555);
    let at = Time { seconds: 1_000_000_000, nanoseconds: 7 };
    let set = SetAttr { modified: Some(SetTime::At(at)), ..SetAttr::default() };
    let after = guest.set("program", set).unwrap();
    assert_eq!((after.mode, after.modified), (0o104_555, at));
    assert_eq!(after.accessed, before.accessed);
    let host = std::fs::metadata(place.path("upper/program")).unwrap();
    // An ordinary user keeps the right to write what he copied.
    let root = host.uid() == 0;
    assert_eq!(host.mode() & 0o7777, if root { 0o555 } else { 0o755 });
    // Administrator inside, ordinary user outside.
    let set = SetAttr { uid: Some(33), mode: Some(0o2751), ..SetAttr::default() };
    guest.set("program", set).unwrap();
    let mut guest = guest.restart(&place);
    let shown = guest.attr("program").unwrap();
    assert_eq!((shown.uid, shown.mode), (33, 0o102_751));
    let now = std::fs::metadata(place.path("upper/program")).unwrap();
    assert_eq!((now.uid(), now.mode() & 0o7777), (if root { 33 } else { host.uid() }, 0o751));
}

#[test]
fn a_removed_file_is_gone_inside_only_and_can_be_made_again() {
    let place = Place::new();
    place.write("lower/file", "parent's");
    place.write("below/file", "grandparent's");
    let mut guest = place.guest();
    guest.unlink("file").unwrap();
    assert_eq!(guest.find("file"), Err(Errno::ENOENT));
    assert!(guest.list("", 4096).unwrap().is_empty());
    let whiteout = std::fs::symlink_metadata(place.path("upper/file")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    assert_eq!(place.read("lower/file"), "parent's");
    let mut guest = guest.restart(&place);
    assert_eq!(guest.find("file"), Err(Errno::ENOENT));
    guest.write("file", "mine").unwrap();
    assert_eq!(guest.read("file").unwrap(), "mine");
    guest.unlink("file").unwrap();
    assert_eq!(guest.find("file"), Err(Errno::ENOENT), "the parent's does not come back");
}

#[test]
fn a_directory_made_again_is_empty() {
    let place = Place::new();
    place.write("lower/directory/file", "parent's");
    let mut guest = place.guest();
    assert_eq!(guest.rmdir("directory"), Err(Errno::ENOTEMPTY));
    guest.unlink("directory/file").unwrap();
    guest.rmdir("directory").unwrap();
    assert_eq!(guest.find("directory"), Err(Errno::ENOENT));
    guest.mkdir("directory").unwrap();
    assert!(guest.list("directory", 4096).unwrap().is_empty());
    let mut guest = guest.restart(&place);
    assert_eq!(guest.find("directory/file"), Err(Errno::ENOENT));
    assert_eq!(place.read("lower/directory/file"), "parent's");
    guest.mkdir("directory/new").unwrap();
    assert_eq!(guest.list("directory", 4096).unwrap(), ["new"]);
}

#[test]
fn layers_are_listed_as_one_directory_each_name_once() {
    let place = Place::new();
    place.write("lower/d/both", "lower");
    place.write("lower/d/lower", "");
    place.write("below/d/both", "below");
    place.write("below/d/below", "");
    let mut guest = place.guest();
    guest.write("d/upper", "").unwrap();
    guest.append("d/both", "+").unwrap();
    for size in [56, 100, 4096] {
        assert_eq!(guest.list("d", size).unwrap(), ["below", "both", "lower", "upper"]);
    }
    let plus = guest.list_plus("d").unwrap();
    assert_eq!(plus.len(), 4);
    for (file, attr) in plus {
        assert_eq!(attr.unwrap().inode, guest.attr(&format!("d/{file}")).unwrap().inode);
    }
    assert_eq!(guest.read("d/both").unwrap(), "lower+");
}

#[test]
fn a_parents_later_changes_are_seen() {
    let place = Place::new();
    place.write("lower/d/file", "one");
    place.write("lower/d/gone", "");
    let mut guest = place.guest();
    assert_eq!(guest.find("d/later"), Err(Errno::ENOENT));
    assert_eq!(guest.read("d/file").unwrap(), "one");
    guest.find("d/gone").unwrap();
    place.write("lower/d/later", "new");
    place.write("lower/d/temporary", "two");
    std::fs::rename(place.path("lower/d/temporary"), place.path("lower/d/file")).unwrap();
    std::fs::remove_file(place.path("lower/d/gone")).unwrap();
    assert_eq!(guest.read("d/later").unwrap(), "new");
    assert_eq!(guest.read("d/file").unwrap(), "two");
    assert_eq!(guest.find("d/gone"), Err(Errno::ENOENT));
    assert_eq!(guest.list("d", 4096).unwrap(), ["file", "later"]);
    // The whole directory is another one; then below the space's own.
    std::fs::rename(place.path("lower/d"), place.path("lower/old")).unwrap();
    place.write("lower/d/other", "three");
    assert_eq!(guest.list("d", 4096).unwrap(), ["other"]);
    guest.write("d/own", "").unwrap();
    std::fs::remove_dir_all(place.path("lower/d")).unwrap();
    place.write("lower/d/fourth", "four");
    assert_eq!(guest.list("d", 4096).unwrap(), ["fourth", "own"]);
    assert_eq!(guest.read("d/fourth").unwrap(), "four");
}

#[test]
fn files_are_renamed_and_the_parents_name_is_hidden() {
    let place = Place::new();
    place.write("lower/d/file", "text");
    place.write("lower/other", "other");
    let mut guest = place.guest();
    let inode = guest.attr("d/file").unwrap().inode;
    guest.rename("d/file", "moved", 0).unwrap();
    assert_eq!(guest.read("moved").unwrap(), "text");
    assert_eq!(guest.attr("moved").unwrap().inode, inode);
    assert_eq!(guest.find("d/file"), Err(Errno::ENOENT));
    assert_eq!(guest.rename("moved", "other", rename_flags::NO_REPLACE), Err(Errno::EEXIST));
    guest.rename("moved", "other", 0).unwrap();
    assert_eq!(guest.list("", 4096).unwrap(), ["d", "other"]);
    let mut guest = guest.restart(&place);
    assert_eq!(guest.read("other").unwrap(), "text");
    assert_eq!(guest.find("d/file"), Err(Errno::ENOENT));
    assert_eq!(
        (place.read("lower/d/file"), place.read("lower/other")),
        ("text".into(), "other".into())
    );
}

#[test]
fn directories_are_renamed_with_what_the_parent_has_in_them() {
    let place = Place::new();
    place.write("lower/theirs/deep/file", "theirs");
    place.write("below/theirs/other", "below");
    place.write("lower/empty/file", "");
    let mut guest = place.guest();
    guest.mkdir("own").unwrap();
    guest.write("own/file", "text").unwrap();
    let inside = guest.find("own/file").unwrap();
    assert_eq!(guest.rename("own", "theirs", 0), Err(Errno::ENOTEMPTY));
    guest.unlink("empty/file").unwrap();
    guest.rename("own", "empty", 0).unwrap();
    assert_eq!(guest.list("empty", 4096).unwrap(), ["file"]);
    assert_eq!(guest.find("empty/file").unwrap(), inside);
    let inode = guest.attr("theirs/deep/file").unwrap().inode;
    guest.rename("theirs", "moved", 0).unwrap();
    guest.rename("moved/deep", "deeper", 0).unwrap();
    assert_eq!(guest.rename("deeper", "deeper/below", 0), Err(Errno::EINVAL));
    let mut guest = guest.restart(&place);
    assert_eq!(guest.list("", 4096).unwrap(), ["deeper", "empty", "moved"]);
    assert_eq!(guest.list("moved", 4096).unwrap(), ["other"]);
    assert_eq!(guest.read("deeper/file").unwrap(), "theirs");
    assert_eq!(guest.attr("deeper/file").unwrap().inode, inode);
    guest.append("deeper/file", "+").unwrap();
    guest.mkdir("theirs").unwrap();
    guest.rename("deeper", "theirs/deep", 0).unwrap();
    assert_eq!(guest.read("theirs/deep/file").unwrap(), "theirs+");
    assert_eq!(guest.list("theirs", 4096).unwrap(), ["deep"]);
    // What the parent adds later is seen where the directory is now.
    place.write("lower/theirs/later", "");
    assert_eq!(guest.list("moved", 4096).unwrap(), ["later", "other"]);
    assert_eq!(place.read("lower/theirs/deep/file"), "theirs");
}

#[test]
fn a_directory_moved_into_one_that_hides_the_parents_has_what_it_had() {
    let place = Place::new();
    place.write("lower/whole/part/file", "the parent's");
    place.write("lower/place/old", "");
    let mut guest = place.guest();
    guest.unlink("place/old").unwrap();
    guest.rmdir("place").unwrap();
    guest.mkdir("place").unwrap();
    guest.rename("whole", "place/whole", 0).unwrap();
    for fresh in [false, true] {
        if fresh {
            guest = guest.restart(&place);
        }
        assert_eq!(guest.attr("place/whole").unwrap().links, 1, "it has directories to look into");
        assert_eq!(guest.rmdir("place/whole"), Err(Errno::ENOTEMPTY));
        guest.mkdir("empty").unwrap();
        assert_eq!(guest.rename("empty", "place/whole", 0), Err(Errno::ENOTEMPTY));
        guest.rmdir("empty").unwrap();
        assert_eq!(guest.read("place/whole/part/file").unwrap(), "the parent's");
    }
}

#[test]
fn a_file_is_exchanged_with_a_directory_that_has_another_name_of_it() {
    let place = Place::new();
    place.write("lower/a/file", "both");
    place.write("lower/b/other", "");
    std::fs::hard_link(place.path("lower/a/file"), place.path("lower/b/link")).unwrap();
    let mut guest = place.guest();
    // Known by the name in the directory first: there it is copied up.
    assert_eq!(guest.read("b/link").unwrap(), "both");
    guest.rename("a/file", "b", rename_flags::EXCHANGE).unwrap();
    assert_eq!(guest.read("b").unwrap(), "both");
    guest.append("a/file/link", " names").unwrap();
    assert_eq!(guest.read("b").unwrap(), "both names");
    assert_eq!(guest.list("a/file", 4096).unwrap(), ["link", "other"]);
}

#[test]
fn nothing_is_moved_into_itself() {
    for (old, new, flags) in [
        ("a", "a/b/new", 0),
        ("a", "a/b", rename_flags::EXCHANGE),
        ("a/c", "a", rename_flags::EXCHANGE),
    ] {
        let place = Place::new();
        place.write("lower/a/b/file", "x");
        place.write("lower/a/c", "");
        let mut guest = place.guest();
        assert_eq!(guest.read("a/b/file").unwrap(), "x");
        assert!(guest.rename(old, new, flags).is_err(), "{old} {new}");
        guest.append("a/b/file", "y").unwrap();
        assert_eq!(guest.read("a/b/file").unwrap(), "xy");
    }
}

#[test]
fn names_are_exchanged() {
    let place = Place::new();
    place.write("lower/a/file", "in a");
    place.write("lower/b", "b");
    let mut guest = place.guest();
    let ids = ["a", "b"].map(|path| guest.find(path).unwrap());
    guest.rename("a", "b", rename_flags::EXCHANGE).unwrap();
    assert_eq!(guest.read("a").unwrap(), "b");
    assert_eq!(["b", "a"].map(|path| guest.find(path).unwrap()), ids);
    let mut guest = guest.restart(&place);
    assert_eq!(guest.read("b/file").unwrap(), "in a");
    assert_eq!(guest.list("", 4096).unwrap(), ["a", "b"]);
}

#[test]
fn links_share_their_file() {
    let place = Place::new();
    place.write("lower/file", "text");
    let mut guest = place.guest();
    let linked = guest.link("file", "second").unwrap();
    assert_eq!((linked.attr.links, linked.attr.inode), (2, guest.attr("file").unwrap().inode));
    guest.append("second", "+").unwrap();
    assert_eq!(guest.read("file").unwrap(), "text+");
    guest.unlink("file").unwrap();
    guest.link("second", "file").unwrap();
    assert_eq!(guest.read("file").unwrap(), "text+");
    assert_eq!(place.read("lower/file"), "text");
}

#[test]
fn links_of_the_parent_stay_links() {
    let place = Place::new();
    place.write("lower/d/first", "text");
    std::fs::hard_link(place.path("lower/d/first"), place.path("lower/second")).unwrap();
    std::fs::hard_link(place.path("lower/d/first"), place.path("lower/third")).unwrap();
    let mut guest = place.guest();
    guest.append("d/first", "+").unwrap();
    assert_eq!(guest.read("second").unwrap(), "text+");
    let mut guest = guest.restart(&place);
    assert_eq!(guest.read("second").unwrap(), "text+");
    let [first, second] = ["d/first", "second"].map(|path| guest.attr(path).unwrap());
    assert_eq!((first.inode, first.links, second.links), (second.inode, 3, 3));
    guest.rename("second", "moved", 0).unwrap();
    guest.unlink("third").unwrap();
    guest.append("moved", "!").unwrap();
    let first = guest.attr("d/first").unwrap();
    assert_eq!((guest.read("d/first").unwrap().as_str(), first.links), ("text+!", 2));
    guest.unlink("d/first").unwrap();
    assert_eq!(guest.attr("moved").unwrap().links, 1);
    guest.unlink("moved").unwrap();
    assert!(std::fs::read_dir(place.path("work/index")).unwrap().next().is_none());
    assert_eq!(place.read("lower/second"), "text");
}

#[test]
fn an_open_file_outlives_its_name() {
    let place = Place::new();
    place.write("lower/file", "text");
    let mut guest = place.guest();
    let node = guest.find("file").unwrap();
    let handle = guest.open("file", open_flags::READ_WRITE).unwrap();
    guest.unlink("file").unwrap();
    guest.write("file", "another").unwrap();
    guest.write_at(handle, 4, b"!").unwrap();
    assert_eq!(guest.read_at(handle, 0).unwrap(), b"text!");
    let attr = guest.ask(node, Operation::GetAttr { handle: None }, reply::attr).unwrap().attr;
    assert_eq!(attr.size, 5);
    assert_eq!(attr.links, 0);
    guest.release(handle);
    guest.forget(node, u64::MAX);
    assert_eq!(place.left_in_work(), 0);
    let gone = guest.ask(node, Operation::GetAttr { handle: None }, reply::attr);
    assert_eq!(gone.map(|_| ()), Err(Errno::ESTALE));
}

#[test]
fn truncating_copies_no_more_than_is_kept() {
    let place = Place::new();
    place.write("lower/file", "0123456789");
    let mut guest = place.guest();
    let size = |size| SetAttr { size: Some(size), ..SetAttr::default() };
    assert_eq!(guest.set("file", size(4)).unwrap().size, 4);
    assert_eq!(guest.read("file").unwrap(), "0123");
    assert_eq!(guest.set("file", size(6)).unwrap().size, 6);
    assert_eq!(guest.read("file").unwrap(), "0123\0\0");
    assert_eq!(place.read("lower/file"), "0123456789");
}

#[test]
fn holes_stay_holes_when_a_file_is_copied_up() {
    let place = Place::new();
    place.write("lower/sparse", "");
    let file = std::fs::OpenOptions::new().write(true).open(place.path("lower/sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", 64 << 20).unwrap();
    let mut guest = place.guest();
    let handle = guest.open("sparse", open_flags::READ_WRITE).unwrap();
    assert_eq!(guest.read_at(handle, 64 << 20).unwrap(), b"end");
    let copy = std::fs::metadata(place.path("upper/sparse")).unwrap();
    assert_eq!(copy.len(), (64 << 20) + 3);
    assert!(copy.blocks() * 512 < 1 << 20);
    let seek = Operation::LSeek { handle, offset: 0, whence: 3 };
    assert_eq!(guest.ask(NodeId::ROOT, seek, reply::offset), Ok(64 << 20));
}

#[test]
fn leftovers_of_a_killed_rmdir_are_cleaned() {
    let place = Place::new();
    place.write("lower/d/file", "");
    let mut guest = place.guest();
    guest.unlink("d/file").unwrap();
    drop(guest);
    std::fs::rename(place.path("upper/d"), place.path("work/#7")).unwrap();
    let mut guest = place.guest();
    assert_eq!(place.left_in_work(), 0);
    assert_eq!(guest.list("d", 4096).unwrap(), ["file"]);
}

#[test]
fn what_cannot_be_served_is_said_in_a_sentence() {
    let place = Place::new();
    let first = place.try_open().unwrap();
    let text = place.try_open().unwrap_err().to_string();
    assert!(text.contains("upper is in use") || text.contains("in use by another space"), "{text}");
    drop(first);
    let mut config = place.config();
    config.lowers = vec![LowerLayer::Live(place.path("missing"))];
    let text = crate::FileSpace::open(config.clone()).unwrap_err().to_string();
    assert!(text.starts_with("cannot open the lower directory") && text.contains("missing"));
    config.lowers = vec![LowerLayer::Live(place.path("upper"))];
    assert!(matches!(crate::FileSpace::open(config.clone()), Err(OpenFailure::Twice { .. })));
    if std::fs::metadata("/dev/shm")
        .is_ok_and(|shm| shm.dev() != std::fs::metadata(place.path("upper")).unwrap().dev())
    {
        let apart = tempfile::tempdir_in("/dev/shm").unwrap();
        let config = crate::Config { work: apart.path().to_owned(), ..place.config() };
        assert!(matches!(crate::FileSpace::open(config), Err(OpenFailure::Apart { .. })));
    }
}

#[test]
fn a_space_over_its_own_directories_does_not_see_them() {
    let place = Place::new();
    let mut config = place.config();
    config.lowers = vec![LowerLayer::Live(place.path(""))];
    let mut guest = guest::Guest::new(crate::FileSpace::open(config).unwrap());
    assert_eq!(guest.list("", 4096).unwrap(), ["below", "lower", "outside"]);
    assert_eq!(guest.find("upper"), Err(Errno::ENOENT));
    guest.write("upper", "a file of that name").unwrap();
    assert_eq!(guest.read("upper").unwrap(), "a file of that name");
}
