//! A receive queue whose packets may span several buffers (virtio 1.2 5.1.6.4).

use alloc::vec::Vec;
use core::ops::Deref;

use super::{Buffers, Rings};
use crate::mmio::{Device, Doorbell};

/// A queue whose buffers the device fills, one or several for each packet.
///
/// Buffers lie end to end and go back in the order they came, so a packet in
/// several is one run of bytes, unless it wraps around; then it is copied together.
#[derive(Debug)]
pub struct MergeQueue {
    rings: Rings,
    buffers: Buffers,
    doorbell: Doorbell,
    /// Bytes of the longest packet.
    longest: usize,
    /// Buffers of the packet at hand, with what was written to each.
    parts: Vec<(u16, usize)>,
    /// A packet copied together; empty until there is one.
    copy: Vec<u8>,
    malformed: u64,
}

impl MergeQueue {
    /// Queue `index` of `device`, with `size` buffers (a power of two) of `bytes` each, all
    /// offered, for packets of at most `longest` bytes.
    pub fn new(
        device: &mut Device,
        index: u16,
        size: u16,
        bytes: usize,
        longest: usize,
    ) -> MergeQueue {
        let rings = Rings::new(size);
        let doorbell = device.enable(index, &rings);
        MergeQueue::over(rings, doorbell, bytes, longest)
    }

    pub(super) fn over(
        mut rings: Rings,
        doorbell: Doorbell,
        bytes: usize,
        longest: usize,
    ) -> MergeQueue {
        let buffers = Buffers::new(usize::from(rings.size()), bytes);
        for id in 0..rings.size() {
            rings.describe_writable(id, buffers.address(id), bytes);
            rings.offer(id);
        }
        let parts = Vec::with_capacity(longest.div_ceil(bytes));
        MergeQueue { rings, buffers, doorbell, longest, parts, copy: Vec::new(), malformed: 0 }
    }

    /// The next packet; `count` reads from its first buffer how many it spans.
    ///
    /// A packet whose count is a lie is given back and counted.
    pub fn receive(&mut self, count: impl Fn(&[u8]) -> usize) -> Option<Merged<'_>> {
        // At most one turn of the ring: a device that fills it with lies is left for later.
        for _ in 0..self.rings.size() {
            let (first, written) = self.rings.take_used()?;
            let written = written.min(self.buffers.size());
            self.parts.clear();
            self.parts.push((first, written));
            let count = count(self.buffers.bytes(first, written));
            if let Some(place) = self.gather(count) {
                return Some(Merged { queue: self, place });
            }
            self.malformed += 1;
            self.give_back();
        }
        None
    }

    /// Takes the other buffers of a packet that spans `count`; `None` if it cannot.
    fn gather(&mut self, count: usize) -> Option<Place> {
        if count == 0 || count > self.longest.div_ceil(self.buffers.size()) {
            return None;
        }
        let (first, mut length) = self.parts[0];
        let mut in_a_row = self.buffers.are_gapless();
        for _ in 1..count {
            let (last, filled) = self.parts[self.parts.len() - 1];
            // All of a packet's buffers are used at once (virtio 1.2 5.1.6.4.2).
            let (id, written) = self.rings.take_used()?;
            let written = written.min(self.buffers.size());
            in_a_row &= filled == self.buffers.size() && id == last + 1;
            length += written;
            self.parts.push((id, written));
        }
        if length > self.longest {
            return None;
        }
        if count == 1 || in_a_row {
            return Some(Place::Run { first, length });
        }
        self.copy.clear();
        // Once, the first time: not a page is touched before.
        self.copy.reserve_exact(self.longest);
        for (id, written) in &self.parts {
            self.copy.extend_from_slice(self.buffers.bytes(*id, *written));
        }
        Some(Place::Copy)
    }

    fn give_back(&mut self) {
        for (id, _) in self.parts.drain(..) {
            self.rings.offer(id);
        }
    }

    /// Packets so far whose count of buffers was a lie.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Whether the device has filled a buffer. Reads shared memory only.
    pub fn pending(&self) -> bool {
        self.rings.pending()
    }

    /// Asks to be notified of the next filled buffer; true if there is one already.
    pub fn arm(&mut self) -> bool {
        self.rings.arm()
    }

    /// Notifies the device of buffers given back, if it asked for that; whether it did.
    pub fn kick(&mut self) -> bool {
        self.rings.kick(&self.doorbell)
    }

    #[cfg(test)]
    pub(super) fn rings(&self) -> &Rings {
        &self.rings
    }
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Run { first: u16, length: usize },
    Copy,
}

/// A whole packet; dropping it offers its buffers to the device again.
#[derive(Debug)]
pub struct Merged<'a> {
    queue: &'a mut MergeQueue,
    place: Place,
}

impl Deref for Merged<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self.place {
            Place::Run { first, length } => self.queue.buffers.run(first, length),
            Place::Copy => &self.queue.copy,
        }
    }
}

impl Drop for Merged<'_> {
    fn drop(&mut self) {
        self.queue.give_back();
    }
}
