//! The second half of a commit: renames, each of which can be told from its not being done, and
//! undone.

use super::journal::{Desk, Dress, Journal, Phase, Put, Redress, Take};
use super::plan::slot_name;
use crate::changes::{Stamp, path_of, split};
use crate::host::{Directory, Rename};
use crate::remove_all::remove_all;
use fuse::{Errno, Name};
use std::path::{Path, PathBuf};

/// The parent's directory.
#[derive(Debug)]
pub(super) struct Parent {
    root: Directory,
}

/// Why a step was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StepFailure {
    Host { path: PathBuf, why: Errno },
    Meanwhile { path: PathBuf },
}

impl StepFailure {
    /// What the host says of a path.
    pub(super) fn of(path: &[u8]) -> impl Fn(Errno) -> StepFailure + use<> {
        StepFailure::at(&path_of(path))
    }

    pub(super) fn at(path: &Path) -> impl Fn(Errno) -> StepFailure + use<> {
        let path = path.to_owned();
        move |why| StepFailure::Host { path: path.clone(), why }
    }
}

impl Parent {
    pub(super) fn open(root: &[u8]) -> std::io::Result<Parent> {
        Ok(Parent { root: Directory::root(&path_of(root))? })
    }

    /// A directory of the parent, to find and change names in it.
    pub(super) fn directory(&self, path: &[u8]) -> Result<Directory, Errno> {
        let mut directory = self.root.try_clone()?;
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            directory = directory.directory(Name::new(part)?, false)?;
        }
        Ok(directory)
    }

    fn place<'p>(&self, path: &'p [u8]) -> Result<(Directory, Name<'p>), Errno> {
        let (name, above) = split(path)?.ok_or(Errno::EBUSY)?;
        Ok((self.directory(above)?, name))
    }

    pub(super) fn make_stages(&self, journal: &Journal) -> Result<(), StepFailure> {
        for stage in &journal.stages {
            let made = self
                .directory(&stage.path)
                .and_then(|directory| directory.make_directory(Name::new(&journal.name)?, 0o700));
            made.map_err(StepFailure::of(&stage.path))?;
        }
        Ok(())
    }

    pub(super) fn open_stages(&self, journal: &Journal) -> Result<Vec<Directory>, StepFailure> {
        let open = |path: &[u8]| self.directory(path)?.directory(Name::new(&journal.name)?, true);
        let each = journal
            .stages
            .iter()
            .map(|stage| open(&stage.path).map_err(StepFailure::of(&stage.path)));
        each.collect()
    }

    /// Removes the stages with all that is in them.
    pub(super) fn remove_stages(&self, journal: &Journal) -> Result<(), Errno> {
        let name = Name::new(&journal.name)?;
        for stage in &journal.stages {
            let directory = match self.directory(&stage.path) {
                Err(Errno::ENOENT) => continue,
                directory => directory?,
            };
            let inner = match directory.directory(name, true) {
                Err(Errno::ENOENT) => continue,
                inner => inner?,
            };
            let mut names = Vec::new();
            inner.list(|name, _, _| names.push(name.as_bytes().to_vec()))?;
            for name in &names {
                remove_all(&inner, Name::new(name)?)?;
            }
            directory.remove_directory(name)?;
        }
        Ok(())
    }

    /// Puts all that was done so far on disk.
    pub(super) fn sync(&self, stages: &[Directory]) -> Result<(), StepFailure> {
        // Whatever a step renames is on the file system of a stage.
        stages.iter().try_for_each(Directory::sync_file_system).map_err(StepFailure::of(b""))
    }

    /// Does what is left to do, up to [`Phase::Clean`].
    pub(super) fn forward(&self, journal: &mut Journal, desk: &Desk) -> Result<(), StepFailure> {
        let stages = self.open_stages(journal)?;
        if journal.phase == Phase::Take {
            for take in &journal.takes {
                self.take(take, &stages[take.stage])?;
            }
            self.enter(Phase::Put, journal, desk, &stages)?;
        }
        for put in &journal.puts {
            self.put(put, &stages[put.stage])?;
        }
        for Redress { path, old, new } in &journal.redress {
            self.redress(path, *old, *new).map_err(StepFailure::of(path))?;
        }
        self.enter(Phase::Clean, journal, desk, &stages)
    }

    /// Undoes what was done, so that the parent has what it had.
    pub(super) fn back(&self, journal: &mut Journal, desk: &Desk) -> Result<(), StepFailure> {
        let stages = self.open_stages(journal)?;
        if matches!(journal.phase, Phase::Put | Phase::Clean) {
            for Redress { path, old, new } in journal.redress.iter().rev() {
                self.redress(path, *new, *old).map_err(StepFailure::of(path))?;
            }
            for put in journal.puts.iter().rev() {
                self.put_back(put, &stages[put.stage]).map_err(StepFailure::of(&put.path))?;
            }
            // A full disk does not keep what was taken from going back.
            match self.enter(Phase::Take, journal, desk, &stages) {
                Ok(()) => {}
                Err(StepFailure::Host { why: Errno::ENOSPC | Errno::EDQUOT, .. }) => {}
                Err(failure) => return Err(failure),
            }
        }
        for take in journal.takes.iter().rev() {
            let stage = &stages[take.stage];
            self.give_back(take, stage).map_err(StepFailure::of(&take.path))?;
        }
        self.sync(&stages)
    }

    fn enter(
        &self,
        phase: Phase,
        journal: &mut Journal,
        desk: &Desk,
        stages: &[Directory],
    ) -> Result<(), StepFailure> {
        self.sync(stages)?;
        let was = std::mem::replace(&mut journal.phase, phase);
        let written = journal.write(desk).map_err(StepFailure::of(b""));
        if written.is_err() {
            journal.phase = was;
        }
        written
    }

    fn take(&self, take: &Take, stage: &Directory) -> Result<(), StepFailure> {
        let slot = slot_name(take.slot);
        let failed = StepFailure::of(&take.path);
        let slot = Name::new(&slot).map_err(&failed)?;
        if stage.stat(slot).map_err(&failed)?.is_some() {
            return Ok(());
        }
        let (directory, name) = self.place(&take.path).map_err(&failed)?;
        check(&directory, name, take.stamp, &take.path)?;
        directory.rename(name, stage, slot, Rename::New).map_err(failed)
    }

    fn give_back(&self, take: &Take, stage: &Directory) -> Result<(), Errno> {
        let slot = slot_name(take.slot);
        let slot = Name::new(&slot)?;
        if stage.stat(slot)?.is_none() {
            return Ok(());
        }
        let (directory, name) = self.place(&take.path)?;
        stage.rename(slot, &directory, name, Rename::New)
    }

    fn put(&self, put: &Put, stage: &Directory) -> Result<(), StepFailure> {
        let slot = slot_name(put.slot);
        let failed = StepFailure::of(&put.path);
        let slot = Name::new(&slot).map_err(&failed)?;
        let staged = stage.stat(slot).map_err(&failed)?;
        let is_done = match put.replaced {
            None => staged.is_none(),
            Some(_) => staged.is_none_or(|stat| stat.inode != put.inode),
        };
        if is_done {
            return Ok(());
        }
        let (directory, name) = self.place(&put.path).map_err(&failed)?;
        let how = match put.replaced {
            None => Rename::New,
            Some(_) => {
                check(&directory, name, put.replaced, &put.path)?;
                Rename::Exchange
            }
        };
        match stage.rename(slot, &directory, name, how) {
            Err(Errno::EEXIST) => Err(StepFailure::Meanwhile { path: path_of(&put.path) }),
            put => put.map_err(failed),
        }
    }

    fn put_back(&self, put: &Put, stage: &Directory) -> Result<(), Errno> {
        let slot = slot_name(put.slot);
        let slot = Name::new(&slot)?;
        let staged = stage.stat(slot)?;
        let is_back = match put.replaced {
            None => staged.is_some(),
            Some(_) => staged.is_some_and(|stat| stat.inode == put.inode),
        };
        if is_back {
            return Ok(());
        }
        let (directory, name) = self.place(&put.path)?;
        match put.replaced {
            None => match directory.rename(name, stage, slot, Rename::New) {
                // The parent has removed it: there is nothing to take back.
                Err(Errno::ENOENT) => Ok(()),
                moved => moved,
            },
            // What the parent has put there since stays.
            Some(_) if directory.stat(name)?.is_none_or(|stat| stat.inode != put.inode) => Ok(()),
            Some(_) => stage.rename(slot, &directory, name, Rename::Exchange),
        }
    }

    /// Lets a directory be shown otherwise, unless it is so already, or is not what it was.
    fn redress(&self, path: &[u8], old: Dress, new: Dress) -> Result<(), Errno> {
        let directory = match self.directory(path) {
            Err(Errno::ENOENT) => return Ok(()),
            directory => directory?.reopen()?,
        };
        let stat = directory.stat()?;
        let (mode, uid, gid) = new;
        if (stat.uid, stat.gid) == (old.1, old.2) && (stat.uid, stat.gid) != (uid, gid) {
            directory.set_owner(uid, gid)?;
        }
        if directory.stat()?.mode & 0o7777 != mode {
            directory.set_mode(mode)?;
        }
        directory.sync(false)
    }
}

/// Whether the parent's file is still the one that was compared.
fn check(
    directory: &Directory,
    name: Name<'_>,
    stamp: Option<Stamp>,
    path: &[u8],
) -> Result<(), StepFailure> {
    let stat = directory.stat(name).map_err(StepFailure::of(path))?;
    match (stat, stamp) {
        (Some(stat), Some(stamp)) if Stamp::of(&stat) == stamp => Ok(()),
        (Some(_), None) => Ok(()),
        _ => Err(StepFailure::Meanwhile { path: path_of(path) }),
    }
}
