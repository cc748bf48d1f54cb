//! What is seen of a parent: masks, what is given, bound and bounded; and of a chain.

use super::guest::{Guest, Place};
use crate::{Binding, Config, FileSpace, LowerLayer, OpenFailure};
use fuse::request::{SetAttr, open_flags};
use fuse::{Errno, Operation};
use std::collections::HashSet;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

fn open(config: &Config) -> Guest {
    Guest::new(FileSpace::open(config.clone()).unwrap())
}

fn not_own(mut config: Config) -> Config {
    for lower in &mut config.lowers {
        if let LowerLayer::Sealed { own, .. } = lower {
            *own = false;
        }
    }
    config
}

#[test]
fn a_mask_holds_by_the_path_each_layer_has_itself() {
    let place = Place::new();
    place.write("lower/home/me/file", "");
    let mut guest = place.guest();
    guest.rename("home", "elsewhere", 0).unwrap();
    guest.write("elsewhere/me/.ssh", "the first space's own").unwrap();
    drop(guest);
    place.seal();
    let mut config = place.config();
    config.masks = vec![PathBuf::from("/home/me/.ssh"), PathBuf::from("/elsewhere/me/.gnupg")];
    let mut guest = open(&config);
    // The parent gets its secret only now: no identity gives it away.
    std::fs::create_dir(place.path("lower/home/me/.gnupg")).unwrap();
    assert_eq!(guest.read("elsewhere/me/.ssh").unwrap(), "the first space's own");
    assert_eq!(guest.list("elsewhere/me", 4096).unwrap(), [".gnupg", ".ssh", "file"]);
    guest.unlink("elsewhere/me/.ssh").unwrap();
    drop(guest);
    place.seal();
    std::fs::create_dir(place.path("lower/home/me/.ssh")).unwrap();
    std::fs::remove_dir(place.path("lower/home/me/.gnupg")).unwrap();
    config.lowers = place.config().lowers;
    let mut guest = open(&config);
    assert_eq!(guest.list("elsewhere/me", 4096).unwrap(), ["file"]);
    assert_eq!(guest.find("elsewhere/me/.ssh"), Err(Errno::ENOENT));
}

#[test]
fn what_another_space_wrote_at_a_masked_path_is_not_seen() {
    let place = Place::new();
    let mut guest = place.guest();
    guest.mkdir("home").unwrap();
    guest.write("home/secret", "of the first").unwrap();
    drop(guest);
    place.seal();
    let mut config = place.config();
    config.masks = vec![PathBuf::from("home/secret")];
    assert_eq!(open(&config).read("home/secret").unwrap(), "of the first");
    let mut child = open(&not_own(config));
    assert_eq!(child.find("home/secret"), Err(Errno::ENOENT));
    child.write("home/secret", "of the second").unwrap();
    assert_eq!(child.read("home/secret").unwrap(), "of the second");
}

#[test]
fn a_given_file_takes_the_place_of_the_parents_and_its_directories_say_nothing() {
    let place = Place::new();
    place.write("lower/etc/hosts", "the parent's");
    place.write("lower/etc/other", "the parent's");
    place.write("given/etc/hosts", "given");
    place.write("given/new/directory/file", "given too");
    let mode = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(place.path("lower/etc"), mode(0o711)).unwrap();
    let mut config = place.base();
    config.lowers.insert(0, LowerLayer::Given(place.path("given")));
    let mut guest = open(&config);
    assert_eq!(guest.read("etc/hosts").unwrap(), "given");
    assert_eq!(guest.read("etc/other").unwrap(), "the parent's");
    assert_eq!(guest.list("etc", 4096).unwrap(), ["hosts", "other"]);
    assert_eq!(guest.list("new/directory", 4096).unwrap(), ["file"]);
    let etc = guest.attr("etc").unwrap();
    assert_eq!(etc.mode & 0o7777, 0o711);
    assert_eq!(etc.inode, std::fs::metadata(place.path("lower/etc")).unwrap().ino());
    assert!(std::fs::read_dir(place.path("upper")).unwrap().next().is_none());
    for (name, attr) in guest.list_plus("").unwrap() {
        assert_eq!(attr.unwrap().inode, guest.attr(&name).unwrap().inode);
    }
    place.write("lower/etc/later", "");
    assert_eq!(guest.list("etc", 4096).unwrap(), ["hosts", "later", "other"]);
    guest.append("etc/hosts", " and changed").unwrap();
    guest.write("new/directory/mine", "").unwrap();
    drop(guest);
    let mut guest = open(&config);
    assert_eq!(guest.read("etc/hosts").unwrap(), "given and changed");
    assert_eq!(place.read("lower/etc/hosts"), "the parent's");
    guest.unlink("etc/hosts").unwrap();
    assert_eq!(guest.find("etc/hosts"), Err(Errno::ENOENT));
    drop(guest);
    let own = config.take().unwrap();
    let compared = own.compare(&mut |_| {}).unwrap();
    let refused = own.plan(&compared, &[PathBuf::from("etc/hosts")], false).unwrap_err();
    assert!(refused.to_string().contains("given to the space"), "{refused}");
    let all: Vec<_> = compared.changes.iter().map(|change| change.path.clone()).collect();
    assert_eq!(all, [PathBuf::from("etc/hosts"), PathBuf::from("new/directory/mine")]);
}

#[test]
fn a_parent_that_is_no_directory_gives_way_to_a_given_one() {
    let place = Place::new();
    place.write("lower/a", "a file");
    place.write("given/a/b", "given");
    let mut config = place.base();
    config.lowers.insert(0, LowerLayer::Given(place.path("given")));
    let mut guest = open(&config);
    assert_eq!(guest.read("a/b").unwrap(), "given");
    assert_eq!(guest.list("", 4096).unwrap(), ["a"]);
    guest.rename("a", "c", 0).unwrap();
    assert_eq!(guest.read("c/b").unwrap(), "given");
    drop(guest);
    assert_eq!(open(&config).list("", 4096).unwrap(), ["c"]);
}

#[test]
fn hard_links_stay_links_through_sealed_layers() {
    let place = Place::new();
    place.write("lower/one", "1");
    for name in ["two", "three"] {
        std::fs::hard_link(place.path("lower/one"), place.path(&format!("lower/{name}"))).unwrap();
    }
    let mut guest = place.guest();
    guest.append("one", "2").unwrap();
    drop(guest);
    place.seal();
    let mut guest = place.guest();
    assert_eq!(guest.read("two").unwrap(), "12");
    guest.append("two", "3").unwrap();
    for name in ["one", "two", "three"] {
        assert_eq!(guest.read(name).unwrap(), "123", "{name}");
    }
    guest.unlink("one").unwrap();
    let mut guest = guest.restart(&place);
    guest.append("three", "4").unwrap();
    assert_eq!(guest.read("two").unwrap(), "1234");
    drop(guest);
    place.seal();
    // Now one name is left that is nowhere but below.
    let mut guest = place.guest();
    guest.unlink("two").unwrap();
    guest.append("three", "5").unwrap();
    assert_eq!(guest.read("three").unwrap(), "12345");
}

#[test]
fn a_link_is_found_when_the_name_by_which_it_was_known_goes() {
    let place = Place::new();
    let mut guest = place.guest();
    guest.mkdir("d").unwrap();
    guest.write("d/one", "1").unwrap();
    guest.link("d/one", "two").unwrap();
    drop(guest);
    place.seal();
    let mut guest = place.guest();
    // Copied up to a name of its own; the other stands for it by the index alone.
    guest.rename("two", "three", 0).unwrap();
    drop(guest);
    place.seal();
    let mut guest = place.guest();
    for name in ["three", "d/one"] {
        assert_eq!(guest.read(name).unwrap(), "1", "{name}");
    }
    guest.unlink("three").unwrap();
    assert_eq!(guest.read("d/one").unwrap(), "1");
    guest.append("d/one", "2").unwrap();
    let mut guest = guest.restart(&place);
    assert_eq!(guest.read("d/one").unwrap(), "12");
    assert_eq!(guest.list("", 4096).unwrap(), ["d"]);
}

#[test]
fn links_of_symbolic_links_can_be_removed_and_changed() {
    let place = Place::new();
    symlink("target", place.path("lower/one")).unwrap();
    std::fs::hard_link(place.path("lower/one"), place.path("lower/two")).unwrap();
    let mut guest = place.guest();
    let time = fuse::request::SetTime::At(fuse::Time { seconds: 7, nanoseconds: 0 });
    guest.set("one", SetAttr { modified: Some(time), ..SetAttr::default() }).unwrap();
    assert_eq!(guest.readlink("two").unwrap(), "target");
    guest.link("two", "three").unwrap();
    guest.unlink("two").unwrap();
    guest.unlink("one").unwrap();
    assert_eq!(guest.readlink("three").unwrap(), "target");
    guest.unlink("three").unwrap();
    assert!(guest.list("", 4096).unwrap().is_empty());
}

#[test]
fn the_root_of_a_child_is_as_its_parent_made_it() {
    let place = Place::new();
    let mode = std::os::unix::fs::PermissionsExt::from_mode;
    std::fs::set_permissions(place.path("lower"), mode(0o751)).unwrap();
    let owner = std::fs::metadata(place.path("lower")).unwrap().mode() & 0o7777;
    drop(place.guest());
    place.seal();
    let mut guest = place.guest();
    assert_eq!(guest.attr("").unwrap().mode & 0o7777, owner, "the upper's own says nothing");
    let set = SetAttr { mode: Some(0o1777), uid: Some(33), ..SetAttr::default() };
    guest.set("", set).unwrap();
    drop(guest);
    place.seal();
    place.seal();
    let root = place.guest().attr("").unwrap();
    assert_eq!((root.mode & 0o7777, root.uid), (0o1777, 33));
}

fn used(guest: &Guest) -> i64 {
    guest.space.lock().quota.as_ref().unwrap().used()
}

fn counted(place: &Place) -> i64 {
    let mut seen = HashSet::new();
    let of = |name| crate::host::Directory::root(&place.path(name)).unwrap();
    let each = ["upper", "work"].map(|name| crate::quota::usage(&of(name), &mut seen).unwrap());
    // The index itself is made with the first start, and free before.
    each.iter().sum::<u64>() as i64
}

#[test]
fn a_quota_counts_what_is_there_and_nothing_else() {
    let place = Place::new();
    place.write("lower/d/big", &"x".repeat(50_000));
    place.write("lower/linked", &"y".repeat(9_000));
    std::fs::hard_link(place.path("lower/linked"), place.path("lower/other")).unwrap();
    let mut config = place.config();
    config.quota = Some(1 << 20);
    drop(open(&config));
    let mut guest = open(&config);
    let check = |guest: &Guest, what: &str| assert_eq!(used(guest), counted(&place), "{what}");
    check(&guest, "at the start");
    guest.append("d/big", "+").unwrap();
    check(&guest, "copy-up");
    guest.write("new", &"z".repeat(20_000)).unwrap();
    check(&guest, "create and write");
    guest.set("new", SetAttr { size: Some(5_000), ..SetAttr::default() }).unwrap();
    check(&guest, "truncate");
    guest.link("new", "second").unwrap();
    guest.unlink("new").unwrap();
    check(&guest, "one name of two");
    guest.write("victim", &"v".repeat(30_000)).unwrap();
    guest.rename("second", "victim", 0).unwrap();
    check(&guest, "rename over");
    let open_file = guest.open("victim", open_flags::READ_WRITE).unwrap();
    guest.unlink("victim").unwrap();
    check(&guest, "unlinked while open");
    guest.write_at(open_file, 0, &[1; 70_000]).unwrap();
    check(&guest, "written while it has no name");
    guest.release(open_file);
    guest.append("linked", "+").unwrap();
    check(&guest, "copy-up of a link");
    let owner = SetAttr { uid: Some(33), mode: Some(0o4755), ..SetAttr::default() };
    guest.set("linked", owner).unwrap();
    guest.set("other", SetAttr { gid: Some(4), ..owner }).unwrap();
    check(&guest, "an owner");
    guest.unlink("linked").unwrap();
    guest.unlink("other").unwrap();
    check(&guest, "both links gone");
    guest.mkdir("directory").unwrap();
    guest.mkdir("directory/empty").unwrap();
    guest.mkdir("directory/full").unwrap();
    guest.rename("directory/full", "directory/empty", 0).unwrap();
    check(&guest, "a directory over another");
    guest.rmdir("directory/empty").unwrap();
    guest.rmdir("directory").unwrap();
    guest.symlink("link", &"l".repeat(200)).unwrap();
    guest.unlink("link").unwrap();
    guest.unlink("d/big").unwrap();
    guest.rmdir("d").unwrap();
    check(&guest, "a merged directory removed");
    guest.write("d", "a file now").unwrap();
    check(&guest, "a file over a whiteout");
    drop(guest);
    let guest = open(&config);
    check(&guest, "the next server");
}

#[test]
fn a_full_quota_says_so_and_what_is_removed_can_be_used_again() {
    let place = Place::new();
    place.write("lower/big", &"x".repeat(100_000));
    let mut config = place.config();
    config.quota = Some(64 << 10);
    let mut guest = open(&config);
    assert_eq!(guest.append("big", "+"), Err(Errno::ENOSPC));
    assert_eq!(guest.attr("big").unwrap().size, 100_000);
    let (_, opened) = guest.create("fill", 0).unwrap();
    let mut written = 0;
    let end = loop {
        match guest.write_at(opened.handle, written, &[7; 5000]) {
            Ok(count) => written += u64::from(count),
            Err(errno) => break errno,
        }
    };
    assert_eq!(end, Errno::ENOSPC);
    assert!((40_000..=64 << 10).contains(&written), "{written}");
    assert!(used(&guest) <= 64 << 10);
    assert_eq!(guest.create("more", 0).map(|_| ()), Err(Errno::ENOSPC));
    guest.write_at(opened.handle, 0, &[8; 5000]).unwrap();
    guest.unlink("big").unwrap();
    guest.release(opened.handle);
    guest.unlink("fill").unwrap();
    let fill =
        guest.entry(fuse::NodeId::ROOT, Operation::Lookup { name: super::guest::name("fill") });
    assert_eq!(fill.map(|_| ()), Err(Errno::ENOENT));
    guest.write("again", &"x".repeat(40_000)).unwrap();
}

#[test]
fn what_is_shared_is_not_counted_and_what_is_masked_in_it_stays() {
    let place = Place::new();
    place.write("lower/shared/.netrc", "secret");
    place.write("outside/other", "");
    let mut config = place.base();
    config.quota = Some(64 << 10);
    config.masks = vec![PathBuf::from("shared/.netrc")];
    let binding = Binding { at: "bound".into(), from: place.path("lower/shared"), write: true };
    config.bindings = vec![binding];
    let mut guest = open(&config);
    guest.write("bound/big", &"x".repeat(60_000)).unwrap();
    guest.write("bound/bigger", &"x".repeat(60_000)).unwrap();
    assert_eq!(used(&guest), counted(&place));
    assert_eq!(guest.list("bound", 4096).unwrap(), ["big", "bigger"]);
    assert_eq!(guest.rename("bound/big", "bound/.netrc", 0), Err(Errno::EEXIST));
    assert_eq!(place.read("lower/shared/.netrc"), "secret");
    guest.unlink("bound/big").unwrap();
    assert_eq!(used(&guest), counted(&place));
}

#[test]
fn a_shared_file_is_written_by_who_has_it_open_though_it_was_removed() {
    let place = Place::new();
    place.write("lower/shared/file", "host's");
    let mut config = place.base();
    let binding = Binding { at: "bound".into(), from: place.path("lower/shared"), write: true };
    config.bindings = vec![binding];
    let mut guest = open(&config);
    let handle = guest.open("bound/file", open_flags::READ_WRITE).unwrap();
    guest.unlink("bound/file").unwrap();
    assert_eq!(guest.write_at(handle, 0, b"space"), Ok(5));
    assert_eq!(guest.read_at(handle, 0).unwrap(), b"spaces");
}

#[test]
fn a_private_directory_is_nowhere_to_be_seen() {
    let place = Place::new();
    place.write("lower/state/key", "");
    place.write("lower/more/file", "");
    let mut config = place.base();
    config.private = vec![place.path("lower/state")];
    config.bindings = vec![Binding { at: "bound".into(), from: place.path("lower"), write: false }];
    let mut guest = open(&config);
    std::fs::rename(place.path("lower/state"), place.path("lower/more/moved")).unwrap();
    assert_eq!(guest.list("more", 4096).unwrap(), ["file"]);
    assert_eq!(guest.list("bound/more", 4096).unwrap(), ["file"]);
    assert_eq!(guest.find("bound/more/moved"), Err(Errno::ENOENT));
}

#[test]
fn the_kernels_own_files_are_not_bound() {
    let place = Place::new();
    let mut config = place.base();
    for from in ["/proc", "/proc/self/environ", "/sys/kernel"] {
        config.bindings = vec![Binding { at: "bound".into(), from: from.into(), write: false }];
        let refused = FileSpace::open(config.clone()).unwrap_err();
        assert!(matches!(refused, OpenFailure::OfTheKernel { .. }), "{refused}");
    }
}

#[test]
fn writes_may_come_late_only_where_nobody_else_writes() {
    let place = Place::new();
    let is_late = |config: &Config| {
        let guest = open(config);
        guest.space.lock().session.has(fuse::session::capability::WRITEBACK_CACHE)
    };
    let live = place.base();
    let files = place.path("lower");
    let sealed = vec![LowerLayer::Sealed { files, index: None, own: true }];
    let mut sealed = Config { lowers: sealed, ..place.base() };
    assert_eq!((is_late(&live), is_late(&sealed)), (false, true));
    for write in [false, true] {
        sealed.bindings = vec![Binding { at: "bound".into(), from: place.path("below"), write }];
        assert!(!is_late(&sealed), "the host writes there without a word");
    }
}

#[test]
fn a_bound_file_is_believed_no_longer_than_the_host_leaves_it() {
    let place = Place::new();
    place.write("elsewhere", "old");
    place.write("lower/bound", "");
    let files = place.path("lower");
    let lowers = vec![LowerLayer::Sealed { files, index: None, own: true }];
    let bindings =
        vec![Binding { at: "bound".into(), from: place.path("elsewhere"), write: false }];
    let mut guest = open(&Config { lowers, bindings, ..place.base() });
    let lookup = Operation::Lookup { name: super::guest::name("bound") };
    let entry = guest.entry(fuse::NodeId::ROOT, lookup).unwrap();
    assert_eq!((entry.attr.size, entry.attr_valid_ns), (3, 0));
    place.write("elsewhere", "and new");
    assert_eq!(guest.read("bound").unwrap(), "and new");
}
