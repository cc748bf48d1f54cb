//! The back end of one vhost-user device (QEMU's docs/interop/vhost-user.rst).
//!
//! The front end is a VM process, which may be hostile: memory that could
//! vanish is refused, a message is handled only when all of it is there, and
//! no reply waits for its reader. Any violation ends this connection alone.

use std::io::{self, Read, Write};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard};

use sys::eventfd::EventFd;
use sys::seqpacket::{has_hung_up, peek, unread_bytes};
use vhost::vhost_user::BackendReqHandler;
use virtio::Memory;
use virtio::ring::Ring;

use device::Device;

mod device;

/// A device's queues, as whoever serves them takes and gives them back.
pub trait Queues {
    /// How many there are.
    const COUNT: usize;

    /// Whether the front end is told so (VHOST_USER_PROTOCOL_F_MQ); one of a network card would take
    /// them for pairs.
    const ARE_COUNTED: bool;

    /// Most device-readable bytes of a chain; a longer one breaks its queue.
    const READABLE_LIMIT: u32;

    /// The virtio features the device has.
    fn offered(&self) -> u64;

    /// The driver and the device agreed on these.
    fn agreed(&mut self, features: u64);

    /// The memory the rings will be in; none runs now.
    fn mapped(&mut self, memory: Memory);

    /// How the driver says that chains wait, from now on.
    fn kicked_by(&mut self, index: usize, kick: Option<EventFd>);

    /// How the driver wants to be told of chains given back, from now on.
    fn calls(&mut self, index: usize, call: Option<EventFd>);

    /// A queue runs.
    fn start(&mut self, index: usize, ring: Ring);

    /// Takes a queue out of use, if it runs: when this returns nothing of it is being served.
    fn stop(&mut self, index: usize) -> Option<Ring>;
}

/// Bytes of a message's header: request, flags, size (all u32, host order).
const HEADER: usize = 12;

/// VHOST_USER_SET_VRING_ENABLE: its number, and the bytes of its body (index and state, both u32).
const SET_VRING_ENABLE: u32 = 18;
const VRING_STATE: usize = 8;

/// Flags of a message's header: version 1, a reply, a reply is asked for.
const VERSION: u32 = 1;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

/// Most bytes of a message's body that anybody may send (the protocol's largest is smaller).
const MAX_BODY: usize = 4096;

/// Kernel memory that replies may wait in. More than any one reply takes and less than half of the
/// smallest send buffer, so that a reply never finds it full.
const MAX_UNREAD: usize = 64 * 1024;

/// Messages handled before others get their turn.
const BURST: usize = 32;

/// Why a connection is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The VM process closed it.
    Closed,
    /// The VM process broke the protocol.
    Violation,
}

/// One connection with its device.
pub struct Backend<Q: Queues> {
    stream: UnixStream,
    handler: BackendReqHandler<Mutex<Device<Q>>>,
    device: Arc<Mutex<Device<Q>>>,
}

impl<Q: Queues> Backend<Q> {
    /// A back end for a device that nobody has set up.
    ///
    /// # Errors
    /// Those of duplicating the stream.
    pub fn new(stream: UnixStream, queues: Q) -> io::Result<Backend<Q>> {
        // Blocking: `handle` sees to it that neither side of a request has to wait, whereas vhost
        // retries for ever on a stream that says EAGAIN.
        stream.set_nonblocking(false)?;
        // vhost wants shared ownership; there is one thread, so the lock is never waited for.
        let device = Arc::new(Mutex::new(Device::new(queues)));
        let handler = BackendReqHandler::from_stream(stream.try_clone()?, device.clone());
        Ok(Backend { stream, handler, device })
    }

    /// The device's queues.
    pub fn queues(&self) -> Held<'_, Q> {
        Held(self.device())
    }

    fn device(&self) -> MutexGuard<'_, Device<Q>> {
        self.device.lock().expect("no thread panics with the one lock there is")
    }

    /// Handles the messages that are wholly there; true if others may be left. To be called when
    /// bytes have arrived: part of a message is left for later.
    ///
    /// # Errors
    /// [`Ended`]: drop the connection and detach the space.
    pub fn handle(&mut self) -> Result<bool, Ended> {
        for _ in 0..BURST {
            let mut header = [0; HEADER];
            let (seen, held) = match peek(&self.stream, &mut header) {
                Ok((0, _)) => return Err(Ended::Closed),
                Ok(found) => found,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(_) => return Err(Ended::Closed),
            };
            let [.., a, b, c, d] = header;
            let body = u32::from_ne_bytes([a, b, c, d]) as usize;
            if seen == HEADER && body > MAX_BODY {
                return Err(Ended::Violation);
            }
            // A descriptor in the middle of a header stops the look ahead: more bytes, but not seen.
            if seen < HEADER && held > seen as u64 {
                return Err(Ended::Violation);
            }
            if seen < HEADER || held < (HEADER + body) as u64 {
                // The rest of it will never come from somebody who is gone.
                return if has_hung_up(&self.stream) { Err(Ended::Closed) } else { Ok(false) };
            }
            let unread = unread_bytes(&self.stream).map_err(|_| Ended::Closed)?;
            if unread > MAX_UNREAD {
                return Err(Ended::Violation);
            }
            let [a, b, c, d, ..] = header;
            let is_enable = u32::from_ne_bytes([a, b, c, d]) == SET_VRING_ENABLE;
            if is_enable && body == VRING_STATE && !self.device().knows_enabling() {
                self.enable_early()?;
                continue;
            }
            self.handler.handle_request().map_err(|error| match error {
                vhost::vhost_user::Error::Disconnected => Ended::Closed,
                _ => Ended::Violation,
            })?;
        }
        Ok(true)
    }

    /// Enables a ring, or disables it, before features are set.
    ///
    /// vhost refuses that, as the standard would have it; QEMU's virtio-net does it whenever the
    /// device is realized or reset, and does not say it again.
    fn enable_early(&mut self) -> Result<(), Ended> {
        let mut message = [0; HEADER + VRING_STATE];
        self.stream.read_exact(&mut message).map_err(|_| Ended::Closed)?;
        let word = |at: usize| {
            let bytes = message[4 * at..].first_chunk::<4>().expect("the message has five words");
            u32::from_ne_bytes(*bytes)
        };
        let [flags, index, state] = [word(1), word(3), word(4)];
        let done = self.device().enable_early(index, state).map_err(|_| Ended::Violation);
        if flags & NEED_REPLY == 0 || !self.device().replies() {
            return done;
        }
        let header = [SET_VRING_ENABLE, VERSION | REPLY, 8].map(u32::to_ne_bytes);
        let failed = u64::from(done.is_err()).to_ne_bytes();
        let reply = [header.as_flattened(), &failed].concat();
        self.stream.write_all(&reply).map_err(|_| Ended::Closed)
    }
}

/// The queues of a device, between two messages of its front end.
pub struct Held<'a, Q>(MutexGuard<'a, Device<Q>>);

impl<Q> Deref for Held<'_, Q> {
    type Target = Q;

    fn deref(&self) -> &Q {
        &self.0.queues
    }
}

impl<Q> DerefMut for Held<'_, Q> {
    fn deref_mut(&mut self) -> &mut Q {
        &mut self.0.queues
    }
}

impl<Q: Queues> AsFd for Backend<Q> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
