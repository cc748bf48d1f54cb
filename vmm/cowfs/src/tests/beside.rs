//! Large files are copied up while others are served.

use super::guest::{Guest, Place, name};
use crate::{FileSpace, Server};
use fuse::request::open_flags;
use fuse::{Header, NodeId, Operation, Request, reply};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

const LENGTH: usize = 64 << 20;

/// A request of another thread than the guest's own.
fn ask(space: &FileSpace, unique: u64, node: NodeId, operation: Operation<'_>) -> Vec<u8> {
    let mut reply = Vec::new();
    ask_of(space, unique, node, operation, &mut reply);
    reply
}

/// The same; says whether the server let others go on meanwhile.
fn ask_of(
    space: &FileSpace,
    unique: u64,
    node: NodeId,
    operation: Operation<'_>,
    reply: &mut Vec<u8>,
) -> bool {
    struct Aside(bool);
    impl Server for Aside {
        fn tell(&mut self, _: &[u8]) {}
        fn step_aside(&mut self) {
            self.0 = true;
        }
    }
    let (mut request, mut aside) = (Vec::new(), Aside(false));
    let header = Header { unique, node, uid: 0, gid: 0, pid: 1 };
    Request { header, operation }.encode(&mut request);
    space.handle_for(&request, super::guest::CAPACITY, reply, Some(&mut aside));
    aside.0
}

#[test]
fn who_waits_for_a_disk_steps_aside() {
    let place = Place::new();
    std::fs::write(place.path("lower/large"), vec![7; 1 << 20]).unwrap();
    place.write("lower/small", "x");
    let mut guest = place.guest();
    let [large, small] = ["large", "small"].map(|path| guest.find(path).unwrap());
    let handle = guest.open("small", open_flags::READ_WRITE).unwrap();
    let open = Operation::Open { flags: open_flags::READ_WRITE, kill_set_id: false };
    for (what, node, operation, is_aside) in [
        ("a name", NodeId::ROOT, Operation::Lookup { name: name("small") }, false),
        ("a small file opened", small, open, false),
        ("a large file copied", large, open, true),
        ("read", small, Operation::Read { handle, offset: 0, size: 1 }, true),
        ("synced", small, Operation::FSync { handle, data_only: true }, true),
    ] {
        let mut reply = Vec::new();
        assert_eq!(ask_of(&guest.space, 1, node, operation, &mut reply), is_aside, "{what}");
        assert!(reply::body(&reply, 1).is_ok(), "{what}");
    }
}

fn is_copying(place: &Place) -> bool {
    let entries = std::fs::read_dir(place.path("work")).unwrap().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).any(|data| data.is_file() && data.len() > 0)
}

/// Opens the file `large` to write, does `meanwhile` while it is being copied, and says whether
/// that was so to its end.
fn while_copying(place: &Place, guest: &mut Guest, meanwhile: impl FnOnce(&FileSpace)) -> bool {
    let node = guest.find("large").unwrap();
    let space = &guest.space;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let flags = open_flags::READ_WRITE;
            let open = Operation::Open { flags, kill_set_id: false };
            assert!(reply::opened(&ask(space, 1 << 40, node, open), 1 << 40).is_ok());
            ended.store(true, Ordering::SeqCst);
        });
        while !is_copying(place) && !ended.load(Ordering::SeqCst) {
            std::hint::spin_loop();
        }
        meanwhile(space);
        !ended.load(Ordering::SeqCst)
    })
}

#[test]
fn others_are_served_while_a_large_file_is_copied_up() {
    let place = Place::new();
    std::fs::write(place.path("lower/large"), vec![7; LENGTH]).unwrap();
    place.write("lower/other", "x");
    let mut guest = place.guest();
    let other = |space: &FileSpace| {
        let lookup = Operation::Lookup { name: name("other") };
        assert!(reply::entry(&ask(space, 1, NodeId::ROOT, lookup), 1).is_ok());
    };
    assert!(while_copying(&place, &mut guest, other), "it waited for the copy");
    assert!(std::fs::read(place.path("upper/large")).unwrap() == vec![7; LENGTH]);
    assert_eq!(place.left_in_work(), 0);
}

#[test]
fn what_the_parent_writes_while_a_file_is_copied_up_is_copied_too() {
    let place = Place::new();
    std::fs::write(place.path("lower/large"), vec![7; LENGTH]).unwrap();
    let mut guest = place.guest();
    let path = place.path("lower/large");
    let append = |_: &FileSpace| {
        let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"the end").unwrap();
    };
    assert!(while_copying(&place, &mut guest, append), "it was copied too soon");
    assert!(std::fs::read(place.path("upper/large")).unwrap().ends_with(b"\x07the end"));
    assert_eq!(place.left_in_work(), 0);
}

#[test]
fn a_file_removed_while_it_is_copied_up_leaves_nothing() {
    let place = Place::new();
    std::fs::write(place.path("lower/large"), vec![7; LENGTH]).unwrap();
    let mut guest = place.guest();
    let unlink = |space: &FileSpace| {
        let unlink = Operation::Unlink { name: name("large") };
        assert!(reply::done(&ask(space, 1, NodeId::ROOT, unlink), 1).is_ok());
    };
    let node = guest.find("large").unwrap();
    let space = &guest.space;
    std::thread::scope(|scope| {
        let flags = open_flags::READ_WRITE;
        let open = Operation::Open { flags, kill_set_id: false };
        let opening = scope.spawn(move || ask(space, 1 << 40, node, open));
        while !is_copying(&place) && !opening.is_finished() {
            std::hint::spin_loop();
        }
        unlink(space);
        let _ = opening.join().unwrap();
    });
    assert!(guest.find("large").is_err());
    let guest = guest.restart(&place);
    drop(guest);
    assert_eq!(place.left_in_work(), 0);
    assert_eq!(std::fs::metadata(place.path("lower/large")).unwrap().len(), LENGTH as u64);
}
