//! Replies: written by the server, read by the client.
//!
//! Server: [`start`], the body, [`finish`]; or [`fail`]. Client: [`body`] takes the header off,
//! the functions named after records read what is left.

use crate::bytes::{Fields, Put};
use crate::record::{join_ns, split_ns};
use crate::session::InitOut;
use crate::{Attr, Entry, Errno, Lock, Opened, StatFs, Time, statx as statx_out};
use alloc::vec::Vec;

/// Bytes of `struct fuse_out_header`.
pub const HEADER_SIZE: usize = 16;

/// Makes `out` the beginning of a reply to `unique`.
pub fn start(out: &mut Vec<u8>, unique: u64) {
    out.clear();
    out.put_u64(0);
    out.put_u64(unique);
}

/// Completes a reply begun with [`start`].
pub fn finish(out: &mut [u8]) {
    let length = out.len() as u32;
    out[..4].copy_from_slice(&length.to_le_bytes());
}

/// Makes `out` a whole reply to `unique` that says `errno`.
pub fn fail(out: &mut Vec<u8>, unique: u64, errno: Errno) {
    start(out, unique);
    out[4..8].copy_from_slice(&(-errno.number()).to_le_bytes());
    finish(out);
}

/// Appends an [`Entry`] (LOOKUP, MKDIR, MKNOD, SYMLINK, LINK; CREATE and TMPFILE before their
/// [`put_opened`]).
pub fn put_entry(out: &mut Vec<u8>, entry: &Entry) {
    entry.put(out);
}

/// Appends an [`Opened`] (OPEN, OPENDIR, CREATE, TMPFILE).
pub fn put_opened(out: &mut Vec<u8>, opened: &Opened) {
    opened.put(out);
}

/// Appends a [`StatFs`].
pub fn put_stat_fs(out: &mut Vec<u8>, stat: &StatFs) {
    stat.put(out);
}

/// Appends how many bytes a WRITE or COPY_FILE_RANGE wrote.
pub fn put_written(out: &mut Vec<u8>, count: u32) {
    out.put_u64(count.into());
}

/// Appends what an LSEEK found.
pub fn put_offset(out: &mut Vec<u8>, offset: u64) {
    out.put_u64(offset);
}

/// Appends an [`AttrReply`] (GETATTR, SETATTR).
pub fn put_attr(out: &mut Vec<u8>, reply: &AttrReply) {
    let (seconds, nanoseconds) = split_ns(reply.valid_ns);
    out.put_u64(seconds);
    out.put_u64(nanoseconds.into());
    reply.attr.put(out);
}

/// Appends a [`StatxReply`] (`struct fuse_statx_out`).
pub fn put_statx(out: &mut Vec<u8>, reply: &StatxReply) {
    statx_out::put(out, reply);
}

/// Appends how many bytes a GETXATTR or LISTXATTR of size 0 would need
/// (`struct fuse_getxattr_out`).
pub fn put_xattr_size(out: &mut Vec<u8>, size: u32) {
    out.put_u64(size.into());
}

/// Appends the lock a GETLK found (`struct fuse_lk_out`).
pub fn put_lock(out: &mut Vec<u8>, lock: &Lock) {
    lock.put(out);
}

/// Appends an [`InitOut`].
pub fn put_init(out: &mut Vec<u8>, init: &InitOut) {
    let words = [init.major, init.minor, init.max_readahead, init.flags as u32];
    words.into_iter().for_each(|word| out.put_u32(word));
    out.put_u16(init.max_background);
    out.put_u16(init.congestion_threshold);
    out.put_u32(init.max_write);
    out.put_u32(init.time_granularity_ns);
    out.put_u16(init.max_pages);
    out.put_u16(0);
    out.put_u32((init.flags >> 32) as u32);
    out.put_u32(init.max_stack_depth);
    out.put_zeros(24);
}

/// `struct fuse_attr_out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttrReply {
    /// How long the client may believe `attr`, nanoseconds.
    pub valid_ns: u64,
    /// The file's attributes.
    pub attr: Attr,
}

/// `struct fuse_statx_out`, as far as a server can fill it from an [`Attr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatxReply {
    /// How long the client may believe `attr`, nanoseconds.
    pub valid_ns: u64,
    /// The file's attributes; their `flags` are not carried.
    pub attr: Attr,
    /// When the file was made, if that is known.
    pub born: Option<Time>,
}

/// Why there is no answer in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The server said so.
    Errno(Errno),
    /// It is no reply, or not to this request: the server is broken.
    Malformed,
}

impl Refused {
    /// The error number a program is told: EIO for a broken server.
    pub fn errno(self) -> Errno {
        match self {
            Refused::Errno(errno) => errno,
            Refused::Malformed => Errno::EIO,
        }
    }
}

/// The body of the reply to `unique`; bytes after the reply's own length are ignored.
///
/// # Errors
/// The server's errno, or malformed.
pub fn body(bytes: &[u8], unique: u64) -> Result<&[u8], Refused> {
    let mut fields = Fields(bytes);
    let header = || Some((fields.u32()? as usize, fields.i32()?, fields.u64()?));
    let (length, error, replied) = { header }().ok_or(Refused::Malformed)?;
    if replied != unique {
        return Err(Refused::Malformed);
    }
    if error != 0 {
        let number = error.checked_neg().and_then(Errno::new);
        return Err(number.map_or(Refused::Malformed, Refused::Errno));
    }
    bytes.get(HEADER_SIZE..length).ok_or(Refused::Malformed)
}

/// The [`Entry`] of a LOOKUP; it is of node 0 if there is no such name and that may be believed.
///
/// # Errors
/// As [`body`].
pub fn looked_up(bytes: &[u8], unique: u64) -> Result<Entry, Refused> {
    read(bytes, unique, Entry::take)
}

/// The [`Entry`] of a LOOKUP, MKDIR, MKNOD, SYMLINK or LINK.
///
/// # Errors
/// As [`body`]; a name that is not there is ENOENT, also in the form of node 0.
pub fn entry(bytes: &[u8], unique: u64) -> Result<Entry, Refused> {
    let entry = looked_up(bytes, unique)?;
    if entry.node.0 == 0 { Err(Refused::Errno(Errno::ENOENT)) } else { Ok(entry) }
}

/// The [`Entry`] and [`Opened`] of a CREATE or TMPFILE.
///
/// # Errors
/// As [`body`].
pub fn created(bytes: &[u8], unique: u64) -> Result<(Entry, Opened), Refused> {
    read(bytes, unique, |fields| Some((Entry::take(fields)?, Opened::take(fields)?)))
}

/// The [`Opened`] of an OPEN or OPENDIR.
///
/// # Errors
/// As [`body`].
pub fn opened(bytes: &[u8], unique: u64) -> Result<Opened, Refused> {
    read(bytes, unique, Opened::take)
}

/// The attributes of a GETATTR or SETATTR.
///
/// # Errors
/// As [`body`].
pub fn attr(bytes: &[u8], unique: u64) -> Result<AttrReply, Refused> {
    read(bytes, unique, |fields| {
        let (seconds, nanoseconds) = (fields.u64()?, fields.u32()?);
        fields.u32()?;
        let valid_ns = join_ns(seconds, nanoseconds);
        Some(AttrReply { valid_ns, attr: Attr::take(fields)? })
    })
}

/// The [`StatFs`] of a STATFS.
///
/// # Errors
/// As [`body`].
pub fn stat_fs(bytes: &[u8], unique: u64) -> Result<StatFs, Refused> {
    read(bytes, unique, StatFs::take)
}

/// How many bytes a WRITE or COPY_FILE_RANGE wrote.
///
/// # Errors
/// As [`body`].
pub fn written(bytes: &[u8], unique: u64) -> Result<u32, Refused> {
    read(bytes, unique, padded)
}

/// How many bytes a GETXATTR or LISTXATTR of size 0 would need.
///
/// # Errors
/// As [`body`].
pub fn xattr_size(bytes: &[u8], unique: u64) -> Result<u32, Refused> {
    read(bytes, unique, padded)
}

/// The attributes of a STATX.
///
/// # Errors
/// As [`body`]; malformed as well if the server does not know all of [`Attr`].
pub fn statx(bytes: &[u8], unique: u64) -> Result<StatxReply, Refused> {
    read(bytes, unique, statx_out::take)
}

/// The lock a GETLK found.
///
/// # Errors
/// As [`body`].
pub fn lock(bytes: &[u8], unique: u64) -> Result<Lock, Refused> {
    read(bytes, unique, Lock::take)
}

/// What an LSEEK found.
///
/// # Errors
/// As [`body`].
pub fn offset(bytes: &[u8], unique: u64) -> Result<u64, Refused> {
    read(bytes, unique, Fields::u64)
}

/// The [`InitOut`] of an INIT.
///
/// # Errors
/// As [`body`].
pub fn init(bytes: &[u8], unique: u64) -> Result<InitOut, Refused> {
    read(bytes, unique, |fields| {
        let mut init = InitOut {
            major: fields.u32()?,
            minor: fields.u32()?,
            max_readahead: fields.u32()?,
            flags: fields.u32()?.into(),
            max_background: fields.u16()?,
            congestion_threshold: fields.u16()?,
            max_write: fields.u32()?,
            time_granularity_ns: fields.u32()?,
            max_pages: fields.u16()?,
            max_stack_depth: 0,
        };
        fields.u16()?;
        init.flags |= u64::from(fields.u32()?) << 32;
        init.max_stack_depth = fields.u32()?;
        fields.bytes(24)?;
        Some(init)
    })
}

/// The end of a reply without a body.
///
/// # Errors
/// As [`body`].
pub fn done(bytes: &[u8], unique: u64) -> Result<(), Refused> {
    body(bytes, unique).map(|_| ())
}

/// A number and its padding.
fn padded(fields: &mut Fields<'_>) -> Option<u32> {
    let number = fields.u32()?;
    fields.u32()?;
    Some(number)
}

fn read<'a, T>(
    bytes: &'a [u8],
    unique: u64,
    take: impl FnOnce(&mut Fields<'a>) -> Option<T>,
) -> Result<T, Refused> {
    take(&mut Fields(body(bytes, unique)?)).ok_or(Refused::Malformed)
}
