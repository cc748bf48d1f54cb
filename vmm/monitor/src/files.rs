//! The files' threads: the file space behind the virtio-fs queues.
//!
//! Threads of their own, because a file operation may take as long as a disk does; several, so
//! that one that does holds up no other. A kick wakes one that is idle, the last to become so.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cowfs::FileSpace;
use fuse::request::is_forget;
use virtio::fs::{Call, Fs};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use crate::Signal;
use crate::bus::Move;

/// The queues of the device: high priority, then requests (virtio 1.2 5.11.2).
pub(crate) const QUEUES: u16 = 2;

/// Requests served at once.
pub(crate) const THREADS: usize = 4;

/// What the threads share.
pub(crate) struct Files {
    space: Arc<FileSpace>,
    memory: GuestMemoryMmap,
    signal: Signal,
    /// Rung for a kick of any queue, for a move, and for what one thread leaves to another.
    bell: EventFd,
    /// Hears the bell, each ring once, for one of those who wait.
    waiting: Epoll,
    desk: Mutex<Desk>,
}

/// Where requests are taken and given back.
struct Desk {
    moves: Receiver<Move>,
    device: Option<Fs>,
    /// Requests of the device, or of the one before it, that are being served.
    busy: usize,
    /// Threads that wait for the bell.
    idle: usize,
    /// Who has reset the device: to be told once nothing of it is busy.
    stopping: Option<SyncSender<()>>,
    ended: bool,
}

/// What a thread has to do.
enum Next {
    /// Serve the request; whether more wait, of which nobody has been told.
    Serve(Call, bool),
    /// Nothing is busy since the device was reset: let go of all it had, then answer.
    Reset(SyncSender<()>),
    /// Wait for the bell.
    Wait,
    /// The machine ends.
    End,
}

impl Files {
    /// What [`THREADS`] threads are to run. `bell` rings for the queues' kicks and for `moves`.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub(crate) fn new(
        space: Arc<FileSpace>,
        memory: GuestMemoryMmap,
        moves: Receiver<Move>,
        bell: EventFd,
        signal: Signal,
    ) -> io::Result<Files> {
        let waiting = Epoll::new()?;
        // Edges are heard by one waiter each, and the count need not be read.
        let edges = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, 0);
        waiting.ctl(ControlOperation::Add, bell.as_raw_fd(), edges)?;
        let desk = Desk { moves, device: None, busy: 0, idle: 0, stopping: None, ended: false };
        Ok(Files { space, memory, signal, bell, waiting, desk: Mutex::new(desk) })
    }

    /// Serves until the vCPU's thread is gone.
    pub(crate) fn run(&self) {
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        let mut done = None;
        loop {
            match self.turn(done.take()) {
                Next::Serve(mut call, more) => {
                    call.read(&self.memory, &mut request);
                    // Forgetting takes less time than waking another thread.
                    if more && !is_forget(&request) {
                        self.ring();
                    }
                    self.space.handle(&request, call.capacity(), &mut reply);
                    call.answer(&self.memory, &reply);
                    done = Some(call);
                }
                Next::Reset(answer) => {
                    self.space.reset();
                    // The vCPU's thread may be gone: then nobody waits.
                    let _ = answer.send(());
                }
                Next::Wait => {
                    let waited = self.wait();
                    self.desk().idle -= 1;
                    if let Err(error) = waited {
                        log::error!("a files' thread cannot wait for its guest: {error}");
                        return;
                    }
                }
                // The server answers nothing that is not kept already.
                Next::End => return self.ring(),
            }
        }
    }

    /// Gives back what is done and says what comes next.
    fn turn(&self, done: Option<Call>) -> Next {
        let mut desk = self.desk();
        let notify = done.is_some_and(|call| desk.give_back(&self.memory, call));
        let next = desk.next(&self.memory);
        drop(desk);
        if notify {
            self.signal.raise();
        }
        next
    }

    fn wait(&self) -> io::Result<()> {
        match self.waiting.wait(-1, &mut [EpollEvent::default()]) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    fn ring(&self) {
        // The counter is full only after 2^64 - 2 rings, and rings all the same.
        let _ = self.bell.write(1);
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        // Nothing is done under the lock that can leave it half done.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Desk {
    /// Whether the driver wants to be notified.
    fn give_back(&mut self, memory: &GuestMemoryMmap, call: Call) -> bool {
        self.busy -= 1;
        // A device that was reset has no queue to give it back to.
        let Some(device) = &mut self.device else { return false };
        // The driver may have its next request ready at once: that wakes nobody, as this thread
        // is awake, and arms before it waits.
        device.disarm(memory);
        device.give_back(memory, call)
    }

    fn next(&mut self, memory: &GuestMemoryMmap) -> Next {
        loop {
            match self.moves.try_recv() {
                Ok(Move::Start(_, _, queues)) => self.device = Fs::new(queues, memory).ok(),
                Ok(Move::Stop(_, answer)) => {
                    self.device = None;
                    self.stopping = Some(answer);
                }
                Ok(Move::End) | Err(TryRecvError::Disconnected) => {
                    self.ended = true;
                    break;
                }
                Err(TryRecvError::Empty) => break,
            }
        }
        if self.ended {
            return Next::End;
        }
        if self.busy == 0
            && let Some(answer) = self.stopping.take()
        {
            return Next::Reset(answer);
        }
        while let Some(device) = &mut self.device {
            if let Some(call) = device.take(memory) {
                self.busy += 1;
                // If nobody is idle, whoever is done first looks again before it waits.
                let more = self.idle > 0 && device.arm(memory);
                return Next::Serve(call, more);
            }
            if !device.arm(memory) {
                break;
            }
        }
        self.idle += 1;
        Next::Wait
    }
}

#[cfg(test)]
mod tests;
