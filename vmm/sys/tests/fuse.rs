//! A mount of our own, served by hand: what takes root and /dev/fuse is ignored, with the reason,
//! where it is refused.

use std::io::Error;
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed, Trial};
use sys::fuse::{self, Device};

fn main() {
    let arguments = Arguments::from_args();
    let is_root = rustix::process::geteuid().is_root();
    let refused = match Device::open() {
        Ok(_) if is_root => None,
        Ok(_) => Some("it takes root".to_owned()),
        Err(error) => Some(format!("/dev/fuse cannot be opened: {error}")),
    };
    if let Some(reason) = &refused {
        eprintln!("ignoring what mounts: {reason}");
    }
    let name = "a_mount_is_served_until_it_is_unmounted";
    let trial = Trial::test(name, a_mount_is_served_until_it_is_unmounted);
    libtest_mimic::run(&arguments, vec![trial.with_ignored_flag(refused.is_some())]).exit();
}

/// A directory that is unmounted and removed, however the test ends.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fuse::unmount(&self.0);
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn a_mount_is_served_until_it_is_unmounted() -> Result<(), Failed> {
    let place = Place(std::env::temp_dir().join(format!("portspace-fuse-{}", std::process::id())));
    std::fs::create_dir(&place.0)?;
    let device = fuse::mount(&place.0)?;
    let is_ours = |mounted: &fuse::Mounted| mounted.directory == place.0;
    assert!(fuse::mounts()?.iter().any(is_ours));
    let mut request = vec![0; 1 << 17];
    let length = device.read(&mut request)?;
    assert_eq!((word(&request[..4]), word(&request[4..8])), (length as u64, INIT));
    device.write(&init_reply(&request[8..16]))?;

    let clone = device.try_clone()?;
    let refused = clone.backing_open(std::io::stdin());
    assert!(refused.is_err(), "standard input is no file to read through");
    backs(&clone)?;

    let directory = place.0.clone();
    std::thread::scope(|scope| {
        let asks = scope.spawn(|| std::fs::metadata(&directory));
        let length = clone.read(&mut request)?;
        assert!(length >= 40, "the request has a header");
        let mut reply = [16_u32.to_le_bytes(), (-13_i32).to_le_bytes()].concat();
        reply.extend(&request[8..16]);
        clone.write(&reply)?;
        let denied = asks.join().expect("it does not panic").expect_err("the server denies it");
        assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
        Ok::<(), Error>(())
    })?;
    let late = device.write(&[16_u32.to_le_bytes(), [0; 4], [9; 4], [0; 4]].concat());
    assert!(late.is_err(), "nobody asked that");

    fuse::unmount(&place.0)?;
    for device in [&device, &clone] {
        let ended = device.read(&mut request).expect_err("it is unmounted");
        assert_eq!(ended.raw_os_error(), Some(NO_DEVICE));
    }
    assert!(!fuse::mounts()?.iter().any(is_ours));
    Ok(())
}

/// A regular file can be read through, if the kernel can do that at all.
fn backs(device: &Device) -> Result<(), Error> {
    let path = Path::new("/proc/self/exe");
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    match device.backing_open(&file) {
        Err(error) if error.raw_os_error() == Some(NOT_KNOWN) => Ok(()),
        Err(error) => Err(error),
        Ok(id) => {
            device.backing_close(id)?;
            assert!(device.backing_close(id).is_err(), "it was given back");
            Ok(())
        }
    }
}

const INIT: u64 = 26;
/// ENODEV.
const NO_DEVICE: i32 = 19;
/// ENOTTY.
const NOT_KNOWN: i32 = 25;

/// fuse_out_header and fuse_init_out of version 7.40 with passthrough (linux/fuse.h).
fn init_reply(unique: &[u8]) -> Vec<u8> {
    const EXTENDED: u32 = 1 << 30;
    const PASSTHROUGH: u32 = 1 << (37 - 32);
    let mut reply = vec![0; 16 + 64];
    let mut put = |at: usize, value: &[u8]| reply[at..at + value.len()].copy_from_slice(value);
    put(0, &80_u32.to_le_bytes());
    put(8, unique);
    put(16, &7_u32.to_le_bytes());
    put(20, &40_u32.to_le_bytes());
    put(28, &EXTENDED.to_le_bytes());
    put(36, &4096_u32.to_le_bytes());
    put(48, &PASSTHROUGH.to_le_bytes());
    put(52, &1_u32.to_le_bytes());
    reply
}

fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
