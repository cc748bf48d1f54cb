//! Memory files whose size is fixed, so that whoever maps one cannot be killed by SIGBUS.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, ftruncate,
};

/// A zeroed memory file of `bytes` that can neither shrink nor grow.
///
/// # Errors
/// Those of memfd_create(2), ftruncate(2) and fcntl(2).
pub fn sealed(name: &str, bytes: u64) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&fd, bytes)?;
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(fd)
}

/// The size in bytes of a memory file that cannot shrink, or `None` for anything else.
///
/// Huge pages are something else: a hole in them is a SIGBUS where none is free.
pub fn unshrinkable_bytes(fd: impl AsFd) -> Option<u64> {
    let seals = fcntl_get_seals(fd.as_fd()).ok()?;
    let size = fstat(fd.as_fd()).ok()?.st_size;
    let is_tmpfs = fstatfs(fd.as_fd()).ok()?.f_type == libc::TMPFS_MAGIC;
    (is_tmpfs && seals.contains(SealFlags::SHRINK)).then_some(size as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_sealed_against_shrinking_has_a_size_one_may_rely_on() {
        let fd = sealed("test", 8192).unwrap();
        assert_eq!(unshrinkable_bytes(&fd), Some(8192));
        assert!(ftruncate(&fd, 0).is_err());
        let open = rustix::fs::memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap();
        assert_eq!(unshrinkable_bytes(&open), None);
        assert_eq!(unshrinkable_bytes(std::io::stdin()), None);
    }
}
