//! The kernel's devices over the machine's queues.

use abi::layout::{NET_QUEUE_SIZE, Place};
use hal::mmio::{Device, Kind};
use hal::queue::{MergeQueue, Merged, ReceiveQueue, RequestQueue, SendQueue, Slot};
use kernel::console::LINE;
use kernel::disk::{self, Shape, UNANSWERED};
use kernel::files::{MAX_REPLY, MAX_REQUEST};
use kernel::hardware::{Blocks, Frames, Messages, Packets, Queues, Requests, Room};
use kernel::link::{self, ETHERNET, HEADER, LONGEST, Link, Offloads};
use kernel::vsock::{self, MAX_DATA};

/// The longest IP packet of a frame on Ethernet: programs may send it whatever the MTU is,
/// and hear that it is too big.
const ETHERNET_MTU: usize = 1500;

/// Frames on their way to the device, and how many of them may be long.
const FRAMES: u16 = 128;
const LONG_FRAMES: u16 = 8;

/// Buffers for frames from the device, where these may take several, and bytes of one. Two
/// kilobytes take a whole frame of the usual MTU; all together they take what a stream's
/// window lets a peer send ([`kernel::net::Windows::RECEIVE`]), be it in long frames or short.
const PARTS: u16 = NET_QUEUE_SIZE;
const PART: usize = 2048;

/// Buffers for frames where they may not.
const WHOLES: u16 = 64;

/// Packets of virtio-vsock on their way, each direction.
const PACKETS: u16 = 16;

/// Requests for files, and for each disk, on their way.
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

    fn roomy_slot(&mut self) -> Option<Slot<'_>> {
        let slot = self.queue.roomy_slot();
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
pub struct NetQueues {
    receive: MergeQueue,
    send: Outgoing,
    /// Whether a packet's header says how many buffers it spans.
    merge: bool,
}

/// The network, if its device is there; `mtu` is that of IP packets.
pub fn find_link(mtu: usize) -> Option<Link<NetQueues>> {
    let mut device = Device::find_with(Place::Net, Kind::Net, Offloads::accept)?;
    let offloads = Offloads::of(device.features());
    let bytes = HEADER_AND_ETHERNET + mtu;
    let receive = if offloads.merge {
        MergeQueue::new(&mut device, 0, PARTS, PART, LONGEST)
    } else {
        MergeQueue::new(&mut device, 0, WHOLES, bytes, bytes)
    };
    let bytes = HEADER_AND_ETHERNET + mtu.max(ETHERNET_MTU);
    let long = if offloads.segments_out { LONG_FRAMES } else { 0 };
    let send = SendQueue::with_long(&mut device, 1, FRAMES, bytes, long, LONGEST);
    device.go();
    let queues = NetQueues { receive, send: Outgoing::new(send), merge: offloads.merge };
    Some(Link::new(queues, offloads, mtu))
}

/// Bytes before the IP packet.
const HEADER_AND_ETHERNET: usize = HEADER + ETHERNET;

impl Queues for NetQueues {
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

impl Frames for NetQueues {
    type Packet<'a> = Merged<'a>;
    type Room<'a> = Space<'a>;

    fn receive(&mut self) -> Option<(Merged<'_>, Space<'_>)> {
        if !self.receive.pending() {
            return None;
        }
        let room = self.send.slot()?;
        let merge = self.merge;
        let packet = self.receive.receive(|first| if merge { link::buffers(first) } else { 1 })?;
        Some((packet, Space(room)))
    }

    fn room(&mut self) -> Option<Space<'_>> {
        self.send.roomy_slot().map(Space)
    }

    fn malformed(&self) -> u64 {
        self.receive.malformed()
    }
}

/// A free buffer.
pub struct Space<'a>(Slot<'a>);

impl Room for Space<'_> {
    fn longest(&self) -> usize {
        self.0.longest()
    }

    fn send<R>(self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        self.0.send(length, fill)
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
        let receive = ReceiveQueue::new(&mut device, 0, PACKETS, vsock::HEADER + PACKET_DATA);
        let send = SendQueue::new(&mut device, 1, PACKETS, vsock::HEADER + MAX_DATA);
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

/// virtio-blk.
pub struct Disk {
    queue: RequestQueue,
}

impl Disk {
    /// The device at `place`, if it is there, and what it is.
    pub fn find(place: Place) -> Option<(Disk, Shape)> {
        let mut device = Device::find_with(place, Kind::Block, Shape::accept)?;
        // virtio 1.2 5.2.4: the capacity in sectors, and the bounds of single requests.
        let sectors = u64::from(device.configuration(4)) << 32 | u64::from(device.configuration(0));
        let shape = Shape {
            size: sectors.saturating_mul(disk::SECTOR),
            features: device.features(),
            most_discarded: device.configuration(36),
            most_zeroed: device.configuration(48),
        };
        let (request, reply) = (disk::MAX_REQUEST, disk::MAX_REPLY);
        let queue = RequestQueue::new(&mut device, 0, REQUESTS, request, reply);
        device.go();
        Some((Disk { queue }, shape))
    }
}

impl Queues for Disk {
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

impl Blocks for Disk {
    fn submit(&mut self, request: &[u8], reply: usize) -> Option<u16> {
        self.queue.submit_with_room(reply, UNANSWERED, |bytes| {
            bytes[..request.len()].copy_from_slice(request);
            request.len()
        })
    }

    fn complete(&mut self, read: &mut dyn FnMut(u16, &[u8])) -> bool {
        self.queue.complete_whole(read).is_some()
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
