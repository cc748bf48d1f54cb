//! The devices' registers, owned by the vCPU thread, and where their queues go.

use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, sync_channel};

use abi::layout::{MMIO_BASE, MMIO_STRIDE, Place};
use virtio::mmio::{Effect, Registers};
use virtio::ring::Ring;
use virtio::{Memory, Queue, fs};
use virtio_queue::QueueT;
use vmm_sys_util::eventfd::EventFd;

use crate::net::{Net, NetFailure};

/// The file system device's threads.
pub(crate) type Files = virtiofs::Files<Box<dyn Fn(usize) + Send + Sync>>;

/// What the owner of a device's queues is told.
#[derive(Debug)]
pub(crate) enum Move {
    /// The driver is ready: these features were agreed on, and these queues are yours.
    Start(Place, u64, Vec<Queue>),
    /// The driver reset the device: let go of its queues, then answer.
    Stop(Place, SyncSender<()>),
    /// The machine ends: keep what is to be kept.
    End,
}

/// A thread that owns devices, seen from the vCPU's.
pub(crate) struct Owner {
    moves: Sender<Move>,
    /// Signalled after each move.
    bell: EventFd,
}

impl Owner {
    pub(crate) fn new(moves: Sender<Move>, bell: EventFd) -> Owner {
        Owner { moves, bell }
    }

    /// False once the thread has ended: the process is ending then.
    pub(crate) fn tell(&self, what: Move) -> bool {
        self.moves.send(what).is_ok() && self.bell.write(1).is_ok()
    }
}

/// A device's registers and who serves it.
struct Slot {
    registers: Registers,
    active: bool,
}

/// The virtio-mmio window.
pub(crate) struct Bus {
    /// By [`Place`]; `None` reads as no device.
    slots: [Option<Slot>; Place::ALL.len()],
    net: Net,
    event_loop: Owner,
    files: Arc<Files>,
    /// In the order of [`Place::DISKS`].
    disks: Vec<Owner>,
    memory: Memory,
}

impl Bus {
    pub(crate) fn new(
        net: Net,
        event_loop: Owner,
        files: Arc<Files>,
        disks: Vec<Owner>,
        memory: Memory,
    ) -> Bus {
        files.map(memory.clone());
        Bus { slots: Default::default(), net, event_loop, files, disks, memory }
    }

    pub(crate) fn plug(&mut self, place: Place, registers: Registers) {
        self.slots[place as usize] = Some(Slot { registers, active: false });
    }

    /// Fills `data` from the registers at a guest-physical address; zeros where nothing is.
    pub(crate) fn read(&self, address: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some((place, offset)) = locate(address)
            && let Some(slot) = &self.slots[place as usize]
        {
            slot.registers.read(offset, data);
        }
    }

    /// A write of the guest.
    ///
    /// # Errors
    /// The switch did not take or give back its queues.
    pub(crate) fn write(&mut self, address: u64, data: &[u8]) -> Result<(), NetFailure> {
        let Some((place, offset)) = locate(address) else { return Ok(()) };
        let Some(slot) = &mut self.slots[place as usize] else { return Ok(()) };
        match slot.registers.write(offset, data) {
            // Notifications are events (KVM_IOEVENTFD); one that comes as an exit is of no queue.
            None | Some(Effect::Notify(_)) => Ok(()),
            Some(Effect::Activate { features, queues }) => {
                slot.active = true;
                self.start(place, features, queues)
            }
            Some(Effect::Reset) => {
                let was = std::mem::take(&mut slot.active);
                if was { self.stop(place) } else { Ok(()) }
            }
        }
    }

    fn start(&mut self, place: Place, features: u64, queues: Vec<Queue>) -> Result<(), NetFailure> {
        match self.owner(place) {
            Served::Net => return self.net.activate(features, &queues),
            Served::Files => self.start_files(queues),
            Served::By(owner) => drop(owner.tell(Move::Start(place, features, queues))),
        }
        Ok(())
    }

    fn start_files(&self, queues: Vec<Queue>) {
        for (index, queue) in queues.into_iter().enumerate().filter(|(_, queue)| queue.ready()) {
            // What is misplaced is the driver's mistake: it waits for its answers in vain.
            if let Ok(ring) = Ring::new(queue, fs::REQUEST_LIMIT, &self.memory) {
                self.files.start(index, ring);
            }
        }
    }

    fn stop(&mut self, place: Place) -> Result<(), NetFailure> {
        match self.owner(place) {
            Served::Net => return self.net.reset(),
            Served::Files => {
                (0..virtiofs::QUEUES).for_each(|index| drop(self.files.stop(index)));
                self.files.reset();
            }
            Served::By(owner) => {
                let (answer, done) = sync_channel(1);
                if owner.tell(Move::Stop(place, answer)) {
                    // An error is the owner's end, and with it that of its queues.
                    let _ = done.recv();
                }
            }
        }
        Ok(())
    }

    fn owner(&self, place: Place) -> Served<'_> {
        match place {
            Place::Net => Served::Net,
            Place::Files => Served::Files,
            Place::Disk0 | Place::Disk1 | Place::Disk2 | Place::Disk3 => {
                Served::By(&self.disks[place as usize - Place::Disk0 as usize])
            }
            Place::Console | Place::Entropy | Place::Vsock => Served::By(&self.event_loop),
        }
    }
}

/// Whose a device's queues are while they run.
enum Served<'a> {
    /// The switch's.
    Net,
    /// The files' threads'.
    Files,
    /// Another thread's.
    By(&'a Owner),
}

fn locate(address: u64) -> Option<(Place, u64)> {
    let offset = address.checked_sub(MMIO_BASE)?;
    let place = *Place::ALL.get(usize::try_from(offset / MMIO_STRIDE).ok()?)?;
    Some((place, offset % MMIO_STRIDE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_belongs_to_one_place_or_to_none() {
        assert_eq!(locate(MMIO_BASE - 1), None);
        assert_eq!(locate(Place::Files.address() + 0x50), Some((Place::Files, 0x50)));
        assert_eq!(locate(MMIO_BASE + Place::ALL.len() as u64 * MMIO_STRIDE), None);
        assert_eq!(locate(u64::MAX), None);
    }
}
