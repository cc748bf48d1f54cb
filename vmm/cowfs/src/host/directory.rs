//! An open directory of the host.

use super::{File, NewTime, Stat, fault, permissions, refused, timestamps};
use fuse::record::{TYPE_FIFO, TYPE_REGULAR};
use fuse::{Errno, Name, StatFs};
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, StatxFlags,
};
use rustix::process::{Gid, Uid};
use rustix::{fs, io};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
const EVER: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW);

/// File systems that show the kernel's own state (magic numbers of `statfs(2)` and
/// `linux/magic.h`): proc, sysfs, cgroup, cgroup2, debugfs, tracefs, securityfs, bpf, devpts,
/// mqueue, configfs, fusectl, pstore, efivarfs, selinuxfs, binfmt_misc, nsfs.
const OF_THE_KERNEL: [i64; 17] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x1cd1,
    0x1980_0202,
    0x6265_6570,
    0x6573_5543,
    0x6165_676c,
    0xde5e_81e4,
    0xf97c_ff8c,
    0x4249_4e4d,
    0x6e73_6673,
];

/// File systems whose changes inotify tells of, whoever makes them: ext4, xfs, btrfs, tmpfs,
/// f2fs, overlayfs, zfs, bcachefs.
const LOCAL: [i64; 8] = [
    0xef53,
    0x5846_5342,
    0x9123_683e,
    0x0102_1994,
    0xf2f5_2010,
    0x794c_7630,
    0x2fc1_2fc1,
    0xca45_1a4e,
];

/// What happens to the two names of a renaming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rename {
    /// The new name's file, if there is one, is gone.
    Replace,
    /// The new name must be free.
    New,
    /// Both are there and swap.
    Exchange,
    /// As `Replace`, and the old name becomes a whiteout.
    LeaveWhiteout,
}

/// For what a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// To be read.
    Read,
    /// To be read, the time of the last read staying as it is where the host allows.
    ReadQuietly,
    /// To be read and written.
    Write,
}

/// An open directory of the host.
#[derive(Debug)]
pub(crate) struct Directory(OwnedFd);

impl Directory {
    /// Opens the root of a layer, links in the path followed: the path is the user's own.
    pub(crate) fn root(path: &Path) -> std::io::Result<Directory> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // A jail knows openat(2) alone.
        Ok(Directory(fs::openat(fs::CWD, path, flags, Mode::empty())?))
    }

    /// Takes the exclusive lock on the directory, held until it is dropped; `false` if another
    /// process has it.
    pub(crate) fn lock(&self) -> std::io::Result<bool> {
        match fs::flock(&self.0, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(io::Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Opens a directory in this one to find names and, if `read`, to read its attributes.
    pub(crate) fn directory(&self, name: Name<'_>, read: bool) -> Result<Directory, Errno> {
        let access = if read { OFlags::RDONLY } else { OFlags::PATH };
        let flags = access | OFlags::DIRECTORY;
        self.open(name.as_bytes(), flags, Mode::empty()).map(Directory)
    }

    /// Whether this is a file system of the kernel's own state, which no guest may see.
    pub(crate) fn is_of_the_kernel(&self) -> Result<bool, Errno> {
        Ok(OF_THE_KERNEL.contains(&self.magic()?))
    }

    /// Whether a watch sees every change of this directory.
    pub(crate) fn is_local(&self) -> bool {
        self.magic().is_ok_and(|magic| LOCAL.contains(&magic))
    }

    fn magic(&self) -> Result<i64, Errno> {
        fs::fstatfs(&self.0).map(|stat| stat.f_type).map_err(refused)
    }

    /// Opens a regular file in this directory.
    pub(crate) fn file(&self, name: Name<'_>, access: Access) -> Result<File, Errno> {
        let access = match access {
            Access::Read => OFlags::RDONLY,
            Access::ReadQuietly => OFlags::RDONLY | OFlags::NOATIME,
            Access::Write => OFlags::RDWR,
        };
        // NONBLOCK: a FIFO put there a moment ago must not block the server.
        let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = match self.open(name.as_bytes(), flags, Mode::empty()) {
            // Only the owner may leave the time of the last read as it is (open(2)).
            Err(Errno::EPERM) => {
                self.open(name.as_bytes(), flags - OFlags::NOATIME, Mode::empty())?
            }
            opened => opened?,
        };
        let file = File::new(fd);
        if file.stat()?.kind() == TYPE_REGULAR { Ok(file) } else { Err(Errno::ESTALE) }
    }

    /// Opens whatever `name` is, to read and write its attributes.
    pub(crate) fn any(&self, name: Name<'_>) -> Result<File, Errno> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        self.open(name.as_bytes(), flags, Mode::empty()).map(File::new)
    }

    /// Makes a regular file that was not there.
    pub(crate) fn create(&self, name: Name<'_>, mode: u32) -> Result<File, Errno> {
        fault::step()?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        self.open(name.as_bytes(), flags, permissions(mode)).map(File::new)
    }

    fn open(&self, name: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        loop {
            match fs::openat2(&self.0, name, flags | EVER, mode, RESOLVE) {
                // The kernel saw a rename race and asks to try again (openat2(2)).
                Err(io::Errno::AGAIN | io::Errno::INTR) => {}
                result => {
                    #[cfg(test)]
                    super::opened::note(&result);
                    return result.map_err(refused);
                }
            }
        }
    }

    /// `None` if there is no such name.
    pub(crate) fn stat(&self, name: Name<'_>) -> Result<Option<Stat>, Errno> {
        // A file system served by this very process must not be asked: DONT_SYNC.
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
        match fs::statx(&self.0, name.as_bytes(), flags, Stat::MASK) {
            Ok(stat) => Ok(Some(Stat::from(&stat))),
            Err(io::Errno::NOENT | io::Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(refused(errno)),
        }
    }

    pub(crate) fn stat_self(&self) -> Result<Stat, Errno> {
        fs::statx(&self.0, c"", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC, Stat::MASK)
            .map(|stat| Stat::from(&stat))
            .map_err(refused)
    }

    pub(crate) fn stat_fs(&self) -> Result<StatFs, Errno> {
        let stat = fs::fstatvfs(&self.0).map_err(refused)?;
        Ok(StatFs {
            blocks: stat.f_blocks,
            blocks_free: stat.f_bfree,
            blocks_available: stat.f_bavail,
            files: stat.f_files,
            files_free: stat.f_ffree,
            block_size: stat.f_bsize as u32,
            name_length: Name::MAX as u32,
            fragment_size: stat.f_frsize as u32,
        })
    }

    pub(crate) fn make_directory(&self, name: Name<'_>, mode: u32) -> Result<(), Errno> {
        fault::step()?;
        fs::mkdirat(&self.0, name.as_bytes(), permissions(mode)).map_err(refused)
    }

    pub(crate) fn make_symlink(&self, name: Name<'_>, target: &[u8]) -> Result<(), Errno> {
        fault::step()?;
        fs::symlinkat(target, &self.0, name.as_bytes()).map_err(refused)
    }

    pub(crate) fn make_whiteout(&self, name: Name<'_>) -> Result<(), Errno> {
        fault::step()?;
        let kind = FileType::CharacterDevice;
        fs::mknodat(&self.0, name.as_bytes(), kind, Mode::empty(), 0).map_err(refused)
    }

    /// Makes a FIFO or a socket; never a device node.
    pub(crate) fn make_endpoint(&self, name: Name<'_>, mode: u32) -> Result<(), Errno> {
        fault::step()?;
        let fifo = mode & fuse::record::TYPE_MASK == TYPE_FIFO;
        let kind = if fifo { FileType::Fifo } else { FileType::Socket };
        fs::mknodat(&self.0, name.as_bytes(), kind, permissions(mode), 0).map_err(refused)
    }

    /// Makes a device node, which only root may.
    pub(crate) fn make_device(
        &self,
        name: Name<'_>,
        kind: u32,
        (major, minor): (u32, u32),
    ) -> Result<(), Errno> {
        fault::step()?;
        let (kind, device) = (FileType::from_raw_mode(kind), fs::makedev(major, minor));
        fs::mknodat(&self.0, name.as_bytes(), kind, Mode::empty(), device).map_err(refused)
    }

    /// The device and the mount: files can be renamed between directories with the same two.
    pub(crate) fn volume(&self) -> Result<(u64, u64), Errno> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let mask = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
        let stat = fs::statx(&self.0, c"", flags, mask).map_err(refused)?;
        Ok((Stat::from(&stat).device, stat.stx_mnt_id))
    }

    pub(crate) fn read_link(&self, name: Name<'_>) -> Result<Vec<u8>, Errno> {
        let target = fs::readlinkat(&self.0, name.as_bytes(), Vec::new()).map_err(refused)?;
        Ok(target.into_bytes())
    }

    pub(crate) fn remove(&self, name: Name<'_>) -> Result<(), Errno> {
        fault::step()?;
        fs::unlinkat(&self.0, name.as_bytes(), AtFlags::empty()).map_err(refused)
    }

    pub(crate) fn remove_directory(&self, name: Name<'_>) -> Result<(), Errno> {
        fault::step()?;
        fs::unlinkat(&self.0, name.as_bytes(), AtFlags::REMOVEDIR).map_err(refused)
    }

    /// Gives the file `name` a further name; a symbolic link itself, not what it points at.
    pub(crate) fn link(&self, name: Name<'_>, to: &Directory, new: Name<'_>) -> Result<(), Errno> {
        fault::step()?;
        let flags = AtFlags::empty();
        fs::linkat(&self.0, name.as_bytes(), &to.0, new.as_bytes(), flags).map_err(refused)
    }

    pub(crate) fn rename(
        &self,
        name: Name<'_>,
        to: &Directory,
        new: Name<'_>,
        how: Rename,
    ) -> Result<(), Errno> {
        fault::step()?;
        let flags = match how {
            Rename::Replace => RenameFlags::empty(),
            Rename::New => RenameFlags::NOREPLACE,
            Rename::Exchange => RenameFlags::EXCHANGE,
            Rename::LeaveWhiteout => RenameFlags::WHITEOUT,
        };
        fs::renameat_with(&self.0, name.as_bytes(), &to.0, new.as_bytes(), flags).map_err(refused)
    }

    pub(crate) fn set_times(
        &self,
        name: Name<'_>,
        accessed: NewTime,
        modified: NewTime,
    ) -> Result<(), Errno> {
        fault::step()?;
        let times = timestamps(accessed, modified);
        fs::utimensat(&self.0, name.as_bytes(), &times, AtFlags::SYMLINK_NOFOLLOW).map_err(refused)
    }

    /// Sets the permission bits of `name`, which is no symbolic link: nobody but this server
    /// changes the directory.
    pub(crate) fn set_mode(&self, name: Name<'_>, mode: u32) -> Result<(), Errno> {
        fault::step()?;
        fs::chmodat(&self.0, name.as_bytes(), permissions(mode), AtFlags::empty()).map_err(refused)
    }

    /// Sets owner and group; of a symbolic link itself.
    pub(crate) fn set_owner(&self, name: Name<'_>, uid: u32, gid: u32) -> Result<(), Errno> {
        fault::step()?;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        fs::chownat(&self.0, name.as_bytes(), Some(uid), Some(gid), flags).map_err(refused)
    }

    /// The same directory once more.
    pub(crate) fn try_clone(&self) -> Result<Directory, Errno> {
        self.0.try_clone().map(Directory).map_err(|_| Errno::ENFILE)
    }

    /// This directory, opened anew, to read its attributes: it may be open to find names only.
    pub(crate) fn reopen(&self) -> Result<File, Errno> {
        self.open(b".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).map(File::new)
    }

    /// This directory as something with attributes and times of its own.
    pub(crate) fn as_file(&self) -> Result<File, Errno> {
        self.0.try_clone().map(File::new).map_err(|_| Errno::ENFILE)
    }

    /// The name under which `/proc` shows the directory, for calls that take no descriptor.
    pub(super) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.0.as_raw_fd())
    }

    pub(crate) fn sync(&self) -> Result<(), Errno> {
        fault::step()?;
        fs::fsync(&self.0).map_err(refused)
    }

    /// Syncs the whole file system the directory is on.
    pub(crate) fn sync_file_system(&self) -> Result<(), Errno> {
        fs::syncfs(&self.0).map_err(refused)
    }

    /// Hands over each name but `.` and `..`, with its inode and `DT_*` (0 if unknown).
    pub(crate) fn list(&self, mut each: impl FnMut(Name<'_>, u64, u8)) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let listed = self.open(b".", flags, Mode::empty())?;
        let mut buffer = Vec::with_capacity(32 * 1024);
        let mut entries = RawDir::new(&listed, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(refused)?;
            if let Ok(name) = Name::new(entry.file_name().to_bytes()) {
                let kind = (entry.file_type().as_raw_mode() >> 12) as u8;
                each(name, entry.ino(), kind);
            }
        }
        Ok(())
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
