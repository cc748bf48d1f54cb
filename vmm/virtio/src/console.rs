//! virtio-console, one port, no multiport (virtio 1.2 5.3).

use std::collections::VecDeque;

use virtio_queue::Queue;

use crate::Memory;
use crate::mmio::{Identity, TRANSPORT_FEATURES};
use crate::ring::{Broken, Ring, Served};

/// Device type (virtio 1.2 5).
pub const DEVICE_ID: u32 = 3;

/// Index of the queue for input to the guest.
pub const RECEIVE: u16 = 0;
/// Index of the queue for output of the guest.
pub const TRANSMIT: u16 = 1;

const QUEUE_SIZE: u16 = 64;

/// Most bytes of one chain of output.
pub const CHAIN_LIMIT: u32 = 64 * 1024;

/// Most bytes of input kept until the guest takes them.
pub const INPUT_LIMIT: usize = 64 * 1024;

/// What the registers of a console show.
pub fn identity() -> Identity {
    Identity {
        device_id: DEVICE_ID,
        features: TRANSPORT_FEATURES,
        queue_sizes: vec![QUEUE_SIZE; 2],
        // Size, ports and emergency write: their features are not offered.
        config: vec![0; 12],
    }
}

/// An active console.
#[derive(Debug)]
pub struct Console {
    /// `None` where the driver takes no input.
    receive: Option<Ring>,
    transmit: Ring,
    input: VecDeque<u8>,
    /// Bytes of the chain being served; kept for its allocation.
    scratch: Vec<u8>,
}

impl Console {
    /// The console with the queues of its activation.
    ///
    /// # Errors
    /// [`Broken::Setup`] if the output queue is not ready or misplaced.
    pub fn new(queues: Vec<Queue>, memory: &Memory) -> Result<Console, Broken> {
        let mut queues = queues.into_iter();
        let receive = queues.next().and_then(|queue| Ring::new(queue, CHAIN_LIMIT, memory).ok());
        let transmit = queues.next().ok_or(Broken::Setup)?;
        let transmit = Ring::new(transmit, CHAIN_LIMIT, memory)?;
        Ok(Console { receive, transmit, input: VecDeque::new(), scratch: Vec::new() })
    }

    /// Queues bytes for the guest and says how many there was room for;
    /// [`Console::serve`] delivers them.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(INPUT_LIMIT - self.input.len());
        self.input.extend(&bytes[..taken]);
        taken
    }

    /// Hands the guest's output to `sink`, in order, and delivers input. At
    /// most a queue's size of chains each; the output of one at a time.
    pub fn serve(&mut self, memory: &Memory, mut sink: impl FnMut(&[u8])) -> Served {
        let scratch = &mut self.scratch;
        let sent = self.transmit.serve(memory, |chain| {
            scratch.clear();
            chain.read_all(memory, scratch);
            if !scratch.is_empty() {
                sink(scratch);
            }
        });
        sent.and(self.deliver(memory))
    }

    fn deliver(&mut self, memory: &Memory) -> Served {
        let Some(receive) = &mut self.receive else { return Served::default() };
        let some = |input: &VecDeque<u8>| !input.is_empty();
        receive.serve_while(memory, &mut self.input, some, |input, chain| {
            let taken = chain.write(memory, input.make_contiguous());
            input.drain(..taken);
        })
    }
}

#[cfg(test)]
mod tests;
