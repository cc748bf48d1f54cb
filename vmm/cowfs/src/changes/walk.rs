//! The walk through the upper that finds what is different, and what the parent did since.

use super::side::made;
use super::tree::Tree;
use super::{Change, Conflict, Means, Parts, Side, Stamp, Thing, Unreadable, What};
use crate::host::Directory;
use crate::layer::Merged;
use crate::stored::{self, Origin};
use fuse::{Errno, Name, Time};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// A directory of the upper with the parent's at its place.
pub(super) struct Entered {
    pub(super) path: Vec<u8>,
    pub(super) merged: Merged,
    pub(super) upper: Arc<Directory>,
    /// The directory, this one or one above, that hides all the parent has there, and since when.
    pub(super) hides: Option<(PathBuf, Time)>,
}

/// The directory whose names are looked at.
#[derive(Clone, Default)]
pub(super) struct Here {
    above: Vec<u8>,
    hidden_by: Option<PathBuf>,
}

/// One name, looked at.
pub(super) struct Looked<'a> {
    pub(super) name: Name<'a>,
    pub(super) path: Vec<u8>,
    pub(super) below: Vec<u8>,
    /// What the parent has there that nothing else of the space is.
    pub(super) lower: Option<Thing>,
}

pub(super) struct Walk<'t, 'p> {
    pub(super) tree: &'t Tree,
    pub(super) changes: Vec<Change>,
    unreadable: Vec<Unreadable>,
    pub(super) redundant: Vec<PathBuf>,
    /// Nothing is known of the parent.
    pub(super) blind: bool,
    /// Directories of the parent that are elsewhere inside, by their paths.
    pub(super) moved: HashSet<Vec<u8>>,
    /// Whiteouts at their old places, by the paths of the parent.
    left: HashMap<Vec<u8>, PathBuf>,
    /// Files of the parent that are accounted for, by inode as shown, and when they were made.
    seen: HashMap<u64, Time>,
    /// Copies without a file of the parent at their place: the change's number, the inode of
    /// what was copied, and when.
    strays: Vec<(usize, u64, Time)>,
    pub(super) here: Here,
    looked: u64,
    progress: &'p mut dyn FnMut(u64),
}

/// What a walk found.
pub(super) struct Found {
    pub(super) changes: Vec<Change>,
    pub(super) unreadable: Vec<Unreadable>,
    pub(super) redundant: Vec<PathBuf>,
}

/// Compares all of the upper.
pub(super) fn compare(tree: &Tree, blind: bool, progress: &mut dyn FnMut(u64)) -> Found {
    let mut walk = Walk {
        tree,
        changes: Vec::new(),
        unreadable: Vec::new(),
        redundant: Vec::new(),
        blind,
        moved: HashSet::new(),
        left: HashMap::new(),
        seen: HashMap::new(),
        strays: Vec::new(),
        here: Here::default(),
        looked: 0,
        progress,
    };
    walk.find_moved();
    walk.all();
    if !blind {
        walk.find_links();
    }
    walk.settle();
    let Walk { mut changes, mut unreadable, redundant, .. } = walk;
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    unreadable.sort_by(|a, b| a.path.cmp(&b.path));
    Found { changes, unreadable, redundant }
}

impl Walk<'_, '_> {
    fn all(&mut self) {
        let root = self.enter_root();
        let Some(root) = self.told(b"", root) else { return };
        let mut open = vec![(Rc::new(root), None::<(Vec<u8>, Option<Thing>)>)];
        while let Some((above, name)) = open.pop() {
            let entered = match name {
                None => above,
                Some((name, lower)) => {
                    let path = join(&above.path, &name);
                    let entered = self.enter(&above, &name, lower);
                    match self.told(&path, entered) {
                        Some(entered) => Rc::new(entered),
                        None => continue,
                    }
                }
            };
            let names = self.names(&entered);
            let names = self.told(&entered.path, names).unwrap_or_default();
            for name in &names {
                let path = join(&entered.path, name);
                let looked = self.name(&entered, name);
                if let Some(Some(lower)) = self.told(&path, looked) {
                    open.push((Rc::clone(&entered), Some((name.clone(), lower))));
                }
            }
            if entered.hides.is_some() {
                let hidden = self.hidden(&entered, &names);
                self.told(&entered.path, hidden);
            }
        }
    }

    pub(super) fn count(&mut self) {
        self.looked += 1;
        (self.progress)(self.looked);
    }

    /// What is noted from here on is in this directory.
    pub(super) fn stand_in(&mut self, at: &Entered) {
        let hidden_by = at.hides.as_ref().map(|(path, _)| path.clone());
        self.here = Here { above: at.merged.below.to_vec(), hidden_by };
    }

    /// The same of a directory in which the upper hides nothing.
    pub(super) fn stand_apart(&mut self, below: &[u8]) {
        self.here = Here { above: below.to_vec(), hidden_by: None };
    }

    /// The same of a directory the upper has nothing of, below the last one.
    pub(super) fn stand_below(&mut self, below: &[u8]) {
        self.here.above = below.to_vec();
    }

    fn names(&self, entered: &Entered) -> Result<Vec<Vec<u8>>, Errno> {
        let mut names = Vec::new();
        entered.upper.list(|name, _, _| names.push(name.as_bytes().to_vec()))?;
        Ok(names)
    }

    /// The value, or the note that there is none.
    pub(super) fn told<T>(&mut self, path: &[u8], result: Result<T, Errno>) -> Option<T> {
        result.map_err(|why| self.unreadable.push(Unreadable { path: path_of(path), why })).ok()
    }

    fn enter_root(&mut self) -> Result<Entered, Errno> {
        let upper = Arc::new(self.tree.root.upper().try_clone()?);
        let own = Thing::of_directory(Arc::clone(&upper), true)?;
        // Without an attribute it shows the parent's.
        let kept = stored::Shown::read(&own.opened()?, own.stat.kind())?;
        if let (Some(_), Ok(lower)) = (kept, self.tree.below(b"")) {
            let (after, before) = (own.side(self.tree)?, lower.side(self.tree)?);
            let owner = (after.uid, after.gid) != (before.uid, before.gid);
            let parts = Parts { mode: after.mode != before.mode, owner, ..Parts::default() };
            if parts.any() {
                let what = What::Changed(parts);
                let sides = (Some(self.before(&lower)?), Some(after));
                self.note(Vec::new(), Vec::new(), what, sides, Means::Name);
            }
        }
        let merged = self.tree.layers.root(upper.try_clone()?);
        Ok(Entered { path: Vec::new(), merged, upper, hides: None })
    }

    /// Looks at one name of the upper; of a directory, which is to be entered, its lower is given.
    fn name(&mut self, at: &Entered, name: &[u8]) -> Result<Option<Option<Thing>>, Errno> {
        self.count();
        self.stand_in(at);
        let name = Name::new(name)?;
        let Some(stat) = at.upper.stat(name)? else { return Ok(None) };
        let below = at.merged.path_below(name);
        let away = self.moved.contains(&below);
        let lower = if away { None } else { self.tree.lower(&at.merged, name)? };
        if let Some(lower) = &lower {
            self.see(lower);
        }
        let path = join(&at.path, name.as_bytes());
        if stat.is_whiteout() {
            let since = made(&stat);
            match lower {
                _ if away => drop(self.left.insert(below, path_of(&path))),
                Some(lower) => {
                    let means = Means::Whiteout;
                    self.deleted(
                        &at.merged,
                        Looked { name, path, below, lower: None },
                        lower,
                        since,
                        means,
                    );
                }
                None if self.blind => {
                    self.note(path, below, What::Deleted, (None, None), Means::Whiteout);
                }
                None => {}
            }
            return Ok(None);
        }
        if stat.is_directory() {
            return Ok(Some(lower));
        }
        let own = Thing {
            directory: Arc::clone(&at.upper),
            name: Some(Arc::from(name.as_bytes())),
            stat,
            is_ours: true,
        };
        self.file(own, Looked { name, path, below, lower }, Means::Name, Some(&at.merged))?;
        Ok(None)
    }

    /// Compares what is no directory.
    pub(super) fn file(
        &mut self,
        own: Thing,
        looked: Looked<'_>,
        means: Means,
        above: Option<&Merged>,
    ) -> Result<(), Errno> {
        let Looked { name, path, below, lower } = looked;
        let after = own.side(self.tree)?;
        let origin = own.origin()?;
        let linked = (own.stat.links > 1).then_some((own.stat.device, own.stat.inode));
        let Some(lower) = lower else {
            let what = match (self.blind, origin) {
                (true, Some(_)) => What::Changed(Parts { content: true, ..Parts::default() }),
                _ => What::Added,
            };
            self.stray(origin, &own);
            self.note(path, below, what, (None, Some(after)), means).linked = linked;
            return Ok(());
        };
        let parts = own.compare(&lower, self.tree)?;
        if !parts.any() {
            return Ok(());
        }
        let mut conflict = self.judge(&own, origin, &lower);
        let mut groups: Vec<_> = self.group(&lower).into_iter().collect();
        if let (true, Some(above)) = (lower.stat.is_directory(), above) {
            let replaced = self.replaced(above, name, &path, own.since());
            conflict = conflict.or(replaced.0);
            groups = replaced.1;
        }
        let before = self.before(&lower)?;
        let sides = (Some(before), Some(after));
        let change = self.note(path, below, What::Changed(parts), sides, means);
        (change.conflict, change.linked, change.groups) = (conflict, linked, groups);
        Ok(())
    }

    /// What the parent did to `lower` since the space made `own` of it, or in its place.
    pub(super) fn judge(
        &self,
        own: &Thing,
        origin: Option<Origin>,
        lower: &Thing,
    ) -> Option<Conflict> {
        let stat = &lower.stat;
        let now = Origin::of(stat, self.tree.inode(stat));
        let is_directory = stat.is_directory();
        match origin {
            Some(origin) if origin.inode == now.inode && origin.changed != 0 => {
                let is_same = match is_directory {
                    false => origin == now,
                    // Names that come and go leave their time in both.
                    true => origin.changed == now.changed || now.changed == now.modified,
                };
                (!is_same).then_some(Conflict::Changed)
            }
            _ => {
                let later = stat.changed > own.since();
                let what = if origin.is_some() { Conflict::Changed } else { Conflict::Appeared };
                later.then_some(what)
            }
        }
    }

    /// The parent's side of a change.
    pub(super) fn before(&self, lower: &Thing) -> Result<(Side, Stamp), Errno> {
        Ok((lower.side(self.tree)?, Stamp::of(&lower.stat)))
    }

    /// The next change is of a copy whose file of the parent is to be accounted for.
    pub(super) fn stray(&mut self, origin: Option<Origin>, own: &Thing) {
        if let (Some(origin), false) = (origin, self.blind) {
            let copied = own.since();
            self.strays.push((self.changes.len(), origin.inode, copied));
        }
    }

    pub(super) fn see(&mut self, lower: &Thing) {
        // A copy of a space before this one shows the number of what it was made of.
        let copied = lower.origin().ok().flatten().map(|origin| origin.inode);
        let inode = copied.unwrap_or_else(|| self.tree.inode(&lower.stat));
        let born = lower.stat.born;
        let made = self.seen.entry(inode).or_insert(born);
        *made = born.min(*made);
    }

    /// A copy is a renamed file if its old name is accounted for; else the parent removed that.
    fn settle(&mut self) {
        for (number, inode, copied) in &self.strays {
            // What was made after the copy has the number by chance.
            let is_seen = self.seen.get(inode).is_some_and(|made| made <= copied);
            if !is_seen && let Some(change) = self.changes.get_mut(*number) {
                change.conflict = Some(Conflict::Gone);
            }
        }
        for change in &mut self.changes {
            if let Means::Redirect { whiteout, .. } = &mut change.means {
                *whiteout = self.left.get(&change.below).cloned();
            }
        }
    }

    pub(super) fn note(
        &mut self,
        path: Vec<u8>,
        below: Vec<u8>,
        what: What,
        (before, after): (Option<(Side, Stamp)>, Option<Side>),
        means: Means,
    ) -> &mut Change {
        let is_masked = self.tree.is_masked(&path);
        let path = path_of(&path);
        self.changes.push(Change {
            path,
            what,
            before: before.map(|(side, _)| side),
            after,
            conflict: None,
            is_masked,
            below,
            means,
            linked: None,
            groups: Vec::new(),
            above: self.here.above.clone(),
            hidden_by: self.here.hidden_by.clone(),
            stamp: before.map(|(_, stamp)| stamp),
        });
        self.changes.last_mut().expect("it was pushed just now")
    }
}

impl<'a> Looked<'a> {
    pub(super) fn new(name: Name<'a>, path: Vec<u8>, below: Vec<u8>, lower: Thing) -> Looked<'a> {
        Looked { name, path, below, lower: Some(lower) }
    }
}

/// The names of the lowers, each once.
pub(super) fn names_below(merged: &Merged) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    let mut seen = HashSet::new();
    for lower in &merged.lowers {
        lower.directory.list(|name, _, _| {
            if merged.lowers.len() == 1 || seen.insert(name.as_bytes().to_vec()) {
                names.push(name.as_bytes().to_vec());
            }
        })?;
    }
    Ok(names)
}

pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        [] => name.to_vec(),
        _ => [directory, b"/", name].concat(),
    }
}

pub(crate) fn path_of(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}

pub(crate) fn bytes_of(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}
