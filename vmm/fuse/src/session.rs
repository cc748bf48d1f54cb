//! The server's side of INIT: which version, which limits, and nothing before it.

use crate::request::InitIn;
use crate::{Errno, Operation};

/// `FUSE_*` capabilities of INIT.
pub mod capability {
    /// Reads of one file may be answered in any order.
    pub const ASYNC_READ: u64 = 1 << 0;
    /// OPEN with `O_TRUNC` truncates.
    pub const ATOMIC_TRUNCATE: u64 = 1 << 3;
    /// Writes of more than one page.
    pub const BIG_WRITES: u64 = 1 << 5;
    /// A changed size or time ends what the client has cached of a file.
    pub const AUTO_INVALIDATE: u64 = 1 << 12;
    /// READDIRPLUS is understood.
    pub const READDIRPLUS: u64 = 1 << 13;
    /// The client chooses between READDIR and READDIRPLUS.
    pub const READDIRPLUS_AUTO: u64 = 1 << 14;
    /// Lookups and listings of one directory may overlap.
    pub const PARALLEL_DIRECTORIES: u64 = 1 << 18;
    /// `max_pages` is there.
    pub const MAX_PAGES: u64 = 1 << 22;
}

/// The version spoken: 7.38.
pub const VERSION: (u32, u32) = (7, 38);

/// Oldest client minor version whose structures all have today's layout.
pub const OLDEST_MINOR: u32 = 31;

/// `struct fuse_init_out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitOut {
    /// 7.
    pub major: u32,
    /// The server's minor version.
    pub minor: u32,
    /// Bytes the client may read ahead.
    pub max_readahead: u32,
    /// `FUSE_*` capabilities both have.
    pub flags: u64,
    /// Requests the client may have in the background.
    pub max_background: u16,
    /// From how many on it should slow down.
    pub congestion_threshold: u16,
    /// Most bytes of one WRITE.
    pub max_write: u32,
    /// The unit of time stamps, nanoseconds.
    pub time_granularity_ns: u32,
    /// Most pages of one READ or WRITE.
    pub max_pages: u16,
}

/// Whether INIT has been, and what it agreed on.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    max_write: u32,
    agreed: bool,
}

impl Session {
    /// A session before INIT; WRITE carries at most `max_write` bytes, a multiple of 4096.
    pub const fn new(max_write: u32) -> Session {
        Session { max_write, agreed: false }
    }

    /// Whether `operation` may be served now.
    ///
    /// # Errors
    /// `EIO` before INIT; `EINVAL` for a WRITE of more than was agreed.
    pub fn admit(&self, operation: &Operation<'_>) -> Result<(), Errno> {
        match operation {
            Operation::Init(_) => Ok(()),
            _ if !self.agreed => Err(Errno::EIO),
            Operation::Write { data, .. } if data.len() > self.max_write as usize => {
                Err(Errno::EINVAL)
            }
            _ => Ok(()),
        }
    }

    /// Answers INIT. A client of a later major version is told ours and asks again (fuse.h).
    ///
    /// # Errors
    /// `EPROTO` for a version too old; `EBUSY` if there was an INIT already.
    pub fn init(&mut self, init: &InitIn) -> Result<InitOut, Errno> {
        use capability::*;
        const OFFERED: u64 = ASYNC_READ
            | ATOMIC_TRUNCATE
            | BIG_WRITES
            | AUTO_INVALIDATE
            | READDIRPLUS
            | READDIRPLUS_AUTO
            | PARALLEL_DIRECTORIES
            | MAX_PAGES;
        let (major, minor) = VERSION;
        if self.agreed {
            return Err(Errno::EBUSY);
        }
        if init.major < major || (init.major == major && init.minor < OLDEST_MINOR) {
            return Err(Errno::EPROTO);
        }
        self.agreed = init.major == major;
        Ok(InitOut {
            major,
            minor,
            max_readahead: init.max_readahead.min(self.max_write),
            flags: init.flags & OFFERED,
            max_background: 64,
            congestion_threshold: 48,
            max_write: self.max_write,
            time_granularity_ns: 1,
            max_pages: (self.max_write / 4096).clamp(1, u16::MAX.into()) as u16,
        })
    }

    /// Ends the session (DESTROY, or the device was reset): INIT comes next.
    pub fn end(&mut self) {
        self.agreed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(major: u32, minor: u32) -> InitIn {
        InitIn { major, minor, max_readahead: 1 << 30, flags: u64::MAX }
    }

    #[test]
    fn nothing_is_served_before_init_and_after_the_end() {
        let mut session = Session::new(1 << 16);
        assert_eq!(session.admit(&Operation::StatFs), Err(Errno::EIO));
        let out = session.init(&init(7, 38)).unwrap();
        assert_eq!((out.major, out.minor, out.max_write, out.max_pages), (7, 38, 1 << 16, 16));
        assert_eq!(session.admit(&Operation::StatFs), Ok(()));
        assert_eq!(session.init(&init(7, 38)), Err(Errno::EBUSY));
        session.end();
        assert_eq!(session.admit(&Operation::StatFs), Err(Errno::EIO));
    }

    #[test]
    fn an_old_client_is_refused_and_a_future_one_asks_again() {
        let mut session = Session::new(1 << 16);
        assert_eq!(session.init(&init(6, 99)), Err(Errno::EPROTO));
        assert_eq!(session.init(&init(7, 30)), Err(Errno::EPROTO));
        assert_eq!(session.init(&init(8, 0)).map(|out| out.major), Ok(7));
        assert_eq!(session.admit(&Operation::StatFs), Err(Errno::EIO));
        assert!(session.init(&init(7, 31)).is_ok());
    }
}
