//! Files that are open from the start, and the names `/dev/fd/NUMBER` of them.

use alloc::rc::Rc;
use core::cell::Cell;

use abi::exec::Inherited;
use fuse::Errno;

use super::Context;
use crate::files::{Failed, OpenFile};

/// An open file, and where it goes on.
pub struct Descriptor {
    pub(super) file: Rc<OpenFile>,
    /// Bytes from the beginning.
    pub(super) offset: Cell<u64>,
    flags: u32,
}

/// A file could not be opened; that is said already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotOpened;

impl Context {
    /// Opens what the run has open from the start, in the space's own view.
    ///
    /// # Errors
    /// One of them cannot be opened: nothing is to be run.
    pub async fn inherit(&mut self, files: &[Inherited]) -> Result<(), NotOpened> {
        for inherited in files {
            let Inherited { number, path, flags, offset } = inherited;
            let access = flags & Inherited::ACCESS;
            match self.system.files.open_as("/", path, access).await {
                Ok(file) => {
                    let (file, offset) = (Rc::new(file), Cell::new(*offset));
                    self.files.insert(*number, Descriptor { file, offset, flags: *flags });
                }
                Err(why) => {
                    let what = alloc::format!("portspace: descriptor {number}, {path}");
                    let why = format_args!(
                        "{why} inside; close it ({number}<&-), or run with --no-files"
                    );
                    self.complain(why, what).await;
                    return Err(NotOpened);
                }
            }
        }
        Ok(())
    }

    /// The descriptor that `path` names, if it does: `/dev/fd/NUMBER`.
    pub(super) fn descriptor(&self, path: &str) -> Option<&Descriptor> {
        self.files.get(&path.strip_prefix("/dev/fd/")?.parse().ok()?)
    }
}

impl Descriptor {
    /// # Errors
    /// It is open to be written alone.
    pub(super) fn may_read(&self) -> Result<(), Failed> {
        if self.flags & Inherited::ACCESS == 1 { Err(Errno::EBADF.into()) } else { Ok(()) }
    }

    /// # Errors
    /// It is open to be read alone.
    pub(super) fn may_write(&self) -> Result<(), Failed> {
        if self.flags & Inherited::ACCESS == 0 { Err(Errno::EBADF.into()) } else { Ok(()) }
    }

    /// Writes all of `bytes` where it goes on, or at the end if it was opened to append.
    pub(super) async fn write(&self, bytes: &[u8]) -> Result<(), Failed> {
        if self.flags & Inherited::APPEND != 0 {
            self.offset.set(self.file.size().await?);
        }
        self.file.write(self.offset.get(), bytes).await?;
        self.offset.set(self.offset.get() + bytes.len() as u64);
        Ok(())
    }
}
