//! The file space, as programs have it: paths over FUSE requests to virtio-fs.

pub mod cache;
mod calls;
pub mod names;
mod open;
mod unread;
mod walk;

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use fuse::request::{ReadDir, open_flags};
use fuse::{Attr, Errno, Handle, Name, Operation, dirent, reply};

use crate::timers::Timers;
use walk::{Node, split};

pub use calls::{Calls, MAX_IO, MAX_REPLY, MAX_REQUEST};
pub use open::OpenFile;

/// Why a file operation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The space has no files.
    NoFiles,
    /// The server, or the path itself, says so.
    Errno(Errno),
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Failed {
        Failed::Errno(errno)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::NoFiles => f.write_str("this space has no files"),
            Failed::Errno(errno) => f.write_str(errno.text()),
        }
    }
}

/// The file space; cheap to clone.
#[derive(Clone)]
pub struct Files {
    calls: Rc<Calls>,
    timers: Timers,
}

impl Files {
    /// Files over these calls; names are believed by the time of `timers`.
    pub fn new(calls: Rc<Calls>, timers: Timers) -> Files {
        Files { calls, timers }
    }

    /// The attributes of what `path` names, as seen from `directory`; a link's own if it ends in one.
    ///
    /// # Errors
    /// The path leads nowhere.
    pub async fn attr(&self, directory: &str, path: &str) -> Result<Attr, Failed> {
        self.believing(async || self.attr_of(&self.walk(directory, path, false).await?).await).await
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// It is not there, is a directory, or may not be read.
    pub async fn open(&self, directory: &str, path: &str) -> Result<OpenFile, Failed> {
        self.open_as(directory, path, open_flags::READ_ONLY).await
    }

    /// Opens a file that is there, `access` being an access mode of open(2).
    ///
    /// # Errors
    /// It is not there, is a directory, or may not be used so.
    pub async fn open_as(
        &self,
        directory: &str,
        path: &str,
        access: u32,
    ) -> Result<OpenFile, Failed> {
        self.believing(async || {
            self.open_node(self.walk(directory, path, true).await?, access).await
        })
        .await
    }

    async fn open_node(&self, node: Node, access: u32) -> Result<OpenFile, Failed> {
        if node.is_directory() {
            return Err(Errno::EISDIR.into());
        }
        // Before it is opened: its bytes may be newer than its attributes, never older.
        let attr = self.attr_of(&node).await?;
        let ask = Operation::Open { flags: access, kill_set_id: false };
        let opened = self.calls.call(node.id, &ask, reply::opened).await?;
        if access != open_flags::READ_ONLY {
            // It may have been copied up.
            node.changed();
        }
        Ok(OpenFile::new(node, &attr, opened))
    }

    /// Makes a file, or empties the one that is there, and opens it for writing.
    ///
    /// # Errors
    /// Its directory is not there or may not be written, or it is a directory itself.
    pub async fn create(&self, directory: &str, path: &str) -> Result<OpenFile, Failed> {
        self.believing(async || match self.walk(directory, path, true).await {
            Ok(node) => {
                let file = self.open_node(node, open_flags::WRITE_ONLY).await?;
                file.empty().await?;
                Ok(file)
            }
            Err(Failed::Errno(Errno::ENOENT)) => self.make(directory, path).await,
            Err(other) => Err(other),
        })
        .await
    }

    async fn make(&self, directory: &str, path: &str) -> Result<OpenFile, Failed> {
        let (parent, name) = split(path).ok_or(Errno::ENOENT)?;
        let parent = self.walk(directory, parent, true).await?;
        let ask = Operation::Create {
            name: Name::new(name.as_bytes())?,
            flags: open_flags::WRITE_ONLY | open_flags::CREATE | open_flags::EXCLUSIVE,
            mode: 0o644,
            umask: 0o022,
            kill_set_id: false,
        };
        let asked = self.asked();
        let created = self.calls.call(parent.id, &ask, reply::created).await;
        // Also if it could not be opened: it may be there.
        parent.changed();
        let (entry, opened) = created?;
        let node = self.found(&parent, name, &entry, asked);
        Ok(OpenFile::new(node, &entry.attr, opened))
    }

    /// The names in a directory, without `.` and `..`, sorted.
    ///
    /// # Errors
    /// It is not there, no directory, or may not be read.
    pub async fn list(&self, directory: &str, path: &str) -> Result<Vec<String>, Failed> {
        self.believing(async || {
            let node = self.walk(directory, path, true).await?;
            if !node.is_directory() {
                return Err(Errno::ENOTDIR.into());
            }
            let ask = Operation::OpenDir { flags: open_flags::DIRECTORY };
            let handle = self.calls.call(node.id, &ask, reply::opened).await?.handle;
            let mut names = OpenDirectory { node, handle }.names().await?;
            names.sort();
            Ok(names)
        })
        .await
    }

    /// What `attempt` gives. A file that is no longer what a name was believed to be (ESTALE) is
    /// one reason to believe nothing and try once more, as Linux has it.
    async fn believing<T>(
        &self,
        attempt: impl AsyncFn() -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        match attempt().await {
            Err(Failed::Errno(Errno::ESTALE)) => {
                self.calls.names.borrow_mut().clear();
                attempt().await
            }
            outcome => outcome,
        }
    }
}

/// An open directory; dropping it closes it.
struct OpenDirectory {
    node: Node,
    handle: Handle,
}

impl OpenDirectory {
    async fn names(&self) -> Result<Vec<String>, Failed> {
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let ask = ReadDir { handle: self.handle, offset, size: MAX_IO as u32 };
            let before = offset;
            self.node
                .calls
                .call(self.node.id, &Operation::ReadDir(ask), |bytes, unique| {
                    for entry in dirent::listing(reply::body(bytes, unique)?) {
                        offset = entry.next_offset;
                        if entry.name != b"." && entry.name != b".." {
                            names.push(String::from_utf8_lossy(entry.name).into_owned());
                        }
                    }
                    Ok(())
                })
                .await?;
            if offset == before {
                return Ok(names);
            }
        }
    }
}

impl Drop for OpenDirectory {
    fn drop(&mut self) {
        self.node.calls.tell(self.node.id, &Operation::ReleaseDir { handle: self.handle });
    }
}

#[cfg(test)]
mod tests;
