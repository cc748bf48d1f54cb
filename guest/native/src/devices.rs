//! The kernel's devices over the machine's queues.

use abi::layout::Place;
use hal::mmio::{Device, Kind};
use hal::queue::{ReceiveQueue, Received, RequestQueue, SendQueue, Slot};
use kernel::console::LINE;
use kernel::files::{MAX_REPLY, MAX_REQUEST};
use kernel::hardware::{Messages, Packets, Queues, Requests};
use kernel::vsock::{HEADER, MAX_DATA};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

/// `struct virtio_net_hdr` with VERSION_1 (virtio 1.2 5.1.6): all zero without offloads.
const NET_HEADER: usize = 12;

/// An Ethernet header.
const ETHERNET: usize = 14;

/// The longest IP packet of a frame on Ethernet: programs may send it whatever the MTU is,
/// and hear that it is too big.
const ETHERNET_MTU: usize = 1500;

/// Frames on their way, each direction.
const FRAMES: u16 = 64;

/// Packets of virtio-vsock on their way, each direction.
const PACKETS: u16 = 16;

/// File requests on their way.
const REQUESTS: u16 = 4;

/// Bytes of data in one packet from the host.
const PACKET_DATA: usize = 8 * 1024;

/// A send queue that remembers whether somebody found it full: only then is
/// room worth a notification.
struct Outgoing {
    queue: SendQueue,
    /// Refused since the last kick, and before it.
    refused: bool,
    blocked: bool,
}

impl Outgoing {
    fn new(queue: SendQueue) -> Outgoing {
        Outgoing { queue, refused: false, blocked: false }
    }

    fn slot(&mut self) -> Option<Slot<'_>> {
        let slot = self.queue.slot();
        self.refused |= slot.is_none();
        slot
    }

    fn unblocked(&self) -> bool {
        self.blocked && !self.queue.full()
    }

    fn arm(&mut self) -> bool {
        self.blocked && self.queue.arm()
    }

    fn kick(&mut self) -> bool {
        // Whoever still has something tried again in this turn.
        self.blocked = core::mem::take(&mut self.refused);
        self.queue.kick()
    }
}

/// virtio-net.
pub struct Link {
    receive: ReceiveQueue,
    send: Outgoing,
    mtu: usize,
}

impl Link {
    /// The device, if it is there; `mtu` is that of IP packets.
    pub fn find(mtu: usize) -> Option<Link> {
        let mut device = Device::find(Place::Net, Kind::Net)?;
        let bytes = |mtu| NET_HEADER + ETHERNET + mtu;
        let receive = ReceiveQueue::new(&mut device, 0, FRAMES, bytes(mtu));
        let send = SendQueue::new(&mut device, 1, FRAMES, bytes(mtu.max(ETHERNET_MTU)));
        device.go();
        Some(Link { receive, send: Outgoing::new(send), mtu })
    }
}

impl Queues for Link {
    fn pending(&self) -> bool {
        self.receive.pending() || self.send.unblocked()
    }

    fn arm(&mut self) -> bool {
        self.receive.arm() | self.send.arm()
    }

    fn kick(&mut self) -> u32 {
        u32::from(self.send.kick()) + u32::from(self.receive.kick())
    }
}

/// A frame that arrived.
pub struct Arrived<'a>(Received<'a>);

/// Room for a frame.
pub struct Room<'a>(Slot<'a>);

impl phy::RxToken for Arrived<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0.get(NET_HEADER..).unwrap_or_default())
    }
}

impl phy::TxToken for Room<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        self.0.send(NET_HEADER + length, |bytes| {
            let (header, frame) = bytes.split_at_mut(NET_HEADER);
            header.fill(0);
            fill(frame)
        })
    }
}

impl phy::Device for Link {
    type RxToken<'a> = Arrived<'a>;
    type TxToken<'a> = Room<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived<'_>, Room<'_>)> {
        if !self.receive.pending() {
            return None;
        }
        let room = self.send.slot()?;
        Some((Arrived(self.receive.receive()?), Room(room)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room<'_>> {
        self.send.slot().map(Room)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = ETHERNET + self.mtu;
        capabilities
    }
}

/// virtio-vsock.
pub struct Vsock {
    receive: ReceiveQueue,
    send: Outgoing,
}

impl Vsock {
    /// The device, if it is there, and the guest's context identifier.
    pub fn find() -> Option<(Vsock, u64)> {
        let mut device = Device::find(Place::Vsock, Kind::Vsock)?;
        // The upper half is reserved and zero (virtio 1.2 5.10.4).
        let cid = device.configuration(0);
        let receive = ReceiveQueue::new(&mut device, 0, PACKETS, HEADER + PACKET_DATA);
        let send = SendQueue::new(&mut device, 1, PACKETS, HEADER + MAX_DATA);
        device.go();
        Some((Vsock { receive, send: Outgoing::new(send) }, cid.into()))
    }
}

impl Queues for Vsock {
    fn pending(&self) -> bool {
        self.receive.pending() || self.send.unblocked()
    }

    fn arm(&mut self) -> bool {
        self.receive.arm() | self.send.arm()
    }

    fn kick(&mut self) -> u32 {
        u32::from(self.send.kick()) + u32::from(self.receive.kick())
    }
}

impl Packets for Vsock {
    fn receive(&mut self, read: &mut dyn FnMut(&[u8])) -> bool {
        self.receive.receive().is_some_and(|packet| {
            read(&packet);
            true
        })
    }

    fn send(&mut self, header: &[u8], payload: &[u8]) -> bool {
        let Some(slot) = self.send.slot() else { return false };
        slot.send(header.len() + payload.len(), |bytes| {
            let (first, rest) = bytes.split_at_mut(header.len());
            first.copy_from_slice(header);
            rest.copy_from_slice(payload);
        });
        true
    }
}

/// virtio-fs.
pub struct Files {
    queue: RequestQueue,
}

impl Files {
    /// The device, if it is there.
    pub fn find() -> Option<Files> {
        let mut device = Device::find(Place::Files, Kind::Files)?;
        // Queue 0 is for requests of high priority (virtio 1.2 5.11.2), which we have not.
        let queue = RequestQueue::new(&mut device, 1, REQUESTS, MAX_REQUEST, MAX_REPLY);
        device.go();
        Some(Files { queue })
    }
}

impl Queues for Files {
    fn pending(&self) -> bool {
        self.queue.pending()
    }

    fn arm(&mut self) -> bool {
        self.queue.arm()
    }

    fn kick(&mut self) -> u32 {
        self.queue.kick().into()
    }
}

impl Requests for Files {
    fn submit(&mut self, request: &[u8]) -> Option<u16> {
        self.queue.submit(|bytes| {
            bytes[..request.len()].copy_from_slice(request);
            request.len()
        })
    }

    fn complete(&mut self, read: &mut dyn FnMut(u16, &[u8])) -> bool {
        self.queue.complete(read).is_some()
    }
}

/// virtio-console, its output.
pub struct Console {
    send: Outgoing,
}

impl Console {
    /// The device, if it is there.
    pub fn find() -> Option<Console> {
        let mut device = Device::find(Place::Console, Kind::Console)?;
        let send = SendQueue::new(&mut device, 1, 4, LINE);
        device.go();
        Some(Console { send: Outgoing::new(send) })
    }
}

impl Queues for Console {
    fn pending(&self) -> bool {
        self.send.unblocked()
    }

    fn arm(&mut self) -> bool {
        self.send.arm()
    }

    fn kick(&mut self) -> u32 {
        self.send.kick().into()
    }
}

impl Messages for Console {
    fn send(&mut self, bytes: &[u8]) -> bool {
        let Some(slot) = self.send.slot() else { return false };
        slot.send(bytes.len(), |room| room.copy_from_slice(bytes));
        true
    }
}
