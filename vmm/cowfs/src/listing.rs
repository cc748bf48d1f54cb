//! The names of a merged directory, each once, as one picture taken when a listing starts.

use crate::host::{Directory, Stat};
use crate::layer::{Layers, Merged, UPPER};
use crate::stored::{self, Shown};
use fuse::dirent::Dirent;
use fuse::{Errno, Name};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

const CHARACTER: u8 = Dirent::CHARACTER;

/// One name of a listing.
#[derive(Clone, Copy, Debug)]
struct Listed {
    start: usize,
    length: usize,
    inode: u64,
    kind: u8,
    layer: usize,
}

/// The same, written out.
#[derive(Serialize, Deserialize)]
struct Written {
    name: Vec<u8>,
    inode: u64,
    kind: u8,
    layer: usize,
}

/// The names of a directory at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Written>", into = "Vec<Written>")]
pub(crate) struct Listing {
    bytes: Vec<u8>,
    entries: Vec<Listed>,
}

impl Listing {
    /// Reads the directory's names; more than `limit` bytes of them are refused with ENOMEM.
    ///
    /// `inode` makes an inode number for programs out of one of the device given.
    pub(crate) fn of(
        layers_seen: &Layers,
        merged: &Merged,
        limit: usize,
        inode: impl Fn(u64, u64) -> u64,
    ) -> Result<Listing, Errno> {
        let mut listing = Listing::default();
        let mut seen: HashMap<Box<[u8]>, Option<usize>> = HashMap::new();
        let disguises =
            merged.is_layered() && merged.upper.as_ref().is_some_and(stored::has_disguises);
        let layers = usize::from(merged.upper.is_some()) + merged.lowers.len();
        let lowers = merged.lowers.iter();
        let lowers = lowers.map(|lower| (lower.place.layer, &*lower.directory, Some(lower)));
        let upper = merged.upper.iter().map(|dir| (merged.top, dir, None));
        for (layer, directory, lower) in upper.chain(lowers) {
            let own = directory.stat_self()?;
            let device = own.device;
            let mut failure = None;
            directory.list(|name, raw, kind| {
                if failure.is_some() {
                    return;
                }
                let whiteouts = layers_seen.has_ours(merged, layer);
                let gone = layers_seen.hidden.contains(&(device, raw))
                    || layers_seen.is_unlisted(lower, name, layer, (device, own.inode))
                    || (whiteouts && kind == CHARACTER && is_whiteout(directory.stat(name)));
                let kind = match disguises && layer == UPPER && kind == Dirent::REGULAR {
                    true => disguise(directory, name).unwrap_or(kind),
                    false => kind,
                };
                let given = kind == Dirent::DIRECTORY && layers_seen.is_given(layer);
                let number = || (!given).then(|| (inode(device, raw), kind));
                let fresh = layers == 1 || listing.is_new(&mut seen, name, gone, number);
                if !fresh || gone {
                    return;
                }
                let layer = if given { UPPER } else { layer };
                listing.push(name, inode(device, raw), kind, layer);
                if listing.bytes.len() + listing.entries.len() * size_of::<Listed>() > limit {
                    failure = Some(Errno::ENOMEM);
                }
            })?;
            if let Some(errno) = failure {
                return Err(errno);
            }
        }
        Ok(listing)
    }

    /// Whether no layer above had the name. A file copied up keeps the inode of the one below, a
    /// directory that is given takes it.
    fn is_new(
        &mut self,
        seen: &mut HashMap<Box<[u8]>, Option<usize>>,
        name: Name<'_>,
        gone: bool,
        below: impl FnOnce() -> Option<(u64, u8)>,
    ) -> bool {
        if let Some(above) = seen.get_mut(name.as_bytes()) {
            if let Some((inode, kind)) = below()
                && let Some(entry) = above.take().map(|index| &mut self.entries[index])
                && entry.layer == UPPER
                && entry.kind == kind
            {
                entry.inode = inode;
            }
            return false;
        }
        seen.insert(name.as_bytes().into(), (!gone).then_some(self.entries.len()));
        true
    }

    fn push(&mut self, name: Name<'_>, inode: u64, kind: u8, layer: usize) {
        let (start, length) = (self.bytes.len(), name.as_bytes().len());
        self.bytes.extend_from_slice(name.as_bytes());
        self.entries.push(Listed { start, length, inode, kind, layer });
    }

    /// The name at `index`; the guest's next offset is one more.
    pub(crate) fn get(&self, index: usize) -> Option<Dirent<'_>> {
        let entry = self.entries.get(index)?;
        Some(Dirent {
            inode: entry.inode,
            next_offset: index as u64 + 1,
            kind: entry.kind,
            name: &self.bytes[entry.start..entry.start + entry.length],
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl From<Listing> for Vec<Written> {
    fn from(listing: Listing) -> Vec<Written> {
        let written = |entry: &Listed| Written {
            name: listing.bytes[entry.start..entry.start + entry.length].to_vec(),
            inode: entry.inode,
            kind: entry.kind,
            layer: entry.layer,
        };
        listing.entries.iter().map(written).collect()
    }
}

impl TryFrom<Vec<Written>> for Listing {
    type Error = &'static str;

    fn try_from(written: Vec<Written>) -> Result<Listing, &'static str> {
        let mut listing = Listing::default();
        for Written { name, inode, kind, layer } in written {
            let name = Name::new(&name).map_err(|_| "a listing has a name that is none")?;
            listing.push(name, inode, kind, layer);
        }
        Ok(listing)
    }
}

fn is_whiteout(stat: Result<Option<Stat>, Errno>) -> bool {
    matches!(stat, Ok(Some(stat)) if stat.is_whiteout())
}

/// The type of a regular file that stands for something else.
fn disguise(directory: &Directory, name: Name<'_>) -> Option<u8> {
    let file = directory.any(name).ok()?;
    let shown = Shown::read(&file, fuse::record::TYPE_REGULAR).ok()??;
    Some((shown.kind >> 12) as u8)
}
