//! virtio-entropy (virtio 1.2 5.4): random bytes for the guest.

use virtio_queue::Queue;

use crate::Memory;
use crate::mmio::{Identity, TRANSPORT_FEATURES};
use crate::ring::{Broken, Ring, Served};

/// Device type (virtio 1.2 5).
pub const DEVICE_ID: u32 = 4;

/// Index of the only queue.
pub const REQUEST: u16 = 0;

const QUEUE_SIZE: u16 = 16;

/// Most random bytes put into one chain; the guest asks again for more.
pub const CHAIN_LIMIT: usize = 1024;

/// What the registers of an entropy device show.
pub fn identity() -> Identity {
    Identity {
        device_id: DEVICE_ID,
        features: TRANSPORT_FEATURES,
        queue_sizes: vec![QUEUE_SIZE],
        config: Vec::new(),
    }
}

/// An active entropy device.
#[derive(Debug)]
pub struct Entropy {
    request: Ring,
}

impl Entropy {
    /// The device with the queue of its activation.
    ///
    /// # Errors
    /// [`Broken::Setup`] if the queue is not ready or misplaced.
    pub fn new(queues: Vec<Queue>, memory: &Memory) -> Result<Entropy, Broken> {
        let queue = queues.into_iter().next().ok_or(Broken::Setup)?;
        // Nothing is read from the driver: readable bytes are nonsense.
        Ok(Entropy { request: Ring::new(queue, 0, memory)? })
    }

    /// Fills waiting chains with bytes of `fill`, at most a queue's size of
    /// chains and [`CHAIN_LIMIT`] bytes of each.
    pub fn serve(&mut self, memory: &Memory, mut fill: impl FnMut(&mut [u8])) -> Served {
        self.request.serve(memory, |chain| {
            let mut bytes = [0; CHAIN_LIMIT];
            let bytes = &mut bytes[..chain.writable().min(CHAIN_LIMIT)];
            fill(bytes);
            chain.write(memory, bytes);
        })
    }
}

#[cfg(test)]
mod tests;
