//! Requests: parsed by the server with every length checked, encoded by the client.

mod decode;
mod encode;
mod flags;
mod opcode;

use crate::record::{Handle, Lock, NodeId, Time};
use crate::{Errno, Name, Target, XattrName};

pub use decode::is_forget;
pub use encode::encode_batch_forget;
pub use flags::{open_flags, rename_flags, xattr_flags};

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
    /// Make a file of any type but directory and symbolic link. Reply: [`crate::Entry`].
    MkNod {
        /// The new file.
        name: Name<'a>,
        /// Type and permission bits, `umask` already taken off.
        mode: u32,
        /// The device number of a device node, as [`crate::Attr::device`].
        device: u32,
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
        /// Take the set-user-ID and set-group-ID bits off if the file is truncated.
        kill_set_id: bool,
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
        /// Take the set-user-ID and set-group-ID bits off if the file is truncated.
        kill_set_id: bool,
    },
    /// Make a file without a name in a directory and open it. Reply: [`crate::Entry`] and
    /// [`crate::Opened`].
    TmpFile {
        /// `O_*`, see [`open_flags`].
        flags: u32,
        /// Type and permission bits, `umask` already taken off.
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
        /// Take the set-user-ID and set-group-ID bits off, as the caller has no right to keep them.
        kill_set_id: bool,
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
    /// Set an extended attribute. Reply: empty.
    SetXattr {
        /// The attribute.
        name: XattrName<'a>,
        /// At most [`MAX_XATTR_VALUE`] bytes.
        value: &'a [u8],
        /// See [`xattr_flags`].
        flags: u32,
    },
    /// Read an extended attribute. Reply: the value; [`crate::reply::xattr_size`] if `size` is 0.
    GetXattr {
        /// The attribute.
        name: XattrName<'a>,
        /// At most so many bytes; a longer value is ERANGE.
        size: u32,
    },
    /// List the extended attributes. Reply: their names, a NUL after each;
    /// [`crate::reply::xattr_size`] if `size` is 0.
    ListXattr {
        /// At most so many bytes; a longer list is ERANGE.
        size: u32,
    },
    /// Remove an extended attribute. Reply: empty.
    RemoveXattr {
        /// The attribute.
        name: XattrName<'a>,
    },
    /// Allocate, punch or zero a part of a file, as `fallocate(2)`. Reply: empty.
    Fallocate {
        /// The open file.
        handle: Handle,
        /// First byte.
        offset: u64,
        /// So many bytes.
        length: u64,
        /// `FALLOC_FL_*`.
        mode: u32,
    },
    /// Copy from one open file, of [`Header::node`], to another. Reply: how many bytes, see
    /// [`crate::reply::written`].
    CopyFileRange {
        /// The open file to read.
        from: Handle,
        /// Its first byte.
        from_offset: u64,
        /// The file to write.
        to_node: NodeId,
        /// The same file, open.
        to: Handle,
        /// Where the first byte goes.
        to_offset: u64,
        /// At most so many bytes.
        length: u64,
    },
    /// Reply: [`crate::reply::StatxReply`].
    Statx {
        /// The open file to ask about, if the client has one.
        handle: Option<Handle>,
        /// `STATX_*`: what the client wants to know.
        mask: u32,
    },
    /// Reply: empty, when the whole file system is on disk.
    SyncFs,
    /// Which lock would be in the way of `lock`. Reply: [`Lock`], [`Lock::NONE`] if no one is.
    GetLock {
        /// The open file.
        handle: Handle,
        /// Who locks; unlike a process ID it is never ambiguous.
        owner: u64,
        /// The lock that is wished for.
        lock: Lock,
    },
    /// Set or take away a lock. Reply: empty.
    SetLock {
        /// The open file.
        handle: Handle,
        /// Who locks; unlike a process ID it is never ambiguous.
        owner: u64,
        /// The lock; its kind is [`Lock::NONE`] to take it away.
        lock: Lock,
        /// SETLKW: wait until no lock is in the way; else that is EAGAIN.
        wait: bool,
    },
    /// The program no longer waits for a request. No reply.
    Interrupt {
        /// That request's [`Header::unique`].
        unique: u64,
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
    /// New time of the last change of the attributes, from a client that writes back late.
    pub changed: Option<Time>,
    /// Take the set-user-ID and set-group-ID bits off.
    ///
    /// With a new size, as the caller has no right to keep them.
    pub kill_set_id: bool,
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

/// Longest value of an extended attribute, bytes (`XATTR_SIZE_MAX`).
pub const MAX_XATTR_VALUE: usize = 65_536;

/// Bytes of `struct fuse_in_header`.
pub const HEADER_SIZE: usize = 40;

#[cfg(test)]
mod tests;
