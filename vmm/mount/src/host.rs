//! The threads that answer the host's kernel, through /dev/fuse.

use std::io::{self, Error};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use cowfs::{FileSpace, Server};
use rustix::event::{PollFd, PollFlags, poll};
use sys::fuse::Device;

use crate::awake::Awake;
use crate::run::Asked;

/// Most bytes of a request and of a reply: 1 MiB of a file, and what stands before it.
const MOST: usize = (1 << 20) + 4096;

/// Answers requests on a thread for each of `devices` until it is unmounted; calls `served` after
/// the first, which is INIT. `teller` is where the kernel is told what the parent changes, `awake`
/// what keeps cores awake meanwhile.
///
/// # Errors
/// The first of any thread; the others may run on, so the process has to end.
pub(crate) fn serve(
    space: FileSpace,
    devices: Vec<Device>,
    teller: Device,
    asked: Option<Asked>,
    awake: Option<Awake>,
    served: impl FnOnce(),
) -> io::Result<()> {
    let (space, awake) = (Arc::new(space), awake.map(Arc::new));
    let worker = |device| Worker::new(Arc::clone(&space), device, awake.clone());
    let mut workers: Vec<Worker> = devices.into_iter().map(worker).collect();
    if !workers[0].answer_one(&mut None)? {
        return Ok(());
    }
    served();
    let told = Arc::clone(&space);
    thread::Builder::new().name("parent".into()).spawn(move || tell(&told, &teller))?;
    if let Some(awake) = awake {
        thread::Builder::new().name("awake".into()).spawn(move || awake.keep())?;
    }
    let (ended, ends) = channel();
    if let Some(asked) = asked {
        let (held, ended) = (Arc::clone(&space), ended.clone());
        // It ends with the process, or with that of the files.
        let answer = move || drop(ended.send(Err(asked.serve(&held))));
        thread::Builder::new().name("seal".into()).spawn(answer)?;
    }
    // Where the kernel reads and writes by itself, hardly a request waits for a disk.
    let turn = space.is_passed_through().then(|| Arc::new(Mutex::new(())));
    let count = workers.len();
    for mut worker in workers {
        let (ended, turn) = (ended.clone(), turn.clone());
        let work = move || {
            let end = worker.run(turn.as_deref());
            // Nobody is there to hear it only if another thread failed before.
            let _ = ended.send(end);
        };
        thread::Builder::new().name("files".into()).spawn(work)?;
    }
    drop(ended);
    // The one that is asked goes on for as long as the process.
    ends.into_iter().take(count).collect()
}

/// A thread's own part.
struct Worker {
    space: Arc<FileSpace>,
    device: Device,
    awake: Option<Arc<Awake>>,
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Worker {
    fn new(space: Arc<FileSpace>, device: Device, awake: Option<Arc<Awake>>) -> Worker {
        Worker { space, device, awake, request: vec![0; MOST], reply: Vec::new() }
    }

    /// Answers requests; with a turn one thread at a time, but for those that wait for a disk.
    ///
    /// The space is locked for all others anyway, and who waits for a lock has to be woken.
    fn run(&mut self, turn: Option<&Mutex<()>>) -> io::Result<()> {
        let mut held = None;
        loop {
            if let (None, Some(turn)) = (&held, turn) {
                // Nothing is guarded that a panic could leave half done.
                held = Some(turn.lock().unwrap_or_else(PoisonError::into_inner));
            }
            if !self.answer_one(&mut held)? {
                return Ok(());
            }
        }
    }

    /// Takes and answers a request; `false` if it is unmounted.
    fn answer_one(&mut self, turn: &mut Option<MutexGuard<'_, ()>>) -> io::Result<bool> {
        let length = match self.device.read(&mut self.request) {
            Err(error) if is_unmounted(&error) => return Ok(false),
            length => length?,
        };
        let Worker { space, device, awake, request, reply } = self;
        if let Some(awake) = awake {
            awake.asked();
        }
        let mut leader = Leader { device, turn };
        space.handle_for(&request[..length], MOST, reply, Some(&mut leader));
        if self.reply.is_empty() {
            return Ok(true);
        }
        match self.device.write(&self.reply) {
            Err(error) if is_unmounted(&error) => Ok(false),
            // Nobody waits for it any more, or the kernel could make nothing of it and has answered
            // with EIO itself.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => {
                Ok(true)
            }
            result => result.map(|()| true),
        }
    }
}

/// The thread whose turn it is, until it lets another have it.
struct Leader<'a, 't> {
    device: &'a Device,
    turn: &'a mut Option<MutexGuard<'t, ()>>,
}

impl Server for Leader<'_, '_> {
    fn tell(&mut self, message: &[u8]) {
        // What the kernel does not know (ENOENT) it need not be handed.
        let _ = self.device.write(message);
    }

    fn step_aside(&mut self) {
        *self.turn = None;
    }
}

/// Tells the kernel what the parent changes, for as long as the process lives.
///
/// The kernel may hold a message back until a request is answered, so this is a thread of its own.
fn tell(space: &FileSpace, device: &Device) {
    let Some(notifications) = space.notifications() else { return };
    loop {
        match poll(&mut [PollFd::new(&notifications, PollFlags::IN)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
        // What the kernel does not know (ENOENT) it need not be told of.
        space.parent_changed(&mut |message| drop(device.write(message)));
    }
}

fn is_unmounted(error: &Error) -> bool {
    error.raw_os_error() == Some(libc::ENODEV)
}
