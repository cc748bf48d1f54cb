//! The first half of a commit: whole copies, beside their places.

use super::apply::{Parent, StepFailure};
use super::journal::Journal;
use super::plan::{Copy, Plan};
use crate::changes::{Contents, Thing, split, walk_down};
use crate::host::{Access, Attributes, Directory, File};
use crate::stored;
use crate::{FileKind, Side};
use fuse::record::{TYPE_BLOCK, TYPE_CHARACTER, TYPE_FIFO, TYPE_SOCKET};
use fuse::request::SetTime;
use fuse::{Errno, Name};
use std::collections::HashMap;

/// The copies of files with several names, by the space's file: the stage and the path in it.
type Linked = HashMap<(u64, u64), (usize, Vec<u8>)>;

/// Makes every copy of a plan, on disk when this returns, and notes their inodes.
pub(super) fn stage(
    plan: &Plan<'_>,
    parent: &Parent,
    journal: &mut Journal,
) -> Result<(), StepFailure> {
    let stages = parent.open_stages(journal)?;
    let mut linked = Linked::new();
    for copy in &plan.copies {
        let made = make(plan, copy, &stages, &mut linked);
        made.map_err(StepFailure::at(&copy.change.path))?;
    }
    // What may not be written any more is written by now.
    for copy in plan.copies.iter().rev().filter(|copy| copy.after.kind == FileKind::Directory) {
        let dressed = dress_directory(plan, copy, &stages[copy.stage]);
        dressed.map_err(StepFailure::at(&copy.change.path))?;
    }
    for copy in &plan.copies {
        if let Some(put) = copy.put {
            let found = inode(&stages[copy.stage], &copy.path);
            journal.puts[put].inode = found.map_err(StepFailure::at(&copy.change.path))?;
        }
    }
    parent.sync(&stages)
}

fn inode(stage: &Directory, name: &[u8]) -> Result<u64, Errno> {
    Ok(stage.stat(Name::new(name)?)?.ok_or(Errno::ENOENT)?.inode)
}

fn make(
    plan: &Plan<'_>,
    copy: &Copy<'_>,
    stages: &[Directory],
    linked: &mut Linked,
) -> Result<(), Errno> {
    let (name, above) = split(&copy.path)?.ok_or(Errno::EINVAL)?;
    let directory = walk_down(&stages[copy.stage], above)?;
    if let Some(file) = copy.change.linked {
        match linked.get(&file) {
            Some((stage, path)) if *stage == copy.stage => {
                let (other, above) = split(path)?.ok_or(Errno::EINVAL)?;
                return walk_down(&stages[*stage], above)?.link(other, &directory, name);
            }
            Some(_) => {}
            None => drop(linked.insert(file, (copy.stage, copy.path.clone()))),
        }
    }
    let own = plan.compared.own(copy.change)?;
    match copy.after.kind {
        FileKind::Directory => {
            directory.make_directory(name, 0o700)?;
            let made = directory.directory(name, true)?.as_file()?;
            return copy_attributes(&own, &made);
        }
        FileKind::File => {
            let Contents::Bytes(from) = own.contents(&copy.after)? else {
                return Err(Errno::ESTALE);
            };
            let made = directory.create(name, 0o600)?;
            from.copy_to(&made, from.stat()?.size)?;
            keep_host_attributes(plan, copy, &made);
            set_owner(&directory, name, copy)?;
            copy_attributes(&own, &made)?;
        }
        FileKind::Symlink => {
            let Contents::Target(target) = own.contents(&copy.after)? else {
                return Err(Errno::ESTALE);
            };
            directory.make_symlink(name, &target)?;
            set_owner(&directory, name, copy)?;
        }
        kind => {
            make_node(&directory, name, kind, &copy.after)?;
            set_owner(&directory, name, copy)?;
        }
    }
    if copy.after.kind != FileKind::Symlink {
        directory.set_mode(name, copy.after.mode)?;
    }
    let at = |time| Some(SetTime::At(time));
    directory.set_times(name, at(own.stat.accessed), at(own.stat.modified))
}

fn make_node(
    directory: &Directory,
    name: Name<'_>,
    kind: FileKind,
    after: &Side,
) -> Result<(), Errno> {
    match kind {
        FileKind::Fifo => directory.make_endpoint(name, TYPE_FIFO | after.mode & 0o777),
        FileKind::Socket => directory.make_endpoint(name, TYPE_SOCKET | after.mode & 0o777),
        FileKind::Character => directory.make_device(name, TYPE_CHARACTER, after.device),
        FileKind::Block => directory.make_device(name, TYPE_BLOCK, after.device),
        FileKind::File | FileKind::Directory | FileKind::Symlink => Err(Errno::EINVAL),
    }
}

/// Gives it away if it is not this user's own; the mode comes later, as this takes set-id bits.
fn set_owner(directory: &Directory, name: Name<'_>, copy: &Copy<'_>) -> Result<(), Errno> {
    let stat = directory.stat(name)?.ok_or(Errno::ENOENT)?;
    match (stat.uid, stat.gid) == copy.owner {
        true => Ok(()),
        false => directory.set_owner(name, copy.owner.0, copy.owner.1),
    }
}

fn copy_attributes(own: &Thing, made: &File) -> Result<(), Errno> {
    for (name, value) in own.attributes()? {
        made.set_attribute(&name, &value, 0)?;
    }
    Ok(())
}

/// What the host itself keeps of the file that is replaced, such as access control lists.
fn keep_host_attributes(plan: &Plan<'_>, copy: &Copy<'_>, made: &File) {
    if copy.change.stamp.is_none() {
        return;
    }
    let old = plan
        .compared
        .tree
        .below(&copy.change.below)
        .and_then(|old| old.directory.file(old.name()?, Access::Read));
    let Ok(old) = old else { return };
    for name in old.attribute_names().unwrap_or_default() {
        if !stored::is_seen_below(&name)
            && let Ok(Some(value)) = old.attribute(&name)
        {
            // Where the host does not let this user, it sets its own.
            let _ = made.set_attribute(&name, &value, 0);
        }
    }
}

fn dress_directory(plan: &Plan<'_>, copy: &Copy<'_>, stage: &Directory) -> Result<(), Errno> {
    let (name, above) = split(&copy.path)?.ok_or(Errno::EINVAL)?;
    let directory = walk_down(stage, above)?;
    set_owner(&directory, name, copy)?;
    directory.set_mode(name, copy.after.mode)?;
    let own = plan.compared.own(copy.change)?;
    let at = |time| Some(SetTime::At(time));
    directory.set_times(name, at(own.stat.accessed), at(own.stat.modified))
}
