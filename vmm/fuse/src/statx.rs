//! `struct fuse_statx_out`, the body of a STATX reply: 32 bytes and a `struct fuse_statx`.

use crate::bytes::{Fields, Put};
use crate::record::{join_ns, split_ns};
use crate::reply::StatxReply;
use crate::{Attr, Time};
use alloc::vec::Vec;

/// `STATX_BASIC_STATS`: everything an [`Attr`] holds.
const BASIC: u32 = 0x7ff;
/// `STATX_BTIME`.
const BORN: u32 = 0x800;

pub(crate) fn put(out: &mut Vec<u8>, reply: &StatxReply) {
    let StatxReply { valid_ns, attr, born } = reply;
    let (seconds, nanoseconds) = split_ns(*valid_ns);
    out.put_u64(seconds);
    out.put_u64(nanoseconds.into());
    out.put_zeros(16);
    out.put_u32(if born.is_some() { BASIC | BORN } else { BASIC });
    out.put_u32(attr.block_size);
    // The attributes of ioctl_iflags(2), none; and below, which of them are known: none.
    out.put_u64(0);
    [attr.links, attr.uid, attr.gid].into_iter().for_each(|word| out.put_u32(word));
    out.put_u16(attr.mode as u16);
    out.put_u16(0);
    [attr.inode, attr.size, attr.blocks, 0].into_iter().for_each(|word| out.put_u64(word));
    for time in [attr.accessed, born.unwrap_or_default(), attr.changed, attr.modified] {
        out.put_u64(time.seconds as u64);
        out.put_u64(time.nanoseconds.into());
    }
    let (major, minor) = split_device(attr.device);
    [major, minor, 0, 0].into_iter().for_each(|word| out.put_u32(word));
    out.put_zeros(112);
}

/// `None` if a field is missing, or the server does not know all that an [`Attr`] holds.
pub(crate) fn take(fields: &mut Fields<'_>) -> Option<StatxReply> {
    let valid_ns = join_ns(fields.u64()?, fields.u32()?);
    fields.bytes(4 + 16)?;
    let (mask, block_size) = (fields.u32()?, fields.u32()?);
    if mask & BASIC != BASIC {
        return None;
    }
    fields.u64()?;
    let (links, uid, gid) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let mode = u32::from(fields.u16()?);
    fields.u16()?;
    let (inode, size, blocks) = (fields.u64()?, fields.u64()?, fields.u64()?);
    fields.u64()?;
    let mut times = [Time::default(); 4];
    for time in &mut times {
        *time = Time { seconds: fields.i64()?, nanoseconds: fields.u32()? };
        fields.u32()?;
    }
    let [accessed, born, changed, modified] = times;
    let device = join_device(fields.u32()?, fields.u32()?);
    fields.bytes(8 + 112)?;
    Some(StatxReply {
        valid_ns,
        attr: Attr {
            inode,
            size,
            blocks,
            accessed,
            modified,
            changed,
            mode,
            links,
            uid,
            gid,
            device,
            block_size,
            flags: 0,
        },
        born: (mask & BORN != 0).then_some(born),
    })
}

/// Major and minor number, as Linux's `new_decode_dev`.
fn split_device(device: u32) -> (u32, u32) {
    ((device & 0xf_ff00) >> 8, device & 0xff | (device >> 12) & 0xf_ff00)
}

/// `new_encode_dev`; bits that do not fit are lost.
fn join_device(major: u32, minor: u32) -> u32 {
    minor & 0xff | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_number_is_split_as_linux_does_and_joined_again() {
        // /dev/null, /dev/sda17, and a minor number of more than eight bits.
        for (device, parts) in [
            (0x103, (1, 3)),
            (0x811, (8, 17)),
            (0x0010_0a02, (10, 0x102)),
            (u32::MAX, (0xfff, 0xf_ffff)),
        ] {
            assert_eq!(split_device(device), parts);
            assert_eq!(join_device(parts.0, parts.1), device);
        }
    }
}
