//! virtio-blk (virtio 1.2 5.2), one queue: checks what a driver asks of a disk, and
//! carries the bytes.

use virtio_queue::Queue;

use crate::Memory;
use crate::chain::Chain;
use crate::mmio::{Identity, TRANSPORT_FEATURES};
use crate::ring::{Broken, Ring, Served};

/// Device type (virtio 1.2 5).
pub const DEVICE_ID: u32 = 2;

/// Index of the only queue.
pub const REQUEST: u16 = 0;

/// Bytes of the sectors that requests count in, whatever the disk's own are (5.2.4).
pub const SECTOR: u64 = 512;

const QUEUE_SIZE: u16 = 64;

/// Most bytes of data of one request: what the most segments of the largest size hold.
pub const DATA_LIMIT: usize = SEGMENTS as usize * SEGMENT as usize;

/// What a chain of the queue's size has besides header and status.
const SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;
const SEGMENT: u32 = 64 * 1024;

/// Most bytes handed to the disk at once; a multiple of any cluster's size.
const PIECE: u64 = 256 * 1024;

/// Bounds of a request to discard, and of one to write zeros, which may have to be written.
const DISCARD_RANGES: usize = 16;
const DISCARD_BYTES: u64 = 1 << 30;
const ZERO_RANGES: usize = 1;
const ZERO_BYTES: u64 = 32 << 20;

/// Features (5.2.3).
mod feature {
    pub(super) const SIZE_MAX: u64 = 1 << 1;
    pub(super) const SEG_MAX: u64 = 1 << 2;
    pub(super) const READ_ONLY: u64 = 1 << 5;
    pub(super) const BLK_SIZE: u64 = 1 << 6;
    pub(super) const FLUSH: u64 = 1 << 9;
    pub(super) const TOPOLOGY: u64 = 1 << 10;
    pub(super) const DISCARD: u64 = 1 << 13;
    pub(super) const WRITE_ZEROES: u64 = 1 << 14;
}

/// Types of requests (5.2.6).
mod kind {
    pub(super) const IN: u32 = 0;
    pub(super) const OUT: u32 = 1;
    pub(super) const FLUSH: u32 = 4;
    pub(super) const GET_ID: u32 = 8;
    pub(super) const DISCARD: u32 = 11;
    pub(super) const WRITE_ZEROES: u32 = 13;
}

/// Answers to requests (5.2.6).
mod status {
    pub(super) const OK: u8 = 0;
    pub(super) const IO_ERROR: u8 = 1;
    pub(super) const UNSUPPORTED: u8 = 2;
}

/// Bytes of a request's header, and of a range to discard or to write zeros to.
const HEADER: usize = 16;
const RANGE: usize = 16;

/// A range may be unmapped; no other flag is defined.
const UNMAP: u32 = 1;

/// What a driver is told of the disk, and held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Whole sectors, bytes.
    pub size: u64,
    /// Nothing can be written.
    pub read_only: bool,
    /// What the disk keeps as one, bytes: a power of two of sectors, at most 4 MiB. A
    /// range to discard is best made of these.
    pub cluster: u32,
    /// What the driver is told as the disk's serial number: ASCII, and zeros behind.
    pub serial: [u8; 20],
}

/// One thing asked of the disk; all that it names is on it.
#[derive(Debug, PartialEq, Eq)]
pub enum Order<'a> {
    /// Fill the buffer.
    Read(u64, &'a mut [u8]),
    /// Write the bytes.
    Write(u64, &'a [u8]),
    /// Make so many bytes zeros and give their space back.
    Discard(u64, u64),
    /// Make so many bytes zeros; whether their space may be given back.
    Zero(u64, u64, bool),
    /// Keep what was written before for good.
    Flush,
}

/// The disk cannot do it: the driver is told of an I/O error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// What the registers of such a disk show.
pub fn identity(shape: &Shape) -> Identity {
    use feature::*;
    let writing = FLUSH | DISCARD | WRITE_ZEROES;
    let access = if shape.read_only { READ_ONLY } else { writing };
    Identity {
        device_id: DEVICE_ID,
        features: TRANSPORT_FEATURES | SIZE_MAX | SEG_MAX | BLK_SIZE | TOPOLOGY | access,
        queue_sizes: vec![QUEUE_SIZE],
        config: configuration(shape),
    }
}

/// The layout of 5.2.4, up to what WRITE_ZEROES needs.
fn configuration(shape: &Shape) -> Vec<u8> {
    let cluster_sectors = shape.cluster / SECTOR as u32;
    let sectors = |bytes: u64| (bytes / SECTOR) as u32;
    let mut config = Vec::new();
    config.extend((shape.size / SECTOR).to_le_bytes());
    config.extend(SEGMENT.to_le_bytes());
    config.extend(SEGMENTS.to_le_bytes());
    config.extend([0; 4]); // geometry: not offered
    config.extend((SECTOR as u32).to_le_bytes());
    // Topology: the physical block is a page, the best I/O a cluster.
    config.extend([3, 0]);
    config.extend(8_u16.to_le_bytes());
    config.extend(cluster_sectors.to_le_bytes());
    config.extend([0; 4]); // write-back and number of queues: not offered
    config.extend(sectors(DISCARD_BYTES).to_le_bytes());
    config.extend((DISCARD_RANGES as u32).to_le_bytes());
    config.extend(cluster_sectors.to_le_bytes());
    config.extend(sectors(ZERO_BYTES).to_le_bytes());
    config.extend((ZERO_RANGES as u32).to_le_bytes());
    config.extend([1, 0, 0, 0]); // zeros may be unmapped
    config
}

/// An active disk.
#[derive(Debug)]
pub struct Block {
    request: Ring,
    desk: Desk,
}

/// Who judges requests.
#[derive(Debug)]
struct Desk {
    shape: Shape,
    features: u64,
    /// Bytes on their way; kept for its allocation.
    piece: Vec<u8>,
}

/// What a request comes to if not to success: the status for the driver.
type Judged = Result<(), u8>;

impl From<Refused> for u8 {
    fn from(_: Refused) -> u8 {
        status::IO_ERROR
    }
}

impl Block {
    /// The device with the features and the queue of its activation.
    ///
    /// # Errors
    /// [`Broken::Setup`] if the queue is not ready or misplaced.
    pub fn new(
        shape: Shape,
        features: u64,
        queues: Vec<Queue>,
        memory: &Memory,
    ) -> Result<Block, Broken> {
        let queue = queues.into_iter().next().ok_or(Broken::Setup)?;
        let request = Ring::new(queue, (HEADER + DATA_LIMIT) as u32, memory)?;
        // What such a disk does not offer it does not do, whatever was agreed on.
        let features = features & identity(&shape).features;
        Ok(Block { request, desk: Desk { shape, features, piece: Vec::new() } })
    }

    /// Answers waiting requests, at most a queue's size, one after the other.
    ///
    /// `disk` does what is asked, within the shape; a request may take several orders, and
    /// ends with the first refused.
    pub fn serve(
        &mut self,
        memory: &Memory,
        mut disk: impl FnMut(Order<'_>) -> Result<(), Refused>,
    ) -> Served {
        let desk = &mut self.desk;
        self.request.serve(memory, |chain| {
            // Without a place for its status a request cannot be answered: it is not even done.
            if chain.writable() > 0 {
                let judged = desk.answer(memory, chain, &mut disk);
                chain.write_last(memory, judged.err().unwrap_or(status::OK));
            }
        })
    }
}

impl Desk {
    fn answer(
        &mut self,
        memory: &Memory,
        chain: &mut Chain,
        disk: &mut impl FnMut(Order<'_>) -> Result<(), Refused>,
    ) -> Judged {
        let mut header = [0; HEADER];
        if chain.read(memory, &mut header) < HEADER {
            return Err(status::IO_ERROR);
        }
        let (kind, sector) = (word(&header, 0), double(&header, 8));
        match kind {
            kind::IN => self.read(memory, chain, sector, disk),
            kind::OUT => self.write(memory, chain, sector, disk),
            kind::FLUSH => Ok(disk(Order::Flush)?),
            kind::GET_ID => {
                let room = (chain.writable() - 1).min(self.shape.serial.len());
                chain.write(memory, &self.shape.serial[..room]);
                Ok(())
            }
            kind::DISCARD if self.has(feature::DISCARD) => self.discard(memory, chain, disk),
            kind::WRITE_ZEROES if self.has(feature::WRITE_ZEROES) => self.zero(memory, chain, disk),
            _ => Err(status::UNSUPPORTED),
        }
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Where so many bytes from a sector on begin: whole sectors, all of them on the disk.
    fn place(&self, sector: u64, length: u64) -> Result<u64, u8> {
        let offset = sector.checked_mul(SECTOR).ok_or(status::IO_ERROR)?;
        let end = offset.checked_add(length).ok_or(status::IO_ERROR)?;
        let fits = end <= self.shape.size && length.is_multiple_of(SECTOR);
        if fits { Ok(offset) } else { Err(status::IO_ERROR) }
    }

    fn read(
        &mut self,
        memory: &Memory,
        chain: &mut Chain,
        sector: u64,
        disk: &mut impl FnMut(Order<'_>) -> Result<(), Refused>,
    ) -> Judged {
        let length = chain.writable() - 1;
        if length > DATA_LIMIT {
            return Err(status::IO_ERROR);
        }
        let offset = self.place(sector, length as u64)?;
        for (start, length) in pieces(offset, length) {
            self.piece.resize(length, 0);
            disk(Order::Read(start, &mut self.piece))?;
            chain.write(memory, &self.piece);
        }
        Ok(())
    }

    fn write(
        &mut self,
        memory: &Memory,
        chain: &mut Chain,
        sector: u64,
        disk: &mut impl FnMut(Order<'_>) -> Result<(), Refused>,
    ) -> Judged {
        let length = chain.readable();
        let offset = self.place(sector, length as u64)?;
        if self.shape.read_only {
            return Err(status::IO_ERROR);
        }
        for (start, length) in pieces(offset, length) {
            self.piece.resize(length, 0);
            if chain.read(memory, &mut self.piece) < length {
                return Err(status::IO_ERROR);
            }
            disk(Order::Write(start, &self.piece))?;
        }
        self.settle(disk)
    }

    fn discard(
        &mut self,
        memory: &Memory,
        chain: &mut Chain,
        disk: &mut impl FnMut(Order<'_>) -> Result<(), Refused>,
    ) -> Judged {
        for (offset, length, flags) in self.ranges(memory, chain, DISCARD_RANGES, DISCARD_BYTES)? {
            // 5.2.6.2: what is discarded is unmapped already.
            if flags != 0 {
                return Err(status::UNSUPPORTED);
            }
            disk(Order::Discard(offset, length))?;
        }
        self.settle(disk)
    }

    fn zero(
        &mut self,
        memory: &Memory,
        chain: &mut Chain,
        disk: &mut impl FnMut(Order<'_>) -> Result<(), Refused>,
    ) -> Judged {
        for (offset, length, flags) in self.ranges(memory, chain, ZERO_RANGES, ZERO_BYTES)? {
            disk(Order::Zero(offset, length, flags & UNMAP != 0))?;
        }
        self.settle(disk)
    }

    /// The ranges of a request, as offset, length and flags; none is believed if one is wrong.
    fn ranges(
        &self,
        memory: &Memory,
        chain: &mut Chain,
        most: usize,
        most_bytes: u64,
    ) -> Result<Vec<(u64, u64, u32)>, u8> {
        let length = chain.readable();
        if length == 0 || !length.is_multiple_of(RANGE) || length / RANGE > most {
            return Err(status::IO_ERROR);
        }
        let mut bytes = Vec::new();
        chain.read_all(memory, &mut bytes);
        let range = |bytes: &[u8]| {
            let (sector, sectors, flags) = (double(bytes, 0), word(bytes, 8), word(bytes, 12));
            if flags & !UNMAP != 0 {
                return Err(status::UNSUPPORTED);
            }
            let length = u64::from(sectors) * SECTOR;
            let offset = self.place(sector, length)?;
            if length > most_bytes { Err(status::IO_ERROR) } else { Ok((offset, length, flags)) }
        };
        bytes.chunks_exact(RANGE).map(range).collect()
    }

    /// A driver that did not take FLUSH believes that what was written is there for good (5.2.5).
    fn settle(&self, disk: &mut impl FnMut(Order<'_>) -> Result<(), Refused>) -> Judged {
        if !self.has(feature::FLUSH) {
            disk(Order::Flush)?;
        }
        Ok(())
    }
}

/// A range cut at multiples of [`PIECE`], so that no cluster is cut.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize)> {
    let end = offset + length as u64;
    let mut next = offset;
    std::iter::from_fn(move || {
        let start = next;
        next = end.min((start / PIECE + 1) * PIECE);
        (start < end).then(|| (start, (next - start) as usize))
    })
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn double(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests;
