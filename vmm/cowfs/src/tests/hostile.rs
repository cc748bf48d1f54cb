//! What a hostile guest sends, and what a hostile tree holds.

use super::guest::{CAPACITY, Place, name};
use crate::Limits;
use fuse::request::{Header, open_flags};
use fuse::{Errno, Handle, NodeId, Operation, Request, reply};
use std::os::unix::fs::symlink;

#[test]
fn no_link_leads_out_of_the_root() {
    let place = Place::new();
    place.write("outside/secret", "secret");
    symlink(place.path("outside"), place.path("lower/way")).unwrap();
    symlink(place.path("outside/secret"), place.path("lower/file")).unwrap();
    let mut guest = place.guest();
    guest.symlink("made", place.path("outside").to_str().unwrap()).unwrap();
    for path in ["way/secret", "made/secret"] {
        assert_eq!(guest.find(path), Err(Errno::ENOTDIR));
        assert_eq!(guest.create(path, 0).map(|_| ()), Err(Errno::ENOTDIR));
    }
    assert_eq!(guest.open("file", open_flags::READ_ONLY), Err(Errno::ELOOP));
    assert_eq!(guest.write("file", "x"), Err(Errno::ELOOP));
    assert_eq!(place.read("outside/secret"), "secret");
}

#[test]
fn a_directory_swapped_for_a_link_after_lookup_is_not_followed() {
    let place = Place::new();
    place.write("outside/secret", "secret");
    place.write("lower/d/secret", "harmless");
    place.write("lower/f", "harmless");
    let mut guest = place.guest();
    let (directory, file) = (guest.find("d").unwrap(), guest.find("f").unwrap());
    std::fs::rename(place.path("lower/d"), place.path("lower/moved")).unwrap();
    symlink(place.path("outside"), place.path("lower/d")).unwrap();
    std::fs::remove_file(place.path("lower/f")).unwrap();
    symlink(place.path("outside/secret"), place.path("lower/f")).unwrap();
    let lookup = Operation::Lookup { name: name("secret") };
    assert!(guest.entry(directory, lookup).is_err());
    for flags in [open_flags::READ_ONLY, open_flags::READ_WRITE] {
        let open = Operation::Open { flags, kill_set_id: false };
        assert!(guest.ask(file, open, reply::opened).is_err());
    }
    assert_eq!(place.read("outside/secret"), "secret");
    assert!(!place.path("upper/f").exists());
}

#[test]
fn nothing_outside_the_spaces_directories_is_ever_opened() {
    let place = Place::new();
    place.write("outside/secret", "secret");
    place.write("lower/d/e/file", "text");
    place.write("lower/f", "text");
    symlink("../outside", place.path("lower/d/up")).unwrap();
    symlink(place.path("outside"), place.path("lower/out")).unwrap();
    let mut guest = place.guest();
    let ((), opened) = crate::host::opened::watch(|| {
        let mut swapped = false;
        bolero::check!().with_iterations(3_000).for_each(|bytes: &[u8]| {
            let mut answer = Vec::new();
            guest.space.handle(&request_of(bytes), 4096, &mut answer);
            // The parent swaps a directory for a link and back while the guest is at it.
            if bytes.len() % 16 == 1 {
                let (from, to) = if swapped { ("x", "d") } else { ("d", "x") };
                if swapped {
                    std::fs::remove_file(place.path("lower/d")).unwrap();
                }
                let path = |name| place.path(&format!("lower/{name}"));
                std::fs::rename(path(from), path(to)).unwrap();
                if !swapped {
                    symlink(place.path("outside"), place.path("lower/d")).unwrap();
                }
                swapped = !swapped;
            }
        });
        // Random messages end sessions as well.
        guest.space.reset();
        guest.init();
        for path in ["d/e/file", "d/up/secret", "out/secret", "x/e/file", "f"] {
            let _ = guest.read(path);
            let _ = guest.append(path, "+");
        }
    });
    assert!(opened.len() > 10, "something was opened: {opened:?}");
    let roots = ["lower", "below", "upper", "work"].map(|name| place.path(name));
    for path in opened {
        assert!(roots.iter().any(|root| path.starts_with(root)), "{path:?} was opened");
    }
    assert_eq!(place.read("outside/secret"), "secret");
}

#[test]
fn names_that_are_paths_are_refused() {
    let place = Place::new();
    let guest = place.guest();
    for bytes in [&b"../outside"[..], b"..", b".", b"/", b"a/b", b""] {
        for opcode in [1u32, 10, 11] {
            let mut request = Vec::new();
            let header = Header { unique: 9, node: NodeId::ROOT, uid: 0, gid: 0, pid: 0 };
            Request { header, operation: Operation::Other { opcode } }.encode(&mut request);
            request.extend_from_slice(bytes);
            request.push(0);
            let length = request.len() as u32;
            request[..4].copy_from_slice(&length.to_le_bytes());
            let mut answer = Vec::new();
            guest.space.handle(&request, CAPACITY, &mut answer);
            let refused = reply::Refused::Errno(Errno::EINVAL);
            assert_eq!(reply::done(&answer, 9), Err(refused));
        }
    }
}

#[test]
fn what_the_guest_forgets_is_forgotten_and_more_is_its_own_loss() {
    let place = Place::new();
    place.write("lower/a/b/c", "");
    let mut guest = place.guest();
    let ids = ["a", "a/b", "a/b/c"].map(|path| guest.find(path).unwrap());
    assert_eq!(guest.space.lock().nodes.len(), 4);
    // Directories first: they stay as long as something below them does.
    guest.forget(ids[0], u64::MAX);
    guest.forget(ids[1], 2);
    guest.forget(NodeId(77), 1);
    guest.forget(NodeId::ROOT, u64::MAX);
    assert_eq!(guest.space.lock().nodes.len(), 4);
    guest.forget(ids[2], 1);
    assert_eq!(guest.space.lock().nodes.len(), 1);
    let gone = guest.ask(ids[1], Operation::GetAttr { handle: None }, reply::attr);
    assert_eq!(gone.map(|_| ()), Err(Errno::ESTALE));
    assert_eq!(guest.read("a/b/c").unwrap(), "");
}

#[test]
fn open_files_and_known_files_are_bounded() {
    let place = Place::new();
    for number in 0..20 {
        place.write(&format!("lower/{number}"), "");
    }
    let limits = Limits { handles: 3, nodes: 10, directories: 2, ..Limits::default() };
    let space = crate::FileSpace::open(crate::Config { limits, ..place.config() }).unwrap();
    let mut guest = super::guest::Guest::new(space);
    let handles: Vec<_> = (0..3).map(|_| guest.open("1", open_flags::READ_ONLY).unwrap()).collect();
    assert_eq!(guest.open("1", open_flags::READ_ONLY), Err(Errno::ENFILE));
    assert_eq!(guest.create("new", 0).map(|_| ()), Err(Errno::ENFILE));
    assert!(!place.path("upper/new").exists());
    guest.release(handles[0]);
    guest.open("1", open_flags::READ_ONLY).unwrap();
    let found = (0..20).filter(|number| guest.find(&number.to_string()).is_ok()).count();
    assert_eq!(found, 9);
    assert_eq!(guest.find("19"), Err(Errno::ENFILE));
}

#[test]
fn directories_closed_for_want_of_room_are_found_again() {
    let place = Place::new();
    let limits = Limits { directories: 2, ..Limits::default() };
    let space = crate::FileSpace::open(crate::Config { limits, ..place.config() }).unwrap();
    let mut guest = super::guest::Guest::new(space);
    let mut path = String::new();
    for depth in 0..20 {
        path = format!("{path}/{depth}");
        place.write(&format!("lower{path}/file"), "deep");
        guest.write(&format!("{path}/own"), "own").unwrap();
    }
    assert_eq!(guest.read(&format!("{path}/file")).unwrap(), "deep");
    assert_eq!(guest.read("0/1/2/own").unwrap(), "own");
}

#[test]
fn handles_that_are_none_are_refused() {
    let place = Place::new();
    place.write("lower/file", "");
    let mut guest = place.guest();
    let reader = guest.open("file", open_flags::READ_ONLY).unwrap();
    assert_eq!(guest.write_at(reader, 0, b"x"), Err(Errno::EBADF));
    assert_eq!(guest.read_at(Handle(99), 0), Err(Errno::EBADF));
    let release = Operation::Release { handle: Handle(99) };
    assert_eq!(guest.done(NodeId::ROOT, release), Err(Errno::EBADF));
    assert_eq!(guest.read_at(reader, u64::MAX), Err(Errno::EINVAL));
    assert_eq!(guest.done(NodeId::ROOT, Operation::Other { opcode: 40 }), Err(Errno::ENOSYS));
}

#[test]
fn an_answer_fits_its_room_or_is_not_given() {
    let place = Place::new();
    place.write("lower/file", "0123456789");
    let mut guest = place.guest();
    let handle = guest.open("file", open_flags::READ_ONLY).unwrap();
    let header = Header { unique: 5, node: NodeId::ROOT, uid: 0, gid: 0, pid: 0 };
    let read = Operation::Read { handle, offset: 0, size: u32::MAX };
    let lookup = Operation::Lookup { name: name("file") };
    for capacity in 0..200 {
        for operation in [read, lookup, Operation::OpenDir { flags: 0 }] {
            let (mut request, mut answer) = (Vec::new(), Vec::new());
            Request { header, operation }.encode(&mut request);
            guest.space.handle(&request, capacity, &mut answer);
            assert!(answer.len() <= capacity);
            assert_eq!(answer.is_empty(), capacity < 16);
        }
    }
}

/// A request made of `bytes`: mostly valid headers, so that bodies are reached.
fn request_of(bytes: &[u8]) -> Vec<u8> {
    let [opcode, node, body @ ..] = bytes else { return bytes.to_vec() };
    if *opcode > 60 {
        return bytes.to_vec();
    }
    let header = Header { unique: 1, node: NodeId(u64::from(node % 8)), uid: 0, gid: 0, pid: 0 };
    let mut request = Vec::new();
    let operation = Operation::Other { opcode: u32::from(*opcode) };
    Request { header, operation }.encode(&mut request);
    request.extend_from_slice(body);
    let length = request.len() as u32;
    request[..4].copy_from_slice(&length.to_le_bytes());
    request
}

#[test]
fn random_messages_change_nothing_outside() {
    let place = std::panic::AssertUnwindSafe(Place::new());
    place.write("lower/d/file", "text");
    place.write("lower/f", "text");
    let space = std::sync::Mutex::new({
        let mut guest = place.guest();
        guest.find("d/file").unwrap();
        guest.find("f").unwrap();
        guest.open("f", open_flags::READ_WRITE).unwrap();
        guest.open("d/file", open_flags::READ_ONLY).unwrap();
        guest.space
    });
    let space = std::panic::AssertUnwindSafe(space);
    bolero::check!().with_iterations(20_000).for_each(|bytes: &[u8]| {
        let mut answer = Vec::new();
        let space = space.lock().unwrap();
        space.handle(&request_of(bytes), 4096, &mut answer);
        assert!(answer.len() <= 4096);
        if answer.len() >= 16 {
            let length = u32::from_le_bytes(answer[..4].try_into().unwrap());
            assert_eq!(length as usize, answer.len());
        }
    });
    assert_eq!((place.read("lower/d/file"), place.read("lower/f")), ("text".into(), "text".into()));
    assert!(std::fs::read_dir(place.path("outside")).unwrap().next().is_none());
}
