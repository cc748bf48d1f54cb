//! Copy-up of large files, while others are served.
//!
//! The bytes are copied into work before the request that needs them takes the lock for good.
//! Should the file have changed meanwhile, it is copied again under the lock.

use crate::copy_up::{Staged, copy_whole};
use crate::host::{Access, File, Stat};
use crate::layer::{BOUND, Place, UPPER};
use crate::space::{FileSpace, State};
use fuse::record::TYPE_REGULAR;
use fuse::{Errno, NodeId, Operation, Request};
use std::sync::{MutexGuard, PoisonError};

/// Files of so many bytes are; what is smaller is copied in no time.
const LARGE: u64 = 256 << 10;

/// A copy in work, synced, but without any attributes.
#[derive(Debug)]
pub(crate) struct Beside {
    id: NodeId,
    place: Place,
    keep: u64,
    source: Stat,
    from: File,
    pub(crate) to: File,
    pub(crate) staged: Staged,
}

impl Beside {
    fn copy(&self) -> Result<(), Errno> {
        copy_whole(&self.from, &self.to, self.keep)?;
        self.to.sync(false)
    }

    /// Whether it is still the whole of `source`.
    pub(crate) fn is_of(&self, id: NodeId, place: Place, keep: u64, source: &Stat) -> bool {
        let same = (self.source.changed, self.source.size) == (source.changed, source.size);
        (self.id, self.place, self.keep) == (id, place, keep) && same
    }

    /// Room it takes at most, bytes.
    fn bytes(&self) -> u64 {
        self.source.size.min(self.keep)
    }
}

impl FileSpace {
    /// Copies the file that `request` will copy up, if it is a large one.
    ///
    /// Who needs the same file waits for the copy.
    pub(crate) fn copy_beside<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        request: &Request<'_>,
        step_aside: &mut dyn FnMut(),
    ) -> Result<MutexGuard<'a, State>, Errno> {
        while let Some((id, keep)) = state.copies_up(request) {
            if state.copying.contains(&id) {
                step_aside();
                state = self.copied.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let Some(beside) = state.start_beside(id, keep)? else { break };
            drop(state);
            step_aside();
            let copied = beside.copy();
            state = self.lock();
            state.copying.remove(&id);
            self.copied.notify_all();
            if let Some(quota) = &state.quota {
                quota.give_back(beside.bytes());
            }
            if let Err(errno) = copied {
                state.abandon(&beside.staged);
                return Err(errno);
            }
            state.beside = Some(beside);
            break;
        }
        Ok(state)
    }
}

impl State {
    /// The file that `request` makes one of the upper, and how much of it is kept.
    fn copies_up(&self, request: &Request<'_>) -> Option<(NodeId, u64)> {
        let node = request.header.node;
        match request.operation {
            Operation::Open { flags, .. } => Some((node, self.kept_by_open(flags)?)),
            Operation::SetAttr(set) => Some((node, set.size.unwrap_or(u64::MAX))),
            // What was open for writing when its layer was sealed, or is written for the first time.
            Operation::Write { handle, .. } | Operation::Fallocate { handle, .. } => {
                Some((self.handles.file(handle).ok()?.node, u64::MAX))
            }
            Operation::SetXattr { .. } | Operation::RemoveXattr { .. } => Some((node, u64::MAX)),
            Operation::Link { target, .. } => Some((target, u64::MAX)),
            Operation::Rename { name, .. } => Some((self.nodes.child(node, name)?, u64::MAX)),
            _ => None,
        }
    }

    /// Begins a copy; `None` where there is none to be made, or only a small one.
    fn start_beside(&mut self, id: NodeId, keep: u64) -> Result<Option<Beside>, Errno> {
        let Ok(node) = self.nodes.get(id) else { return Ok(None) };
        let place = node.place;
        // What the kernel reads itself is not copied for who opens it: see `keep_apart`.
        let is_below = place.layer != UPPER && place.layer < BOUND;
        if node.kind != TYPE_REGULAR || !is_below || node.backing().is_some() {
            return Ok(None);
        }
        let Ok(at) = self.at(id) else { return Ok(None) };
        let Ok(source) = self.stat(id) else { return Ok(None) };
        if source.size.min(keep) < LARGE {
            return Ok(None);
        }
        let (directory, name) = self.directory_of(&at)?;
        let from = directory.file(name, Access::ReadQuietly)?;
        if Place::new(place.layer, &from.stat()?) != place {
            return Err(Errno::ESTALE);
        }
        let bytes = source.size.min(keep);
        if let Some(quota) = &self.quota {
            quota.admit(bytes)?;
        }
        let staged = self.name_staged();
        let to = self.work.create(staged.name(), 0o600)?;
        if let Some(quota) = &self.quota {
            quota.take(bytes);
        }
        self.copying.insert(id);
        Ok(Some(Beside { id, place, keep, source, from, to, staged }))
    }

    /// Removes a copy that the request did not need after all.
    pub(crate) fn end_beside(&mut self) {
        if let Some(beside) = self.beside.take() {
            self.abandon(&beside.staged);
        }
    }
}
