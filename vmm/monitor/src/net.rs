//! The net device's other half: its rings are handed to the switch by vhost-user.
//!
//! This process keeps the registers and never looks into a packet.

use std::os::unix::net::UnixStream;

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio::Queue;
use virtio_queue::QueueT;
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

/// The queues of virtio-net without control queue: receive, transmit (virtio 1.2 5.1.2).
pub(crate) const QUEUES: usize = 2;

/// The switch does not answer as vhost-user says.
#[derive(Debug, thiserror::Error)]
#[error("the switch did not {doing}; its log says why (portspace inspect NAME)")]
pub(crate) struct NetFailure {
    doing: &'static str,
    #[source]
    source: vhost::Error,
}

fn doing(what: &'static str) -> impl FnOnce(vhost::Error) -> NetFailure {
    move |source| NetFailure { doing: what, source }
}

/// The space's one network, through its connection to the switch.
pub(crate) struct Net {
    frontend: Frontend,
    /// What the switch offers of virtio features.
    offered: u64,
    kicks: [EventFd; QUEUES],
    wake: EventFd,
    memory: GuestMemoryMmap,
}

impl Net {
    /// Makes this process the owner of the connection and learns what the switch can do.
    ///
    /// `kicks` are signalled by the guest's notifications, `wake` by the switch's.
    pub(crate) fn new(
        switch: UnixStream,
        kicks: [EventFd; QUEUES],
        wake: EventFd,
        memory: GuestMemoryMmap,
    ) -> Result<Net, NetFailure> {
        let mut frontend = Frontend::from_stream(switch, QUEUES as u64);
        frontend.set_owner().map_err(doing("take an owner"))?;
        let offered = frontend.get_features().map_err(doing("tell its features"))?;
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        if offered & protocol != 0 {
            let known = frontend.get_protocol_features().map_err(doing("tell its protocol"))?;
            frontend
                .set_protocol_features(known & VhostUserProtocolFeatures::CONFIG)
                .map_err(doing("take the protocol"))?;
        }
        Ok(Net { frontend, offered, kicks, wake, memory })
    }

    /// The virtio features the guest may be offered.
    pub(crate) fn features(&self) -> u64 {
        self.offered & !VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    /// Moves the queues to the switch.
    pub(crate) fn activate(&mut self, features: u64, queues: &[Queue]) -> Result<(), NetFailure> {
        let protocol = self.offered & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        self.frontend.set_features(features | protocol).map_err(doing("take the features"))?;
        let regions: Vec<_> = self
            .memory
            .iter()
            .map(VhostUserMemoryRegionInfo::from_guest_region)
            .collect::<Result<_, _>>()
            .map_err(doing("map guest memory"))?;
        self.frontend.set_mem_table(&regions).map_err(doing("map guest memory"))?;
        for (index, queue) in queues.iter().enumerate().filter(|(_, queue)| queue.ready()) {
            self.give(index, queue)?;
        }
        Ok(())
    }

    fn give(&mut self, index: usize, queue: &Queue) -> Result<(), NetFailure> {
        let host = |address: u64| {
            self.memory
                .get_host_address(GuestAddress(address))
                .map(|pointer| pointer as u64)
                .map_err(|_| doing("find a queue in guest memory")(vhost::Error::InvalidQueue))
        };
        let addresses = VringConfigData {
            queue_max_size: queue.max_size(),
            queue_size: queue.size(),
            flags: 0,
            desc_table_addr: host(queue.desc_table())?,
            used_ring_addr: host(queue.used_ring())?,
            avail_ring_addr: host(queue.avail_ring())?,
            log_addr: None,
        };
        let (kick, wake) = (&self.kicks[index], &self.wake);
        self.frontend.set_vring_num(index, queue.size()).map_err(doing("take a queue's size"))?;
        self.frontend.set_vring_addr(index, &addresses).map_err(doing("take a queue's place"))?;
        self.frontend.set_vring_base(index, 0).map_err(doing("take a queue's position"))?;
        self.frontend.set_vring_call(index, wake).map_err(doing("take a queue's wake-up"))?;
        self.frontend.set_vring_kick(index, kick).map_err(doing("take a queue's kick"))?;
        self.frontend.set_vring_enable(index, true).map_err(doing("start a queue"))
    }

    /// Takes the queues back: the switch has stopped using them when this returns.
    pub(crate) fn reset(&mut self) -> Result<(), NetFailure> {
        for index in 0..QUEUES {
            self.frontend.get_vring_base(index).map_err(doing("stop a queue"))?;
        }
        Ok(())
    }
}
