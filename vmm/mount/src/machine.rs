//! Answers the kernels of foreign machines, which come one after the other.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use backend::{Backend, Ended, Queues};
use cowfs::FileSpace;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll, poll};
use sys::eventfd::EventFd;
use virtio::Memory;
use virtio::mmio::TRANSPORT_FEATURES;
use virtio::ring::Ring;
use virtiofs::{QUEUES, THREADS};

use crate::run::Asked;

/// Beside what serving files takes: messages with descriptors, and waiting for kicks.
pub(crate) const CALLS: &[i64] = &[
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    // What a descriptor is that was handed over.
    libc::SYS_readlink,
];

/// How full the machine's stream is, whether it blocks; and of what was handed over, whether it can
/// shrink. The events are the machine's own, and whether they block: this process serves no other.
pub(crate) const ORDERS: [(i64, &[u64]); 2] = [
    (libc::SYS_ioctl, &[libc::FIONBIO, libc::FIONREAD, libc::TIOCOUTQ]),
    (
        libc::SYS_fcntl,
        &[
            libc::F_DUPFD_CLOEXEC as u64,
            libc::F_GETFD as u64,
            libc::F_SETFD as u64,
            libc::F_GETFL as u64,
            libc::F_SETFL as u64,
            libc::F_GET_SEALS as u64,
        ],
    ),
];

/// Pause before the next machine is let in when there was no descriptor for it.
const SHORTAGE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// How each queue's driver is told of requests given back.
#[derive(Default)]
struct Calls(Mutex<[Option<EventFd>; QUEUES]>);

impl Calls {
    fn set(&self, index: usize, call: Option<EventFd>) {
        // Each is put there whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[index] = call;
    }

    fn signal(&self, index: usize) {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = &calls[index] {
            call.signal();
        }
    }
}

type Notify = Box<dyn Fn(usize) + Send + Sync>;
type Files = virtiofs::Files<Notify>;

/// The file system device of the machine that is there.
struct Device {
    files: Arc<Files>,
    calls: Arc<Calls>,
    kicks: [Option<EventFd>; QUEUES],
}

impl Queues for Device {
    const COUNT: usize = QUEUES;
    const ARE_COUNTED: bool = true;
    const READABLE_LIMIT: u32 = virtio::fs::REQUEST_LIMIT;

    fn offered(&self) -> u64 {
        TRANSPORT_FEATURES
    }

    fn agreed(&mut self, _features: u64) {
        // Those of the transport are the rings' alone.
    }

    fn mapped(&mut self, memory: Memory) {
        self.files.map(memory);
    }

    fn kicked_by(&mut self, index: usize, kick: Option<EventFd>) {
        if let Some(old) = self.kicks[index].take() {
            self.files.unwatch(&old.as_fd());
        }
        // One that cannot be watched is one by which nobody is ever called.
        self.kicks[index] = kick.filter(|kick| self.files.watch(&kick.as_fd()).is_ok());
    }

    fn calls(&mut self, index: usize, call: Option<EventFd>) {
        self.calls.set(index, call);
    }

    fn start(&mut self, index: usize, ring: Ring) {
        self.files.start(index, ring);
    }

    fn stop(&mut self, index: usize) -> Option<Ring> {
        self.files.stop(index)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        for index in 0..QUEUES {
            self.files.stop(index);
            self.kicked_by(index, None);
            self.calls.set(index, None);
        }
        self.files.unmap();
        self.files.reset();
    }
}

/// A file system device for machines, which come one after the other.
pub(crate) struct Machines {
    space: Arc<FileSpace>,
    files: Arc<Files>,
    calls: Arc<Calls>,
    /// Hears the machine that is there, and the next.
    waiting: OwnedFd,
}

impl Machines {
    /// A device that nobody has connected to yet; to be made outside of the jail.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub(crate) fn new(space: FileSpace) -> io::Result<Machines> {
        let (space, calls) = (Arc::new(space), Arc::new(Calls::default()));
        let heard = Arc::clone(&calls);
        let notify: Notify = Box::new(move |queue| heard.signal(queue));
        let files = Arc::new(Files::new(Arc::clone(&space), notify)?);
        let waiting = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Machines { space, files, calls, waiting })
    }

    /// Answers whoever connects to `listener`, one machine at a time, for as long as the process
    /// lives; calls `served` once the first may come.
    ///
    /// # Errors
    /// It cannot go on.
    pub(crate) fn serve(
        self,
        listener: UnixListener,
        asked: Option<Asked>,
        served: impl FnOnce(),
    ) -> io::Result<()> {
        let Machines { space, files, calls, waiting } = self;
        for _ in 0..THREADS {
            let files = Arc::clone(&files);
            thread::Builder::new().name("files".into()).spawn(move || files.run())?;
        }
        let (ended, ends) = channel();
        if let Some(asked) = asked {
            let ended = ended.clone();
            // Whoever hears it ends the process, and this thread with it.
            let answer = move || drop(ended.send(asked.serve(&space)));
            thread::Builder::new().name("seal".into()).spawn(answer)?;
        }
        let attend = move || drop(ended.send(attend_all(&listener, &files, &calls, &waiting)));
        thread::Builder::new().name("machine".into()).spawn(attend)?;
        served();
        Err(ends.recv().unwrap_or_else(|_| io::ErrorKind::BrokenPipe.into()))
    }
}

fn attend_all(
    listener: &UnixListener,
    files: &Arc<Files>,
    calls: &Arc<Calls>,
    waiting: &OwnedFd,
) -> io::Error {
    let next = epoll::EventData::new_u64(NEXT);
    if let Err(errno) = epoll::add(waiting, listener, next, epoll::EventFlags::IN) {
        return errno.into();
    }
    loop {
        let stream = match accept(listener) {
            Ok(Some(stream)) => stream,
            Ok(None) => continue,
            Err(error) => return error,
        };
        let (files, calls) = (Arc::clone(files), Arc::clone(calls));
        let device = Device { files, calls, kicks: Default::default() };
        // One that does not even begin is let go; the next may.
        let Ok(mut backend) = Backend::new(stream, device) else { continue };
        match attend(&mut backend, listener, waiting) {
            Ok(Ended::Closed) => log::info!("the machine is gone; the next may come"),
            Ok(Ended::Violation) => log::warn!("a machine broke the vhost-user protocol"),
            Err(error) => return error,
        }
    }
}

/// The next machine; none where there is no descriptor for it, after a while.
fn accept(listener: &UnixListener) -> io::Result<Option<UnixStream>> {
    match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(error) if sys::fd::is_shortage(&error) => {
            let _ = poll(&mut [], Some(&SHORTAGE));
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) => Err(error),
    }
}

/// What tells of the next machine.
const NEXT: u64 = 1;

/// Handles what a machine says until it ends. Who comes second is hung up on: a space has one.
fn attend(
    backend: &mut Backend<Device>,
    listener: &UnixListener,
    waiting: &OwnedFd,
) -> io::Result<Ended> {
    // Edge-triggered: half a message must not keep this awake. It goes with the machine.
    let said = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
    if epoll::add(waiting, &*backend, epoll::EventData::new_u64(0), said).is_err() {
        return Ok(Ended::Closed);
    }
    let mut is_asked_for = false;
    loop {
        match backend.handle() {
            Ok(true) => continue,
            Ok(false) => {}
            // Whoever came after its end is the next, not a second.
            Err(ended) => return Ok(ended),
        }
        if std::mem::take(&mut is_asked_for) {
            drop(accept(listener)?);
        }
        let mut events = Vec::with_capacity(2);
        match epoll::wait(waiting, spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        is_asked_for = events.iter().any(|event| event.data.u64() == NEXT);
    }
}

#[cfg(test)]
mod tests;
