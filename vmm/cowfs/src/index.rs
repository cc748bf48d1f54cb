//! Hard links of lowers: a file copied up under one of its names is found under the others.
//!
//! An index is a directory of work that has a further link to each such file, named after the
//! file's place in the lower.

use crate::host::{Directory, Rename, Stat};
use crate::layer::{Found, Place, UPPER};
use crate::node::checked;
use crate::space::State;
use crate::stored;
use fuse::record::TYPE_REGULAR;
use fuse::{Errno, Name};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// The index of one layer.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) directory: Arc<Directory>,
    /// The key of each file, and its inode on the host.
    keys: HashMap<Arc<[u8]>, u64>,
    /// The reverse.
    inodes: HashMap<u64, Arc<[u8]>>,
}

impl Index {
    /// Opens the index at `path`, where there may be none yet.
    pub(crate) fn open(path: &Path) -> std::io::Result<Index> {
        let directory = Arc::new(Directory::root(path)?);
        let mut keys: HashMap<Arc<[u8]>, u64> = HashMap::new();
        directory
            .list(|name, inode, _| {
                keys.insert(Arc::from(name.as_bytes()), inode);
            })
            .map_err(|errno| std::io::Error::from_raw_os_error(errno.number()))?;
        let inodes = keys.iter().map(|(key, inode)| (*inode, Arc::clone(key))).collect();
        Ok(Index { directory, keys, inodes })
    }

    /// A new index.
    pub(crate) fn new(directory: Directory) -> Index {
        let (keys, inodes) = (HashMap::new(), HashMap::new());
        Index { directory: Arc::new(directory), keys, inodes }
    }

    /// Whether there is a file of this key.
    pub(crate) fn has(&self, key: &[u8]) -> bool {
        self.keys.contains_key(key)
    }

    /// The key of a file that has a name of its own besides, if it is in the index.
    pub(crate) fn key_of(&self, stat: &Stat) -> Option<Arc<[u8]>> {
        // What has one name is not: the index's is another.
        if stat.links < 2 || stat.is_directory() {
            return None;
        }
        self.inodes.get(&stat.inode).cloned()
    }

    /// The file of `key`.
    pub(crate) fn find(&self, key: &Arc<[u8]>) -> Result<Option<Stat>, Errno> {
        if self.has(key) { self.directory.stat(checked(key)) } else { Ok(None) }
    }

    /// The keys of all files.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Arc<[u8]>> {
        self.keys.keys()
    }

    /// Adds the file `name` of `from`.
    pub(crate) fn add(
        &mut self,
        from: &Directory,
        name: Name<'_>,
        key: &Arc<[u8]>,
    ) -> Result<(), Errno> {
        from.link(name, &self.directory, checked(key))?;
        let stat = self.directory.stat(checked(key))?.ok_or(Errno::EIO)?;
        self.keys.insert(Arc::clone(key), stat.inode);
        self.inodes.insert(stat.inode, Arc::clone(key));
        Ok(())
    }

    fn remove(&mut self, key: &Arc<[u8]>) -> Result<(), Errno> {
        self.directory.remove(checked(key))?;
        if let Some(inode) = self.keys.remove(key) {
            self.inodes.remove(&inode);
        }
        Ok(())
    }

    /// How many names of the layers below stand for the file `key`; what can have no attributes
    /// counts its names in its own layer only.
    fn pending(&self, key: &[u8], stat: &Stat) -> Result<u32, Errno> {
        match stat.kind() {
            TYPE_REGULAR => stored::pending(&self.directory.any(checked(key))?),
            _ => Ok(0),
        }
    }

    /// Puts a further link of the file `key` at a name that is free.
    fn link_to(&self, key: &[u8], to: &Directory, name: Name<'_>) -> Result<(), Errno> {
        self.directory.link(checked(key), to, name)
    }
}

impl Found {
    /// What a file of a layer is by the indexes of the layers above it, `top` being the last.
    pub(crate) fn through(mut self, indexes: &[Option<Index>], top: usize) -> Result<Found, Errno> {
        if self.stat.is_directory() {
            return Ok(self);
        }
        for layer in (top..self.place.layer).rev() {
            let Some(Some(index)) = indexes.get(layer) else { continue };
            // Not only for what has several names: the parent may have removed all but one.
            if index.keys.is_empty() {
                continue;
            }
            let key = self.place.key();
            if let Some(stat) = index.find(&key)? {
                self = Found { place: Place::new(layer, &stat), stat, indexed: Some(key) };
            }
        }
        Ok(self)
    }
}

impl State {
    /// What a file of a lower is by the indexes of the layers above it.
    pub(crate) fn through_index(&self, found: Found) -> Result<Found, Errno> {
        // What is bound is in no layer: it is the host's own, whatever was copied of it.
        match found.place.layer > self.layers.roots.len() {
            true => Ok(found),
            false => found.through(&self.indexes, UPPER),
        }
    }

    /// Links of a file as shown inside: those it has but the index's, and the names of lowers
    /// that stand for it.
    pub(crate) fn links_of_indexed(
        &self,
        layer: usize,
        key: &[u8],
        stat: &Stat,
    ) -> Result<u32, Errno> {
        let Some(Some(index)) = self.indexes.get(layer) else { return Ok(stat.links) };
        Ok((stat.links - 1).saturating_add(index.pending(key, stat).unwrap_or(0)))
    }

    /// Gives the upper a name of its own for a file it has by the index.
    pub(crate) fn place_alias(
        &mut self,
        upper: &Directory,
        name: Name<'_>,
        key: &Arc<[u8]>,
    ) -> Result<(), Errno> {
        self.own_index().link_to(key, upper, name)?;
        self.one_pending_less(key)
    }

    /// A name of the lowers no longer stands for the file `key`.
    pub(crate) fn one_pending_less(&mut self, key: &Arc<[u8]>) -> Result<(), Errno> {
        let index = self.own_index();
        let Some(stat) = index.directory.stat(checked(key))? else { return Ok(()) };
        if stat.kind() == TYPE_REGULAR {
            let file = index.directory.any(checked(key))?;
            let pending = stored::pending(&file)?.saturating_sub(1);
            stored::set_pending(&file, pending)?;
        }
        self.drop_unused_key(key)
    }

    /// Takes a file out of the index when no name is left of it.
    pub(crate) fn drop_unused_key(&mut self, key: &Arc<[u8]>) -> Result<(), Errno> {
        let index = self.own_index();
        let Some(stat) = index.directory.stat(checked(key))? else { return Ok(()) };
        if stat.links > 1 || index.pending(key, &stat)? > 0 {
            return Ok(());
        }
        let place = Place::new(UPPER, &stat);
        if let Some(id) = self.nodes.at(place) {
            // Still known to the guest, perhaps open: an orphan now.
            let (staged, ()) = self.stage(|state, temporary| {
                let State { indexes, work, .. } = state;
                let index = indexes[UPPER].as_ref().expect("the upper's index is opened with it");
                index.directory.link(checked(key), work, temporary)
            })?;
            let node = self.nodes.node_mut(id);
            node.indexed = None;
            node.orphan = Some(crate::node::Orphan::InWork(staged.keep()));
        }
        let charged = match &self.indexes[UPPER] {
            Some(index) => self.charged(&index.directory, checked(key)),
            None => 0,
        };
        let removed = self.own_index().remove(key);
        self.give_back(removed, charged);
        removed
    }

    /// Puts what is staged under `name`, and in the index if it has several names below.
    pub(crate) fn publish_indexed(
        &mut self,
        staged: crate::copy_up::Staged,
        key: Option<&Arc<[u8]>>,
        upper: &Directory,
        name: Name<'_>,
    ) -> Result<(), Errno> {
        if let Some(key) = key {
            let added = {
                let State { indexes, work, .. } = self;
                let index = indexes[UPPER].as_mut().expect("the upper's index is opened with it");
                index.add(work, staged.name(), key)
            };
            if let Err(errno) = added {
                self.discard(&staged);
                return Err(errno);
            }
        }
        self.publish(staged, upper, name, Rename::Replace)
    }
}
