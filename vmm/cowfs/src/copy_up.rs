//! Copy-up: a file of a lower becomes one of the upper, wholly or not at all.
//!
//! Everything is made under a name in work, synced, and renamed to its place.

use crate::configuration::{discard, staged_name};
use crate::host::{File, Rename, Stat};
use crate::layer::{Merged, Place, UPPER};
use crate::lookup::{ORIGIN, OWNER};
use crate::node::{Owner, checked};
use crate::space::FileSpace;
use fuse::record::{TYPE_REGULAR, TYPE_SYMLINK};
use fuse::request::SetTime;
use fuse::{Errno, Name, NodeId};
use std::sync::Arc;

/// A name in work, and nothing of it in the upper yet.
#[derive(Debug)]
#[must_use = "what is staged is to be published or discarded"]
pub(crate) struct Staged {
    name: Vec<u8>,
}

impl Staged {
    pub(crate) fn name(&self) -> Name<'_> {
        checked(&self.name)
    }
}

impl FileSpace {
    /// Makes something in work; what is left of a failure is removed.
    pub(crate) fn stage<T>(
        &mut self,
        make: impl FnOnce(&mut FileSpace, Name<'_>) -> Result<T, Errno>,
    ) -> Result<(Staged, T), Errno> {
        self.staged += 1;
        let staged = Staged { name: staged_name(self.staged) };
        match make(self, staged.name()) {
            Ok(made) => Ok((staged, made)),
            Err(errno) => {
                self.discard(&staged);
                Err(errno)
            }
        }
    }

    /// Puts what is staged in its place, or removes it.
    pub(crate) fn publish(
        &mut self,
        staged: Staged,
        upper: &crate::host::Directory,
        name: Name<'_>,
        how: Rename,
    ) -> Result<(), Errno> {
        let published = self.work.rename(staged.name(), upper, name, how);
        if published.is_err() || matches!(how, Rename::Exchange) {
            self.discard(&staged);
        }
        published
    }

    /// What cannot be removed now is when the space is opened again: nobody sees it.
    fn discard(&mut self, staged: &Staged) {
        if discard(&self.work, staged.name()).is_err() {
            self.counters.left_in_work += 1;
        }
    }

    /// The directory `id`, with an upper: it and those above are copied up as needed.
    pub(crate) fn upper_directory(&mut self, id: NodeId) -> Result<Arc<Merged>, Errno> {
        let mut missing = Vec::new();
        let mut at = id;
        loop {
            let merged = self.directory(at)?;
            if merged.upper.is_some() {
                break;
            }
            missing.push(at);
            at = self.nodes.get(at)?.parent;
        }
        while let Some(id) = missing.pop() {
            self.copy_up_directory(id)?;
        }
        self.directory(id)
    }

    fn copy_up_directory(&mut self, id: NodeId) -> Result<(), Errno> {
        let node = self.nodes.get(id)?;
        if !node.is_attached() {
            return Err(Errno::ESTALE);
        }
        let (parent, name, inode) = (node.parent, node.name(), node.inode);
        let source = self.stat(id)?;
        let (staged, (stat, owner)) = self.stage(|space, temporary| {
            space.work.make_directory(temporary)?;
            let made = space.work.directory(temporary, true)?.as_file()?;
            space.dress(&made, &source, inode)
        })?;
        let merged = self.directory(parent)?;
        self.publish(staged, merged.upper(), checked(&name), Rename::Replace)?;
        self.moved_up(id, &stat, owner);
        self.directories.close(id);
        Ok(())
    }

    /// Gives a copy the mode, owner, times and inode of its source.
    fn dress(
        &self,
        copy: &File,
        source: &Stat,
        inode: u64,
    ) -> Result<(Stat, Option<Owner>), Errno> {
        let wanted = self.natural(source);
        copy.set_mode(source.kind() | wanted.mode)?;
        let owner = self.set_owner(copy, wanted, false)?;
        copy.set_attribute(ORIGIN, inode.to_string().as_bytes())?;
        let at = |time| Some(SetTime::At(time));
        copy.set_times(at(source.accessed), at(source.modified))?;
        Ok((copy.stat()?, owner))
    }

    /// Keeps in an attribute what the host's own attributes cannot say.
    pub(crate) fn set_owner(
        &self,
        file: &File,
        wanted: Owner,
        had_attribute: bool,
    ) -> Result<Option<Owner>, Errno> {
        let natural = self.natural(&file.stat()?);
        if natural == wanted && !had_attribute {
            return Ok(None);
        }
        file.set_attribute(OWNER, &wanted.text())?;
        Ok(Some(wanted))
    }

    fn moved_up(&mut self, id: NodeId, stat: &Stat, owner: Option<Owner>) {
        let node = self.nodes.node_mut(id);
        node.place = Place::new(UPPER, stat);
        node.owner = owner;
        self.counters.copied_up += 1;
    }

    /// Makes the file `id`, which is no directory, one of the upper; at most `keep` bytes of it.
    ///
    /// Returns its directory.
    pub(crate) fn copy_up(&mut self, id: NodeId, keep: u64) -> Result<Arc<Merged>, Errno> {
        let node = self.nodes.get(id)?;
        if !node.is_attached() {
            return Err(Errno::ESTALE);
        }
        let (parent, name, layer) = (node.parent, node.name(), node.place.layer);
        if layer == UPPER {
            return self.directory(parent);
        }
        let (staged, stat, owner) = self.stage_copy(id, keep)?;
        let merged = self.upper_directory(parent)?;
        self.publish(staged, merged.upper(), checked(&name), Rename::Replace)?;
        self.moved_up(id, &stat, owner);
        if stat.kind() == TYPE_REGULAR && self.handles.of_node(id).is_some() {
            // Who reads the file through a descriptor opened before sees what is written now.
            let file = Arc::new(merged.upper().file(checked(&name), true)?);
            self.handles.repoint(id, &file);
        }
        Ok(merged)
    }

    /// The first half of copy-up: a whole copy in work, synced; nothing has changed yet.
    pub(crate) fn stage_copy(
        &mut self,
        id: NodeId,
        keep: u64,
    ) -> Result<(Staged, Stat, Option<Owner>), Errno> {
        let node = self.nodes.get(id)?;
        let (parent, name, place, inode) = (node.parent, node.name(), node.place, node.inode);
        let name = checked(&name);
        let merged = self.directory(parent)?;
        let lower = merged.layer(place.layer).ok_or(Errno::ESTALE)?;
        let (staged, (stat, owner)) = match node_kind(self, id)? {
            TYPE_REGULAR => self.stage(|space, temporary| {
                let source = lower.file(name, false)?;
                let stat = source.stat()?;
                if Place::new(place.layer, &stat) != place {
                    return Err(Errno::ESTALE);
                }
                let copy = space.work.create(temporary, 0o600)?;
                source.copy_to(&copy, stat.size.min(keep))?;
                let dressed = space.dress(&copy, &stat, inode)?;
                copy.sync(false)?;
                Ok(dressed)
            })?,
            TYPE_SYMLINK => self.stage(|space, temporary| {
                let stat = lower.stat(name)?.ok_or(Errno::ESTALE)?;
                space.work.make_symlink(temporary, &lower.read_link(name)?)?;
                let at = |time| Some(SetTime::At(time));
                space.work.set_times(temporary, at(stat.accessed), at(stat.modified))?;
                Ok((space.work.stat(temporary)?.ok_or(Errno::EIO)?, None))
            })?,
            // A FIFO, socket or device of the parent stays the parent's.
            _ => return Err(Errno::EPERM),
        };
        Ok((staged, stat, owner))
    }
}

fn node_kind(space: &FileSpace, id: NodeId) -> Result<u32, Errno> {
    space.nodes.get(id).map(|node| node.kind)
}
