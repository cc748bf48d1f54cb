//! The disks' threads: each has the files of one disk behind its virtio-blk queue.
//!
//! A thread for each, because a flush takes as long as the host's disk does.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};

use abi::layout::Place;
use cowdisk::host::{self, HostFile};
use cowdisk::{CLUSTER, Space};
use virtio::block::{self, Block, Order, Refused, Shape};
use virtio::mmio::Identity;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::bus::{Move, Owner};
use crate::run::Failure;
use crate::vcpu::chain;
use crate::{Settings, Signal};

/// A disk whose thread does not run yet.
pub(crate) struct Disk {
    files: cowdisk::Disk<HostFile>,
    shape: Shape,
    place: Place,
    tell: Sender<Move>,
    moves: Receiver<Move>,
    /// Rung for a kick and for a move; the only thing waited for.
    bell: EventFd,
}

/// Opens the space's disks. Before the jail: these files have no rule in it.
///
/// # Errors
/// The first disk that cannot be opened, with what to do.
pub(crate) fn open(settings: &Settings) -> Result<Vec<Disk>, Failure> {
    let disks = Place::DISKS.into_iter().zip(&settings.disks).enumerate();
    disks
        .map(|(number, (place, disk))| {
            let config = host::Config {
                image: disk.image.clone(),
                layers: disk.layers.clone(),
                writable: disk.writable,
            };
            let files = host::open(&config)
                .map_err(|failure| Failure::Disk(settings.name.clone(), number, failure))?;
            Disk::new(files, number, place)
                .map_err(|error| Failure::Setup(settings.name.clone(), error))
        })
        .collect()
}

impl Disk {
    fn new(files: cowdisk::Disk<HostFile>, number: usize, place: Place) -> std::io::Result<Disk> {
        let mut serial = [0; 20];
        let name = format!("portspace-{number}");
        serial[..name.len()].copy_from_slice(name.as_bytes());
        let shape = Shape {
            size: files.size(),
            read_only: !files.is_writable(),
            cluster: CLUSTER as u32,
            serial,
        };
        let (tell, moves) = channel();
        Ok(Disk { files, shape, place, tell, moves, bell: EventFd::new(0)? })
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    pub(crate) fn identity(&self) -> Identity {
        block::identity(&self.shape)
    }

    /// What the queue's notifications ring.
    pub(crate) fn bell(&self) -> &EventFd {
        &self.bell
    }

    /// The thread as the vCPU's sees it.
    pub(crate) fn owner(&self) -> std::io::Result<Owner> {
        Ok(Owner::new(self.tell.clone(), self.bell.try_clone()?))
    }

    /// Starts the thread.
    pub(crate) fn serve(self, memory: GuestMemoryMmap, signal: Signal) -> std::io::Result<Keeper> {
        let owner = self.owner()?;
        let name = format!("disk {}", self.place as usize - Place::Disk0 as usize);
        let thread = thread::Builder::new().name(name).spawn(move || self.run(&memory, &signal))?;
        Ok(Keeper { owner, thread })
    }

    /// Serves until the machine ends.
    fn run(mut self, memory: &GuestMemoryMmap, signal: &Signal) {
        let mut device: Option<Block> = None;
        let mut more = false;
        loop {
            if !more && let Err(error) = self.bell.read() {
                log::error!("a disk's thread cannot wait for its guest: {error}");
                return;
            }
            loop {
                match self.moves.try_recv() {
                    Ok(Move::Start(_, features, queues)) => {
                        device = Block::new(self.shape, features, queues, memory).ok();
                    }
                    Ok(Move::Stop(_, answer)) => {
                        device = None;
                        self.flush();
                        let _ = answer.send(());
                    }
                    Err(TryRecvError::Empty) => break,
                    Ok(Move::End) | Err(TryRecvError::Disconnected) => return self.flush(),
                }
            }
            more = device.as_mut().is_some_and(|device| {
                let served = device.serve(memory, |order| carry_out(&mut self.files, order));
                if served.notify {
                    signal.raise();
                }
                served.more
            });
        }
    }

    /// Flushes where no guest waits to hear of a failure.
    fn flush(&mut self) {
        if let Err(error) = self.files.flush() {
            log::error!(
                "what was written to a disk since its last flush is lost: {}",
                chain(&error)
            );
        }
    }
}

fn carry_out(disk: &mut cowdisk::Disk<HostFile>, order: Order<'_>) -> Result<(), Refused> {
    let done = match order {
        Order::Read(offset, buffer) => disk.read(offset, buffer),
        Order::Write(offset, bytes) => disk.write(offset, bytes),
        Order::Discard(offset, length) => disk.zero(offset, length, Space::GiveBack),
        Order::Zero(offset, length, true) => disk.zero(offset, length, Space::GiveBack),
        Order::Zero(offset, length, false) => disk.zero(offset, length, Space::Keep),
        Order::Flush => disk.flush(),
    };
    // The guest is told; it asks as often as it likes, so nothing is logged.
    done.map_err(|_| Refused)
}

/// A disk's thread that runs.
pub(crate) struct Keeper {
    owner: Owner,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Ends the thread, once what was written is there for good.
    pub(crate) fn finish(self) {
        if self.owner.tell(Move::End) {
            // A panic of the thread's is in the log already.
            let _ = self.thread.join();
        }
    }
}
