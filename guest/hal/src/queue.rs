//! Split virtqueues, driver side (virtio 1.2 2.7), with EVENT_IDX and without interrupts.
//!
//! Each queue owns its rings and one buffer per descriptor for ever, so what a
//! device may write to is never anybody else's memory. Four shapes: receive,
//! receive in several buffers, send, and request with reply.

mod merge;
mod rings;
mod send;

use alloc::vec::Vec;
use core::ops::Deref;

use crate::mmio::{Device, Doorbell};
pub use merge::{MergeQueue, Merged};
use rings::Buffers;
pub(crate) use rings::Rings;
pub use send::{SendQueue, Slot};

/// A queue whose buffers the device fills.
#[derive(Debug)]
pub struct ReceiveQueue {
    rings: Rings,
    buffers: Buffers,
    doorbell: Doorbell,
}

impl ReceiveQueue {
    /// Queue `index` of `device`, with `size` buffers (a power of two) of `bytes` each, all offered.
    pub fn new(device: &mut Device, index: u16, size: u16, bytes: usize) -> ReceiveQueue {
        let rings = Rings::new(size);
        let doorbell = device.enable(index, &rings);
        ReceiveQueue::over(rings, doorbell, bytes)
    }

    fn over(mut rings: Rings, doorbell: Doorbell, bytes: usize) -> ReceiveQueue {
        let buffers = Buffers::new(usize::from(rings.size()), bytes);
        for id in 0..rings.size() {
            rings.describe_writable(id, buffers.address(id), bytes);
            rings.offer(id);
        }
        ReceiveQueue { rings, buffers, doorbell }
    }

    /// The next filled buffer.
    pub fn receive(&mut self) -> Option<Received<'_>> {
        let (id, written) = self.rings.take_used()?;
        Some(Received { queue: self, id, written })
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
}

/// A filled buffer; dropping it offers it to the device again.
#[derive(Debug)]
pub struct Received<'a> {
    queue: &'a mut ReceiveQueue,
    id: u16,
    written: usize,
}

impl Deref for Received<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.queue.buffers.bytes(self.id, self.written)
    }
}

impl Drop for Received<'_> {
    fn drop(&mut self) {
        self.queue.rings.offer(self.id);
    }
}

/// A queue of requests, each answered in a buffer that goes with it.
#[derive(Debug)]
pub struct RequestQueue {
    rings: Rings,
    requests: Buffers,
    replies: Buffers,
    doorbell: Doorbell,
    free: Vec<u16>,
    /// Bytes of the reply each token's request has room for.
    room: Vec<usize>,
}

/// Which request a reply answers: given out by [`RequestQueue::submit`], free again after its reply.
pub type Token = u16;

impl RequestQueue {
    /// Queue `index` of `device`: at most `depth` (a power of two) requests in flight, of
    /// `request` bytes, answered in `reply` bytes.
    pub fn new(
        device: &mut Device,
        index: u16,
        depth: u16,
        request: usize,
        reply: usize,
    ) -> RequestQueue {
        let rings = Rings::new(depth * 2);
        let doorbell = device.enable(index, &rings);
        RequestQueue::over(rings, doorbell, request, reply)
    }

    fn over(mut rings: Rings, doorbell: Doorbell, request: usize, reply: usize) -> RequestQueue {
        let depth = rings.size() / 2;
        let requests = Buffers::new(usize::from(depth), request);
        let replies = Buffers::new(usize::from(depth), reply);
        for token in 0..depth {
            rings.describe_writable(depth + token, replies.address(token), reply);
        }
        let (free, room) = ((0..depth).rev().collect(), alloc::vec![reply; depth.into()]);
        RequestQueue { rings, requests, replies, doorbell, free, room }
    }

    /// Sends the request that `fill` writes (it returns its length), or `None` while
    /// as many as possible are in flight.
    pub fn submit(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> Option<Token> {
        let token = self.free.pop()?;
        let length = fill(self.requests.bytes_mut(token));
        let reply = self.rings.size() / 2 + token;
        let address = self.requests.address(token);
        self.rings.describe_readable(token, address, length, Some(reply));
        self.rings.offer(token);
        Some(token)
    }

    /// As [`RequestQueue::submit`], with room for `reply` bytes alone, the last of which is
    /// `mark` unless the device writes it.
    ///
    /// # Panics
    /// If replies have fewer bytes, or `reply` is none.
    pub fn submit_with_room(
        &mut self,
        reply: usize,
        mark: u8,
        fill: impl FnOnce(&mut [u8]) -> usize,
    ) -> Option<Token> {
        let token = *self.free.last()?;
        self.replies.bytes_mut(token)[reply - 1] = mark;
        let descriptor = self.rings.size() / 2 + token;
        self.rings.describe_writable(descriptor, self.replies.address(token), reply);
        self.room[usize::from(token)] = reply;
        self.submit(fill)
    }

    /// The next reply, handed to `read`: what the device counts as written.
    pub fn complete<R>(&mut self, read: impl FnOnce(Token, &[u8]) -> R) -> Option<R> {
        self.take(|_, written| written, read)
    }

    /// As [`RequestQueue::complete`], with all there was room for, whatever the device counts.
    pub fn complete_whole<R>(&mut self, read: impl FnOnce(Token, &[u8]) -> R) -> Option<R> {
        self.take(|room, _| room, read)
    }

    fn take<R>(
        &mut self,
        length: impl FnOnce(usize, usize) -> usize,
        read: impl FnOnce(Token, &[u8]) -> R,
    ) -> Option<R> {
        let (token, written) = self.rings.take_used()?;
        // A device that completes a reply's own descriptor has no request to answer.
        let room = *self.room.get(usize::from(token))?;
        let answer = read(token, self.replies.bytes(token, length(room, written)));
        self.free.push(token);
        Some(answer)
    }

    /// Whether a reply has come. Reads shared memory only.
    pub fn pending(&self) -> bool {
        self.rings.pending()
    }

    /// Whether a request can be submitted.
    pub fn ready(&self) -> bool {
        !self.free.is_empty()
    }

    /// Asks to be notified of the next reply; true if there is one already.
    pub fn arm(&mut self) -> bool {
        self.rings.arm()
    }

    /// Notifies the device of new requests, if it asked for that; whether it did.
    pub fn kick(&mut self) -> bool {
        self.rings.kick(&self.doorbell)
    }
}

#[cfg(test)]
mod tests;
