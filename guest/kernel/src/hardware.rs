//! What the kernel asks of the machine. Implemented over `hal` by the bootable
//! image, and in memory by the tests.

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

/// The one network's frames.
pub trait Link: phy::Device + Queues {}

impl<L: phy::Device + Queues> Link for L {}

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
