//! A space sealed while it is served.

use super::guest::{Guest, Place};
use crate::{Backing, FileSpace, HoldFailure};
use fuse::request::{SetAttr, open_flags};
use fuse::{Errno, Handle, Header, NodeId, Operation, Request, reply};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A child over what was sealed so far.
fn child(place: &Place) -> Guest {
    let mut config = place.config();
    for name in ["child", "child-work"] {
        let _ = std::fs::create_dir(place.path(name));
    }
    (config.upper, config.work) = (place.path("child"), place.path("child-work"));
    Guest::new(FileSpace::open(config).unwrap())
}

/// A write beside the guest.
fn write(space: &FileSpace, handle: Handle, offset: u64, data: &[u8]) {
    let header = Header { unique: 1, node: NodeId::ROOT, uid: 0, gid: 0, pid: 1 };
    let operation = Operation::Write { handle, offset, data, kill_set_id: false };
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    Request { header, operation }.encode(&mut request);
    space.handle(&request, super::guest::CAPACITY, &mut answer);
    assert!(matches!(reply::written(&answer, 1), Ok(count) if count as usize == data.len()));
}

#[test]
fn what_is_open_for_writing_goes_on_in_the_new_upper() {
    let place = Place::new();
    place.write("lower/d/below", "below");
    place.write("lower/linked", "1");
    std::fs::hard_link(place.path("lower/linked"), place.path("lower/other")).unwrap();
    let mut guest = place.guest();
    guest.write("file", "before").unwrap();
    guest.append("linked", "2").unwrap();
    guest.rename("d", "moved", 0).unwrap();
    let handles = ["file", "linked", "moved/below"]
        .map(|path| (path, guest.open(path, open_flags::READ_WRITE).unwrap()));
    let reader = guest.open("file", open_flags::READ_ONLY).unwrap();
    guest.write("gone", "unlinked").unwrap();
    let gone = guest.open("gone", open_flags::READ_WRITE).unwrap();
    guest.unlink("gone").unwrap();
    let inodes = handles.map(|(path, _)| guest.attr(path).unwrap().inode);
    place.seal_under(&guest);
    assert!(std::fs::read_dir(place.path("upper")).unwrap().next().is_none());
    assert_eq!(guest.read_at(reader, 0).unwrap(), b"before");
    for (path, handle) in handles {
        guest.write_at(handle, 0, b"AFTER").unwrap();
        assert_eq!(&guest.read(path).unwrap()[..5], "AFTER");
    }
    assert_eq!(handles.map(|(path, _)| guest.attr(path).unwrap().inode), inodes);
    assert_eq!(guest.read_at(reader, 0).unwrap(), b"AFTERe", "who reads sees it as well");
    assert_eq!(guest.read("other").unwrap(), "AFTER", "links are links");
    assert_eq!(guest.write_at(gone, 0, b"UN"), Ok(2));
    assert_eq!(guest.read_at(gone, 0).unwrap(), b"UNlinked");
    guest.write("later", "").unwrap();
    let mut child = child(&place);
    assert_eq!(child.read("file").unwrap(), "before");
    assert_eq!(
        (child.read("linked").unwrap(), child.read("other").unwrap()),
        ("12".into(), "12".into())
    );
    assert_eq!(child.read("moved/below").unwrap(), "below");
    assert_eq!(child.find("later"), Err(Errno::ENOENT));
    child.write("file", "child's").unwrap();
    assert_eq!(guest.read("file").unwrap(), "AFTERe");
    let set = SetAttr { size: Some(1), handle: Some(handles[0].1), ..SetAttr::default() };
    guest.set("file", set).unwrap();
    let mut guest = guest.restart(&place);
    assert_eq!(guest.read("file").unwrap(), "A");
    assert_eq!(guest.read("other").unwrap(), "AFTER");
    assert_eq!(guest.list("", 4096).unwrap(), ["file", "later", "linked", "moved", "other"]);
}

#[test]
fn a_truncation_through_a_handle_copies_up_first() {
    let place = Place::new();
    let mut guest = place.guest();
    guest.write("file", "before").unwrap();
    let handle = guest.open("file", open_flags::WRITE_ONLY).unwrap();
    place.seal_under(&guest);
    let set = SetAttr { size: Some(3), handle: Some(handle), ..SetAttr::default() };
    guest.set("file", set).unwrap();
    assert_eq!(guest.read("file").unwrap(), "bef");
    assert_eq!(child(&place).read("file").unwrap(), "before");
}

#[test]
fn a_child_sees_one_point_of_what_is_written_at_once() {
    let place = Place::new();
    let mut guest = place.guest();
    // Two files in step: the second never is ahead of the first, nor more than one behind.
    let [first, second] = ["first", "second"].map(|path| guest.create(path, 0).unwrap().1.handle);
    let ended = AtomicBool::new(false);
    let count = std::thread::scope(|scope| {
        let space = &guest.space;
        let (ended, place) = (&ended, &place);
        let sealing = scope.spawn(move || {
            for number in 0..8 {
                let layer = place.path(&format!("layer{number}"));
                std::fs::create_dir(place.path("next")).unwrap();
                let held = space.hold(&place.path("next")).unwrap();
                std::fs::rename(place.path("work/index"), layer.with_extension("index")).unwrap();
                std::fs::rename(place.path("upper"), &layer).unwrap();
                std::fs::rename(place.path("next"), place.path("upper")).unwrap();
                held.renew().unwrap();
                std::thread::yield_now();
            }
            ended.store(true, Ordering::Relaxed);
        });
        let mut count = 0_u64;
        while !ended.load(Ordering::Relaxed) {
            for handle in [first, second] {
                write(space, handle, 8 * count, &count.to_le_bytes());
            }
            count += 1;
        }
        sealing.join().unwrap();
        count
    });
    assert!(count > 0);
    let mut seen = child(&place);
    let lengths = ["first", "second"].map(|path| seen.attr(path).unwrap().size);
    assert!(lengths[0] == lengths[1] || lengths[0] == lengths[1] + 8, "{lengths:?}");
}

#[test]
fn what_the_kernel_writes_by_itself_is_in_the_way() {
    let place = Place::new();
    let mut config = place.config();
    config.backing = Some(Arc::new(Backing::new(|_| Ok(7), |_| {})));
    let mut guest = Guest::new(FileSpace::open(config).unwrap());
    let (_, opened) = guest.create("file", 0).unwrap();
    std::fs::create_dir(place.path("next")).unwrap();
    let refused = guest.space.hold(&place.path("next")).unwrap_err();
    assert!(matches!(&refused, HoldFailure::Passed(name) if name == "file"), "{refused}");
    guest.release(opened.handle);
    drop(guest.space.hold(&place.path("next")).unwrap());
    guest.append("file", "still served").unwrap();
}

#[test]
fn a_space_that_was_held_in_vain_goes_on() {
    let place = Place::new();
    let mut guest = place.guest();
    guest.write("file", "one").unwrap();
    assert!(matches!(guest.space.hold(&place.path("nothing")), Err(HoldFailure::Next(_))));
    std::fs::create_dir(place.path("next")).unwrap();
    drop(guest.space.hold(&place.path("next")).unwrap());
    guest.append("file", "+").unwrap();
    let (first, _) = guest.create("a", 0).unwrap();
    guest.link("a", "b").unwrap();
    guest.forget(first.node, 1);
    let mut guest = guest.restart(&place);
    let open = guest.open("a", open_flags::READ_WRITE).unwrap();
    guest.unlink("a").unwrap();
    let refused = guest.space.hold(&place.path("next")).unwrap_err();
    assert!(matches!(refused, HoldFailure::Shared), "{refused}");
    guest.release(open);
    assert_eq!(guest.read("file").unwrap(), "one+");
}
