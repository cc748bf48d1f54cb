//! Renaming, of everything.
//!
//! A directory with lowers keeps them by a redirect: an attribute that says where, as the
//! lowers have it, its contents are. It is set at the old name, where it changes nothing, and
//! moves with the directory in one step.

use crate::host::Rename;
use crate::layer::{Found, Merged, Sight, Volume};
use crate::node::Node;
use crate::remove::Retired;
use crate::space::State;
use crate::stored;
use fuse::record::TYPE_REGULAR;
use fuse::request::rename_flags;
use fuse::{Errno, Name, NodeId};
use std::sync::Arc;

/// A name in a directory.
type Place<'a> = (NodeId, Name<'a>);

impl State {
    /// RENAME and RENAME2.
    pub(crate) fn rename(
        &mut self,
        old: Place<'_>,
        new: Place<'_>,
        flags: u32,
    ) -> Result<(), Errno> {
        let (from, to) = (self.directory(old.0)?, self.directory(new.0)?);
        if from.volume != to.volume {
            return Err(Errno::EXDEV);
        }
        for (directory, name) in [old, new] {
            self.check_movable(directory, name)?;
        }
        let into_itself = self.is_above(old, new.0);
        if into_itself || flags == rename_flags::EXCHANGE && self.is_above(new, old.0) {
            return Err(Errno::EINVAL);
        }
        let source = self.find(&from, old.1)?.found()?;
        let target = self.find(&to, new.1)?;
        match flags {
            0 | rename_flags::NO_REPLACE => {}
            rename_flags::EXCHANGE => {
                let target = target.found()?;
                return if source.place == target.place {
                    Ok(())
                } else {
                    self.exchange(old, new, &source)
                };
            }
            _ => return Err(Errno::EINVAL),
        }
        if let Sight::Found(target) = &target {
            if flags & rename_flags::NO_REPLACE != 0 {
                return Err(Errno::EEXIST);
            }
            if target.place == source.place {
                return Ok(());
            }
            self.check_replaceable(&source, target, &to, new.1)?;
        }
        self.make_movable(old, &source)?;
        let (from, to) = (self.upper_directory(old.0)?, self.upper_directory(new.0)?);
        if from.volume == Volume::Layered {
            self.move_layered(old, new, &from, &to, &source, target)
        } else {
            let retired = self.retire_target(new, &to, &target)?;
            // What is there and not seen stays.
            let how = match &target {
                Sight::Found(_) if flags == 0 => Rename::Replace,
                _ => Rename::New,
            };
            let moved = from.upper().rename(old.1, to.upper(), new.1, how);
            self.settle(retired, moved)?;
            self.moved_name(old, new);
            Ok(())
        }
    }

    fn move_layered(
        &mut self,
        old: Place<'_>,
        new: Place<'_>,
        from: &Arc<Merged>,
        to: &Arc<Merged>,
        source: &Found,
        target: Sight,
    ) -> Result<(), Errno> {
        self.keep_disguise(source, old, to)?;
        let below = self.layers.find_lower(from, old.1)?.is_some();
        let directory = source.stat.is_directory();
        let retired = self.retire_target(new, to, &target)?;
        let (old_upper, new_upper) = (from.upper(), to.upper());
        let whiteout = matches!(target, Sight::Absent { whiteout: true });
        let moved = if directory && whiteout {
            // A directory does not replace a whiteout: they swap, and it goes if it hides nothing.
            old_upper.rename(old.1, new_upper, new.1, Rename::Exchange).and_then(|()| match below {
                true => Ok(()),
                false => old_upper.remove(old.1),
            })
        } else {
            let emptied = match &target {
                Sight::Found(found) if directory => self.free_place(new, to, found),
                _ => Ok(()),
            };
            let how = if below { Rename::LeaveWhiteout } else { Rename::Replace };
            let replaced = self.charged(new_upper, new.1);
            let moved = emptied.and_then(|()| old_upper.rename(old.1, new_upper, new.1, how));
            self.give_back(moved, replaced);
            moved
        };
        self.settle(retired, moved)?;
        self.moved_name(old, new);
        match &target {
            Sight::Found(target) => self.settle_index(target),
            Sight::Absent { .. } => Ok(()),
        }
    }

    fn moved_name(&mut self, old: Place<'_>, new: Place<'_>) {
        self.forget_removed(new.0, new.1);
        if let Some(id) = self.nodes.child(old.0, old.1) {
            self.directories.close(id);
        }
        self.nodes.rename(old, new);
    }

    /// Whether a name is that of `directory`, or of a directory it is in.
    fn is_above(&self, (above, name): Place<'_>, mut directory: NodeId) -> bool {
        let Some(named) = self.nodes.child(above, name) else { return false };
        loop {
            if directory == named {
                return true;
            }
            match self.nodes.get(directory).ok().and_then(Node::name) {
                Some((above, _)) => directory = above,
                None => return false,
            }
        }
    }

    /// RENAME_EXCHANGE of two different files, none of which is in the other.
    fn exchange(&mut self, old: Place<'_>, new: Place<'_>, source: &Found) -> Result<(), Errno> {
        self.make_movable(old, source)?;
        // Another name of the source may be in the target: the copy brought its directories up.
        let to = self.directory(new.0)?;
        let target = self.find(&to, new.1)?.found()?;
        self.make_movable(new, &target)?;
        let (from, to) = (self.upper_directory(old.0)?, self.upper_directory(new.0)?);
        self.keep_disguise(source, old, &to)?;
        self.keep_disguise(&target, new, &from)?;
        from.upper().rename(old.1, to.upper(), new.1, Rename::Exchange)?;
        let ids = [self.nodes.detach(old.0, old.1), self.nodes.detach(new.0, new.1)];
        for (id, (directory, name)) in ids.into_iter().zip([new, old]) {
            if let Some(id) = id {
                self.directories.close(id);
                self.nodes.attach(id, directory, name);
            }
        }
        Ok(())
    }

    /// Makes `source` one of the upper's, so that its name may change.
    fn make_movable(&mut self, place: Place<'_>, source: &Found) -> Result<(), Errno> {
        let (directory, name) = place;
        let merged = self.directory(directory)?;
        if merged.volume != Volume::Layered {
            return self.upper_directory(directory).map(|_| ());
        }
        if !source.stat.is_directory() {
            return self.copy_up_name(directory, name, source);
        }
        let id = self.node_of(directory, &merged, name, source)?;
        self.nodes.looked_up(id);
        let free = self.upper_directory(id).and_then(|moved| {
            if moved.lowers.is_empty() {
                self.layers.marks.set_opaque(moved.upper())
            } else if stored::redirect(moved.upper())?.is_none() {
                stored::set_redirect(moved.upper(), &moved.below)
            } else {
                Ok(())
            }
        });
        self.nodes.forget(id, 1);
        free
    }

    /// The listing of the new directory has to look at a file that stands for something else.
    fn keep_disguise(&self, source: &Found, old: Place<'_>, to: &Merged) -> Result<(), Errno> {
        let known = self.nodes.child(old.0, old.1).and_then(|id| self.nodes.get(id).ok());
        let disguised = source.stat.kind() == TYPE_REGULAR
            && known.is_none_or(|node| node.kind != TYPE_REGULAR);
        if disguised { stored::mark_disguises(to.upper()) } else { Ok(()) }
    }

    fn retire_target(
        &mut self,
        new: Place<'_>,
        to: &Arc<Merged>,
        target: &Sight,
    ) -> Result<Retired, Errno> {
        match target {
            Sight::Found(target) => self.retire(new.0, to, new.1, target),
            Sight::Absent { .. } => Ok(Retired::Nothing),
        }
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
            (true, true) => self.check_empty(&self.layers.open(to, new_name, target.place)?),
        }
    }

    /// Makes an empty directory of the upper one that the host lets another take the place of.
    fn free_place(&mut self, new: Place<'_>, to: &Merged, target: &Found) -> Result<(), Errno> {
        if target.place.layer != to.top {
            return Ok(());
        }
        // Opened again it has no lowers.
        if let Some(id) = self.nodes.child(new.0, new.1) {
            self.directories.close(id);
        }
        self.empty_for_good(&to.upper().directory(new.1, true)?)
    }
}
