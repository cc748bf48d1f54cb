//! The files' thread: the file space behind the virtio-fs queues.
//!
//! A thread of its own, because a file operation may take as long as a disk does.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};

use cowfs::FileSpace;
use virtio::fs::Fs;
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::Signal;
use crate::bus::Move;

/// The queues of the device: high priority, then requests (virtio 1.2 5.11.2).
pub(crate) const QUEUES: u16 = 2;

/// What the thread owns.
pub(crate) struct Files {
    pub(crate) space: Arc<FileSpace>,
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) moves: Receiver<Move>,
    /// Rung for a kick of any queue and for a move; the only thing waited for.
    pub(crate) bell: EventFd,
    pub(crate) signal: Signal,
}

impl Files {
    /// Serves until the vCPU's thread is gone.
    pub(crate) fn run(mut self) {
        let mut device: Option<Fs> = None;
        let mut more = false;
        loop {
            if !more && let Err(error) = self.bell.read() {
                log::error!("the files' thread cannot wait for its guest: {error}");
                return;
            }
            loop {
                match self.moves.try_recv() {
                    Ok(Move::Start(_, _, queues)) => device = Fs::new(queues, &self.memory).ok(),
                    Ok(Move::Stop(_, answer)) => {
                        device = None;
                        let _ = answer.send(());
                    }
                    Err(TryRecvError::Empty) => break,
                    // The server answers nothing that is not kept already.
                    Ok(Move::End) | Err(TryRecvError::Disconnected) => return,
                }
            }
            more = device.as_mut().is_some_and(|device| self.serve(device));
        }
    }

    /// Answers what waits; true if more does.
    fn serve(&mut self, device: &mut Fs) -> bool {
        let mut more = false;
        for queue in 0..QUEUES {
            let served = device.serve(queue, &self.memory, |request, capacity, reply| {
                self.space.handle(request, capacity, reply);
            });
            if served.notify {
                self.signal.raise();
            }
            more |= served.more;
        }
        more
    }
}
