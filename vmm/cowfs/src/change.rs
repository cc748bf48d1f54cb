//! Changes of names and attributes: all in the upper, each visible at one moment.

use crate::configuration::clear_whiteouts;
use crate::host::{Directory, Rename};
use crate::layer::{Found, Merged, Sight, UPPER};
use crate::listing::Listing;
use crate::lookup::OWNER;
use crate::node::{Owner, checked};
use crate::space::FileSpace;
use fuse::record::{TYPE_DIRECTORY, TYPE_REGULAR, TYPE_SYMLINK};
use fuse::reply::AttrReply;
use fuse::request::{SetAttr, open_flags, rename_flags};
use fuse::{Entry, Errno, Name, NodeId, Opened, Target};
use std::sync::Arc;

impl FileSpace {
    /// SETATTR. What the host may not hold (owner, set-id bits) is kept in an attribute.
    pub(crate) fn set_attr(&mut self, id: NodeId, set: &SetAttr) -> Result<AttrReply, Errno> {
        if let Some(size) = set.size {
            self.set_size(id, set, size)?;
        }
        let owner = set.mode.is_some() || set.uid.is_some() || set.gid.is_some();
        let times = set.accessed.is_some() || set.modified.is_some();
        if (owner || times) && id == NodeId::ROOT {
            let root = self.root.upper().as_file()?;
            self.set_owner_of(id, &root, set)?;
            root.set_times(set.accessed, set.modified)?;
        } else if owner || times {
            self.set_owner_and_times(id, set, owner, times)?;
        }
        self.get_attr(id, set.handle)
    }

    fn set_size(&mut self, id: NodeId, set: &SetAttr, size: u64) -> Result<(), Errno> {
        if size > i64::MAX as u64 {
            return Err(Errno::EFBIG);
        }
        if let Some(handle) = set.handle {
            let open = self.handles.file(handle)?;
            if open.node != id || !open.writable {
                return Err(Errno::EBADF);
            }
            return open.file.truncate(size);
        }
        match self.nodes.get(id)?.kind {
            TYPE_REGULAR => {}
            TYPE_DIRECTORY => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        let merged = self.copy_up(id, size)?;
        let name = self.nodes.get(id)?.name();
        merged.upper().file(checked(&name), true)?.truncate(size)
    }

    fn set_owner_and_times(
        &mut self,
        id: NodeId,
        set: &SetAttr,
        owner: bool,
        times: bool,
    ) -> Result<(), Errno> {
        let node = self.nodes.get(id)?;
        let (parent, name, kind) = (node.parent, node.name(), node.kind);
        if !node.is_attached() {
            let open = self.handles.of_node(id).ok_or(Errno::ESTALE)?;
            let open = Arc::clone(open);
            self.set_owner_of(id, &open, set)?;
            return open.set_times(set.accessed, set.modified);
        }
        let name = checked(&name);
        let merged = match kind {
            TYPE_DIRECTORY => {
                self.upper_directory(id)?;
                self.directory(parent)?
            }
            _ => self.copy_up(id, u64::MAX)?,
        };
        let upper = merged.upper();
        if owner {
            match kind {
                TYPE_DIRECTORY => {
                    let directory = upper.directory(name, true)?.as_file()?;
                    self.set_owner_of(id, &directory, set)?;
                }
                TYPE_REGULAR => self.set_owner_of(id, &upper.file(name, true)?, set)?,
                // Links have no attributes; their owner says little.
                TYPE_SYMLINK if set.mode.is_none() => {}
                _ => return Err(Errno::EOPNOTSUPP),
            }
        }
        if times { upper.set_times(name, set.accessed, set.modified) } else { Ok(()) }
    }

    fn set_owner_of(
        &mut self,
        id: NodeId,
        file: &crate::host::File,
        set: &SetAttr,
    ) -> Result<(), Errno> {
        if set.mode.is_none() && set.uid.is_none() && set.gid.is_none() {
            return Ok(());
        }
        let node = self.nodes.get(id)?;
        let (kind, had) = (node.kind, node.owner);
        let present = had.unwrap_or(self.natural(&file.stat()?));
        let wanted = Owner {
            uid: set.uid.unwrap_or(present.uid),
            gid: set.gid.unwrap_or(present.gid),
            mode: set.mode.unwrap_or(present.mode) & 0o7777,
        };
        file.set_mode(kind | wanted.mode)?;
        let owner = self.set_owner(file, wanted, had.is_some())?;
        self.nodes.node_mut(id).owner = owner;
        Ok(())
    }

    /// CREATE.
    pub(crate) fn create(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        flags: u32,
        mode: u32,
    ) -> Result<(Entry, Opened), Errno> {
        self.handles.room()?;
        let merged = self.directory(directory)?;
        let whiteout = match self.hidden.find(&merged, name)? {
            Sight::Absent { whiteout } => whiteout,
            Sight::Found(_) if flags & open_flags::EXCLUSIVE != 0 => return Err(Errno::EEXIST),
            Sight::Found(found) => {
                let entry = self.adopt(directory, &merged, name, &found)?;
                let opened = self.open_file(entry.node, flags).inspect_err(|_| {
                    self.nodes.forget(entry.node, 1);
                })?;
                let attr = self.get_attr(entry.node, Some(opened.handle))?.attr;
                return Ok((Entry { attr, ..entry }, opened));
            }
        };
        let merged = self.upper_directory(directory)?;
        let wanted = self.made(mode);
        let file = match whiteout {
            false => merged.upper().create(name, mode)?,
            true => {
                let (staged, file) =
                    self.stage(|space, temporary| space.work.create(temporary, mode))?;
                self.publish(staged, merged.upper(), name, Rename::Replace)?;
                file
            }
        };
        let mut stat = file.stat()?;
        if self.natural(&stat) != wanted {
            // The process's umask took bits off.
            file.set_mode(TYPE_REGULAR | wanted.mode)?;
            stat = file.stat()?;
        }
        let owner = self.set_owner(&file, wanted, false)?;
        let entry = self.adopt_new(directory, name, &stat, owner)?;
        let opened = self.handles.add_file(entry.node, file, true);
        Ok((entry, opened))
    }

    /// MKDIR: always opaque, so that what the parent makes later does not mix with it.
    pub(crate) fn make_directory(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        mode: u32,
    ) -> Result<Entry, Errno> {
        let (merged, whiteout) = self.absent(directory, name)?;
        let wanted = self.made(mode);
        let (staged, (stat, owner)) = self.stage(|space, temporary| {
            space.work.make_directory(temporary)?;
            let made = space.work.directory(temporary, true)?;
            made.set_opaque()?;
            let made = made.as_file()?;
            made.set_mode(TYPE_DIRECTORY | wanted.mode)?;
            let owner = space.set_owner(&made, wanted, false)?;
            Ok((made.stat()?, owner))
        })?;
        let how = if whiteout { Rename::Exchange } else { Rename::Replace };
        self.publish(staged, merged.upper(), name, how)?;
        self.adopt_new(directory, name, &stat, owner)
    }

    /// SYMLINK.
    pub(crate) fn make_symlink(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        target: Target<'_>,
    ) -> Result<Entry, Errno> {
        let (merged, whiteout) = self.absent(directory, name)?;
        if whiteout {
            let (staged, ()) = self
                .stage(|space, temporary| space.work.make_symlink(temporary, target.as_bytes()))?;
            self.publish(staged, merged.upper(), name, Rename::Replace)?;
        } else {
            merged.upper().make_symlink(name, target.as_bytes())?;
        }
        let stat = merged.upper().stat(name)?.ok_or(Errno::EIO)?;
        self.adopt_new(directory, name, &stat, None)
    }

    /// LINK.
    pub(crate) fn link(
        &mut self,
        target: NodeId,
        directory: NodeId,
        name: Name<'_>,
    ) -> Result<Entry, Errno> {
        self.directory(directory)?;
        if target == NodeId::ROOT || self.nodes.get(target)?.is_directory() {
            return Err(Errno::EPERM);
        }
        let (merged, whiteout) = self.absent(directory, name)?;
        let source = self.copy_up(target, u64::MAX)?;
        let old = self.nodes.get(target)?.name();
        if whiteout {
            let (staged, ()) = self.stage(|space, temporary| {
                source.upper().link(checked(&old), &space.work, temporary)
            })?;
            self.publish(staged, merged.upper(), name, Rename::Replace)?;
        } else {
            source.upper().link(checked(&old), merged.upper(), name)?;
        }
        let found = self.hidden.find(&merged, name)?.found()?;
        self.adopt(directory, &merged, name, &found)
    }

    /// The upper of `directory`, in which `name` is not there; and whether it is a whiteout.
    fn absent(&mut self, directory: NodeId, name: Name<'_>) -> Result<(Arc<Merged>, bool), Errno> {
        let merged = self.directory(directory)?;
        match self.hidden.find(&merged, name)? {
            Sight::Found(_) => Err(Errno::EEXIST),
            Sight::Absent { whiteout } => Ok((self.upper_directory(directory)?, whiteout)),
        }
    }

    /// UNLINK.
    pub(crate) fn unlink(&mut self, directory: NodeId, name: Name<'_>) -> Result<(), Errno> {
        let merged = self.directory(directory)?;
        let found = self.hidden.find(&merged, name)?.found()?;
        if found.stat.is_directory() {
            return Err(Errno::EISDIR);
        }
        let below = self.hidden.find_lower(&merged, name)?.is_some();
        if found.place.layer == UPPER && !below {
            merged.upper().remove(name)?;
        } else {
            self.white_out(directory, name, found.place.layer == UPPER, Rename::Replace)?;
        }
        self.forget_name(directory, name);
        Ok(())
    }

    /// RMDIR.
    pub(crate) fn remove_directory(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
    ) -> Result<(), Errno> {
        let merged = self.directory(directory)?;
        let found = self.hidden.find(&merged, name)?.found()?;
        if !found.stat.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        let child = self.hidden.open(&merged, name, found.place)?;
        self.check_empty(&child)?;
        let below = self.hidden.find_lower(&merged, name)?.is_some();
        if found.place.layer == UPPER && !below {
            self.empty_for_good(child.upper())?;
            merged.upper().remove_directory(name)?;
        } else {
            self.white_out(directory, name, found.place.layer == UPPER, Rename::Exchange)?;
        }
        self.forget_name(directory, name);
        Ok(())
    }

    /// Makes `name` a whiteout, in place of what the upper has there, in one step.
    fn white_out(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        in_upper: bool,
        how: Rename,
    ) -> Result<(), Errno> {
        let merged = self.upper_directory(directory)?;
        if !in_upper {
            return merged.upper().make_whiteout(name);
        }
        let (staged, ()) = self.stage(|space, temporary| space.work.make_whiteout(temporary))?;
        self.publish(staged, merged.upper(), name, how)
    }

    fn check_empty(&self, merged: &Merged) -> Result<(), Errno> {
        let listing = Listing::of(&self.hidden, merged, self.listing_limit, |_, raw| raw)?;
        if listing.is_empty() { Ok(()) } else { Err(Errno::ENOTEMPTY) }
    }

    /// Takes the whiteouts out of an empty directory, opaque first so that nothing shows through.
    fn empty_for_good(&self, upper: &Directory) -> Result<(), Errno> {
        upper.set_opaque()?;
        clear_whiteouts(upper)
    }

    fn forget_name(&mut self, directory: NodeId, name: Name<'_>) {
        if let Some(id) = self.nodes.child(directory, name) {
            self.detach(id);
        }
    }

    /// RENAME and RENAME2.
    pub(crate) fn rename(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        new_directory: NodeId,
        new_name: Name<'_>,
        flags: u32,
    ) -> Result<(), Errno> {
        if flags & !rename_flags::NO_REPLACE != 0 {
            return Err(Errno::EINVAL);
        }
        let from = self.directory(directory)?;
        let to = self.directory(new_directory)?;
        let source = self.hidden.find(&from, name)?.found()?;
        let target = self.hidden.find(&to, new_name)?;
        if let Sight::Found(target) = target {
            if flags & rename_flags::NO_REPLACE != 0 {
                return Err(Errno::EEXIST);
            }
            if target.place == source.place {
                return Ok(());
            }
            self.check_replaceable(&source, &target, &to, new_name)?;
        }
        if source.stat.is_directory() {
            self.free_to_move(&from, name, &source)?;
            self.free_place(new_directory, &to, new_name, target)?;
        } else if source.place.layer != UPPER {
            self.copy_up_name(directory, &from, name, &source)?;
        }
        let from = self.upper_directory(directory)?;
        let to = self.upper_directory(new_directory)?;
        let below = self.hidden.find_lower(&from, name)?.is_some();
        let over_whiteout = matches!(target, Sight::Absent { whiteout: true });
        let (old, new) = (from.upper(), to.upper());
        if source.stat.is_directory() && over_whiteout {
            // A directory does not replace a whiteout: they swap, and it goes if it hides nothing.
            old.rename(name, new, new_name, Rename::Exchange)?;
            if !below {
                old.remove(name)?;
            }
        } else {
            let how = if below { Rename::LeaveWhiteout } else { Rename::Replace };
            old.rename(name, new, new_name, how)?;
        }
        self.forget_name(new_directory, new_name);
        if let Some(id) = self.nodes.child(directory, name) {
            self.nodes.rename(id, new_directory, new_name);
        }
        Ok(())
    }

    /// Whether `source` may take the place of `target`.
    fn check_replaceable(
        &self,
        source: &Found,
        target: &Found,
        to: &Merged,
        new_name: Name<'_>,
    ) -> Result<(), Errno> {
        match (source.stat.is_directory(), target.stat.is_directory()) {
            (false, false) => Ok(()),
            (true, false) => Err(Errno::ENOTDIR),
            (false, true) => Err(Errno::EISDIR),
            (true, true) => self.check_empty(&self.hidden.open(to, new_name, target.place)?),
        }
    }

    /// Makes an empty directory of the upper one that the host lets another take the place of.
    fn free_place(
        &mut self,
        directory: NodeId,
        to: &Merged,
        new_name: Name<'_>,
        target: Sight,
    ) -> Result<(), Errno> {
        let Sight::Found(target) = target else { return Ok(()) };
        if target.place.layer == UPPER {
            self.empty_for_good(&to.upper().directory(new_name, true)?)?;
            if let Some(id) = self.nodes.child(directory, new_name) {
                self.directories.close(id);
            }
        }
        Ok(())
    }

    /// A directory moves if all of it is in the upper; it is made opaque, so that no directory
    /// of a lower shows through at its new place.
    fn free_to_move(&mut self, from: &Merged, name: Name<'_>, source: &Found) -> Result<(), Errno> {
        let moved = self.hidden.open(from, name, source.place)?;
        match &moved.upper {
            Some(upper) if moved.lowers.is_empty() => upper.set_opaque(),
            _ => Err(Errno::EXDEV),
        }
    }

    /// Copies up a file the guest may not have looked up.
    fn copy_up_name(
        &mut self,
        directory: NodeId,
        merged: &Merged,
        name: Name<'_>,
        found: &Found,
    ) -> Result<(), Errno> {
        let entry = self.adopt(directory, merged, name, found)?;
        let copied = self.copy_up(entry.node, u64::MAX);
        // The guest was not told of the entry; the node of its name stays if it knows it.
        self.nodes.forget(entry.node, 1);
        copied.map(|_| ())
    }

    /// Reads the root's own attribute, which no lookup does.
    pub(crate) fn root_owner(upper: &Directory) -> Option<Owner> {
        let text = upper.as_file().ok()?.attribute(OWNER).ok()??;
        Owner::parse(&text)
    }
}
