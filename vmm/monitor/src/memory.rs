//! Guest memory: one region at address 0 on a memory file that cannot shrink.
//!
//! The switch maps the same file; it accepts only one that can never cause it a
//! bus error, whatever this process does.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

/// Why there is no guest memory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryFailure {
    /// The file.
    #[error("no memory file of {0} bytes for the guest; is there that much memory?")]
    Create(u64, #[source] std::io::Error),
    /// The mapping.
    #[error("guest memory of {0} bytes cannot be mapped; take less in [space] memory")]
    Map(u64, #[source] vm_memory::mmap::FromRangesError),
}

/// Zeroed memory of `bytes`; a page takes memory of the host once it is touched.
pub(crate) fn create(bytes: u64) -> Result<GuestMemoryMmap, MemoryFailure> {
    let file = sys::memfd::sealed("portspace-guest", bytes)
        .map_err(|source| MemoryFailure::Create(bytes, source))?;
    let file = FileOffset::new(file.into(), 0);
    GuestMemoryMmap::from_ranges_with_files([(GuestAddress(0), bytes as usize, Some(file))])
        .map_err(|source| MemoryFailure::Map(bytes, source))
}

/// KiB of guest memory that were ever touched.
pub(crate) fn touched_kib(memory: &GuestMemoryMmap) -> u64 {
    memory
        .iter()
        .filter_map(|region| region.file_offset())
        .filter_map(|offset| rustix::fs::fstat(offset.file().as_fd()).ok())
        .map(|status| status.st_blocks as u64 / 2)
        .sum()
}

/// This process's own memory, asked of /proc from inside the jail too.
#[derive(Debug)]
pub(crate) struct OwnMemory(Option<OwnedFd>);

impl OwnMemory {
    pub(crate) fn open() -> OwnMemory {
        OwnMemory(open("/proc/self/status", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok())
    }

    /// KiB resident without the guest's, which are of a shared file: its own and its binary's.
    ///
    /// Zero where /proc is not mounted.
    pub(crate) fn kib(&self) -> u64 {
        let mut buffer = [0; 4096];
        let length = match &self.0 {
            Some(file) => rustix::io::pread(file, &mut buffer, 0).unwrap_or(0),
            None => 0,
        };
        let status = String::from_utf8_lossy(&buffer[..length]);
        ["RssAnon:", "RssFile:"]
            .iter()
            .filter_map(|name| status.lines().find_map(|line| line.strip_prefix(name)))
            .filter_map(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .sum()
    }
}
