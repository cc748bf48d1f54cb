//! The disk: an image and the layers over it, the topmost of which takes what is written.

use std::io;

use crate::Store;
use crate::format::Geometry;
use crate::layer::{Below, Layer, Space};

/// Bytes of a sector: a disk is a whole number of them.
pub const SECTOR: u64 = 512;

/// Most layers over an image: reading may have to look into each.
pub const MAX_LAYERS: usize = 16;

/// A disk whose files are open.
#[derive(Debug)]
pub struct Disk<S> {
    geometry: Geometry,
    image: S,
    /// The lowest first.
    layers: Vec<Layer<S>>,
    writable: bool,
}

impl<S: Store> Disk<S> {
    /// A disk of at most [`MAX_LAYERS`] layers, all of this geometry.
    pub(crate) fn new(
        geometry: Geometry,
        image: S,
        layers: Vec<Layer<S>>,
        writable: bool,
    ) -> Disk<S> {
        let writable = writable && !layers.is_empty();
        Disk { geometry, image, layers, writable }
    }

    /// Bytes of the disk, whole sectors.
    pub fn size(&self) -> u64 {
        self.geometry.size()
    }

    /// Whether it can be written.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    /// They are not on the disk, or the host refuses.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.check(offset, buffer.len() as u64)?;
        read(&self.image, &self.layers, offset, buffer)
    }

    /// Writes `bytes` from `offset` on; they are there for good after [`Disk::flush`].
    ///
    /// # Errors
    /// They are not on the disk, it is read-only, or the host refuses: then any part of
    /// them may have been written.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check(offset, bytes.len() as u64)?;
        self.change(|top, below| top.write(offset, bytes, below))
    }

    /// Makes bytes zeros, as [`Disk::write`] would.
    ///
    /// # Errors
    /// As for [`Disk::write`].
    pub fn zero(&mut self, offset: u64, length: u64, space: Space) -> io::Result<()> {
        self.check(offset, length)?;
        self.change(|top, below| top.zero(offset, length, space, below))
    }

    /// Everything written before survives a power cut after this.
    ///
    /// # Errors
    /// The host refuses. If it lost something, nothing is written or flushed any more.
    pub fn flush(&mut self) -> io::Result<()> {
        match self.writable {
            true => self.change(|top, _| top.flush()),
            false => Ok(()),
        }
    }

    fn check(&self, offset: u64, length: u64) -> io::Result<()> {
        match self.geometry.contains(offset, length) {
            true => Ok(()),
            false => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn change(
        &mut self,
        change: impl FnOnce(&mut Layer<S>, Below<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let Disk { image, layers, .. } = self;
        match layers.split_last_mut() {
            Some((top, below)) if self.writable => {
                change(top, &|offset, buffer| read(image, below, offset, buffer))
            }
            _ => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }
}

/// Reads through `layers`, the lowest first, down to the image.
fn read<S: Store>(
    image: &S,
    layers: &[Layer<S>],
    offset: u64,
    buffer: &mut [u8],
) -> io::Result<()> {
    match layers.split_last() {
        None => image.read(offset, buffer),
        Some((top, below)) => {
            top.read(offset, buffer, &|offset, buffer| read(image, below, offset, buffer))
        }
    }
}
