//! One copy-on-write layer: what was written through it, and the map that says where that is.
//!
//! A cluster becomes a layer's own only with all of its bytes, and the file's map says so only
//! after these are there for good. So at any moment the files are a disk as it was at the last
//! flush, but for writes after it in clusters that were the layer's own already.

use std::io;

use crate::Store;
use crate::format::{CLUSTER, Cluster, Damage, Geometry, Header, Piece};
use crate::map::{LoadFailure, Map};

/// Sectors of the map that may be behind before they are written without being asked:
/// 16 GiB of a disk, at the least 4 MiB of data.
const MOST_CHANGED: usize = 4096;

const ZEROS: &[u8] = &[0; CLUSTER as usize];

/// What becomes of the space of bytes that are made zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// What is taken stays taken.
    Keep,
    /// Whole clusters are given back to the host.
    GiveBack,
}

/// Reads what is below a layer, all of it or nothing.
pub(crate) type Below<'a> = &'a dyn Fn(u64, &mut [u8]) -> io::Result<()>;

/// A layer; its files are its alone.
#[derive(Debug)]
pub(crate) struct Layer<S> {
    map_file: S,
    data: S,
    map: Map,
    /// Data were written since the last flush.
    dirty: bool,
    /// The host lost what a flush was to keep: it cannot be told what else is lost.
    failed: bool,
}

impl<S: Store> Layer<S> {
    /// A new layer in files that have their lengths and are all zeros.
    ///
    /// # Errors
    /// The map cannot be written, or not for good.
    pub(crate) fn create(
        geometry: Geometry,
        header: &Header,
        mut map_file: S,
        mut data: S,
    ) -> io::Result<Layer<S>> {
        header.create(geometry, &mut map_file)?;
        data.sync()?;
        map_file.sync()?;
        let map = Map::new(geometry);
        Ok(Layer { map_file, data, map, dirty: false, failed: false })
    }

    /// A layer as its files have it.
    ///
    /// # Errors
    /// They cannot be read, or say what no layer says.
    pub(crate) fn open(geometry: Geometry, map_file: S, data: S) -> Result<Layer<S>, LoadFailure> {
        if map_file.length()? < geometry.map_length() || data.length()? < geometry.size() {
            return Err(Damage::Short.into());
        }
        Header::check_constants(geometry, &map_file)??;
        let map = Map::load(geometry, &map_file)?;
        Ok(Layer { map_file, data, map, dirty: false, failed: false })
    }

    fn geometry(&self) -> Geometry {
        self.map.geometry()
    }

    fn piece(&self, offset: u64, length: usize) -> Piece {
        self.geometry().piece(offset, length as u64)
    }

    /// Fills `buffer` from a range of the disk.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8], below: Below<'_>) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            let start = offset + done as u64;
            let (state, length) = self.run(start, buffer.len() - done);
            let part = &mut buffer[done..done + length];
            match state {
                Cluster::Own => self.data.read(start, part)?,
                Cluster::Zero => part.fill(0),
                Cluster::Inherited => below(start, part)?,
            }
            done += length;
        }
        Ok(())
    }

    /// How many of `length` bytes have the state of the first, and which.
    fn run(&self, offset: u64, length: usize) -> (Cluster, usize) {
        let first = self.piece(offset, length);
        let state = self.map.get(first.cluster);
        let mut end = first.length as usize;
        while end < length {
            let next = self.piece(offset + end as u64, length - end);
            if self.map.get(next.cluster) != state {
                break;
            }
            end += next.length as usize;
        }
        (state, end)
    }

    /// Writes a range of the disk.
    ///
    /// # Errors
    /// What the host refuses; then any part of the range may have been written.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8], below: Below<'_>) -> io::Result<()> {
        self.usable()?;
        let mut done = 0;
        while done < bytes.len() {
            let (start, rest) = (offset + done as u64, &bytes[done..]);
            let direct = self.direct(start, rest.len());
            if direct > 0 {
                self.put(start, &rest[..direct])?;
                done += direct;
            } else {
                let piece = self.piece(start, rest.len());
                self.copy_up(piece, &rest[..piece.length as usize], below)?;
                done += piece.length as usize;
            }
        }
        self.bound()
    }

    /// How many of `length` bytes can be written without any from below.
    fn direct(&self, offset: u64, length: usize) -> usize {
        let mut end = 0;
        while end < length {
            let piece = self.piece(offset + end as u64, length - end);
            if !piece.whole && self.map.get(piece.cluster) != Cluster::Own {
                break;
            }
            end += piece.length as usize;
        }
        end
    }

    /// Writes bytes into clusters that are the layer's own, or become so as a whole.
    fn put(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.dirty = true;
        self.data.write(offset, bytes)?;
        let end = offset + bytes.len() as u64;
        for cluster in offset / CLUSTER..end.div_ceil(CLUSTER) {
            self.map.set(cluster, Cluster::Own);
        }
        Ok(())
    }

    /// Makes a cluster that is not the layer's own so, with `bytes` in it.
    fn copy_up(&mut self, piece: Piece, bytes: &[u8], below: Below<'_>) -> io::Result<()> {
        let extent = self.geometry().extent(piece.cluster);
        let mut whole = vec![0; (extent.end - extent.start) as usize];
        if self.map.get(piece.cluster) == Cluster::Inherited {
            below(extent.start, &mut whole)?;
        }
        let at = (piece.offset - extent.start) as usize;
        whole[at..at + bytes.len()].copy_from_slice(bytes);
        self.put(extent.start, &whole)
    }

    /// Makes a range of the disk zeros, whatever is below.
    ///
    /// # Errors
    /// What the host refuses; then any part of the range may be zeros.
    pub(crate) fn zero(
        &mut self,
        offset: u64,
        length: u64,
        space: Space,
        below: Below<'_>,
    ) -> io::Result<()> {
        self.usable()?;
        let end = offset + length;
        // Clusters in a row that are given back at once.
        let mut given = offset..offset;
        let mut at = offset;
        while at < end {
            let piece = self.geometry().piece(at, end - at);
            at += piece.length;
            let state = self.map.get(piece.cluster);
            match state {
                Cluster::Own if piece.whole && space == Space::GiveBack => {
                    self.map.set(piece.cluster, Cluster::Zero);
                    if given.end != piece.offset {
                        self.release(given.start, given.end);
                        given.start = piece.offset;
                    }
                    given.end = at;
                }
                Cluster::Own => self.put(piece.offset, &ZEROS[..piece.length as usize])?,
                Cluster::Inherited if piece.whole => self.map.set(piece.cluster, Cluster::Zero),
                Cluster::Inherited => {
                    self.copy_up(piece, &ZEROS[..piece.length as usize], below)?;
                }
                Cluster::Zero => {}
            }
        }
        self.release(given.start, given.end);
        self.bound()
    }

    fn release(&mut self, start: u64, end: u64) {
        if start < end {
            self.dirty = true;
            // Zeros are in the map: what the host does not take back is only space.
            let _ = self.data.release(start, end - start);
        }
    }

    /// Everything written before survives a power cut after this.
    ///
    /// # Errors
    /// It may not. If the host could not keep it, that is so for good: neither this nor writing
    /// works until the layer is opened again, as it was at the last flush that worked.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.usable()?;
        if self.dirty {
            self.data.sync().inspect_err(|_| self.failed = true)?;
            self.dirty = false;
        }
        if self.map.changed() > 0 {
            self.map.write(&mut self.map_file)?;
            self.map_file.sync().inspect_err(|_| self.failed = true)?;
            self.map.written();
        }
        Ok(())
    }

    /// Keeps the memory and the time that a flush takes within bounds.
    fn bound(&mut self) -> io::Result<()> {
        if self.map.changed() > MOST_CHANGED { self.flush() } else { Ok(()) }
    }

    fn usable(&self) -> io::Result<()> {
        match self.failed {
            true => Err(io::Error::other("an earlier flush failed")),
            false => Ok(()),
        }
    }
}
