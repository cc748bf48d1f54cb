//! One directory seen through its layers: what a name is, and where.

use crate::host::{Directory, Stat};
use crate::stored::{self, Marks, Shown};
use fuse::{Errno, Name, Time};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

pub(crate) use crate::merged::{Lower, Merged, Names, Volume};

/// The upper layer; 1 is the topmost lower.
pub(crate) const UPPER: usize = 0;
/// The layers of what is bound, beyond all lowers.
pub(crate) const BOUND: usize = 1 << 32;

/// A file of the host: the layer it was found in and its identity there.
#[derive(Clone, Copy, Debug, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) layer: usize,
    device: u64,
    inode: u64,
    /// Zero where the host does not tell: some file systems do at one time and not at another.
    born: Time,
}

impl PartialEq for Place {
    /// The same as far as is known.
    fn eq(&self, other: &Place) -> bool {
        let unknown = [self.born, other.born].contains(&Time::default());
        (self.layer, self.device, self.inode) == (other.layer, other.device, other.inode)
            && (unknown || self.born == other.born)
    }
}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.layer, self.device, self.inode).hash(state);
    }
}

impl Place {
    pub(crate) fn new(layer: usize, stat: &Stat) -> Place {
        Place { layer, device: stat.device, inode: stat.inode, born: stat.born }
    }

    /// The same with one layer more above it; what is bound is beside all of them.
    pub(crate) fn sunk(self) -> Place {
        Place { layer: if self.layer < BOUND { self.layer + 1 } else { self.layer }, ..self }
    }

    /// The file's name in an index of hard links: it stays over a restart of the host.
    pub(crate) fn key(&self) -> Arc<[u8]> {
        let born = i128::from(self.born.seconds) * 1_000_000_000;
        let born = born + i128::from(self.born.nanoseconds);
        Arc::from(format!("{:x}-{born:x}", self.inode).into_bytes())
    }
}

/// What a name is.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) stat: Stat,
    /// It is the upper's by the index of hard links; the name itself is a lower's.
    pub(crate) indexed: Option<Arc<[u8]>>,
}

/// What there is under a name.
#[derive(Clone, Debug)]
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

pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        [] => name.to_vec(),
        _ => [directory, b"/", name].concat(),
    }
}

/// What a lower layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The parent's tree, which may change at any time; nothing in it has a special meaning.
    Live,
    /// What this space wrote earlier, and nobody writes any more.
    Own,
    /// The same of another space: what is masked is not seen of it.
    Sealed,
    /// Single files put in the place of the parent's; the directories around them say nothing.
    Given,
}

/// Which file systems mounted below the root are seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Crossing {
    /// All but those that show the kernel's own state.
    #[default]
    All,
    /// None: an empty directory is seen instead.
    None,
    /// Those at these paths below the root.
    Only(Vec<std::path::PathBuf>),
}

/// The layers of a space, and what of them is seen.
#[derive(Debug)]
pub(crate) struct Layers {
    /// The roots of the lowers, topmost first.
    pub(crate) roots: Vec<Lower>,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) marks: Marks,
    /// Files of the host that no layer shows, by device and inode: the space's own directories
    /// and what is masked, wherever the parent moves it.
    pub(crate) hidden: Vec<(u64, u64)>,
    /// Keeps what is hidden from giving its number to another file.
    pub(crate) _held: Vec<crate::host::File>,
    /// Names in directories of the parent, by device and inode. They are not even looked at: that
    /// may take a server which waits for this one.
    pub(crate) unseen: Vec<(u64, u64, Box<[u8]>)>,
    /// Names that are masked, by the directory's path in its layer.
    pub(crate) masks: HashMap<Vec<u8>, Names>,
    pub(crate) crossing: Crossing,
}

impl Layers {
    /// The root, which is never opaque.
    pub(crate) fn root(&self, upper: Directory) -> Merged {
        Merged {
            volume: Volume::Layered,
            top: UPPER,
            upper: Some(upper),
            lowers: self.roots.clone(),
            opaque: false,
            below: Arc::from([]),
            redirected: true,
        }
    }

    /// Masks names of the roots: those of the directories below are as they are opened.
    pub(crate) fn mask_roots(&mut self) {
        for number in 0..self.roots.len() {
            let masked = self.masks_at(self.roots[number].place.layer, b"");
            self.roots[number].masked = masked;
        }
    }

    pub(crate) fn kind(&self, layer: usize) -> Option<Kind> {
        layer.checked_sub(1).and_then(|index| self.kinds.get(index)).copied()
    }

    /// Whether nobody changes the layer any more.
    pub(crate) fn is_sealed(&self, layer: usize) -> bool {
        matches!(self.kind(layer), Some(Kind::Own | Kind::Sealed | Kind::Given))
    }

    /// Whether the layer's directories stand for nothing but what is in them.
    pub(crate) fn is_given(&self, layer: usize) -> bool {
        self.kind(layer) == Some(Kind::Given)
    }

    /// The directory that others of the same name are merged into: it has the attributes.
    pub(crate) fn head<'a>(&self, lowers: &'a [Lower]) -> Option<&'a Lower> {
        let head = lowers.iter().find(|lower| !self.is_given(lower.place.layer));
        head.or(lowers.first())
    }

    /// The root of the lowers whose attributes are shown, and what a space gave it.
    pub(crate) fn root_source(&self) -> Option<(&Lower, Option<Shown>)> {
        let mut roots = self.roots.iter().filter(|root| !self.is_given(root.place.layer));
        roots.find_map(|root| {
            if !self.is_sealed(root.place.layer) {
                return Some((root, None));
            }
            // Without an attribute it was made for nobody but the server.
            let kind = fuse::record::TYPE_DIRECTORY;
            let kept = Shown::read(&*root.directory, kind).ok().flatten()?;
            Some((root, Some(kept)))
        })
    }

    /// What of the masks holds in the directory at a path of a layer.
    pub(crate) fn masks_at(&self, layer: usize, path: &[u8]) -> Names {
        match self.kind(layer) {
            Some(Kind::Live | Kind::Sealed) => self.masks.get(path).cloned(),
            _ => None,
        }
        .unwrap_or_else(|| Arc::from([]))
    }

    /// Whether nobody changes any of these any more.
    pub(crate) fn are_sealed(&self, lowers: &[Lower]) -> bool {
        lowers.iter().all(|lower| self.is_sealed(lower.place.layer))
    }

    /// Whether a layer's files have attributes that the file space gave them.
    pub(crate) fn has_ours(&self, merged: &Merged, layer: usize) -> bool {
        merged.is_layered() && (layer == UPPER || self.is_sealed(layer))
    }

    pub(crate) fn hides(&self, stat: &Stat) -> bool {
        self.hidden.contains(&(stat.device, stat.inode))
    }

    /// What `name` is in a directory of the parent, unless nothing of it is ever seen.
    fn look(&self, lower: &Lower, name: Name<'_>) -> Result<Option<Stat>, Errno> {
        match self.is_never_seen(lower, name) {
            true => Ok(None),
            false => lower.directory.stat(name),
        }
    }

    fn is_never_seen(&self, lower: &Lower, name: Name<'_>) -> bool {
        lower.is_masked(name) || self.is_unseen((lower.place.device, lower.place.inode), name)
    }

    fn is_unseen(&self, (device, inode): (u64, u64), name: Name<'_>) -> bool {
        let is_it = |unseen: &(u64, u64, Box<[u8]>)| {
            (unseen.0, unseen.1, &*unseen.2) == (device, inode, name.as_bytes())
        };
        self.unseen.iter().any(is_it)
    }

    /// What `name` is in `merged`: the upper's word first, then the lowers', topmost first.
    pub(crate) fn find(&self, merged: &Merged, name: Name<'_>) -> Result<Sight, Errno> {
        if let Some(upper) = &merged.upper
            && let Some(stat) = upper.stat(name)?
        {
            if merged.is_layered() && stat.is_whiteout() {
                return Ok(Sight::Absent { whiteout: true });
            }
            if merged.is_layered() || !self.hides(&stat) {
                let place = Place::new(merged.top, &stat);
                return Ok(Sight::Found(Found { place, stat, indexed: None }));
            }
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
        let mut given = None;
        for lower in &merged.lowers {
            let Some(stat) = self.look(lower, name)? else { continue };
            let place = Place::new(lower.place.layer, &stat);
            let directory = stat.is_directory();
            let whiteout = stat.is_whiteout() && self.is_sealed(place.layer);
            let gone = whiteout || self.hides(&stat) || self.is_uncrossed(merged, lower, &stat);
            let found = Found { place, stat, indexed: None };
            match &given {
                _ if gone => break,
                None if directory && self.is_given(place.layer) => given = Some(found),
                Some(_) if !directory => break,
                Some(_) if self.is_given(place.layer) => {}
                _ => return Ok(Some(found)),
            }
        }
        Ok(given)
    }

    /// A file mounted alone, where mounts are not seen.
    fn is_uncrossed(&self, merged: &Merged, lower: &Lower, stat: &Stat) -> bool {
        self.crossing != Crossing::All
            && merged.is_layered()
            && !stat.is_directory()
            && lower.place.device != stat.device
    }

    /// Whether a name of a listing of one layer is not to be seen.
    pub(crate) fn is_unlisted(
        &self,
        lower: Option<&Lower>,
        name: Name<'_>,
        layer: usize,
        directory: (u64, u64),
    ) -> bool {
        match lower {
            Some(lower) => self.is_never_seen(lower, name),
            // What is shared is the parent's.
            None => layer != UPPER && self.is_unseen(directory, name),
        }
    }

    /// Opens the directory `name`, which was found at `place`, in every layer that is part of it.
    pub(crate) fn open(
        &self,
        parent: &Merged,
        name: Name<'_>,
        place: Place,
    ) -> Result<Merged, Errno> {
        self.open_through(parent, name, place, false)
    }

    /// The same with the lowers an opaque directory hides: what the parent has at its place.
    pub(crate) fn open_beside(
        &self,
        parent: &Merged,
        name: Name<'_>,
        place: Place,
    ) -> Result<Merged, Errno> {
        self.open_through(parent, name, place, true)
    }

    fn open_through(
        &self,
        parent: &Merged,
        name: Name<'_>,
        place: Place,
        beside: bool,
    ) -> Result<Merged, Errno> {
        let below = parent.path_below(name);
        let mut merged = Merged {
            volume: parent.volume,
            top: parent.top,
            upper: None,
            lowers: Vec::new(),
            opaque: false,
            below: Arc::from(below),
            redirected: false,
        };
        let mut redirect = None;
        let written = place.layer == parent.top && parent.upper.is_some();
        if written {
            let upper = parent.upper.as_ref().ok_or(Errno::ESTALE)?.directory(name, true)?;
            if Place::new(place.layer, &upper.stat_self()?) != place {
                return Err(Errno::ESTALE);
            }
            if merged.is_layered() {
                redirect = stored::redirect(&upper)?;
                let marked = self.marks.is_opaque(&upper)?;
                // Below an opaque directory nothing shows through, but for what was moved there.
                merged.opaque = marked || (parent.opaque && redirect.is_none());
            }
            merged.upper = Some(upper);
        }
        if merged.opaque && !beside {
            return Ok(merged);
        }
        if let Some(path) = redirect.filter(|_| !merged.opaque) {
            merged.lowers = self.resolve(&self.roots, &path)?;
            merged.redirected = true;
            merged.below = Arc::from(path);
        } else {
            merged.lowers = self.descend(&parent.lowers, name)?;
        }
        let found_here = self.head(&merged.lowers).is_none_or(|lower| lower.place == place);
        if written || found_here { Ok(merged) } else { Err(Errno::ESTALE) }
    }

    /// The directory `name` of a directory that is `lowers`.
    pub(crate) fn descend(&self, lowers: &[Lower], name: Name<'_>) -> Result<Vec<Lower>, Errno> {
        let mut found = Vec::new();
        for lower in lowers {
            let Some(stat) = self.look(lower, name)? else { continue };
            if !stat.is_directory() || self.hides(&stat) {
                break;
            }
            let layer = lower.place.layer;
            let sealed = self.is_sealed(layer);
            let directory = match lower.directory.directory(name, sealed) {
                Ok(directory) => directory,
                // Gone meanwhile.
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(errno),
            };
            let stat = directory.stat_self()?;
            let path: Arc<[u8]> = Arc::from(join(&lower.path, name.as_bytes()));
            if !sealed && !self.crosses(lower, &directory, &stat, &path)? {
                break;
            }
            let opaque = sealed && self.marks.is_opaque(&directory)?;
            let redirect = if sealed { stored::redirect(&directory)? } else { None };
            let (directory, masked) = (Arc::new(directory), self.masks_at(layer, &path));
            found.push(Lower { place: Place::new(layer, &stat), directory, path, masked });
            if opaque {
                break;
            }
            if let Some(path) = redirect {
                let below = self.roots.iter().position(|root| root.place.layer > layer);
                let roots = below.map_or(&[][..], |first| &self.roots[first..]);
                found.extend(self.resolve(roots, &path)?);
                break;
            }
        }
        Ok(found)
    }

    /// Whether what is seen of a directory of the parent that may be another file system's.
    fn crosses(
        &self,
        parent: &Lower,
        directory: &Directory,
        stat: &Stat,
        path: &[u8],
    ) -> Result<bool, Errno> {
        if stat.device == parent.place.device {
            return Ok(true);
        }
        let allowed = match &self.crossing {
            Crossing::All => true,
            // The paths are those of the root, not of what is bound.
            Crossing::Only(paths) if parent.place.layer < BOUND => {
                use std::os::unix::ffi::OsStrExt;
                paths.iter().any(|allowed| {
                    let allowed = allowed.as_os_str().as_bytes();
                    allowed.strip_prefix(b"/").unwrap_or(allowed) == path
                })
            }
            Crossing::None | Crossing::Only(_) => false,
        };
        Ok(allowed && !directory.is_of_the_kernel()?)
    }

    /// The directory at a path through the given roots.
    pub(crate) fn resolve(&self, roots: &[Lower], path: &[u8]) -> Result<Vec<Lower>, Errno> {
        let mut lowers = roots.to_vec();
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            // A redirect comes from a disk that may be damaged: a name or nothing.
            let Ok(name) = Name::new(part) else { return Ok(Vec::new()) };
            lowers = self.descend(&lowers, name)?;
        }
        Ok(lowers)
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
        if merged.opaque || merged.redirected || self.are_sealed(&parent.lowers) {
            return Ok(true);
        }
        let mut known = merged.lowers.iter().map(|lower| lower.place);
        for lower in &parent.lowers {
            let Some(stat) = self.look(lower, name)? else { continue };
            if !stat.is_directory() || self.hides(&stat) {
                break;
            }
            if known.next() != Some(Place::new(lower.place.layer, &stat)) {
                // What is mounted there and not seen has no place of its own.
                return Ok(merged.lowers.is_empty() && self.crossing != Crossing::All);
            }
        }
        Ok(known.next().is_none())
    }
}
