//! Directories of the upper beside the parent's: at their places, renamed, or new.

use super::walk::{Entered, Looked, Walk, join, path_of};
use super::{Conflict, Means, Parts, Thing, What};
use crate::layer::{Merged, Place, UPPER};
use fuse::{Errno, Name, Time};
use std::sync::Arc;

impl Walk<'_, '_> {
    /// Opens a directory of the upper and compares it, not what is in it.
    pub(super) fn enter(
        &mut self,
        at: &Entered,
        name: &[u8],
        lower: Option<Thing>,
    ) -> Result<Entered, Errno> {
        self.stand_in(at);
        let name = Name::new(name)?;
        let stat = at.upper.stat(name)?.ok_or(Errno::ENOENT)?;
        let (path, below) = (join(&at.path, name.as_bytes()), at.merged.path_below(name));
        let place = Place::new(UPPER, &stat);
        let mut merged = self.tree.layers.open_beside(&at.merged, name, place)?;
        let is_moved =
            merged.redirected && (*merged.below != *below || self.moved.contains(&below));
        if !merged.redirected && self.moved.contains(&below) {
            merged.lowers.clear();
        }
        let upper = Arc::new(merged.upper().try_clone()?);
        let own = Thing::of_directory(Arc::clone(&upper), true)?;
        let since = own.since();
        let looked = Looked { name, path: path.clone(), below, lower };
        match is_moved {
            true => self.moved_directory(at, &own, &merged, looked, since)?,
            false => self.directory(at, &own, &merged, looked, since)?,
        }
        let hides = match (merged.opaque, &at.hides) {
            (false, _) => None,
            (true, Some(above)) => Some(above.clone()),
            (true, None) if merged.lowers.is_empty() => None,
            (true, None) => Some((path_of(&path), since)),
        };
        Ok(Entered { path, merged, upper, hides })
    }

    /// The parent's directory that a directory of the upper goes with.
    fn source(&mut self, merged: &Merged) -> Result<Option<Thing>, Errno> {
        let Some(lower) = self.tree.layers.head(&merged.lowers) else { return Ok(None) };
        let is_ours = self.tree.layers.is_sealed(lower.place.layer);
        let source = Thing::of_directory(Arc::clone(&lower.directory), is_ours)?;
        self.see(&source);
        Ok(Some(source))
    }

    fn moved_directory(
        &mut self,
        at: &Entered,
        own: &Thing,
        merged: &Merged,
        looked: Looked<'_>,
        since: Time,
    ) -> Result<(), Errno> {
        let source = self.source(merged)?;
        let (mut parts, mut before, mut conflict) = (Parts::default(), None, None);
        match &source {
            Some(source) => {
                parts = own.compare(source, self.tree)?;
                before = Some(self.before(source)?);
                if parts.any() {
                    conflict = self.judge(own, own.origin()?, source);
                }
            }
            None if self.blind => {}
            None => conflict = Some(Conflict::Gone),
        }
        let replaces = looked.lower.is_some().then_some(looked.below);
        let mut groups = Vec::new();
        if replaces.is_some() {
            let replaced = self.replaced(&at.merged, looked.name, &looked.path, since);
            conflict = conflict.or(replaced.0);
            groups = replaced.1;
        }
        let after = own.side(self.tree)?;
        let what = What::Renamed { from: path_of(&merged.below), parts };
        let means = Means::Redirect { whiteout: None, replaces };
        let below = merged.below.to_vec();
        let change = self.note(looked.path, below, what, (before, Some(after)), means);
        (change.conflict, change.groups) = (conflict, groups);
        Ok(())
    }

    fn directory(
        &mut self,
        at: &Entered,
        own: &Thing,
        merged: &Merged,
        looked: Looked<'_>,
        since: Time,
    ) -> Result<(), Errno> {
        let Looked { name, path, below, lower } = looked;
        let source = self.source(merged)?;
        let after = Some(own.side(self.tree)?);
        let origin = own.origin()?;
        match (source, lower) {
            (Some(source), _) => {
                let parts = own.compare(&source, self.tree)?;
                if parts.any() {
                    let conflict = self.judge(own, origin, &source);
                    let sides = (Some(self.before(&source)?), after);
                    let what = What::Changed(parts);
                    self.note(path, below, what, sides, Means::Name).conflict = conflict;
                }
            }
            // A file system that is not seen: an empty directory stands for it.
            (None, Some(lower)) if lower.stat.is_directory() => {}
            (None, Some(lower)) => {
                let parts = Parts { kind: true, ..Parts::default() };
                let before = Some(self.before(&lower)?);
                let (conflict, groups) = self.replaced(&at.merged, name, &path, since);
                let what = What::Changed(parts);
                let change = self.note(path, below, what, (before, after), Means::Name);
                (change.conflict, change.groups) = (conflict, groups);
            }
            (None, None) if self.blind && origin.is_some() => {}
            (None, None) => {
                self.stray(origin, own);
                self.note(path, below, What::Added, (None, after), Means::Name);
            }
        }
        Ok(())
    }
}
