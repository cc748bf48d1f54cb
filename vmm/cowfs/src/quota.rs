//! What the upper may hold.

use crate::host::{Directory, File};
use fuse::{Errno, StatFs};
use std::sync::atomic::{AtomicI64, Ordering};

/// A bound on the bytes of the upper and of work, as the host's blocks count them.
///
/// What several threads write at once is counted when each is done: together they may exceed
/// the bound by a request each.
#[derive(Debug)]
pub(crate) struct Quota {
    limit: u64,
    used: AtomicI64,
}

impl Quota {
    /// Counts what `roots` hold already.
    pub(crate) fn new(limit: u64, roots: &[&Directory]) -> Result<Quota, Errno> {
        let mut used = 0;
        for root in roots {
            used += usage(root)?;
        }
        Ok(Quota { limit, used: AtomicI64::new(used as i64) })
    }

    fn left(&self) -> u64 {
        let used = u64::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(0);
        self.limit.saturating_sub(used)
    }

    /// Refuses with ENOSPC what would need more than is left; a name needs a block.
    pub(crate) fn admit(&self, bytes: u64) -> Result<(), Errno> {
        if bytes.max(4096) > self.left() { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    fn count<T>(&self, file: &File, change: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        let before = file.stat()?.blocks;
        let changed = change();
        let after = file.stat()?.blocks;
        self.used.fetch_add((after as i64 - before as i64) * 512, Ordering::Relaxed);
        changed
    }

    pub(crate) fn write(&self, file: &File, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        self.count(file, || {
            let room = self.left();
            if data.len() as u64 <= room || is_allocated(file, offset, data.len() as u64) {
                return file.write(offset, data);
            }
            match usize::try_from(room).unwrap_or(0) / 4096 * 4096 {
                0 => Err(Errno::ENOSPC),
                room => file.write(offset, &data[..room]),
            }
        })
    }

    pub(crate) fn truncate(&self, file: &File, size: u64) -> Result<(), Errno> {
        self.count(file, || file.truncate(size))
    }

    pub(crate) fn allocate(
        &self,
        file: &File,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> Result<(), Errno> {
        const PUNCH_HOLE: u32 = 2;
        self.count(file, || {
            if mode & PUNCH_HOLE == 0 && length > self.left() {
                return Err(Errno::ENOSPC);
            }
            file.allocate(mode, offset, length)
        })
    }

    /// Some bytes are free again.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes as i64, Ordering::Relaxed);
    }

    /// Some bytes were taken.
    pub(crate) fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes as i64, Ordering::Relaxed);
    }

    /// Shows the bound as the size of the file system, if the host's is not smaller.
    pub(crate) fn narrow(&self, stat: &mut StatFs) {
        let unit = u64::from(stat.fragment_size.max(1));
        let left = self.left() / unit;
        stat.blocks = stat.blocks.min(self.limit / unit);
        stat.blocks_free = stat.blocks_free.min(left);
        stat.blocks_available = stat.blocks_available.min(left);
    }
}

/// Whether every byte of the range has its block already.
fn is_allocated(file: &File, offset: u64, length: u64) -> bool {
    match file.seek(offset, true) {
        Ok(hole) => hole >= offset.saturating_add(length),
        Err(_) => false,
    }
}

/// The bytes of a directory and all below it.
fn usage(root: &Directory) -> Result<u64, Errno> {
    let mut bytes = 0;
    let mut directories = Vec::new();
    let mut names = Vec::new();
    root.list(|name, _, _| names.push(name.as_bytes().to_vec()))?;
    for name in names {
        let name = fuse::Name::new(&name)?;
        let Some(stat) = root.stat(name)? else { continue };
        bytes += stat.blocks * 512
            / u64::from(stat.links.max(1)).min(match stat.is_directory() {
                true => 1,
                false => u64::MAX,
            });
        if stat.is_directory() {
            directories.push(root.directory(name, true)?);
        }
    }
    for directory in directories {
        bytes += usage(&directory)?;
    }
    Ok(bytes)
}
