//! One directory seen through its layers: what a name is, and where.

use crate::host::{Directory, Stat};
use fuse::{Errno, Name};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The upper layer; 1 is the topmost lower.
pub(crate) const UPPER: usize = 0;

/// A file of the host: the layer it was found in and its identity there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) layer: usize,
    device: u64,
    inode: u64,
}

impl Place {
    pub(crate) fn new(layer: usize, stat: &Stat) -> Place {
        Place { layer, device: stat.device, inode: stat.inode }
    }
}

/// What a name is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) stat: Stat,
}

/// What there is under a name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sight {
    /// Nothing; `whiteout` if the upper says so.
    Absent { whiteout: bool },
    /// A file, in the topmost layer that has the name.
    Found(Found),
}

impl Sight {
    pub(crate) fn found(self) -> Result<Found, Errno> {
        match self {
            Sight::Found(found) => Ok(found),
            Sight::Absent { .. } => Err(Errno::ENOENT),
        }
    }
}

/// A directory of a lower layer.
#[derive(Debug)]
pub(crate) struct Lower {
    pub(crate) place: Place,
    pub(crate) directory: Directory,
}

/// A directory through its layers, each one open.
#[derive(Debug)]
pub(crate) struct Merged {
    /// `None` until something in the directory is written.
    pub(crate) upper: Option<Directory>,
    /// Topmost first; none below an opaque directory.
    pub(crate) lowers: Vec<Lower>,
    /// The upper hides all lowers whatever they come to hold.
    opaque: bool,
}

impl Merged {
    /// The root, which is never opaque.
    pub(crate) fn root(upper: Directory, lowers: Vec<Lower>) -> Merged {
        Merged { upper: Some(upper), lowers, opaque: false }
    }

    /// The upper directory, after copy-up.
    pub(crate) fn upper(&self) -> &Directory {
        self.upper.as_ref().expect("the directory was copied up before it is written")
    }

    /// The directory of one layer.
    pub(crate) fn layer(&self, layer: usize) -> Option<&Directory> {
        match layer {
            UPPER => self.upper.as_ref(),
            _ => self.lowers.iter().find(|low| low.place.layer == layer).map(|low| &low.directory),
        }
    }
}

/// What of the host no layer shows.
#[derive(Clone, Debug)]
pub(crate) struct Hidden {
    /// The space's own upper and work.
    own: [(u64, u64); 2],
    /// Names in directories of the parent. They are not even looked at: that may take a server
    /// which waits for this one.
    names: Vec<(u64, u64, Box<[u8]>)>,
}

impl Hidden {
    pub(crate) fn new(own: [&Stat; 2], paths: &[PathBuf]) -> Hidden {
        let names = paths.iter().filter_map(|path| {
            let parent = Directory::root(path.parent()?).ok()?.stat_self().ok()?;
            Some((parent.device, parent.inode, path.file_name()?.as_bytes().into()))
        });
        let own = own.map(|stat| (stat.device, stat.inode));
        Hidden { own, names: names.collect() }
    }

    /// Whether `device` and `inode` are the space's own.
    pub(crate) fn is_own(&self, device: u64, inode: u64) -> bool {
        self.own.contains(&(device, inode))
    }

    /// Whether `name` is one that is not looked at in the directory with this `device` and `inode`.
    pub(crate) fn covers(&self, (device, inode): (u64, u64), name: Name<'_>) -> bool {
        let is_it = |hidden: &(u64, u64, Box<[u8]>)| {
            (hidden.0, hidden.1, &*hidden.2) == (device, inode, name.as_bytes())
        };
        self.names.iter().any(is_it)
    }

    /// What `name` is in a directory of the parent, unless nothing of it is ever shown.
    fn look(&self, lower: &Lower, name: Name<'_>) -> Result<Option<Stat>, Errno> {
        if self.covers((lower.place.device, lower.place.inode), name) {
            return Ok(None);
        }
        lower.directory.stat(name)
    }

    fn has(&self, stat: &Stat) -> bool {
        self.is_own(stat.device, stat.inode)
    }

    /// What `name` is in `merged`: the upper's word first, then the lowers', topmost first.
    pub(crate) fn find(&self, merged: &Merged, name: Name<'_>) -> Result<Sight, Errno> {
        if let Some(upper) = &merged.upper
            && let Some(stat) = upper.stat(name)?
        {
            return Ok(match stat.is_whiteout() {
                true => Sight::Absent { whiteout: true },
                false => Sight::Found(Found { place: Place::new(UPPER, &stat), stat }),
            });
        }
        let lower = self.find_lower(merged, name)?;
        Ok(lower.map_or(Sight::Absent { whiteout: false }, Sight::Found))
    }

    /// What `name` would be in `merged` without the upper.
    pub(crate) fn find_lower(
        &self,
        merged: &Merged,
        name: Name<'_>,
    ) -> Result<Option<Found>, Errno> {
        for lower in &merged.lowers {
            if let Some(stat) = self.look(lower, name)? {
                let place = Place::new(lower.place.layer, &stat);
                let gone = stat.is_whiteout() || self.has(&stat);
                return Ok((!gone).then_some(Found { place, stat }));
            }
        }
        Ok(None)
    }

    /// Opens the directory `name`, which was found at `place`, in every layer that is part of it.
    pub(crate) fn open(
        &self,
        parent: &Merged,
        name: Name<'_>,
        place: Place,
    ) -> Result<Merged, Errno> {
        let mut merged = Merged { upper: None, lowers: Vec::new(), opaque: false };
        if place.layer == UPPER {
            let upper = parent.upper.as_ref().ok_or(Errno::ESTALE)?.directory(name, true)?;
            if Place::new(UPPER, &upper.stat_self()?) != place {
                return Err(Errno::ESTALE);
            }
            merged.opaque = upper.is_opaque()?;
            merged.upper = Some(upper);
        }
        if merged.opaque {
            return Ok(merged);
        }
        for (index, lower) in parent.lowers.iter().enumerate() {
            let Some(stat) = self.look(lower, name)? else { continue };
            if !stat.is_directory() || self.has(&stat) {
                break;
            }
            let directory = match lower.directory.directory(name, false) {
                Ok(directory) => directory,
                // Gone meanwhile, or a file system that is never shown: nothing of it.
                Err(Errno::ENOENT | Errno::EXDEV) => continue,
                Err(errno) => return Err(errno),
            };
            let last = index + 1 == parent.lowers.len() || directory.is_opaque_lower();
            let place = Place::new(lower.place.layer, &directory.stat_self()?);
            merged.lowers.push(Lower { place, directory });
            if last {
                break;
            }
        }
        let found_here = merged.lowers.first().is_none_or(|lower| lower.place == place);
        if place.layer == UPPER || found_here { Ok(merged) } else { Err(Errno::ESTALE) }
    }

    /// Whether `merged`, opened as `name` of `parent`, is still made of the same directories.
    ///
    /// The upper is the space's own; the lowers belong to a parent that lives on.
    pub(crate) fn is_current(
        &self,
        merged: &Merged,
        parent: &Merged,
        name: Name<'_>,
    ) -> Result<bool, Errno> {
        if merged.opaque {
            return Ok(true);
        }
        let mut known = merged.lowers.iter().map(|lower| lower.place);
        for lower in &parent.lowers {
            let Some(stat) = self.look(lower, name)? else { continue };
            if !stat.is_directory() || self.has(&stat) {
                break;
            }
            if known.next() != Some(Place::new(lower.place.layer, &stat)) {
                return Ok(false);
            }
        }
        Ok(known.next().is_none())
    }
}
