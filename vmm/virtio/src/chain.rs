//! One descriptor chain: bounded, ordered, inside guest memory, and each byte
//! of it read or written at most once (virtio 1.2 2.7.4, 2.7.5).

use std::sync::atomic::Ordering;

use virtio_queue::desc::split::Descriptor;
use vm_memory::{Address, ByteValued, Bytes, GuestAddress, GuestMemoryBackend};

use crate::Memory;
use crate::ring::Broken;

/// Whether guest memory has these bytes, `bytes` not zero.
///
/// One region holds nearly every range: the iterator over several is the slow way.
pub(crate) fn is_inside(memory: &Memory, address: GuestAddress, bytes: usize) -> bool {
    memory.get_slice(address, bytes).is_ok()
        || GuestMemoryBackend::check_range(memory, address, bytes)
}

/// Loads a little-endian 16-bit word of a ring; `None` if it is not in memory or misaligned.
pub(crate) fn load_u16(memory: &Memory, address: GuestAddress, order: Ordering) -> Option<u16> {
    memory.get_slice(address, 2).ok()?.load::<u16>(0, order).ok().map(u16::from_le)
}

fn copy_in(memory: &Memory, buffer: &mut [u8], address: GuestAddress) -> Option<()> {
    match memory.get_slice(address, buffer.len()) {
        Ok(slice) => slice.copy_to(buffer),
        Err(_) => return memory.read_slice(buffer, address).ok(),
    };
    Some(())
}

fn copy_out(memory: &Memory, bytes: &[u8], address: GuestAddress) -> Option<()> {
    match memory.get_slice(address, bytes.len()) {
        Ok(slice) => slice.copy_from(bytes),
        Err(_) => return memory.write_slice(bytes, address).ok(),
    }
    Some(())
}

/// Bytes of one descriptor (virtio 1.2 2.7.5).
const DESCRIPTOR: u64 = 16;

/// A buffer of a chain, what is left of it. In guest memory when it was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    address: GuestAddress,
    length: u32,
}

/// A descriptor table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    /// Of the first descriptor.
    pub(crate) base: GuestAddress,
    pub(crate) entries: u32,
}

/// A chain taken from a [`crate::ring::Ring`], to be given back to the same ring.
///
/// Reading and writing go forward only: what was read is never looked at again.
#[derive(Debug)]
#[must_use = "every chain taken is given back"]
pub struct Chain {
    head: u16,
    /// Device-readable ones first, none of them empty.
    segments: Vec<Segment>,
    /// The segment with the next byte to read.
    read_at: usize,
    /// The first device-writable segment.
    writable_from: usize,
    /// The segment for the next byte to write.
    write_at: usize,
    /// Bytes left to read and to write.
    readable: u32,
    writable: u32,
    written: u32,
}

/// Follows the chain at `head` of `table`. Loads each descriptor once.
pub(crate) fn walk(
    memory: &Memory,
    table: Table,
    head: u16,
    readable_limit: u32,
    mut segments: Vec<Segment>,
) -> Result<Chain, Broken> {
    segments.clear();
    let mut chain = Chain {
        head,
        segments,
        read_at: 0,
        writable_from: 0,
        write_at: 0,
        readable: 0,
        writable: 0,
        written: 0,
    };
    // virtio 1.2 2.7.5.3.1: no chain, direct or indirect, is longer than the queue.
    let mut left = table.entries;
    let mut table = table;
    let mut indirect = false;
    let mut index = head;
    let mut writing = false;
    loop {
        if u32::from(index) >= table.entries {
            return Err(Broken::Index);
        }
        left = left.checked_sub(1).ok_or(Broken::Loop)?;
        let place = table.base.checked_add(DESCRIPTOR * u64::from(index)).ok_or(Broken::Address)?;
        let mut descriptor = Descriptor::default();
        copy_in(memory, descriptor.as_mut_slice(), place).ok_or(Broken::Address)?;
        if descriptor.refers_to_indirect_table() {
            if indirect {
                return Err(Broken::Indirect);
            }
            table = indirect_table(memory, &descriptor)?;
            indirect = true;
            index = 0;
            // The reference itself is not counted.
            left += 1;
            continue;
        }
        if descriptor.is_write_only() {
            if !writing {
                writing = true;
                chain.writable_from = chain.segments.len();
            }
        } else if writing {
            return Err(Broken::Misordered);
        }
        chain.add(memory, &descriptor, writing, readable_limit)?;
        if !descriptor.has_next() {
            break;
        }
        index = descriptor.next();
    }
    if !writing {
        chain.writable_from = chain.segments.len();
    }
    chain.write_at = chain.writable_from;
    Ok(chain)
}

/// virtio 1.2 2.7.5.3: a whole number of descriptors, not continued, not nested.
fn indirect_table(memory: &Memory, descriptor: &Descriptor) -> Result<Table, Broken> {
    let bytes = descriptor.len();
    let whole = bytes != 0 && u64::from(bytes).is_multiple_of(DESCRIPTOR);
    if !whole || descriptor.has_next() {
        return Err(Broken::Indirect);
    }
    if !is_inside(memory, descriptor.addr(), bytes as usize) {
        return Err(Broken::Address);
    }
    Ok(Table { base: descriptor.addr(), entries: bytes / DESCRIPTOR as u32 })
}

impl Chain {
    fn add(
        &mut self,
        memory: &Memory,
        descriptor: &Descriptor,
        writing: bool,
        readable_limit: u32,
    ) -> Result<(), Broken> {
        let (address, length) = (descriptor.addr(), descriptor.len());
        if length == 0 {
            return Ok(());
        }
        if !is_inside(memory, address, length as usize) {
            return Err(Broken::Address);
        }
        let (total, limit) = match writing {
            true => (&mut self.writable, u32::MAX),
            false => (&mut self.readable, readable_limit),
        };
        *total = total.checked_add(length).filter(|&sum| sum <= limit).ok_or(Broken::TooLong)?;
        self.segments.push(Segment { address, length });
        Ok(())
    }

    /// Index of the chain's first descriptor.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Device-readable bytes not yet read.
    pub fn readable(&self) -> usize {
        self.readable as usize
    }

    /// Device-writable bytes not yet written.
    pub fn writable(&self) -> usize {
        self.writable as usize
    }

    /// Bytes written so far; the driver is told when the chain is given back.
    pub fn written(&self) -> u32 {
        self.written
    }

    /// Reads the next bytes into `buffer`, and says how many there were.
    pub fn read(&mut self, memory: &Memory, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buffer.len() && self.read_at < self.writable_from {
            let segment = &mut self.segments[self.read_at];
            let part = (segment.length as usize).min(buffer.len() - done);
            if copy_in(memory, &mut buffer[done..done + part], segment.address).is_none() {
                // Only with another memory than the chain was taken from.
                self.read_at = self.writable_from;
                self.readable = 0;
                break;
            }
            done += part;
            self.readable -= part as u32;
            if segment.advance(part) {
                self.read_at += 1;
            }
        }
        done
    }

    /// Appends all bytes left to read to `out`; at most the ring's limit.
    pub fn read_all(&mut self, memory: &Memory, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.resize(start + self.readable(), 0);
        let done = self.read(memory, &mut out[start..]);
        out.truncate(start + done);
        done
    }

    /// Writes `bytes` after those written so far, and says how many had room.
    pub fn write(&mut self, memory: &Memory, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() && self.write_at < self.segments.len() {
            let segment = &mut self.segments[self.write_at];
            let part = (segment.length as usize).min(bytes.len() - done);
            if copy_out(memory, &bytes[done..done + part], segment.address).is_none() {
                // Only with another memory than the chain was taken from.
                self.write_at = self.segments.len();
                self.writable = 0;
                break;
            }
            done += part;
            self.writable -= part as u32;
            self.written += part as u32;
            if segment.advance(part) {
                self.write_at += 1;
            }
        }
        done
    }

    /// Writes the last device-writable byte, be it the next to write or not; false if
    /// that is written already. What was skipped is not counted as written
    /// (virtio 1.2 2.7.8.2 lets a device write beyond what it counts).
    pub fn write_last(&mut self, memory: &Memory, byte: u8) -> bool {
        if self.writable <= 1 {
            return self.write(memory, &[byte]) == 1;
        }
        let last = self.segments.last().expect("bytes left to write are in a segment");
        let place = last.address.unchecked_add(u64::from(last.length) - 1);
        self.write_at = self.segments.len();
        self.writable = 0;
        copy_out(memory, &[byte], place).is_some()
    }

    pub(crate) fn into_parts(self) -> (u16, u32, Vec<Segment>) {
        (self.head, self.written, self.segments)
    }
}

impl Segment {
    /// Leaves `part` bytes, of those there are, behind; true if none is left.
    fn advance(&mut self, part: usize) -> bool {
        self.address = self.address.unchecked_add(part as u64);
        self.length -= part as u32;
        self.length == 0
    }
}
