//! What a front end has set up so far: features, memory and queues.
#![expect(clippy::disallowed_types, reason = "vhost hands descriptors over as files")]

use std::fs::File;
use std::os::fd::OwnedFd;

use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserShMemConfig, VhostUserSharedMsg,
    VhostUserSingleMemoryRegion, VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{
    Error, GpuBackend, Result, VhostUserBackendReqHandlerMut, VhostUserProtocolFeatures,
    VhostUserVirtioFeatures,
};
use vm_memory::mmap::{GuestRegionMmap, MmapRegion};
use vm_memory::{FileOffset, GuestAddress};

use sys::eventfd::EventFd;
use sys::memfd;
use virtio::Memory;
use virtio::ring::{Ring, Settings};

use crate::Queues;

/// Most descriptors of a queue.
const MAX_QUEUE_SIZE: u32 = 1024;

/// Regions a memory table may have.
const MAX_REGIONS: usize = 8;

/// VIRTIO_F_EVENT_IDX and VHOST_USER_F_PROTOCOL_FEATURES.
const EVENT_IDX: u64 = 1 << 29;
const PROTOCOL_FEATURES: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();

/// What the protocol is asked to do beyond its beginnings. Not CONFIG: the front ends of network
/// cards and file systems make their own configuration space, and QEMU warns of a back end that
/// would.
const fn protocol<Q: Queues>() -> VhostUserProtocolFeatures {
    let asked = VhostUserProtocolFeatures::REPLY_ACK;
    if Q::ARE_COUNTED { asked.union(VhostUserProtocolFeatures::MQ) } else { asked }
}

/// A memory region as the front end sees it.
#[derive(Clone, Copy)]
struct Region {
    guest: u64,
    user: u64,
    bytes: u64,
}

/// A queue as far as the front end has described it.
#[derive(Default)]
struct Vring {
    size: u16,
    /// Addresses of its three parts in the front end's own address space.
    parts: Option<[u64; 3]>,
    /// The next available entry to take when it starts.
    base: u16,
    /// There is an event by which chains are announced.
    has_kick: bool,
    enabled: bool,
}

/// A device that is being set up.
pub(crate) struct Device<Q> {
    features: u64,
    protocol: VhostUserProtocolFeatures,
    memory: Option<Memory>,
    regions: Vec<Region>,
    vrings: Vec<Vring>,
    /// Those that run.
    pub(crate) queues: Q,
}

impl<Q: Queues> Device<Q> {
    /// A device nobody has set up.
    pub(crate) fn new(queues: Q) -> Device<Q> {
        Device {
            features: 0,
            protocol: VhostUserProtocolFeatures::empty(),
            memory: None,
            regions: Vec::new(),
            vrings: (0..Q::COUNT).map(|_| Vring::default()).collect(),
            queues,
        }
    }

    /// Whether rings are enabled by messages, as features have been set.
    pub(crate) fn knows_enabling(&self) -> bool {
        self.features & PROTOCOL_FEATURES != 0
    }

    /// Whether messages that ask for a reply get one.
    pub(crate) fn replies(&self) -> bool {
        self.protocol.contains(VhostUserProtocolFeatures::REPLY_ACK)
    }

    /// What SET_VRING_ENABLE says, before features are set.
    pub(crate) fn enable_early(&mut self, index: u32, state: u32) -> Result<()> {
        match state {
            0 | 1 => self.set_vring_enable(index, state == 1),
            _ => Err(Error::InvalidParam),
        }
    }

    /// Stops a queue where it is.
    fn stop(&mut self, index: usize) {
        if let Some(ring) = self.queues.stop(index) {
            self.vrings[index].base = ring.next_available();
        }
    }

    /// Starts a queue if everything about it is known.
    fn start(&mut self, index: usize) -> Result<()> {
        self.stop(index);
        let vring = &self.vrings[index];
        // Without the protocol features, queues are enabled by being kicked (vhost-user, "Ring states").
        let enabled = vring.enabled || !self.knows_enabling();
        let (Some(parts), Some(memory)) = (vring.parts, &self.memory) else { return Ok(()) };
        if !enabled || !vring.has_kick || vring.size == 0 {
            return Ok(());
        }
        let [descriptors, available, used] = parts.map(|user| self.to_guest(user));
        let settings = Settings {
            size: vring.size,
            descriptors: descriptors?,
            available: available?,
            used: used?,
            next_available: vring.base,
            event_idx: self.features & EVENT_IDX != 0,
        };
        let ring = Ring::from_settings(&settings, Q::READABLE_LIMIT, memory);
        self.queues.start(index, ring.map_err(|_| Error::InvalidParam)?);
        Ok(())
    }

    fn to_guest(&self, user: u64) -> Result<u64> {
        let inside =
            |region: &&Region| user.checked_sub(region.user).is_some_and(|o| o < region.bytes);
        let region = self.regions.iter().find(inside).ok_or(Error::InvalidParam)?;
        region.guest.checked_add(user - region.user).ok_or(Error::InvalidParam)
    }

    fn index(&self, of: impl Into<u32>) -> Result<usize> {
        let index = of.into() as usize;
        if index < Q::COUNT { Ok(index) } else { Err(Error::InvalidParam) }
    }

    fn restart(&mut self) -> Result<()> {
        (0..Q::COUNT).try_for_each(|index| self.start(index))
    }

    fn reset(&mut self) {
        for index in 0..Q::COUNT {
            self.stop(index);
            self.vrings[index].enabled = false;
        }
    }
}

fn event(file: Option<File>) -> Result<Option<EventFd>> {
    let take = |file: File| EventFd::from_untrusted(OwnedFd::from(file)).ok_or(Error::InvalidParam);
    file.map(take).transpose()
}

/// Maps one region, if its file can never end before it does.
fn map(region: &VhostUserMemoryRegion, file: File) -> Result<GuestRegionMmap> {
    let (offset, bytes) = (region.mmap_offset, region.memory_size);
    let end = offset.checked_add(bytes).ok_or(Error::InvalidParam)?;
    let inside = memfd::unshrinkable_bytes(&file).is_some_and(|size| end <= size);
    let address = GuestAddress(region.guest_phys_addr);
    if !inside || bytes == 0 {
        return Err(Error::InvalidParam);
    }
    let bytes = usize::try_from(bytes).map_err(|_| Error::InvalidParam)?;
    let mapping = MmapRegion::from_file(FileOffset::new(file, offset), bytes)
        .map_err(|_| Error::InvalidParam)?;
    GuestRegionMmap::new(mapping, address).ok_or(Error::InvalidParam)
}

impl<Q: Queues> VhostUserBackendReqHandlerMut for Device<Q> {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.reset();
        Ok(())
    }

    fn reset_device(&mut self) -> Result<()> {
        self.reset();
        Ok(())
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.queues.offered() | PROTOCOL_FEATURES)
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        if features & !(self.queues.offered() | PROTOCOL_FEATURES) != 0 {
            return Err(Error::InvalidParam);
        }
        self.features = features;
        self.queues.agreed(features);
        self.restart()
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _postcopy: Option<bool>,
    ) -> Result<Option<Vec<u64>>> {
        if regions.is_empty() || regions.len() > MAX_REGIONS || regions.len() != files.len() {
            return Err(Error::InvalidParam);
        }
        (0..Q::COUNT).for_each(|index| self.stop(index));
        let mapped: Result<Vec<_>> =
            regions.iter().zip(files).map(|(region, file)| map(region, file)).collect();
        // A front end may list them in any order.
        let mut mapped = mapped?;
        mapped.sort_by_key(vm_memory::GuestMemoryRegion::start_addr);
        let memory = Memory::from_regions(mapped).map_err(|_| Error::InvalidParam)?;
        self.queues.mapped(memory.clone());
        self.memory = Some(memory);
        self.regions = regions
            .iter()
            .map(|r| Region { guest: r.guest_phys_addr, user: r.user_addr, bytes: r.memory_size })
            .collect();
        self.restart()?;
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        let index = self.index(index)?;
        if num == 0 || num > MAX_QUEUE_SIZE || !num.is_power_of_two() {
            return Err(Error::InvalidParam);
        }
        self.vrings[index].size = num as u16;
        self.start(index)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        let index = self.index(index)?;
        self.vrings[index].parts = Some([descriptor, available, used]);
        self.start(index)
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        let index = self.index(index)?;
        self.stop(index);
        self.vrings[index].base = u16::try_from(base).map_err(|_| Error::InvalidParam)?;
        self.start(index)
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        let place = self.index(index)?;
        self.stop(place);
        // It stays stopped until it is kicked anew.
        self.vrings[place].has_kick = false;
        self.queues.kicked_by(place, None);
        Ok(VhostUserVringState::new(index, self.vrings[place].base.into()))
    }

    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let index = self.index(index)?;
        // Without an event we would have to look at the queue for ever.
        let fresh = event(fd)?.ok_or(Error::InvalidParam)?;
        self.queues.kicked_by(index, Some(fresh));
        self.vrings[index].has_kick = true;
        self.start(index)
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> Result<()> {
        let index = self.index(index)?;
        self.queues.calls(index, event(fd)?);
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, _fd: Option<File>) -> Result<()> {
        self.index(index).map(drop)
    }

    fn get_protocol_features(&mut self) -> Result<VhostUserProtocolFeatures> {
        Ok(protocol::<Q>())
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        let features = VhostUserProtocolFeatures::from_bits(features).ok_or(Error::InvalidParam)?;
        if !protocol::<Q>().contains(features) {
            return Err(Error::InvalidParam);
        }
        self.protocol = features;
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(Q::COUNT as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        let index = self.index(index)?;
        self.vrings[index].enabled = enable;
        self.start(index)
    }

    fn get_config(&mut self, _: u32, _: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        Err(Error::InvalidParam)
    }

    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        Err(Error::InvalidParam)
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        Err(Error::InvalidParam)
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        Err(Error::InvalidParam)
    }

    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        Err(Error::InvalidParam)
    }

    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        Err(Error::InvalidParam)
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        Ok(MAX_REGIONS as u64)
    }

    fn add_mem_region(
        &mut self,
        _: &VhostUserSingleMemoryRegion,
        _: File,
        _: Option<bool>,
    ) -> Result<Option<u64>> {
        Err(Error::InvalidParam)
    }

    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
        Err(Error::InvalidParam)
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        Err(Error::InvalidParam)
    }

    fn check_device_state(&mut self) -> Result<()> {
        Err(Error::InvalidParam)
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        Err(Error::InvalidParam)
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        Err(Error::InvalidParam)
    }
}
