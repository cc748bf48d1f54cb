//! virtio-fs (virtio 1.2 5.11): carries FUSE requests and replies as bytes.

use virtio_queue::Queue;

use crate::Memory;
use crate::mmio::{Identity, TRANSPORT_FEATURES};
use crate::ring::{Broken, Ring, Served};

/// Device type (virtio 1.2 5).
pub const DEVICE_ID: u32 = 26;

/// Index of the queue for FORGET and INTERRUPT.
pub const HIGH_PRIORITY: u16 = 0;
/// Index of the first queue for all other requests.
pub const FIRST_REQUEST: u16 = 1;

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
#[derive(Debug)]
pub struct Fs {
    /// High priority first; `None` where the driver does not use one.
    queues: Vec<Option<Ring>>,
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Fs {
    /// The device with the queues of its activation.
    ///
    /// # Errors
    /// [`Broken::Setup`] if no request queue is ready, or one that is is misplaced.
    pub fn new(queues: Vec<Queue>, memory: &Memory) -> Result<Fs, Broken> {
        use virtio_queue::QueueT;
        let queues: Vec<_> = queues
            .into_iter()
            .map(|queue| match queue.ready() {
                true => Ring::new(queue, REQUEST_LIMIT, memory).map(Some),
                false => Ok(None),
            })
            .collect::<Result<_, _>>()?;
        if queues.iter().skip(usize::from(FIRST_REQUEST)).all(Option::is_none) {
            return Err(Broken::Setup);
        }
        Ok(Fs { queues, request: Vec::new(), reply: Vec::new() })
    }

    /// How many queues there are, used or not.
    pub fn queues(&self) -> u16 {
        self.queues.len() as u16
    }

    /// Answers the requests waiting on queue `index`, at most a queue's size.
    ///
    /// `handler(request, capacity, reply)` sees one request in private memory
    /// and appends its reply, at most `capacity` bytes, to `reply`, which
    /// starts empty; it stays empty for requests without a reply (FORGET). A
    /// reply beyond the capacity is not sent: half a reply would be taken for a whole one.
    pub fn serve(
        &mut self,
        index: u16,
        memory: &Memory,
        mut handler: impl FnMut(&[u8], usize, &mut Vec<u8>),
    ) -> Served {
        let Some(Some(ring)) = self.queues.get_mut(usize::from(index)) else {
            return Served::default();
        };
        let (request, reply) = (&mut self.request, &mut self.reply);
        ring.serve(memory, |chain| {
            request.clear();
            reply.clear();
            chain.read_all(memory, request);
            let capacity = chain.writable().min(REPLY_LIMIT);
            handler(request, capacity, reply);
            if reply.len() <= capacity {
                chain.write(memory, reply);
            }
        })
    }
}

#[cfg(test)]
mod tests;
