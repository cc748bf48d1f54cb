//! What a commit is made of, found out and judged before anything is changed.

use super::journal::{Journal, Put, Redress, Refresh, Settle, Stage, Take};
use super::refusal::{Refusal, given, of_user, owner};
use super::{CommitFailure, apply::Parent};
use crate::changes::{
    Change, Comparison, Means, Purpose, Stamp, What, bytes_of, is_below, path_of, split,
};
use crate::host::random;
use crate::own::OwnLayer;
use crate::{FileKind, Side};
use fuse::Errno;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// What is to be committed: it may be, and how is known.
#[derive(Debug)]
#[must_use = "a plan is to be carried out"]
pub struct Plan<'c> {
    pub(super) compared: &'c Comparison,
    pub(super) changes: Vec<&'c Change>,
    pub(super) journal: Journal,
    /// What is copied, directories before what is in them.
    pub(super) copies: Vec<Copy<'c>>,
}

/// A file that is made in a stage.
#[derive(Debug)]
pub(super) struct Copy<'c> {
    pub(super) change: &'c Change,
    pub(super) after: Side,
    pub(super) stage: usize,
    /// Its path in the stage.
    pub(super) path: Vec<u8>,
    pub(super) owner: (u32, u32),
    /// The number of the step that puts it in its place, unless it goes with a directory.
    pub(super) put: Option<usize>,
}

/// The device and the mount of a directory: between two that are the same, files can be renamed.
type Volume = (u64, u64);

/// A plan being made.
struct Planner<'a, 'c> {
    own: &'a OwnLayer,
    compared: &'c Comparison,
    parent: Parent,
    plan: Plan<'c>,
    /// Of each stage.
    volumes: Vec<Volume>,
    /// Of directories of the parent that were looked at.
    known: HashMap<Vec<u8>, Volume>,
    /// New directories: where they are made.
    new: HashMap<&'c Path, (usize, Vec<u8>)>,
    slots: usize,
    refused: Vec<(PathBuf, Refusal)>,
}

impl<'c> Plan<'c> {
    pub(super) fn of(
        own: &OwnLayer,
        compared: &'c Comparison,
        paths: &[PathBuf],
        over_conflicts: bool,
    ) -> Result<Plan<'c>, CommitFailure> {
        let Some(root) = own.config.parent() else { return Err(CommitFailure::NotBase) };
        let changes = compared.select(paths, Purpose::Commit)?;
        let failed = |why| CommitFailure::Parent { path: root.clone(), why };
        let root_path = std::path::absolute(root).map_err(failed)?;
        let mut journal = Journal::empty();
        journal.root = bytes_of(&root_path).to_vec();
        journal.name = format!(".portspace-commit-{:016x}", random()).into_bytes();
        let parent = Parent::open(&journal.root).map_err(failed)?;
        let mut planner = Planner {
            own,
            compared,
            parent,
            plan: Plan { compared, changes: changes.clone(), journal, copies: Vec::new() },
            volumes: Vec::new(),
            known: HashMap::new(),
            new: HashMap::new(),
            slots: 0,
            refused: Vec::new(),
        };
        for change in &changes {
            if let Some(conflict) = change.conflict.filter(|_| !over_conflicts) {
                planner.refuse(change, Refusal::Conflict(conflict));
            }
            if change.is_masked {
                planner.refuse(change, Refusal::Masked);
            }
            if let Some(given) = given(&compared.tree, change) {
                planner.refuse(change, Refusal::Given(given));
            }
            if let Err(why) = planner.add(change) {
                return Err(CommitFailure::Host { path: change.path.clone(), why });
            }
        }
        planner.settle(&changes);
        let Planner { mut plan, refused, .. } = planner;
        if changes.iter().any(|change| change.conflict.is_some()) {
            // What was overridden is still in conflict if it comes to nothing.
            plan.journal.refresh.clear();
        }
        if !refused.is_empty() {
            return Err(CommitFailure::Refused(refused));
        }
        // What lies in another directory that goes is taken first.
        plan.journal.takes.sort_by_key(|take| std::cmp::Reverse(depth(&take.path)));
        Ok(plan)
    }
}

impl<'c> Planner<'_, 'c> {
    fn refuse(&mut self, change: &Change, why: Refusal) {
        self.refused.push((change.path.clone(), why));
    }

    fn add(&mut self, change: &'c Change) -> Result<(), Errno> {
        match (&change.what, change.after, &change.means) {
            (What::Deleted, _, Means::Within(top)) => {
                self.check_mount(change, top);
                Ok(())
            }
            (What::Deleted, ..) => self.take(change, &change.below, change.stamp),
            (What::Renamed { parts, .. }, Some(after), Means::Redirect { replaces, .. })
                if change.stamp.is_some() =>
            {
                if let Some(replaced) = replaces {
                    let stamp = Stamp::of(&self.compared.tree.below(replaced)?.stat);
                    self.take(change, replaced, Some(stamp))?;
                    self.refresh(change, bytes_of(&change.path), replaced, Some(stamp));
                }
                self.relocate(change)?;
                if parts.any() { self.redress(change, after) } else { Ok(()) }
            }
            (What::Changed(parts), Some(after), _)
                if !parts.kind && after.kind == FileKind::Directory =>
            {
                self.redress(change, after)
            }
            (_, Some(after), _) => self.copy(change, after),
            (_, None, _) => Ok(()),
        }
    }

    /// A file of the parent goes.
    fn take(&mut self, change: &Change, path: &[u8], stamp: Option<Stamp>) -> Result<(), Errno> {
        self.check_whole(change, path);
        let Some(stage) = self.stage_of(change, above(path)?)? else { return Ok(()) };
        let slot = self.slot();
        self.plan.journal.takes.push(Take { stage, slot, path: path.to_vec(), stamp });
        Ok(())
    }

    /// A directory of the parent is to be at another place.
    fn relocate(&mut self, change: &Change) -> Result<(), Errno> {
        self.check_whole(change, &change.below);
        let slot = self.slot();
        let from = self.stage_of(change, above(&change.below)?)?;
        let to = match change.path.parent().and_then(|above| self.new.get(above)) {
            Some((stage, _)) => Some(*stage),
            None => self.stage_of(change, &change.above)?,
        };
        let (Some(stage), Some(to)) = (from, to) else { return Ok(()) };
        if stage != to {
            self.refuse(change, Refusal::OtherFileSystem);
            return Ok(());
        }
        let (path, stamp) = (change.below.clone(), change.stamp);
        self.plan.journal.takes.push(Take { stage, slot, path, stamp });
        let path = bytes_of(&change.path).to_vec();
        self.plan.journal.puts.push(Put { stage, slot, path, replaced: None, inode: 0 });
        Ok(())
    }

    /// A file or directory of the space is to be made.
    fn copy(&mut self, change: &'c Change, after: Side) -> Result<(), Errno> {
        let lower = match change.stamp {
            Some(_) => {
                let stat = self.compared.tree.below(&change.below)?.stat;
                if stat.is_directory() {
                    self.check_whole(change, &change.below);
                }
                Some((stat.uid, stat.gid))
            }
            None => None,
        };
        let owner = owner(change, &after, lower);
        if let Some(refusal) = of_user(&after, owner) {
            self.refuse(change, refusal);
        }
        let inside = change.path.parent().and_then(|above| self.new.get(above)).cloned();
        let (stage, path, put) = match inside {
            Some((stage, above)) => {
                let name = change.path.file_name().ok_or(Errno::EINVAL)?;
                let path = [&*above, b"/", bytes_of(Path::new(name))].concat();
                (stage, path, None)
            }
            None => {
                let Some(stage) = self.stage_of(change, &change.above)? else { return Ok(()) };
                let slot = self.slot();
                let put = self.plan.journal.puts.len();
                let path = bytes_of(&change.path).to_vec();
                let replaced = change.stamp;
                self.plan.journal.puts.push(Put { stage, slot, path, replaced, inode: 0 });
                (stage, slot_name(slot), Some(put))
            }
        };
        if after.kind == FileKind::Directory {
            self.new.insert(&change.path, (stage, path.clone()));
        }
        self.plan.copies.push(Copy { change, after, stage, path, owner, put });
        Ok(())
    }

    /// A directory of the parent gets another mode or owner.
    fn redress(&mut self, change: &Change, after: Side) -> Result<(), Errno> {
        if let What::Changed(parts) | What::Renamed { parts, .. } = &change.what
            && parts.attributes
        {
            self.refuse(change, Refusal::Attributes);
        }
        let lower = self.compared.tree.below(&change.below)?.stat;
        let owner = owner(change, &after, Some((lower.uid, lower.gid)));
        let other = owner != (lower.uid, lower.gid);
        if let Some(refusal) = of_user(&after, owner)
            .filter(|refusal| other || !matches!(refusal, Refusal::Owner { .. }))
        {
            self.refuse(change, refusal);
        }
        let path = bytes_of(&change.path).to_vec();
        let old = (lower.mode & 0o7777, lower.uid, lower.gid);
        let new = (after.mode, owner.0, owner.1);
        self.plan.journal.redress.push(Redress { path, old, new });
        Ok(())
    }

    /// A directory that goes as a whole must not hold what the space does not see.
    fn check_whole(&mut self, change: &Change, path: &[u8]) {
        let here = path_of(&self.plan.journal.root).join(path_of(path));
        let Ok(here) = here.canonicalize() else { return };
        let config = &self.own.config;
        let own = [&config.upper, &config.work].into_iter();
        let own = own.chain(&config.hidden).chain(&config.private);
        let mut seen = own.filter_map(|own| own.canonicalize().ok());
        let held = seen.find(|own| own.starts_with(&here));
        // The path may be of a redirect, which the guest wrote: slashes are where it likes.
        let path = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        let path = path.collect::<Vec<_>>().join(&b'/');
        let masked = config
            .masks
            .iter()
            .find(|mask| is_below(bytes_of(mask.strip_prefix("/").unwrap_or(mask)), &path));
        if let Some(held) = held.or_else(|| masked.cloned()) {
            self.refuse(change, Refusal::Holds(held));
        }
    }

    fn check_mount(&mut self, change: &Change, top: &Path) {
        let changes = &self.compared.changes;
        let top = changes.binary_search_by(|change| change.path.as_path().cmp(top));
        let top = top.ok().and_then(|number| changes.get(number));
        let devices = (change.stamp, top.and_then(|top| top.stamp));
        if let (Some(stamp), Some(top)) = devices
            && stamp.device != top.device
        {
            self.refuse(change, Refusal::Mount);
        }
    }

    /// If all is undone, `own` counts as made after what happened to the parent's file.
    fn refresh(&mut self, change: &Change, own: &[u8], below: &[u8], stamp: Option<Stamp>) {
        if let (Some(stamp), None) = (stamp, change.conflict) {
            let (own, below) = (own.to_vec(), below.to_vec());
            self.plan.journal.refresh.push(Refresh { own, below, stamp });
        }
    }

    fn slot(&mut self) -> usize {
        self.slots += 1;
        self.slots
    }

    /// The stage for files in a directory of the parent; `None` if it is gone, which is refused.
    ///
    /// A stage is in the topmost of its directories: it is in none that moves.
    fn stage_of(&mut self, change: &Change, path: &[u8]) -> Result<Option<usize>, Errno> {
        let volume = match self.known.get(path) {
            Some(volume) => *volume,
            None => match self.parent.directory(path).and_then(|directory| directory.volume()) {
                Ok(volume) => volume,
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {
                    self.refuse(change, Refusal::Nowhere);
                    return Ok(None);
                }
                Err(errno) => return Err(errno),
            },
        };
        self.known.insert(path.to_vec(), volume);
        let stages = &mut self.plan.journal.stages;
        let stage = match self.volumes.iter().position(|known| *known == volume) {
            Some(stage) => stage,
            None => {
                self.volumes.push(volume);
                stages.push(Stage { path: path.to_vec() });
                stages.len() - 1
            }
        };
        if depth(path) < depth(&stages[stage].path) {
            stages[stage].path = path.to_vec();
        }
        Ok(Some(stage))
    }

    /// What becomes of the upper, and what if it comes to nothing.
    fn settle(&mut self, changes: &[&Change]) {
        self.plan.journal.settle = settled(self.own, self.compared, changes);
        for change in changes {
            let own = match &change.means {
                // Its place is in the parent alone.
                Means::Index(_) | Means::Within(_) => continue,
                Means::Opaque => change.hidden_by.as_deref().map_or(&b""[..], bytes_of),
                _ => bytes_of(&change.path),
            };
            self.refresh(change, own, &change.below, change.stamp);
        }
    }
}

/// What leaves the upper when the parent has the changes.
pub(super) fn settled(own: &OwnLayer, compared: &Comparison, changes: &[&Change]) -> Vec<Settle> {
    let selected: HashSet<&Path> = changes.iter().map(|change| &*change.path).collect();
    let left: HashSet<&Path> = compared
        .changes
        .iter()
        .filter(|change| !selected.contains(&*change.path))
        .flat_map(|change| [Some(&*change.path), change.hidden_by.as_deref()])
        .flatten()
        .collect();
    let redundant = compared.redundant.iter();
    let mut settle: Vec<_> =
        redundant.map(|path| Settle::Unmark(bytes_of(path).to_vec())).collect();
    let (mut directories, mut unmarked) = (BTreeSet::new(), HashSet::new());
    for change in changes {
        let path = bytes_of(&change.path).to_vec();
        let is_directory = change.after.is_some_and(|side| side.kind == FileKind::Directory);
        match &change.means {
            Means::Name | Means::Redirect { .. } if is_directory => {
                directories.insert(change.path.clone());
                settle.push(Settle::Unmark(path));
            }
            Means::Name | Means::Whiteout => settle.push(Settle::Remove(path)),
            _ => {}
        }
        if let Means::Redirect { whiteout: Some(place), .. } = &change.means {
            settle.push(Settle::Remove(bytes_of(place).to_vec()));
            directories.extend(around(place, &left));
        }
        if let Some(top) = &change.hidden_by
            && unmarked.insert(top)
        {
            settle.push(Settle::Unmark(bytes_of(top).to_vec()));
            directories.extend((!left.contains(&**top)).then(|| top.clone()));
        }
        directories.extend(around(&change.path, &left));
    }
    let prune = directories.iter().rev().filter(|path| !path.as_os_str().is_empty());
    settle.extend(prune.map(|path| Settle::RemoveIfEmpty(bytes_of(path).to_vec())));
    settle.extend(own.keys_of(changes).into_iter().map(Settle::Unindex));
    settle
}

/// The directories around a path that are no changes themselves.
fn around<'p>(path: &'p Path, left: &HashSet<&Path>) -> impl Iterator<Item = PathBuf> + use<'p> {
    let around = path.ancestors().skip(1).filter(|above| !left.contains(above));
    around.map(Path::to_owned).collect::<Vec<_>>().into_iter()
}

/// The name of a slot in its stage.
pub(super) fn slot_name(slot: usize) -> Vec<u8> {
    format!("#{slot}").into_bytes()
}

fn above(path: &[u8]) -> Result<&[u8], Errno> {
    Ok(split(path)?.ok_or(Errno::EBUSY)?.1)
}

fn depth(path: &[u8]) -> usize {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).count()
}
