//! The threads of a virtio-fs device: a file space behind its queues, whosever machine it is in.
//!
//! Threads of their own, because a file operation may take as long as a disk does; several, so
//! that one that does holds up no other. A kick wakes one that is idle, the last to become so.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use cowfs::FileSpace;
use fuse::request::is_forget;
use virtio::Memory;
use virtio::fs::{Call, Fs};
use virtio::ring::Ring;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// The queues of the device: high priority, then requests (virtio 1.2 5.11.2).
pub const QUEUES: usize = 2;

/// Requests served at once: as many threads are to run [`Files::run`].
pub const THREADS: usize = 4;

/// What the threads share. `N` tells the driver that requests of a queue were given back.
pub struct Files<N> {
    space: Arc<FileSpace>,
    notify: N,
    /// Rung by whoever has something to do for a thread.
    bell: EventFd,
    /// Hears the bell and the queues' kicks, each ring once, for one of those who wait.
    waiting: Epoll,
    desk: Mutex<Desk>,
    /// Told when nothing is busy any more.
    quiet: Condvar,
}

/// Where requests are taken and given back.
struct Desk {
    device: Fs,
    /// Where the queues are.
    memory: Option<Arc<Memory>>,
    /// Requests that are being served.
    busy: usize,
    /// Threads that wait.
    idle: usize,
    /// Those who wait to stop a queue: until then nobody takes a request.
    stopping: usize,
    ended: bool,
}

/// What a thread has to do.
enum Next {
    /// Serve the request; whether more wait, of which nobody has been told.
    Serve(Call, Arc<Memory>, bool),
    /// Wait for the bell, or a kick.
    Wait,
    /// The machine ends.
    End,
}

impl<N: Fn(usize)> Files<N> {
    /// A device whose queues do not run yet.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn new(space: Arc<FileSpace>, notify: N) -> io::Result<Files<N>> {
        let (bell, waiting) = (EventFd::new(EFD_NONBLOCK)?, Epoll::new()?);
        let desk = Desk {
            device: Fs::new(QUEUES),
            memory: None,
            busy: 0,
            idle: 0,
            stopping: 0,
            ended: false,
        };
        let quiet = Condvar::new();
        let files = Files { space, notify, bell, waiting, desk: Mutex::new(desk), quiet };
        files.watch(&files.bell.as_raw_fd())?;
        Ok(files)
    }

    /// What a kick of any queue may ring instead of an event of its own.
    pub fn bell(&self) -> &EventFd {
        &self.bell
    }

    /// Has an event of the driver ring for requests that wait.
    ///
    /// # Errors
    /// It cannot be watched, or is already.
    pub fn watch(&self, kick: &impl AsRawFd) -> io::Result<()> {
        // Edges are heard by one waiter each, and the count need not be read.
        let edges = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, 0);
        self.waiting.ctl(ControlOperation::Add, kick.as_raw_fd(), edges)
    }

    /// Has an event ring no more: to be said before it is closed, for the driver holds it as well.
    pub fn unwatch(&self, kick: &impl AsRawFd) {
        // Of what was not watched there is nothing to undo.
        let _ = self.waiting.ctl(ControlOperation::Delete, kick.as_raw_fd(), EpollEvent::default());
    }

    /// The memory in which the queues are; none runs.
    pub fn map(&self, memory: Memory) {
        self.desk().memory = Some(Arc::new(memory));
    }

    /// Lets go of that memory; no queue runs.
    pub fn unmap(&self) {
        self.desk().memory = None;
    }

    /// A queue runs from now on.
    pub fn start(&self, index: usize, ring: Ring) {
        self.desk().device.start(index, ring);
        self.ring();
    }

    /// Takes a queue out of use, if it runs, once nothing of the device is being served.
    pub fn stop(&self, index: usize) -> Option<Ring> {
        let mut desk = self.desk();
        desk.stopping += 1;
        while desk.busy > 0 {
            desk = self.quiet.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
        desk.stopping -= 1;
        let ring = desk.device.stop(index);
        drop(desk);
        // What waits in other queues was left where it is.
        self.ring();
        ring
    }

    /// The driver is gone, all queues having been stopped: forgets what it knew.
    pub fn reset(&self) {
        self.space.reset();
    }

    /// Has the threads end once they have answered what they have taken.
    pub fn end(&self) {
        self.desk().ended = true;
        self.ring();
    }

    /// Serves until [`Files::end`].
    pub fn run(&self) {
        let (mut request, mut reply) = (Vec::new(), Vec::new());
        let mut done = None;
        loop {
            match self.turn(done.take()) {
                Next::Serve(mut call, memory, more) => {
                    call.read(&memory, &mut request);
                    // Forgetting takes less time than waking another thread.
                    if more && !is_forget(&request) {
                        self.ring();
                    }
                    self.space.handle(&request, call.capacity(), &mut reply);
                    call.answer(&memory, &reply);
                    done = Some((call, memory));
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
    fn turn(&self, done: Option<(Call, Arc<Memory>)>) -> Next {
        let mut desk = self.desk();
        let notify = done.and_then(|(call, memory)| self.give_back(&mut desk, call, &memory));
        let next = desk.next();
        drop(desk);
        if let Some(queue) = notify {
            (self.notify)(queue);
        }
        next
    }

    /// The queue of which the driver wants to be told, if it does.
    fn give_back(&self, desk: &mut Desk, call: Call, memory: &Memory) -> Option<usize> {
        desk.busy -= 1;
        if desk.busy == 0 && desk.stopping > 0 {
            self.quiet.notify_all();
        }
        // The driver may have its next request ready at once: that wakes nobody, as this thread
        // is awake, and arms before it waits.
        desk.device.disarm(memory);
        let queue = call.queue();
        desk.device.give_back(memory, call).then_some(queue)
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
    fn next(&mut self) -> Next {
        if self.ended {
            return Next::End;
        }
        while let (Some(memory), 0) = (&self.memory, self.stopping) {
            if let Some(call) = self.device.take(memory) {
                self.busy += 1;
                // If nobody is idle, whoever is done first looks again before it waits.
                let more = self.idle > 0 && self.device.arm(memory);
                return Next::Serve(call, Arc::clone(memory), more);
            }
            if !self.device.arm(memory) {
                break;
            }
        }
        self.idle += 1;
        Next::Wait
    }
}

#[cfg(test)]
mod tests;
