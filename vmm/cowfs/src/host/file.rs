//! An open file of the host.

use super::{NewTime, Stat, fault, permissions, refused, timestamps};
use fuse::Errno;
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FallocateFlags, SeekFrom};
use rustix::process::{Gid, Uid};
use rustix::{fs, io};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The smallest block of a disk.
const BLOCK: u64 = 512;

/// An open file of the host, or a directory for its attributes.
#[derive(Debug)]
pub(crate) struct File(OwnedFd);

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl File {
    pub(super) fn new(fd: OwnedFd) -> File {
        File(fd)
    }

    /// Keeps hold of what the user named by a path, for nothing but its `stat`.
    pub(crate) fn hold_path(path: &std::path::Path) -> Option<(File, Stat)> {
        let flags = fs::OFlags::PATH | fs::OFlags::CLOEXEC;
        let file = File(fs::openat(fs::CWD, path, flags, fs::Mode::empty()).ok()?);
        let stat = file.stat().ok()?;
        Some((file, stat))
    }

    pub(crate) fn stat(&self) -> Result<Stat, Errno> {
        fs::statx(&self.0, c"", AtFlags::EMPTY_PATH, Stat::MASK)
            .map(|stat| Stat::from(&stat))
            .map_err(refused)
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
                // Only the end of a file is not at the end of a block.
                Ok(count) if !(at + count as u64).is_multiple_of(BLOCK) => break,
                Ok(_) | Err(io::Errno::INTR) => {}
                Err(errno) => return Err(refused(errno)),
            }
        }
        out.truncate(start + size);
        Ok(())
    }

    /// Writes all of `data`, or as much as there is room for.
    pub(crate) fn write(&self, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        fault::step()?;
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
        fault::step()?;
        fs::ftruncate(&self.0, size).map_err(refused)
    }

    /// `fallocate(2)` with its `mode` bits as they are.
    pub(crate) fn allocate(&self, mode: u32, offset: u64, length: u64) -> Result<(), Errno> {
        fault::step()?;
        let mode = FallocateFlags::from_bits_retain(mode);
        fs::fallocate(&self.0, mode, offset, length).map_err(refused)
    }

    /// Sets the permission bits.
    pub(crate) fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        fault::step()?;
        fs::fchmod(&self.0, permissions(mode)).map_err(refused)
    }

    pub(crate) fn set_owner(&self, uid: u32, gid: u32) -> Result<(), Errno> {
        fault::step()?;
        fs::fchown(&self.0, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(refused)
    }

    pub(crate) fn set_times(&self, accessed: NewTime, modified: NewTime) -> Result<(), Errno> {
        fault::step()?;
        fs::futimens(&self.0, &timestamps(accessed, modified)).map_err(refused)
    }

    pub(crate) fn sync(&self, data_only: bool) -> Result<(), Errno> {
        fault::step()?;
        let done = if data_only { fs::fdatasync(&self.0) } else { fs::fsync(&self.0) };
        done.map_err(refused)
    }

    /// The next data (or hole) from `offset` on.
    pub(crate) fn seek(&self, offset: u64, hole: bool) -> Result<u64, Errno> {
        let from = if hole { SeekFrom::Hole(offset) } else { SeekFrom::Data(offset) };
        fs::seek(&self.0, from).map_err(refused)
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
            self.copy_piece(to, data, hole)?;
            offset = hole;
        }
        to.truncate(size)
    }

    fn copy_piece(&self, to: &File, start: u64, end: u64) -> Result<(), Errno> {
        let mut at = start;
        while at < end {
            match self.copy_range(at, to, at, end - at) {
                // The parent cut the file meanwhile: what is left is a hole.
                Ok(0) => return Ok(()),
                Ok(count) => at += count,
                Err(Errno::ENOSPC) => return Err(Errno::ENOSPC),
                Err(_) => return self.copy_bytes(to, at, end),
            }
        }
        Ok(())
    }

    /// Copies at most `length` bytes, shared with the source where the file system can.
    pub(crate) fn copy_range(
        &self,
        mut from: u64,
        to: &File,
        mut at: u64,
        length: u64,
    ) -> Result<u64, Errno> {
        fault::step()?;
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(1 << 30);
        loop {
            match fs::copy_file_range(&self.0, Some(&mut from), &to.0, Some(&mut at), length) {
                Err(io::Errno::INTR) => {}
                copied => return copied.map(|count| count as u64).map_err(refused),
            }
        }
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
