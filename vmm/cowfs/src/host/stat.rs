//! What the host says about a file.

use fuse::Time;
use rustix::fs::{Statx, StatxFlags, StatxTimestamp, makedev};
use serde::{Deserialize, Serialize};

/// What `statx` says, as far as it is used.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Stat {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// When the inode was made; 1970 where the file system does not tell. It tells a file from
    /// a later one that got the same number.
    pub(crate) born: Time,
    pub(crate) mode: u32,
    pub(crate) links: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Major and minor number of a device node.
    pub(crate) special: (u32, u32),
    pub(crate) size: u64,
    pub(crate) blocks: u64,
    pub(crate) block_size: u32,
    pub(crate) accessed: Time,
    pub(crate) modified: Time,
    pub(crate) changed: Time,
}

impl Stat {
    /// What is asked of the host.
    pub(super) const MASK: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

    pub(crate) fn kind(&self) -> u32 {
        self.mode & fuse::record::TYPE_MASK
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind() == fuse::record::TYPE_DIRECTORY
    }

    /// A character device 0/0: overlayfs's mark that a name is not there.
    pub(crate) fn is_whiteout(&self) -> bool {
        self.kind() == fuse::record::TYPE_CHARACTER && self.special == (0, 0)
    }

    pub(super) fn from(stat: &Statx) -> Stat {
        let time = |at: &StatxTimestamp| Time { seconds: at.tv_sec, nanoseconds: at.tv_nsec };
        let told = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::BTIME);
        Stat {
            device: makedev(stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            born: if told { time(&stat.stx_btime) } else { Time::default() },
            mode: stat.stx_mode.into(),
            links: stat.stx_nlink,
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            special: (stat.stx_rdev_major, stat.stx_rdev_minor),
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            block_size: stat.stx_blksize,
            accessed: time(&stat.stx_atime),
            modified: time(&stat.stx_mtime),
            changed: time(&stat.stx_ctime),
        }
    }
}
