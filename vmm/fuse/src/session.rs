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
    /// Direct reads and writes may be answered in any order.
    pub const ASYNC_DIO: u64 = 1 << 15;
    /// The client keeps written pages for a while, and is right about sizes and times meanwhile.
    pub const WRITEBACK_CACHE: u64 = 1 << 16;
    /// Lookups and listings of one directory may overlap.
    pub const PARALLEL_DIRECTORIES: u64 = 1 << 18;
    /// `max_pages` is there.
    pub const MAX_PAGES: u64 = 1 << 22;
    /// The client keeps what a READLINK said.
    pub const CACHE_SYMLINKS: u64 = 1 << 23;
    /// The server takes set-user-ID and set-group-ID bits off when it is told to, and on chown.
    pub const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    /// `flags2` is there: the upper half of the capabilities.
    pub const INIT_EXT: u64 = 1 << 30;
    /// [`crate::notify::inval_entry`] can expire a name only.
    pub const HAS_EXPIRE_ONLY: u64 = 1 << 35;
    /// What is opened with [`crate::Opened::DIRECT_IO`] may be mapped all the same.
    pub const DIRECT_IO_ALLOW_MMAP: u64 = 1 << 36;
    /// [`crate::Opened::PASSTHROUGH`] is understood.
    pub const PASSTHROUGH: u64 = 1 << 37;
}

/// The version spoken: 7.40.
pub const VERSION: (u32, u32) = (7, 40);

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
    /// With PASSTHROUGH, how high in a stack of file systems this one is: those it passes through
    /// to must be lower. Else 0.
    pub max_stack_depth: u32,
}

/// What a server offers beyond what every one of ours can do.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// Most bytes of one WRITE, a multiple of 4096.
    pub max_write: u32,
    /// [`capability::ATOMIC_TRUNCATE`]; with it Linux has a program truncated that is being
    /// executed, where it would refuse that itself.
    pub atomic_truncate: bool,
    /// [`capability::WRITEBACK_CACHE`].
    pub writeback: bool,
    /// [`capability::PASSTHROUGH`]; Linux has it or the writeback cache, and prefers that.
    pub passthrough: bool,
}

impl Offer {
    /// What is agreed on with a client that is capable of `asked`.
    const fn agree(&self, asked: u64) -> u64 {
        use capability::*;
        let mut offered = ASYNC_READ
            | BIG_WRITES
            | AUTO_INVALIDATE
            | READDIRPLUS
            | READDIRPLUS_AUTO
            | ASYNC_DIO
            | PARALLEL_DIRECTORIES
            | MAX_PAGES
            | CACHE_SYMLINKS
            | HANDLE_KILLPRIV_V2
            | INIT_EXT;
        if self.atomic_truncate {
            offered |= ATOMIC_TRUNCATE;
        }
        if self.writeback {
            offered |= WRITEBACK_CACHE;
        }
        // Without INIT_EXT neither side reads the upper half.
        if asked & INIT_EXT != 0 {
            offered |= HAS_EXPIRE_ONLY | DIRECT_IO_ALLOW_MMAP;
            // Linux fs/fuse/inode.c, process_init_reply: no passthrough with a writeback cache.
            if self.passthrough && asked & offered & WRITEBACK_CACHE == 0 {
                offered |= PASSTHROUGH;
            }
        }
        asked & offered
    }
}

/// Whether INIT has been, and what it agreed on.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    offer: Offer,
    /// The capabilities both have, once INIT has been.
    agreed: Option<u64>,
}

impl Session {
    /// A session before INIT.
    pub const fn new(offer: Offer) -> Session {
        Session { offer, agreed: None }
    }

    /// Whether `capability` was agreed on; never before INIT.
    pub const fn has(&self, capability: u64) -> bool {
        matches!(self.agreed, Some(agreed) if agreed & capability == capability)
    }

    /// What INIT agreed on, if it has been.
    pub const fn agreed(&self) -> Option<u64> {
        self.agreed
    }

    /// The session of a server that this one takes over from, which agreed on `agreed`.
    pub const fn resumed(self, agreed: Option<u64>) -> Session {
        Session { agreed, ..self }
    }

    /// Whether `operation` may be served now.
    ///
    /// # Errors
    /// `EIO` before INIT; `EINVAL` for a WRITE of more than was agreed.
    pub fn admit(&self, operation: &Operation<'_>) -> Result<(), Errno> {
        match operation {
            Operation::Init(_) => Ok(()),
            _ if self.agreed.is_none() => Err(Errno::EIO),
            Operation::Write { data, .. } if data.len() > self.offer.max_write as usize => {
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
        let (major, minor) = VERSION;
        let max_write = self.offer.max_write;
        if self.agreed.is_some() {
            return Err(Errno::EBUSY);
        }
        if init.major < major || (init.major == major && init.minor < OLDEST_MINOR) {
            return Err(Errno::EPROTO);
        }
        let flags = self.offer.agree(init.flags);
        self.agreed = (init.major == major).then_some(flags);
        Ok(InitOut {
            major,
            minor,
            max_readahead: init.max_readahead.min(max_write),
            flags,
            max_background: 64,
            congestion_threshold: 48,
            max_write,
            time_granularity_ns: 1,
            max_pages: (max_write / 4096).clamp(1, u16::MAX.into()) as u16,
            max_stack_depth: (flags & capability::PASSTHROUGH != 0).into(),
        })
    }

    /// Ends the session (DESTROY, or the device was reset): INIT comes next.
    pub fn end(&mut self) {
        self.agreed = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: Offer =
        Offer { max_write: 1 << 16, atomic_truncate: false, writeback: false, passthrough: false };

    fn init(major: u32, minor: u32) -> InitIn {
        InitIn { major, minor, max_readahead: 1 << 30, flags: u64::MAX }
    }

    #[test]
    fn nothing_is_served_before_init_and_after_the_end() {
        let mut session = Session::new(OFFER);
        assert_eq!(session.admit(&Operation::StatFs), Err(Errno::EIO));
        let out = session.init(&init(7, 40)).unwrap();
        assert_eq!((out.major, out.minor, out.max_write, out.max_pages), (7, 40, 1 << 16, 16));
        assert_eq!(session.admit(&Operation::StatFs), Ok(()));
        assert_eq!(session.init(&init(7, 40)), Err(Errno::EBUSY));
        session.end();
        assert_eq!(session.admit(&Operation::StatFs), Err(Errno::EIO));
    }

    #[test]
    fn an_old_client_is_refused_and_a_future_one_asks_again() {
        let mut session = Session::new(OFFER);
        assert_eq!(session.init(&init(6, 99)), Err(Errno::EPROTO));
        assert_eq!(session.init(&init(7, 30)), Err(Errno::EPROTO));
        assert_eq!(session.init(&init(8, 0)).map(|out| out.major), Ok(7));
        assert_eq!(session.admit(&Operation::StatFs), Err(Errno::EIO));
        assert!(session.init(&init(7, 31)).is_ok());
    }

    #[test]
    fn a_capability_is_agreed_on_if_both_have_it() {
        use capability::*;
        let agreed = |offer: Offer, flags| {
            let mut session = Session::new(offer);
            assert!(!session.has(ASYNC_READ));
            let out = session.init(&InitIn { flags, ..init(7, 40) }).unwrap();
            assert!(session.has(out.flags) && !session.has(out.flags | 1 << 63));
            session.end();
            assert!(!session.has(ASYNC_READ));
            out
        };
        let passthrough = Offer { passthrough: true, ..OFFER };
        let truncates = Offer { atomic_truncate: true, ..OFFER };
        let atomic =
            [OFFER, truncates].map(|offer| agreed(offer, u64::MAX).flags & ATOMIC_TRUNCATE);
        assert_eq!(atomic, [0, ATOMIC_TRUNCATE]);
        let both = Offer { writeback: true, ..passthrough };
        let late = WRITEBACK_CACHE | PASSTHROUGH;
        let out = agreed(OFFER, u64::MAX);
        assert_eq!((out.flags & late, out.max_stack_depth), (0, 0));
        let out = agreed(passthrough, u64::MAX);
        assert_eq!((out.flags & late, out.max_stack_depth), (PASSTHROUGH, 1));
        // Linux would not pass through, and we must not believe that it does.
        let out = agreed(both, u64::MAX);
        assert_eq!((out.flags & late, out.max_stack_depth), (WRITEBACK_CACHE, 0));
        let out = agreed(both, !WRITEBACK_CACHE);
        assert_eq!((out.flags & late, out.max_stack_depth), (PASSTHROUGH, 1));
        // Nothing of the upper half without INIT_EXT, and nothing the client lacks.
        let out = agreed(passthrough, !INIT_EXT);
        assert_eq!((out.flags >> 32, out.max_stack_depth), (0, 0));
        assert_eq!(agreed(both, MAX_PAGES).flags, MAX_PAGES);
    }
}
