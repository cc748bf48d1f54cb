//! A send queue: many short buffers and, where packets may be long, a few long ones.

use alloc::vec::Vec;

use super::{Buffers, Rings};
use crate::mmio::{Device, Doorbell};

/// A queue whose buffers the device reads.
#[derive(Debug)]
pub struct SendQueue {
    rings: Rings,
    /// The buffers of the first descriptors, and of those behind them.
    short: Kept,
    long: Kept,
    doorbell: Doorbell,
}

/// The buffers of one length and which of them are free, by descriptor.
#[derive(Debug)]
struct Kept {
    buffers: Option<Buffers>,
    /// The first buffer's descriptor.
    first: u16,
    count: usize,
    /// Last in, first out: few buffers stay in the cache, and most pages are never touched.
    free: Vec<u16>,
}

impl Kept {
    fn new(first: u16, count: u16, bytes: usize) -> Kept {
        let buffers = (count > 0).then(|| Buffers::new(count.into(), bytes));
        let free = (first..first + count).rev().collect();
        Kept { buffers, first, count: count.into(), free }
    }

    fn is_short_of(&self) -> bool {
        self.free.len() <= self.count / 2
    }

    /// Whether there are such buffers and none is free.
    fn is_empty(&self) -> bool {
        self.count > 0 && self.free.is_empty()
    }

    fn bytes(&self) -> usize {
        self.buffers.as_ref().map_or(0, Buffers::size)
    }
}

impl SendQueue {
    /// Queue `index` of `device`, with `size` buffers (a power of two) of `bytes` each.
    pub fn new(device: &mut Device, index: u16, size: u16, bytes: usize) -> SendQueue {
        SendQueue::with_long(device, index, size, bytes, 0, 0)
    }

    /// As [`SendQueue::new`], but `long` of the `size` buffers are of `long_bytes` each.
    pub fn with_long(
        device: &mut Device,
        index: u16,
        size: u16,
        bytes: usize,
        long: u16,
        long_bytes: usize,
    ) -> SendQueue {
        let rings = Rings::new(size);
        let doorbell = device.enable(index, &rings);
        SendQueue::over(rings, doorbell, bytes, (long, long_bytes))
    }

    pub(super) fn over(
        rings: Rings,
        doorbell: Doorbell,
        bytes: usize,
        (long, long_bytes): (u16, usize),
    ) -> SendQueue {
        assert!(long < rings.size(), "some buffers are short");
        let short = Kept::new(0, rings.size() - long, bytes);
        let long = Kept::new(rings.size() - long, long, long_bytes);
        SendQueue { rings, short, long, doorbell }
    }

    /// A free buffer for a short packet, or `None` while the device has them all.
    pub fn slot(&mut self) -> Option<Slot<'_>> {
        self.collect();
        let id = self.short.free.pop()?;
        Some(Slot { queue: self, id })
    }

    /// A free buffer for a packet of any length.
    pub fn roomy_slot(&mut self) -> Option<Slot<'_>> {
        self.collect();
        if self.long.is_empty() {
            return None;
        }
        let id = self.short.free.pop()?;
        Some(Slot { queue: self, id })
    }

    /// Takes back what the device has read.
    fn collect(&mut self) {
        // Looking costs a cache line the device writes: only when it may be needed.
        if self.short.is_short_of() || (self.long.count > 0 && self.long.is_short_of()) {
            while let Some((id, _)) = self.rings.take_used() {
                let kept = if id < self.long.first { &mut self.short } else { &mut self.long };
                // A device that gives a buffer back twice must not make the list grow.
                if kept.free.len() < kept.count {
                    kept.free.push(id);
                }
            }
        }
    }

    /// If all buffers of a length are the device's: asks to be notified of the next it
    /// gives back; true if there is one already.
    pub fn arm(&mut self) -> bool {
        (self.short.is_empty() || self.long.is_empty()) && self.rings.arm()
    }

    /// Whether the device still has every buffer of a length; reads shared memory only.
    pub fn full(&self) -> bool {
        (self.short.is_empty() || self.long.is_empty()) && !self.rings.pending()
    }

    /// Notifies the device of what was sent, if it asked for that; whether it did.
    pub fn kick(&mut self) -> bool {
        self.rings.kick(&self.doorbell)
    }

    #[cfg(test)]
    pub(super) fn rings(&self) -> &Rings {
        &self.rings
    }
}

/// A free buffer of a [`SendQueue`]; dropped unsent, it stays free.
#[derive(Debug)]
pub struct Slot<'a> {
    queue: &'a mut SendQueue,
    id: u16,
}

impl Slot<'_> {
    /// Bytes of the longest packet that can be sent now.
    pub fn longest(&self) -> usize {
        let long = if self.queue.long.is_empty() { 0 } else { self.queue.long.bytes() };
        self.queue.short.bytes().max(long)
    }

    /// Sends what `fill` writes into the first `length` bytes, all of which it must
    /// write: they hold what was sent before.
    ///
    /// # Panics
    /// If `length` is more than [`Slot::longest`].
    pub fn send<R>(self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let SendQueue { rings, short, long, .. } = &mut *self.queue;
        let (kept, id) = if length <= short.bytes() {
            (short, self.id)
        } else {
            let id = long.free.pop().expect("callers send at most the longest");
            short.free.push(self.id);
            (long, id)
        };
        let buffers = kept.buffers.as_mut().expect("a free buffer is one of some");
        let answer = fill(&mut buffers.bytes_mut(id - kept.first)[..length]);
        rings.describe_readable(id, buffers.address(id - kept.first), length, None);
        rings.offer(id);
        // It is the device's now.
        core::mem::forget(self);
        answer
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.queue.short.free.push(self.id);
    }
}
