//! Removing names, and keeping what is still used of their files.

use crate::configuration::clear_whiteouts;
use crate::host::{Directory, Rename};
use crate::layer::{Found, Merged, UPPER, Volume};
use crate::listing::Listing;
use crate::node::Orphan;
use crate::space::State;
use fuse::{Errno, Name, NodeId};
use std::sync::Arc;

/// What a file that loses a name becomes, prepared before the name goes.
#[derive(Debug)]
#[must_use = "what is retired is to be settled or undone"]
pub(crate) enum Retired {
    /// It is found by other names, or nobody knows it.
    Nothing,
    Orphan(NodeId, Orphan),
    /// The name stood for a file of the index.
    Pending(Arc<[u8]>),
}

impl State {
    /// UNLINK.
    pub(crate) fn unlink(&mut self, directory: NodeId, name: Name<'_>) -> Result<(), Errno> {
        let merged = self.directory(directory)?;
        self.check_movable(directory, name)?;
        let found = self.find(&merged, name)?.found()?;
        if found.stat.is_directory() {
            return Err(Errno::EISDIR);
        }
        let merged = self.upper_directory(directory)?;
        let written = found.place.layer == merged.top && found.indexed.is_none();
        let below = self.layers.find_lower(&merged, name)?.is_some();
        let retired = self.retire(directory, &merged, name, &found)?;
        let removed = match written && !below {
            true => self.remove_own(&merged, name, Directory::remove),
            false => self.white_out(&merged, name, written, Rename::Replace),
        };
        self.settle(retired, removed)?;
        self.forget_removed(directory, name);
        self.settle_index(&found)
    }

    /// RMDIR.
    pub(crate) fn remove_directory(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
    ) -> Result<(), Errno> {
        let merged = self.directory(directory)?;
        self.check_movable(directory, name)?;
        let found = self.find(&merged, name)?.found()?;
        if !found.stat.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        let below = self.layers.find_lower(&merged, name)?.is_some();
        let retired = self.retire(directory, &merged, name, &found)?;
        let removed = self.remove_merged(directory, name, &found, below);
        self.settle(retired, removed)?;
        self.forget_removed(directory, name);
        Ok(())
    }

    fn remove_merged(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        found: &Found,
        below: bool,
    ) -> Result<(), Errno> {
        let merged = self.directory(directory)?;
        let child = self.layers.open(&merged, name, found.place)?;
        // What is of the upper alone and holds no whiteout the host finds empty by itself. One that
        // came from elsewhere may have nothing but what the lowers have.
        if !below && child.upper.is_some() && child.lowers.is_empty() {
            let removed = self.remove_own(&merged, name, Directory::remove_directory);
            if removed != Err(Errno::ENOTEMPTY) {
                return removed;
            }
        }
        self.check_empty(&child)?;
        let merged = self.upper_directory(directory)?;
        let written = found.place.layer == merged.top;
        if !written || below {
            return self.white_out(&merged, name, written, Rename::Exchange);
        }
        if merged.volume == Volume::Layered {
            if let Some(id) = self.nodes.child(directory, name) {
                self.directories.close(id);
            }
            self.empty_for_good(child.upper())?;
        }
        self.remove_own(&merged, name, Directory::remove_directory)
    }

    /// Removes what `name` is in the upper, or where the parent shares it.
    fn remove_own(
        &self,
        merged: &Merged,
        name: Name<'_>,
        remove: fn(&Directory, Name<'_>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let charged = if merged.is_layered() { self.charged(merged.upper(), name) } else { 0 };
        let removed = remove(merged.upper(), name);
        self.give_back(removed, charged);
        removed
    }

    /// Makes `name` a whiteout, in place of what the upper has there, in one step.
    fn white_out(
        &mut self,
        merged: &Merged,
        name: Name<'_>,
        written: bool,
        how: Rename,
    ) -> Result<(), Errno> {
        if !written {
            return merged.upper().make_whiteout(name);
        }
        let (staged, ()) = self.stage(|state, temporary| state.work.make_whiteout(temporary))?;
        self.publish(staged, merged.upper(), name, how)
    }

    /// Prepares for `name` to go: the file stays reachable for who has it open.
    pub(crate) fn retire(
        &mut self,
        directory: NodeId,
        merged: &Arc<Merged>,
        name: Name<'_>,
        found: &Found,
    ) -> Result<Retired, Errno> {
        let layer = found.place.layer;
        if let (UPPER, Some(key)) = (layer, &found.indexed) {
            return Ok(Retired::Pending(Arc::clone(key)));
        }
        let Some(id) = self.nodes.child(directory, name) else { return Ok(Retired::Nothing) };
        let node = self.nodes.get(id)?;
        if node.place != found.place || node.names().len() > 1 || node.indexed.is_some() {
            return Ok(Retired::Nothing);
        }
        let orphan = if node.is_directory() || !node.is_open() {
            Orphan::Gone(found.stat)
        } else if layer == UPPER {
            let host = merged.layer(layer)?;
            let (staged, ()) =
                self.stage(|state, temporary| host.link(name, &state.work, temporary))?;
            Orphan::InWork(staged.keep())
        } else if merged.is_layered() {
            Orphan::Below(Arc::clone(merged), Arc::from(name.as_bytes()))
        } else {
            Orphan::Gone(found.stat)
        };
        Ok(Retired::Orphan(id, orphan))
    }

    /// The name is gone, or it could not be removed.
    pub(crate) fn settle(
        &mut self,
        retired: Retired,
        removed: Result<(), Errno>,
    ) -> Result<(), Errno> {
        match (retired, removed) {
            (Retired::Orphan(id, orphan), Ok(())) => {
                if !matches!(orphan, Orphan::InWork(_)) {
                    // The host may give the place to another file.
                    self.nodes.displaced(id);
                }
                self.nodes.node_mut(id).orphan = Some(orphan);
            }
            (Retired::Orphan(_, Orphan::InWork(name)), Err(_)) => self.discard_name(&name),
            (Retired::Pending(key), Ok(())) => self.one_pending_less(&key)?,
            _ => {}
        }
        removed
    }

    /// Takes the file out of the index if the name that went was its last.
    pub(crate) fn settle_index(&mut self, found: &Found) -> Result<(), Errno> {
        if found.place.layer != UPPER || found.indexed.is_some() {
            return Ok(());
        }
        match self.nodes.at(found.place).and_then(|id| self.nodes.get(id).ok()) {
            Some(node) => match node.indexed.clone() {
                Some(key) => self.drop_unused_key(&key),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// Takes the name from its node; what is an orphan now keeps that.
    pub(crate) fn forget_removed(&mut self, directory: NodeId, name: Name<'_>) {
        if let Some(id) = self.nodes.detach(directory, name) {
            self.directories.close(id);
            self.nodes.drop_unused(id);
        }
    }

    pub(crate) fn check_empty(&self, merged: &Merged) -> Result<(), Errno> {
        let listing = Listing::of(&self.layers, merged, self.listing_limit, |_, raw| raw)?;
        if listing.is_empty() { Ok(()) } else { Err(Errno::ENOTEMPTY) }
    }

    /// Takes the whiteouts out of an empty directory, opaque first so that nothing shows through.
    pub(crate) fn empty_for_good(&self, upper: &Directory) -> Result<(), Errno> {
        let mut any = false;
        upper.list(|_, _, _| any = true)?;
        if !any {
            return Ok(());
        }
        self.layers.marks.set_opaque(upper)?;
        clear_whiteouts(upper)
    }
}
