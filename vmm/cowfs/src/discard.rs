//! Discarding what a space changed: the parent's version is seen again.
//!
//! Each path goes in one step, by a rename into work.

use crate::changes::{
    Change, Comparison, Means, Purpose, Unselectable, bytes_of, normal, shown, split,
};
use crate::node::checked;
use crate::own::OwnLayer;
use crate::stored;
use fuse::{Errno, Name};
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why nothing, or not all, was discarded.
#[derive(Debug, thiserror::Error)]
pub enum DiscardFailure {
    /// The paths do not say what.
    #[error(transparent)]
    Selection(#[from] Unselectable),
    /// The host refuses; what was discarded before stays so.
    #[error("{} cannot be discarded: {why}; run discard again once that is remedied", shown(path))]
    Host {
        /// The first path that is still there.
        path: PathBuf,
        /// What the host said.
        why: Errno,
    },
}

impl OwnLayer {
    /// What [`OwnLayer::discard`] would discard.
    ///
    /// # Errors
    /// The paths do not say what.
    pub fn discarded<'c>(
        &self,
        compared: &'c Comparison,
        paths: &[PathBuf],
    ) -> Result<Vec<&'c Change>, DiscardFailure> {
        Ok(compared.select(paths, Purpose::Discard)?)
    }

    /// Discards the changes at `paths` and below; without paths all the layer holds.
    ///
    /// # Errors
    /// Nothing is discarded if the paths do not say what; the host may refuse in between.
    pub fn discard(
        &mut self,
        compared: &Comparison,
        paths: &[PathBuf],
    ) -> Result<(), DiscardFailure> {
        if paths.is_empty() {
            return self.discard_all();
        }
        let selected = compared.select(paths, Purpose::Discard)?;
        let named: Result<Vec<_>, _> = paths.iter().map(|path| normal(path)).collect();
        let named = named?;
        if named.iter().any(|path| path.as_os_str().is_empty()) {
            return self.discard_all();
        }
        let host = |path: &Path| {
            let path = path.to_owned();
            move |why| DiscardFailure::Host { path, why }
        };
        for key in self.keys_of(&selected) {
            self.unindex(&key).map_err(host(Path::new("")))?;
        }
        for path in &named {
            self.discard_one(bytes_of(path)).map_err(host(path))?;
        }
        // The old places of renamed directories, once these are gone from the new ones.
        for change in selected {
            if let Means::Redirect { whiteout: Some(place), .. } = &change.means {
                self.discard_one(bytes_of(place)).map_err(host(place))?;
            }
        }
        Ok(())
    }

    fn discard_all(&mut self) -> Result<(), DiscardFailure> {
        self.empty().map_err(|why| DiscardFailure::Host { path: PathBuf::from("/"), why })
    }

    /// Removes all the layer holds.
    pub(crate) fn empty(&mut self) -> Result<(), Errno> {
        let mut names = Vec::new();
        self.upper.list(|name, _, _| names.push(name.as_bytes().to_vec()))?;
        for name in &names {
            self.discard_one(name)?;
        }
        let keys: Vec<_> = self.index().iter().flat_map(|index| index.keys().cloned()).collect();
        for key in keys {
            self.unindex(&key)?;
        }
        stored::forget(&self.upper)
    }

    fn discard_one(&mut self, path: &[u8]) -> Result<(), Errno> {
        let Some((name, above)) = split(path)? else { return Ok(()) };
        match self.directory(above)? {
            Some(directory) => self.remove(&directory, name),
            None => Ok(()),
        }
    }

    /// The files of the index whose names of the parent are all among the selected.
    pub(crate) fn keys_of(&self, selected: &[&Change]) -> BTreeSet<Arc<[u8]>> {
        let Some(index) = self.index() else { return BTreeSet::new() };
        let files: HashSet<(u64, u64)> =
            selected.iter().flat_map(|change| change.groups.iter().copied()).collect();
        let is_selected = |key: &&Arc<[u8]>| {
            let stat = index.find(key).ok().flatten();
            stat.is_some_and(|stat| files.contains(&(stat.device, stat.inode)))
        };
        index.keys().filter(is_selected).cloned().collect()
    }

    /// No name of the parent stands for the file of the index any more.
    pub(crate) fn unindex(&mut self, key: &Arc<[u8]>) -> Result<(), Errno> {
        let Some(index) = self.index() else { return Ok(()) };
        let key: Name<'_> = checked(key);
        self.remove(&index.directory, key)
    }
}
