//! Guest-physical addresses, ports and device places.

/// Where the native guest's image is linked and loaded (guest-physical = virtual).
pub const IMAGE_BASE: u64 = 0x20_0000;

/// Where the monitor puts [`crate::start::StartPage`].
pub const START_PAGE: u64 = 0x1000;

/// First byte of the virtio-mmio window; above any guest memory.
pub const MMIO_BASE: u64 = 0xd000_0000;

/// Distance between two virtio-mmio devices.
pub const MMIO_STRIDE: u64 = 0x1000;

/// The places of the devices in the virtio-mmio window.
///
/// A place without a device reads zero everywhere (virtio 1.2 4.2.2.1: device id 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Place {
    /// virtio-net, served by the switch.
    Net = 0,
    /// virtio-console: the guest's messages.
    Console = 1,
    /// virtio-entropy.
    Entropy = 2,
    /// virtio-fs: the file space.
    Files = 3,
    /// virtio-vsock: programs are run through it.
    Vsock = 4,
    /// virtio-blk: the first disk, then the others.
    Disk0 = 5,
    /// The second disk.
    Disk1 = 6,
    /// The third disk.
    Disk2 = 7,
    /// The fourth disk.
    Disk3 = 8,
}

impl Place {
    /// Every place, in order.
    pub const ALL: [Place; 9] = [
        Place::Net,
        Place::Console,
        Place::Entropy,
        Place::Files,
        Place::Vsock,
        Place::Disk0,
        Place::Disk1,
        Place::Disk2,
        Place::Disk3,
    ];

    /// The places of the disks, in order; a space has as many disks at most.
    pub const DISKS: [Place; 4] = [Place::Disk0, Place::Disk1, Place::Disk2, Place::Disk3];

    /// The guest-physical address of the device's registers.
    pub const fn address(self) -> u64 {
        MMIO_BASE + self as u64 * MMIO_STRIDE
    }
}

/// Every queue of every device but virtio-net takes this many descriptors; the native guest uses
/// powers of two up to it and does not ask QueueNumMax, since asking costs an exit.
///
/// For the same reason it relies on every register being zero at the start (feature
/// selectors, queue selector, high halves of queue addresses), gives the device only
/// the queues it uses (console: transmitq; fs: the first request queue; vsock: rx
/// and tx), and never reads InterruptStatus or writes InterruptACK.
pub const QUEUE_SIZE: u16 = 64;

/// As [`QUEUE_SIZE`], for virtio-net: a frame of 64 KiB spans many receive buffers.
pub const NET_QUEUE_SIZE: u16 = 512;

/// A 4-byte write here sleeps: the value is the longest sleep in microseconds
/// ([`SLEEP_FOREVER`] for no limit). Any device's used-buffer notification wakes.
pub const SLEEP_PORT: u16 = 0x510;

/// The value for [`SLEEP_PORT`] that sleeps until a device notifies.
pub const SLEEP_FOREVER: u32 = u32::MAX;

/// A 4-byte write here ends the machine: 0 is a clean power-off, all else a fault
/// whose message was written to [`MESSAGE_PORT`].
pub const POWER_PORT: u16 = 0x514;

/// A 1-byte write here is a byte of a panic message, usable before and without
/// any device; the host keeps at most 4 KiB of it.
pub const MESSAGE_PORT: u16 = 0x518;

/// The vsock port the guest's program runner listens on (frames of [`crate::exec`]).
pub const EXEC_PORT: u32 = 1;
