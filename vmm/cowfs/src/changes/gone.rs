//! What the parent has and the space has not: all of it below a whiteout or an opaque directory.

use super::walk::{Entered, Looked, Walk, join, names_below, path_of};
use super::{Conflict, Means, Thing, What};
use crate::layer::{Merged, Place, UPPER};
use fuse::{Errno, Name, Time};
use std::collections::HashSet;
use std::rc::Rc;

impl Walk<'_, '_> {
    /// What the parent has in a directory that hides it, and the upper has not.
    pub(super) fn hidden(&mut self, at: &Entered, names: &[Vec<u8>]) -> Result<(), Errno> {
        let Some((_, since)) = at.hides.clone() else { return Ok(()) };
        self.stand_in(at);
        let own: HashSet<&[u8]> = names.iter().map(Vec::as_slice).collect();
        for name in names_below(&at.merged)? {
            let below = join(&at.merged.below, &name);
            if own.contains(&*name) || self.moved.contains(&below) {
                continue;
            }
            let path = join(&at.path, &name);
            let name = Name::new(&name)?;
            let found = self.tree.lower(&at.merged, name);
            if let Some(Some(lower)) = self.told(&path, found) {
                let looked = Looked { name, path, below, lower: None };
                let means = Means::Opaque;
                self.deleted(&at.merged, looked, lower, since, means);
            }
        }
        Ok(())
    }

    /// Notes that the parent's `lower` is not there, and nothing below it.
    pub(super) fn deleted(
        &mut self,
        above: &Merged,
        looked: Looked<'_>,
        lower: Thing,
        since: Time,
        means: Means,
    ) {
        let Looked { name, path, below, .. } = looked;
        let is_directory = lower.stat.is_directory();
        self.gone(path.clone(), below, &lower, since, means);
        if is_directory {
            self.deleted_below(above, name, &path, since);
        }
    }

    fn gone(&mut self, path: Vec<u8>, below: Vec<u8>, lower: &Thing, since: Time, means: Means) {
        self.count();
        self.see(lower);
        let side = self.before(lower);
        let side = self.told(&path, side);
        let conflict = (lower.stat.changed > since).then_some(Conflict::Changed);
        let groups = self.group(lower).into_iter().collect();
        let change = self.note(path, below, What::Deleted, (side, None), means);
        (change.conflict, change.groups) = (conflict, groups);
    }

    /// Notes all below the directory `name` of the parent as deleted with it.
    fn deleted_below(&mut self, above: &Merged, name: Name<'_>, top: &[u8], since: Time) {
        let layers = &self.tree.layers;
        let descend = |above: &Merged, name: Name<'_>| {
            let lowers = layers.descend(&above.lowers, name)?;
            Ok(layers.lower_directory(lowers, &above.path_below(name)))
        };
        let here = self.here.clone();
        let first = descend(above, name);
        let Some(first) = self.told(top, first) else { return };
        let mut open = vec![(Rc::new(first), None::<Vec<u8>>, top.to_vec())];
        while let Some((above, name, path)) = open.pop() {
            let merged = match name {
                None => above,
                Some(name) => {
                    let merged = Name::new(&name).and_then(|name| descend(&above, name));
                    let Some(merged) = self.told(&path, merged) else { continue };
                    Rc::new(merged)
                }
            };
            self.stand_below(&merged.below);
            let names = names_below(&merged);
            for name in self.told(&path, names).unwrap_or_default() {
                let (path, below) = (join(&path, &name), join(&merged.below, &name));
                if self.moved.contains(&below) {
                    continue;
                }
                let lower = Name::new(&name).and_then(|name| self.tree.lower(&merged, name));
                if let Some(Some(lower)) = self.told(&path, lower) {
                    let means = Means::Within(path_of(top));
                    self.gone(path.clone(), below, &lower, since, means);
                    if lower.stat.is_directory() {
                        open.push((Rc::clone(&merged), Some(name), path));
                    }
                }
            }
        }
        self.here = here;
    }

    /// What the parent did to what is at `name` and below it, which the space replaced, and the
    /// groups of hard links in it.
    pub(super) fn replaced(
        &mut self,
        above: &Merged,
        name: Name<'_>,
        path: &[u8],
        since: Time,
    ) -> (Option<Conflict>, Vec<(u64, u64)>) {
        let count = self.changes.len();
        if let Ok(Some(lower)) = self.tree.lower(above, name) {
            let below = above.path_below(name);
            let looked = Looked { name, path: path.to_vec(), below, lower: None };
            self.deleted(above, looked, lower, since, Means::Whiteout);
        }
        let replaced = self.changes.split_off(count);
        let conflict = replaced.iter().find_map(|change| change.conflict);
        (conflict, replaced.into_iter().flat_map(|change| change.groups).collect())
    }

    /// The file of the index that the other names of a file of the parent stand for.
    pub(super) fn group(&self, lower: &Thing) -> Option<(u64, u64)> {
        if lower.stat.is_directory() {
            return None;
        }
        let own = self.tree.indexed(&Place::new(UPPER, &lower.stat).key()).ok()?;
        Some((own.stat.device, own.stat.inode))
    }
}
