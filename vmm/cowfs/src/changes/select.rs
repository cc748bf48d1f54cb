//! Which changes are meant by paths, and which cannot go without others.

use super::shown;
use super::walk::join;
use super::{Change, Comparison, FileKind, Means, What, is_below};
use fuse::Errno;
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// Why paths do not say what is to be done.
#[derive(Debug, thiserror::Error)]
pub enum Unselectable {
    /// Nothing was changed there.
    #[error("{} has no change; portspace diff lists those there are", shown(path))]
    NoChange {
        /// As named.
        path: PathBuf,
    },
    /// It leads out of the space.
    #[error("{} has .. in it; name it from the space's root", shown(path))]
    Outside {
        /// As named.
        path: PathBuf,
    },
    /// It is the old name of a directory.
    #[error("{} was renamed to {}; name that", shown(path), shown(new))]
    Renamed {
        /// As named.
        path: PathBuf,
        /// The new name.
        new: PathBuf,
    },
    /// It cannot be had apart from a directory above.
    #[error("{} goes with all that was done to {}; name that", shown(path), shown(whole))]
    PartOf {
        /// What was named.
        path: PathBuf,
        /// What has to be.
        whole: PathBuf,
    },
    /// One of several names of a file.
    #[error("{} and {} are one file; name both", shown(path), shown(other))]
    Linked {
        /// What was named.
        path: PathBuf,
        /// What has to be as well.
        other: PathBuf,
    },
    /// A directory was moved out of another.
    #[error("{} was moved out of {}; name both", shown(other), shown(path))]
    MovedOut {
        /// What was named.
        path: PathBuf,
        /// What has to be as well.
        other: PathBuf,
    },
    /// What is not known cannot be applied.
    #[error("{} cannot be looked at: {why}; name others, or make it readable", shown(path))]
    Unreadable {
        /// Where.
        path: PathBuf,
        /// What the host said.
        why: Errno,
    },
}

/// What is to be done with changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Commit,
    Discard,
}

/// A path from the space's root, without a slash in front.
pub(crate) fn normal(path: &Path) -> Result<PathBuf, Unselectable> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Unselectable::Outside { path: path.to_owned() });
            }
        }
    }
    Ok(normal)
}

impl Change {
    /// The parent's directories that go from where they are with all that is in them.
    fn taken(&self) -> impl Iterator<Item = &[u8]> {
        let is_directory = self.before.is_some_and(|side| side.kind == FileKind::Directory);
        let stays = matches!(self.what, What::Changed(parts) if !parts.kind);
        let own = (is_directory && !stays).then_some(&*self.below);
        let replaced = match &self.means {
            Means::Redirect { replaces, .. } => replaces.as_deref(),
            _ => None,
        };
        own.into_iter().chain(replaced)
    }
}

impl Change {
    /// Whether both have a directory there.
    fn stays_directory(&self) -> bool {
        let is_directory = self.after.is_some_and(|side| side.kind == FileKind::Directory);
        is_directory && matches!(self.what, What::Changed(parts) if !parts.kind)
    }

    /// The parent's directory that the space hides, with this in it.
    fn hiding(&self) -> Option<&[u8]> {
        let inner = self.path.parent()?.strip_prefix(self.hidden_by.as_deref()?).ok()?;
        let inner = inner.as_os_str().as_bytes();
        let hiding = self.above.strip_suffix(inner)?;
        Some(hiding.strip_suffix(b"/").unwrap_or(hiding))
    }

    /// The parent's directories of which nothing is left at all.
    pub(crate) fn whole(&self) -> impl Iterator<Item = &[u8]> {
        let is_renamed = matches!(self.what, What::Renamed { .. });
        self.taken().filter(move |taken| !is_renamed || *taken != &*self.below)
    }
}

impl Comparison {
    /// The changes at `paths` and below, in order, all that they need being among them; without
    /// paths all changes.
    pub(crate) fn select(
        &self,
        paths: &[PathBuf],
        purpose: Purpose,
    ) -> Result<Vec<&Change>, Unselectable> {
        let by_path: BTreeMap<&Path, &Change> =
            self.changes.iter().map(|change| (&*change.path, change)).collect();
        let all = [PathBuf::new()];
        let mut selected = BTreeMap::new();
        for named in if paths.is_empty() { &all } else { paths } {
            let path = normal(named)?;
            let unreadable = self.unreadable.iter().find(|one| one.path.starts_with(&path));
            if let Some(unreadable) = unreadable {
                let (path, why) = (unreadable.path.clone(), unreadable.why);
                return Err(Unselectable::Unreadable { path, why });
            }
            let count = selected.len();
            selected.extend(self.at(&path).map(|change| (&*change.path, change)));
            if selected.len() == count && !paths.is_empty() && self.at(&path).next().is_none() {
                return Err(self.nothing_at(path, named));
            }
        }
        if purpose == Purpose::Commit {
            self.add_directories(&by_path, &mut selected)?;
        }
        self.check(&selected)?;
        Ok(selected.into_values().collect())
    }

    fn nothing_at(&self, path: PathBuf, named: &Path) -> Unselectable {
        let renamed = self.changes.iter().find(
            |change| matches!(&change.what, What::Renamed { from, .. } if path.starts_with(from)),
        );
        match renamed {
            Some(change) => Unselectable::Renamed { path, new: change.path.clone() },
            None => Unselectable::NoChange { path: named.to_owned() },
        }
    }

    /// The new directories that the selected are in.
    fn add_directories<'c>(
        &'c self,
        by_path: &BTreeMap<&'c Path, &'c Change>,
        selected: &mut BTreeMap<&'c Path, &'c Change>,
    ) -> Result<(), Unselectable> {
        let mut missing = Vec::new();
        for path in selected.keys() {
            for above in path.ancestors().skip(1) {
                let Some(change) = by_path.get(above) else { continue };
                if selected.contains_key(above) {
                    continue;
                }
                match &change.what {
                    What::Added => missing.push(*change),
                    What::Changed(parts) if !parts.kind => {}
                    _ => {
                        let (path, whole) = (path.to_path_buf(), above.to_owned());
                        return Err(Unselectable::PartOf { path, whole });
                    }
                }
            }
        }
        selected.extend(missing.into_iter().map(|change| (&*change.path, change)));
        Ok(())
    }

    /// Whether nothing is missing that the selected cannot go without.
    fn check(&self, selected: &BTreeMap<&Path, &Change>) -> Result<(), Unselectable> {
        let is_left = |change: &&Change| !selected.contains_key(&*change.path);
        let left: Vec<&Change> = self.changes.iter().filter(is_left).collect();
        let hidden: HashSet<&Path> =
            left.iter().filter_map(|change| change.hidden_by.as_deref()).collect();
        let groups: BTreeMap<_, &Change> = left
            .iter()
            .flat_map(|change| change.groups.iter().map(|file| (file, *change)))
            .collect();
        let moved: Vec<(&[u8], &Change)> = left
            .iter()
            .filter(|change| matches!(change.what, What::Renamed { .. }))
            .map(|change| (&*change.below, *change))
            .collect();
        for change in selected.values() {
            let path = change.path.clone();
            if let Means::Within(top) = &change.means
                && !selected.contains_key(&**top)
            {
                return Err(Unselectable::PartOf { path, whole: top.clone() });
            }
            if let Some(whole) = change.hidden_by.as_deref().filter(|top| hidden.contains(top)) {
                return Err(Unselectable::PartOf { path, whole: whole.to_owned() });
            }
            if let Some(other) = change.groups.iter().find_map(|file| groups.get(file)) {
                return Err(Unselectable::Linked { path, other: other.path.clone() });
            }
            let natural = join(&change.above, change.path.file_name().map_or(b"", OsStr::as_bytes));
            if let Some((_, other)) = moved.iter().find(|(from, _)| **from == *natural) {
                return Err(Unselectable::MovedOut { path, other: other.path.clone() });
            }
            let mut taken = change.taken().chain(change.hiding());
            let out = |taken: &[u8]| {
                let is_out =
                    |(from, _): &&(&[u8], &Change)| is_below(from, taken) && **from != *taken;
                moved.iter().find(is_out)
            };
            if let Some((_, other)) = taken.find_map(out) {
                return Err(Unselectable::MovedOut { path, other: other.path.clone() });
            }
            // Where no whiteout is, the directory itself may be what hides the old place.
            let is_hidden = |(from, other): &&(&[u8], &Change)| {
                matches!(other.means, Means::Redirect { whiteout: None, .. })
                    && is_below(from, &change.below)
                    && **from != *change.below
            };
            if change.stays_directory()
                && let Some((_, other)) = moved.iter().find(is_hidden)
            {
                return Err(Unselectable::MovedOut { path, other: other.path.clone() });
            }
        }
        Ok(())
    }
}
