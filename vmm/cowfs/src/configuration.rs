//! What a file space is made of, and why it cannot be opened.

use crate::host::Directory;
use fuse::{Errno, Name};
use std::path::{Path, PathBuf};

/// Where a space's files are.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directories the space reads, topmost first; none for an empty tree. Never written.
    pub lowers: Vec<PathBuf>,
    /// The directory the space writes; it must exist and belong to this space alone.
    pub upper: PathBuf,
    /// A directory beside `upper`, on its file system, for what is being made.
    pub work: PathBuf,
    /// What a guest can make the server hold.
    pub limits: Limits,
    /// Whose the files are shown to be.
    pub owners: Owners,
    /// Files and directories of the parent that are never shown, by their paths on the host; such
    /// is the directory the space itself is mounted on, where the server would wait for itself.
    pub hidden: Vec<PathBuf>,
}

/// Whose the files are shown to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// The server's user is the administrator inside, and what is made is the administrator's.
    Administrator,
    /// As the host has them; what is made belongs to who makes it.
    Host,
}

/// What a guest can make the server hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open files and directories of the guest, a descriptor each: ENFILE beyond.
    pub handles: usize,
    /// Files the guest knows, about 200 bytes each: ENFILE beyond.
    pub nodes: usize,
    /// Directories kept open to find names faster, a descriptor for each layer.
    pub directories: usize,
    /// Bytes of one directory's listing: ENOMEM beyond.
    pub listing: usize,
    /// Bytes of one write, a multiple of 4096.
    pub write: u32,
}

impl Default for Limits {
    /// Fits a process that may have 1024 descriptors.
    fn default() -> Limits {
        Limits { handles: 512, nodes: 1 << 20, directories: 128, listing: 64 << 20, write: 1 << 20 }
    }
}

/// Why a file space cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailure {
    /// A layer's directory is missing, no directory, or not to be read.
    #[error(
        "cannot open the {role} directory {}: {source}; name an existing directory that this user may read",
        path.display()
    )]
    Directory {
        /// "lower", "upper" or "work".
        role: &'static str,
        /// As configured.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
    },
    /// Another process serves this upper.
    #[error(
        "the upper directory {} is in use by another space; stop that space or name another upper",
        path.display()
    )]
    InUse {
        /// The upper, as configured.
        path: PathBuf,
    },
    /// Renaming from work to upper would not be possible.
    #[error(
        "the work directory {} is not on the file system of the upper directory {}; put it beside the upper",
        work.display(),
        upper.display()
    )]
    Apart {
        /// The work directory, as configured.
        work: PathBuf,
        /// The upper directory, as configured.
        upper: PathBuf,
    },
    /// Two of the directories are the same one.
    #[error("{} is named twice; upper, work and each lower must be directories of their own", path.display())]
    Twice {
        /// The directory, as configured.
        path: PathBuf,
    },
    /// The upper's file system cannot hold what the space has to write there.
    #[error(
        "the file system of {} cannot hold {what} ({source}); put the upper on ext4, xfs, btrfs or a recent tmpfs",
        path.display()
    )]
    Unfit {
        /// The work directory, as configured.
        path: PathBuf,
        /// What it cannot hold.
        what: &'static str,
        /// What the host said.
        source: Errno,
    },
    /// What a killed server left in work cannot be removed.
    #[error("cannot clean the work directory {}: {source}; remove what is in it", path.display())]
    Unclean {
        /// The work directory, as configured.
        path: PathBuf,
        /// What the host said.
        source: Errno,
    },
}

/// The directories of a [`Config`], open, locked and fit.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) lowers: Vec<Directory>,
    pub(crate) upper: Directory,
    pub(crate) work: Directory,
}

impl Config {
    pub(crate) fn open(&self) -> Result<Opened, OpenFailure> {
        let upper = root("upper", &self.upper)?;
        let failed =
            |source| OpenFailure::Directory { role: "upper", path: self.upper.clone(), source };
        if !upper.lock().map_err(failed)? {
            return Err(OpenFailure::InUse { path: self.upper.clone() });
        }
        let work = root("work", &self.work)?;
        let lowers: Result<Vec<_>, _> =
            self.lowers.iter().map(|path| root("lower", path)).collect();
        let opened = Opened { lowers: lowers?, upper, work };
        self.check_apart(&opened)?;
        clean(&opened.work)
            .map_err(|source| OpenFailure::Unclean { path: self.work.clone(), source })?;
        self.check_fit(&opened.work)?;
        Ok(opened)
    }

    fn check_apart(&self, opened: &Opened) -> Result<(), OpenFailure> {
        let paths = [&self.upper, &self.work].into_iter().chain(&self.lowers);
        let directories = [&opened.upper, &opened.work].into_iter().chain(&opened.lowers);
        let mut seen = Vec::new();
        for (path, directory) in paths.zip(directories) {
            let stat = directory.stat_self().map_err(|errno| OpenFailure::Directory {
                role: "layer's",
                path: path.clone(),
                source: std::io::Error::from_raw_os_error(errno.number()),
            })?;
            if seen.contains(&(stat.device, stat.inode)) {
                return Err(OpenFailure::Twice { path: path.clone() });
            }
            seen.push((stat.device, stat.inode));
        }
        if seen[0].0 != seen[1].0 {
            let (work, upper) = (self.work.clone(), self.upper.clone());
            return Err(OpenFailure::Apart { work, upper });
        }
        Ok(())
    }

    /// Finds out before the first write whether whiteouts and attributes can be kept.
    fn check_fit(&self, work: &Directory) -> Result<(), OpenFailure> {
        let unfit = |what| {
            let path = self.work.clone();
            move |source| OpenFailure::Unfit { path, what, source }
        };
        let probe = staged_name(0);
        let name = Name::new(&probe).expect("a staged name is a name");
        work.make_whiteout(name).map_err(unfit("whiteouts"))?;
        work.remove(name).map_err(unfit("whiteouts"))?;
        work.set_opaque().map_err(unfit("user.* attributes"))
    }
}

fn root(role: &'static str, path: &Path) -> Result<Directory, OpenFailure> {
    Directory::root(path).map_err(|source| OpenFailure::Directory {
        role,
        path: path.to_owned(),
        source,
    })
}

/// The name of the `number`th file being made in work.
pub(crate) fn staged_name(number: u64) -> Vec<u8> {
    format!("#{number}").into_bytes()
}

/// Removes what was being made when a server was killed: nothing of it was visible.
fn clean(work: &Directory) -> Result<(), Errno> {
    let mut names = Vec::new();
    work.list(|name, _, _| names.push(name.as_bytes().to_vec()))?;
    for name in names.iter().filter(|name| name.starts_with(b"#")) {
        discard(work, Name::new(name)?)?;
    }
    Ok(())
}

/// Removes a file of work, or a directory that holds nothing but whiteouts.
pub(crate) fn discard(work: &Directory, name: Name<'_>) -> Result<(), Errno> {
    match work.stat(name)? {
        None => Ok(()),
        Some(stat) if stat.is_directory() => {
            clear_whiteouts(&work.directory(name, true)?)?;
            work.remove_directory(name)
        }
        Some(_) => work.remove(name),
    }
}

/// Removes every whiteout in `directory`, and nothing else.
pub(crate) fn clear_whiteouts(directory: &Directory) -> Result<(), Errno> {
    let mut names = Vec::new();
    directory.list(|name, _, _| names.push(name.as_bytes().to_vec()))?;
    for name in &names {
        let name = Name::new(name)?;
        if directory.stat(name)?.is_some_and(|stat| stat.is_whiteout()) {
            directory.remove(name)?;
        }
    }
    Ok(())
}
