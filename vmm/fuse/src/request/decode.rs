//! From bytes to a [`Request`].

use super::{
    Forgets, HEADER_SIZE, Header, InitIn, Operation, ReadDir, Rejected, Request, SetAttr, SetTime,
    opcode, valid,
};
use crate::bytes::Fields;
use crate::record::{Handle, NodeId, Time};
use crate::{Errno, Name, Target};

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
            Err(_) if matches!(opcode, opcode::FORGET | opcode::BATCH_FORGET) => {
                Err(Rejected::Silently)
            }
            Err(errno) => Err(Rejected::With { unique: header.unique, errno }),
        }
    }
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
        None => files(opcode, &mut fields).unwrap_or_else(|| rest(opcode, &mut fields))?,
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
        opcode::MKDIR => {
            let (mode, umask) = (fields.u32().ok_or(SHORT)?, fields.u32().ok_or(SHORT)?);
            Operation::MkDir { name: name(fields)?, mode, umask }
        }
        opcode::RENAME => rename(fields, false)?,
        opcode::RENAME2 => rename(fields, true)?,
        opcode::LINK => {
            let target = NodeId(fields.u64().ok_or(SHORT)?);
            Operation::Link { target, name: name(fields)? }
        }
        opcode::CREATE => {
            let words = [fields.u32(), fields.u32(), fields.u32(), fields.u32()];
            let [Some(flags), Some(mode), Some(umask), Some(_)] = words else {
                return Err(SHORT);
            };
            Operation::Create { name: name(fields)?, flags, mode, umask }
        }
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
        opcode::OPEN => open(fields).map(|flags| Operation::Open { flags }),
        opcode::OPENDIR => open(fields).map(|flags| Operation::OpenDir { flags }),
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
        _ => return None,
    };
    Some(parsed.ok_or(SHORT))
}

fn open(fields: &mut Fields<'_>) -> Option<u32> {
    let flags = fields.u32()?;
    fields.u32()?;
    Some(flags)
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
    fields.bytes(20)?;
    Some(Operation::Write { handle, offset, data: fields.bytes(size as usize)? })
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

/// Attributes, sessions and forgetting.
fn rest<'a>(opcode: u32, fields: &mut Fields<'a>) -> Result<Operation<'a>, Errno> {
    let parsed = match opcode {
        opcode::INIT => init(fields).map(Operation::Init),
        opcode::GETATTR => get_attr(fields),
        opcode::SETATTR => return set_attr(fields).ok_or(SHORT)?.map(Operation::SetAttr),
        opcode::FORGET => fields.u64().map(|lookups| Operation::Forget { lookups }),
        opcode::BATCH_FORGET => batch_forget(fields),
        opcode::ACCESS => open(fields).map(|mask| Operation::Access { mask }),
        opcode::DESTROY => Some(Operation::Destroy),
        opcode::READLINK => Some(Operation::ReadLink),
        opcode::STATFS => Some(Operation::StatFs),
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

fn get_attr<'a>(fields: &mut Fields<'_>) -> Option<Operation<'a>> {
    let flags = fields.u32()?;
    fields.u32()?;
    let handle = Handle(fields.u64()?);
    Some(Operation::GetAttr { handle: (flags & 1 != 0).then_some(handle) })
}

fn set_attr(fields: &mut Fields<'_>) -> Option<Result<SetAttr, Errno>> {
    let valid = fields.u32()?;
    fields.u32()?;
    let set = |bit| valid & bit != 0;
    let (handle, size) = (Handle(fields.u64()?), fields.u64()?);
    fields.u64()?;
    let (atime, mtime, _ctime) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let (atime_ns, mtime_ns, _ctime_ns) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let mode = fields.u32()?;
    fields.u32()?;
    let (uid, gid) = (fields.u32()?, fields.u32()?);
    fields.u32()?;
    let time = |set_bit, now_bit, seconds, nanoseconds| match (set(set_bit), set(now_bit)) {
        (false, _) => Ok(None),
        (true, true) => Ok(Some(SetTime::Now)),
        (true, false) if nanoseconds < 1_000_000_000 => {
            Ok(Some(SetTime::At(Time { seconds: seconds as i64, nanoseconds })))
        }
        (true, false) => Err(Errno::EINVAL),
    };
    let accessed = time(valid::ATIME, valid::ATIME_NOW, atime, atime_ns);
    let modified = time(valid::MTIME, valid::MTIME_NOW, mtime, mtime_ns);
    let (accessed, modified) = match (accessed, modified) {
        (Ok(accessed), Ok(modified)) => (accessed, modified),
        (Err(errno), _) | (_, Err(errno)) => return Some(Err(errno)),
    };
    Some(Ok(SetAttr {
        handle: set(valid::HANDLE).then_some(handle),
        size: set(valid::SIZE).then_some(size),
        mode: set(valid::MODE).then_some(mode),
        uid: set(valid::UID).then_some(uid),
        gid: set(valid::GID).then_some(gid),
        accessed,
        modified,
    }))
}

fn batch_forget<'a>(fields: &mut Fields<'a>) -> Option<Operation<'a>> {
    let count = fields.u32()? as usize;
    fields.u32()?;
    let list = fields.bytes(count.checked_mul(16)?)?;
    Some(Operation::BatchForget(Forgets(list)))
}
