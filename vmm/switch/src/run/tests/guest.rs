//! A guest's driver and its VM process's front end, written for tests: real rings in a real memory file.
#![expect(clippy::disallowed_types, reason = "memory is mapped from a file")]

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;

use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::mmap::{GuestRegionMmap, MmapRegion};
use vm_memory::{Bytes, FileOffset, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use virtio::Memory;

use crate::control::{Attached, Extent};
use crate::frame::{Mac, SWITCH};

const BYTES: u64 = 8 << 20;
const SIZE: u16 = 256;
/// Each queue: descriptors, available ring and used ring.
const QUEUES: [u64; 2] = [0x1000, 0x6000];
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
/// Buffers for packets to the guest, and the one for packets from it.
const RECEIVE: u64 = 0x10_0000;
const RECEIVE_BYTES: u64 = 4 << 20;
const TRANSMIT: u64 = 0x60_0000;
const TRANSMIT_BYTES: usize = 1 << 20;
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// How a driver sets its device up.
#[derive(Clone, Copy)]
pub(super) struct Setup {
    /// Of the features that are offered, those it takes.
    pub(super) features: u64,
    /// Receive buffers it gives at the start.
    pub(super) buffers: u16,
    /// Bytes of each, at most `RECEIVE_BYTES / buffers`.
    pub(super) bytes: u32,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup { features: u64::MAX, buffers: 64, bytes: 2048 }
    }
}

/// A guest with a running virtio-net device.
pub(super) struct Guest {
    pub(super) memory: Memory,
    pub(super) mac: Mac,
    pub(super) mtu: u16,
    kicks: [EventFd; 2],
    _calls: [EventFd; 2],
    /// Closed with the guest.
    _front: Frontend,
    setup: Setup,
    sent: u16,
    given: u16,
    received: u16,
}

/// Memory of a guest: a file, and how its region is described to the back end.
pub(super) fn map(file: &OwnedFd) -> (Memory, VhostUserMemoryRegionInfo) {
    let bytes = rustix::fs::fstat(file).unwrap().st_size as u64;
    let file = File::from(file.try_clone().unwrap());
    let fd = file.as_raw_fd();
    let region = MmapRegion::from_file(FileOffset::new(file, 0), bytes as usize).unwrap();
    let user = region.as_ptr() as u64;
    let region = GuestRegionMmap::new(region, GuestAddress(0)).unwrap();
    let info = VhostUserMemoryRegionInfo {
        guest_phys_addr: 0,
        memory_size: bytes,
        userspace_addr: user,
        mmap_offset: 0,
        mmap_handle: fd,
    };
    (Memory::from_regions(vec![region]).unwrap(), info)
}

impl Guest {
    pub(super) fn new(attached: Attached) -> Guest {
        Guest::with(attached, Setup::default())
    }

    pub(super) fn with(attached: Attached, setup: Setup) -> Guest {
        let Attached { mac, mtu, vhost_user } = attached;
        Guest::on(vhost_user.into(), Extent { mac, mtu }, setup)
    }

    pub(super) fn on(stream: UnixStream, Extent { mac, mtu }: Extent, setup: Setup) -> Guest {
        let file = sys::memfd::sealed("guest", BYTES).unwrap();
        let (memory, info) = map(&file);
        let mut front = Frontend::from_stream(stream, 2);
        front.set_owner().unwrap();
        let features = front.get_features().unwrap();
        front.set_features(features & setup.features).unwrap();
        let protocol = front.get_protocol_features().unwrap();
        front.set_protocol_features(protocol).unwrap();
        front.set_mem_table(&[info]).unwrap();
        let events = || [EventFd::new(0).unwrap(), EventFd::new(0).unwrap()];
        let (kicks, calls) = (events(), events());
        for (index, base) in QUEUES.into_iter().enumerate() {
            let user = info.userspace_addr + base;
            let config = VringConfigData {
                queue_max_size: SIZE,
                queue_size: SIZE,
                flags: 0,
                desc_table_addr: user,
                used_ring_addr: user + USED,
                avail_ring_addr: user + AVAILABLE,
                log_addr: None,
            };
            front.set_vring_num(index, SIZE).unwrap();
            front.set_vring_base(index, 0).unwrap();
            front.set_vring_addr(index, &config).unwrap();
            front.set_vring_call(index, &calls[index]).unwrap();
            front.set_vring_kick(index, &kicks[index]).unwrap();
            front.set_vring_enable(index, true).unwrap();
        }
        let mut guest = Guest {
            memory,
            mac,
            mtu,
            kicks,
            _calls: calls,
            _front: front,
            setup,
            sent: 0,
            given: 0,
            received: 0,
        };
        (0..setup.buffers).for_each(|slot| guest.give(slot, setup.bytes));
        guest
    }

    /// Gives one receive buffer of `bytes` bytes.
    pub(super) fn give(&mut self, slot: u16, bytes: u32) {
        let address = RECEIVE + self.stride() * u64::from(slot);
        self.describe(0, slot, (address, bytes), WRITE);
        self.offer(0, self.given, slot);
        self.given = self.given.wrapping_add(1);
    }

    fn stride(&self) -> u64 {
        RECEIVE_BYTES / u64::from(self.setup.buffers.max(1))
    }

    fn describe(&self, queue: usize, slot: u16, (address, length): (u64, u32), flags: u16) {
        let at = QUEUES[queue] + 16 * u64::from(slot);
        self.memory.write_obj(address, GuestAddress(at)).unwrap();
        self.memory.write_obj(length, GuestAddress(at + 8)).unwrap();
        self.memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
        self.memory.write_obj(slot.wrapping_add(1), GuestAddress(at + 14)).unwrap();
    }

    fn offer(&self, queue: usize, index: u16, slot: u16) {
        let ring = QUEUES[queue] + AVAILABLE;
        let entry = GuestAddress(ring + 4 + 2 * u64::from(index % SIZE));
        self.memory.write_obj(slot, entry).unwrap();
        self.memory.store(index.wrapping_add(1), GuestAddress(ring + 2), Ordering::SeqCst).unwrap();
    }

    fn used(&self, queue: usize) -> u16 {
        self.memory.load(GuestAddress(QUEUES[queue] + USED + 2), Ordering::SeqCst).unwrap()
    }

    /// Sends one frame, whatever it is, and waits until it was taken.
    pub(super) fn send(&mut self, net_header: [u8; 12], frame: &[u8]) {
        self.send_in(&[&net_header, frame].concat(), &[]);
    }

    /// The same in a chain of pieces of these lengths, the last of which takes what is left.
    pub(super) fn send_in(&mut self, bytes: &[u8], pieces: &[usize]) {
        self.put(bytes, pieces);
        super::eventually(|| self.used(1) == self.sent);
    }

    /// Makes a frame available, and waits for nothing.
    pub(super) fn put(&mut self, bytes: &[u8], pieces: &[usize]) {
        let bytes = &bytes[..bytes.len().min(TRANSMIT_BYTES)];
        self.memory.write_slice(bytes, GuestAddress(TRANSMIT)).unwrap();
        let mut at = 0;
        let mut parts: Vec<_> = pieces
            .iter()
            .take(usize::from(SIZE) - 1)
            .map(|piece| {
                let start = at;
                at = (at + piece).min(bytes.len());
                (start, at)
            })
            .collect();
        parts.push((at, bytes.len()));
        let last = parts.len() - 1;
        for (slot, (start, end)) in parts.into_iter().enumerate() {
            let flags = if slot == last { 0 } else { NEXT };
            let part = (TRANSMIT + start as u64, (end - start) as u32);
            self.describe(1, slot as u16, part, flags);
        }
        self.offer(1, self.sent, 0);
        self.sent = self.sent.wrapping_add(1);
        // Suppressed notifications are for real drivers; a needless one harms nobody.
        self.kicks[1].write(1).unwrap();
    }

    /// How many of the frames sent were taken.
    pub(super) fn taken(&self) -> u16 {
        self.used(1)
    }

    /// Sends an IP packet.
    pub(super) fn send_packet(&mut self, packet: &[u8]) {
        self.send([0; 12], &self.frame(packet));
    }

    /// A frame to the switch with this packet.
    pub(super) fn frame(&self, packet: &[u8]) -> Vec<u8> {
        let kind = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
        [&SWITCH[..], &self.mac, &kind, packet].concat()
    }

    /// The next frame for the guest, if there is one; its buffers are given again.
    pub(super) fn receive(&mut self) -> Option<Vec<u8>> {
        self.receive_with_header().map(|(_, frame)| frame)
    }

    /// The same with the virtio-net header before it; nothing at all for a buffer that was given
    /// back empty.
    pub(super) fn receive_with_header(&mut self) -> Option<([u8; 12], Vec<u8>)> {
        if self.used(0) == self.received {
            return None;
        }
        let mut bytes = self.take_chain();
        if bytes.is_empty() {
            return Some(([0; 12], bytes));
        }
        let header: [u8; 12] = bytes.drain(..12).collect::<Vec<_>>().try_into().unwrap();
        let [.., low, high] = header;
        for _ in 1..u16::from_le_bytes([low, high]) {
            assert_ne!(self.used(0), self.received, "all buffers of a packet are shown at once");
            bytes.extend(self.take_chain());
        }
        Some((header, bytes))
    }

    fn take_chain(&mut self) -> Vec<u8> {
        let element = QUEUES[0] + USED + 4 + 8 * u64::from(self.received % SIZE);
        let slot: u32 = self.memory.read_obj(GuestAddress(element)).unwrap();
        let length: u32 = self.memory.read_obj(GuestAddress(element + 4)).unwrap();
        let mut bytes = vec![0; length as usize];
        let buffer = GuestAddress(RECEIVE + self.stride() * u64::from(slot));
        self.memory.read_slice(&mut bytes, buffer).unwrap();
        self.received = self.received.wrapping_add(1);
        self.give(slot as u16, self.setup.bytes);
        bytes
    }

    /// Waits for the next frame.
    pub(super) fn expect_frame(&mut self) -> Vec<u8> {
        let mut frame = None;
        super::eventually(|| {
            frame = self.receive();
            frame.is_some()
        });
        frame.unwrap()
    }
}
