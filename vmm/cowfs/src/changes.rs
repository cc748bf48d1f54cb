//! What a space changed: its own layer compared with the parent's files.
//!
//! Nothing is locked and nothing written: a space that runs can be compared too.

mod directories;
mod gone;
mod links;
mod moved;
mod select;
mod shown;
mod side;
mod tree;
mod walk;

use crate::configuration::{Config, OpenFailure};
use crate::host::Stat;
use fuse::{Errno, Time};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use select::Unselectable;
pub(crate) use select::{Purpose, normal};
pub use shown::shown;
pub(crate) use side::{Contents, Thing, made};
pub use side::{FileKind, Parts, Side};
pub(crate) use tree::{Tree, is_below, split, walk_down};
pub(crate) use walk::{bytes_of, path_of};

/// A space's own layer, compared.
#[derive(Debug)]
pub struct Comparison {
    /// What differs, by path.
    pub changes: Vec<Change>,
    /// What could not be looked at, by path; the rest is compared nevertheless.
    pub unreadable: Vec<Unreadable>,
    /// Why the parent's files cannot be read: then every file of the layer counts as changed.
    pub parent: Option<OpenFailure>,
    pub(crate) tree: Tree,
    /// Directories with a redirect to their own place, which is right only while that is there.
    pub(crate) redundant: Vec<PathBuf>,
}

/// Something the space has otherwise than the parent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where, from the root of the space, without a slash in front; empty for the root itself.
    pub path: PathBuf,
    /// What was done.
    pub what: What,
    /// What the parent has now, as far as it is there and can be read.
    pub before: Option<Side>,
    /// What the space has.
    pub after: Option<Side>,
    /// What the parent did at this place since.
    pub conflict: Option<Conflict>,
    /// The place is masked: what the space has there is not for the parent.
    pub is_masked: bool,
    /// The parent's file, as the lowers have its path.
    pub(crate) below: Vec<u8>,
    pub(crate) means: Means,
    /// The space's file, if it has several names.
    pub(crate) linked: Option<(u64, u64)>,
    /// Files of the index that all other names of the parent's file stand for, or of those below
    /// it that go with it.
    pub(crate) groups: Vec<(u64, u64)>,
    /// The directory around it, as the lowers have its path.
    pub(crate) above: Vec<u8>,
    /// A directory of the upper, at this path, that is in the place of all the parent has there:
    /// what is below it is the parent's again with it alone.
    pub(crate) hidden_by: Option<PathBuf>,
    /// The parent's file as it was compared.
    pub(crate) stamp: Option<Stamp>,
}

/// Tells a file of the parent from another, and from what it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// Size and last write; of a directory neither, as names in it come and go.
    written: Option<(u64, Time)>,
}

impl Stamp {
    pub(crate) fn of(stat: &Stat) -> Stamp {
        let written = (!stat.is_directory()).then_some((stat.size, stat.modified));
        Stamp { device: stat.device, inode: stat.inode, written }
    }

    /// Numbers with colons between them.
    pub(crate) fn text(self) -> String {
        let Stamp { device, inode, written } = self;
        match written {
            None => format!("{device}:{inode}"),
            Some((size, Time { seconds, nanoseconds })) => {
                format!("{device}:{inode}:{size}:{seconds}:{nanoseconds}")
            }
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Stamp> {
        let mut parts = text.split(':');
        let (device, inode) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let written = match parts.next() {
            None => None,
            Some(size) => {
                let seconds = parts.next()?.parse().ok()?;
                let nanoseconds = parts.next()?.parse().ok()?;
                Some((size.parse().ok()?, Time { seconds, nanoseconds }))
            }
        };
        Some(Stamp { device, inode, written })
    }
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// The parent has nothing there.
    Added,
    /// Both have something there, with these differences.
    Changed(Parts),
    /// The space has nothing there.
    Deleted,
    /// The parent's directory `from` is at another place; its files go with it.
    Renamed {
        /// Where the parent has it.
        from: PathBuf,
        /// What else is different of the directory itself.
        parts: Parts,
    },
}

/// How the upper says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    /// By a file or directory at the path.
    Name,
    /// By a whiteout at the path.
    Whiteout,
    /// By a directory above that hides all the parent has there.
    Opaque,
    /// By what was done to a directory above, at this path, as a whole.
    Within(PathBuf),
    /// By the index of hard links: the upper has the file, but not this name of it.
    Index(Arc<[u8]>),
    /// By a directory with a redirect.
    Redirect {
        /// The whiteout at the old place, if there is nothing else.
        whiteout: Option<PathBuf>,
        /// What the parent has at the new place, and the space had removed.
        replaces: Option<Vec<u8>>,
    },
}

/// What the parent did meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// It changed the file after the space had made its own of it.
    Changed,
    /// It made something where the space had made its own.
    Appeared,
    /// It removed what the space changed.
    Gone,
}

impl Conflict {
    /// What happened, as the rest of a sentence about the path.
    pub fn sentence(self) -> &'static str {
        match self {
            Conflict::Changed => "the parent changed it meanwhile",
            Conflict::Appeared => "the parent made something there meanwhile",
            Conflict::Gone => "the parent removed it meanwhile",
        }
    }
}

/// Something that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Where, from the root of the space.
    pub path: PathBuf,
    /// What the host said.
    pub why: Errno,
}

impl Config {
    /// Compares the upper with the lowers; `progress` is told how many files were looked at.
    ///
    /// # Errors
    /// The upper cannot be opened.
    pub fn compare(&self, progress: &mut dyn FnMut(u64)) -> Result<Comparison, OpenFailure> {
        let (tree, parent) = Tree::open(self)?;
        let walk::Found { changes, unreadable, redundant } =
            walk::compare(&tree, parent.is_some(), progress);
        Ok(Comparison { changes, unreadable, parent, tree, redundant })
    }
}

impl Comparison {
    /// The bytes of both sides of a change, for a patch: of regular files their contents, of
    /// symbolic links their targets. `None` is what is not there, or is more than `most` bytes.
    ///
    /// # Errors
    /// One of the two cannot be read, or is another file by now.
    pub fn texts(&self, change: &Change, most: u64) -> Result<[Option<Vec<u8>>; 2], Errno> {
        let before = match &change.before {
            Some(side) => self.tree.below(&change.below)?.read(&self.tree, side, most)?,
            None => None,
        };
        let after = match &change.after {
            Some(side) => self.own(change)?.read(&self.tree, side, most)?,
            None => None,
        };
        Ok([before, after])
    }

    /// The space's file of a change.
    pub(crate) fn own(&self, change: &Change) -> Result<Thing, Errno> {
        match &change.means {
            Means::Index(key) => self.tree.indexed(key),
            _ => self.tree.upper(bytes_of(&change.path)),
        }
    }

    /// The changes at `path` and below.
    pub fn at<'c, 'p>(&'c self, path: &'p Path) -> impl Iterator<Item = &'c Change> + use<'c, 'p> {
        self.changes.iter().filter(move |change| change.path.starts_with(path))
    }
}
