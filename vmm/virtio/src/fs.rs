//! virtio-fs (virtio 1.2 5.11): carries FUSE requests and replies as bytes.

use crate::Memory;
use crate::chain::Chain;
use crate::mmio::{Identity, TRANSPORT_FEATURES};
use crate::ring::{Broken, Ring};

/// Device type (virtio 1.2 5).
pub const DEVICE_ID: u32 = 26;

const QUEUE_SIZE: u16 = 128;

/// Most bytes of one request: 1 MiB of data to write and what comes before it.
pub const REQUEST_LIMIT: u32 = 1024 * 1024 + 4096;

/// Most bytes of one reply, whatever room the guest gives.
pub const REPLY_LIMIT: usize = 1024 * 1024 + 4096;

/// The name by which the guest mounts: 1 to 36 bytes of UTF-8 (virtio 1.2 5.11.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag([u8; 36]);

impl Tag {
    /// `None` if the name is empty, too long, or holds a zero byte.
    pub fn new(name: &str) -> Option<Tag> {
        let mut tag = [0; 36];
        tag.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        (!name.is_empty() && !name.contains('\0')).then_some(Tag(tag))
    }
}

/// What the registers of a file system device with so many request queues show.
pub fn identity(tag: Tag, request_queues: u16) -> Identity {
    let mut config = tag.0.to_vec();
    config.extend_from_slice(&u32::from(request_queues).to_le_bytes());
    Identity {
        device_id: DEVICE_ID,
        features: TRANSPORT_FEATURES,
        queue_sizes: vec![QUEUE_SIZE; 1 + usize::from(request_queues)],
        config,
    }
}

/// An active file system device.
///
/// Requests are taken and given back one by one, in any order: several threads may have some
/// at once, and share the device itself behind a lock.
#[derive(Debug)]
pub struct Fs {
    /// High priority first; `None` where one does not run.
    queues: Vec<Option<Ring>>,
}

/// A request taken from the device, to be given back to it by [`Fs::give_back`].
#[derive(Debug)]
#[must_use = "every request taken is given back"]
pub struct Call {
    queue: usize,
    chain: Chain,
}

impl Call {
    /// The queue it is of.
    pub fn queue(&self) -> usize {
        self.queue
    }

    /// Copies the request into private memory in place of what `request` holds; once.
    pub fn read(&mut self, memory: &Memory, request: &mut Vec<u8>) {
        request.clear();
        self.chain.read_all(memory, request);
    }

    /// Most bytes of a reply.
    pub fn capacity(&self) -> usize {
        self.chain.writable().min(REPLY_LIMIT)
    }

    /// Writes the reply, once; empty for a request without one (FORGET).
    ///
    /// A reply beyond the capacity is not sent: half a reply would be taken for a whole one.
    pub fn answer(&mut self, memory: &Memory, reply: &[u8]) {
        if reply.len() <= self.capacity() {
            self.chain.write(memory, reply);
        }
    }
}

impl Fs {
    /// A device with so many queues, of which none runs: the first for FORGET and INTERRUPT, of high
    /// priority, the others for all other requests (virtio 1.2 5.11.2).
    pub fn new(queues: usize) -> Fs {
        Fs { queues: (0..queues).map(|_| None).collect() }
    }

    /// A queue runs: one of [`REQUEST_LIMIT`] in the memory of all others.
    pub fn start(&mut self, index: usize, ring: Ring) {
        self.queues[index] = Some(ring);
    }

    /// Takes a queue out of use, if it runs; every [`Call`] of it has been given back.
    pub fn stop(&mut self, index: usize) -> Option<Ring> {
        self.queues[index].take()
    }

    /// Takes the next request, those of high priority first; `None` if none waits, or none ever
    /// will because its queue is broken.
    pub fn take(&mut self, memory: &Memory) -> Option<Call> {
        let rings = self.queues.iter_mut().enumerate();
        let mut calls = rings.filter_map(|(queue, ring)| {
            let chain = ring.as_mut()?.pop(memory).ok()??;
            Some(Call { queue, chain })
        });
        calls.next()
    }

    /// Asks the driver to notify about the next request; to be called before waiting for it.
    /// True if one came meanwhile: no notification comes for that.
    #[must_use = "requests that came meanwhile are not announced"]
    pub fn arm(&mut self, memory: &Memory) -> bool {
        // Every queue is armed before any is believed to be empty.
        self.queues.iter_mut().flatten().fold(false, |more, ring| more | ring.arm(memory))
    }

    /// Asks the driver not to notify: whoever gives a request back looks for the next anyway. A
    /// hint, until [`Fs::arm`].
    pub fn disarm(&mut self, memory: &Memory) {
        self.queues.iter_mut().flatten().for_each(|ring| ring.disarm(memory));
    }

    /// Gives a request back to the driver; true if it wants a used-buffer notification.
    #[must_use = "the driver waits for its notification"]
    pub fn give_back(&mut self, memory: &Memory, call: Call) -> bool {
        let ring = self.queues[call.queue].as_mut().expect("the call was taken from this queue");
        ring.complete(memory, call.chain);
        ring.wants_notification(memory)
    }

    /// What ended a queue, if anything did: set DEVICE_NEEDS_RESET.
    pub fn broken(&self) -> Option<Broken> {
        self.queues.iter().flatten().find_map(Ring::broken)
    }
}

#[cfg(test)]
mod tests;
