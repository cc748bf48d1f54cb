//! The device's side of one split virtqueue (virtio 1.2 2.7).
//!
//! Wraps [`virtio_queue::Queue`] without trusting the driver behind it: every
//! index is checked, at most the queue's size of chains is out at a time, and
//! the first violation ends the queue for good ([`Broken`]).

use std::sync::atomic::{Ordering, fence};

use virtio_queue::{Queue, QueueState, QueueT};
use vm_memory::{Address, Bytes, GuestAddress};

use crate::Memory;
use crate::chain::{self, Chain, Segment};

/// What the driver did that ended its queue; only a device reset brings it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The queue was never made ready, or its parts are misplaced or outside of memory.
    Setup,
    /// The available index runs ahead by more than the queue's size.
    AvailableIndex,
    /// A descriptor index is outside of its table.
    Index,
    /// A chain has more descriptors than the queue, or loops.
    Loop,
    /// An indirect table is nested, continued, empty or no multiple of a descriptor.
    Indirect,
    /// A device-readable buffer follows a device-writable one.
    Misordered,
    /// A buffer or table is not in guest memory.
    Address,
    /// A chain has more bytes than the device ever takes.
    TooLong,
}

/// What one call to a device's `serve` did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "the driver waits for its notification"]
pub struct Served {
    /// The driver wants a used-buffer notification.
    pub notify: bool,
    /// The call's bound was reached with chains left: serve again, no kick will come.
    pub more: bool,
    /// A queue of the device is broken: set DEVICE_NEEDS_RESET.
    pub broken: Option<Broken>,
}

impl Served {
    /// Both outcomes in one.
    pub fn and(self, other: Served) -> Served {
        Served {
            notify: self.notify || other.notify,
            more: self.more || other.more,
            broken: self.broken.or(other.broken),
        }
    }
}

/// A virtqueue as vhost-user describes it, addresses already guest-physical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Number of descriptors: a power of two, at most 32768.
    pub size: u16,
    /// Descriptor area, guest-physical.
    pub descriptors: u64,
    /// Driver area (available ring), guest-physical.
    pub available: u64,
    /// Device area (used ring), guest-physical.
    pub used: u64,
    /// Index of the first available entry to take (VHOST_USER_SET_VRING_BASE).
    pub next_available: u16,
    /// VIRTIO_F_EVENT_IDX was negotiated.
    pub event_idx: bool,
}

impl From<&Queue> for Settings {
    /// A queue of [`crate::mmio::Effect::Activate`], as vhost-user is told of it.
    fn from(queue: &Queue) -> Settings {
        Settings {
            size: queue.size(),
            descriptors: queue.desc_table(),
            available: queue.avail_ring(),
            used: queue.used_ring(),
            next_available: queue.next_avail(),
            event_idx: queue.event_idx_enabled(),
        }
    }
}

/// One virtqueue, owned by the one thread that serves it.
#[derive(Debug)]
pub struct Ring {
    queue: Queue,
    /// Most device-readable bytes of one chain.
    readable_limit: u32,
    /// The available index last seen; entries before it are visible to us.
    available: u16,
    /// Chains taken and not yet given back; at most the queue's size.
    outstanding: u16,
    /// The used index in memory: chains before it are the driver's again.
    published: u16,
    /// The used index when the driver's wish for a notification was last asked.
    announced: u16,
    broken: Option<Broken>,
    /// Segment lists of completed chains, for the next ones.
    spare: Vec<Vec<Segment>>,
}

impl Ring {
    /// Takes over a queue the driver has configured.
    ///
    /// A chain with more than `readable_limit` device-readable bytes breaks the queue.
    ///
    /// # Errors
    /// [`Broken::Setup`] if it is not ready or not wholly in `memory`.
    pub fn new(queue: Queue, readable_limit: u32, memory: &Memory) -> Result<Ring, Broken> {
        let size = usize::from(queue.size());
        let inside =
            |address: u64, bytes: usize| chain::is_inside(memory, GuestAddress(address), bytes);
        // virtio 1.2 2.7: 16 bytes per descriptor; 6 + 2 and 6 + 8 bytes per entry of the rings.
        let whole = queue.ready()
            && size != 0
            && inside(queue.desc_table(), 16 * size)
            && inside(queue.avail_ring(), 6 + 2 * size)
            && inside(queue.used_ring(), 6 + 8 * size);
        if !whole {
            return Err(Broken::Setup);
        }
        let (available, used) = (queue.next_avail(), queue.next_used());
        Ok(Ring {
            queue,
            readable_limit,
            available,
            outstanding: 0,
            published: used,
            announced: used,
            broken: None,
            spare: Vec::new(),
        })
    }

    /// Takes over a queue from vhost-user's vring messages. The used index is
    /// the one in memory.
    ///
    /// # Errors
    /// [`Broken::Setup`] if the size is no power of two, an address is
    /// misaligned, or a part is not wholly in `memory`.
    pub fn from_settings(
        settings: &Settings,
        readable_limit: u32,
        memory: &Memory,
    ) -> Result<Ring, Broken> {
        let state = QueueState {
            max_size: settings.size,
            next_avail: settings.next_available,
            next_used: 0,
            event_idx_enabled: settings.event_idx,
            size: settings.size,
            ready: true,
            desc_table: settings.descriptors,
            avail_ring: settings.available,
            used_ring: settings.used,
        };
        let queue = Queue::try_from(state).map_err(|_| Broken::Setup)?;
        let mut ring = Ring::new(queue, readable_limit, memory)?;
        let used = ring.queue.used_idx(memory, Ordering::Relaxed).map_err(|_| Broken::Setup)?;
        ring.queue.set_next_used(used.0);
        (ring.published, ring.announced) = (used.0, used.0);
        Ok(ring)
    }

    /// Number of descriptors.
    pub fn size(&self) -> u16 {
        self.queue.size()
    }

    /// Index of the next available entry to take (VHOST_USER_GET_VRING_BASE).
    /// Chains still out are not counted back.
    pub fn next_available(&self) -> u16 {
        self.queue.next_avail()
    }

    /// What ended the queue, if anything did.
    pub fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// Whether [`Ring::pop`] has something to say: one load of the available
    /// index, cheap enough to spin on. False once broken.
    pub fn has_work(&self, memory: &Memory) -> bool {
        if self.broken.is_some() {
            return false;
        }
        // An access that fails is for `pop` to report.
        self.available_index(memory, Ordering::Relaxed) != Some(self.queue.next_avail())
    }

    fn available_index(&self, memory: &Memory, order: Ordering) -> Option<u16> {
        // `new` checked that the whole ring is in memory.
        let place = GuestAddress(self.queue.avail_ring()).unchecked_add(2);
        chain::load_u16(memory, place, order)
    }

    /// Takes the next available chain. It is to be given back by [`Ring::complete`].
    ///
    /// # Errors
    /// What broke the queue, now or earlier; no chain is ever taken from it again.
    pub fn pop(&mut self, memory: &Memory) -> Result<Option<Chain>, Broken> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        self.take(memory).inspect_err(|&broken| self.broken = Some(broken))
    }

    fn take(&mut self, memory: &Memory) -> Result<Option<Chain>, Broken> {
        let next = self.queue.next_avail();
        if self.available == next {
            // Acquire: the ring's entries and descriptors are read after the index that shows them.
            let index = self.available_index(memory, Ordering::Acquire).ok_or(Broken::Address)?;
            // Every chain has at least one descriptor of the table, so the chains
            // waiting and those out are never more than its size.
            let waiting = u32::from(index.wrapping_sub(next));
            if waiting + u32::from(self.outstanding) > u32::from(self.queue.size()) {
                return Err(Broken::AvailableIndex);
            }
            self.available = index;
            if waiting == 0 {
                return Ok(None);
            }
        }
        // The size is a power of two; `new` checked that the whole ring is in memory.
        let slot = u64::from(next & (self.queue.size() - 1));
        let entry = GuestAddress(self.queue.avail_ring()).unchecked_add(4 + 2 * slot);
        let head = chain::load_u16(memory, entry, Ordering::Relaxed).ok_or(Broken::Address)?;
        let table = chain::Table {
            base: GuestAddress(self.queue.desc_table()),
            entries: u32::from(self.queue.size()),
        };
        let segments = self.spare.pop().unwrap_or_default();
        let chain = chain::walk(memory, table, head, self.readable_limit, segments)?;
        self.queue.set_next_avail(next.wrapping_add(1));
        self.outstanding += 1;
        Ok(Some(chain))
    }

    /// Takes the last chain taken back into the ring, untouched: the next [`Ring::pop`] finds it again.
    ///
    /// For a device that needs several chains at once and finds too few.
    pub fn put_back(&mut self, chain: Chain) {
        let (_, _, segments) = chain.into_parts();
        self.spare.push(segments);
        self.outstanding = self.outstanding.saturating_sub(1);
        self.queue.set_next_avail(self.queue.next_avail().wrapping_sub(1));
    }

    /// Gives a chain back with the bytes written into it.
    ///
    /// A ring whose memory went away becomes broken; nothing else can fail.
    pub fn complete(&mut self, memory: &Memory, chain: Chain) {
        self.stage(memory, chain);
        self.publish(memory);
    }

    /// Gives a chain back as [`Ring::complete`] does, but the driver sees it only after
    /// [`Ring::publish`]: together with others, or later than its answer.
    pub fn stage(&mut self, memory: &Memory, chain: Chain) {
        self.outstanding = self.outstanding.saturating_sub(1);
        let (head, written, segments) = chain.into_parts();
        self.spare.push(segments);
        let next = self.queue.next_used();
        // virtio 1.2 2.7.8: flags and index, 4 bytes, then 8 bytes per entry.
        let slot = u64::from(next & (self.queue.size() - 1));
        let place = GuestAddress(self.queue.used_ring()).unchecked_add(4 + 8 * slot);
        let entry = u64::from(head) | u64::from(written) << 32;
        if memory.write_obj(entry.to_le(), place).is_err() {
            self.broken.get_or_insert(Broken::Address);
        }
        self.queue.set_next_used(next.wrapping_add(1));
    }

    /// Shows the driver all chains given back.
    pub fn publish(&mut self, memory: &Memory) {
        let used = self.queue.next_used();
        if used == self.published {
            return;
        }
        let place = GuestAddress(self.queue.used_ring()).unchecked_add(2);
        // Release: the chains' bytes and the ring's entries are visible before the index.
        if memory.store(used.to_le(), place, Ordering::Release).is_err() {
            self.broken.get_or_insert(Broken::Address);
        }
        self.published = used;
    }

    /// Whether the driver wants a notification for the chains published since
    /// the last call (virtio 1.2 2.7.7). Costs a full barrier: once per batch.
    pub fn wants_notification(&mut self, memory: &Memory) -> bool {
        let announced = std::mem::replace(&mut self.announced, self.published);
        let fresh = self.published.wrapping_sub(announced);
        if fresh == 0 {
            return false;
        }
        // The used index is written before the driver's wish is read.
        fence(Ordering::SeqCst);
        let ring = GuestAddress(self.queue.avail_ring());
        if self.queue.event_idx_enabled() {
            // virtio 1.2 2.7.10: wanted if the index the driver named is among the fresh ones.
            let place = ring.unchecked_add(4 + 2 * u64::from(self.queue.size()));
            return chain::load_u16(memory, place, Ordering::Relaxed)
                .is_some_and(|event| self.published.wrapping_sub(event).wrapping_sub(1) < fresh);
        }
        const NO_INTERRUPT: u16 = 1;
        chain::load_u16(memory, ring, Ordering::Relaxed)
            .is_some_and(|flags| flags & NO_INTERRUPT == 0)
    }

    /// Asks the driver to notify about the next chain; to be called before
    /// sleeping. True if chains arrived meanwhile: no notification comes for these.
    #[must_use = "chains that arrived meanwhile are not announced"]
    pub fn arm(&mut self, memory: &Memory) -> bool {
        self.broken.is_none() && self.queue.enable_notification(memory).unwrap_or(true)
    }

    /// Asks the driver not to notify; to be called before spinning. A hint:
    /// notifications may come all the same.
    pub fn disarm(&mut self, memory: &Memory) {
        if !self.queue.event_idx_enabled() {
            // Fails only if the memory went away, which `pop` reports.
            let _ = self.queue.disable_notification(memory);
            return;
        }
        // The index half the number space away is not passed while anybody is
        // spinning here; if it is, one needless notification comes.
        let event = self.queue.next_avail().wrapping_add(0x8000);
        let offset = 4 + 8 * u64::from(self.queue.size());
        let place = GuestAddress(self.queue.used_ring()).unchecked_add(offset);
        let _ = memory.store(event.to_le(), place, Ordering::Relaxed);
    }

    /// Serves waiting chains, at most the queue's size of them, one by one:
    /// `each` sees a chain, which is then given back. Armed when nothing is left.
    pub fn serve(&mut self, memory: &Memory, mut each: impl FnMut(&mut Chain)) -> Served {
        self.serve_while(memory, &mut (), |()| true, |(), chain| each(chain))
    }

    /// As [`Ring::serve`], as long as `wanted`: chains the device has no use
    /// for yet are left to the driver.
    pub fn serve_while<S>(
        &mut self,
        memory: &Memory,
        state: &mut S,
        wanted: impl Fn(&S) -> bool,
        mut each: impl FnMut(&mut S, &mut Chain),
    ) -> Served {
        let mut served = Served::default();
        let mut left = self.size();
        while wanted(state) {
            if left == 0 {
                served.more = true;
                break;
            }
            match self.pop(memory) {
                Ok(Some(mut chain)) => {
                    left -= 1;
                    each(state, &mut chain);
                    self.complete(memory, chain);
                }
                Ok(None) if self.arm(memory) => {}
                Ok(None) => break,
                Err(broken) => {
                    served.broken = Some(broken);
                    break;
                }
            }
        }
        served.notify = self.wants_notification(memory);
        served
    }
}

#[cfg(test)]
impl Ring {
    /// Whether every chain taken was given back.
    pub(crate) fn settled(&self) -> bool {
        self.outstanding == 0 && self.queue.next_used() == self.queue.next_avail()
    }
}

#[cfg(test)]
mod tests;
