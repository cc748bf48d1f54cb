//! Finding files: directories through their layers, names, and how long they may be believed.

use crate::host::{Directory, Stat};
use crate::layer::{Found, Merged, Place, Sight, UPPER, Volume};
use crate::node::{Orphan, Seen, checked};
use crate::space::State;
use crate::stored::{Origin, Shown, redirect};
use fuse::record::{TYPE_DIRECTORY, TYPE_REGULAR};
use fuse::{Entry, Errno, Name, NodeId};
use std::collections::HashMap;
use std::sync::Arc;

/// For as long as the client likes: it is told of changes, or there are none. One day.
const EVER_NS: u64 = 86_400_000_000_000;

/// For the moment between two requests of a program that walks a tree.
const MOMENT_NS: u64 = 100_000_000;

/// Directories kept open, the least recently used ones closed first.
#[derive(Debug)]
pub(crate) struct OpenDirectories {
    kept: HashMap<NodeId, (Arc<Merged>, u64)>,
    uses: u64,
    limit: usize,
}

impl OpenDirectories {
    pub(crate) fn new(limit: usize) -> OpenDirectories {
        OpenDirectories { kept: HashMap::new(), uses: 0, limit: limit.max(2) }
    }

    fn get(&mut self, id: NodeId) -> Option<Arc<Merged>> {
        self.uses += 1;
        let (merged, used) = self.kept.get_mut(&id)?;
        *used = self.uses;
        Some(Arc::clone(merged))
    }

    fn keep(&mut self, id: NodeId, merged: Arc<Merged>) {
        if self.kept.len() >= self.limit {
            let mut uses: Vec<u64> = self.kept.values().map(|(_, used)| *used).collect();
            let half = uses.len() / 2;
            let (_, median, _) = uses.select_nth_unstable(half);
            let median = *median;
            self.kept.retain(|_, (_, used)| *used > median);
        }
        self.kept.insert(id, (merged, self.uses));
    }

    /// Closes one whose layers changed.
    pub(crate) fn close(&mut self, id: NodeId) {
        self.kept.remove(&id);
    }

    /// Closes all of them.
    pub(crate) fn clear(&mut self) {
        self.kept.clear();
    }
}

/// Where a file is: a directory of the host, and the file's name in it.
#[derive(Debug)]
pub(crate) struct At {
    place: Where,
    pub(crate) name: Arc<[u8]>,
    /// The node of the directory, if the file has a name inside.
    pub(crate) parent: Option<NodeId>,
}

#[derive(Debug)]
enum Where {
    Layer(Arc<Merged>, usize),
    Index(usize),
    Work,
}

impl At {
    /// The directory as the space sees it, unless the file has no name there.
    pub(crate) fn merged(&self) -> Option<&Arc<Merged>> {
        match &self.place {
            Where::Layer(merged, _) => Some(merged),
            Where::Index(_) | Where::Work => None,
        }
    }

    /// How the file may be changed.
    pub(crate) fn volume(&self) -> Volume {
        self.merged().map_or(Volume::Layered, |merged| merged.volume)
    }
}

impl State {
    /// The directory `id` through its layers.
    pub(crate) fn directory(&mut self, id: NodeId) -> Result<Arc<Merged>, Errno> {
        let mut missing = Vec::new();
        let mut at = id;
        let mut merged = loop {
            if at == NodeId::ROOT {
                break Arc::clone(&self.root);
            }
            if let Some(merged) = self.directories.get(at) {
                break merged;
            }
            if let Some(merged) = self.bindings.directory(at) {
                break merged;
            }
            let node = self.nodes.get(at)?;
            if !node.is_directory() {
                return Err(Errno::ENOTDIR);
            }
            let (parent, _) = node.name().ok_or(Errno::ESTALE)?;
            missing.push(at);
            at = parent;
        };
        let mut above = at;
        while let Some(id) = missing.pop() {
            let node = self.nodes.get(id)?;
            let (_, name) = node.name().ok_or(Errno::ESTALE)?;
            let child = self.layers.open(&merged, checked(&name), node.place)?;
            self.watches.watch(id, above, &child, &self.layers);
            self.nodes.node_mut(id).pure = child.opaque;
            merged = Arc::new(child);
            self.directories.keep(id, Arc::clone(&merged));
            above = id;
        }
        Ok(merged)
    }

    /// What `name` is in the directory `merged`.
    pub(crate) fn find(&self, merged: &Merged, name: Name<'_>) -> Result<Sight, Errno> {
        Ok(match self.layers.find(merged, name)? {
            Sight::Found(found) => Sight::Found(self.through_index(found)?),
            absent @ Sight::Absent { .. } => absent,
        })
    }

    /// LOOKUP. That there is no such name is an answer too, with node 0 (fuse.h).
    pub(crate) fn lookup(&mut self, directory: NodeId, name: Name<'_>) -> Result<Entry, Errno> {
        let merged = self.directory(directory)?;
        match self.look(directory, &merged, name)? {
            Some(entry) => Ok(entry),
            None => {
                self.forget_name(directory, name);
                match self.watches.is_steady(directory) {
                    true => Ok(Entry::absent(EVER_NS)),
                    false => Err(Errno::ENOENT),
                }
            }
        }
    }

    /// The entry of `name`, if there is such a name.
    pub(crate) fn look(
        &mut self,
        directory: NodeId,
        merged: &Merged,
        name: Name<'_>,
    ) -> Result<Option<Entry>, Errno> {
        if let Some(id) = self.bindings.at(directory, name) {
            let stat = self.stat(id)?;
            return Ok(Some(self.entry(directory, id, &stat)));
        }
        match self.find(merged, name)? {
            Sight::Found(found) => self.adopt(directory, merged, name, &found).map(Some),
            Sight::Absent { .. } => Ok(None),
        }
    }

    /// The entry of a file that was found: its node, made if the guest does not know it.
    pub(crate) fn adopt(
        &mut self,
        directory: NodeId,
        merged: &Merged,
        name: Name<'_>,
        found: &Found,
    ) -> Result<Entry, Errno> {
        let id = self.node_of(directory, merged, name, found)?;
        Ok(self.entry(directory, id, &found.stat))
    }

    /// The node of a file that was found; it may have no entries yet.
    pub(crate) fn node_of(
        &mut self,
        directory: NodeId,
        merged: &Merged,
        name: Name<'_>,
        found: &Found,
    ) -> Result<NodeId, Errno> {
        if let Some(id) = self.nodes.child(directory, name) {
            let node = self.nodes.get(id)?;
            if node.place == found.place {
                if node.is_directory() {
                    self.refresh(id, merged, name)?;
                }
                return Ok(id);
            }
            self.nodes.detach(directory, name);
            self.directories.close(id);
        }
        // A further name of a file that is known.
        if !found.stat.is_directory()
            && let Some(id) = self.nodes.at(found.place)
        {
            self.nodes.attach(id, directory, name);
            // Its first name may go, and this one be in another layer.
            let node = self.nodes.node_mut(id);
            node.indexed = node.indexed.take().or_else(|| found.indexed.clone());
            return Ok(id);
        }
        let (seen, pure) = self.see(merged, name, found)?;
        let id = self.nodes.insert(seen)?;
        self.nodes.node_mut(id).pure = pure;
        self.nodes.attach(id, directory, name);
        Ok(id)
    }

    /// Closes a kept directory if the parent replaced or removed one of its lowers.
    fn refresh(&mut self, id: NodeId, parent: &Merged, name: Name<'_>) -> Result<(), Errno> {
        if let Some(merged) = self.directories.get(id)
            && !self.layers.is_current(&merged, parent, name)?
        {
            self.directories.close(id);
        }
        Ok(())
    }

    /// What a file is, and whether it is a directory that hides all below it.
    pub(crate) fn see(
        &self,
        merged: &Merged,
        name: Name<'_>,
        found: &Found,
    ) -> Result<(Seen, bool), Errno> {
        let (place, kind) = (found.place, found.stat.kind());
        let inode = self.inode(&found.stat);
        let indexed = found.indexed.clone().or_else(|| match (place.layer, &self.indexes[UPPER]) {
            (UPPER, Some(index)) => index.key_of(&found.stat),
            _ => None,
        });
        let mut seen = Seen { place, kind, inode, shown: None, indexed };
        let mut pure = false;
        let keeps = matches!(kind, TYPE_DIRECTORY | TYPE_REGULAR);
        if keeps && self.layers.has_ours(merged, place.layer) {
            let file = match (&seen.indexed, self.indexes.get(place.layer)) {
                (Some(key), Some(Some(index))) => index.directory.any(checked(key))?,
                _ => merged.layer(place.layer)?.any(name)?,
            };
            seen.inode = Origin::read(&file)?.map_or(inode, |origin| origin.inode);
            seen.shown = Shown::read(&file, kind)?.map(|kept| self.role.as_seen(kept));
            seen.kind = seen.shown.map_or(kind, |shown| shown.kind);
            // What was moved below an opaque directory still has what the lowers have.
            pure = kind == TYPE_DIRECTORY
                && place.layer == UPPER
                && (merged.opaque && redirect(&file)?.is_none()
                    || self.layers.marks.is_opaque(&file)?);
        }
        Ok((seen, pure))
    }

    /// Hands the guest an entry of `id`, which it will forget.
    pub(crate) fn entry(&mut self, directory: NodeId, id: NodeId, stat: &Stat) -> Entry {
        self.nodes.looked_up(id);
        let node = &*self.nodes.node_mut(id);
        let own = node.place.layer == UPPER;
        let bound = self.bindings.file(id).is_some();
        let steady = self.watches.is_steady(directory);
        let attr_valid_ns = match node.is_directory() {
            true if steady || own => self.directory_valid_ns(id, directory),
            true => 0,
            // What is bound is the host's, wherever its name is.
            false => ever(own || (steady && stat.links < 2 && !bound)),
        };
        let attr = self.attr(stat, id);
        Entry { node: id, generation: 0, name_valid_ns: ever(steady || own), attr_valid_ns, attr }
    }

    /// How long the attributes of the directory `id`, which is in `above`, may be believed.
    fn directory_valid_ns(&self, id: NodeId, above: NodeId) -> u64 {
        match self.watches.is_unopened(id) && self.watches.is_steady(above) {
            true => MOMENT_NS,
            false => ever(self.watches.is_steady(id)),
        }
    }

    /// How long the attributes of `id` may be believed, nanoseconds.
    pub(crate) fn attr_valid_ns(&self, id: NodeId, stat: &Stat) -> u64 {
        let Ok(node) = self.nodes.get(id) else { return 0 };
        match (node.is_directory(), node.name()) {
            (true, Some((parent, _))) => self.directory_valid_ns(id, parent),
            (true, None) => ever(self.watches.is_steady(id)),
            (false, _) if node.place.layer == UPPER => EVER_NS,
            (false, _) if self.bindings.file(id).is_some() => 0,
            (false, Some((parent, _))) => ever(stat.links < 2 && self.watches.is_steady(parent)),
            (false, None) => 0,
        }
    }

    /// Where the file `id` is.
    pub(crate) fn at(&mut self, id: NodeId) -> Result<At, Errno> {
        let node = self.nodes.get(id)?;
        let place = node.place;
        match &node.orphan {
            Some(Orphan::InWork(name)) => {
                return Ok(At { place: Where::Work, name: Arc::clone(name), parent: None });
            }
            Some(Orphan::Below(merged, name)) => {
                let at = Where::Layer(Arc::clone(merged), place.layer);
                return Ok(At { place: at, name: Arc::clone(name), parent: None });
            }
            Some(Orphan::Gone(_)) => return Err(Errno::ESTALE),
            None => {}
        }
        if let Some((merged, name)) = self.bindings.file(id) {
            return Ok(At { place: Where::Layer(merged, place.layer), name, parent: None });
        }
        if let Some(key) = &node.indexed {
            let name = Arc::clone(key);
            return Ok(At { place: Where::Index(place.layer), name, parent: None });
        }
        let names = node.names().to_vec();
        let single = names.len() == 1;
        for (parent, name) in names {
            let Ok(merged) = self.directory(parent) else { continue };
            let Ok(directory) = merged.layer(place.layer) else { continue };
            // The parent may have removed one of several names.
            let here = |stat: &Stat| Place::new(place.layer, stat) == place;
            if single || directory.stat(checked(&name))?.as_ref().is_some_and(here) {
                let at = Where::Layer(merged, place.layer);
                return Ok(At { place: at, name, parent: Some(parent) });
            }
        }
        Err(Errno::ESTALE)
    }

    /// The directory and name of a place.
    pub(crate) fn directory_of<'a>(
        &'a self,
        at: &'a At,
    ) -> Result<(&'a Directory, Name<'a>), Errno> {
        let directory = match &at.place {
            Where::Layer(merged, layer) => merged.layer(*layer)?,
            Where::Index(layer) => match self.indexes.get(*layer) {
                Some(Some(index)) => &index.directory,
                _ => return Err(Errno::ESTALE),
            },
            Where::Work => &self.work,
        };
        Ok((directory, checked(&at.name)))
    }

    /// The host's attributes of `id`, which is still the file the guest knows.
    pub(crate) fn stat(&mut self, id: NodeId) -> Result<Stat, Errno> {
        if id == NodeId::ROOT {
            return self.root.upper().stat_self();
        }
        if let Some(file) = self.bindings.file(id) {
            return file.0.layer(file.0.top)?.stat(checked(&file.1))?.ok_or(Errno::ESTALE);
        }
        if let Some(merged) = self.bindings.directory(id) {
            return match (&merged.upper, merged.lowers.first()) {
                (Some(upper), _) => upper.stat_self(),
                (None, Some(lower)) => lower.directory.stat_self(),
                (None, None) => Err(Errno::ESTALE),
            };
        }
        let node = self.nodes.get(id)?;
        let place = node.place;
        if let Some(Orphan::Gone(stat)) = &node.orphan {
            return match self.handles.of_node(id) {
                Some(file) => file.stat(),
                None => Ok(*stat),
            };
        }
        let at = self.at(id)?;
        let (directory, name) = self.directory_of(&at)?;
        let stat = directory.stat(name)?.ok_or(Errno::ESTALE)?;
        if Place::new(place.layer, &stat) == place { Ok(stat) } else { Err(Errno::ESTALE) }
    }

    /// The inode number shown: the upper's and files beside it have their own.
    pub(crate) fn inode(&self, stat: &Stat) -> u64 {
        inode(self.upper_device, stat.device, stat.inode)
    }

    /// Ends the tie between a node and a name that is no longer its own.
    pub(crate) fn forget_name(&mut self, directory: NodeId, name: Name<'_>) {
        if let Some(id) = self.nodes.detach(directory, name) {
            self.directories.close(id);
            self.nodes.drop_unused(id);
        }
    }
}

fn ever(valid: bool) -> u64 {
    if valid { EVER_NS } else { 0 }
}

/// Files of other devices are told apart in the upper bits.
pub(crate) fn inode(upper_device: u64, device: u64, inode: u64) -> u64 {
    if device == upper_device {
        return inode;
    }
    let mixed = device.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    inode ^ (mixed | 1) << 48
}
