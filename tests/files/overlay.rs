//! Random operations on a space and on the kernel's own union, each with the same lower tree:
//! both answer alike, and both show the same afterwards.

use std::ffi::CString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{Error, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use cli::lab::Lab;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, XattrFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use tests::ignore;

use crate::mounted::Mounted;
use crate::random::Random;
use crate::snapshot::Snapshot;

const OPERATIONS: usize = 20_000;

/// Both trees are compared, and mounted anew, after so many.
const EPOCH: usize = 400;

const PATHS: [&str; 16] = [
    "a", "b", "c", "a/a", "a/b", "a/c", "b/a", "b/b", "b/c", "c/a", "c/b", "a/a/a", "a/a/b",
    "b/a/a", "c/a/b", "a/a/a/a",
];

pub(super) fn agree(lab: &Lab) {
    let mut mounted = Mounted::new(lab, fill);
    let mut overlay = Overlay::new(&mounted);
    // A second back, so that what either makes now is later.
    let start = SystemTime::now() - std::time::Duration::from_secs(1);
    let mut random = Random(0x0dd0_1234_5678_9abc);
    for number in 0..OPERATIONS {
        let operation = Operation::any(&mut random);
        let ours = operation.on(&mounted.root, number);
        let theirs = operation.on(&overlay.root, number);
        assert_eq!(ours, theirs, "operation {number}: {operation:?}");
        if number % EPOCH == EPOCH - 1 {
            let of = |root: &Path| Snapshot::of(root).of_before(start);
            of(&mounted.root).must_be(&of(&overlay.root), &format!("after operation {number}"));
            mounted.must_last();
            overlay.mount_again();
            of(&mounted.root).must_be(&of(&overlay.root), &format!("anew after {number}"));
        }
    }
    drop(overlay);
    mounted.end();
}

/// The lower tree: files, some of two names, links, and directories in directories.
fn fill(lower: &Path) {
    for directory in ["a/a/a", "b/a", "c"] {
        fs::create_dir_all(lower.join(directory)).unwrap();
    }
    for file in ["a/b", "a/a/b", "b/a/a", "c/b"] {
        fs::write(lower.join(file), format!("the parent's {file}")).unwrap();
    }
    fs::hard_link(lower.join("c/b"), lower.join("b/b")).unwrap();
    symlink("../b", lower.join("c/a")).unwrap();
}

/// An overlayfs over the same lower tree.
struct Overlay {
    root: PathBuf,
    options: CString,
    is_mounted: bool,
}

impl Overlay {
    /// Mounts it; the test is ignored where the kernel does not.
    fn new(mounted: &Mounted<'_>) -> Self {
        let [root, upper, work] =
            ["overlay", "overlay-upper", "overlay-work"].map(|name| mounted.beside(name));
        let options = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=on,index=on,metacopy=off",
            mounted.lower.display(),
            upper.display(),
            work.display()
        );
        let options = CString::new(options).unwrap();
        let mut overlay = Self { root, options, is_mounted: false };
        if let Err(errno) = overlay.mount() {
            ignore(format!("the kernel does not mount overlayfs with redirects here: {errno}"));
        }
        overlay
    }

    fn mount(&mut self) -> rustix::io::Result<()> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        let options = self.options.as_c_str();
        rustix::mount::mount(c"overlay", &self.root, c"overlay", flags, options)?;
        self.is_mounted = true;
        Ok(())
    }

    fn mount_again(&mut self) {
        rustix::mount::unmount(&self.root, UnmountFlags::empty()).unwrap();
        self.is_mounted = false;
        self.mount().unwrap();
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = rustix::mount::unmount(&self.root, UnmountFlags::DETACH);
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Read,
    List,
    Write,
    Append,
    Truncate,
    MakeDirectory,
    RemoveDirectory,
    Unlink,
    Rename,
    RenameNew,
    Exchange,
    Link,
    Symlink,
    MakeFifo,
    Mode,
    Attribute,
}

const KINDS: [Kind; 20] = [
    Kind::Read,
    Kind::List,
    Kind::Write,
    Kind::Write,
    Kind::Append,
    Kind::Truncate,
    Kind::MakeDirectory,
    Kind::MakeDirectory,
    Kind::MakeDirectory,
    Kind::RemoveDirectory,
    Kind::Unlink,
    Kind::Rename,
    Kind::Rename,
    Kind::RenameNew,
    Kind::Exchange,
    Kind::Link,
    Kind::Symlink,
    Kind::MakeFifo,
    Kind::Mode,
    Kind::Attribute,
];

/// Something to do, and with which paths.
#[derive(Debug)]
struct Operation {
    kind: Kind,
    path: &'static str,
    other: &'static str,
}

impl Operation {
    fn any(random: &mut Random) -> Self {
        let kind = KINDS[random.below(KINDS.len())];
        let [path, other] = [0; 2].map(|_| PATHS[random.below(PATHS.len())]);
        Self { kind, path, other }
    }

    /// Does it below `root`: what it gives, or the kernel's number of the error.
    fn on(&self, root: &Path, number: usize) -> Result<Vec<u8>, Option<i32>> {
        let (path, other) = (root.join(self.path), root.join(self.other));
        self.attempt(&path, &other, number).map_err(|error| error.raw_os_error())
    }

    fn attempt(&self, path: &Path, other: &Path, number: usize) -> Result<Vec<u8>, Error> {
        let text = format!("written by operation {number}");
        let rename = |flags| rustix::fs::renameat_with(CWD, path, CWD, other, flags);
        match self.kind {
            // Nobody writes into a FIFO.
            Kind::Read if is_fifo(path) => {}
            Kind::Write | Kind::Append | Kind::Truncate if is_fifo(path) => {}
            Kind::Read => return fs::read(path),
            Kind::List => return list(path),
            Kind::Write => fs::write(path, text)?,
            Kind::Append => {
                OpenOptions::new().append(true).open(path)?.write_all(text.as_bytes())?
            }
            Kind::Truncate => {
                OpenOptions::new().write(true).open(path)?.set_len(number as u64 % 40)?;
            }
            Kind::MakeDirectory => fs::create_dir(path)?,
            Kind::RemoveDirectory => fs::remove_dir(path)?,
            Kind::Unlink => fs::remove_file(path)?,
            Kind::Rename => fs::rename(path, other)?,
            Kind::RenameNew => rename(RenameFlags::NOREPLACE)?,
            Kind::Exchange => rename(RenameFlags::EXCHANGE)?,
            Kind::Link => fs::hard_link(path, other)?,
            Kind::Symlink => symlink(self.other, path)?,
            Kind::MakeFifo => {
                rustix::fs::mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o640), 0)?;
            }
            Kind::Mode => {
                let mode = 0o700 + number as u32 % 0o100;
                fs::set_permissions(path, Permissions::from_mode(mode))?;
            }
            Kind::Attribute => {
                // An older value may go through a copy-up.
                if number.is_multiple_of(2) {
                    let flags = XattrFlags::empty();
                    rustix::fs::setxattr(path, c"user.noted", text.as_bytes(), flags)?;
                }
                let mut value = [0; 64];
                let length = rustix::fs::getxattr(path, c"user.noted", &mut value)?;
                return Ok(value[..length].to_vec());
            }
        }
        Ok(Vec::new())
    }
}

fn is_fifo(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

/// The names, in order.
fn list(path: &Path) -> Result<Vec<u8>, Error> {
    let names: Result<Vec<_>, _> =
        fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name())).collect();
    let mut names: Vec<Vec<u8>> =
        names?.into_iter().map(|name| name.into_encoded_bytes()).collect();
    names.sort();
    Ok(names.join(&b'/'))
}
