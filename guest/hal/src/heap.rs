//! The guest's heap: all memory after the image.

use core::alloc::{GlobalAlloc, Layout};

use talc::TalcCell;
use talc::source::Manual;

/// The global allocator; empty until [`Heap::claim`].
pub struct Heap {
    talc: TalcCell<Manual>,
}

// SAFETY: the guest has one CPU and no interrupts; nothing runs beside or inside an allocation.
unsafe impl Sync for Heap {}

impl Heap {
    /// A heap without memory.
    pub const fn new() -> Heap {
        Heap { talc: TalcCell::new(Manual) }
    }

    /// Makes the memory from `start` to `end` the heap. Pages are touched only when they are used.
    ///
    /// # Safety
    /// The memory is mapped, writable and used by nobody else, ever.
    pub unsafe fn claim(&self, start: *mut u8, bytes: usize) {
        // SAFETY: the caller's promise.
        let claimed = unsafe { self.talc.claim(start, bytes) };
        assert!(claimed.is_some(), "the memory after the image holds a heap");
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.talc.counters().allocated_bytes
    }
}

impl Default for Heap {
    fn default() -> Heap {
        Heap::new()
    }
}

// SAFETY: every call is passed on unchanged to an allocator that keeps the promises.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.talc.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.talc.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.talc.realloc(pointer, layout, new_size) }
    }
}
