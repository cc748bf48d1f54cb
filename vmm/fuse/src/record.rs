//! The records requests and replies share: attributes, entries, opened files, file systems.

use crate::bytes::{Fields, Put};
use alloc::vec::Vec;

/// The number the server gave a file at lookup; [`NodeId::ROOT`] is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root directory (`FUSE_ROOT_ID`).
    pub const ROOT: NodeId = NodeId(1);
}

/// The number the server gave an open file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Handle(pub u64);

/// A time stamp since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Time {
    /// Seconds; negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000 in anything the server accepts.
    pub nanoseconds: u32,
}

/// `S_IFMT`: the bits of a mode that hold the file's type.
pub const TYPE_MASK: u32 = 0o170_000;
/// `S_IFDIR`.
pub const TYPE_DIRECTORY: u32 = 0o040_000;
/// `S_IFREG`.
pub const TYPE_REGULAR: u32 = 0o100_000;
/// `S_IFLNK`.
pub const TYPE_SYMLINK: u32 = 0o120_000;
/// `S_IFCHR`.
pub const TYPE_CHARACTER: u32 = 0o020_000;
/// `S_IFBLK`.
pub const TYPE_BLOCK: u32 = 0o060_000;
/// `S_IFIFO`.
pub const TYPE_FIFO: u32 = 0o010_000;
/// `S_IFSOCK`.
pub const TYPE_SOCKET: u32 = 0o140_000;

/// `struct fuse_attr`: what `stat` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attr {
    /// Inode number as programs see it.
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Blocks of 512 bytes.
    pub blocks: u64,
    /// Last read.
    pub accessed: Time,
    /// Last write.
    pub modified: Time,
    /// Last change of the attributes.
    pub changed: Time,
    /// Type and permission bits.
    pub mode: u32,
    /// Hard links.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node, as Linux's `new_encode_dev` makes it.
    pub device: u32,
    /// Preferred bytes per read and write.
    pub block_size: u32,
    /// `FUSE_ATTR_*`.
    pub flags: u32,
}

impl Attr {
    /// Bytes on the wire.
    pub const SIZE: usize = 88;

    /// The type bits of the mode, one of the `TYPE_*`.
    pub const fn file_type(&self) -> u32 {
        self.mode & TYPE_MASK
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u64(self.inode);
        out.put_u64(self.size);
        out.put_u64(self.blocks);
        for time in [self.accessed, self.modified, self.changed] {
            out.put_u64(time.seconds as u64);
        }
        for time in [self.accessed, self.modified, self.changed] {
            out.put_u32(time.nanoseconds);
        }
        let rest = [self.mode, self.links, self.uid, self.gid, self.device];
        rest.into_iter().chain([self.block_size, self.flags]).for_each(|word| out.put_u32(word));
    }

    pub(crate) fn take(fields: &mut Fields<'_>) -> Option<Attr> {
        let (inode, size, blocks) = (fields.u64()?, fields.u64()?, fields.u64()?);
        let seconds = [fields.u64()? as i64, fields.u64()? as i64, fields.u64()? as i64];
        let mut times = seconds.map(|seconds| Time { seconds, nanoseconds: 0 });
        for time in &mut times {
            time.nanoseconds = fields.u32()?;
        }
        let [accessed, modified, changed] = times;
        Some(Attr {
            inode,
            size,
            blocks,
            accessed,
            modified,
            changed,
            mode: fields.u32()?,
            links: fields.u32()?,
            uid: fields.u32()?,
            gid: fields.u32()?,
            device: fields.u32()?,
            block_size: fields.u32()?,
            flags: fields.u32()?,
        })
    }
}

/// `struct fuse_entry_out`: a name that was found or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The file; the client owes one forgetting for each entry it receives.
    pub node: NodeId,
    /// Tells two files apart that had the same node at different times.
    pub generation: u64,
    /// How long the client may believe that the name is this file, nanoseconds.
    pub name_valid_ns: u64,
    /// How long the client may believe `attr`, nanoseconds.
    pub attr_valid_ns: u64,
    /// The file's attributes.
    pub attr: Attr,
}

const NS_PER_S: u64 = 1_000_000_000;

impl Entry {
    /// Bytes on the wire.
    pub const SIZE: usize = 40 + Attr::SIZE;

    /// That there is no such name, and how long the client may believe it, nanoseconds.
    pub fn absent(name_valid_ns: u64) -> Entry {
        let attr = Attr::default();
        Entry { node: NodeId(0), generation: 0, name_valid_ns, attr_valid_ns: 0, attr }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u64(self.node.0);
        out.put_u64(self.generation);
        out.put_u64(self.name_valid_ns / NS_PER_S);
        out.put_u64(self.attr_valid_ns / NS_PER_S);
        out.put_u32((self.name_valid_ns % NS_PER_S) as u32);
        out.put_u32((self.attr_valid_ns % NS_PER_S) as u32);
        self.attr.put(out);
    }

    pub(crate) fn take(fields: &mut Fields<'_>) -> Option<Entry> {
        let (node, generation) = (NodeId(fields.u64()?), fields.u64()?);
        let (name_s, attr_s) = (fields.u64()?, fields.u64()?);
        let (name_ns, attr_ns) = (fields.u32()?, fields.u32()?);
        Some(Entry {
            node,
            generation,
            name_valid_ns: join_ns(name_s, name_ns),
            attr_valid_ns: join_ns(attr_s, attr_ns),
            attr: Attr::take(fields)?,
        })
    }
}

pub(crate) fn join_ns(seconds: u64, nanoseconds: u32) -> u64 {
    seconds.saturating_mul(NS_PER_S).saturating_add(nanoseconds.into())
}

pub(crate) fn split_ns(ns: u64) -> (u64, u32) {
    (ns / NS_PER_S, (ns % NS_PER_S) as u32)
}

/// `struct fuse_open_out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The open file; the client owes one release.
    pub handle: Handle,
    /// `FOPEN_*`.
    pub flags: u32,
    /// What [`Opened::PASSTHROUGH`] reads and writes: the number that
    /// `FUSE_DEV_IOC_BACKING_OPEN` gave; 0 if none.
    pub backing: i32,
}

impl Opened {
    /// Bytes on the wire.
    pub const SIZE: usize = 16;

    /// `FOPEN_DIRECT_IO`: the client caches nothing of what is read and written through this.
    pub const DIRECT_IO: u32 = 1 << 0;
    /// `FOPEN_KEEP_CACHE`: pages the client holds of this file are still right.
    pub const KEEP_CACHE: u32 = 1 << 1;
    /// `FOPEN_CACHE_DIR`: the client may cache this directory's listing.
    pub const CACHE_DIRECTORY: u32 = 1 << 3;
    /// `FOPEN_NOFLUSH`: closing need not write back, unless the session writes back late.
    pub const NO_FLUSH: u32 = 1 << 5;
    /// `FOPEN_PARALLEL_DIRECT_WRITES`: direct writes to this file may overlap in time.
    pub const PARALLEL_DIRECT_WRITES: u32 = 1 << 6;
    /// `FOPEN_PASSTHROUGH`: the client reads and writes [`Opened::backing`] without asking.
    pub const PASSTHROUGH: u32 = 1 << 7;

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u64(self.handle.0);
        out.put_u32(self.flags);
        out.put_u32(self.backing as u32);
    }

    pub(crate) fn take(fields: &mut Fields<'_>) -> Option<Opened> {
        let (handle, flags) = (Handle(fields.u64()?), fields.u32()?);
        Some(Opened { handle, flags, backing: fields.i32()? })
    }
}

/// `struct fuse_file_lock`: a lock of `fcntl(2)` on a range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// First byte.
    pub start: u64,
    /// Last byte; `i64::MAX` for the end of the file, wherever it is.
    pub end: u64,
    /// [`Lock::SHARED`], [`Lock::EXCLUSIVE`] or [`Lock::NONE`].
    pub kind: u32,
    /// The process that holds it.
    pub pid: u32,
}

impl Lock {
    /// Bytes on the wire.
    pub const SIZE: usize = 24;

    /// `F_RDLCK`.
    pub const SHARED: u32 = 0;
    /// `F_WRLCK`.
    pub const EXCLUSIVE: u32 = 1;
    /// `F_UNLCK`.
    pub const NONE: u32 = 2;

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        out.put_u64(self.start);
        out.put_u64(self.end);
        out.put_u32(self.kind);
        out.put_u32(self.pid);
    }

    pub(crate) fn take(fields: &mut Fields<'_>) -> Option<Lock> {
        Some(Lock {
            start: fields.u64()?,
            end: fields.u64()?,
            kind: fields.u32()?,
            pid: fields.u32()?,
        })
    }
}

/// `struct fuse_kstatfs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatFs {
    /// Size of the file system, in units of `fragment_size`.
    pub blocks: u64,
    /// Free, in units of `fragment_size`.
    pub blocks_free: u64,
    /// Free for ordinary users, in units of `fragment_size`.
    pub blocks_available: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Preferred bytes per read and write.
    pub block_size: u32,
    /// Longest name, bytes.
    pub name_length: u32,
    /// The unit of the block counts, bytes.
    pub fragment_size: u32,
}

impl StatFs {
    /// Bytes on the wire.
    pub const SIZE: usize = 80;

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let counts = [self.blocks, self.blocks_free, self.blocks_available];
        counts.into_iter().chain([self.files, self.files_free]).for_each(|word| out.put_u64(word));
        let sizes = [self.block_size, self.name_length, self.fragment_size];
        sizes.into_iter().for_each(|word| out.put_u32(word));
        out.put_zeros(28);
    }

    pub(crate) fn take(fields: &mut Fields<'_>) -> Option<StatFs> {
        let stat = StatFs {
            blocks: fields.u64()?,
            blocks_free: fields.u64()?,
            blocks_available: fields.u64()?,
            files: fields.u64()?,
            files_free: fields.u64()?,
            block_size: fields.u32()?,
            name_length: fields.u32()?,
            fragment_size: fields.u32()?,
        };
        fields.bytes(28)?;
        Some(stat)
    }
}
