//! A space's own layer in the hands of somebody who changes it: locked, and nobody serves it.

use crate::changes::{Comparison, walk_down};
use crate::commit::Desk;
use crate::configuration::{Config, OpenFailure, clean, root};
use crate::host::{Directory, Rename};
use crate::index::Index;
use crate::remove_all::remove_all;
use fuse::{Errno, Name};
use std::collections::HashSet;

/// A space's own layer, locked until this is dropped.
#[derive(Debug)]
pub struct OwnLayer {
    pub(crate) config: Config,
    pub(crate) upper: Directory,
    pub(crate) work: Directory,
    pub(crate) desk: Desk,
    staged: u64,
}

impl Config {
    /// Takes the upper for changes from outside.
    ///
    /// # Errors
    /// A space uses it, it cannot be opened, or a commit that was interrupted can be neither
    /// finished nor undone.
    pub fn take(&self) -> Result<OwnLayer, OpenFailure> {
        let upper = root("upper", &self.upper)?;
        let failed =
            |source| OpenFailure::Directory { role: "upper", path: self.upper.clone(), source };
        if !upper.lock().map_err(failed)? {
            return Err(OpenFailure::InUse { path: self.upper.clone() });
        }
        let work = root("work", &self.work)?;
        let unclean = |source| OpenFailure::Unclean { path: self.work.clone(), source };
        clean(&work, &HashSet::new()).map_err(unclean)?;
        let interrupted = |(path, source)| OpenFailure::Interrupted { path, source };
        let mut own = OwnLayer::of(self.clone(), upper, work)
            .map_err(|why| interrupted((self.work.clone(), why)))?;
        own.recover().map_err(interrupted)?;
        Ok(own)
    }
}

impl Config {
    /// Whether a commit of this layer was interrupted; [`Config::take`] finishes or undoes it.
    pub fn is_interrupted(&self) -> bool {
        Desk::beside(&self.work).is_ok_and(|desk| desk.has_journal())
    }
}

impl OwnLayer {
    /// The layer of directories that are locked already.
    pub(crate) fn of(
        config: Config,
        upper: Directory,
        work: Directory,
    ) -> std::io::Result<OwnLayer> {
        let desk = Desk::beside(&config.work)?;
        Ok(OwnLayer { config, upper, work, desk, staged: 0 })
    }

    /// Compares the layer with the parent; `progress` is told how many files were looked at.
    ///
    /// # Errors
    /// The upper cannot be opened again.
    pub fn compare(&self, progress: &mut dyn FnMut(u64)) -> Result<Comparison, OpenFailure> {
        self.config.compare(progress)
    }

    /// A free name in work for what is made or removed; what a killed process leaves there is
    /// removed when the layer is opened again.
    pub(crate) fn staged_name(&mut self) -> Vec<u8> {
        self.staged += 1;
        crate::configuration::staged_name(self.staged)
    }

    /// Removes `name` of `directory` and all below it, at one moment.
    pub(crate) fn remove(&mut self, directory: &Directory, name: Name<'_>) -> Result<(), Errno> {
        let staged = self.staged_name();
        let staged = Name::new(&staged)?;
        match directory.rename(name, &self.work, staged, Rename::New) {
            Err(Errno::ENOENT) => Ok(()),
            moved => {
                moved?;
                remove_all(&self.work, staged)
            }
        }
    }

    /// The directory of the upper at a path; `None` if there is none any more.
    pub(crate) fn directory(&self, path: &[u8]) -> Result<Option<Directory>, Errno> {
        match walk_down(&self.upper, path) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The index of hard links, if there is one.
    pub(crate) fn index(&self) -> Option<Index> {
        Index::open(&self.config.work.join("index")).ok()
    }
}
