//! Requests: parsed by the server with every length checked, encoded by the client.

mod decode;
mod encode;

use crate::record::{Handle, NodeId, Time};
use crate::{Errno, Name, Target};

pub use encode::encode_batch_forget;

/// `struct fuse_in_header` without its lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Chosen by the client; the reply carries it.
    pub unique: u64,
    /// The file the operation is about.
    pub node: NodeId,
    /// The calling program's user.
    pub uid: u32,
    /// The calling program's group.
    pub gid: u32,
    /// The calling program.
    pub pid: u32,
}

/// A well-formed request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request<'a> {
    /// Who asks, and about what.
    pub header: Header,
    /// What is asked.
    pub operation: Operation<'a>,
}

/// Why bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// There is nobody to reply to: no header, or an operation that has no reply.
    Silently,
    /// The header is well-formed, the rest is not.
    With {
        /// For the reply.
        unique: u64,
        /// For the reply.
        errno: Errno,
    },
}

/// What is asked. The file is [`Header::node`] unless a field says otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation<'a> {
    /// Agree on a version; the first request. Reply: [`crate::session::InitOut`].
    Init(InitIn),
    /// The last request. Reply: empty.
    Destroy,
    /// Find `name` in a directory. Reply: [`crate::Entry`].
    Lookup {
        /// What to find.
        name: Name<'a>,
    },
    /// Give back `lookups` entries of the file. No reply.
    Forget {
        /// How many entries of this node are forgotten.
        lookups: u64,
    },
    /// Give back entries of several files. No reply.
    BatchForget(Forgets<'a>),
    /// Reply: [`crate::reply::AttrReply`].
    GetAttr {
        /// The open file to ask about, if the client has one.
        handle: Option<Handle>,
    },
    /// Change what is `Some`. Reply: [`crate::reply::AttrReply`].
    SetAttr(SetAttr),
    /// Reply: the target's bytes.
    ReadLink,
    /// Make a symbolic link in a directory. Reply: [`crate::Entry`].
    Symlink {
        /// The link's name.
        name: Name<'a>,
        /// What it points at.
        target: Target<'a>,
    },
    /// Make a directory. Reply: [`crate::Entry`].
    MkDir {
        /// The new directory.
        name: Name<'a>,
        /// Permission bits, `umask` already taken off.
        mode: u32,
        /// The calling program's umask.
        umask: u32,
    },
    /// Remove a name of a file that is no directory. Reply: empty.
    Unlink {
        /// What to remove.
        name: Name<'a>,
    },
    /// Remove an empty directory. Reply: empty.
    RmDir {
        /// What to remove.
        name: Name<'a>,
    },
    /// RENAME or RENAME2 from a directory. Reply: empty.
    Rename {
        /// The old name, in [`Header::node`].
        name: Name<'a>,
        /// The directory of the new name.
        new_directory: NodeId,
        /// The new name.
        new_name: Name<'a>,
        /// `RENAME_*` of `renameat2(2)`; 0 is plain RENAME.
        flags: u32,
    },
    /// Make a further name, in a directory. Reply: [`crate::Entry`].
    Link {
        /// The file that gets the name.
        target: NodeId,
        /// The new name, in [`Header::node`].
        name: Name<'a>,
    },
    /// Reply: [`crate::Opened`].
    Open {
        /// `O_*`, see [`open_flags`].
        flags: u32,
    },
    /// Make a file and open it. Reply: [`crate::Entry`] and [`crate::Opened`].
    Create {
        /// The new file's name.
        name: Name<'a>,
        /// `O_*`, see [`open_flags`].
        flags: u32,
        /// Permission bits, `umask` already taken off.
        mode: u32,
        /// The calling program's umask.
        umask: u32,
    },
    /// Reply: the bytes, fewer than asked only at the end of the file.
    Read {
        /// The open file.
        handle: Handle,
        /// First byte.
        offset: u64,
        /// At most so many bytes.
        size: u32,
    },
    /// Reply: how many bytes, see [`crate::reply::written`].
    Write {
        /// The open file.
        handle: Handle,
        /// Where the first byte goes.
        offset: u64,
        /// The bytes.
        data: &'a [u8],
    },
    /// A descriptor of the open file was closed. Reply: empty.
    Flush {
        /// The open file.
        handle: Handle,
    },
    /// The last descriptor of the open file was closed. Reply: empty.
    Release {
        /// The open file.
        handle: Handle,
    },
    /// Reply: empty, when it is on disk.
    FSync {
        /// The open file.
        handle: Handle,
        /// Only what is needed to read the bytes back.
        data_only: bool,
    },
    /// Reply: [`crate::Opened`].
    OpenDir {
        /// `O_*`, see [`open_flags`].
        flags: u32,
    },
    /// Reply: [`crate::dirent::listing`]; empty at the end.
    ReadDir(ReadDir),
    /// Reply: [`crate::dirent::listing_plus`]; empty at the end.
    ReadDirPlus(ReadDir),
    /// Reply: empty.
    ReleaseDir {
        /// The open directory.
        handle: Handle,
    },
    /// Reply: empty, when it is on disk.
    FSyncDir {
        /// The open directory.
        handle: Handle,
        /// Only what is needed to find the names again.
        data_only: bool,
    },
    /// Reply: [`crate::StatFs`].
    StatFs,
    /// Reply: empty if allowed.
    Access {
        /// `R_OK`, `W_OK`, `X_OK` of `access(2)`.
        mask: u32,
    },
    /// Find data or a hole. Reply: the offset, see [`crate::reply::offset`].
    LSeek {
        /// The open file.
        handle: Handle,
        /// Where to start.
        offset: u64,
        /// `SEEK_DATA` (3) or `SEEK_HOLE` (4).
        whence: u32,
    },
    /// An operation this crate does not know. Reply: ENOSYS.
    Other {
        /// `enum fuse_opcode`.
        opcode: u32,
    },
}

/// `struct fuse_init_in`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitIn {
    /// 7.
    pub major: u32,
    /// The client's minor version.
    pub minor: u32,
    /// Bytes the client would read ahead.
    pub max_readahead: u32,
    /// `FUSE_*` capabilities: `flags`, and `flags2` in the upper half.
    pub flags: u64,
}

/// `struct fuse_setattr_in`: what is `Some` is changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// The open file through which to change, if the client has one.
    pub handle: Option<Handle>,
    /// New size, bytes.
    pub size: Option<u64>,
    /// New permission bits.
    pub mode: Option<u32>,
    /// New owner.
    pub uid: Option<u32>,
    /// New group.
    pub gid: Option<u32>,
    /// New time of the last read.
    pub accessed: Option<SetTime>,
    /// New time of the last write.
    pub modified: Option<SetTime>,
}

/// A time to be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The server's present time.
    Now,
    /// This one; its nanoseconds are below 1,000,000,000.
    At(Time),
}

/// `struct fuse_read_in` for directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadDir {
    /// The open directory.
    pub handle: Handle,
    /// 0, or a [`crate::dirent::Dirent::next_offset`].
    pub offset: u64,
    /// At most so many bytes.
    pub size: u32,
}

/// The list of a BATCH_FORGET: 16 bytes for each file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgets<'a>(&'a [u8]);

impl<'a> Forgets<'a> {
    /// Each file, and how many entries of it are given back.
    pub fn iter(self) -> impl Iterator<Item = (NodeId, u64)> + 'a {
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, &b| sum << 8 | u64::from(b));
        self.0.chunks_exact(16).map(move |one| (NodeId(word(&one[..8])), word(&one[8..])))
    }
}

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

/// `enum fuse_opcode`, as far as it is spoken here.
pub(crate) mod opcode {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const FLUSH: u32 = 25;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const FSYNCDIR: u32 = 30;
    pub(crate) const ACCESS: u32 = 34;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const RENAME2: u32 = 45;
    pub(crate) const LSEEK: u32 = 46;
}

/// Bytes of `struct fuse_in_header`.
pub const HEADER_SIZE: usize = 40;

/// Bits of `struct fuse_setattr_in`'s `valid`.
mod valid {
    pub(super) const MODE: u32 = 1 << 0;
    pub(super) const UID: u32 = 1 << 1;
    pub(super) const GID: u32 = 1 << 2;
    pub(super) const SIZE: u32 = 1 << 3;
    pub(super) const ATIME: u32 = 1 << 4;
    pub(super) const MTIME: u32 = 1 << 5;
    pub(super) const HANDLE: u32 = 1 << 6;
    pub(super) const ATIME_NOW: u32 = 1 << 7;
    pub(super) const MTIME_NOW: u32 = 1 << 8;
}

#[cfg(test)]
mod tests;
