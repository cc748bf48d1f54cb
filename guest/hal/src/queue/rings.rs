//! The three rings in shared memory, and the buffers they point to.

use alloc::alloc::{Layout, alloc, alloc_zeroed, handle_alloc_error};
use core::arch::asm;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU16, Ordering, fence};

use crate::mmio::Doorbell;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// Bytes of a descriptor (virtio 1.2 2.7.5) and of a used element (2.7.8).
const DESCRIPTOR: usize = 16;
const USED_ELEMENT: usize = 8;

/// A split virtqueue's descriptor table, available and used ring, and how far we are.
#[derive(Debug)]
pub(crate) struct Rings {
    size: u16,
    table: NonNull<u8>,
    available: NonNull<u8>,
    used: NonNull<u8>,
    /// Available index, as published.
    offered: u16,
    /// Available index at the last decision whether to notify.
    kicked: u16,
    /// Used index up to which elements are taken.
    taken: u16,
}

impl Rings {
    /// Rings of `size` descriptors, a power of two of at least 2.
    pub(crate) fn new(size: u16) -> Rings {
        assert!(size >= 2 && size.is_power_of_two(), "a split queue's size is a power of two");
        let count = usize::from(size);
        // The used ring, which the device writes, on a cache line of its own.
        let available_at = count * DESCRIPTOR;
        let used_at = (available_at + 6 + 2 * count).next_multiple_of(64);
        let bytes = used_at + 6 + USED_ELEMENT * count;
        let block = allocate(bytes, 64, true);
        // SAFETY: the offset lies within the block.
        let available = unsafe { block.add(available_at) };
        // SAFETY: as above.
        let used = unsafe { block.add(used_at) };
        Rings { size, table: block, available, used, offered: 0, kicked: 0, taken: 0 }
    }

    pub(crate) fn size(&self) -> u16 {
        self.size
    }

    /// Where the descriptor table, the available and the used ring are.
    pub(crate) fn addresses(&self) -> [usize; 3] {
        [self.table, self.available, self.used].map(|part| part.as_ptr() as usize)
    }

    pub(super) fn describe_writable(&mut self, id: u16, address: usize, length: usize) {
        self.describe(id, address, length, WRITE, 0);
    }

    pub(super) fn describe_readable(
        &mut self,
        id: u16,
        address: usize,
        length: usize,
        then: Option<u16>,
    ) {
        let flags = if then.is_some() { NEXT } else { 0 };
        self.describe(id, address, length, flags, then.unwrap_or(0));
    }

    fn describe(&mut self, id: u16, address: usize, length: usize, flags: u16, next: u16) {
        assert!(id < self.size, "descriptors are numbered below the queue's size");
        let words =
            [address as u64, length as u64 | u64::from(flags) << 32 | u64::from(next) << 48];
        // SAFETY: descriptor `id` lies within the table, which is aligned for it.
        let descriptor = unsafe { self.table.add(usize::from(id) * DESCRIPTOR) }.cast::<[u64; 2]>();
        // SAFETY: the device reads a descriptor only between `offer` and its use.
        unsafe { descriptor.write_volatile(words) };
    }

    /// Gives the chain that begins at `id` to the device.
    pub(super) fn offer(&mut self, id: u16) {
        let at = 2 + usize::from(self.offered & (self.size - 1));
        self.available_word(at).store(id, Ordering::Relaxed);
        self.offered = self.offered.wrapping_add(1);
        // Descriptors and entry are there before the index says so (virtio 1.2 2.7.13.3).
        self.available_word(1).store(self.offered, Ordering::Release);
    }

    /// Whether the device has used a chain that is not taken yet.
    #[inline]
    pub(super) fn pending(&self) -> bool {
        self.used_index() != self.taken
    }

    /// The next used chain's first descriptor, and how many bytes the device says it wrote.
    #[inline]
    pub(super) fn take_used(&mut self) -> Option<(u16, usize)> {
        if !self.pending() {
            return None;
        }
        let at = 4 + usize::from(self.taken & (self.size - 1)) * USED_ELEMENT;
        // SAFETY: element `taken mod size` lies within the used ring, which is aligned for it.
        let element = unsafe { self.used.add(at) }.cast::<[u32; 2]>();
        // SAFETY: the index told us that the device has written it.
        let [id, written] = unsafe { element.read_volatile() };
        self.taken = self.taken.wrapping_add(1);
        assert!(id < u32::from(self.size), "the device gives back what it was given");
        Some((id as u16, written as usize))
    }

    /// Asks for a notification of the next used chain; true if there is one already.
    ///
    /// Nothing takes the request back: once the used index has passed it, it is stale (2.7.7.2).
    pub(super) fn arm(&mut self) -> bool {
        self.available_word(2 + usize::from(self.size)).store(self.taken, Ordering::Relaxed);
        // The device writes its index, then reads ours; we the other way round.
        fence(Ordering::SeqCst);
        self.pending()
    }

    /// Notifies the device if it wants to know of what was offered since the last call.
    pub(super) fn kick(&mut self, doorbell: &Doorbell) -> bool {
        if self.kicked == self.offered {
            return false;
        }
        fence(Ordering::SeqCst);
        let event = self.used_word(2 + 4 * usize::from(self.size)).load(Ordering::Relaxed);
        let wanted = passed(event, self.kicked, self.offered);
        self.kicked = self.offered;
        if wanted {
            doorbell.ring();
        }
        wanted
    }

    #[inline]
    fn used_index(&self) -> u16 {
        self.used_word(1).load(Ordering::Acquire)
    }

    /// The 16-bit word `at` of the available ring: flags, index, entries, used_event.
    fn available_word(&self, at: usize) -> &AtomicU16 {
        debug_assert!(at < 3 + usize::from(self.size));
        // SAFETY: callers stay within the ring's `3 + size` words.
        let word = unsafe { self.available.cast::<u16>().add(at) };
        // SAFETY: aligned, lives as long as the queue, and is only used atomically.
        unsafe { AtomicU16::from_ptr(word.as_ptr()) }
    }

    /// The 16-bit word `at` of the used ring: flags, index, elements of four words, avail_event.
    #[inline]
    fn used_word(&self, at: usize) -> &AtomicU16 {
        debug_assert!(at < 3 + 4 * usize::from(self.size));
        // SAFETY: callers stay within the ring's `3 + 4 * size` words.
        let word = unsafe { self.used.cast::<u16>().add(at) };
        // SAFETY: aligned, lives as long as the queue, and is only used atomically.
        unsafe { AtomicU16::from_ptr(word.as_ptr()) }
    }
}

/// Whether an index that went from `old` to `new` passed `event` (virtio 1.2 2.7.7.1).
fn passed(event: u16, old: u16, new: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

/// One buffer for each of a queue's descriptors. Pages are touched when they are used.
#[derive(Debug)]
pub(super) struct Buffers {
    first: NonNull<u8>,
    count: usize,
    stride: usize,
    bytes: usize,
}

impl Buffers {
    pub(super) fn new(count: usize, bytes: usize) -> Buffers {
        let stride = bytes.next_multiple_of(64);
        let first = allocate(count * stride, 4096, false);
        // SAFETY: changes nothing; the compiler must take the memory as written
        // by it, as it will be by a device, so that reading it is defined.
        unsafe { asm!("/* {} */", in(reg) first.as_ptr(), options(nostack)) };
        Buffers { first, count, stride, bytes }
    }

    fn start(&self, id: u16) -> NonNull<u8> {
        assert!(usize::from(id) < self.count, "there is a buffer for each descriptor");
        // SAFETY: within the allocation of `count * stride` bytes.
        unsafe { self.first.add(usize::from(id) * self.stride) }
    }

    /// Bytes of each buffer.
    pub(super) fn size(&self) -> usize {
        self.bytes
    }

    /// Whether the buffers lie end to end, so that several in a row are one run of bytes.
    pub(super) fn are_gapless(&self) -> bool {
        self.stride == self.bytes
    }

    /// `length` bytes from the start of buffer `id` on, over the buffers behind it.
    pub(super) fn run(&self, id: u16, length: usize) -> &[u8] {
        assert!(
            usize::from(id) * self.stride + length <= self.count * self.stride,
            "a run ends where the buffers do"
        );
        // SAFETY: within the allocation; the device does not own these buffers now, and `&self` keeps them ours.
        unsafe { core::slice::from_raw_parts(self.start(id).as_ptr(), length) }
    }

    pub(super) fn address(&self, id: u16) -> usize {
        self.start(id).as_ptr() as usize
    }

    /// The first `written` bytes of a buffer the device has given back, or all it has.
    pub(super) fn bytes(&self, id: u16, written: usize) -> &[u8] {
        // SAFETY: within the buffer, which the device does not own now, and `&self` keeps it ours.
        unsafe { core::slice::from_raw_parts(self.start(id).as_ptr(), written.min(self.bytes)) }
    }

    /// A buffer that is not the device's.
    pub(super) fn bytes_mut(&mut self, id: u16) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes it the only reference.
        unsafe { core::slice::from_raw_parts_mut(self.start(id).as_ptr(), self.bytes) }
    }
}

/// Memory for a device: never freed, as a device may use it as long as the machine runs.
fn allocate(bytes: usize, align: usize, zeroed: bool) -> NonNull<u8> {
    let layout = Layout::from_size_align(bytes, align).expect("queues are small");
    let block = if zeroed {
        // SAFETY: the size is not zero: every queue has at least two descriptors.
        unsafe { alloc_zeroed(layout) }
    } else {
        // SAFETY: as above.
        unsafe { alloc(layout) }
    };
    NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout))
}

#[cfg(test)]
impl Rings {
    /// What the device sees: the chain at `position` of the available ring, as (address, length, flags).
    pub(super) fn offered_chain(&self, position: u16) -> std::vec::Vec<(usize, usize, u16)> {
        let mut id =
            self.available_word(2 + usize::from(position % self.size)).load(Ordering::Acquire);
        let mut chain = std::vec::Vec::new();
        loop {
            // SAFETY: tests offer only descriptors of the table.
            let place = unsafe { self.table.add(usize::from(id) * DESCRIPTOR) }.cast::<[u64; 2]>();
            // SAFETY: as above.
            let [address, rest] = unsafe { place.read_volatile() };
            let flags = (rest >> 32) as u16;
            chain.push((address as usize, rest as u32 as usize, flags));
            if flags & NEXT == 0 {
                return chain;
            }
            id = (rest >> 48) as u16;
        }
    }

    pub(super) fn offered_index(&self) -> u16 {
        self.available_word(1).load(Ordering::Acquire)
    }

    pub(super) fn used_event(&self) -> u16 {
        self.available_word(2 + usize::from(self.size)).load(Ordering::Relaxed)
    }

    /// What the device does: use the chain at `position`, having written `written` bytes.
    pub(super) fn device_uses(&self, position: u16, written: u32) {
        let id = self.available_word(2 + usize::from(position % self.size)).load(Ordering::Acquire);
        let index = self.used_word(1).load(Ordering::Acquire);
        let at = 2 + 4 * usize::from(index % self.size);
        self.used_word(at).store(id, Ordering::Relaxed);
        self.used_word(at + 1).store(0, Ordering::Relaxed);
        self.used_word(at + 2).store(written as u16, Ordering::Relaxed);
        self.used_word(at + 3).store((written >> 16) as u16, Ordering::Relaxed);
        self.used_word(1).store(index.wrapping_add(1), Ordering::Release);
    }

    /// What the device does: ask to be notified when the available index passes `index`.
    pub(super) fn device_asks(&self, index: u16) {
        self.used_word(2 + 4 * usize::from(self.size)).store(index, Ordering::Relaxed);
    }
}
