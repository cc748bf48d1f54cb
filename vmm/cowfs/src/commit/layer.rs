//! Committing to a space: what goes becomes a sealed layer that the parent lies on from then on.
//!
//! The layer is made of links to the files of the upper, which nobody serves, and then leave it.

use super::plan::settled;
use super::refusal::{Refusal, given};
use super::{CommitFailure, journal::Settle};
use crate::changes::{
    Change, Comparison, Means, Purpose, Thing, Tree, What, bytes_of, path_of, split, walk_down,
};
use crate::configuration::{Config, OpenFailure, io_error, root};
use crate::host::{Access, Attributes, Directory, Stat};
use crate::index::Index;
use crate::layer::join;
use crate::own::OwnLayer;
use crate::stored::{self, Marks, Origin};
use crate::{Conflict, FileKind};
use fuse::record::{TYPE_CHARACTER, TYPE_DIRECTORY, TYPE_REGULAR, TYPE_SYMLINK};
use fuse::request::SetTime;
use fuse::{Errno, Name};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is to be committed to a space: it may be.
#[derive(Debug)]
#[must_use = "a plan is to be carried out"]
pub struct LayerPlan<'c> {
    compared: &'c Comparison,
    changes: Vec<&'c Change>,
    parent: Tree,
    leaves: Leaves,
}

/// What leaves the upper once the parent lies on the layer. It may be done again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaves(Left);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Left {
    /// All the space has otherwise goes, and so all that is there.
    Nothing,
    Some {
        settle: Vec<Settle>,
        /// Directories that stay, which the layer has because of what is in them: that is not
        /// the parent's doing.
        known: Vec<Vec<u8>>,
    },
}

impl OwnLayer {
    /// Finds out what committing the changes at `paths` and below to the space of `parent` takes;
    /// without paths all changes. `over_conflicts`: also what that changed meanwhile.
    ///
    /// # Errors
    /// What cannot be committed; nothing is changed.
    pub fn plan_layer<'c>(
        &self,
        compared: &'c Comparison,
        paths: &[PathBuf],
        over_conflicts: bool,
        parent: &Config,
    ) -> Result<LayerPlan<'c>, CommitFailure> {
        let changes = compared.select(paths, Purpose::Commit)?;
        let (parent, unread) = Tree::open(parent)?;
        if let Some(failure) = unread {
            return Err(failure.into());
        }
        let judge = Judge { compared, parent: &parent };
        let mut refused = Vec::new();
        for change in &changes {
            let at = |why| CommitFailure::Host { path: change.path.clone(), why };
            let conflict = match change.conflict {
                None => judge.conflict(change).map_err(at)?,
                known => known,
            };
            let conflict = conflict.filter(|_| !over_conflicts).map(Refusal::Conflict);
            let masked = change.is_masked.then_some(Refusal::Masked);
            let given = given(&compared.tree, change).map(Refusal::Given);
            let each = [conflict, masked, given].into_iter().flatten();
            refused.extend(each.map(|why| (change.path.clone(), why)));
        }
        if !over_conflicts {
            let more = judge.conflicts_below(&changes)?;
            refused.extend(more.into_iter().map(|(path, why)| (path, Refusal::Conflict(why))));
        }
        if !refused.is_empty() {
            return Err(CommitFailure::Refused(refused));
        }
        let is_all = changes.len() == compared.changes.len() && compared.unreadable.is_empty();
        let left = match is_all {
            true => Left::Nothing,
            false => Left::Some {
                settle: settled(self, compared, &changes),
                known: judge.known(&changes),
            },
        };
        let leaves = Leaves(left);
        Ok(LayerPlan { compared, changes, parent, leaves })
    }

    /// Makes the layer in an empty directory of the upper's file system, on disk when this
    /// returns.
    ///
    /// # Errors
    /// The host refuses; the directory is to be removed.
    pub fn make_layer(&self, plan: &LayerPlan<'_>, files: &Path) -> Result<(), CommitFailure> {
        let (files, index) = (root("layer", files)?, self.index());
        let (made, known) = (BTreeMap::new(), HashMap::new());
        let mut making = Making { own: self, index, plan, files, made, known };
        for change in &plan.changes {
            let at = |why| CommitFailure::Host { path: change.path.clone(), why };
            making.add(change).map_err(at)?;
        }
        let host = |why| CommitFailure::Host { path: PathBuf::new(), why };
        let moved =
            plan.changes.iter().filter(|change| matches!(change.what, What::Renamed { .. }));
        // Where all of a directory is gone, nothing in it has to be.
        for below in moved.map(|change| &*change.below).collect::<BTreeSet<_>>() {
            making.cover(below).map_err(host)?;
        }
        making.finish().map_err(host)
    }

    /// Takes what the parent lies on now, the layer of `files`, out of the upper.
    ///
    /// # Errors
    /// The host refuses; it is to be done again before the space is served.
    pub fn leave(&mut self, leaves: &Leaves, files: &Path) -> Result<(), OpenFailure> {
        let failed = |why| {
            let (path, source) = (files.to_owned(), io_error(why));
            OpenFailure::Directory { role: "layer", path, source }
        };
        let layer = root("layer", files)?;
        made_now(&layer).and_then(|()| self.take_out(leaves)).map_err(failed)
    }

    fn take_out(&mut self, leaves: &Leaves) -> Result<(), Errno> {
        let Left::Some { settle, known } = &leaves.0 else { return self.empty() };
        self.settle(settle)?;
        known.iter().try_for_each(|path| self.made_now(path))
    }
}

impl<'c> LayerPlan<'c> {
    /// What is to be committed, by path.
    pub fn changes(&self) -> &[&'c Change] {
        &self.changes
    }

    /// What leaves the upper afterwards.
    pub fn leaves(&self) -> &Leaves {
        &self.leaves
    }
}

/// Compares what the parent has now with what the space was made from.
struct Judge<'a> {
    compared: &'a Comparison,
    parent: &'a Tree,
}

impl Judge<'_> {
    fn conflict(&self, change: &Change) -> Result<Option<Conflict>, Errno> {
        let base = &self.compared.tree;
        if is_directory(base.there(&change.above)?.as_ref())
            && !is_directory(self.parent.seen(&change.above)?.as_ref())
        {
            return Ok(Some(Conflict::Gone));
        }
        let mut conflict = self.differs(&change.below)?;
        if change.what == What::Deleted {
            // Both did it.
            conflict = conflict.filter(|conflict| *conflict != Conflict::Gone);
        }
        if let What::Renamed { .. } = change.what {
            let name = change.path.file_name().map_or(&b""[..], |name| bytes_of(Path::new(name)));
            conflict = conflict.or(self.differs(&join(&change.above, name))?);
        }
        Ok(conflict)
    }

    /// What the parent did at a path since; names in directories are not looked at.
    fn differs(&self, path: &[u8]) -> Result<Option<Conflict>, Errno> {
        let (base, now) = (self.compared.tree.there(path)?, self.parent.seen(path)?);
        Ok(match (base, now) {
            (None, None) => None,
            (None, Some(_)) => Some(Conflict::Appeared),
            (Some(_), None) => Some(Conflict::Gone),
            (Some(base), Some(now)) => {
                let is_same =
                    (base.stat.device, base.stat.inode) == (now.stat.device, now.stat.inode);
                let differs = !is_same && now.compare(&base, self.parent)?.any();
                differs.then_some(Conflict::Changed)
            }
        })
    }

    /// Directories around what goes, changed otherwise than by the parent, that do not go.
    fn known(&self, changes: &[&Change]) -> Vec<Vec<u8>> {
        let goes: BTreeSet<&Path> = changes.iter().map(|change| &*change.path).collect();
        // Where a directory goes to, and where it was.
        let around = changes.iter().flat_map(|change| [&*change.path, as_path(&change.below)]);
        let around: BTreeSet<&Path> = around.flat_map(Path::ancestors).collect();
        let stays = self.compared.changes.iter().filter(|change| {
            let places = [&*change.path, as_path(&change.below)];
            places.iter().any(|place| around.contains(place))
                && !goes.contains(&*change.path)
                && change.conflict.is_none()
        });
        let known = stays.filter(|change| matches!(self.conflict(change), Ok(None)));
        known.map(|change| bytes_of(&change.path).to_vec()).collect()
    }

    /// What the parent did in directories that are not there, or are others, in the space, but
    /// to what is a change of its own.
    fn conflicts_below(
        &self,
        changes: &[&Change],
    ) -> Result<BTreeMap<PathBuf, Conflict>, CommitFailure> {
        let known: BTreeSet<&[u8]> = changes.iter().map(|change| &*change.below).collect();
        let hidden = changes.iter().filter(|change| change.hidden_by.is_some());
        let mut open: BTreeSet<Vec<u8>> = hidden.map(|change| change.above.clone()).collect();
        open.extend(changes.iter().flat_map(|change| change.whole()).map(<[u8]>::to_vec));
        let (mut found, mut seen) = (BTreeMap::new(), BTreeSet::new());
        while let Some(directory) = open.pop_first() {
            let at = |why| CommitFailure::Host { path: path_of(&directory), why };
            for name in self.parent.names_at(&directory).map_err(at)? {
                let path = join(&directory, &name);
                if known.contains(&*path) {
                    continue;
                }
                if let Some(conflict) = self.differs(&path).map_err(at)? {
                    found.insert(path_of(&path), conflict);
                } else if is_directory(self.parent.seen(&path).map_err(at)?.as_ref())
                    && seen.insert(path.clone())
                {
                    open.insert(path);
                }
            }
        }
        Ok(found)
    }
}

fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

fn is_directory(thing: Option<&Thing>) -> bool {
    thing.is_some_and(|thing| thing.stat.is_directory())
}

/// A layer being made.
struct Making<'a> {
    own: &'a OwnLayer,
    index: Option<Index>,
    plan: &'a LayerPlan<'a>,
    files: Directory,
    /// Its directories, and where the lowers have them.
    made: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Files of several names, and where the layer has its copy of those that stay as well.
    known: HashMap<(u64, u64), Option<Vec<u8>>>,
}

impl Making<'_> {
    fn add(&mut self, change: &Change) -> Result<(), Errno> {
        let path = bytes_of(&change.path);
        let is_directory = change.after.is_some_and(|side| side.kind == FileKind::Directory);
        match &change.means {
            Means::Within(_) => Ok(()),
            // The layer has names for all of them, and no index.
            Means::Index(key) => {
                let index = self.index.as_ref().ok_or(Errno::ESTALE)?;
                let from = Arc::clone(&index.directory);
                self.link(&from, Name::new(key)?, path, change)
            }
            // Hiding all there is would take along what was moved out of it, and stays.
            Means::Opaque => {
                let (name, above) = split(path)?.ok_or(Errno::EINVAL)?;
                self.directory(above)?.make_whiteout(name)
            }
            Means::Name | Means::Redirect { .. } if is_directory => {
                self.directory(path)?;
                match &change.means {
                    Means::Redirect { whiteout: Some(left), .. }
                        if !self.is_in_what_stays(left) =>
                    {
                        self.give(bytes_of(left), change)
                    }
                    _ => Ok(()),
                }
            }
            Means::Name | Means::Redirect { .. } | Means::Whiteout => self.give(path, change),
        }
    }

    /// How many names of a change's file go.
    fn names(&self, change: &Change) -> usize {
        let same = |other: &&&Change| other.linked.is_some() && other.linked == change.linked;
        self.plan.changes.iter().filter(same).count().max(1)
    }

    /// Whether a place is in a directory that was moved, which does not go.
    fn is_in_what_stays(&self, place: &Path) -> bool {
        self.plan.compared.changes.iter().any(|other| {
            matches!(other.what, What::Renamed { .. })
                && place.starts_with(&other.path)
                && self.selected(bytes_of(&other.path)).is_none()
        })
    }

    /// Nothing is any more where the parent has a directory that was moved, unless the layer has
    /// something else there, or above.
    fn cover(&mut self, below: &[u8]) -> Result<(), Errno> {
        let (name, above) = split(below)?.ok_or(Errno::EINVAL)?;
        let mut directory = self.files.try_clone()?;
        for part in above.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            directory = match directory.directory(Name::new(part)?, true) {
                Ok(directory) => directory,
                Err(Errno::ENOENT) => {
                    directory = self.directory(above)?;
                    break;
                }
                Err(Errno::ENOTDIR | Errno::ELOOP) => return Ok(()),
                Err(errno) => return Err(errno),
            };
            if Marks::Trusted.is_opaque(&directory)? || stored::redirect(&directory)?.is_some() {
                return Ok(());
            }
        }
        match directory.stat(name)? {
            Some(_) => Ok(()),
            None => directory.make_whiteout(name),
        }
    }

    /// Gives the layer what the upper has at a path.
    fn give(&mut self, path: &[u8], change: &Change) -> Result<(), Errno> {
        let (name, above) = split(path)?.ok_or(Errno::EINVAL)?;
        let from = walk_down(&self.own.upper, above)?;
        self.link(&from, name, path, change)
    }

    /// Gives the layer the file of a change.
    fn link(
        &mut self,
        from: &Directory,
        name: Name<'_>,
        place: &[u8],
        change: &Change,
    ) -> Result<(), Errno> {
        let Some(stat) = from.stat(name)? else { return Ok(()) };
        let (new, above) = split(place)?.ok_or(Errno::EINVAL)?;
        let to = self.directory(above)?;
        let file = (stat.device, stat.inode);
        match self.known.get(&file) {
            Some(None) => from.link(name, &to, new),
            Some(Some(copied)) => {
                let (copied, above) = split(copied)?.ok_or(Errno::EINVAL)?;
                walk_down(&self.files, above)?.link(copied, &to, new)
            }
            // What stays, under another name or in the index, will be written.
            None if stat.links > 1 && stat.links as usize > self.names(change) => {
                self.known.insert(file, Some(place.to_vec()));
                copy(from, name, &stat, &to, new)?;
                match change.what == What::Added && stat.kind() == TYPE_REGULAR {
                    // What it was made of stays behind with the other name.
                    true => Origin::forget(&to.any(new)?),
                    false => Ok(()),
                }
            }
            None if stat.kind() == TYPE_REGULAR => {
                self.known.insert(file, None);
                from.link(name, &to, new)
            }
            None => {
                self.known.insert(file, Some(place.to_vec()));
                copy(from, name, &stat, &to, new)
            }
        }
    }

    /// The directory at a path of the layer: what goes of it is made as the upper's is, and what
    /// only leads there as the parent has it.
    fn directory(&mut self, path: &[u8]) -> Result<Directory, Errno> {
        let Some((name, above)) = split(path)? else { return self.root() };
        let above_it = self.directory(above)?;
        match above_it.directory(name, true) {
            Err(Errno::ENOENT) => {}
            directory => return directory,
        }
        let selected = self.selected(path);
        let below = match selected {
            Some(change) => change.below.clone(),
            None => join(self.made.get(above).map_or(above, |below| below), name.as_bytes()),
        };
        let theirs = match selected {
            Some(_) => None,
            None => self.plan.parent.seen(&below)?.filter(|theirs| theirs.stat.is_directory()),
        };
        above_it.make_directory(name, 0o700)?;
        let made = above_it.directory(name, true)?;
        match theirs {
            Some(theirs) => self.lead(&theirs, &made)?,
            None => {
                let own = walk_down(&self.own.upper, path)?;
                // One that both have hides nothing of the parent's but name by name.
                let is_changed = selected.is_some_and(|change| match change.what {
                    What::Changed(parts) => !parts.kind,
                    _ => false,
                });
                copy_attributes(&own, &made, |name| !is_changed || !stored::is_mark(name))?;
                // A new one hides what was there, also where a directory above hides that so far.
                let is_hiding = selected.is_some_and(|change| change.hidden_by.is_some());
                if is_hiding && !is_changed && stored::redirect(&own)?.is_none() {
                    Marks::probe(&made).set_opaque(&made)?;
                }
                let stat = own.stat_self()?;
                dress(&made, (stat.uid, stat.gid), stat.mode)?;
            }
        }
        self.made.insert(path.to_vec(), below);
        Ok(made)
    }

    /// Makes a directory the parent's, copied.
    fn lead(&self, theirs: &Thing, made: &Directory) -> Result<(), Errno> {
        let tree = &self.plan.parent;
        for (name, value) in theirs.attributes()? {
            if let Some(kept) = stored::kept_name(&name) {
                made.set_attribute(&kept, &value, 0)?;
            }
        }
        let inode = theirs.origin()?.map_or(tree.inode(&theirs.stat), |origin| origin.inode);
        Origin::of(&theirs.stat, inode).keep(made)?;
        let shown = theirs.shown(tree)?;
        let form = tree.role.form(&shown);
        if form.attribute {
            tree.role.as_kept(shown).keep(made)?;
        }
        let own = made.stat_self()?;
        dress(made, form.owner.unwrap_or((own.uid, own.gid)), form.mode)
    }

    /// The root, with what is to be changed of it.
    fn root(&mut self) -> Result<Directory, Errno> {
        if self.made.is_empty() {
            if self.selected(b"").is_some() {
                copy_attributes(&self.own.upper, &self.files, stored::is_shown)?;
            }
            self.made.insert(Vec::new(), Vec::new());
        }
        self.files.try_clone()
    }

    /// The change of the directory itself, if that goes.
    fn selected(&self, path: &[u8]) -> Option<&Change> {
        let path = path_of(path);
        let changes = &self.plan.changes;
        let found = changes.binary_search_by(|change| change.path.cmp(&path)).ok()?;
        Some(changes[found])
    }

    /// Gives the directories the times they have in the upper, now that nothing is made in them.
    fn finish(self) -> Result<(), Errno> {
        let at = |time| Some(SetTime::At(time));
        for path in self.made.keys().rev() {
            let Ok(own) = walk_down(&self.own.upper, path) else { continue };
            let stat = own.stat_self()?;
            let made = walk_down(&self.files, path)?.as_file()?;
            made.set_times(at(stat.accessed), at(stat.modified))?;
        }
        self.files.sync_file_system()
    }
}

fn dress(made: &Directory, owner: (u32, u32), mode: u32) -> Result<(), Errno> {
    let file = made.as_file()?;
    let stat = file.stat()?;
    if (stat.uid, stat.gid) != owner {
        file.set_owner(owner.0, owner.1)?;
    }
    file.set_mode(mode & 0o7777)
}

/// Whatever the parent's own parent did so far was there when this was committed.
fn made_now(layer: &Directory) -> Result<(), Errno> {
    let file = layer.as_file()?;
    stored::set_since(&file, file.stat()?.changed)?;
    let now = file.stat()?.changed;
    let mut open = vec![layer.try_clone()?];
    while let Some(directory) = open.pop() {
        stored::set_since(&directory, now)?;
        let mut names = Vec::new();
        directory.list(|name, _, _| names.push(name.as_bytes().to_vec()))?;
        for name in &names {
            let name = Name::new(name)?;
            match directory.stat(name)?.map(|stat| stat.kind()) {
                Some(TYPE_DIRECTORY) => open.push(directory.directory(name, true)?),
                Some(TYPE_REGULAR) => stored::set_since(&directory.any(name)?, now)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn copy_attributes(
    from: &impl Attributes,
    to: &impl Attributes,
    which: impl Fn(&[u8]) -> bool,
) -> Result<(), Errno> {
    for name in from.attribute_names()? {
        let is_ours = name.starts_with(b"user.") || name.starts_with(b"trusted.");
        if is_ours
            && which(&name)
            && let Some(value) = from.attribute(&name)?
        {
            to.set_attribute(&name, &value, 0)?;
        }
    }
    Ok(())
}

/// Copies what is no directory, with all that the upper says of it.
fn copy(
    from: &Directory,
    name: Name<'_>,
    stat: &Stat,
    to: &Directory,
    new: Name<'_>,
) -> Result<(), Errno> {
    match stat.kind() {
        TYPE_REGULAR => {
            let source = from.file(name, Access::ReadQuietly)?;
            let made = to.create(new, 0o600)?;
            source.copy_to(&made, stat.size)?;
            copy_attributes(&source, &made, |name| !stored::is_pending(name))?;
            let since = stored::since(&source)?.unwrap_or_else(|| crate::changes::made(stat));
            stored::set_since(&made, since)?;
        }
        TYPE_SYMLINK => to.make_symlink(new, &from.read_link(name)?)?,
        // Nothing else of the upper is one on the host.
        TYPE_CHARACTER => return to.make_whiteout(new),
        kind => to.make_endpoint(new, kind | stat.mode & 0o7777)?,
    }
    let made = to.stat(new)?.ok_or(Errno::EIO)?;
    if (made.uid, made.gid) != (stat.uid, stat.gid) {
        to.set_owner(new, stat.uid, stat.gid)?;
    }
    if stat.kind() != TYPE_SYMLINK {
        to.set_mode(new, stat.mode & 0o7777)?;
    }
    let at = |time| Some(SetTime::At(time));
    to.set_times(new, at(stat.accessed), at(stat.modified))
}
