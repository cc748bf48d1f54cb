//! What the upper may hold.

use crate::host::{Directory, File, Stat};
use fuse::{Errno, Name, StatFs};
use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What a file costs beside its bytes, so that nobody makes empty ones without end.
const FILE: u64 = 512;
/// What a directory costs, however many names it has.
const DIRECTORY: u64 = 4096;

/// A bound on what the upper and work hold: the blocks of their files as the host counts them,
/// 512 bytes for each file and 4096 for each directory. Whiteouts cost nothing: removing is
/// always possible.
#[derive(Debug)]
pub(crate) struct Quota {
    limit: u64,
    used: AtomicI64,
    /// Held while bytes of a file change, so that each change is counted once.
    changing: Mutex<()>,
}

impl Quota {
    /// Counts what `roots` hold already; the roots themselves are free.
    pub(crate) fn new(limit: u64, roots: &[&Directory]) -> Result<Quota, Errno> {
        let mut seen = HashSet::new();
        let mut used = 0;
        for root in roots {
            used += usage(root, &mut seen)?;
        }
        Ok(Quota { limit, used: AtomicI64::new(used as i64), changing: Mutex::new(()) })
    }

    fn left(&self) -> u64 {
        let used = u64::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(0);
        self.limit.saturating_sub(used)
    }

    /// Refuses with ENOSPC what would need more than is left; a name needs a block.
    pub(crate) fn admit(&self, bytes: u64) -> Result<(), Errno> {
        if bytes.max(4096) > self.left() { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    /// Counts what a change makes of a file of the upper; directories cost the same always.
    pub(crate) fn count<T>(
        &self,
        file: &File,
        change: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = file.stat()?;
        if before.is_directory() {
            return change();
        }
        let before = before.blocks;
        let changed = change();
        let after = file.stat()?.blocks;
        self.used.fetch_add((after as i64 - before as i64) * 512, Ordering::Relaxed);
        changed
    }

    /// As much of `length` bytes as there is room for; none is refused with ENOSPC.
    fn room(&self, file: &File, offset: u64, length: u64) -> Result<u64, Errno> {
        let left = self.left();
        // The first and the last block may be others than those the bytes fill.
        if length.saturating_add(8192) <= left || is_allocated(file, offset, length) {
            return Ok(length);
        }
        // Whole blocks, counted from the start of the first one.
        let room = (left / 4096 * 4096).saturating_sub(offset % 4096).min(length);
        if room == 0 { Err(Errno::ENOSPC) } else { Ok(room) }
    }

    pub(crate) fn write(&self, file: &File, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        self.count(file, || {
            let room = self.room(file, offset, data.len() as u64)?;
            file.write(offset, &data[..room as usize])
        })
    }

    pub(crate) fn copy_range(
        &self,
        from: &File,
        from_offset: u64,
        to: &File,
        offset: u64,
        length: u64,
    ) -> Result<u64, Errno> {
        self.count(to, || {
            let end = from.stat()?.size.saturating_sub(from_offset);
            match length.min(end) {
                0 => Ok(0),
                length => {
                    let room = self.room(to, offset, length)?;
                    from.copy_range(from_offset, to, offset, room)
                }
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
            if mode & PUNCH_HOLE == 0 && self.room(file, offset, length)? < length {
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

    /// So much is used, whatever was before.
    pub(crate) fn restart(&self, bytes: u64) {
        self.used.store(bytes as i64, Ordering::Relaxed);
    }

    /// Shows the bound as the size of the file system, if the host's is not smaller.
    pub(crate) fn narrow(&self, stat: &mut StatFs) {
        let unit = u64::from(stat.fragment_size.max(1));
        let left = self.left() / unit;
        stat.blocks = stat.blocks.min(self.limit / unit);
        stat.blocks_free = stat.blocks_free.min(left);
        stat.blocks_available = stat.blocks_available.min(left);
    }

    #[cfg(test)]
    pub(crate) fn used(&self) -> i64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// Whether every byte of the range has its block already.
fn is_allocated(file: &File, offset: u64, length: u64) -> bool {
    match file.seek(offset, true) {
        Ok(hole) => hole >= offset.saturating_add(length),
        Err(_) => false,
    }
}

/// What a file costs.
fn cost(stat: &Stat) -> u64 {
    if stat.is_whiteout() {
        0
    } else if stat.is_directory() {
        DIRECTORY
    } else {
        stat.blocks * 512 + FILE
    }
}

/// What is free again once `name` is gone: nothing while the file has another name.
pub(crate) fn alone(directory: &Directory, name: Name<'_>) -> u64 {
    match directory.stat(name) {
        Ok(Some(stat)) if stat.is_directory() || stat.links < 2 => cost(&stat),
        _ => 0,
    }
}

/// What all in a directory costs; files of several names, which are `seen`, once.
pub(crate) fn usage(root: &Directory, seen: &mut HashSet<(u64, u64)>) -> Result<u64, Errno> {
    let mut bytes = 0;
    let mut names = Vec::new();
    root.list(|name, _, _| names.push(name.as_bytes().to_vec()))?;
    for name in names {
        let name = Name::new(&name)?;
        let Some(stat) = root.stat(name)? else { continue };
        if stat.links < 2 || stat.is_directory() || seen.insert((stat.device, stat.inode)) {
            bytes += cost(&stat);
        }
        if stat.is_directory() {
            bytes += usage(&root.directory(name, true)?, seen)?;
        }
    }
    Ok(bytes)
}
