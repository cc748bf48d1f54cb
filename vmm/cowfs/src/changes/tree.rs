//! The layers of a space, open to be read.

use super::Thing;
use super::links::names_seen;
use crate::configuration::{Config, OpenFailure};
use crate::host::{Directory, Stat};
use crate::index::Index;
use crate::layer::{Found, Layers, Lower, Merged, Sight, UPPER, Volume};
use crate::lookup::inode;
use crate::role::{Role, View};
use crate::stored::Shown;
use fuse::{Errno, Name};
use std::sync::Arc;

/// The layers of a space: names are found, nothing is locked.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) layers: Layers,
    pub(crate) root: Arc<Merged>,
    /// Owners are compared as inside: what else they are on the host is not the space's doing.
    pub(crate) role: Role,
    pub(crate) indexes: Vec<Option<Index>>,
    pub(crate) upper_device: u64,
    /// Masked paths, without a slash in front.
    masks: Vec<Vec<u8>>,
}

impl Tree {
    /// Opens what is there; the second value says why that is not the parent's files.
    pub(crate) fn open(config: &Config) -> Result<(Tree, Option<OpenFailure>), OpenFailure> {
        let opened = config.open_to_read()?;
        let masks = config
            .masks
            .iter()
            .map(|mask| super::bytes_of(mask.strip_prefix("/").unwrap_or(mask)).to_vec());
        let upper_device = opened.upper.stat_self().map_or(0, |stat| stat.device);
        let tree = Tree {
            root: Arc::new(opened.layers.root(opened.upper)),
            layers: opened.layers,
            role: Role::new(View::Guest),
            indexes: opened.indexes,
            upper_device,
            masks: masks.collect(),
        };
        Ok((tree, opened.parent))
    }

    /// Whether `path` is masked or lies below what is.
    pub(crate) fn is_masked(&self, path: &[u8]) -> bool {
        self.masks.iter().any(|mask| is_below(path, mask))
    }

    /// The first file that is given at a path or below it, if any is.
    pub(crate) fn given(&self, path: &[u8]) -> Option<Vec<u8>> {
        let roots = self.layers.roots.iter();
        let roots = roots.filter(|root| self.layers.is_given(root.place.layer));
        roots.filter_map(|root| given_at(&root.directory, path)).next()
    }

    /// The inode number shown of a file that is no copy.
    pub(crate) fn inode(&self, stat: &Stat) -> u64 {
        inode(self.upper_device, stat.device, stat.inode)
    }

    /// What the parent has under `name`, through the hard links of sealed layers.
    pub(crate) fn lower(&self, merged: &Merged, name: Name<'_>) -> Result<Option<Thing>, Errno> {
        let Some(found) = self.layers.find_lower(merged, name)? else { return Ok(None) };
        self.thing(merged, name, found.through(&self.indexes, UPPER + 1)?).map(Some)
    }

    fn thing(&self, merged: &Merged, name: Name<'_>, found: Found) -> Result<Thing, Errno> {
        let Found { place, stat, indexed } = found;
        let (directory, name) = match (indexed, self.indexes.get(place.layer)) {
            (Some(key), Some(Some(index))) => (Arc::clone(&index.directory), key),
            (_, _) if place.layer == UPPER => {
                (Arc::new(merged.upper().try_clone()?), Arc::from(name.as_bytes()))
            }
            (_, _) => {
                let lower = merged.lowers.iter().find(|lower| lower.place.layer == place.layer);
                (Arc::clone(&lower.ok_or(Errno::ESTALE)?.directory), Arc::from(name.as_bytes()))
            }
        };
        let is_ours = place.layer == UPPER || self.layers.is_sealed(place.layer);
        Ok(Thing { directory, name: Some(name), stat, is_ours })
    }

    /// The file of the upper's index of hard links.
    pub(crate) fn indexed(&self, key: &Arc<[u8]>) -> Result<Thing, Errno> {
        let Some(Some(index)) = self.indexes.first() else { return Err(Errno::ENOENT) };
        let stat = index.find(key)?.ok_or(Errno::ENOENT)?;
        let directory = Arc::clone(&index.directory);
        Ok(Thing { directory, name: Some(Arc::clone(key)), stat, is_ours: true })
    }

    /// What the parent has at a path of its own.
    pub(crate) fn below(&self, path: &[u8]) -> Result<Thing, Errno> {
        let Some((name, above)) = split(path)? else {
            let (root, _) = self.layers.root_source().ok_or(Errno::ENOENT)?;
            let directory = Arc::clone(&root.directory);
            return Thing::of_directory(directory, self.layers.is_sealed(root.place.layer));
        };
        let lowers = self.layers.resolve(&self.layers.roots, above)?;
        let merged = self.layers.lower_directory(lowers, above);
        self.lower(&merged, name)?.ok_or(Errno::ENOENT)
    }

    /// The same, if there is anything.
    pub(crate) fn there(&self, path: &[u8]) -> Result<Option<Thing>, Errno> {
        present(self.below(path))
    }

    /// What a guest sees at a path, if anything.
    pub(crate) fn seen(&self, path: &[u8]) -> Result<Option<Thing>, Errno> {
        let Some((name, above)) = split(path)? else {
            let own = Thing::of_directory(Arc::new(self.root.upper().try_clone()?), true)?;
            let kept = Shown::read(&own.opened()?, own.stat.kind())?;
            return if kept.is_some() { Ok(Some(own)) } else { self.there(path) };
        };
        let Some(merged) = self.directory(above)? else { return Ok(None) };
        let Sight::Found(found) = self.layers.find(&merged, name)? else { return Ok(None) };
        self.thing(&merged, name, found.through(&self.indexes, UPPER)?).map(Some)
    }

    /// The names that the layers have in the directory a guest sees at a path.
    pub(crate) fn names_at(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
        self.directory(path)?.map_or(Ok(Vec::new()), |merged| names_seen(&merged))
    }

    /// The directory that a guest sees at a path, if there is one.
    fn directory(&self, path: &[u8]) -> Result<Option<Merged>, Errno> {
        let mut merged = self.layers.root(self.root.upper().try_clone()?);
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            let name = Name::new(part)?;
            let Sight::Found(found) = self.layers.find(&merged, name)? else { return Ok(None) };
            if !found.stat.is_directory() {
                return Ok(None);
            }
            merged = self.layers.open(&merged, name, found.place)?;
        }
        Ok(Some(merged))
    }

    /// What the upper has at a path of its own.
    pub(crate) fn upper(&self, path: &[u8]) -> Result<Thing, Errno> {
        let root = self.root.upper();
        let Some((name, above)) = split(path)? else {
            return Thing::of_directory(Arc::new(root.try_clone()?), true);
        };
        let directory = walk_down(root, above)?;
        let stat = directory.stat(name)?.ok_or(Errno::ENOENT)?;
        let name = Some(Arc::from(name.as_bytes()));
        Ok(Thing { directory: Arc::new(directory), name, stat, is_ours: true })
    }
}

impl Layers {
    /// A directory of lowers alone, whose path is `below`.
    pub(crate) fn lower_directory(&self, lowers: Vec<Lower>, below: &[u8]) -> Merged {
        Merged {
            volume: Volume::Layered,
            top: UPPER,
            upper: None,
            lowers,
            opaque: false,
            below: Arc::from(below),
            redirected: true,
        }
    }
}

impl Thing {
    pub(super) fn of_directory(directory: Arc<Directory>, is_ours: bool) -> Result<Thing, Errno> {
        let stat = directory.stat_self()?;
        Ok(Thing { directory, name: None, stat, is_ours })
    }
}

/// Nothing, where no such file is.
fn present(thing: Result<Thing, Errno>) -> Result<Option<Thing>, Errno> {
    match thing {
        Err(Errno::ENOENT) => Ok(None),
        thing => thing.map(Some),
    }
}

/// Whether `path` is `above` or below it.
pub(crate) fn is_below(path: &[u8], above: &[u8]) -> bool {
    let rest = path.strip_prefix(above);
    above.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The last name of a path and the path of its directory; `None` for the root.
pub(crate) fn split(path: &[u8]) -> Result<Option<(Name<'_>, &[u8])>, Errno> {
    if path.is_empty() {
        return Ok(None);
    }
    let slash = path.iter().rposition(|byte| *byte == b'/');
    let (above, name) = slash.map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
    Ok(Some((Name::new(name)?, above)))
}

/// The first file at `path` of a layer of single files, or below.
fn given_at(root: &Directory, path: &[u8]) -> Option<Vec<u8>> {
    let (name, above) = split(path).ok()??;
    let above = walk_down(root, above).ok()?;
    let stat = above.stat(name).ok()??;
    if !stat.is_directory() {
        return Some(path.to_vec());
    }
    let directory = above.directory(name, true).ok()?;
    let mut names = Vec::new();
    directory.list(|name, _, _| names.push(name.as_bytes().to_vec())).ok()?;
    names.iter().find_map(|name| given_at(root, &[path, b"/", name].concat()))
}

/// Opens the directory at `path` below `root`, one name at a time.
pub(crate) fn walk_down(root: &Directory, path: &[u8]) -> Result<Directory, Errno> {
    let mut directory = root.try_clone()?;
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        directory = directory.directory(Name::new(part)?, true)?;
    }
    Ok(directory)
}
