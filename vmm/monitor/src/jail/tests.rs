use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::{AddressFamily, SocketType, socket};

use super::*;

fn settings(root: &Path) -> Settings {
    for name in ["lower", "upper", "work", "elsewhere"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    fs::write(root.join("lower/read"), "the parent's").unwrap();
    fs::write(root.join("elsewhere/secret"), "another's").unwrap();
    Settings {
        spawned_ns: 0,
        name: "red".into(),
        addresses: vec![[192, 0, 2, 10].into()],
        peer: None,
        mac: [2; 6],
        mtu: 1400,
        memory_bytes: 0,
        spin_us: 0,
        files: cowfs::Settings::new(
            vec![cowfs::LowerLayer::Live(root.join("lower"))],
            root.join("upper"),
            root.join("work"),
        ),
        seal: None,
        disks: Vec::new(),
    }
}

/// Runs `inside` on a thread of its own in the jail: the jail is a thread's, and for good.
fn jailed(inside: impl FnOnce(&Path) + Send) {
    let place = tempfile::tempdir().unwrap();
    let settings = settings(place.path());
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter(&settings).unwrap();
            inside(place.path());
        });
        thread.join().unwrap();
    });
}

#[test]
fn inside_are_the_spaces_own_files_and_no_others() {
    jailed(|root| {
        assert_eq!(fs::read_to_string(root.join("lower/read")).unwrap(), "the parent's");
        fs::write(root.join("work/new"), "mine").unwrap();
        rustix::fs::renameat(
            rustix::fs::CWD,
            root.join("work/new"),
            rustix::fs::CWD,
            root.join("upper/new"),
        )
        .unwrap();
        let written = fs::write(root.join("lower/new"), "").unwrap_err();
        assert_eq!(written.kind(), ErrorKind::PermissionDenied);
        for path in [root.join("elsewhere/secret"), "/etc/passwd".into(), "/proc/self/mem".into()] {
            assert_eq!(fs::read(path).unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
    });
}

#[test]
fn a_disk_works_inside_through_what_was_open_and_is_not_to_be_named() {
    let place = tempfile::tempdir().unwrap();
    let image = place.path().join("image");
    fs::write(&image, [7; 1 << 20]).unwrap();
    let layer = place.path().join("0.qcow2");
    let layers = vec![layer.clone()];
    let config = cowdisk::host::Config { image: image.clone(), layers, writable: true };
    let mut disk = cowdisk::host::open(&config).unwrap();
    jailed(move |_| {
        for path in [&image, &layer, &layer.with_extension("data")] {
            assert_eq!(fs::read(path).unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
        disk.write(4096, b"inside").unwrap();
        disk.write(1 << 19, &[9; 1 << 17]).unwrap();
        disk.flush().unwrap();
        disk.zero(1 << 19, 1 << 17, cowdisk::Space::GiveBack).unwrap();
        disk.zero(4096, 2, cowdisk::Space::Keep).unwrap();
        disk.flush().unwrap();
        let mut found = [0; 8];
        disk.read(4096, &mut found).unwrap();
        assert_eq!(&found, b"\0\0side\x07\x07");
    });
    assert!(cowdisk::host::open(&config).is_ok());
    assert!(fs::read(place.path().join("image")).unwrap().iter().all(|byte| *byte == 7));
}

#[test]
fn inside_are_no_sockets_no_programs_and_no_other_processes() {
    let (one, _other) = UnixStream::pair().unwrap();
    jailed(|_| {
        let refused = Some(rustix::io::Errno::PERM);
        assert_eq!(socket(AddressFamily::INET, SocketType::DGRAM, None).err(), refused);
        assert_eq!(socket(AddressFamily::UNIX, SocketType::STREAM, None).err(), refused);
        let me = rustix::process::getpid();
        let signal = rustix::process::Signal::CONT;
        assert_eq!(rustix::process::kill_process(me, signal).err(), refused);
        let flags = fcntl_getfl(&one).unwrap();
        assert_eq!(fcntl_setfl(&one, flags | OFlags::NONBLOCK).err(), refused);
    });
}
