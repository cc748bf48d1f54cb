//! Sealing while serving: the upper becomes a lower, and an empty directory takes its place.
//!
//! Who has a file of the sealed layer open for writing copies it up with the next write, as
//! anybody who writes a file of a lower does.

use crate::configuration::{OpenFailure, io_error, root};
use crate::host::{Directory, File, Rename, Stat};
use crate::index::Index;
use crate::layer::{Kind, Lower, Place, UPPER};
use crate::node::checked;
use crate::quota::usage;
use crate::space::{FileSpace, State};
use fuse::{Errno, Name, NodeId};
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError, RwLockWriteGuard};

/// Why a space cannot be sealed now.
#[derive(Debug, thiserror::Error)]
pub enum HoldFailure {
    /// The kernel writes a file itself, and goes on whatever is done here.
    #[error(
        "a program has {0} open, which the kernel writes by itself; close it and try again, or mount with a quota in [files]"
    )]
    Passed(String),
    /// A file without a name inside is another's as well.
    #[error(
        "a program has a file open that it has removed under one of its several names; close it and try again"
    )]
    Shared,
    /// The next upper.
    #[error(transparent)]
    Next(#[from] OpenFailure),
    /// The host.
    #[error("the files of the space cannot be held: {0}; remedy that and try again")]
    Host(std::io::Error),
}

/// A space that is held still: nothing is written while this lives.
///
/// Whoever has it moves the upper and the index of work away, and the next upper to its place,
/// and then either renews or, if nothing was moved, drops this.
#[derive(Debug)]
#[must_use = "a space that is held serves nobody"]
pub struct Held<'a> {
    state: MutexGuard<'a, State>,
    _still: RwLockWriteGuard<'a, ()>,
    ready: Option<Ready>,
}

/// All that could have failed.
#[derive(Debug)]
struct Ready {
    next: Directory,
    next_stat: Stat,
    old: Directory,
    old_stat: Stat,
    index: Directory,
    /// Its name in work while the old one is there.
    staged: Vec<u8>,
}

impl FileSpace {
    /// Waits until nothing is being copied or written, and holds all requests.
    ///
    /// `next` is the empty directory that will be the upper.
    ///
    /// # Errors
    /// [`HoldFailure`]; the space goes on as it was.
    pub fn hold(&self, next: &Path) -> Result<Held<'_>, HoldFailure> {
        let mut state = self.lock();
        while !state.copying.is_empty() {
            state = self.copied.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        // Who writes outside the lock needs it for nothing until the bytes are written.
        let still = self.writing.write().unwrap_or_else(PoisonError::into_inner);
        let ready = state.ready(next)?;
        Ok(Held { state, _still: still, ready: Some(ready) })
    }
}

impl Held<'_> {
    /// Whether the upper is still what is at `path`: then nothing was moved.
    pub fn is_in_place(&self, path: &Path) -> bool {
        let old = self.ready.as_ref().map(|ready| (ready.old_stat.device, ready.old_stat.inode));
        File::hold_path(path).map(|(_, stat)| (stat.device, stat.inode)) == old
    }

    /// Goes on in the next upper, over what was written so far.
    ///
    /// # Errors
    /// The index cannot be put in its place: the space must not be served any further.
    pub fn renew(mut self) -> Result<(), std::io::Error> {
        let ready = self.ready.take().expect("it is taken once");
        self.state.renew(ready).map_err(io_error)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(ready) = self.ready.take() {
            self.state.discard_name(&ready.staged);
        }
    }
}

impl State {
    fn ready(&mut self, next: &Path) -> Result<Ready, HoldFailure> {
        let failed = |errno| HoldFailure::Host(io_error(errno));
        if let Some(name) = self.handles.writable().find_map(|id| self.passed(id)) {
            return Err(HoldFailure::Passed(String::from_utf8_lossy(&name).into_owned()));
        }
        for name in self.nodes.orphans() {
            // Its name in work is one; a second is one that is about to be sealed.
            if self.work.stat(checked(&name)).map_err(failed)?.is_some_and(|stat| stat.links > 1) {
                return Err(HoldFailure::Shared);
            }
        }
        let next = root("upper", next)?;
        if !next.lock().map_err(HoldFailure::Host)? {
            return Err(HoldFailure::Host(std::io::ErrorKind::ResourceBusy.into()));
        }
        let (staged, ()) =
            self.stage(|state, name| state.work.make_directory(name, 0o700)).map_err(failed)?;
        let staged = staged.keep().to_vec();
        let index = self.work.directory(checked(&staged), true).map_err(failed)?;
        let old = self.root.upper().try_clone().map_err(failed)?;
        Ok(Ready {
            next_stat: next.stat_self().map_err(failed)?,
            next,
            old_stat: old.stat_self().map_err(failed)?,
            old,
            index,
            staged,
        })
    }

    /// The name of a file that the kernel reads and writes itself.
    fn passed(&self, id: NodeId) -> Option<Arc<[u8]>> {
        let node = self.nodes.get(id).ok().filter(|node| node.backing().is_some())?;
        Some(node.name().map_or_else(|| Arc::from(&b"a removed file"[..]), |(_, name)| name))
    }

    fn renew(&mut self, ready: Ready) -> Result<(), Errno> {
        let Ready { next, next_stat, old, old_stat, index, staged } = ready;
        let name = Name::new(b"index")?;
        self.work.rename(checked(&staged), &self.work, name, Rename::New)?;
        // The root is as it was; what fails here is told by its times alone.
        let at = |time| Some(fuse::request::SetTime::At(time));
        let _ = next
            .as_file()
            .and_then(|file| file.set_times(at(old_stat.accessed), at(old_stat.modified)));
        for root in &mut self.layers.roots {
            root.place = root.place.sunk();
        }
        let place = Place::new(UPPER, &old_stat).sunk();
        self.layers.roots.insert(0, Lower::root(place, old));
        self.layers.kinds.insert(0, Kind::Own);
        self.layers.hidden.push((next_stat.device, next_stat.inode));
        self.indexes.insert(UPPER, Some(Index::new(index)));
        self.nodes.sink();
        let place = Place::new(UPPER, &next_stat);
        self.reseat_root(place);
        self.directories.clear();
        if let Some(quota) = &self.quota {
            let mut seen = HashSet::new();
            quota.restart(usage(&next, &mut seen)? + usage(&self.work, &mut seen)?);
        }
        self.root = Arc::new(self.layers.root(next));
        Ok(())
    }
}
