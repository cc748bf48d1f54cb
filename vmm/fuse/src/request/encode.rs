//! From a request to bytes.

use super::{HEADER_SIZE, Header, Operation, ReadDir, Request, SetAttr, SetTime, opcode, valid};
use crate::bytes::Put;
use crate::record::{Handle, NodeId, Time};
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
            Operation::MkDir { .. } => opcode::MKDIR,
            Operation::Unlink { .. } => opcode::UNLINK,
            Operation::RmDir { .. } => opcode::RMDIR,
            Operation::Rename { flags: 0, .. } => opcode::RENAME,
            Operation::Rename { .. } => opcode::RENAME2,
            Operation::Link { .. } => opcode::LINK,
            Operation::Open { .. } => opcode::OPEN,
            Operation::Create { .. } => opcode::CREATE,
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
            Operation::Other { opcode } => *opcode,
        }
    }

    /// Whether the server answers at all; it does not to forgetting.
    pub fn has_reply(&self) -> bool {
        !matches!(self, Operation::Forget { .. } | Operation::BatchForget(_))
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Operation::Init(init) => {
                [init.major, init.minor, init.max_readahead, init.flags as u32]
                    .into_iter()
                    .for_each(|word| out.put_u32(word));
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
            Operation::MkDir { name, mode, umask } => {
                out.put_u32(*mode);
                out.put_u32(*umask);
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
            Operation::Create { name, flags, mode, umask } => {
                [*flags, *mode, *umask, 0].into_iter().for_each(|word| out.put_u32(word));
                out.put_c_string(name.as_bytes());
            }
            Operation::GetAttr { handle } => {
                out.put_u64(handle.is_some().into());
                out.put_u64(handle.map_or(0, |handle| handle.0));
            }
            Operation::SetAttr(set) => put_set_attr(set, out),
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
            Operation::Open { flags } | Operation::OpenDir { flags } => {
                out.put_u64((*flags).into());
            }
            Operation::Access { mask } => out.put_u64((*mask).into()),
            Operation::Read { handle, offset, size } => put_read(*handle, *offset, *size, out),
            Operation::ReadDir(read) | Operation::ReadDirPlus(read) => {
                let ReadDir { handle, offset, size } = *read;
                put_read(handle, offset, size, out);
            }
            Operation::Write { handle, offset, data } => {
                put_read(*handle, *offset, data.len() as u32, out);
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
            _ => {}
        }
    }
}

/// `struct fuse_read_in` and `struct fuse_write_in` are laid out alike.
fn put_read(handle: Handle, offset: u64, size: u32, out: &mut Vec<u8>) {
    out.put_u64(handle.0);
    out.put_u64(offset);
    out.put_u32(size);
    out.put_zeros(20);
}

fn put_set_attr(set: &SetAttr, out: &mut Vec<u8>) {
    let time = |time, set_bit, now_bit| match time {
        None => (0, Time::default()),
        Some(SetTime::Now) => (set_bit | now_bit, Time::default()),
        Some(SetTime::At(time)) => (set_bit, time),
    };
    let (atime_bits, atime) = time(set.accessed, valid::ATIME, valid::ATIME_NOW);
    let (mtime_bits, mtime) = time(set.modified, valid::MTIME, valid::MTIME_NOW);
    let bit = |set, bit| if set { bit } else { 0 };
    let bits = atime_bits
        | mtime_bits
        | bit(set.handle.is_some(), valid::HANDLE)
        | bit(set.size.is_some(), valid::SIZE)
        | bit(set.mode.is_some(), valid::MODE)
        | bit(set.uid.is_some(), valid::UID)
        | bit(set.gid.is_some(), valid::GID);
    out.put_u64(bits.into());
    out.put_u64(set.handle.map_or(0, |handle| handle.0));
    out.put_u64(set.size.unwrap_or(0));
    out.put_u64(0);
    [atime.seconds, mtime.seconds, 0].into_iter().for_each(|seconds| out.put_u64(seconds as u64));
    let words = [atime.nanoseconds, mtime.nanoseconds, 0, set.mode.unwrap_or(0), 0];
    words.into_iter().for_each(|word| out.put_u32(word));
    [set.uid.unwrap_or(0), set.gid.unwrap_or(0), 0].into_iter().for_each(|word| out.put_u32(word));
}
