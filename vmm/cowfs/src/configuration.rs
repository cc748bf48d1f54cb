//! What a file space is made of, and why it cannot be opened.

use crate::backing::Backing;
use crate::bindings::{Binding, Bindings};
use crate::host::{Directory, File, Stat};
use crate::index::Index;
use crate::layer::{Crossing, Kind, Layers, Lower, Place, UPPER};
use crate::node::Seen;
use crate::quota::Quota;
use crate::remove_all::remove_all;
use crate::role::{Role, View};
use crate::stored::{Marks, Shown};
use fuse::{Errno, Name};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a space's files are.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directories the space reads, topmost first; none for an empty tree. Never written.
    pub lowers: Vec<LowerLayer>,
    /// The directory the space writes; it must exist and belong to this space alone.
    pub upper: PathBuf,
    /// A directory beside `upper`, on its file system, for what is being made.
    pub work: PathBuf,
    /// For whom the files are served.
    pub view: View,
    /// Paths from the root that do not exist inside, wherever the parent moves what is there.
    pub masks: Vec<PathBuf>,
    /// Files and directories of the parent that are never shown, by their paths on the host; such
    /// is the directory the space itself is mounted on, where the server would wait for itself.
    pub hidden: Vec<PathBuf>,
    /// Directories of the host that nothing shows, wherever they come to be: those of whoever runs
    /// the space.
    pub private: Vec<PathBuf>,
    /// File systems below the root of which something is seen.
    pub crossing: Crossing,
    /// Files of the parent at places inside, in order.
    pub bindings: Vec<Binding>,
    /// Most bytes of upper and work: ENOSPC beyond.
    pub quota: Option<u64>,
    /// Whether the client takes notifications: it may cache what the parent can change.
    pub notify: bool,
    /// Whether the client's kernel may read and write files of the upper itself; they are not
    /// where a quota counts bytes.
    pub backing: Option<Arc<Backing>>,
    /// What a guest can make the server hold.
    pub limits: Limits,
}

impl Config {
    /// A guest's space over `lowers`, with nothing hidden and no bounds but the usual ones.
    pub fn new(lowers: Vec<LowerLayer>, upper: PathBuf, work: PathBuf) -> Config {
        Config {
            lowers,
            upper,
            work,
            view: View::Guest,
            masks: Vec::new(),
            hidden: Vec::new(),
            private: Vec::new(),
            crossing: Crossing::All,
            bindings: Vec::new(),
            quota: None,
            notify: false,
            backing: None,
            limits: Limits::default(),
        }
    }
}

/// A directory that a space reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum LowerLayer {
    /// The parent's tree, which may change at any time.
    Live(PathBuf),
    /// A former upper, which nobody writes any more.
    Sealed {
        /// Its files.
        files: PathBuf,
        /// Its hard links: the directory `index` of the former work, if it had any.
        index: Option<PathBuf>,
        /// It was this space's: what is masked of others is seen of it.
        own: bool,
    },
    /// Single files in the place of what the layers below have; directories are there for their
    /// sake alone. It is not changed while a space is served.
    Given(PathBuf),
}

impl LowerLayer {
    /// The directory.
    pub fn path(&self) -> &Path {
        match self {
            LowerLayer::Live(path)
            | LowerLayer::Sealed { files: path, .. }
            | LowerLayer::Given(path) => path,
        }
    }
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
        /// "lower", "upper", "work", "index" or "bound".
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
    /// Something cannot be bound to its place.
    #[error("cannot bind to {} inside: {source}; name another place, below a directory", path.display())]
    Bind {
        /// The place inside, as configured.
        path: PathBuf,
        /// Why not.
        source: Errno,
    },
    /// What would be bound shows the kernel's own state.
    #[error(
        "cannot bind {}: it shows the kernel's own state, which no space may see; bind something else",
        path.display()
    )]
    OfTheKernel {
        /// What was to be bound, as configured.
        path: PathBuf,
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
    /// A commit was interrupted, and still is.
    #[error(
        "a commit was interrupted at {} and can be neither finished nor undone: {source}; remedy that and try again",
        path.display()
    )]
    Interrupted {
        /// Where it is stuck.
        path: PathBuf,
        /// What the host said.
        source: std::io::Error,
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
    pub(crate) upper: Directory,
    pub(crate) work: Directory,
    pub(crate) upper_device: u64,
    pub(crate) root_seen: Seen,
    pub(crate) layers: Layers,
    pub(crate) role: Role,
    pub(crate) indexes: Vec<Option<Index>>,
    pub(crate) bindings: Bindings,
    pub(crate) quota: Option<Arc<Quota>>,
}

/// The directories of a [`Config`], open to be read.
#[derive(Debug)]
pub(crate) struct OpenedToRead {
    pub(crate) upper: Directory,
    pub(crate) layers: Layers,
    pub(crate) indexes: Vec<Option<Index>>,
    /// Why there are no lowers.
    pub(crate) parent: Option<OpenFailure>,
}

/// The name, in work, of the directory that holds the hard links.
const INDEX: &[u8] = b"index";

impl Config {
    /// The parent's directory, if there is nothing of another space between.
    pub(crate) fn parent(&self) -> Option<&PathBuf> {
        let mut lowers = self.lowers.iter().filter(|lower| !matches!(lower, LowerLayer::Given(_)));
        match (lowers.next(), lowers.next()) {
            (Some(LowerLayer::Live(root)), None) => Some(root),
            _ => None,
        }
    }

    /// Opens all of it for a server; `kept` is what of work is not left over.
    pub(crate) fn open(&self, kept: &HashSet<Arc<[u8]>>) -> Result<Opened, OpenFailure> {
        let upper = root("upper", &self.upper)?;
        let failed =
            |source| OpenFailure::Directory { role: "upper", path: self.upper.clone(), source };
        if !upper.lock().map_err(failed)? {
            return Err(OpenFailure::InUse { path: self.upper.clone() });
        }
        let work = root("work", &self.work)?;
        let lowers: Result<Vec<_>, _> =
            self.lowers.iter().map(|lower| root("lower", lower.path())).collect();
        let lowers = lowers?;
        let hidden = self.check_apart(&upper, &work, &lowers)?;
        let unclean = |source| OpenFailure::Unclean { path: self.work.clone(), source };
        clean(&work, kept).map_err(unclean)?;
        crate::commit::recover(self, &upper, &work)
            .map_err(|(path, source)| OpenFailure::Interrupted { path, source })?;
        let marks = self.check_fit(&work)?;
        let layers = self.layers(lowers, hidden, marks)?;
        let indexes = self.indexes(&work)?;
        let stat = upper.stat_self().map_err(|errno| failed(io_error(errno)))?;
        let role = Role::new(self.view);
        let kept = Shown::read(&upper, stat.kind()).ok().flatten();
        // The upper's own root was made for nobody but the server.
        let shown = match (kept, layers.root_source()) {
            (Some(kept), _) | (None, Some((_, Some(kept)))) => Some(role.as_seen(kept)),
            (None, Some((lower, None))) => {
                lower.directory.stat_self().ok().map(|stat| role.natural(&stat))
            }
            (None, None) => None,
        };
        let root_seen = Seen {
            place: Place::new(UPPER, &stat),
            kind: stat.kind(),
            inode: stat.inode,
            shown,
            indexed: None,
        };
        let quota = self.quota.map(|limit| Quota::new(limit, &[&upper, &work]).map(Arc::new));
        Ok(Opened {
            upper_device: stat.device,
            root_seen,
            layers,
            role,
            indexes,
            bindings: Bindings::open(&self.bindings)?,
            quota: quota.transpose().map_err(|errno| failed(io_error(errno)))?,
            upper,
            work,
        })
    }

    /// Opens what is there to be read, and nothing of it is changed.
    pub(crate) fn open_to_read(&self) -> Result<OpenedToRead, OpenFailure> {
        let upper = root("upper", &self.upper)?;
        let lowers: Result<Vec<_>, _> =
            self.lowers.iter().map(|lower| root("lower", lower.path())).collect();
        let (lowers, parent) = match lowers {
            Ok(lowers) => (lowers, None),
            Err(failure) => (Vec::new(), Some(failure)),
        };
        let own = [Some(stat(&upper, &self.upper)?), work_stat(&self.work)];
        let hidden = own.into_iter().flatten().map(|stat| (stat.device, stat.inode)).collect();
        // Both marks are looked for; who may not see one has not made it either.
        let layers = self.layers(lowers, hidden, Marks::Trusted)?;
        // What cannot be read of the index is missed where a name needs it.
        let indexes = self.index_paths().map(|path| path.and_then(|path| Index::open(&path).ok()));
        Ok(OpenedToRead { upper, layers, indexes: indexes.collect(), parent })
    }

    fn layers(
        &self,
        lowers: Vec<Directory>,
        mut hidden: Vec<(u64, u64)>,
        marks: Marks,
    ) -> Result<Layers, OpenFailure> {
        let mut roots = Vec::new();
        let mut kinds = Vec::new();
        for (number, (directory, lower)) in lowers.into_iter().zip(&self.lowers).enumerate() {
            let stat = stat(&directory, lower.path())?;
            let place = Place::new(UPPER + 1 + number, &stat);
            roots.push(Lower::root(place, directory));
            kinds.push(match lower {
                LowerLayer::Live(_) => Kind::Live,
                LowerLayer::Sealed { own: true, .. } => Kind::Own,
                LowerLayer::Sealed { .. } => Kind::Sealed,
                LowerLayer::Given(_) => Kind::Given,
            });
        }
        let mut masks: HashMap<Vec<u8>, Vec<Box<[u8]>>> = HashMap::new();
        let mut held = Vec::new();
        for mask in &self.masks {
            let path = mask.strip_prefix("/").unwrap_or(mask);
            let Some(name) = path.file_name() else { continue };
            let above = path.parent().unwrap_or(Path::new(""));
            let names = masks.entry(above.as_os_str().as_bytes().to_vec()).or_default();
            names.push(name.as_bytes().into());
            for lower in self.lowers.iter().filter(|lower| matches!(lower, LowerLayer::Live(_))) {
                if let Some((file, stat)) = File::hold_path(&lower.path().join(path)) {
                    hidden.push((stat.device, stat.inode));
                    held.push(file);
                }
            }
        }
        for path in &self.private {
            if let Some((file, stat)) = File::hold_path(path) {
                hidden.push((stat.device, stat.inode));
                held.push(file);
            }
        }
        let unseen = self.hidden.iter().filter_map(|path| {
            let parent = Directory::root(path.parent()?).ok()?.stat_self().ok()?;
            Some((parent.device, parent.inode, path.file_name()?.as_bytes().into()))
        });
        let (unseen, crossing) = (unseen.collect(), self.crossing.clone());
        let masks = masks.into_iter().map(|(above, names)| (above, Arc::from(names))).collect();
        let mut layers =
            Layers { roots, kinds, marks, hidden, _held: held, unseen, masks, crossing };
        layers.mask_roots();
        Ok(layers)
    }

    fn indexes(&self, work: &Directory) -> Result<Vec<Option<Index>>, OpenFailure> {
        let name = Name::new(INDEX).expect("a name");
        let made = match work.make_directory(name, 0o700) {
            Err(Errno::EEXIST) => Ok(()),
            made => made,
        };
        made.map_err(|source| OpenFailure::Unclean { path: self.work.clone(), source })?;
        self.index_paths()
            .map(|path| {
                let Some(path) = path else { return Ok(None) };
                Index::open(&path).map(Some).map_err(|source| OpenFailure::Directory {
                    role: "index",
                    path,
                    source,
                })
            })
            .collect()
    }

    /// Where the indexes of all layers are, by layer.
    fn index_paths(&self) -> impl Iterator<Item = Option<PathBuf>> {
        let paths = self.lowers.iter().map(|lower| match lower {
            LowerLayer::Sealed { index, .. } => index.clone(),
            LowerLayer::Live(_) | LowerLayer::Given(_) => None,
        });
        std::iter::once(Some(self.work.join("index"))).chain(paths)
    }

    /// The directories that are the space's own, which no layer shows.
    fn check_apart(
        &self,
        upper: &Directory,
        work: &Directory,
        lowers: &[Directory],
    ) -> Result<Vec<(u64, u64)>, OpenFailure> {
        let paths = [&*self.upper, &*self.work];
        let paths = paths.into_iter().chain(self.lowers.iter().map(LowerLayer::path));
        let mut seen = Vec::new();
        for (path, directory) in paths.zip([upper, work].into_iter().chain(lowers)) {
            let stat = stat(directory, path)?;
            if seen.contains(&(stat.device, stat.inode)) {
                return Err(OpenFailure::Twice { path: path.to_owned() });
            }
            seen.push((stat.device, stat.inode));
        }
        if seen[0].0 != seen[1].0 {
            let (work, upper) = (self.work.clone(), self.upper.clone());
            return Err(OpenFailure::Apart { work, upper });
        }
        seen.truncate(2);
        Ok(seen)
    }

    /// Finds out before the first write whether whiteouts and attributes can be kept.
    fn check_fit(&self, work: &Directory) -> Result<Marks, OpenFailure> {
        let unfit = |what| {
            let path = self.work.clone();
            move |source| OpenFailure::Unfit { path, what, source }
        };
        let probe = staged_name(0);
        let name = Name::new(&probe).expect("a staged name is a name");
        work.make_whiteout(name).map_err(unfit("whiteouts"))?;
        work.remove(name).map_err(unfit("whiteouts"))?;
        Marks::User.set_opaque(work).map_err(unfit("user.* attributes"))?;
        Ok(Marks::probe(work))
    }
}

pub(crate) fn io_error(errno: Errno) -> std::io::Error {
    std::io::Error::from_raw_os_error(errno.number())
}

fn stat(directory: &Directory, path: &Path) -> Result<Stat, OpenFailure> {
    directory.stat_self().map_err(|errno| OpenFailure::Directory {
        role: "layer's",
        path: path.to_owned(),
        source: io_error(errno),
    })
}

fn work_stat(path: &Path) -> Option<Stat> {
    Directory::root(path).ok()?.stat_self().ok()
}

pub(crate) fn root(role: &'static str, path: &Path) -> Result<Directory, OpenFailure> {
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

/// Removes what was being made when a server was killed, but for `kept`: nothing of it was visible.
pub(crate) fn clean(work: &Directory, kept: &HashSet<Arc<[u8]>>) -> Result<(), Errno> {
    let mut names = Vec::new();
    work.list(|name, _, _| names.push(name.as_bytes().to_vec()))?;
    let left = |name: &&Vec<u8>| name.starts_with(b"#") && !kept.contains(name.as_slice());
    for name in names.iter().filter(left) {
        remove_all(work, Name::new(name)?)?;
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
