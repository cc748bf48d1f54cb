//! Copy-up: a file of a lower becomes one of the upper, wholly or not at all.
//!
//! Everything is made under a name in work, synced, and renamed to its place.

use crate::configuration::{discard, staged_name};
use crate::host::{Access, Attributes, Directory, File, Rename, Stat};
use crate::layer::{BOUND, Found, Place, UPPER, Volume};
use crate::node::{Orphan, checked};
use crate::quota;
use crate::role::Form;
use crate::space::State;
use crate::stored::{self, Origin, Shown};
use fuse::record::{TYPE_DIRECTORY, TYPE_REGULAR, TYPE_SYMLINK};
use fuse::request::SetTime;
use fuse::{Errno, Name, NodeId};
use std::sync::Arc;

/// How often a file that its parent is writing is copied again before it is taken as it is.
const ATTEMPTS: usize = 3;

/// A name in work, and nothing of it in the upper yet.
#[derive(Debug)]
#[must_use = "what is staged is to be published or discarded"]
pub(crate) struct Staged {
    name: Arc<[u8]>,
}

impl Staged {
    pub(crate) fn name(&self) -> Name<'_> {
        checked(&self.name)
    }

    /// It stays in work, under the name given.
    pub(crate) fn keep(self) -> Arc<[u8]> {
        self.name
    }
}

/// A whole copy in work.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) staged: Staged,
    shown: Option<Shown>,
    /// Its name in the index, if the file below has several names.
    key: Option<Arc<[u8]>>,
    /// Whether it is a regular file that stands for something else.
    disguised: bool,
}

impl State {
    /// Makes something in work; what is left of a failure is removed.
    pub(crate) fn stage<T>(
        &mut self,
        make: impl FnOnce(&mut State, Name<'_>) -> Result<T, Errno>,
    ) -> Result<(Staged, T), Errno> {
        let staged = self.name_staged();
        self.fill(staged, make)
    }

    /// A name of work that is free.
    pub(crate) fn name_staged(&mut self) -> Staged {
        self.staged += 1;
        Staged { name: Arc::from(staged_name(self.staged)) }
    }

    fn fill<T>(
        &mut self,
        staged: Staged,
        make: impl FnOnce(&mut State, Name<'_>) -> Result<T, Errno>,
    ) -> Result<(Staged, T), Errno> {
        match make(self, staged.name()) {
            Ok(made) => {
                if let Some(quota) = &self.quota {
                    quota.take(quota::alone(&self.work, staged.name()));
                }
                Ok((staged, made))
            }
            Err(errno) => {
                self.abandon(&staged);
                Err(errno)
            }
        }
    }

    /// Removes what was never whole, so that no quota has counted it.
    pub(crate) fn abandon(&mut self, staged: &Staged) {
        if discard(&self.work, staged.name()).is_err() {
            self.counters.left_in_work += 1;
        }
    }

    /// Puts what is staged in its place, or removes it.
    pub(crate) fn publish(
        &mut self,
        staged: Staged,
        upper: &Directory,
        name: Name<'_>,
        how: Rename,
    ) -> Result<(), Errno> {
        let replaced = match how {
            Rename::Replace => self.charged(upper, name),
            _ => 0,
        };
        let published = self.work.rename(staged.name(), upper, name, how);
        self.give_back(published, replaced);
        if published.is_err() || matches!(how, Rename::Exchange) {
            self.discard(&staged);
        }
        published
    }

    /// What cannot be removed now is when the space is opened again: nobody sees it.
    pub(crate) fn discard(&mut self, staged: &Staged) {
        self.discard_name(&Arc::clone(&staged.name));
    }

    pub(crate) fn discard_name(&mut self, name: &[u8]) {
        let charged = self.charged(&self.work, checked(name));
        let discarded = discard(&self.work, checked(name));
        self.give_back(discarded, charged);
        if discarded.is_err() {
            self.counters.left_in_work += 1;
        }
    }

    /// What the quota has back when `name` of the upper or of work goes.
    pub(crate) fn charged(&self, directory: &Directory, name: Name<'_>) -> u64 {
        self.quota.as_ref().map_or(0, |_| quota::alone(directory, name))
    }

    /// What is `done` freed so much.
    pub(crate) fn give_back(&self, done: Result<(), Errno>, charged: u64) {
        if let (Some(quota), Ok(())) = (&self.quota, done) {
            quota.give_back(charged);
        }
    }

    /// The directory `id`, with an upper: it and those above are copied up as needed.
    ///
    /// Refused with EROFS where nothing may be written.
    pub(crate) fn upper_directory(
        &mut self,
        id: NodeId,
    ) -> Result<Arc<crate::layer::Merged>, Errno> {
        let mut missing = Vec::new();
        let mut at = id;
        loop {
            let merged = self.directory(at)?;
            if matches!(merged.volume, Volume::ReadOnly(_)) {
                return Err(Errno::EROFS);
            }
            if merged.upper.is_some() {
                break;
            }
            missing.push(at);
            at = self.nodes.get(at)?.name().ok_or(Errno::ESTALE)?.0;
        }
        while let Some(id) = missing.pop() {
            self.copy_up_directory(id)?;
        }
        self.directory(id)
    }

    fn copy_up_directory(&mut self, id: NodeId) -> Result<(), Errno> {
        let node = self.nodes.get(id)?;
        let (inode, layer) = (node.inode, node.place.layer);
        let (parent, name) = node.name().ok_or(Errno::ESTALE)?;
        let source = self.stat(id)?;
        let shown = self.shown(id, &source);
        let above = self.directory(parent)?;
        // Only a directory of a space before this one has attributes of ours, and is open.
        let from = match self.layers.is_sealed(layer) {
            true => Some(above.layer(layer)?.any(checked(&name))?),
            false => above.layer(layer)?.any(checked(&name)).ok(),
        };
        let (staged, kept) = self.stage(|state, temporary| {
            let form = state.role.form(&shown);
            state.work.make_directory(temporary, form.mode)?;
            let made = state.work.any(temporary)?;
            if let Some(from) = from {
                state.copy_attributes(&from, &made, layer)?;
            }
            Origin::of(&source, inode).keep(&made)?;
            state.dress(temporary, Some(&made), &form, &shown, &source)
        })?;
        let upper = self.directory(parent)?;
        let times = upper.upper().stat_self()?;
        self.publish(staged, upper.upper(), checked(&name), Rename::Replace)?;
        keep_times(upper.upper(), &times)?;
        let stat = upper.upper().stat(checked(&name))?.ok_or(Errno::EIO)?;
        self.moved_up(id, &stat, kept);
        self.directories.close(id);
        // It is read again before anything is said of its names.
        self.directory(id).map(|_| ())
    }

    /// Gives what is staged as `name` the owner, mode and times of its source.
    fn dress(
        &self,
        name: Name<'_>,
        file: Option<&File>,
        form: &Form,
        shown: &Shown,
        source: &Stat,
    ) -> Result<Option<Shown>, Errno> {
        if let (true, Some(file)) = (form.attribute, file) {
            self.role.as_kept(*shown).keep(file)?;
        }
        if let Some((uid, gid)) = form.owner {
            self.work.set_owner(name, uid, gid)?;
        }
        if form.kind != TYPE_SYMLINK {
            self.work.set_mode(name, form.mode)?;
        }
        let at = |time| Some(SetTime::At(time));
        self.work.set_times(name, at(source.accessed), at(source.modified))?;
        Ok(form.attribute.then_some(*shown))
    }

    /// Copies the attributes that are seen inside.
    fn copy_attributes(&self, from: &File, to: &File, layer: usize) -> Result<(), Errno> {
        let ours = self.layers.is_sealed(layer);
        for name in from.attribute_names()? {
            let kept = match ours {
                true => stored::shown_name(&name).map(|_| name.clone()),
                false if stored::is_seen_below(&name) => stored::kept_name(&name),
                false => None,
            };
            if let (Some(kept), Some(value)) = (kept, from.attribute(&name)?) {
                to.set_attribute(&kept, &value, 0)?;
            }
        }
        Ok(())
    }

    fn moved_up(&mut self, id: NodeId, stat: &Stat, shown: Option<Shown>) {
        self.nodes.moved(id, Place::new(UPPER, stat));
        self.nodes.node_mut(id).shown = shown;
        self.counters.copied_up += 1;
    }

    /// The same for a file that is open to be written: its layer may have been sealed since.
    ///
    /// What is shared never is, and may have no name any more.
    pub(crate) fn copy_up_open(&mut self, id: NodeId, keep: u64) -> Result<(), Errno> {
        match self.nodes.get(id)?.place.layer < BOUND {
            true => self.copy_up(id, keep),
            false => Ok(()),
        }
    }

    /// Makes the file `id`, which is no directory, one that may be written; at most `keep`
    /// bytes of it are copied.
    pub(crate) fn copy_up(&mut self, id: NodeId, keep: u64) -> Result<(), Errno> {
        let place = self.nodes.get(id)?.place;
        if place.layer == UPPER {
            return Ok(());
        }
        let at = self.at(id)?;
        match at.volume() {
            Volume::ReadOnly(_) => return Err(Errno::EROFS),
            Volume::Shared(_) => return Ok(()),
            Volume::Layered => {}
        }
        if let Some(Orphan::Below(..)) = self.nodes.get(id)?.orphan {
            let copy = self.stage_copy(id, keep)?;
            let stat = self.work.stat(copy.staged.name())?.ok_or(Errno::EIO)?;
            self.moved_up(id, &stat, copy.shown);
            let name = copy.staged.keep();
            self.nodes.node_mut(id).orphan = Some(Orphan::InWork(Arc::clone(&name)));
            return self.repoint(id);
        }
        // A file found by an index is copied to the name by which the guest knows it.
        let (parent, name) = match at.parent {
            Some(parent) => (parent, Arc::clone(&at.name)),
            None => self.nodes.get(id)?.name().ok_or(Errno::ESTALE)?,
        };
        let copy = self.stage_copy(id, keep)?;
        self.publish_copy(id, copy, parent, checked(&name))?;
        self.repoint(id)
    }

    /// The second half of copy-up: the copy takes its place.
    pub(crate) fn publish_copy(
        &mut self,
        id: NodeId,
        copy: Copy,
        parent: NodeId,
        name: Name<'_>,
    ) -> Result<(), Errno> {
        let upper = match self.upper_directory(parent) {
            Ok(upper) => upper,
            Err(errno) => {
                self.discard(&copy.staged);
                return Err(errno);
            }
        };
        if copy.disguised {
            stored::mark_disguises(upper.upper())?;
        }
        let times = upper.upper().stat_self()?;
        self.publish_indexed(copy.staged, copy.key.as_ref(), upper.upper(), name)?;
        keep_times(upper.upper(), &times)?;
        let stat = upper.upper().stat(name)?.ok_or(Errno::EIO)?;
        self.moved_up(id, &stat, copy.shown);
        self.nodes.node_mut(id).indexed = copy.key.clone();
        if copy.key.is_none() {
            // Its other names, if there were any, are still the parent's file.
            for (other, known) in self.nodes.get(id)?.names().to_vec() {
                if other != parent || *known != *name.as_bytes() {
                    self.nodes.detach(other, checked(&known));
                }
            }
        }
        Ok(())
    }

    /// Who has the file open sees what is written from now on.
    fn repoint(&mut self, id: NodeId) -> Result<(), Errno> {
        let node = self.nodes.get(id)?;
        if node.kind != TYPE_REGULAR || !node.is_open() {
            return Ok(());
        }
        let at = self.at(id)?;
        let (directory, name) = self.directory_of(&at)?;
        let file = Arc::new(directory.file(name, Access::Write)?);
        self.handles.repoint(id, &file);
        Ok(())
    }

    /// The first half of copy-up: a whole copy in work, synced; nothing has changed yet.
    pub(crate) fn stage_copy(&mut self, id: NodeId, keep: u64) -> Result<Copy, Errno> {
        let node = self.nodes.get(id)?;
        let (place, inode) = (node.place, node.inode);
        let at = self.at(id)?;
        let source = self.stat(id)?;
        let shown = self.shown(id, &source);
        let form = self.role.form(&shown);
        let bytes = match source.kind() {
            TYPE_REGULAR => source.size.min(keep).min(source.blocks * 512),
            _ => 0,
        };
        if let Some(quota) = &self.quota {
            quota.admit(bytes)?;
        }
        let linked = source.links > 1 || self.nodes.get(id)?.indexed.is_some();
        let key = (linked && source.kind() != TYPE_DIRECTORY).then(|| place.key());
        let pending = self.names_below(id, &source)?.saturating_sub(1);
        let pending = key.as_ref().map(|_| pending);
        let beside = self.beside.take_if(|beside| beside.is_of(id, place, keep, &source));
        let (staged, copied) = match beside {
            Some(beside) => (beside.staged, Some(beside.to)),
            None => (self.name_staged(), None),
        };
        let (staged, kept) = self.fill(staged, |state, temporary| match source.kind() {
            TYPE_REGULAR => {
                let from = {
                    let (directory, name) = state.directory_of(&at)?;
                    directory.file(name, Access::ReadQuietly)?
                };
                if Place::new(place.layer, &from.stat()?) != place {
                    return Err(Errno::ESTALE);
                }
                let copy = match copied {
                    Some(copy) => copy,
                    None => {
                        let copy = state.work.create(temporary, 0o600)?;
                        copy_whole(&from, &copy, keep)?;
                        copy
                    }
                };
                state.copy_attributes(&from, &copy, place.layer)?;
                if let Some(pending) = pending {
                    // What can have no attributes counts its names in the upper only.
                    stored::set_pending(&copy, pending)?;
                }
                state.finish_copy(temporary, copy, &shown, &source, inode)
            }
            kind => {
                let target = match kind {
                    TYPE_SYMLINK => {
                        let (directory, name) = state.directory_of(&at)?;
                        directory.read_link(name)?
                    }
                    _ => Vec::new(),
                };
                state.copy_special(temporary, &shown, &source, inode, &target)
            }
        })?;
        let disguised = form.kind == TYPE_REGULAR && shown.kind != TYPE_REGULAR;
        Ok(Copy { staged, shown: kept, key, disguised })
    }

    /// How many names stand for a file of a lower: its layer's own, but for the one in its index,
    /// and those of the layers below that.
    fn names_below(&mut self, id: NodeId, source: &Stat) -> Result<u32, Errno> {
        let layer = self.nodes.get(id)?.place.layer;
        if !self.layers.is_sealed(layer) || source.kind() != TYPE_REGULAR {
            return Ok(source.links);
        }
        let at = self.at(id)?;
        let (directory, name) = self.directory_of(&at)?;
        let file = directory.any(name)?;
        Ok(match file.attribute_names()?.iter().any(|name| stored::is_pending(name)) {
            true => (source.links - 1).saturating_add(stored::pending(&file)?).max(1),
            false => source.links,
        })
    }

    fn finish_copy(
        &self,
        name: Name<'_>,
        copy: File,
        shown: &Shown,
        source: &Stat,
        inode: u64,
    ) -> Result<Option<Shown>, Errno> {
        Origin::of(source, inode).keep(&copy)?;
        let form = self.role.form(shown);
        let kept = self.dress(name, Some(&copy), &form, shown, source)?;
        copy.sync(false)?;
        Ok(kept)
    }

    /// A copy of what is no regular file on the host.
    fn copy_special(
        &self,
        name: Name<'_>,
        shown: &Shown,
        source: &Stat,
        inode: u64,
        target: &[u8],
    ) -> Result<Option<Shown>, Errno> {
        let form = self.role.form(shown);
        match form.kind {
            TYPE_REGULAR => {
                let copy = self.work.create(name, 0o600)?;
                if copy.write(0, target)? < target.len() {
                    return Err(Errno::ENOSPC);
                }
                self.finish_copy(name, copy, shown, source, inode)
            }
            TYPE_SYMLINK => {
                self.work.make_symlink(name, target)?;
                self.dress(name, None, &form, shown, source)
            }
            kind => {
                self.work.make_endpoint(name, kind | form.mode)?;
                self.dress(name, None, &form, shown, source)
            }
        }
    }

    /// Makes `name` itself one of the upper's names, where the guest may not have looked it up.
    pub(crate) fn copy_up_name(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        found: &Found,
    ) -> Result<(), Errno> {
        if found.place.layer == UPPER && found.indexed.is_none() {
            return Ok(());
        }
        let merged = self.directory(directory)?;
        let id = self.node_of(directory, &merged, name, found)?;
        self.nodes.looked_up(id);
        let copied = self.copy_up(id, u64::MAX).and_then(|()| {
            // By another name of the same file, perhaps.
            let upper = self.upper_directory(directory)?;
            if upper.upper().stat(name)?.is_none()
                && let Some(key) = self.nodes.get(id)?.indexed.clone()
            {
                self.place_alias(upper.upper(), name, &key)?;
            }
            Ok(())
        });
        self.nodes.forget(id, 1);
        copied
    }
}

/// A directory in which a copy took the place of a lower's file did not change for the guest.
pub(crate) fn keep_times(directory: &Directory, before: &Stat) -> Result<(), Errno> {
    let at = |time| Some(SetTime::At(time));
    directory.as_file()?.set_times(at(before.accessed), at(before.modified))
}

/// Copies at most `keep` bytes, again if the file is being written meanwhile.
pub(crate) fn copy_whole(from: &File, to: &File, keep: u64) -> Result<(), Errno> {
    for _ in 0..ATTEMPTS {
        let before = from.stat()?;
        to.truncate(0)?;
        from.copy_to(to, before.size.min(keep))?;
        let after = from.stat()?;
        if (before.changed, before.size) == (after.changed, after.size) {
            break;
        }
    }
    Ok(())
}
