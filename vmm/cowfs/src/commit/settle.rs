//! What becomes of the upper: what was committed is the parent's, what was not counts as made
//! after it.

use super::apply::Parent;
use super::journal::{Journal, Refresh, Settle};
use crate::changes::{Stamp, split};
use crate::host::{Directory, Rename, Stat};
use crate::lookup::inode;
use crate::own::OwnLayer;
use crate::stored::{self, Origin};
use fuse::record::{TYPE_DIRECTORY, TYPE_REGULAR, TYPE_SYMLINK};
use fuse::request::SetTime;
use fuse::{Errno, Name};

impl OwnLayer {
    /// Takes what was committed out of the upper; what is not there any more is fine.
    pub(super) fn settle(&mut self, each: &[Settle]) -> Result<(), Errno> {
        for settle in each {
            match settle {
                Settle::Remove(path) => {
                    self.with(path, |own, directory, name| own.remove(&directory, name))?
                }
                Settle::Unmark(path) => {
                    if let Some(directory) = self.directory(path)? {
                        stored::unmark(&directory)?;
                    }
                }
                Settle::RemoveIfEmpty(path) => {
                    self.with(path, |_, directory, name| match directory.remove_directory(name) {
                        Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::ENOTDIR) => Ok(()),
                        removed => removed,
                    })?
                }
                Settle::Unindex(key) => self.unindex(key)?,
            }
        }
        self.upper.sync_file_system()
    }

    fn with(
        &mut self,
        path: &[u8],
        act: impl FnOnce(&mut OwnLayer, Directory, Name<'_>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let Some((name, above)) = split(path)? else { return Ok(()) };
        match self.directory(above)? {
            Some(directory) => act(self, directory, name),
            None => Ok(()),
        }
    }

    /// Renaming leaves its time in the parent's files: notes that it was ours. What cannot be
    /// noted is a conflict later, and nothing worse.
    pub(super) fn refresh(&mut self, parent: &Parent, journal: &Journal) {
        for refresh in &journal.refresh {
            let _ = self.refresh_one(parent, refresh);
        }
    }

    fn refresh_one(&mut self, parent: &Parent, refresh: &Refresh) -> Result<(), Errno> {
        let Some((below, above)) = split(&refresh.below)? else { return Ok(()) };
        let Some(lower) = parent.directory(above)?.stat(below)? else { return Ok(()) };
        if Stamp::of(&lower) != refresh.stamp {
            return Ok(());
        }
        self.with(&refresh.own, |own, directory, name| {
            let Some(stat) = directory.stat(name)? else { return Ok(()) };
            if matches!(stat.kind(), TYPE_REGULAR | TYPE_DIRECTORY) {
                let inode = inode(own.upper.stat_self()?.device, lower.device, lower.inode);
                let file = directory.any(name)?;
                if Origin::read(&file)?.is_some_and(|origin| origin.inode == inode) {
                    Origin::of(&lower, inode).keep(&file)?;
                }
                return stored::set_since(&file, lower.changed);
            }
            own.make_again(&directory, name, &stat)
        })
    }

    /// Whatever the parent did so far, what is at a path counts as made after it.
    pub(super) fn made_now(&mut self, path: &[u8]) -> Result<(), Errno> {
        self.with(path, |own, directory, name| {
            let Some(stat) = directory.stat(name)? else { return Ok(()) };
            if !matches!(stat.kind(), TYPE_REGULAR | TYPE_DIRECTORY) {
                return own.make_again(&directory, name, &stat);
            }
            let file = directory.any(name)?;
            // Writing it down is the last that is done to it.
            stored::set_since(&file, stat.changed)?;
            stored::set_since(&file, file.stat()?.changed)
        })
    }

    /// What has no attributes has a time at which it was made.
    fn make_again(
        &mut self,
        directory: &Directory,
        name: Name<'_>,
        stat: &Stat,
    ) -> Result<(), Errno> {
        let staged = self.staged_name();
        let staged = Name::new(&staged)?;
        if stat.is_whiteout() {
            self.work.make_whiteout(staged)?;
        } else if stat.kind() == TYPE_SYMLINK {
            self.work.make_symlink(staged, &directory.read_link(name)?)?;
            let at = |time| Some(SetTime::At(time));
            self.work.set_owner(staged, stat.uid, stat.gid)?;
            self.work.set_times(staged, at(stat.accessed), at(stat.modified))?;
        } else {
            return Ok(());
        }
        self.work.rename(staged, directory, name, Rename::Replace)
    }
}
