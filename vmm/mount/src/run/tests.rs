use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::net::{AddressFamily, SocketType, socket};

use super::*;

fn settings(root: &Path, to: Kernel) -> Settings {
    for name in ["lower", "upper", "work", "elsewhere"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    fs::write(root.join("lower/read"), "the parent's").unwrap();
    fs::write(root.join("elsewhere/secret"), "another's").unwrap();
    Settings {
        name: "red".into(),
        files: cowfs::Settings::new(
            vec![cowfs::LowerLayer::Live(root.join("lower"))],
            root.join("upper"),
            root.join("work"),
        ),
        seal: None,
        to,
    }
}

#[test]
fn inside_are_the_spaces_own_files_and_no_others() {
    let host = Host { hidden: Vec::new(), threads: 1, frugal: true };
    for kernel in [Kernel::Host(host), Kernel::Machine] {
        let place = tempfile::tempdir().unwrap();
        let jail = built(&settings(place.path(), kernel)).unwrap();
        // The jail is a thread's, and for good.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                jail.enter().unwrap();
                look_out(place.path());
            });
        });
    }
}

/// What whoever took the process over would try.
fn look_out(root: &Path) {
    assert_eq!(fs::read_to_string(root.join("lower/read")).unwrap(), "the parent's");
    fs::write(root.join("upper/new"), "mine").unwrap();
    for path in [root.join("elsewhere/secret"), "/etc/passwd".into(), "/dev/fuse".into()] {
        let error = fs::read(path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
    let written = fs::write(root.join("lower/new"), "").unwrap_err();
    assert_eq!(written.kind(), ErrorKind::PermissionDenied);
    assert_eq!(socket(AddressFamily::UNIX, SocketType::STREAM, None).err(), Some(Errno::PERM));
    let ended = unmount("/", UnmountFlags::empty());
    assert_eq!(ended.err(), Some(Errno::PERM), "whoever started it unmounts");
}

#[test]
fn limits_grow_with_the_descriptors_there_are() {
    let default = Limits::default();
    for few in [256, 1024] {
        assert_eq!(limits(few).handles, default.handles);
    }
    let many = limits(65536);
    assert_eq!((many.handles, many.directories), (64 * default.handles, 64 * default.directories));
    assert_eq!(many.nodes, default.nodes);
    let in_use = many.handles + 3 * many.directories;
    assert!(in_use < 65536, "a directory of three layers takes three descriptors: {in_use}");
}

#[test]
fn a_command_that_gives_up_is_no_failure() {
    let (ours, theirs) = Connection::pair().unwrap();
    drop(theirs);
    assert!(received(&ours).unwrap().is_none());
}
