//! The registers of one virtio-mmio device, version 2 (virtio 1.2 4.2.2), as
//! data: accesses go in, effects come out, any access is harmless.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use virtio_queue::{Queue, QueueState};

/// Bytes of a device's register window: control registers, then configuration space.
pub const WINDOW: u64 = 0x1000;

/// Offset of QueueNotify: a 4-byte write of a queue's index, the place for an ioeventfd.
pub const QUEUE_NOTIFY: u64 = 0x050;

/// VIRTIO_F_INDIRECT_DESC (virtio 1.2 6).
pub const INDIRECT_DESC: u64 = 1 << 28;
/// VIRTIO_F_EVENT_IDX.
pub const EVENT_IDX: u64 = 1 << 29;
/// VIRTIO_F_VERSION_1.
pub const VERSION_1: u64 = 1 << 32;
/// What every device here offers: rings with all [`crate::ring::Ring`] knows.
pub const TRANSPORT_FEATURES: u64 = VERSION_1 | EVENT_IDX | INDIRECT_DESC;

/// "virt", little-endian.
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// "port": any value but the PCI vendors' is as good.
const VENDOR: u32 = 0x7472_6f70;

/// First byte of the configuration space.
const CONFIG: u64 = 0x100;

/// Bits of the status register (virtio 1.2 2.1).
mod status {
    pub(super) const ACKNOWLEDGE: u32 = 1;
    pub(super) const DRIVER: u32 = 2;
    pub(super) const DRIVER_OK: u32 = 4;
    pub(super) const FEATURES_OK: u32 = 8;
    pub(super) const NEEDS_RESET: u32 = 64;
    pub(super) const FAILED: u32 = 128;
}

/// What a device is, before any driver has touched it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Device type (virtio 1.2 5).
    pub device_id: u32,
    /// Features offered; [`VERSION_1`] is added by [`Registers::new`].
    pub features: u64,
    /// The largest size of each queue, powers of two.
    pub queue_sizes: Vec<u16>,
    /// The configuration space, read-only to the driver.
    pub config: Vec<u8>,
}

/// What a write means to the device behind the registers.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// DRIVER_OK: the queues are the device's now. All of them, in order; those
    /// the driver does not use are not ready. [`EVENT_IDX`] is set where negotiated.
    Activate {
        /// The features both sides agreed on.
        features: u64,
        /// Moved out; nothing else changes them until [`Effect::Reset`].
        queues: Vec<Queue>,
    },
    /// The driver made chains available on this queue of the active device.
    Notify(u16),
    /// The driver reset the device: give up its queues, forget its requests.
    Reset,
}

/// InterruptStatus, shared with whoever completes requests.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    status: Arc<AtomicU32>,
}

impl Interrupt {
    const USED: u32 = 1;
    const CONFIG: u32 = 2;

    /// Sets the used-buffer bit; the caller interrupts or wakes the guest after it.
    pub fn raise(&self) {
        self.status.fetch_or(Self::USED, Ordering::Release);
    }

    /// Sets the configuration-change bit.
    pub fn raise_config(&self) {
        self.status.fetch_or(Self::CONFIG, Ordering::Release);
    }

    /// The bits not yet acknowledged: an interrupt line is high while any is set.
    pub fn pending(&self) -> u32 {
        self.status.load(Ordering::Acquire)
    }
}

/// A queue as the driver is setting it up.
#[derive(Clone, Copy, Debug)]
struct QueueRegisters {
    max_size: u16,
    /// As written, not yet judged.
    size: u32,
    descriptors: u64,
    driver: u64,
    device: u64,
    /// Set only while the rest is valid; the rest does not change while it is set.
    ready: bool,
}

impl QueueRegisters {
    fn new(max_size: u16) -> QueueRegisters {
        let size = u32::from(max_size);
        QueueRegisters { max_size, size, descriptors: 0, driver: 0, device: 0, ready: false }
    }

    /// The queue these registers describe, if size and alignments are valid
    /// (virtio 1.2 2.7). Where the addresses point is for `Ring::new` to check.
    fn queue(&self, event_idx: bool) -> Option<Queue> {
        let state = QueueState {
            max_size: self.max_size,
            next_avail: 0,
            next_used: 0,
            event_idx_enabled: event_idx,
            size: u16::try_from(self.size).ok()?,
            ready: self.ready,
            desc_table: self.descriptors,
            avail_ring: self.driver,
            used_ring: self.device,
        };
        Queue::try_from(state).ok()
    }

    fn unused(&self) -> Queue {
        QueueRegisters::new(self.max_size).queue(false).expect("queue sizes are powers of two")
    }
}

/// The register file of one device.
#[derive(Debug)]
pub struct Registers {
    identity: Identity,
    status: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: u32,
    queues: Vec<QueueRegisters>,
    config_generation: u32,
    interrupt: Interrupt,
}

impl Registers {
    /// The registers of a device after its reset.
    ///
    /// # Panics
    /// If a queue size is no power of two or above 32768.
    pub fn new(mut identity: Identity) -> Registers {
        for &size in &identity.queue_sizes {
            assert!(size.is_power_of_two() && size <= 32768, "queue sizes are powers of two");
        }
        identity.features |= VERSION_1;
        let queues = identity.queue_sizes.iter().map(|&size| QueueRegisters::new(size)).collect();
        Registers {
            identity,
            status: 0,
            device_features_select: 0,
            driver_features_select: 0,
            driver_features: 0,
            queue_select: 0,
            queues,
            config_generation: 0,
            interrupt: Interrupt::default(),
        }
    }

    /// The handle with which requests' completion is shown in InterruptStatus.
    pub fn interrupt(&self) -> Interrupt {
        self.interrupt.clone()
    }

    /// Whether the driver has set DRIVER_OK and not reset the device since.
    pub fn active(&self) -> bool {
        self.status & status::DRIVER_OK != 0
    }

    /// The device can go on only after a reset (virtio 1.2 2.1.2): a queue is broken.
    /// The caller interrupts or wakes the guest after it.
    pub fn needs_reset(&mut self) {
        self.status |= status::NEEDS_RESET;
        if self.active() {
            self.interrupt.raise_config();
        }
    }

    /// Replaces the configuration space. The caller interrupts or wakes the guest after it.
    pub fn set_config(&mut self, config: Vec<u8>) {
        self.identity.config = config;
        self.config_generation = self.config_generation.wrapping_add(1);
        if self.active() {
            self.interrupt.raise_config();
        }
    }

    /// A load by the guest, `offset` bytes into the window. What is not there reads zero.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(start) = offset.checked_sub(CONFIG) {
            let config = usize::try_from(start).ok().and_then(|at| self.identity.config.get(at..));
            for (byte, value) in data.iter_mut().zip(config.unwrap_or_default()) {
                *byte = *value;
            }
        } else if let Ok(word) = <&mut [u8; 4]>::try_from(data) {
            // virtio 1.2 4.2.2.2: control registers take aligned 32-bit accesses only.
            // An unaligned offset is no register's.
            *word = self.register(offset).to_le_bytes();
        }
    }

    fn register(&self, offset: u64) -> u32 {
        let queue = self.queues.get(self.queue_select as usize);
        match offset {
            0x000 => MAGIC,
            0x004 => VERSION,
            0x008 => self.identity.device_id,
            0x00c => VENDOR,
            0x010 => half(self.identity.features, self.device_features_select),
            0x034 => queue.map_or(0, |queue| u32::from(queue.max_size)),
            0x044 => queue.map_or(0, |queue| u32::from(queue.ready)),
            0x060 => self.interrupt.pending(),
            0x070 => self.status,
            // No shared memory region has length and base -1 (virtio 1.2 4.2.2.1).
            0x0b0..=0x0bc if offset.is_multiple_of(4) => u32::MAX,
            0x0fc => self.config_generation,
            _ => 0,
        }
    }

    /// A store by the guest, `offset` bytes into the window. What is not
    /// there, or may not be written now, is ignored.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Option<Effect> {
        let value = u32::from_le_bytes(data.try_into().ok()?);
        match offset {
            0x014 => self.device_features_select = value,
            0x020 if self.negotiating() => {
                set_half(&mut self.driver_features, self.driver_features_select, value);
            }
            0x024 => self.driver_features_select = value,
            0x030 => self.queue_select = value,
            0x038..=0x044 | 0x080..=0x0a4 => self.write_queue(offset, value),
            QUEUE_NOTIFY => {
                let index = u16::try_from(value).ok()?;
                let there = self.queues.get(usize::from(index)).is_some_and(|queue| queue.ready);
                return (self.active() && there).then_some(Effect::Notify(index));
            }
            0x064 => {
                self.interrupt.status.fetch_and(!value, Ordering::AcqRel);
            }
            0x070 => return self.write_status(value),
            _ => {}
        }
        None
    }

    /// Features may be written: a driver is there and has not finished them.
    fn negotiating(&self) -> bool {
        self.status & (status::DRIVER | status::FEATURES_OK) == status::DRIVER
    }

    fn write_queue(&mut self, offset: u64, value: u32) {
        // virtio 1.2 3.1.1: queues are set up between FEATURES_OK and DRIVER_OK.
        if self.status & (status::FEATURES_OK | status::DRIVER_OK) != status::FEATURES_OK {
            return;
        }
        let Some(queue) = self.queues.get_mut(self.queue_select as usize) else { return };
        if offset == 0x044 {
            queue.ready = value == 1 && queue.queue(false).is_some();
            return;
        }
        if queue.ready {
            return;
        }
        match offset {
            0x038 => queue.size = value,
            0x080 => set_half(&mut queue.descriptors, 0, value),
            0x084 => set_half(&mut queue.descriptors, 1, value),
            0x090 => set_half(&mut queue.driver, 0, value),
            0x094 => set_half(&mut queue.driver, 1, value),
            0x0a0 => set_half(&mut queue.device, 0, value),
            0x0a4 => set_half(&mut queue.device, 1, value),
            _ => {}
        }
    }

    /// virtio 1.2 3.1.1: each step needs the one before; bits are cleared by a reset only.
    fn write_status(&mut self, value: u32) -> Option<Effect> {
        if value == 0 {
            self.reset();
            return Some(Effect::Reset);
        }
        let was_active = self.active();
        self.status |= value & (status::ACKNOWLEDGE | status::FAILED);
        for (step, needed) in [
            (status::DRIVER, status::ACKNOWLEDGE),
            (status::FEATURES_OK, status::DRIVER),
            (status::DRIVER_OK, status::FEATURES_OK),
        ] {
            let refused = step == status::FEATURES_OK && !self.features_acceptable();
            if value & step != 0 && self.status & needed != 0 && !refused {
                self.status |= step;
            }
        }
        (self.active() && !was_active).then(|| self.activation())
    }

    fn features_acceptable(&self) -> bool {
        self.driver_features & !self.identity.features == 0 && self.driver_features & VERSION_1 != 0
    }

    fn activation(&self) -> Effect {
        let event_idx = self.driver_features & EVENT_IDX != 0;
        let queues = self
            .queues
            .iter()
            .map(|queue| match queue.ready {
                true => queue.queue(event_idx).expect("a queue is made ready only when valid"),
                false => queue.unused(),
            })
            .collect();
        Effect::Activate { features: self.driver_features, queues }
    }

    fn reset(&mut self) {
        self.status = 0;
        self.driver_features = 0;
        self.device_features_select = 0;
        self.driver_features_select = 0;
        self.queue_select = 0;
        for queue in &mut self.queues {
            *queue = QueueRegisters::new(queue.max_size);
        }
        self.interrupt.status.store(0, Ordering::Release);
    }
}

/// The 32 bits of `value` that a select register chooses; beyond them zero.
fn half(value: u64, select: u32) -> u32 {
    match select {
        0 => value as u32,
        1 => (value >> 32) as u32,
        _ => 0,
    }
}

fn set_half(value: &mut u64, select: u32, word: u32) {
    match select {
        0 => *value = *value & !0xffff_ffff | u64::from(word),
        1 => *value = *value & 0xffff_ffff | u64::from(word) << 32,
        _ => {}
    }
}

#[cfg(test)]
mod tests;
