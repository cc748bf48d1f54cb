//! A guest's driver and its VM process's front end, written for tests: real rings in a real memory file.
#![expect(clippy::disallowed_types, reason = "memory is mapped from a file")]

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::mmap::{GuestRegionMmap, MmapRegion};
use vm_memory::{Bytes, FileOffset, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use virtio::Memory;

use crate::control::Attached;
use crate::frame::{Mac, SWITCH};

const BYTES: u64 = 1 << 20;
const SIZE: u16 = 64;
/// Each queue: descriptors, available ring and used ring, then its buffers of 2 KiB.
const QUEUES: [u64; 2] = [0x1000, 0x4000];
const AVAILABLE: u64 = 0x800;
const USED: u64 = 0x1000;
const BUFFERS: [u64; 2] = [0x1_0000, 0x4_0000];
const BUFFER: u64 = 2048;
const WRITE: u16 = 2;

/// A guest with a running virtio-net device.
pub(super) struct Guest {
    pub(super) memory: Memory,
    pub(super) mac: Mac,
    pub(super) mtu: u16,
    kicks: [EventFd; 2],
    _calls: [EventFd; 2],
    /// Closed with the guest.
    _front: Frontend,
    sent: u16,
    received: u16,
}

/// Memory of a guest: a file, and how its region is described to the back end.
pub(super) fn map(file: &OwnedFd) -> (Memory, VhostUserMemoryRegionInfo) {
    let file = File::from(file.try_clone().unwrap());
    let fd = file.as_raw_fd();
    let region = MmapRegion::from_file(FileOffset::new(file, 0), BYTES as usize).unwrap();
    let user = region.as_ptr() as u64;
    let region = GuestRegionMmap::new(region, GuestAddress(0)).unwrap();
    let info = VhostUserMemoryRegionInfo {
        guest_phys_addr: 0,
        memory_size: BYTES,
        userspace_addr: user,
        mmap_offset: 0,
        mmap_handle: fd,
    };
    (Memory::from_regions(vec![region]).unwrap(), info)
}

impl Guest {
    pub(super) fn new(attached: Attached) -> Guest {
        let file = sys::memfd::sealed("guest", BYTES).unwrap();
        let (memory, info) = map(&file);
        let mut front = Frontend::from_stream(attached.vhost_user.into(), 2);
        front.set_owner().unwrap();
        let features = front.get_features().unwrap();
        front.set_features(features).unwrap();
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
        let (mac, mtu) = (attached.mac, attached.mtu);
        let guest =
            Guest { memory, mac, mtu, kicks, _calls: calls, _front: front, sent: 0, received: 0 };
        for slot in 0..SIZE {
            guest.describe(0, slot, BUFFER as u32, WRITE);
            guest.offer(0, slot, slot);
        }
        guest
    }

    fn describe(&self, queue: usize, slot: u16, length: u32, flags: u16) {
        let at = QUEUES[queue] + 16 * u64::from(slot);
        let address = BUFFERS[queue] + BUFFER * u64::from(slot);
        self.memory.write_obj(address, GuestAddress(at)).unwrap();
        self.memory.write_obj(length, GuestAddress(at + 8)).unwrap();
        self.memory.write_obj(flags, GuestAddress(at + 12)).unwrap();
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
        let slot = self.sent % SIZE;
        let buffer = GuestAddress(BUFFERS[1] + BUFFER * u64::from(slot));
        let bytes = [&net_header[..], &frame[..frame.len().min(BUFFER as usize - 12)]].concat();
        self.memory.write_slice(&bytes, buffer).unwrap();
        self.describe(1, slot, bytes.len() as u32, 0);
        self.offer(1, self.sent, slot);
        self.sent = self.sent.wrapping_add(1);
        // Suppressed notifications are for real drivers; a needless one harms nobody.
        self.kicks[1].write(1).unwrap();
        super::eventually(|| self.used(1) == self.sent);
    }

    /// Sends an IPv4 packet.
    pub(super) fn send_packet(&mut self, packet: &[u8]) {
        let frame = [&SWITCH[..], &self.mac, &[8, 0], packet].concat();
        self.send([0; 12], &frame);
    }

    /// The next frame for the guest, if there is one; its buffer is offered again.
    pub(super) fn receive(&mut self) -> Option<Vec<u8>> {
        if self.used(0) == self.received {
            return None;
        }
        let element = QUEUES[0] + USED + 4 + 8 * u64::from(self.received % SIZE);
        let slot: u32 = self.memory.read_obj(GuestAddress(element)).unwrap();
        let length: u32 = self.memory.read_obj(GuestAddress(element + 4)).unwrap();
        let mut frame = vec![0; length as usize];
        let buffer = GuestAddress(BUFFERS[0] + BUFFER * u64::from(slot));
        self.memory.read_slice(&mut frame, buffer).unwrap();
        self.offer(0, self.received.wrapping_add(SIZE), slot as u16);
        self.received = self.received.wrapping_add(1);
        Some(frame.split_off(12))
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
