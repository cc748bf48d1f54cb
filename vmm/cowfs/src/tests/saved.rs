//! A server that takes over from another, with what the guest knows and has open.

use super::guest::{Guest, Place, name};
use crate::{Backing, Binding, FileSpace, ResumeFailure, SaveFailure, Saved};
use fuse::request::{ReadDir, open_flags};
use fuse::{Errno, NodeId, Operation, dirent, reply};
use serde_json::json;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

fn attr_of(guest: &mut Guest, node: NodeId) -> Result<u64, Errno> {
    let get = Operation::GetAttr { handle: None };
    guest.ask(node, get, reply::attr).map(|reply| reply.attr.inode)
}

#[test]
fn what_is_known_and_open_goes_on() {
    let place = Place::new();
    for path in ["d/below", "linked", "read", "removed"] {
        place.write(&format!("lower/{path}"), path);
    }
    std::fs::hard_link(place.path("lower/linked"), place.path("lower/other")).unwrap();
    let mut guest = place.guest();
    guest.append("linked", "+").unwrap();
    guest.rename("d", "moved", 0).unwrap();
    guest.write("own", "own").unwrap();
    let known = ["moved", "moved/below", "linked", "other", "own", "read"]
        .map(|path| (path, guest.find(path).unwrap()));
    let inodes = known.map(|(_, node)| attr_of(&mut guest, node).unwrap());
    let [own, removed, read] = [("own", 2), ("removed", 0), ("read", 0)]
        .map(|(path, flags)| guest.open(path, flags).unwrap());
    guest.write("gone", "unlinked").unwrap();
    let gone = guest.open("gone", open_flags::READ_WRITE).unwrap();
    let unnamed = ["gone", "removed"].map(|path| guest.find(path).unwrap());
    guest.unlink("gone").unwrap();
    guest.unlink("removed").unwrap();
    let mut guest = guest.resumed(&place);
    assert_eq!(known.map(|(_, node)| attr_of(&mut guest, node).unwrap()), inodes);
    assert_eq!(known.map(|(path, _)| guest.find(path).unwrap()), known.map(|(_, node)| node));
    assert_eq!(guest.read_at(read, 0).unwrap(), b"read");
    assert_eq!(guest.read_at(removed, 0).unwrap(), b"removed");
    assert_eq!(guest.read_at(gone, 0).unwrap(), b"unlinked");
    assert_eq!(guest.write_at(read, 0, b"x"), Err(Errno::EBADF), "it was opened to be read");
    for handle in [own, gone] {
        guest.write_at(handle, 0, b"NEW").unwrap();
    }
    assert_eq!(guest.read("own").unwrap(), "NEW");
    assert_eq!(guest.read_at(gone, 0).unwrap(), b"NEWinked");
    guest.append("read", " and written").unwrap();
    assert_eq!(guest.read_at(read, 0).unwrap(), b"read and written", "copied up under a reader");
    let new = guest.open("own", open_flags::READ_ONLY).unwrap();
    assert!([own, removed, read, gone].iter().all(|old| *old != new), "no handle is given twice");
    for handle in [own, removed, read, gone, new] {
        guest.release(handle);
    }
    assert_eq!(place.left_in_work(), 2);
    unnamed.iter().for_each(|node| guest.forget(*node, 1 << 20));
    assert_eq!(place.left_in_work(), 0, "what has no name goes with who knows it");
    assert_eq!(place.read("lower/read"), "read");
}

#[test]
fn a_removed_file_of_the_parent_that_was_open_is_known_still() {
    let place = Place::new();
    place.write("lower/file", "text");
    let mut guest = place.guest();
    let node = guest.find("file").unwrap();
    let handle = guest.open("file", open_flags::READ_ONLY).unwrap();
    guest.unlink("file").unwrap();
    guest.release(handle);
    let inode = attr_of(&mut guest, node);
    let mut guest = guest.resumed(&place);
    assert!(inode.is_ok());
    assert_eq!(attr_of(&mut guest, node), inode);
    assert_eq!(guest.find("file"), Err(Errno::ENOENT));
}

#[test]
fn nothing_is_held_that_the_guest_forgets() {
    let place = Place::new();
    place.write("lower/a/b/file", "");
    let mut guest = place.guest();
    let nodes = ["a", "a/b", "a/b/file"].map(|path| guest.find(path).unwrap());
    let handle = guest.open("a/b/file", open_flags::READ_ONLY).unwrap();
    let mut guest = guest.resumed(&place);
    for node in nodes {
        guest.forget(node, 1 << 20);
    }
    assert!(guest.space.lock().nodes.len() > 1, "it is open");
    guest.release(handle);
    assert_eq!(guest.space.lock().nodes.len(), 1);
}

#[test]
fn a_listing_neither_repeats_nor_skips_a_name() {
    let place = Place::new();
    let names: Vec<_> = (0..300).map(|number| format!("file{number}")).collect();
    names.iter().for_each(|name| place.write(&format!("lower/{name}"), ""));
    let mut guest = place.guest();
    let open = Operation::OpenDir { flags: 0 };
    let handle = guest.ask(NodeId::ROOT, open, reply::opened).unwrap().handle;
    let (mut listed, mut offset) = (Vec::new(), 0);
    loop {
        let read = Operation::ReadDir(ReadDir { handle, offset, size: 1024 });
        let piece = guest.ask(NodeId::ROOT, read, |bytes, unique| {
            let names = dirent::listing(reply::body(bytes, unique)?);
            Ok(names.map(|d| (d.name.to_vec(), d.next_offset)).collect::<Vec<_>>())
        });
        let piece = piece.unwrap();
        let Some((_, next)) = piece.last() else { break };
        offset = *next;
        listed.extend(piece.into_iter().map(|(name, _)| name));
        // Its order is another one now, for the host has removed and made names.
        for name in &names[..20] {
            std::fs::remove_file(place.path(&format!("lower/{name}"))).unwrap();
            place.write(&format!("lower/{name}"), "");
        }
        guest = guest.resumed(&place);
    }
    assert_eq!(listed.len(), names.len() + 2);
    let listed: HashSet<_> = listed.into_iter().collect();
    assert!(names.iter().all(|name| listed.contains(name.as_bytes())));
}

#[test]
fn the_client_is_told_to_believe_nothing_it_may_have_missed() {
    let place = Place::new();
    place.write("lower/d/file", "old");
    let mut config = place.config();
    config.notify = true;
    let mut guest = Guest::new(FileSpace::open(config.clone()).unwrap());
    assert_eq!(guest.read("d/file").unwrap(), "old");
    let mut told = 0;
    guest.space.parent_changed(&mut |_| told += 1);
    assert_eq!(told, 0);
    let mut guest = guest.resumed_as(&config);
    guest.space.parent_changed(&mut |_| told += 1);
    assert!(told > 2, "the names and the bytes of what it knows");
    told = 0;
    guest.space.parent_changed(&mut |_| told += 1);
    assert_eq!(told, 0);
    std::fs::write(place.path("lower/d/file"), "newer").unwrap();
    guest.space.parent_changed(&mut |_| told += 1);
    assert!(told > 0, "it is watched again");
    assert_eq!(guest.read("d/file").unwrap(), "newer");
}

#[test]
fn what_is_bound_is_bound_again() {
    let place = Place::new();
    place.write("outside/file", "the host's");
    let mut config = place.config();
    let from = place.path("outside");
    config.bindings = vec![Binding { at: "deep/bound".into(), from: from.clone(), write: true }];
    let mut guest = Guest::new(FileSpace::open(config.clone()).unwrap());
    let handle = guest.open("deep/bound/file", open_flags::READ_WRITE).unwrap();
    let node = guest.find("deep/bound").unwrap();
    let mut guest = guest.resumed_as(&config);
    assert_eq!(guest.find("deep/bound"), Ok(node));
    guest.write_at(handle, 0, b"THE").unwrap();
    assert_eq!(place.read("outside/file"), "THE host's");
    assert_eq!(guest.rename("deep", "else", 0), Err(Errno::EBUSY), "it is a mount point still");
    // Removed while it is open, it is no more the space's to keep.
    guest.unlink("deep/bound/file").unwrap();
    assert!(matches!(guest.space.save(), Err(SaveFailure::Nowhere)));
    guest.release(handle);
    let saved = guest.space.save().unwrap();
    drop(guest);
    config.bindings[0].at = "elsewhere".into();
    let refused = FileSpace::resume(&config, saved).unwrap_err();
    assert!(matches!(refused, ResumeFailure::OtherBindings(_)), "{refused}");
}

#[test]
fn the_kernels_numbers_are_given_back_once() {
    let place = Place::new();
    let closed = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&closed);
    let mut config = place.config();
    let close = move |number| told.lock().unwrap().push(number);
    config.backing = Some(Arc::new(Backing::new(|_| Ok(7), close)));
    let mut guest = Guest::new(FileSpace::open(config.clone()).unwrap());
    let (_, opened) = guest.create("file", 0).unwrap();
    let mut guest = guest.resumed_as(&config);
    let again = guest.open("file", open_flags::READ_WRITE).unwrap();
    guest.release(opened.handle);
    assert!(closed.lock().unwrap().is_empty());
    guest.release(again);
    assert_eq!(*closed.lock().unwrap(), [7]);
}

#[test]
fn what_the_parent_removed_meanwhile_has_no_handle() {
    let place = Place::new();
    place.write("lower/file", "");
    let mut guest = place.guest();
    let handle = guest.open("file", open_flags::READ_ONLY).unwrap();
    let saved = guest.space.save().unwrap();
    drop(guest);
    std::fs::remove_file(place.path("lower/file")).unwrap();
    let mut guest = Guest::new_on(FileSpace::resume(&place.config(), saved).unwrap());
    assert_eq!(guest.read_at(handle, 0), Err(Errno::EBADF));
    assert_eq!(guest.find("file"), Err(Errno::ENOENT));
}

#[test]
fn what_is_saved_is_good_for_its_own_layers_alone() {
    let place = Place::new();
    let guest = place.guest();
    let saved = guest.space.save().unwrap();
    let again = FileSpace::resume(&place.config(), saved).unwrap_err();
    assert!(matches!(again, ResumeFailure::Open(_)), "it is served still: {again}");
    let saved = guest.space.save().unwrap();
    drop(guest);
    place.seal();
    let refused = FileSpace::resume(&place.config(), saved).unwrap_err();
    assert!(matches!(refused, ResumeFailure::OtherLayers), "{refused}");
    place.guest().write("served", "").unwrap();
}

#[test]
fn what_is_damaged_is_refused() {
    let place = Place::new();
    place.write("lower/a/b/c", "");
    let mut guest = place.guest();
    let [a, b] = ["a", "a/b"].map(|path| guest.find(path).unwrap().0);
    guest.find("a/b/c").unwrap();
    let saved = serde_json::to_value(guest.space.save().unwrap()).unwrap();
    drop(guest);
    let node = |id: u64| {
        let nodes = saved["nodes"].as_array().unwrap();
        format!("/nodes/{}", nodes.iter().position(|node| node[0] == id).unwrap())
    };
    let first_name = format!("{}/1/names/0", node(a));
    for (what, place_of, value) in [
        ("no root", format!("{}/0", node(1)), json!(999)),
        ("a directory in itself", format!("{first_name}/0"), json!(b)),
        ("a name in nothing", format!("{first_name}/0"), json!(999)),
        ("a name that is none", format!("{first_name}/1"), json!([47])),
        ("a number that comes again", "/next_node".into(), json!(a)),
    ] {
        let mut damaged = saved.clone();
        *damaged.pointer_mut(&place_of).unwrap() = value;
        let damaged: Saved = serde_json::from_value(damaged).unwrap();
        let refused = FileSpace::resume(&place.config(), damaged).unwrap_err();
        assert!(matches!(refused, ResumeFailure::Damaged), "{what}: {refused}");
    }
    let saved: Saved = serde_json::from_value(saved).unwrap();
    let mut guest = Guest::new_on(FileSpace::resume(&place.config(), saved).unwrap());
    let lookup = Operation::Lookup { name: name("c") };
    assert!(guest.entry(NodeId(b), lookup).is_ok());
}
