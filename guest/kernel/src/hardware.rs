//! What the kernel asks of the machine. Implemented over `hal` by the bootable
//! image, and in memory by the tests.

use core::ops::Deref;

use smoltcp::phy;

/// What every queue pair can do besides moving bytes.
pub trait Queues {
    /// Whether the device has something for us, by shared memory alone.
    fn pending(&self) -> bool;

    /// Asks the device to wake us; true if there is something already.
    fn arm(&mut self) -> bool;

    /// Tells the device what is new for it, if it asked for that. How many times it was told.
    fn kick(&mut self) -> u32;
}

/// The queues of virtio-net. A packet is `struct virtio_net_hdr` (virtio 1.2 5.1.6.1) and a frame.
pub trait Frames: Queues {
    /// A packet that arrived; its place goes back to the device with it.
    type Packet<'a>: Deref<Target = [u8]>
    where
        Self: 'a;
    /// See [`Room`].
    type Room<'a>: Room
    where
        Self: 'a;

    /// The next packet and room for a short answer; `None` if either is missing.
    fn receive(&mut self) -> Option<(Self::Packet<'_>, Self::Room<'_>)>;

    /// Room for the longest packet the device takes; `None` while there is none.
    fn room(&mut self) -> Option<Self::Room<'_>>;

    /// Packets from the device so far that were none.
    fn malformed(&self) -> u64;
}

/// Room for one packet on its way to the device.
pub trait Room {
    /// Bytes of the longest packet that can be sent now.
    fn longest(&self) -> usize;

    /// Sends what `fill` writes into `length` bytes, all of which it must write.
    fn send<R>(self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R;
}

/// What the one network is besides a device of smoltcp's.
pub trait Wire: phy::Device + Queues {
    /// Bytes of the longest IP packet that is not segmented.
    fn mtu(&self) -> usize;

    /// Sends a packet as it is, header included, whatever is in it; false while there is no room.
    fn send_packet(&mut self, packet: &[u8]) -> bool;

    /// Packets so far that were not believed.
    fn refused(&self) -> u64;

    /// Packets so far, either way, that are longer than the MTU.
    fn long(&self) -> u64;
}

/// The packets of virtio-vsock.
pub trait Packets: Queues {
    /// Hands the next packet to `read`; false if there is none.
    fn receive(&mut self, read: &mut dyn FnMut(&[u8])) -> bool;

    /// Sends header and payload as one packet; false while there is no room.
    fn send(&mut self, header: &[u8], payload: &[u8]) -> bool;
}

/// The requests of virtio-fs.
pub trait Requests: Queues {
    /// Sends a request; `None` while as many as possible are in flight. The
    /// number is free again after its reply.
    fn submit(&mut self, request: &[u8]) -> Option<u16>;

    /// Hands the next reply to `read`; false if there is none.
    fn complete(&mut self, read: &mut dyn FnMut(u16, &[u8])) -> bool;
}

/// The requests of virtio-blk.
pub trait Blocks: Queues {
    /// Sends a request whose reply has `reply` bytes, the last of them [`crate::disk::UNANSWERED`]
    /// unless the device writes it; `None` while as many as possible are in flight.
    /// The number is free again after its reply.
    fn submit(&mut self, request: &[u8], reply: usize) -> Option<u16>;

    /// Hands the next reply, all of it, to `read`; false if there is none.
    fn complete(&mut self, read: &mut dyn FnMut(u16, &[u8])) -> bool;
}

/// The console's messages.
pub trait Messages: Queues {
    /// Sends bytes, at most [`crate::console::LINE`]; false while there is no room.
    fn send(&mut self, bytes: &[u8]) -> bool;
}

/// The CPU and what belongs to it.
pub trait Cpu {
    /// Nanoseconds since the start.
    fn now_ns(&self) -> u64;

    /// Sleeps until a device that was armed has something, at most `limit_us`; `None`: no limit.
    fn sleep(&self, limit_us: Option<u64>);

    /// Bytes of heap in use.
    fn heap_used(&self) -> usize;
}
