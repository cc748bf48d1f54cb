//! The server killed, or the disk failing, at every step of every change.

use super::guest::{Guest, Place};
use crate::host::{Fault, with_fault};
use fuse::Errno;
use fuse::request::{SetAttr, open_flags, rename_flags};

/// A change, and the only two states there may be after it: `before` and `after`, each told by
/// what a guest sees.
struct Change {
    name: &'static str,
    prepare: fn(&mut Guest),
    change: fn(&mut Guest) -> Result<(), Errno>,
}

fn nothing(_: &mut Guest) {}

const CHANGES: [Change; 17] = [
    Change { name: "copy-up", prepare: nothing, change: |guest| guest.append("d/file", "") },
    Change {
        name: "copy-up of a link of several",
        prepare: nothing,
        change: |guest| {
            let set = SetAttr { mode: Some(0o640), ..SetAttr::default() };
            guest.set("linked", set).map(|_| ())
        },
    },
    Change { name: "create", prepare: nothing, change: |guest| guest.create("new", 0).map(|_| ()) },
    Change {
        name: "create over a whiteout",
        prepare: |guest| guest.unlink("plain").unwrap(),
        change: |guest| guest.create("plain", open_flags::EXCLUSIVE).map(|_| ()),
    },
    Change { name: "mkdir", prepare: nothing, change: |guest| guest.mkdir("new").map(|_| ()) },
    Change {
        name: "mkdir over a whiteout",
        prepare: |guest| guest.unlink("plain").unwrap(),
        change: |guest| guest.mkdir("plain").map(|_| ()),
    },
    Change {
        name: "symlink",
        prepare: nothing,
        change: |guest| guest.symlink("new", "d/file").map(|_| ()),
    },
    Change {
        name: "link",
        prepare: nothing,
        change: |guest| guest.link("d/file", "new").map(|_| ()),
    },
    Change { name: "unlink", prepare: nothing, change: |guest| guest.unlink("d/file") },
    Change {
        name: "unlink of a copy",
        prepare: |guest| guest.append("d/file", "+").unwrap(),
        change: |guest| guest.unlink("d/file"),
    },
    Change {
        name: "rmdir",
        prepare: |guest| guest.unlink("d/file").unwrap(),
        change: |guest| guest.rmdir("d"),
    },
    Change { name: "rename", prepare: nothing, change: |guest| guest.rename("d/file", "new", 0) },
    Change {
        name: "rename over another",
        prepare: nothing,
        change: |guest| guest.rename("d/file", "plain", 0),
    },
    Change {
        name: "rename of a directory",
        prepare: nothing,
        change: |guest| guest.rename("d", "new", 0),
    },
    Change {
        name: "rename of a directory over a whiteout",
        prepare: |guest| guest.unlink("plain").unwrap(),
        change: |guest| guest.rename("d", "plain", 0),
    },
    Change {
        name: "exchange",
        prepare: nothing,
        change: |guest| guest.rename("d", "plain", rename_flags::EXCHANGE),
    },
    Change {
        name: "chmod",
        prepare: nothing,
        change: |guest| {
            let set = SetAttr { mode: Some(0o4711), ..SetAttr::default() };
            guest.set("plain", set).map(|_| ())
        },
    },
];

fn place() -> Place {
    let place = Place::new();
    place.write("lower/d/file", "in d");
    place.write("lower/plain", "plain");
    place.write("lower/linked", "linked");
    std::fs::hard_link(place.path("lower/linked"), place.path("lower/other")).unwrap();
    place
}

/// Everything a guest sees: path, mode, content.
pub(super) fn seen(guest: &mut Guest) -> Vec<String> {
    let (mut lines, mut directories) = (Vec::new(), vec![String::new()]);
    while let Some(directory) = directories.pop() {
        for (name, attr) in guest.list_plus(&directory).unwrap() {
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let attr = attr.unwrap();
            let content = match attr.file_type() {
                fuse::record::TYPE_DIRECTORY => {
                    directories.push(path.clone());
                    String::new()
                }
                fuse::record::TYPE_SYMLINK => guest.readlink(&path).unwrap(),
                _ => guest.read(&path).unwrap(),
            };
            lines.push(format!("{path} {:o} {content}", attr.mode));
        }
    }
    lines.sort();
    lines
}

/// The states before and after a change that nothing disturbs.
fn undisturbed(change: &Change) -> [Vec<String>; 2] {
    let place = place();
    let mut guest = place.guest();
    (change.prepare)(&mut guest);
    let before = seen(&mut guest);
    (change.change)(&mut guest).unwrap_or_else(|errno| panic!("{}: {errno:?}", change.name));
    let after = seen(&mut guest);
    assert_eq!(seen(&mut guest.restart(&place)), after, "{} outlives the server", change.name);
    [before, after]
}

#[test]
fn a_server_killed_at_any_step_leaves_the_old_or_the_new() {
    for change in &CHANGES {
        let states = undisturbed(change);
        for step in 1.. {
            let place = place();
            let mut guest = place.guest();
            (change.prepare)(&mut guest);
            // What a killed server would have done on its way out is not done either.
            let (reached, guest) = {
                let (_, reached) = with_fault(step, Fault::Killed, || (change.change)(&mut guest));
                (reached, guest)
            };
            let mut guest = guest.restart(&place);
            let now = seen(&mut guest);
            assert!(states.contains(&now), "{}, killed at step {step}: {now:#?}", change.name);
            assert_eq!(place.left_in_work(), 0, "{}, killed at step {step}", change.name);
            if !reached {
                assert_eq!(now, states[1]);
                break;
            }
        }
    }
}

#[test]
fn a_step_that_fails_leaves_the_old_and_the_change_can_be_made_later() {
    for change in &CHANGES {
        let states = undisturbed(change);
        for (step, errno) in (1..).flat_map(|step| [(step, Errno::ENOSPC), (step, Errno::EIO)]) {
            let place = place();
            let mut guest = place.guest();
            (change.prepare)(&mut guest);
            let fault = Fault::Once(errno);
            let (result, reached) = with_fault(step, fault, || (change.change)(&mut guest));
            let now = seen(&mut guest);
            let told =
                || format!("{}, {errno:?} at step {step}: {result:?}, {now:#?}", change.name);
            match result {
                Ok(()) => assert_eq!(now, states[1], "{}", told()),
                Err(_) => assert!(states.contains(&now), "{}", told()),
            }
            if now == states[0] && states[0] != states[1] {
                assert!((change.change)(&mut guest).is_ok(), "{}", told());
                assert_eq!(seen(&mut guest), states[1], "{}", told());
            }
            if !reached {
                break;
            }
        }
    }
}
