//! The bits in requests: those of system calls for everybody, those of fuse.h for this module.

/// Bits of `open(2)`, as Linux numbers them on x86-64.
pub mod open_flags {
    /// The access mode's two bits.
    pub const ACCESS_MODE: u32 = 3;
    /// `O_RDONLY`.
    pub const READ_ONLY: u32 = 0;
    /// `O_WRONLY`.
    pub const WRITE_ONLY: u32 = 1;
    /// `O_RDWR`.
    pub const READ_WRITE: u32 = 2;
    /// `O_CREAT`.
    pub const CREATE: u32 = 0o100;
    /// `O_EXCL`.
    pub const EXCLUSIVE: u32 = 0o200;
    /// `O_TRUNC`.
    pub const TRUNCATE: u32 = 0o1000;
    /// `O_APPEND`.
    pub const APPEND: u32 = 0o2000;
    /// `O_DIRECTORY`.
    pub const DIRECTORY: u32 = 0o200_000;
}

/// Bits of `renameat2(2)`.
pub mod rename_flags {
    /// `RENAME_NOREPLACE`.
    pub const NO_REPLACE: u32 = 1;
    /// `RENAME_EXCHANGE`.
    pub const EXCHANGE: u32 = 2;
    /// `RENAME_WHITEOUT`.
    pub const WHITEOUT: u32 = 4;
}

/// Bits of `setxattr(2)`.
pub mod xattr_flags {
    /// `XATTR_CREATE`: fail with EEXIST if the attribute is there.
    pub const CREATE: u32 = 1;
    /// `XATTR_REPLACE`: fail with ENODATA if it is not.
    pub const REPLACE: u32 = 2;
}

/// Bits of `struct fuse_setattr_in`'s `valid`.
pub(super) mod valid {
    pub(in crate::request) const MODE: u32 = 1 << 0;
    pub(in crate::request) const UID: u32 = 1 << 1;
    pub(in crate::request) const GID: u32 = 1 << 2;
    pub(in crate::request) const SIZE: u32 = 1 << 3;
    pub(in crate::request) const ATIME: u32 = 1 << 4;
    pub(in crate::request) const MTIME: u32 = 1 << 5;
    pub(in crate::request) const HANDLE: u32 = 1 << 6;
    pub(in crate::request) const ATIME_NOW: u32 = 1 << 7;
    pub(in crate::request) const MTIME_NOW: u32 = 1 << 8;
    pub(in crate::request) const CTIME: u32 = 1 << 10;
    pub(in crate::request) const KILL_SET_ID: u32 = 1 << 11;
}

/// `FUSE_OPEN_KILL_SUIDGID` of `open_flags` in OPEN and CREATE.
pub(super) const OPEN_KILL_SET_ID: u32 = 1 << 0;

/// `FUSE_WRITE_KILL_SUIDGID` of `write_flags` in WRITE.
pub(super) const WRITE_KILL_SET_ID: u32 = 1 << 2;

/// `FUSE_GETATTR_FH` of `getattr_flags` in GETATTR and STATX.
pub(super) const HAS_HANDLE: u32 = 1 << 0;
