//! Commits: the parent gets what the space sees, and each step killed or failing leaves all or
//! nothing of it.

use super::changes::{compared, lines};
use super::crash::seen;
use super::guest::{Guest, Place};
use crate::host::{Fault, with_fault};
use crate::{Change, CommitFailure, Committed, Conflict, Refusal, Unselectable, What};
use fuse::Errno;
use fuse::request::{SetAttr, rename_flags};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Everything below a directory: path, mode, content.
pub(super) fn tree(root: &Path) -> Vec<String> {
    let (mut lines, mut directories) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let stat = std::fs::symlink_metadata(&path).unwrap();
            let content = match stat.file_type() {
                kind if kind.is_dir() => {
                    directories.push(path.clone());
                    String::new()
                }
                kind if kind.is_symlink() => {
                    std::fs::read_link(&path).unwrap().display().to_string()
                }
                kind if kind.is_file() => std::fs::read_to_string(&path).unwrap(),
                _ => "special".to_owned(),
            };
            let shown = path.strip_prefix(root).unwrap().display().to_string();
            lines.push(format!("{shown} {:o} {content}", stat.mode()));
        }
    }
    lines.sort();
    lines
}

fn commit(place: &Place, paths: &[&str], force: bool) -> Result<Committed, CommitFailure> {
    let mut own = place.base().take().unwrap();
    let compared = own.compare(&mut |_| {}).unwrap();
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    let plan = own.plan(&compared, &paths, force)?;
    own.commit(plan)
}

fn mode(mode: u32) -> SetAttr {
    SetAttr { mode: Some(mode), ..SetAttr::default() }
}

/// A parent, and a space that changed it in every way.
fn changed() -> Place {
    let place = Place::quick();
    for path in ["content", "mode", "gone", "to-link", "to-directory", "d/file", "d/other"] {
        place.write(&format!("lower/{path}"), path);
    }
    for path in ["theirs/deep/file", "theirs/other", "same/inner", "again/old", "a/in", "b/in"] {
        place.write(&format!("lower/{path}"), path);
    }
    place.write("lower/tree/deep/file", "");
    symlink("target", place.path("lower/link")).unwrap();
    std::fs::hard_link(place.path("lower/d/other"), place.path("lower/linked")).unwrap();
    let mut guest = place.guest();
    guest.append("content", "+").unwrap();
    guest.set("mode", mode(0o751)).unwrap();
    guest.unlink("gone").unwrap();
    guest.unlink("to-link").unwrap();
    guest.symlink("to-link", "elsewhere").unwrap();
    guest.unlink("to-directory").unwrap();
    guest.mkdir("to-directory").unwrap();
    guest.write("to-directory/new", "in new").unwrap();
    guest.unlink("link").unwrap();
    guest.symlink("link", "other").unwrap();
    guest.mkdir("made").unwrap();
    guest.mkdir("made/deeper").unwrap();
    guest.write("made/deeper/file", "made").unwrap();
    guest.link("made/deeper/file", "made/hard").unwrap();
    guest.set("same", mode(0o700)).unwrap();
    guest.append("linked", "+").unwrap();
    guest.rename("theirs", "moved", 0).unwrap();
    guest.rename("moved/deep", "made/in-made", 0).unwrap();
    guest.append("made/in-made/file", "+").unwrap();
    guest.unlink("again/old").unwrap();
    guest.rmdir("again").unwrap();
    guest.mkdir("again").unwrap();
    guest.write("again/new", "new").unwrap();
    guest.rename("a", "b", rename_flags::EXCHANGE).unwrap();
    guest.unlink("tree/deep/file").unwrap();
    guest.rmdir("tree/deep").unwrap();
    guest.rmdir("tree").unwrap();
    place
}

fn told(guest: &mut Guest) -> Vec<String> {
    seen(guest)
}

#[test]
fn the_parent_gets_what_the_space_sees_and_the_layer_is_empty() {
    let place = changed();
    let view = told(&mut place.guest());
    assert_eq!(commit(&place, &[], false).unwrap(), Committed::default());
    assert_eq!(tree(&place.path("lower")), view);
    assert!(lines(&place).is_empty());
    assert!(std::fs::read_dir(place.path("upper")).unwrap().next().is_none());
    assert_eq!(told(&mut place.guest()), view);
    assert_eq!(place.left_in_work(), 0);
    let inode = |path: &str| std::fs::metadata(place.path(path)).unwrap().ino();
    assert_eq!(inode("lower/made/hard"), inode("lower/made/deeper/file"));
    assert_eq!(inode("lower/linked"), inode("lower/d/other"));
}

#[test]
fn a_commit_killed_at_any_step_is_there_wholly_or_not_at_all() {
    let place = changed();
    let before = tree(&place.path("lower"));
    let view = told(&mut place.guest());
    let (mut undone, mut done) = (0, 0);
    for step in 1.. {
        let place = changed();
        let (_, reached) = with_fault(step, Fault::Killed, || commit(&place, &[], false));
        drop(place.base().take().unwrap());
        let now = tree(&place.path("lower"));
        if now == view {
            done += 1;
            assert!(lines(&place).is_empty(), "step {step}");
        } else {
            undone += 1;
            assert_eq!(now, before, "step {step}");
            assert!(lines(&place).iter().all(|line| !line.contains("Changed")), "step {step}");
        }
        let mut guest = place.guest();
        assert_eq!(told(&mut guest), view, "step {step}");
        drop(guest);
        assert_eq!(place.left_in_work(), 0, "step {step}");
        if now != view {
            commit(&place, &[], false).unwrap();
            assert_eq!(tree(&place.path("lower")), view, "step {step}");
        }
        if !reached {
            break;
        }
    }
    assert!(undone > 10 && done > 10, "{undone} {done}");
}

#[test]
fn a_commit_with_a_failing_step_is_there_wholly_or_not_at_all() {
    let place = changed();
    let before = tree(&place.path("lower"));
    let view = told(&mut place.guest());
    for (step, errno) in (1..).flat_map(|step| [(step, Errno::ENOSPC), (step, Errno::EACCES)]) {
        let place = changed();
        let fault = Fault::Once(errno);
        let (result, reached) = with_fault(step, fault, || commit(&place, &[], false));
        let all = tree(&place.path("lower"));
        let theirs = |line: &&String| !line.starts_with(".portspace-commit");
        let now: Vec<_> = all.iter().filter(theirs).cloned().collect();
        match &result {
            Ok(committed) => {
                assert_eq!(now, view, "{errno:?} at step {step}");
                assert!(*committed != Committed::default() || now == all, "step {step}");
            }
            Err(CommitFailure::Interrupted { .. }) => {}
            Err(_) => assert_eq!(now, before, "{errno:?} at step {step}: {result:?}"),
        }
        drop(place.base().take().unwrap());
        let now = tree(&place.path("lower"));
        assert!(now == view || now == before, "{errno:?} at step {step}: {result:?} {now:#?}");
        let told = told(&mut place.guest());
        assert_eq!(told, view, "{errno:?} at step {step}: {result:?}");
        if now == before {
            commit(&place, &[], false).unwrap_or_else(|failure| panic!("{step}: {failure:?}"));
            assert_eq!(tree(&place.path("lower")), view);
        }
        if !reached {
            break;
        }
    }
}

#[test]
fn paths_are_committed_alone_with_the_directories_they_are_in() {
    let place = changed();
    let view = told(&mut place.guest());
    commit(&place, &["/content", "./made/deeper/file", "made/hard"], false).unwrap();
    assert_eq!(place.read("lower/content"), "content+");
    assert_eq!(place.read("lower/made/deeper/file"), "made");
    assert!(!place.path("lower/made/in-made").exists());
    assert!(place.path("lower/gone").exists());
    assert_eq!(told(&mut place.guest()), view);
    let left = lines(&place);
    assert!(!left.iter().any(|line| line.starts_with("content ")), "{left:?}");
    assert!(left.contains(&"made/in-made from theirs/deep".to_owned()), "{left:?}");
    commit(&place, &["."], false).unwrap();
    assert_eq!(tree(&place.path("lower")), view);
}

#[test]
fn what_goes_together_is_not_committed_apart() {
    let place = changed();
    let failure = |paths: &[&str]| match commit(&place, paths, false) {
        Err(CommitFailure::Selection(failure)) => failure,
        other => panic!("{other:?}"),
    };
    assert!(matches!(failure(&["moved"]), Unselectable::MovedOut { .. }));
    assert!(matches!(failure(&["tree/deep"]), Unselectable::PartOf { .. }));
    assert!(matches!(failure(&["again/new"]), Unselectable::PartOf { .. }));
    assert!(matches!(failure(&["linked"]), Unselectable::Linked { .. }));
    assert!(matches!(failure(&["theirs"]), Unselectable::Renamed { .. }));
    assert!(matches!(failure(&["nothing"]), Unselectable::NoChange { .. }));
    assert!(matches!(failure(&["../x"]), Unselectable::Outside { .. }));
    let before = tree(&place.path("lower"));
    commit(&place, &["made/in-made"], false).unwrap();
    assert_ne!(tree(&place.path("lower")), before);
    commit(&place, &["moved"], false).unwrap();
    assert!(place.path("lower/moved/other").exists() && !place.path("lower/theirs").exists());
}

#[test]
fn a_directory_does_not_go_while_another_that_was_in_it_is_elsewhere() {
    let place = Place::new();
    place.write("lower/old/inner/file", "kept");
    place.write("lower/new/file", "new");
    let mut guest = Guest::new(crate::FileSpace::open(place.base()).unwrap());
    guest.rename("old/inner", "kept", 0).unwrap();
    // In the place of what is empty by now.
    guest.rename("new", "old", 0).unwrap();
    drop(guest);
    let refused = commit(&place, &["old"], true).unwrap_err();
    let CommitFailure::Selection(Unselectable::MovedOut { path, other }) = refused else {
        panic!("{refused}")
    };
    assert_eq!((path.as_path(), other.as_path()), (Path::new("old"), Path::new("kept")));
    commit(&place, &["old", "kept"], false).unwrap();
    assert_eq!(
        (place.read("lower/kept/file"), place.read("lower/old/file")),
        ("kept".into(), "new".into())
    );
}

#[test]
fn what_the_parent_changed_meanwhile_is_committed_only_when_told_to() {
    let place = Place::new();
    for path in ["changed", "deleted", "gone", "quiet"] {
        place.write(&format!("lower/{path}"), "text");
    }
    place.write("lower/d/file", "");
    let mut guest = place.guest();
    for path in ["changed", "gone", "quiet"] {
        guest.append(path, "+").unwrap();
    }
    guest.unlink("deleted").unwrap();
    guest.write("both", "mine").unwrap();
    guest.rename("d", "e", 0).unwrap();
    drop(guest);
    place.write("lower/changed", "other");
    place.write("lower/deleted", "other");
    place.write("lower/both", "theirs");
    std::fs::remove_file(place.path("lower/gone")).unwrap();
    std::fs::remove_dir_all(place.path("lower/d")).unwrap();
    let view = told(&mut place.guest());
    let before = tree(&place.path("lower"));
    let Err(CommitFailure::Refused(refused)) = commit(&place, &[], false) else { panic!() };
    let conflict = |path: &str, conflict| (PathBuf::from(path), Refusal::Conflict(conflict));
    let told_of = [
        conflict("both", Conflict::Appeared),
        conflict("changed", Conflict::Changed),
        conflict("deleted", Conflict::Changed),
        conflict("e", Conflict::Gone),
        conflict("gone", Conflict::Gone),
    ];
    assert_eq!(refused, told_of);
    assert_eq!(tree(&place.path("lower")), before);
    commit(&place, &["quiet"], false).unwrap();
    assert_eq!(place.read("lower/quiet"), "text+");
    commit(&place, &[], true).unwrap();
    assert_eq!(tree(&place.path("lower")), view);
    assert_eq!(lines(&place), [""; 0]);
}

#[test]
fn what_the_parent_changes_at_this_moment_undoes_the_commit() {
    let place = Place::new();
    place.write("lower/a", "a");
    place.write("lower/b", "b");
    let mut guest = place.guest();
    guest.append("a", "+").unwrap();
    guest.append("b", "+").unwrap();
    drop(guest);
    let mut own = place.base().take().unwrap();
    let compared = own.compare(&mut |_| {}).unwrap();
    let plan = own.plan(&compared, &[], false).unwrap();
    place.write("lower/b", "the parent's");
    let failure = own.commit(plan).unwrap_err();
    assert!(matches!(&failure, CommitFailure::Meanwhile { path } if path == Path::new("b")));
    assert_eq!((place.read("lower/a"), place.read("lower/b")), ("a".into(), "the parent's".into()));
    drop(own);
    assert_eq!(lines(&place), ["a content", "b content Changed"]);
}

#[test]
fn what_is_masked_hidden_or_elsewhere_is_refused_with_a_sentence() {
    let place = Place::new();
    place.write("lower/home/.ssh/key", "secret");
    place.write("lower/home/file", "");
    let mut config = place.base();
    config.lowers.truncate(1);
    config.masks = vec![PathBuf::from("/home/.ssh")];
    let mut guest = Guest::new(crate::FileSpace::open(config.clone()).unwrap());
    guest.mkdir("home/.ssh").unwrap();
    guest.write("home/.ssh/key", "own").unwrap();
    guest.rename("home", "moved", 0).unwrap();
    drop(guest);
    let own = config.take().unwrap();
    let compared = own.compare(&mut |_| {}).unwrap();
    let Err(CommitFailure::Refused(refused)) = own.plan(&compared, &[], true) else { panic!() };
    assert!(refused.iter().any(|(_, why)| matches!(why, Refusal::Holds(_))), "{refused:?}");
    let moved = crate::host::Directory::root(&place.path("upper/moved")).unwrap();
    crate::stored::set_redirect(&moved, b"//home/").unwrap();
    let odd = own.compare(&mut |_| {}).unwrap();
    let refused = own.plan(&odd, &[], true);
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(compared.parent.as_ref().map(|_| ()), None);
    drop(own);
    let mut sealed = config.clone();
    sealed.lowers = Vec::new();
    let own = sealed.take().unwrap();
    assert!(matches!(own.plan(&compared, &[], true), Err(CommitFailure::NotBase)));
    assert!(matches!(config.take(), Err(crate::OpenFailure::InUse { .. })));
}

#[test]
fn owners_and_set_id_bits_are_committed_by_root_alone() {
    let place = Place::new();
    place.write("lower/file", "");
    let mut guest = place.guest();
    guest.set("file", mode(0o4755)).unwrap();
    guest.write("new", "").unwrap();
    guest.set("new", SetAttr { uid: Some(33), gid: Some(33), ..SetAttr::default() }).unwrap();
    drop(guest);
    let root = crate::host::user().0 == 0;
    match commit(&place, &[], false) {
        Ok(_) => {
            assert!(root);
            assert_eq!(std::fs::metadata(place.path("lower/new")).unwrap().uid(), 33);
            let mode = std::fs::metadata(place.path("lower/file")).unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o4755);
        }
        Err(CommitFailure::Refused(refused)) => {
            assert!(!root);
            assert_eq!(refused[0], (PathBuf::from("file"), Refusal::SetId));
            assert!(matches!(refused[1].1, Refusal::Owner { uid: 33, gid: 33 }));
        }
        Err(failure) => panic!("{failure}"),
    }
    assert!(compared(&place).unreadable.is_empty());
}

#[test]
fn a_directory_made_again_goes_with_what_was_moved_out_of_it() {
    let place = Place::new();
    place.write("lower/d/inner/file", "text");
    place.write("lower/e/file", "text");
    let mut guest = Guest::new(crate::FileSpace::open(place.base()).unwrap());
    guest.rename("d/inner", "e/inner", 0).unwrap();
    guest.rmdir("d").unwrap();
    guest.mkdir("d").unwrap();
    guest.set("d", mode(0o700)).unwrap();
    let view = told(&mut guest);
    drop(guest);
    let Err(CommitFailure::Selection(refused)) = commit(&place, &["d"], false) else { panic!() };
    assert_eq!(refused.to_string(), "e/inner was moved out of d; name both");
    commit(&place, &["d", "e"], false).unwrap();
    assert_eq!(tree(&place.path("lower")), view);
}

pub(super) const PATHS: [&str; 12] =
    ["a", "b", "c", "a/a", "a/b", "b/a", "b/b", "c/a", "a/a/a", "a/a/b", "b/a/a", "c/a/b"];

/// One change by three numbers; what is refused is none.
pub(super) fn change(guest: &mut Guest, [what, one, two]: [u8; 3]) {
    let path = |number: u8| PATHS[usize::from(number) % PATHS.len()];
    let (one, two) = (path(one), path(two));
    // Into itself it cannot be.
    let inside = two.starts_with(one);
    let _ = match what % 8 {
        0 => guest.write(one, two),
        1 => guest.append(one, two),
        2 => guest.unlink(one),
        3 => guest.rmdir(one),
        4 => guest.mkdir(one).map(|_| ()),
        5 if !inside => guest.rename(one, two, 0),
        6 if !inside && !one.starts_with(two) => guest.rename(one, two, rename_flags::EXCHANGE),
        7 => guest.symlink(one, two).map(|_| ()),
        _ => guest.set(one, mode(0o700)).map(|_| ()),
    };
}

fn random(numbers: &[[u8; 3]]) -> Place {
    let place = Place::quick();
    for path in ["a/a/a", "a/a/b", "a/b", "b/a/a", "b/b/x", "c/a"] {
        place.write(&format!("lower/{path}"), path);
    }
    std::fs::hard_link(place.path("lower/a/b"), place.path("lower/b/linked")).unwrap();
    let mut guest = Guest::new(crate::FileSpace::open(place.base()).unwrap());
    numbers.iter().for_each(|numbers| change(&mut guest, *numbers));
    place
}

#[test]
fn whatever_the_space_did_the_parent_gets_it() {
    bolero::check!().with_type::<Vec<[u8; 3]>>().with_iterations(600).for_each(|numbers| {
        let place = random(numbers);
        let open = || Guest::new(crate::FileSpace::open(place.base()).unwrap());
        let view = told(&mut open());
        let before = tree(&place.path("lower"));
        let found = place.base().compare(&mut |_| {}).unwrap();
        assert!(found.unreadable.is_empty() && found.changes.iter().all(|c| c.conflict.is_none()));
        // Directories that changed places may have come to hold the same again.
        let is_moved = |change: &Change| matches!(change.what, What::Renamed { .. });
        let is_same = view == before && !found.changes.iter().any(is_moved);
        assert_eq!(found.changes.is_empty(), is_same, "{:#?}", found.changes);
        commit(&place, &[], false).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(tree(&place.path("lower")), view);
        assert_eq!(told(&mut open()), view);
        let left = place.base().compare(&mut |_| {}).unwrap();
        assert!(left.changes.is_empty(), "{:#?}", left.changes);
    });
}

#[test]
fn one_path_after_another_comes_to_the_same() {
    bolero::check!().with_type::<Vec<[u8; 3]>>().with_iterations(200).for_each(|numbers| {
        let place = random(numbers);
        let open = || Guest::new(crate::FileSpace::open(place.base()).unwrap());
        let view = told(&mut open());
        for path in PATHS {
            // What goes with others is left for the end; a renamed file whose old name was
            // committed alone looks as if the parent had removed it.
            let committed = commit(&place, &[path], true);
            assert!(
                matches!(&committed, Ok(_) | Err(CommitFailure::Selection(_))),
                "{path}: {committed:?}"
            );
            assert_eq!(told(&mut open()), view, "{path}: {committed:?}");
        }
        commit(&place, &[], true).unwrap_or_else(|failure| panic!("{failure:?}"));
        assert_eq!(tree(&place.path("lower")), view);
        assert_eq!(told(&mut open()), view);
    });
}
