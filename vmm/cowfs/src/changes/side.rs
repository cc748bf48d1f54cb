//! One side of a comparison: what a file is, and whether another is the same.

use super::Tree;
use crate::host::{Access, Attributes, Directory, File, Stat};
use crate::stored::{self, Origin, Shown};
use fuse::record::{
    TYPE_BLOCK, TYPE_CHARACTER, TYPE_DIRECTORY, TYPE_FIFO, TYPE_REGULAR, TYPE_SOCKET, TYPE_SYMLINK,
};
use fuse::{Errno, Name, Time};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is compared at once, bytes.
const PIECE: usize = 256 * 1024;

/// Longest target of a symbolic link (`PATH_MAX`).
const LONGEST_TARGET: u64 = 4096;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    Character,
    /// A block device.
    Block,
}

impl FileKind {
    pub(crate) fn of(kind: u32) -> FileKind {
        match kind {
            TYPE_DIRECTORY => FileKind::Directory,
            TYPE_SYMLINK => FileKind::Symlink,
            TYPE_FIFO => FileKind::Fifo,
            TYPE_SOCKET => FileKind::Socket,
            TYPE_CHARACTER => FileKind::Character,
            TYPE_BLOCK => FileKind::Block,
            _ => FileKind::File,
        }
    }

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            FileKind::File => "file",
            FileKind::Directory => "directory",
            FileKind::Symlink => "symlink",
            FileKind::Fifo => "fifo",
            FileKind::Socket => "socket",
            FileKind::Character => "character device",
            FileKind::Block => "block device",
        }
    }
}

/// What is to be said of a file: owners as inside, where the server's user is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// What it is.
    pub kind: FileKind,
    /// Permission and set-id bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Bytes, of a file or a symbolic link.
    pub size: u64,
    /// Major and minor number of a device node.
    pub device: (u32, u32),
}

/// What is different between two files at one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// What it is.
    pub kind: bool,
    /// Content, target or device number.
    pub content: bool,
    /// Permission or set-id bits.
    pub mode: bool,
    /// Owner or group.
    pub owner: bool,
    /// Extended attributes.
    pub attributes: bool,
}

impl Parts {
    /// Whether anything is.
    pub fn any(self) -> bool {
        self != Parts::default()
    }

    /// What is, in words.
    pub fn names(self) -> Vec<&'static str> {
        let each = [
            (self.kind, "type"),
            (self.content, "content"),
            (self.mode, "mode"),
            (self.owner, "owner"),
            (self.attributes, "attributes"),
        ];
        each.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect()
    }
}

/// A file of one layer, where it can be opened.
#[derive(Clone, Debug)]
pub(crate) struct Thing {
    pub(crate) directory: Arc<Directory>,
    /// `None` for the directory itself.
    pub(crate) name: Option<Arc<[u8]>>,
    pub(crate) stat: Stat,
    /// Its attributes may be the file space's own.
    pub(crate) is_ours: bool,
}

/// What a file holds.
pub(crate) enum Contents {
    Bytes(File),
    Target(Vec<u8>),
    /// Nothing that can be read.
    Nothing,
}

impl Thing {
    pub(crate) fn name(&self) -> Result<Name<'_>, Errno> {
        Name::new(self.name.as_deref().unwrap_or_default())
    }

    /// The file, or the directory, to read its attributes.
    pub(crate) fn opened(&self) -> Result<File, Errno> {
        match self.name {
            Some(_) => self.directory.any(self.name()?),
            None => self.directory.reopen(),
        }
    }

    fn keeps_attributes(&self) -> bool {
        matches!(self.stat.kind(), TYPE_REGULAR | TYPE_DIRECTORY)
    }

    /// How it is shown.
    pub(crate) fn shown(&self, tree: &Tree) -> Result<Shown, Errno> {
        let natural = tree.role.natural(&self.stat);
        if !self.is_ours || !self.keeps_attributes() {
            return Ok(natural);
        }
        let kept = Shown::read(&self.opened()?, self.stat.kind())?;
        Ok(kept.map_or(natural, |kept| tree.role.as_seen(kept)))
    }

    /// What it was below when it was copied up.
    pub(crate) fn origin(&self) -> Result<Option<Origin>, Errno> {
        match self.is_ours && self.keeps_attributes() {
            true => Origin::read(&self.opened()?),
            false => Ok(None),
        }
    }

    /// What the parent did up to then was known when this was made.
    pub(super) fn since(&self) -> Time {
        let made = made(&self.stat);
        let kept = match self.is_ours && self.keeps_attributes() {
            true => self.opened().and_then(|file| stored::since(&file)).ok().flatten(),
            false => None,
        };
        kept.unwrap_or(made)
    }

    pub(crate) fn side(&self, tree: &Tree) -> Result<Side, Errno> {
        let Shown { uid, gid, mode, kind, device } = self.shown(tree)?;
        let kind = FileKind::of(kind);
        let size = match kind {
            FileKind::File | FileKind::Symlink => self.stat.size,
            _ => 0,
        };
        let device = match kind {
            FileKind::Character | FileKind::Block => device,
            _ => (0, 0),
        };
        Ok(Side { kind, mode, uid, gid, size, device })
    }

    /// Opens what a file that is shown as `side` holds.
    pub(crate) fn contents(&self, side: &Side) -> Result<Contents, Errno> {
        match (side.kind, self.stat.kind()) {
            (FileKind::File, TYPE_REGULAR) => {
                Ok(Contents::Bytes(self.directory.file(self.name()?, Access::ReadQuietly)?))
            }
            (FileKind::Symlink, TYPE_SYMLINK) => {
                Ok(Contents::Target(self.directory.read_link(self.name()?)?))
            }
            // A link whose owner the host cannot have is a file that holds its target.
            (FileKind::Symlink, TYPE_REGULAR) => {
                let mut target = Vec::new();
                let file = self.directory.file(self.name()?, Access::ReadQuietly)?;
                file.read(0, self.stat.size.min(LONGEST_TARGET) as usize, &mut target)?;
                Ok(Contents::Target(target))
            }
            _ => Ok(Contents::Nothing),
        }
    }

    /// Its bytes, if there are at most `most`.
    pub(super) fn read(
        &self,
        tree: &Tree,
        side: &Side,
        most: u64,
    ) -> Result<Option<Vec<u8>>, Errno> {
        if self.side(tree)?.kind != side.kind {
            return Err(Errno::ESTALE);
        }
        match self.contents(side)? {
            Contents::Target(target) => Ok(Some(target)),
            Contents::Bytes(file) if file.stat()?.size <= most => {
                let mut bytes = Vec::new();
                file.read(0, file.stat()?.size.min(most) as usize, &mut bytes)?;
                Ok(Some(bytes))
            }
            Contents::Bytes(_) | Contents::Nothing => Ok(None),
        }
    }

    /// Extended attributes as seen inside.
    pub(crate) fn attributes(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
        let mut seen = BTreeMap::new();
        if !self.keeps_attributes() {
            return Ok(seen);
        }
        let file = match self.opened() {
            Ok(file) => file,
            // A file of the parent that may not be read has none that matter.
            Err(Errno::EACCES) if !self.is_ours => return Ok(seen),
            Err(errno) => return Err(errno),
        };
        for name in file.attribute_names()? {
            let shown = match self.is_ours {
                true => stored::shown_name(&name).map(<[u8]>::to_vec),
                false => stored::is_seen_below(&name).then(|| name.clone()),
            };
            if let (Some(shown), Some(value)) = (shown, file.attribute(&name)?) {
                seen.insert(shown, value);
            }
        }
        Ok(seen)
    }

    /// How this differs from `other`.
    pub(crate) fn compare(&self, other: &Thing, tree: &Tree) -> Result<Parts, Errno> {
        let (own, others) = (self.side(tree)?, other.side(tree)?);
        if own.kind != others.kind {
            return Ok(Parts { kind: true, ..Parts::default() });
        }
        let link = own.kind == FileKind::Symlink;
        Ok(Parts {
            kind: false,
            content: own.device != others.device || !self.has_contents_of(&own, other, &others)?,
            // The mode of a symbolic link means nothing.
            mode: own.mode != others.mode && !link,
            owner: (own.uid, own.gid) != (others.uid, others.gid),
            attributes: !link && self.attributes()? != other.attributes()?,
        })
    }

    fn has_contents_of(&self, own: &Side, other: &Thing, others: &Side) -> Result<bool, Errno> {
        if own.size != others.size {
            return Ok(false);
        }
        Ok(match (self.contents(own)?, other.contents(others)?) {
            (Contents::Bytes(one), Contents::Bytes(two)) => is_same(&one, &two)?,
            (Contents::Target(one), Contents::Target(two)) => one == two,
            (Contents::Nothing, Contents::Nothing) => true,
            _ => false,
        })
    }
}

/// When something was made; where the host does not know, when it was last changed.
pub(crate) fn made(stat: &Stat) -> Time {
    if stat.born == Time::default() { stat.changed } else { stat.born }
}

/// Whether two files hold the same bytes.
fn is_same(one: &File, two: &File) -> Result<bool, Errno> {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    let mut offset = 0;
    loop {
        left.clear();
        right.clear();
        one.read(offset, PIECE, &mut left)?;
        two.read(offset, PIECE, &mut right)?;
        if left != right {
            return Ok(false);
        }
        if left.len() < PIECE {
            return Ok(true);
        }
        offset += PIECE as u64;
    }
}
