//! From bytes to a [`Request`].

use super::flags::{HAS_HANDLE, OPEN_KILL_SET_ID, WRITE_KILL_SET_ID, valid};
use super::{
    Forgets, HEADER_SIZE, Header, InitIn, MAX_XATTR_VALUE, Operation, ReadDir, Rejected, Request,
    SetAttr, SetTime, opcode,
};
use crate::bytes::Fields;
use crate::record::{Handle, Lock, NodeId, Time};
use crate::{Errno, Name, Target, XattrName};

impl<'a> Request<'a> {
    /// Parses one whole request, header first.
    ///
    /// # Errors
    /// [`Rejected`]: the header's length is not that of `bytes`, a field is missing or left
    /// over, or a name is none.
    pub fn parse(bytes: &'a [u8]) -> Result<Request<'a>, Rejected> {
        let (header, opcode, body) = split(bytes).ok_or(Rejected::Silently)?;
        match operation(opcode, body) {
            Ok(operation) => Ok(Request { header, operation }),
            Err(_) if !has_reply(opcode) => Err(Rejected::Silently),
            Err(errno) => Err(Rejected::With { unique: header.unique, errno }),
        }
    }
}

/// Whether these bytes begin as a request to forget: over in no time, and answered by nothing.
pub fn is_forget(request: &[u8]) -> bool {
    split(request).is_some_and(|(_, code, _)| matches!(code, opcode::FORGET | opcode::BATCH_FORGET))
}

/// As [`Operation::has_reply`], for what is not even an operation.
fn has_reply(opcode: u32) -> bool {
    !matches!(opcode, opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT)
}

fn split(bytes: &[u8]) -> Option<(Header, u32, &[u8])> {
    let mut fields = Fields(bytes);
    let length = fields.u32()?;
    let opcode = fields.u32()?;
    let header = Header {
        unique: fields.u64()?,
        node: NodeId(fields.u64()?),
        uid: fields.u32()?,
        gid: fields.u32()?,
        pid: fields.u32()?,
    };
    // Extensions (7.38) follow the body; none was negotiated, so they are skipped.
    let extension = usize::from(fields.u16()?) * 8;
    fields.u16()?;
    debug_assert_eq!(bytes.len() - fields.0.len(), HEADER_SIZE);
    if length as usize != bytes.len() {
        return None;
    }
    let body = fields.bytes(fields.0.len().checked_sub(extension)?)?;
    Some((header, opcode, body))
}

/// A field is missing.
const SHORT: Errno = Errno::EINVAL;

fn name<'a>(fields: &mut Fields<'a>) -> Result<Name<'a>, Errno> {
    Name::new(fields.c_string().ok_or(SHORT)?)
}

fn operation(opcode: u32, body: &[u8]) -> Result<Operation<'_>, Errno> {
    let mut fields = Fields(body);
    let parsed = match names(opcode, &mut fields)? {
        Some(operation) => operation,
        None => match xattrs(opcode, &mut fields)? {
            Some(operation) => operation,
            None => files(opcode, &mut fields).unwrap_or_else(|| rest(opcode, &mut fields))?,
        },
    };
    fields.end().ok_or(Errno::EINVAL)?;
    Ok(parsed)
}

/// The operations on names; `None` if `opcode` is none of them.
fn names<'a>(opcode: u32, fields: &mut Fields<'a>) -> Result<Option<Operation<'a>>, Errno> {
    Ok(Some(match opcode {
        opcode::LOOKUP => Operation::Lookup { name: name(fields)? },
        opcode::UNLINK => Operation::Unlink { name: name(fields)? },
        opcode::RMDIR => Operation::RmDir { name: name(fields)? },
        opcode::SYMLINK => {
            let name = name(fields)?;
            let target = Target::new(fields.c_string().ok_or(SHORT)?)?;
            Operation::Symlink { name, target }
        }
        opcode::MKNOD => {
            let [mode, device, umask, _] = words(fields)?;
            Operation::MkNod { name: name(fields)?, mode, device, umask }
        }
        opcode::MKDIR => {
            let [mode, umask] = words(fields)?;
            Operation::MkDir { name: name(fields)?, mode, umask }
        }
        opcode::RENAME => rename(fields, false)?,
        opcode::RENAME2 => rename(fields, true)?,
        opcode::LINK => {
            let target = NodeId(fields.u64().ok_or(SHORT)?);
            Operation::Link { target, name: name(fields)? }
        }
        opcode::CREATE => {
            let [flags, mode, umask, open_flags] = words(fields)?;
            let kill_set_id = open_flags & OPEN_KILL_SET_ID != 0;
            Operation::Create { name: name(fields)?, flags, mode, umask, kill_set_id }
        }
        opcode::TMPFILE => {
            let [flags, mode, umask, _] = words(fields)?;
            // The file has no name; Linux fills in "/".
            fields.c_string().ok_or(SHORT)?;
            Operation::TmpFile { flags, mode, umask }
        }
        _ => return Ok(None),
    }))
}

fn words<const N: usize>(fields: &mut Fields<'_>) -> Result<[u32; N], Errno> {
    let mut words = [0; N];
    for word in &mut words {
        *word = fields.u32().ok_or(SHORT)?;
    }
    Ok(words)
}

/// The operations on extended attributes; `None` if `opcode` is none of them.
fn xattrs<'a>(opcode: u32, fields: &mut Fields<'a>) -> Result<Option<Operation<'a>>, Errno> {
    let name = |fields: &mut Fields<'a>| XattrName::new(fields.c_string().ok_or(SHORT)?);
    Ok(Some(match opcode {
        opcode::SETXATTR => {
            // FUSE_SETXATTR_EXT was not agreed on: the structure ends after `flags`.
            let [size, flags] = words(fields)?;
            let size = size as usize;
            if size > MAX_XATTR_VALUE {
                return Err(Errno::E2BIG);
            }
            let name = name(fields)?;
            Operation::SetXattr { name, value: fields.bytes(size).ok_or(SHORT)?, flags }
        }
        opcode::GETXATTR => {
            let [size, _] = words(fields)?;
            Operation::GetXattr { name: name(fields)?, size }
        }
        opcode::LISTXATTR => {
            let [size, _] = words(fields)?;
            Operation::ListXattr { size }
        }
        opcode::REMOVEXATTR => Operation::RemoveXattr { name: name(fields)? },
        _ => return Ok(None),
    }))
}

fn rename<'a>(fields: &mut Fields<'a>, two: bool) -> Result<Operation<'a>, Errno> {
    let new_directory = NodeId(fields.u64().ok_or(SHORT)?);
    let mut flags = 0;
    if two {
        flags = fields.u32().ok_or(SHORT)?;
        fields.u32().ok_or(SHORT)?;
    }
    Ok(Operation::Rename { name: name(fields)?, new_directory, new_name: name(fields)?, flags })
}

/// The operations on open files and directories; `None` if `opcode` is none of them.
fn files<'a>(opcode: u32, fields: &mut Fields<'a>) -> Option<Result<Operation<'a>, Errno>> {
    let parsed = match opcode {
        opcode::OPEN => open(fields).map(|(flags, open_flags)| Operation::Open {
            flags,
            kill_set_id: open_flags & OPEN_KILL_SET_ID != 0,
        }),
        opcode::OPENDIR => open(fields).map(|(flags, _)| Operation::OpenDir { flags }),
        opcode::READ => read(fields).map(|ReadDir { handle, offset, size }| Operation::Read {
            handle,
            offset,
            size,
        }),
        opcode::READDIR => read(fields).map(Operation::ReadDir),
        opcode::READDIRPLUS => read(fields).map(Operation::ReadDirPlus),
        opcode::WRITE => write(fields),
        opcode::FLUSH => with_handle(fields, 16).map(|handle| Operation::Flush { handle }),
        opcode::RELEASE => with_handle(fields, 16).map(|handle| Operation::Release { handle }),
        opcode::RELEASEDIR => {
            with_handle(fields, 16).map(|handle| Operation::ReleaseDir { handle })
        }
        opcode::FSYNC => {
            fsync(fields).map(|(handle, data_only)| Operation::FSync { handle, data_only })
        }
        opcode::FSYNCDIR => {
            fsync(fields).map(|(handle, data_only)| Operation::FSyncDir { handle, data_only })
        }
        opcode::LSEEK => lseek(fields),
        opcode::FALLOCATE => fallocate(fields),
        opcode::COPY_FILE_RANGE => copy_file_range(fields),
        opcode::GETLK => {
            lock(fields).map(|(handle, owner, lock)| Operation::GetLock { handle, owner, lock })
        }
        opcode::SETLK | opcode::SETLKW => {
            let wait = opcode == opcode::SETLKW;
            lock(fields).map(|(handle, owner, lock)| Operation::SetLock {
                handle,
                owner,
                lock,
                wait,
            })
        }
        _ => return None,
    };
    Some(parsed.ok_or(SHORT))
}

fn open(fields: &mut Fields<'_>) -> Option<(u32, u32)> {
    Some((fields.u32()?, fields.u32()?))
}

fn read(fields: &mut Fields<'_>) -> Option<ReadDir> {
    let handle = Handle(fields.u64()?);
    let (offset, size) = (fields.u64()?, fields.u32()?);
    fields.bytes(20)?;
    Some(ReadDir { handle, offset, size })
}

fn write<'a>(fields: &mut Fields<'a>) -> Option<Operation<'a>> {
    let handle = Handle(fields.u64()?);
    let (offset, size) = (fields.u64()?, fields.u32()?);
    let kill_set_id = fields.u32()? & WRITE_KILL_SET_ID != 0;
    fields.bytes(16)?;
    Some(Operation::Write { handle, offset, data: fields.bytes(size as usize)?, kill_set_id })
}

fn with_handle(fields: &mut Fields<'_>, ignored: usize) -> Option<Handle> {
    let handle = Handle(fields.u64()?);
    fields.bytes(ignored)?;
    Some(handle)
}

fn fsync(fields: &mut Fields<'_>) -> Option<(Handle, bool)> {
    let handle = Handle(fields.u64()?);
    let flags = fields.u32()?;
    fields.u32()?;
    Some((handle, flags & 1 != 0))
}

fn lseek<'a>(fields: &mut Fields<'_>) -> Option<Operation<'a>> {
    let (handle, offset) = (Handle(fields.u64()?), fields.u64()?);
    let whence = fields.u32()?;
    fields.u32()?;
    Some(Operation::LSeek { handle, offset, whence })
}

fn fallocate<'a>(fields: &mut Fields<'_>) -> Option<Operation<'a>> {
    let handle = Handle(fields.u64()?);
    let (offset, length) = (fields.u64()?, fields.u64()?);
    let mode = fields.u32()?;
    fields.u32()?;
    Some(Operation::Fallocate { handle, offset, length, mode })
}

fn copy_file_range<'a>(fields: &mut Fields<'_>) -> Option<Operation<'a>> {
    let (from, from_offset) = (Handle(fields.u64()?), fields.u64()?);
    let to_node = NodeId(fields.u64()?);
    let (to, to_offset) = (Handle(fields.u64()?), fields.u64()?);
    let length = fields.u64()?;
    // copy_file_range(2) has no flags yet: EINVAL.
    let none = fields.u64()? == 0;
    none.then_some(Operation::CopyFileRange { from, from_offset, to_node, to, to_offset, length })
}

fn lock(fields: &mut Fields<'_>) -> Option<(Handle, u64, Lock)> {
    let (handle, owner) = (Handle(fields.u64()?), fields.u64()?);
    let lock = Lock::take(fields)?;
    // FUSE_LK_FLOCK was not agreed on: a lock of flock(2) is not taken for one of fcntl(2).
    let none = fields.u32()? == 0;
    fields.u32()?;
    none.then_some((handle, owner, lock))
}

/// Attributes, sessions and forgetting.
fn rest<'a>(opcode: u32, fields: &mut Fields<'a>) -> Result<Operation<'a>, Errno> {
    let parsed = match opcode {
        opcode::INIT => init(fields).map(Operation::Init),
        opcode::GETATTR => maybe_handle(fields).map(|handle| Operation::GetAttr { handle }),
        opcode::STATX => statx(fields),
        opcode::SETATTR => return set_attr(fields).ok_or(SHORT)?.map(Operation::SetAttr),
        opcode::FORGET => fields.u64().map(|lookups| Operation::Forget { lookups }),
        opcode::BATCH_FORGET => batch_forget(fields),
        opcode::ACCESS => open(fields).map(|(mask, _)| Operation::Access { mask }),
        opcode::DESTROY => Some(Operation::Destroy),
        opcode::READLINK => Some(Operation::ReadLink),
        opcode::STATFS => Some(Operation::StatFs),
        opcode::SYNCFS => fields.u64().map(|_| Operation::SyncFs),
        opcode::INTERRUPT => fields.u64().map(|unique| Operation::Interrupt { unique }),
        opcode => {
            fields.0 = &[];
            Some(Operation::Other { opcode })
        }
    };
    parsed.ok_or(SHORT)
}

fn init(fields: &mut Fields<'_>) -> Option<InitIn> {
    let (major, minor) = (fields.u32()?, fields.u32()?);
    let (max_readahead, flags) = (fields.u32()?, fields.u32()?);
    // Before 7.36 the structure ended here. What later versions append is not for us.
    let flags2 = fields.u32().unwrap_or(0);
    fields.0 = &[];
    let flags = u64::from(flags2) << 32 | u64::from(flags);
    Some(InitIn { major, minor, max_readahead, flags })
}

/// `struct fuse_getattr_in`, and the beginning of `struct fuse_statx_in`.
fn maybe_handle(fields: &mut Fields<'_>) -> Option<Option<Handle>> {
    let flags = fields.u32()?;
    fields.u32()?;
    let handle = Handle(fields.u64()?);
    Some((flags & HAS_HANDLE != 0).then_some(handle))
}

fn statx<'a>(fields: &mut Fields<'_>) -> Option<Operation<'a>> {
    let handle = maybe_handle(fields)?;
    // AT_STATX_*: how up to date the answer must be. Ours always is.
    fields.u32()?;
    Some(Operation::Statx { handle, mask: fields.u32()? })
}

fn set_attr(fields: &mut Fields<'_>) -> Option<Result<SetAttr, Errno>> {
    let valid = fields.u32()?;
    fields.u32()?;
    let set = |bit| valid & bit != 0;
    let (handle, size) = (Handle(fields.u64()?), fields.u64()?);
    fields.u64()?;
    let (atime, mtime, ctime) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let (atime_ns, mtime_ns, ctime_ns) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let mode = fields.u32()?;
    fields.u32()?;
    let (uid, gid) = (fields.u32()?, fields.u32()?);
    fields.u32()?;
    let at = |bit, seconds, nanoseconds| match set(bit) {
        false => Ok(None),
        true if nanoseconds < 1_000_000_000 => {
            Ok(Some(Time { seconds: seconds as i64, nanoseconds }))
        }
        true => Err(Errno::EINVAL),
    };
    let time = |bit, now_bit, seconds, nanoseconds| match set(bit) && set(now_bit) {
        true => Ok(Some(SetTime::Now)),
        false => at(bit, seconds, nanoseconds).map(|time| time.map(SetTime::At)),
    };
    let accessed = time(valid::ATIME, valid::ATIME_NOW, atime, atime_ns);
    let modified = time(valid::MTIME, valid::MTIME_NOW, mtime, mtime_ns);
    let changed = at(valid::CTIME, ctime, ctime_ns);
    let (Ok(accessed), Ok(modified), Ok(changed)) = (accessed, modified, changed) else {
        return Some(Err(Errno::EINVAL));
    };
    Some(Ok(SetAttr {
        handle: set(valid::HANDLE).then_some(handle),
        size: set(valid::SIZE).then_some(size),
        mode: set(valid::MODE).then_some(mode),
        uid: set(valid::UID).then_some(uid),
        gid: set(valid::GID).then_some(gid),
        accessed,
        modified,
        changed,
        kill_set_id: set(valid::KILL_SET_ID),
    }))
}

fn batch_forget<'a>(fields: &mut Fields<'a>) -> Option<Operation<'a>> {
    let count = fields.u32()? as usize;
    fields.u32()?;
    let list = fields.bytes(count.checked_mul(16)?)?;
    Some(Operation::BatchForget(Forgets(list)))
}
