//! The driver's side of a queue, for tests: a friendly one that builds
//! well-formed chains, and a hostile one that writes what it is told.

use std::collections::HashMap;

use bolero::TypeGenerator;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueState};
use vm_memory::{Bytes, GuestAddress};

use crate::Memory;

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// Bytes of guest memory for one queue and its buffers.
const SPAN: u64 = 0x40_0000;

/// Guest memory with room for three queues.
pub(crate) fn memory() -> Memory {
    Memory::from_ranges(&[(GuestAddress(0), 3 * SPAN as usize)]).unwrap()
}

/// A driver that owns one queue.
pub(crate) struct Driver {
    pub(crate) memory: Memory,
    base: u64,
    pub(crate) size: u16,
    event_idx: bool,
    pub(crate) available: u16,
    next_used: u16,
    next_descriptor: u16,
    next_buffer: u64,
    /// Device-writable buffers by head.
    writable: HashMap<u16, Vec<(u64, u32)>>,
}

impl Driver {
    /// The driver of queue `index` of a device.
    pub(crate) fn new(memory: &Memory, index: u64, size: u16) -> Driver {
        Driver {
            memory: memory.clone(),
            base: index * SPAN,
            size,
            event_idx: false,
            available: 0,
            next_used: 0,
            next_descriptor: 0,
            next_buffer: index * SPAN + 0x1_0000,
            writable: HashMap::new(),
        }
    }

    pub(crate) fn with_event_idx(self) -> Driver {
        Driver { event_idx: true, ..self }
    }

    pub(crate) fn descriptors(&self) -> u64 {
        self.base + 0x1000
    }

    pub(crate) fn available_ring(&self) -> u64 {
        self.base + 0x4000
    }

    pub(crate) fn used_ring(&self) -> u64 {
        self.base + 0x6000
    }

    pub(crate) fn queue(&self) -> Queue {
        let state = QueueState {
            max_size: self.size,
            next_avail: 0,
            next_used: 0,
            event_idx_enabled: self.event_idx,
            size: self.size,
            ready: true,
            desc_table: self.descriptors(),
            avail_ring: self.available_ring(),
            used_ring: self.used_ring(),
        };
        Queue::try_from(state).unwrap()
    }

    pub(crate) fn put<T: vm_memory::ByteValued>(&self, value: T, address: u64) {
        self.memory.write_obj(value, GuestAddress(address)).unwrap();
    }

    pub(crate) fn word(&self, address: u64) -> u16 {
        self.memory.read_obj(GuestAddress(address)).unwrap()
    }

    /// Writes descriptor `index` of the queue's own table.
    pub(crate) fn describe(&self, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let place = self.descriptors() + 16 * u64::from(index);
        self.put(Descriptor::new(address, length, flags, next), place);
    }

    /// Makes the queue what it was before its first chain.
    pub(crate) fn clear(&self) {
        let parts = vec![0; 0x8000];
        self.memory.write_slice(&parts, GuestAddress(self.base)).unwrap();
    }

    /// Makes the chain at `head` available.
    pub(crate) fn offer(&mut self, head: u16) {
        let slot = u64::from(self.available % self.size);
        self.put(head, self.available_ring() + 4 + 2 * slot);
        self.available = self.available.wrapping_add(1);
        self.put(self.available, self.available_ring() + 2);
    }

    fn buffer(&mut self, length: u32) -> u64 {
        let (end, start) = (self.base + SPAN, self.base + 0x1_0000);
        if self.next_buffer + u64::from(length) > end {
            self.next_buffer = start;
        }
        let address = self.next_buffer;
        self.next_buffer += u64::from(length);
        address
    }

    /// Makes a chain of these buffers available and returns its head.
    pub(crate) fn send(&mut self, readable: &[&[u8]], writable: &[u32]) -> u16 {
        let mut parts = Vec::new();
        for bytes in readable {
            let address = self.buffer(bytes.len() as u32);
            self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
            parts.push((address, bytes.len() as u32, 0));
        }
        for &length in writable {
            parts.push((self.buffer(length), length, WRITE));
        }
        let head = self.next_descriptor;
        for (at, &(address, length, flags)) in parts.iter().enumerate() {
            let index = self.next_descriptor;
            self.next_descriptor = (index + 1) % self.size;
            let more = if at + 1 < parts.len() { NEXT } else { 0 };
            self.describe(index, address, length, flags | more, self.next_descriptor);
        }
        let written = parts.iter().filter(|part| part.2 == WRITE);
        self.writable.insert(head, written.map(|part| (part.0, part.1)).collect());
        self.offer(head);
        head
    }

    /// The index the device has given back up to.
    pub(crate) fn used(&self) -> u16 {
        self.word(self.used_ring() + 2)
    }

    /// The next chain given back: its head, and what was written into it.
    pub(crate) fn take(&mut self) -> Option<(u16, Vec<u8>)> {
        if self.used() == self.next_used {
            return None;
        }
        let slot = u64::from(self.next_used % self.size);
        self.next_used = self.next_used.wrapping_add(1);
        let entry: [u32; 2] =
            self.memory.read_obj(GuestAddress(self.used_ring() + 4 + 8 * slot)).unwrap();
        let head = entry[0] as u16;
        let mut bytes = Vec::new();
        for &(address, length) in &self.writable[&head] {
            let mut part = vec![0; (length as usize).min(entry[1] as usize - bytes.len())];
            self.memory.read_slice(&mut part, GuestAddress(address)).unwrap();
            bytes.extend(part);
        }
        Some((head, bytes))
    }

    /// The last byte the chain at `head` has room for, whatever the device counts as written.
    pub(crate) fn last_byte(&self, head: u16) -> u8 {
        let &(address, length) = self.writable[&head].last().unwrap();
        self.memory.read_obj(GuestAddress(address + u64::from(length) - 1)).unwrap()
    }

    /// Where the driver wants its next notification (EVENT_IDX).
    pub(crate) fn want_notification_after(&self, used: u16) {
        self.put(used, self.available_ring() + 4 + 2 * u64::from(self.size));
    }

    /// Where the device wants its next notification (EVENT_IDX).
    pub(crate) fn device_wants_kick_after(&self) -> u16 {
        self.word(self.used_ring() + 4 + 8 * u64::from(self.size))
    }
}

/// What a hostile driver writes into one queue, arbitrary but for a bias
/// towards values that lead somewhere.
#[derive(Clone, Debug, TypeGenerator)]
pub(crate) struct Chaos {
    descriptors: Vec<(u32, u32, u16, u16)>,
    heads: Vec<u16>,
    step: u16,
    /// Bytes in the buffers.
    pub(crate) bytes: Vec<u8>,
    wild: u8,
}

impl Driver {
    /// Writes `chaos` into the rings, tables and buffers. The buffers overlap each other,
    /// and the rings now and then.
    pub(crate) fn scribble(&mut self, chaos: &Chaos) {
        let buffers = self.base + 0x1_0000;
        self.memory.write_slice(&chaos.bytes, GuestAddress(buffers)).unwrap();
        for (at, &(address, length, flags, next)) in chaos.descriptors.iter().enumerate() {
            let index = at as u16 % self.size;
            let address = match address % 32 {
                0 => u64::from(address) << 32 | u64::from(address),
                1 => self.base + u64::from(address % 0x8000),
                2 => self.descriptors() & !0xf,
                _ => buffers + u64::from(address >> 3) % 256,
            };
            let length = match length % 32 {
                0 => length << 8 | length,
                1 => 0,
                2 => 16 * (length >> 8 & 0xf),
                _ => length >> 3 & 0x3ff,
            };
            // Indirect tables are rare, so that chains end in other ways too.
            // Of the others most are in order: the first half is readable.
            let writable = if index < self.size / 2 { 0 } else { WRITE };
            let flags = match flags >> 8 & 0x1f {
                0 => flags & 7,
                1..8 => flags & 3,
                _ => flags & NEXT | writable,
            };
            let next = if next % 16 == 0 { next } else { (index + 1) % self.size };
            self.describe(index, address, length, flags, next);
        }
        for (at, &head) in chaos.heads.iter().enumerate() {
            let slot = at as u64 % u64::from(self.size);
            let head = if head % 16 == 0 { head } else { head % self.size };
            self.put(head, self.available_ring() + 4 + 2 * slot);
        }
        let step =
            if chaos.wild.is_multiple_of(8) { chaos.step } else { chaos.step % (self.size + 1) };
        self.available = self.available.wrapping_add(step);
        self.put(self.available, self.available_ring() + 2);
    }
}
