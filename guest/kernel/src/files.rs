//! The file space, as programs have it: paths over FUSE requests to virtio-fs.

pub mod cache;
mod calls;
mod open;

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use fuse::dirent;
use fuse::record::{TYPE_DIRECTORY, TYPE_SYMLINK};
use fuse::request::{ReadDir, open_flags};
use fuse::{Attr, Entry, Errno, Handle, Name, NodeId, Operation, reply};

pub use calls::{Calls, MAX_IO, MAX_REPLY, MAX_REQUEST};
pub use open::OpenFile;

/// Most symbolic links followed in one path, as Linux has it.
const MAX_LINKS: usize = 40;

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
}

/// A file the server was asked for by name; given back when it is dropped.
pub struct Node {
    calls: Rc<Calls>,
    id: NodeId,
    attr: Attr,
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.id != NodeId::ROOT {
            self.calls.tell(self.id, &Operation::Forget { lookups: 1 });
        }
    }
}

impl Files {
    /// Files over these calls.
    pub fn new(calls: Rc<Calls>) -> Files {
        Files { calls }
    }

    /// The attributes of what `path` names, as seen from `directory`; a link's own if it ends in one.
    ///
    /// # Errors
    /// The path leads nowhere.
    pub async fn attr(&self, directory: &str, path: &str) -> Result<Attr, Failed> {
        let node = self.walk(directory, path, false).await?;
        if node.id != NodeId::ROOT {
            return Ok(node.attr);
        }
        let ask = Operation::GetAttr { handle: None };
        Ok(self.calls.call(node.id, &ask, reply::attr).await?.attr)
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
        let node = self.walk(directory, path, true).await?;
        if node.attr.file_type() == TYPE_DIRECTORY || node.id == NodeId::ROOT {
            return Err(Errno::EISDIR.into());
        }
        let ask = Operation::Open { flags: access, kill_set_id: false };
        let opened = self.calls.call(node.id, &ask, reply::opened).await?;
        Ok(OpenFile::new(node, opened))
    }

    /// Makes a file, or empties the one that is there, and opens it for writing.
    ///
    /// # Errors
    /// Its directory is not there or may not be written, or it is a directory itself.
    pub async fn create(&self, directory: &str, path: &str) -> Result<OpenFile, Failed> {
        match self.walk(directory, path, true).await {
            Ok(node) => self.empty(node).await,
            Err(Failed::Errno(Errno::ENOENT)) => {
                let (parent, name) = split(path).ok_or(Errno::ENOENT)?;
                let parent = self.walk(directory, parent, true).await?;
                let ask = Operation::Create {
                    name: Name::new(name.as_bytes())?,
                    flags: open_flags::WRITE_ONLY | open_flags::CREATE | open_flags::EXCLUSIVE,
                    mode: 0o644,
                    umask: 0o022,
                    kill_set_id: false,
                };
                let (entry, opened) = self.calls.call(parent.id, &ask, reply::created).await?;
                let node = self.node(&entry);
                Ok(OpenFile::new(node, opened))
            }
            Err(other) => Err(other),
        }
    }

    async fn empty(&self, node: Node) -> Result<OpenFile, Failed> {
        if node.attr.file_type() == TYPE_DIRECTORY || node.id == NodeId::ROOT {
            return Err(Errno::EISDIR.into());
        }
        let ask = Operation::Open { flags: open_flags::WRITE_ONLY, kill_set_id: false };
        let opened = self.calls.call(node.id, &ask, reply::opened).await?;
        let file = OpenFile::new(node, opened);
        file.empty().await?;
        Ok(file)
    }

    /// The names in a directory, without `.` and `..`, sorted.
    ///
    /// # Errors
    /// It is not there, no directory, or may not be read.
    pub async fn list(&self, directory: &str, path: &str) -> Result<Vec<String>, Failed> {
        let node = self.walk(directory, path, true).await?;
        if node.attr.file_type() != TYPE_DIRECTORY && node.id != NodeId::ROOT {
            return Err(Errno::ENOTDIR.into());
        }
        let ask = Operation::OpenDir { flags: open_flags::DIRECTORY };
        let handle = self.calls.call(node.id, &ask, reply::opened).await?.handle;
        let names = self.names(node.id, handle).await;
        self.calls.call(node.id, &Operation::ReleaseDir { handle }, reply::done).await?;
        let mut names = names?;
        names.sort();
        Ok(names)
    }

    async fn names(&self, node: NodeId, handle: Handle) -> Result<Vec<String>, Failed> {
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let ask = ReadDir { handle, offset, size: MAX_IO as u32 };
            let before = offset;
            self.calls
                .call(node, &Operation::ReadDir(ask), |bytes, unique| {
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

    /// Follows a path. `follow`: also a link at its end.
    async fn walk(&self, directory: &str, path: &str, follow: bool) -> Result<Node, Failed> {
        self.calls.mounted().await?;
        if path.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        // Directories on the way down, so that `..` needs no request.
        let mut trail: Vec<Node> = Vec::new();
        let mut names: VecDeque<String> = VecDeque::new();
        let absolute = path.starts_with('/');
        let start = if absolute { "" } else { directory };
        names.extend(start.split('/').chain(path.split('/')).map(String::from));
        let mut links = 0;
        while let Some(name) = names.pop_front() {
            match &name[..] {
                "" | "." => continue,
                ".." => {
                    trail.pop();
                    continue;
                }
                _ => {}
            }
            let parent = trail.last().map_or(NodeId::ROOT, |node| node.id);
            let name = Name::new(name.as_bytes())?;
            let entry = self.calls.call(parent, &Operation::Lookup { name }, reply::entry).await?;
            let node = self.node(&entry);
            let last = names.iter().all(|name| name.is_empty());
            if node.attr.file_type() != TYPE_SYMLINK || (last && !follow) {
                trail.push(node);
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::ELOOP.into());
            }
            let target = self
                .calls
                .call(node.id, &Operation::ReadLink, |bytes, unique| {
                    reply::body(bytes, unique)
                        .map(|text| String::from_utf8_lossy(text).into_owned())
                })
                .await?;
            if target.starts_with('/') {
                trail.clear();
            }
            target.split('/').rev().for_each(|name| names.push_front(name.into()));
        }
        Ok(trail.pop().unwrap_or(Node {
            calls: self.calls.clone(),
            id: NodeId::ROOT,
            attr: Attr { mode: TYPE_DIRECTORY, ..Attr::default() },
        }))
    }

    fn node(&self, entry: &Entry) -> Node {
        Node { calls: self.calls.clone(), id: entry.node, attr: entry.attr }
    }
}

/// Splits a path before its last name; `None` if it has none.
fn split(path: &str) -> Option<(&str, &str)> {
    match path.rsplit_once('/') {
        None => Some((".", path)),
        Some((_, "")) => None,
        Some(("", name)) => Some(("/", name)),
        Some((parent, name)) => Some((parent, name)),
    }
}
