//! A back end of vhost-user-fs: a file space behind rust-vmm's own transport.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use cowfs::{Config, FileSpace};
use vhost::vhost_user::Listener;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VhostUserDaemon, VringRwLock, VringT};
use virtio_queue::QueueT;
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{
    EventConsumer, EventFlag, EventNotifier, new_event_consumer_and_notifier,
};

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// VIRTIO_F_VERSION_1.
const VERSION_1: u64 = 1 << 32;

/// The machine's way to a file space; it serves one front end, until that goes.
pub(crate) struct Served {
    back: Arc<Back>,
    thread: JoinHandle<()>,
}

impl Served {
    /// Waits for a front end at `socket`.
    pub(crate) fn at(socket: &Path, config: Config) -> Served {
        let mut listener = Listener::new(socket, true).unwrap();
        let (memory, space) = (Memory::new(GuestMemoryMmap::new()), FileSpace::open(config));
        let back = Arc::new(Back { space: space.unwrap(), memory: memory.clone() });
        let mut daemon = VhostUserDaemon::new("files".into(), Arc::clone(&back), memory).unwrap();
        let serve = move || {
            daemon.start(&mut listener).unwrap();
            // A machine that is killed says nothing more, or half of something.
            let _ = daemon.wait();
        };
        Served { back, thread: thread::Builder::new().spawn(serve).unwrap() }
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.back.space.counters().requests
    }

    /// Waits for the front end to have gone.
    pub(crate) fn end(self) {
        self.thread.join().unwrap();
    }
}

struct Back {
    space: FileSpace,
    memory: Memory,
}

impl Back {
    /// Serves what waits in a queue; the library has read its kick.
    fn serve(&self, vring: &VringRwLock) -> io::Result<()> {
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        let memory = self.memory.memory();
        let next = || vring.get_mut().get_queue_mut().pop_descriptor_chain(self.memory.memory());
        while let Some(chain) = next() {
            let head = chain.head_index();
            let mut from = chain.clone().reader(&memory).map_err(io::Error::other)?;
            let mut to = chain.writer(&memory).map_err(io::Error::other)?;
            request.clear();
            from.read_to_end(&mut request)?;
            self.space.handle(&request, to.available_bytes(), &mut reply);
            to.write_all(&reply)?;
            vring.add_used(head, reply.len() as u32).map_err(io::Error::other)?;
            vring.signal_used_queue()?;
        }
        Ok(())
    }
}

impl VhostUserBackend for Back {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        // High priority, and requests.
        2
    }

    fn max_queue_size(&self) -> usize {
        1024
    }

    fn features(&self) -> u64 {
        VERSION_1 | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ
    }

    fn set_event_idx(&self, _: bool) {}

    fn update_memory(&self, _: Memory) -> io::Result<()> {
        // The library changes what both have.
        Ok(())
    }

    fn exit_event(&self, _: usize) -> Option<(EventConsumer, EventNotifier)> {
        new_event_consumer_and_notifier(EventFlag::CLOEXEC).ok()
    }

    fn handle_event(
        &self,
        queue: u16,
        _: EventSet,
        vrings: &[VringRwLock],
        _: usize,
    ) -> io::Result<()> {
        self.serve(&vrings[usize::from(queue)])
    }
}
