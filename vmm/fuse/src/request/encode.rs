//! From a request to bytes.

use super::flags::{HAS_HANDLE, OPEN_KILL_SET_ID, WRITE_KILL_SET_ID, valid};
use super::{HEADER_SIZE, Header, Operation, ReadDir, Request, SetAttr, SetTime, opcode};
use crate::bytes::Put;
use crate::record::{Handle, Lock, NodeId, Time};
use alloc::vec::Vec;

impl Request<'_> {
    /// Appends the request to `out`, header first.
    ///
    /// [`Operation::Other`] gets no body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        put_header(&self.header, self.operation.opcode(), out);
        self.operation.put(out);
        finish(start, out);
    }
}

/// Appends a BATCH_FORGET of `forgets` to `out`: each file, and how many entries are given back.
pub fn encode_batch_forget(unique: u64, forgets: &[(NodeId, u64)], out: &mut Vec<u8>) {
    let start = out.len();
    let header = Header { unique, node: NodeId(0), uid: 0, gid: 0, pid: 0 };
    put_header(&header, opcode::BATCH_FORGET, out);
    out.put_u32(forgets.len() as u32);
    out.put_u32(0);
    for (node, lookups) in forgets {
        out.put_u64(node.0);
        out.put_u64(*lookups);
    }
    finish(start, out);
}

fn put_header(header: &Header, opcode: u32, out: &mut Vec<u8>) {
    out.put_u32(0);
    out.put_u32(opcode);
    out.put_u64(header.unique);
    out.put_u64(header.node.0);
    out.put_u32(header.uid);
    out.put_u32(header.gid);
    out.put_u32(header.pid);
    out.put_u32(0);
}

fn finish(start: usize, out: &mut [u8]) {
    debug_assert!(out.len() - start >= HEADER_SIZE);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

impl Operation<'_> {
    /// `enum fuse_opcode`.
    pub fn opcode(&self) -> u32 {
        match self {
            Operation::Init(_) => opcode::INIT,
            Operation::Destroy => opcode::DESTROY,
            Operation::Lookup { .. } => opcode::LOOKUP,
            Operation::Forget { .. } => opcode::FORGET,
            Operation::BatchForget(_) => opcode::BATCH_FORGET,
            Operation::GetAttr { .. } => opcode::GETATTR,
            Operation::SetAttr(_) => opcode::SETATTR,
            Operation::ReadLink => opcode::READLINK,
            Operation::Symlink { .. } => opcode::SYMLINK,
            Operation::MkNod { .. } => opcode::MKNOD,
            Operation::MkDir { .. } => opcode::MKDIR,
            Operation::Unlink { .. } => opcode::UNLINK,
            Operation::RmDir { .. } => opcode::RMDIR,
            Operation::Rename { flags: 0, .. } => opcode::RENAME,
            Operation::Rename { .. } => opcode::RENAME2,
            Operation::Link { .. } => opcode::LINK,
            Operation::Open { .. } => opcode::OPEN,
            Operation::Create { .. } => opcode::CREATE,
            Operation::TmpFile { .. } => opcode::TMPFILE,
            Operation::Read { .. } => opcode::READ,
            Operation::Write { .. } => opcode::WRITE,
            Operation::Flush { .. } => opcode::FLUSH,
            Operation::Release { .. } => opcode::RELEASE,
            Operation::FSync { .. } => opcode::FSYNC,
            Operation::OpenDir { .. } => opcode::OPENDIR,
            Operation::ReadDir(_) => opcode::READDIR,
            Operation::ReadDirPlus(_) => opcode::READDIRPLUS,
            Operation::ReleaseDir { .. } => opcode::RELEASEDIR,
            Operation::FSyncDir { .. } => opcode::FSYNCDIR,
            Operation::StatFs => opcode::STATFS,
            Operation::Access { .. } => opcode::ACCESS,
            Operation::LSeek { .. } => opcode::LSEEK,
            Operation::Fallocate { .. } => opcode::FALLOCATE,
            Operation::CopyFileRange { .. } => opcode::COPY_FILE_RANGE,
            Operation::SetXattr { .. } => opcode::SETXATTR,
            Operation::GetXattr { .. } => opcode::GETXATTR,
            Operation::ListXattr { .. } => opcode::LISTXATTR,
            Operation::RemoveXattr { .. } => opcode::REMOVEXATTR,
            Operation::Statx { .. } => opcode::STATX,
            Operation::SyncFs => opcode::SYNCFS,
            Operation::GetLock { .. } => opcode::GETLK,
            Operation::SetLock { wait: false, .. } => opcode::SETLK,
            Operation::SetLock { wait: true, .. } => opcode::SETLKW,
            Operation::Interrupt { .. } => opcode::INTERRUPT,
            Operation::Other { opcode } => *opcode,
        }
    }

    /// Whether the server answers at all; it does not to forgetting and interrupting.
    pub fn has_reply(&self) -> bool {
        !matches!(
            self,
            Operation::Forget { .. } | Operation::BatchForget(_) | Operation::Interrupt { .. }
        )
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Operation::Init(init) => {
                put_words(&[init.major, init.minor, init.max_readahead, init.flags as u32], out);
                out.put_u32((init.flags >> 32) as u32);
                out.put_zeros(44);
            }
            Operation::Lookup { name } | Operation::Unlink { name } | Operation::RmDir { name } => {
                out.put_c_string(name.as_bytes());
            }
            Operation::Symlink { name, target } => {
                out.put_c_string(name.as_bytes());
                out.put_c_string(target.as_bytes());
            }
            Operation::MkNod { name, mode, device, umask } => {
                put_words(&[*mode, *device, *umask, 0], out);
                out.put_c_string(name.as_bytes());
            }
            Operation::MkDir { name, mode, umask } => {
                put_words(&[*mode, *umask], out);
                out.put_c_string(name.as_bytes());
            }
            Operation::Rename { name, new_directory, new_name, flags } => {
                out.put_u64(new_directory.0);
                if *flags != 0 {
                    out.put_u64((*flags).into());
                }
                out.put_c_string(name.as_bytes());
                out.put_c_string(new_name.as_bytes());
            }
            Operation::Link { target, name } => {
                out.put_u64(target.0);
                out.put_c_string(name.as_bytes());
            }
            Operation::Create { name, flags, mode, umask, kill_set_id } => {
                put_words(&[*flags, *mode, *umask, bit(*kill_set_id, OPEN_KILL_SET_ID)], out);
                out.put_c_string(name.as_bytes());
            }
            Operation::TmpFile { flags, mode, umask } => {
                put_words(&[*flags, *mode, *umask, 0], out);
                // Linux names it "/", which is no name.
                out.put_c_string(b"/");
            }
            _ => self.put_attributes(out),
        }
    }

    /// The operations on attributes, locks, forgetting, and what is left.
    fn put_attributes(&self, out: &mut Vec<u8>) {
        match self {
            Operation::GetAttr { handle } => {
                put_maybe_handle(*handle, out);
            }
            Operation::Statx { handle, mask } => {
                put_maybe_handle(*handle, out);
                put_words(&[0, *mask], out);
            }
            Operation::SetAttr(set) => put_set_attr(set, out),
            Operation::SetXattr { name, value, flags } => {
                put_words(&[value.len() as u32, *flags], out);
                out.put_c_string(name.as_bytes());
                out.extend_from_slice(value);
            }
            Operation::GetXattr { name, size } => {
                put_words(&[*size, 0], out);
                out.put_c_string(name.as_bytes());
            }
            Operation::ListXattr { size } => put_words(&[*size, 0], out),
            Operation::RemoveXattr { name } => out.put_c_string(name.as_bytes()),
            Operation::GetLock { handle, owner, lock }
            | Operation::SetLock { handle, owner, lock, .. } => {
                put_lock(*handle, *owner, lock, out);
            }
            Operation::SyncFs => out.put_u64(0),
            Operation::Interrupt { unique } => out.put_u64(*unique),
            Operation::Forget { lookups } => out.put_u64(*lookups),
            Operation::BatchForget(list) => {
                out.put_u64((list.0.len() / 16) as u64);
                out.extend_from_slice(list.0);
            }
            _ => self.put_open_file(out),
        }
    }

    /// The operations whose body has no name: a handle, an offset, flags.
    fn put_open_file(&self, out: &mut Vec<u8>) {
        match self {
            Operation::Open { flags, kill_set_id } => {
                put_words(&[*flags, bit(*kill_set_id, OPEN_KILL_SET_ID)], out);
            }
            Operation::OpenDir { flags } => out.put_u64((*flags).into()),
            Operation::Access { mask } => out.put_u64((*mask).into()),
            Operation::Read { handle, offset, size } => put_read(*handle, *offset, *size, 0, out),
            Operation::ReadDir(read) | Operation::ReadDirPlus(read) => {
                let ReadDir { handle, offset, size } = *read;
                put_read(handle, offset, size, 0, out);
            }
            Operation::Write { handle, offset, data, kill_set_id } => {
                let flags = bit(*kill_set_id, WRITE_KILL_SET_ID);
                put_read(*handle, *offset, data.len() as u32, flags, out);
                out.extend_from_slice(data);
            }
            Operation::Flush { handle }
            | Operation::Release { handle }
            | Operation::ReleaseDir { handle } => {
                out.put_u64(handle.0);
                out.put_zeros(16);
            }
            Operation::FSync { handle, data_only } | Operation::FSyncDir { handle, data_only } => {
                out.put_u64(handle.0);
                out.put_u64((*data_only).into());
            }
            Operation::LSeek { handle, offset, whence } => {
                out.put_u64(handle.0);
                out.put_u64(*offset);
                out.put_u64((*whence).into());
            }
            Operation::Fallocate { handle, offset, length, mode } => {
                put_longs(&[handle.0, *offset, *length, (*mode).into()], out);
            }
            Operation::CopyFileRange { from, from_offset, to_node, to, to_offset, length } => {
                put_longs(&[from.0, *from_offset, to_node.0, to.0, *to_offset, *length, 0], out);
            }
            _ => {}
        }
    }
}

fn bit(set: bool, bit: u32) -> u32 {
    if set { bit } else { 0 }
}

fn put_words(words: &[u32], out: &mut Vec<u8>) {
    words.iter().for_each(|&word| out.put_u32(word));
}

fn put_longs(longs: &[u64], out: &mut Vec<u8>) {
    longs.iter().for_each(|&long| out.put_u64(long));
}

/// `struct fuse_read_in` and `struct fuse_write_in` are laid out alike.
fn put_read(handle: Handle, offset: u64, size: u32, flags: u32, out: &mut Vec<u8>) {
    put_longs(&[handle.0, offset], out);
    put_words(&[size, flags], out);
    out.put_zeros(16);
}

/// `struct fuse_getattr_in`, and the beginning of `struct fuse_statx_in`.
fn put_maybe_handle(handle: Option<Handle>, out: &mut Vec<u8>) {
    out.put_u64(bit(handle.is_some(), HAS_HANDLE).into());
    out.put_u64(handle.map_or(0, |handle| handle.0));
}

/// `struct fuse_lk_in`.
fn put_lock(handle: Handle, owner: u64, lock: &Lock, out: &mut Vec<u8>) {
    put_longs(&[handle.0, owner], out);
    lock.put(out);
    out.put_u64(0);
}

fn put_set_attr(set: &SetAttr, out: &mut Vec<u8>) {
    let time = |time, set_bit, now_bit| match time {
        None => (0, Time::default()),
        Some(SetTime::Now) => (set_bit | now_bit, Time::default()),
        Some(SetTime::At(time)) => (set_bit, time),
    };
    let (atime_bits, atime) = time(set.accessed, valid::ATIME, valid::ATIME_NOW);
    let (mtime_bits, mtime) = time(set.modified, valid::MTIME, valid::MTIME_NOW);
    let ctime = set.changed.unwrap_or_default();
    let bits = atime_bits
        | mtime_bits
        | bit(set.handle.is_some(), valid::HANDLE)
        | bit(set.size.is_some(), valid::SIZE)
        | bit(set.mode.is_some(), valid::MODE)
        | bit(set.uid.is_some(), valid::UID)
        | bit(set.gid.is_some(), valid::GID)
        | bit(set.changed.is_some(), valid::CTIME)
        | bit(set.kill_set_id, valid::KILL_SET_ID);
    out.put_u64(bits.into());
    out.put_u64(set.handle.map_or(0, |handle| handle.0));
    out.put_u64(set.size.unwrap_or(0));
    out.put_u64(0);
    put_longs(&[atime, mtime, ctime].map(|time| time.seconds as u64), out);
    put_words(&[atime, mtime, ctime].map(|time| time.nanoseconds), out);
    put_words(&[set.mode.unwrap_or(0), 0, set.uid.unwrap_or(0), set.gid.unwrap_or(0), 0], out);
}
