//! A disk, as programs have it: ranges of bytes over the requests of virtio-blk (virtio 1.2 5.2.6).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt;
use core::future::poll_fn;
use core::task::{Poll, Waker};

use crate::hardware::Blocks;

/// Most bytes of one read or write: with its header less than the device takes in one buffer.
pub const MAX_IO: usize = 32 * 1024;

/// Longest request: a write with its header.
pub const MAX_REQUEST: usize = HEADER + MAX_IO;

/// Longest reply: a read with its status.
pub const MAX_REPLY: usize = MAX_IO + 1;

/// Bytes of a sector, of which the device's numbers are.
pub const SECTOR: u64 = 512;

/// What a reply's last byte is until the device writes its status there.
pub const UNANSWERED: u8 = 0xff;

const HEADER: usize = 16;

/// Types of requests.
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

/// Features of the device, as bits (virtio 1.2 5.2.3).
const HAS_FLUSH: u32 = 1 << 9;
const HAS_DISCARD: u32 = 1 << 13;
const HAS_ZEROES: u32 = 1 << 14;

/// What a disk is and does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Bytes, whole sectors.
    pub size: u64,
    /// The features that were agreed on.
    pub features: u32,
    /// Most sectors in one request to discard, and in one to write zeros.
    pub most_discarded: u32,
    /// See above.
    pub most_zeroed: u32,
}

impl Shape {
    /// Those of the features the device offers that are used here.
    pub fn accept(offered: u32) -> u32 {
        offered & (HAS_FLUSH | HAS_DISCARD | HAS_ZEROES)
    }
}

/// Why a disk did not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// The range is not on the disk, or not of whole sectors.
    Range,
    /// The device cannot do it at all.
    Unsupported,
    /// The device tried, or did not even.
    Io,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failed::Range => "no such sectors on this disk",
            Failed::Unsupported => "this disk cannot do that",
            Failed::Io => "the disk reports an error",
        })
    }
}

/// One disk.
pub struct Disk {
    shape: Shape,
    state: RefCell<State>,
}

/// Every disk of the machine, in order.
pub type Disks = Rc<RefCell<Vec<Rc<Disk>>>>;

#[derive(Default)]
struct State {
    next: u64,
    /// Not yet taken by the device: the number here, the request, and how long its reply is.
    outbox: VecDeque<(u64, Vec<u8>, usize)>,
    /// By the device's number.
    in_flight: BTreeMap<u16, u64>,
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Default)]
struct Waiting {
    reply: Option<Vec<u8>>,
    waker: Option<Waker>,
}

impl Disk {
    /// The disk behind a device.
    pub fn new(shape: Shape) -> Disk {
        Disk { shape, state: RefCell::default() }
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.shape.size
    }

    /// Appends `length` bytes from `offset` on, at most [`MAX_IO`], to `out`.
    ///
    /// # Errors
    /// They are not there, or the device failed.
    pub async fn read(&self, offset: u64, length: usize, out: &mut Vec<u8>) -> Result<(), Failed> {
        let sector = self.sector(offset, length as u64)?;
        let reply = self.call(IN, sector, &[], length).await?;
        out.extend_from_slice(&reply);
        Ok(())
    }

    /// Writes `bytes`, at most [`MAX_IO`], from `offset` on; for good after [`Disk::flush`].
    ///
    /// # Errors
    /// There is no place for them, or the device failed.
    pub async fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Failed> {
        let sector = self.sector(offset, bytes.len() as u64)?;
        self.call(OUT, sector, bytes, 0).await.map(drop)
    }

    /// Makes a range of any length read as zeros and gives its space back.
    ///
    /// # Errors
    /// As for writing; then a part of it may have been.
    pub async fn discard(&self, offset: u64, length: u64) -> Result<(), Failed> {
        self.clear(DISCARD, self.shape.most_discarded, offset, length).await
    }

    /// Makes a range of any length read as zeros.
    ///
    /// # Errors
    /// As for writing; then a part of it may have been.
    pub async fn zero(&self, offset: u64, length: u64) -> Result<(), Failed> {
        self.clear(WRITE_ZEROES, self.shape.most_zeroed, offset, length).await
    }

    /// What was written survives a power cut after this.
    ///
    /// # Errors
    /// It may not.
    pub async fn flush(&self) -> Result<(), Failed> {
        // A device without the feature keeps everything at once.
        match self.shape.features & HAS_FLUSH {
            0 => Ok(()),
            _ => self.call(FLUSH, 0, &[], 0).await.map(drop),
        }
    }

    async fn clear(&self, kind: u32, most: u32, offset: u64, length: u64) -> Result<(), Failed> {
        let needed = if kind == DISCARD { HAS_DISCARD } else { HAS_ZEROES };
        if self.shape.features & needed == 0 || most == 0 {
            return Err(Failed::Unsupported);
        }
        let mut sector = self.sector(offset, length)?;
        let mut left = length / SECTOR;
        while left > 0 {
            let count = left.min(most.into());
            let mut range = Vec::new();
            range.extend_from_slice(&sector.to_le_bytes());
            // At most `most`, which is one word; no flags.
            range.extend_from_slice(&count.to_le_bytes());
            self.call(kind, 0, &range, 0).await?;
            (sector, left) = (sector + count, left - count);
        }
        Ok(())
    }

    fn sector(&self, offset: u64, length: u64) -> Result<u64, Failed> {
        let end = offset.checked_add(length).ok_or(Failed::Range)?;
        let is_whole = offset.is_multiple_of(SECTOR) && length.is_multiple_of(SECTOR);
        if is_whole && end <= self.shape.size { Ok(offset / SECTOR) } else { Err(Failed::Range) }
    }

    /// Sends a request and waits for its reply, which has `length` bytes before its status.
    async fn call(
        &self,
        kind: u32,
        sector: u64,
        data: &[u8],
        length: usize,
    ) -> Result<Vec<u8>, Failed> {
        let mut request = Vec::with_capacity(HEADER + data.len());
        request.extend_from_slice(&kind.to_le_bytes());
        request.extend_from_slice(&[0; 4]);
        request.extend_from_slice(&sector.to_le_bytes());
        request.extend_from_slice(data);
        let number = {
            let mut state = self.state.borrow_mut();
            state.next += 1;
            let number = state.next;
            state.outbox.push_back((number, request, length + 1));
            state.waiting.insert(number, Waiting::default());
            number
        };
        let _patience = Patience { disk: self, number };
        let mut reply = poll_fn(|cx| {
            let mut state = self.state.borrow_mut();
            let waiting = state.waiting.get_mut(&number).expect("`Patience` keeps it");
            match waiting.reply.take() {
                Some(reply) => Poll::Ready(reply),
                None => {
                    waiting.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        match reply.pop() {
            Some(0) if reply.len() == length => Ok(reply),
            Some(2) => Err(Failed::Unsupported),
            _ => Err(Failed::Io),
        }
    }

    /// Takes replies from the device; whether there were any.
    pub fn ingress(&self, device: &mut dyn Blocks) -> bool {
        let state = &mut *self.state.borrow_mut();
        let mut any = false;
        while device.complete(&mut |number, reply| {
            let number = state.in_flight.remove(&number);
            if let Some(waiting) = number.and_then(|number| state.waiting.get_mut(&number)) {
                waiting.reply = Some(reply.to_vec());
                if let Some(waker) = waiting.waker.take() {
                    waker.wake();
                }
            }
        }) {
            any = true;
        }
        any
    }

    /// Gives requests to the device.
    pub fn egress(&self, device: &mut dyn Blocks) {
        let state = &mut *self.state.borrow_mut();
        while let Some((number, request, reply)) = state.outbox.front() {
            let Some(given) = device.submit(request, *reply) else { return };
            state.in_flight.insert(given, *number);
            state.outbox.pop_front();
        }
    }
}

/// Forgets who waits when it is dropped; the reply is then nobody's.
struct Patience<'a> {
    disk: &'a Disk,
    number: u64,
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        self.disk.state.borrow_mut().waiting.remove(&self.number);
    }
}
