//! One directory through its layers, each one open.

use crate::host::{Directory, Stat};
use crate::layer::{BOUND, Place, join};
use fuse::{Errno, Name};
use std::sync::Arc;

/// Names in one directory.
pub(crate) type Names = Arc<[Box<[u8]>]>;

/// A directory of a lower layer.
#[derive(Clone, Debug)]
pub(crate) struct Lower {
    pub(crate) place: Place,
    pub(crate) directory: Arc<Directory>,
    /// Its path in its own layer, from the root without a slash in front: a redirect of a layer
    /// above may show it elsewhere.
    pub(crate) path: Arc<[u8]>,
    /// Names in it that are not seen.
    pub(crate) masked: Names,
}

impl Lower {
    /// A directory that is bound, or the root of a layer in which nothing is masked.
    pub(crate) fn root(place: Place, directory: Directory) -> Lower {
        let (path, masked) = (Arc::from([]), Arc::from([]));
        Lower { place, directory: Arc::new(directory), path, masked }
    }

    pub(crate) fn is_masked(&self, name: Name<'_>) -> bool {
        self.masked.iter().any(|masked| **masked == *name.as_bytes())
    }
}

/// How a directory may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Volume {
    /// By copy-on-write.
    Layered,
    /// In place: its `upper` is the parent's own directory. The number tells bindings apart.
    Shared(usize),
    /// Not at all.
    ReadOnly(usize),
}

/// A directory through its layers, each one open.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) volume: Volume,
    /// The layer that is written: [`UPPER`](crate::layer::UPPER), or one of what is bound.
    pub(crate) top: usize,
    /// `None` until something in the directory is written.
    pub(crate) upper: Option<Directory>,
    /// Topmost first; none below an opaque directory.
    pub(crate) lowers: Vec<Lower>,
    /// The upper hides all lowers whatever they come to hold.
    pub(crate) opaque: bool,
    /// Its path as the lowers have it, from the root without a slash in front.
    pub(crate) below: Arc<[u8]>,
    /// The lowers are those of another path than the name's own.
    pub(crate) redirected: bool,
}

impl Merged {
    /// A directory bound to a place: the parent's own, to be read or to be written.
    pub(crate) fn bound(number: usize, write: bool, directory: Directory, stat: &Stat) -> Merged {
        let volume = if write { Volume::Shared(number) } else { Volume::ReadOnly(number) };
        let mut merged = Merged {
            volume,
            top: BOUND + number,
            upper: None,
            lowers: Vec::new(),
            opaque: false,
            below: Arc::from([]),
            redirected: true,
        };
        if write {
            merged.upper = Some(directory);
        } else {
            let place = Place::new(merged.top, stat);
            merged.lowers.push(Lower::root(place, directory));
        }
        merged
    }

    /// Whether what is bound is a file system of the kernel's own state.
    pub(crate) fn is_of_the_kernel(&self) -> bool {
        let lower = self.lowers.first().map(|lower| &*lower.directory);
        self.upper.as_ref().or(lower).is_none_or(|own| own.is_of_the_kernel() != Ok(false))
    }

    /// The same directory of lowers with one layer more above it.
    pub(crate) fn sunk(&self) -> Merged {
        let sunk = |lower: &Lower| Lower { place: lower.place.sunk(), ..lower.clone() };
        Merged {
            volume: self.volume,
            top: self.top,
            upper: None,
            lowers: self.lowers.iter().map(sunk).collect(),
            opaque: self.opaque,
            below: Arc::clone(&self.below),
            redirected: self.redirected,
        }
    }

    /// Where the bound directory itself is.
    pub(crate) fn bound_place(&self, stat: &Stat) -> Place {
        Place::new(self.top, stat)
    }

    /// The upper directory, after copy-up.
    pub(crate) fn upper(&self) -> &Directory {
        self.upper.as_ref().expect("the directory was copied up before it is written")
    }

    /// The directory of one layer.
    pub(crate) fn layer(&self, layer: usize) -> Result<&Directory, Errno> {
        let found = match layer {
            _ if layer == self.top && self.upper.is_some() => self.upper.as_ref(),
            _ => self.lowers.iter().find(|low| low.place.layer == layer).map(|low| &*low.directory),
        };
        found.ok_or(Errno::ESTALE)
    }

    /// Whether its files are the space's own to keep attributes of.
    pub(crate) fn is_layered(&self) -> bool {
        self.volume == Volume::Layered
    }

    /// The path of `name` as the lowers have it.
    pub(crate) fn path_below(&self, name: Name<'_>) -> Vec<u8> {
        join(&self.below, name.as_bytes())
    }
}
