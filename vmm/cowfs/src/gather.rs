//! Gathering: what a space wrote before it was sealed comes back into its upper.
//!
//! The layers it had sealed belong to others as well and stay as they are; the space needs them
//! no more. Copying changes nothing of what is seen, at any moment. What would, as long as the
//! layers are there, is handed out to be done once they are not.

use crate::changes::{made, path_of, shown, walk_down};
use crate::configuration::{Config, OpenFailure, root};
use crate::host::{Attributes, Directory, File, Rename, Stat};
use crate::layer::{Found, Kind, Lower, Merged, Place, Sight, UPPER, join};
use crate::node::checked;
use crate::space::{FileSpace, State};
use crate::stored::{self, Origin};
use fuse::record::{TYPE_DIRECTORY, TYPE_REGULAR};
use fuse::{Errno, Name, NodeId, Time};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Why what was sealed cannot be gathered; what is seen is as it was.
#[derive(Debug, thiserror::Error)]
pub enum GatherFailure {
    /// The layers cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenFailure),
    /// The host refuses.
    #[error("{} cannot be copied into the upper: {why}; remedy that and try again", shown(path))]
    Host {
        /// What was being copied, from the root of the space.
        path: PathBuf,
        /// What the host said.
        why: Errno,
    },
}

/// What is left to be done where the space's sealed layers are no lowers of it any more; before,
/// it must not be. It may be done again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gathered {
    /// Directories of the upper, and what of the lowers goes with them.
    directories: Vec<(Vec<u8>, Below)>,
    /// Names in the index of hard links, and those they get.
    keys: Vec<Renamed>,
}

/// A name of the index, and the one it gets; without one it goes.
type Renamed = (Vec<u8>, Option<Vec<u8>>);

/// What a directory of the upper is merged with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Below {
    /// What the lowers have at its own place.
    Natural,
    /// What they have at this path.
    Redirect(Vec<u8>),
    /// Nothing.
    Opaque,
}

/// What the bottommost copy of a file in the sealed layers says of it.
#[derive(Clone, Copy, Debug)]
struct Ancestor {
    /// What it was copied from; `None` if the space made it.
    origin: Option<Origin>,
    /// When.
    since: Time,
}

/// What a raw look through the sealed layers tells.
#[derive(Debug, Default)]
struct Ancestors {
    /// By inode number as shown.
    known: HashMap<u64, Ancestor>,
    /// The keys that files of these layers have in the indexes above.
    keys: HashSet<Arc<[u8]>>,
}

/// A directory that is gathered, or holds some.
struct Next {
    id: NodeId,
    path: Vec<u8>,
    /// Its path as the lowers that stay have it; `None` below what hides them.
    below: Option<Vec<u8>>,
}

impl Config {
    /// Copies what the space's sealed layers have into its upper, which nobody may serve.
    ///
    /// `progress` is told how many files were looked at.
    ///
    /// # Errors
    /// [`GatherFailure`]; what was copied so far stays, and is as it was to whoever looks.
    pub fn gather(&self, progress: &mut dyn FnMut(u64)) -> Result<Gathered, GatherFailure> {
        let config = Config { quota: None, notify: false, ..self.clone() };
        let space = FileSpace::open(config)?;
        let mut state = space.lock();
        let gathered = state.gather(progress);
        gathered.map_err(|(path, why)| GatherFailure::Host { path: path_of(&path), why })
    }

    /// Does what [`Config::gather`] left, now that the sealed layers are gone from the lowers.
    ///
    /// # Errors
    /// [`GatherFailure`]; it is to be done again.
    pub fn settle_gathered(&self, gathered: &Gathered) -> Result<(), GatherFailure> {
        let own = self.take()?;
        let failed = |path: &[u8]| {
            let path = path_of(path);
            move |why| GatherFailure::Host { path, why }
        };
        for (path, below) in &gathered.directories {
            let marked = walk_down(&own.upper, path).and_then(|directory| {
                stored::unmark(&directory)?;
                match below {
                    Below::Natural => Ok(()),
                    Below::Redirect(to) => stored::set_redirect(&directory, to),
                    Below::Opaque => stored::Marks::probe(&own.work).set_opaque(&directory),
                }
            });
            marked.map_err(failed(path))?;
        }
        let index = root("index", &self.work.join("index"))?;
        for (from, to) in &gathered.keys {
            let from = Name::new(from).map_err(failed(b""))?;
            let done = match to {
                None => index.remove(from),
                Some(to) => {
                    Name::new(to).and_then(|to| index.rename(from, &index, to, Rename::Replace))
                }
            };
            match done {
                // It was done before.
                Err(Errno::ENOENT) => {}
                done => done.map_err(failed(b""))?,
            }
        }
        own.upper.sync_file_system().map_err(failed(b""))
    }
}

type Failed = (Vec<u8>, Errno);

impl State {
    fn gather(&mut self, progress: &mut dyn FnMut(u64)) -> Result<Gathered, Failed> {
        let at = |path: &[u8]| {
            let path = path.to_vec();
            move |why| (path, why)
        };
        let ancestors = self.ancestors().map_err(at(b""))?;
        let mut gathered = Gathered::default();
        self.gather_root().map_err(at(b""))?;
        let mut looked = 0;
        let mut open = vec![Next { id: NodeId::ROOT, path: Vec::new(), below: Some(Vec::new()) }];
        while let Some(next) = open.pop() {
            let names = self.names_to_gather(&next).map_err(at(&next.path))?;
            for name in &names {
                looked += 1;
                progress(looked);
                let path = join(&next.path, name);
                let directory = self.gather_name(&next, name, &ancestors).map_err(at(&path))?;
                if let Some(id) = directory {
                    let below = self.below_of(&next, id, name, &path, &mut gathered);
                    let below = below.map_err(at(&path))?;
                    open.push(Next { id, path, below });
                }
            }
        }
        gathered.keys = self.gather_index(&ancestors).map_err(at(b""))?;
        self.work.sync_file_system().map_err(at(b""))?;
        Ok(gathered)
    }

    fn is_own(&self, lower: &Lower) -> bool {
        self.layers.kind(lower.place.layer) == Some(Kind::Own)
    }

    /// The numbers of the layers the space sealed itself, bottommost first.
    fn own_layers(&self) -> Vec<usize> {
        let own = self.layers.roots.iter().filter(|root| self.is_own(root));
        own.map(|root| root.place.layer).rev().collect()
    }

    /// The root's own owner, mode and attributes, unless it was given others since.
    fn gather_root(&mut self) -> Result<(), Errno> {
        let root = self.root.upper().reopen()?;
        let mut known: HashSet<Vec<u8>> = root.attribute_names()?.into_iter().collect();
        for lower in self.layers.roots.iter().filter(|root| self.is_own(root)) {
            for name in lower.directory.attribute_names()? {
                if stored::is_shown(&name)
                    && let Some(value) = lower.directory.attribute(&name)?
                    && known.insert(name.clone())
                {
                    root.set_attribute(&name, &value, 0)?;
                }
            }
        }
        Ok(())
    }

    /// The names of a directory in the upper and in the space's sealed layers.
    fn names_to_gather(&mut self, next: &Next) -> Result<BTreeSet<Vec<u8>>, Errno> {
        let merged = self.directory(next.id)?;
        let mut names = BTreeSet::new();
        let own = merged.lowers.iter().filter(|lower| self.is_own(lower));
        for directory in own.map(|lower| &*lower.directory).chain(&merged.upper) {
            directory.list(|name, _, _| {
                names.insert(name.as_bytes().to_vec());
            })?;
        }
        Ok(names)
    }

    /// Makes `name` the upper's; a directory is told of.
    fn gather_name(
        &mut self,
        next: &Next,
        name: &[u8],
        ancestors: &Ancestors,
    ) -> Result<Option<NodeId>, Errno> {
        let name = Name::new(name)?;
        let merged = self.directory(next.id)?;
        let found = match self.find(&merged, name)? {
            Sight::Absent { whiteout: true } => return Ok(None),
            Sight::Absent { whiteout: false } => {
                let own = merged.lowers.iter().filter(|lower| self.is_own(lower));
                for lower in own {
                    let Some(stat) = lower.directory.stat(name)? else { continue };
                    if stat.is_whiteout() {
                        self.link_up(next.id, name, &lower.directory, name)?;
                    }
                    break;
                }
                return Ok(None);
            }
            Sight::Found(found) => found,
        };
        let kind = found.stat.kind();
        if kind == TYPE_DIRECTORY {
            let id = self.node_of(next.id, &merged, name, &found)?;
            self.nodes.looked_up(id);
            self.upper_directory(id)?;
            self.descend_from(next.id, name, ancestors)?;
            return Ok(Some(id));
        }
        let is_own = self.layers.kind(found.place.layer) == Some(Kind::Own);
        match found.place.layer {
            UPPER if found.indexed.is_none() => {}
            layer
                if kind != TYPE_REGULAR && is_own && self.is_outdated(&merged, name, &found)? =>
            {
                // What can have no attributes tells by the time at which it was made.
                let (from, old) = match (&found.indexed, self.indexes.get(layer)) {
                    (Some(key), Some(Some(index))) => (Arc::clone(&index.directory), checked(key)),
                    _ => (Arc::new(merged.layer(layer)?.try_clone()?), name),
                };
                self.link_up(next.id, name, &from, old)?;
            }
            _ => self.copy_up_name(next.id, name, &found)?,
        }
        if kind == TYPE_REGULAR {
            self.descend_from(next.id, name, ancestors)?;
        }
        Ok(None)
    }

    /// Whether the lowers that stay have something at a name that came, or changed, after what
    /// the space has there was made.
    fn is_outdated(&self, merged: &Merged, name: Name<'_>, found: &Found) -> Result<bool, Errno> {
        for lower in merged.lowers.iter().filter(|lower| !self.is_own(lower)) {
            if let Some(stat) = lower.directory.stat(name)? {
                return Ok(stat.changed > made(&found.stat));
            }
        }
        Ok(false)
    }

    /// Gives the upper a further link of a file that nobody writes.
    fn link_up(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        from: &Directory,
        old: Name<'_>,
    ) -> Result<(), Errno> {
        let upper = self.upper_directory(directory)?;
        let times = upper.upper().stat_self()?;
        from.link(old, upper.upper(), name)?;
        self.nodes.detach(directory, name);
        crate::copy_up::keep_times(upper.upper(), &times)
    }

    /// A copy of the upper says of what it was made what the bottommost copy of it said.
    fn descend_from(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        ancestors: &Ancestors,
    ) -> Result<(), Errno> {
        let upper = self.upper_directory(directory)?;
        keep_ancestor(&upper.upper().any(name)?, ancestors)
    }

    /// What the lowers that stay have of a directory of the upper: its path there. What has to
    /// be marked on it is noted.
    fn below_of(
        &mut self,
        above: &Next,
        id: NodeId,
        name: &[u8],
        path: &[u8],
        gathered: &mut Gathered,
    ) -> Result<Option<Vec<u8>>, Errno> {
        let merged = self.directory(id)?;
        let upper = merged.upper();
        let redirect = stored::redirect(upper)?;
        let is_opaque = self.layers.marks.is_opaque(upper)?;
        let natural = above.below.as_ref().map(|below| join(below, name));
        let others = merged.lowers.iter().filter(|lower| !self.is_own(lower));
        let mut others = others.filter(|lower| !self.layers.is_given(lower.place.layer));
        let (below, wanted) = match others.next() {
            Some(other) if Some(&*other.path) == natural.as_deref() => (natural, Below::Natural),
            Some(other) => (Some(other.path.to_vec()), Below::Redirect(other.path.to_vec())),
            None if natural.is_none() => (None, Below::Natural),
            None if is_opaque || redirect.is_some() || self.is_cut(above.id, name)? => {
                (None, Below::Opaque)
            }
            None => (natural, Below::Natural),
        };
        let has = match (is_opaque, redirect) {
            (true, _) => Below::Opaque,
            (false, Some(to)) => Below::Redirect(to),
            (false, None) => Below::Natural,
        };
        if has != wanted {
            gathered.directories.push((path.to_vec(), wanted));
        }
        Ok(below)
    }

    /// Whether a sealed layer of the space hides what the lowers that stay have at a name, or
    /// shows something else of them there.
    fn is_cut(&mut self, above: NodeId, name: &[u8]) -> Result<bool, Errno> {
        let name = Name::new(name)?;
        let above = self.directory(above)?;
        for lower in above.lowers.iter().filter(|lower| self.is_own(lower)) {
            let Some(stat) = lower.directory.stat(name)? else { continue };
            if !stat.is_directory() {
                return Ok(true);
            }
            let directory = lower.directory.directory(name, true)?;
            if self.layers.marks.is_opaque(&directory)? || stored::redirect(&directory)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Files that only names of the lowers stand for, and what keys all those of the index get.
    fn gather_index(&mut self, ancestors: &Ancestors) -> Result<Vec<Renamed>, Errno> {
        let mut renamed: HashMap<Arc<[u8]>, Arc<[u8]>> = HashMap::new();
        for layer in self.own_layers() {
            let Some(Some(index)) = self.indexes.get(layer) else { continue };
            let keys: Vec<_> = index.keys().cloned().collect();
            for key in keys.into_iter().filter(|key| !ancestors.keys.contains(key)) {
                let Some(Some(index)) = self.indexes.get(layer) else { continue };
                let Some(stat) = index.find(&key)? else { continue };
                let found = Found {
                    place: Place::new(layer, &stat),
                    stat,
                    indexed: Some(Arc::clone(&key)),
                };
                if let Some(last) = self.gather_indexed(found)? {
                    renamed.entry(last).or_insert(key);
                }
            }
        }
        let index = self.own_index();
        let keys: Vec<_> = index.keys().cloned().collect();
        for key in &keys {
            // Some have no name in the upper.
            if index.find(key)?.is_some_and(|stat| stat.kind() == TYPE_REGULAR) {
                keep_ancestor(&index.directory.any(checked(key))?, ancestors)?;
            }
        }
        let of_own = keys.into_iter().filter(|key| ancestors.keys.contains(key));
        let each = of_own.map(|key| {
            let to = renamed.get(&key).map(|to| to.to_vec());
            (key.to_vec(), to)
        });
        let mut keys: Vec<_> = each.collect();
        keys.sort();
        Ok(keys)
    }

    /// The key that a file of an index has in the upper's, which gets it if it has not.
    fn gather_indexed(&mut self, found: Found) -> Result<Option<Arc<[u8]>>, Errno> {
        let found = self.through_index(found)?;
        if found.place.layer == UPPER {
            return Ok(found.indexed);
        }
        let key = found.place.key();
        let (layer, last) = (found.place.layer, found.indexed.clone().ok_or(Errno::EIO)?);
        let Some(Some(index)) = self.indexes.get(layer) else { return Ok(None) };
        let from = Arc::clone(&index.directory);
        if found.stat.kind() != TYPE_REGULAR {
            let index = self.own_index();
            index.add(&from, checked(&last), &key)?;
            return Ok(Some(key));
        }
        let names = stored::pending(&from.any(checked(&last))?)?;
        if names == 0 {
            return Ok(None);
        }
        let root = Arc::clone(&self.root);
        let (seen, _) = self.see(&root, checked(&last), &found)?;
        let id = self.nodes.insert(seen)?;
        let copy = self.stage_copy(id, u64::MAX)?;
        let staged = copy.staged;
        {
            let State { indexes, work, .. } = self;
            let index = indexes[UPPER].as_mut().expect("the upper's index is opened with it");
            index.add(work, staged.name(), &key)?;
            let file = work.any(staged.name())?;
            stored::set_pending(&file, names)?;
        }
        self.discard(&staged);
        Ok(Some(key))
    }

    /// Looks at every file of the space's sealed layers.
    fn ancestors(&self) -> Result<Ancestors, Errno> {
        let mut ancestors = Ancestors::default();
        for layer in self.own_layers() {
            let roots = self.layers.roots.iter().filter(|root| root.place.layer == layer);
            let mut open: Vec<_> = roots.map(|root| Arc::clone(&root.directory)).collect();
            if let Some(Some(index)) = self.indexes.get(layer) {
                open.push(Arc::clone(&index.directory));
            }
            while let Some(directory) = open.pop() {
                let mut names = Vec::new();
                directory.list(|name, _, _| names.push(name.as_bytes().to_vec()))?;
                for name in &names {
                    let name = Name::new(name)?;
                    let Some(stat) = directory.stat(name)? else { continue };
                    if stat.is_directory() {
                        open.push(Arc::new(directory.directory(name, true)?));
                    } else {
                        ancestors.keys.insert(Place::new(layer, &stat).key());
                    }
                    if matches!(stat.kind(), TYPE_REGULAR | TYPE_DIRECTORY) {
                        let file = directory.any(name)?;
                        let (inode, ancestor) = ancestor(&file, &stat, self.inode(&stat))?;
                        ancestors.known.entry(inode).or_insert(ancestor);
                    }
                }
            }
        }
        Ok(ancestors)
    }
}

/// What a file of a sealed layer says of itself, and the inode number it shows.
fn ancestor(file: &File, stat: &Stat, inode: u64) -> Result<(u64, Ancestor), Errno> {
    let origin = Origin::read(file)?;
    let since = stored::since(file)?.unwrap_or_else(|| made(stat));
    Ok((origin.map_or(inode, |origin| origin.inode), Ancestor { origin, since }))
}

fn keep_ancestor(file: &File, ancestors: &Ancestors) -> Result<(), Errno> {
    let Some(origin) = Origin::read(file)? else { return Ok(()) };
    let Some(ancestor) = ancestors.known.get(&origin.inode) else { return Ok(()) };
    if ancestor.origin == Some(origin) {
        return Ok(());
    }
    stored::set_since(file, ancestor.since)?;
    match ancestor.origin {
        Some(origin) => origin.keep(file),
        None => Origin::forget(file),
    }
}
