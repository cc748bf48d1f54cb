//! The host's files: every system call of this crate is here.
//!
//! A name is opened as one component below an open directory, never through a symbolic link,
//! a magic link or `..`; what a guest wrote into a link is text that nobody here follows.

use fuse::{Errno, Name, StatFs, Time};
use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, SeekFrom,
    Timespec, Timestamps, XattrFlags,
};
use rustix::{fs, io};
use std::os::fd::OwnedFd;
use std::path::Path;

/// What `stat` says, as far as it is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) mode: u32,
    pub(crate) links: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) special: u64,
    pub(crate) size: u64,
    pub(crate) blocks: u64,
    pub(crate) block_size: u32,
    pub(crate) accessed: Time,
    pub(crate) modified: Time,
    pub(crate) changed: Time,
}

impl Stat {
    pub(crate) fn kind(&self) -> u32 {
        self.mode & fuse::record::TYPE_MASK
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind() == fuse::record::TYPE_DIRECTORY
    }

    /// A character device 0/0: overlayfs's mark that a name is not there.
    pub(crate) fn is_whiteout(&self) -> bool {
        self.kind() == fuse::record::TYPE_CHARACTER && self.special == 0
    }

    fn from(stat: &fs::Stat) -> Stat {
        let time = |seconds, nanoseconds| Time { seconds, nanoseconds };
        Stat {
            device: stat.st_dev,
            inode: stat.st_ino,
            mode: stat.st_mode,
            links: u32::try_from(stat.st_nlink).unwrap_or(u32::MAX),
            uid: stat.st_uid,
            gid: stat.st_gid,
            special: stat.st_rdev,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            blocks: u64::try_from(stat.st_blocks).unwrap_or(0),
            block_size: u32::try_from(stat.st_blksize).unwrap_or(4096),
            accessed: time(stat.st_atime, stat.st_atime_nsec as u32),
            modified: time(stat.st_mtime, stat.st_mtime_nsec as u32),
            changed: time(stat.st_ctime, stat.st_ctime_nsec as u32),
        }
    }
}

/// A time to be set; `None` leaves it.
pub(crate) type NewTime = Option<fuse::request::SetTime>;

/// The server's own user and group.
pub(crate) fn user() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// The guest's view of a host error. The host's table of open files being full is ours: ENFILE.
fn refused(errno: io::Errno) -> Errno {
    match errno {
        io::Errno::MFILE => Errno::ENFILE,
        errno => Errno::new(errno.raw_os_error()).unwrap_or(Errno::EIO),
    }
}

const RESOLVE: ResolveFlags =
    ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);
const EVER: OFlags = OFlags::CLOEXEC.union(OFlags::NOFOLLOW);
const OPAQUE: &str = "user.overlay.opaque";

/// An open directory of the host.
#[derive(Debug)]
pub(crate) struct Directory(OwnedFd);

impl Directory {
    /// Opens the root of a layer, links in the path followed: the path is the user's own.
    pub(crate) fn root(path: &Path) -> std::io::Result<Directory> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Directory(fs::open(path, flags, Mode::empty())?))
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

    /// Opens a directory in this one to find names and, if `read`, to read its attributes; a
    /// file system that shows the kernel's own state (proc) is refused with EXDEV.
    pub(crate) fn directory(&self, name: Name<'_>, read: bool) -> Result<Directory, Errno> {
        const PROC: i64 = 0x9fa0;
        const SYS: i64 = 0x6265_6572;
        let access = if read { OFlags::RDONLY } else { OFlags::PATH };
        let fd = self.open(name.as_bytes(), access | OFlags::DIRECTORY, Mode::empty())?;
        let directory = Directory(fd);
        if directory.stat_self()?.device != self.stat_self()?.device {
            let kind = fs::fstatfs(&directory.0).map_err(refused)?.f_type;
            if matches!(kind, PROC | SYS) {
                return Err(Errno::EXDEV);
            }
        }
        Ok(directory)
    }

    /// Opens a regular file in this directory, for reading or for both.
    pub(crate) fn file(&self, name: Name<'_>, write: bool) -> Result<File, Errno> {
        // NONBLOCK: a FIFO put there a moment ago must not block the server.
        let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
        let fd =
            self.open(name.as_bytes(), access | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())?;
        let file = File(fd);
        if file.stat()?.kind() == fuse::record::TYPE_REGULAR {
            Ok(file)
        } else {
            Err(Errno::ESTALE)
        }
    }

    /// Makes a regular file that was not there.
    pub(crate) fn create(&self, name: Name<'_>, mode: u32) -> Result<File, Errno> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        self.open(name.as_bytes(), flags, host_mode(mode)).map(File)
    }

    fn open(&self, name: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        loop {
            match fs::openat2(&self.0, name, flags | EVER, mode, RESOLVE) {
                // The kernel saw a rename race and asks to try again (openat2(2)).
                Err(io::Errno::AGAIN | io::Errno::INTR) => {}
                result => return result.map_err(refused),
            }
        }
    }

    /// `None` if there is no such name.
    pub(crate) fn stat(&self, name: Name<'_>) -> Result<Option<Stat>, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match fs::statat(&self.0, name.as_bytes(), flags) {
            Ok(stat) => Ok(Some(Stat::from(&stat))),
            Err(io::Errno::NOENT | io::Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(refused(errno)),
        }
    }

    pub(crate) fn stat_self(&self) -> Result<Stat, Errno> {
        fs::fstat(&self.0).map(|stat| Stat::from(&stat)).map_err(refused)
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

    pub(crate) fn make_directory(&self, name: Name<'_>) -> Result<(), Errno> {
        fs::mkdirat(&self.0, name.as_bytes(), Mode::RWXU).map_err(refused)
    }

    pub(crate) fn make_symlink(&self, name: Name<'_>, target: &[u8]) -> Result<(), Errno> {
        fs::symlinkat(target, &self.0, name.as_bytes()).map_err(refused)
    }

    pub(crate) fn make_whiteout(&self, name: Name<'_>) -> Result<(), Errno> {
        let kind = FileType::CharacterDevice;
        fs::mknodat(&self.0, name.as_bytes(), kind, Mode::empty(), 0).map_err(refused)
    }

    pub(crate) fn read_link(&self, name: Name<'_>) -> Result<Vec<u8>, Errno> {
        let target = fs::readlinkat(&self.0, name.as_bytes(), Vec::new()).map_err(refused)?;
        Ok(target.into_bytes())
    }

    pub(crate) fn remove(&self, name: Name<'_>) -> Result<(), Errno> {
        fs::unlinkat(&self.0, name.as_bytes(), AtFlags::empty()).map_err(refused)
    }

    pub(crate) fn remove_directory(&self, name: Name<'_>) -> Result<(), Errno> {
        fs::unlinkat(&self.0, name.as_bytes(), AtFlags::REMOVEDIR).map_err(refused)
    }

    /// Gives the file `name` a further name; a symbolic link itself, not what it points at.
    pub(crate) fn link(&self, name: Name<'_>, to: &Directory, new: Name<'_>) -> Result<(), Errno> {
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
        let flags = match how {
            Rename::Replace => RenameFlags::empty(),
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
        let times = timestamps(accessed, modified);
        fs::utimensat(&self.0, name.as_bytes(), &times, AtFlags::SYMLINK_NOFOLLOW).map_err(refused)
    }

    /// This directory as something with attributes and times of its own.
    pub(crate) fn as_file(&self) -> Result<File, Errno> {
        self.0.try_clone().map(File).map_err(|_| Errno::ENFILE)
    }

    pub(crate) fn is_opaque(&self) -> Result<bool, Errno> {
        let mut value = [0; 2];
        match fs::fgetxattr(&self.0, OPAQUE, &mut value) {
            Ok(length) => Ok(value[..length] == *b"y"),
            Err(errno) if no_attribute(errno) => Ok(false),
            Err(errno) => Err(refused(errno)),
        }
    }

    /// The same for a directory opened without the right to read it; such is never opaque.
    pub(crate) fn is_opaque_lower(&self) -> bool {
        let readable = self.open(b".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
        readable.is_ok_and(|fd| Directory(fd).is_opaque().unwrap_or(false))
    }

    /// The values of two extended attributes of a file or directory in this one.
    pub(crate) fn attributes(
        &self,
        name: Name<'_>,
        attributes: [&str; 2],
    ) -> Result<[Option<Vec<u8>>; 2], Errno> {
        let file = File(self.open(name.as_bytes(), OFlags::NONBLOCK, Mode::empty())?);
        Ok([file.attribute(attributes[0])?, file.attribute(attributes[1])?])
    }

    pub(crate) fn set_opaque(&self) -> Result<(), Errno> {
        fs::fsetxattr(&self.0, OPAQUE, b"y", XattrFlags::empty()).map_err(refused)
    }

    pub(crate) fn sync(&self) -> Result<(), Errno> {
        fs::fsync(&self.0).map_err(refused)
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

/// What happens to the two names of a renaming.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rename {
    /// The new name's file, if there is one, is gone.
    Replace,
    /// Both are there and swap.
    Exchange,
    /// As `Replace`, and the old name becomes a whiteout.
    LeaveWhiteout,
}

/// An open regular file of the host (or a directory, for its attributes).
#[derive(Debug)]
pub(crate) struct File(OwnedFd);

impl File {
    pub(crate) fn stat(&self) -> Result<Stat, Errno> {
        fs::fstat(&self.0).map(|stat| Stat::from(&stat)).map_err(refused)
    }

    /// Appends at most `size` bytes from `offset` on.
    pub(crate) fn read(&self, offset: u64, size: usize, out: &mut Vec<u8>) -> Result<(), Errno> {
        let start = out.len();
        out.reserve(size);
        while out.len() < start + size {
            let (have, room) = (out.len(), start + size - out.len());
            let at = offset.checked_add((have - start) as u64).ok_or(Errno::EINVAL)?;
            // Zeroing costs less than reading far more than was asked into a large buffer.
            let read = if out.capacity() - have <= 2 * room {
                io::pread(&self.0, spare_capacity(out), at)
            } else {
                out.resize(have + room, 0);
                let read = io::pread(&self.0, &mut out[have..], at);
                out.truncate(have + *read.as_ref().unwrap_or(&0));
                read
            };
            match read {
                Ok(0) => break,
                Ok(_) | Err(io::Errno::INTR) => {}
                Err(errno) => return Err(refused(errno)),
            }
        }
        out.truncate(start + size);
        Ok(())
    }

    /// Writes all of `data`, or as much as there is room for.
    pub(crate) fn write(&self, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        let mut written = 0;
        while written < data.len() {
            let at = offset.checked_add(written as u64).ok_or(Errno::EFBIG)?;
            match io::pwrite(&self.0, &data[written..], at) {
                Ok(count) => written += count,
                Err(io::Errno::INTR) => {}
                Err(_) if written > 0 => break,
                Err(errno) => return Err(refused(errno)),
            }
        }
        Ok(written)
    }

    pub(crate) fn truncate(&self, size: u64) -> Result<(), Errno> {
        fs::ftruncate(&self.0, size).map_err(refused)
    }

    /// Sets the permission bits of `mode`, whose type bits are the file's.
    pub(crate) fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        fs::fchmod(&self.0, host_mode(mode)).map_err(refused)
    }

    pub(crate) fn set_times(&self, accessed: NewTime, modified: NewTime) -> Result<(), Errno> {
        fs::futimens(&self.0, &timestamps(accessed, modified)).map_err(refused)
    }

    pub(crate) fn sync(&self, data_only: bool) -> Result<(), Errno> {
        let done = if data_only { fs::fdatasync(&self.0) } else { fs::fsync(&self.0) };
        done.map_err(refused)
    }

    /// The next data (or hole) from `offset` on.
    pub(crate) fn seek(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        let from = if hole { SeekFrom::Hole(offset) } else { SeekFrom::Data(offset) };
        fs::seek(&self.0, from).map_err(refused)
    }

    /// The value of an extended attribute of at most 64 bytes.
    pub(crate) fn attribute(&self, name: &str) -> Result<Option<Vec<u8>>, Errno> {
        let mut value = [0; 64];
        match fs::fgetxattr(&self.0, name, &mut value) {
            Ok(length) => Ok(Some(value[..length].to_vec())),
            Err(io::Errno::RANGE) => Ok(None),
            Err(errno) if no_attribute(errno) => Ok(None),
            Err(errno) => Err(refused(errno)),
        }
    }

    pub(crate) fn set_attribute(&self, name: &str, value: &[u8]) -> Result<(), Errno> {
        fs::fsetxattr(&self.0, name, value, XattrFlags::empty()).map_err(refused)
    }

    /// Fills the empty file `to` with the first `size` bytes, holes staying holes.
    pub(crate) fn copy_to(&self, to: &File, size: u64) -> Result<(), Errno> {
        let mut offset = 0;
        while offset < size {
            let data = match self.seek(offset, false) {
                Ok(data) => data.min(size),
                Err(Errno::ENXIO) => break,
                Err(Errno::EINVAL | Errno::EOPNOTSUPP) => offset,
                Err(errno) => return Err(errno),
            };
            let hole = self.seek(data, true).unwrap_or(size).min(size);
            if hole <= data {
                break;
            }
            self.copy_range(to, data, hole)?;
            offset = hole;
        }
        to.truncate(size)
    }

    fn copy_range(&self, to: &File, start: u64, end: u64) -> Result<(), Errno> {
        let (mut from, mut at) = (start, start);
        while from < end {
            let length = usize::try_from(end - from).unwrap_or(usize::MAX).min(1 << 30);
            match fs::copy_file_range(&self.0, Some(&mut from), &to.0, Some(&mut at), length) {
                // The parent cut the file meanwhile: what is left is a hole.
                Ok(0) => return Ok(()),
                Ok(_) | Err(io::Errno::INTR) => {}
                Err(_) => return self.copy_bytes(to, from, end),
            }
        }
        Ok(())
    }

    /// For file systems between which the kernel does not copy.
    fn copy_bytes(&self, to: &File, mut start: u64, end: u64) -> Result<(), Errno> {
        let mut buffer = Vec::new();
        while start < end {
            buffer.clear();
            let size = usize::try_from(end - start).unwrap_or(usize::MAX).min(1 << 18);
            self.read(start, size, &mut buffer)?;
            if buffer.is_empty() {
                break;
            }
            if to.write(start, &buffer)? < buffer.len() {
                return Err(Errno::ENOSPC);
            }
            start += buffer.len() as u64;
        }
        Ok(())
    }
}

/// Permission bits as they may be on the host: the owner keeps his right to use the file (the
/// guest's view is kept in an attribute), and set-id bits are never there.
fn host_mode(mode: u32) -> Mode {
    let directory = mode & fuse::record::TYPE_MASK == fuse::record::TYPE_DIRECTORY;
    Mode::from_raw_mode(mode & 0o777 | if directory { 0o700 } else { 0o600 })
}

/// The attribute is not there, or nothing of that kind can have one.
fn no_attribute(errno: io::Errno) -> bool {
    matches!(errno, io::Errno::NODATA | io::Errno::OPNOTSUPP | io::Errno::PERM)
}

fn timestamps(accessed: NewTime, modified: NewTime) -> Timestamps {
    use fuse::request::SetTime;
    let spec = |time: NewTime| match time {
        None => Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: fs::UTIME_NOW },
        Some(SetTime::At(time)) => {
            Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() }
        }
    };
    Timestamps { last_access: spec(accessed), last_modification: spec(modified) }
}
