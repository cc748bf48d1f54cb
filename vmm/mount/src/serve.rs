//! The threads that answer the kernel.

use std::io::{self, Error, ErrorKind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use cowfs::FileSpace;
use sys::fuse::Device;

use crate::turn::Turn;

/// Most bytes of a request and of a reply: 1 MiB of a file, and what stands before it.
const MOST: usize = (1 << 20) + 4096;

/// So many requests that were there already mean that more than one program asks.
const CROWD: u32 = 4;

/// What the threads share.
pub(crate) struct Shared {
    space: Mutex<FileSpace>,
    turn: Turn,
    spin_ns: u64,
}

impl Shared {
    pub(crate) fn new(space: FileSpace, spin_us: u32) -> Shared {
        let spin_ns = u64::from(spin_us) * 1000;
        Shared { space: Mutex::new(space), turn: Turn::default(), spin_ns }
    }

    fn handle(&self, request: &[u8], capacity: usize, reply: &mut Vec<u8>) {
        // A panic ends the process: nobody sees what one left behind.
        let mut space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        space.handle(request, capacity, reply);
    }
}

/// Answers requests on a thread for each of `devices` until it is unmounted; calls `served` after
/// the first, which is INIT.
///
/// # Errors
/// The first of any thread; the others may run on, so the process has to end.
pub(crate) fn serve(shared: Shared, devices: Vec<Device>, served: impl FnOnce()) -> io::Result<()> {
    let shared = Arc::new(shared);
    let mut workers: Vec<Worker> =
        devices.into_iter().map(|device| Worker::new(Arc::clone(&shared), device)).collect();
    if !workers[0].answer_one()? {
        return Ok(());
    }
    served();
    let (ended, ends) = channel();
    for mut worker in workers {
        let ended = ended.clone();
        let work = move || {
            let end = worker.run();
            // Nobody is there to hear it only if another thread failed before.
            let _ = ended.send(end);
        };
        thread::Builder::new().name("files".into()).spawn(work)?;
    }
    drop(ended);
    ends.into_iter().collect()
}

/// A thread's own part.
struct Worker {
    shared: Arc<Shared>,
    device: Device,
    request: Vec<u8>,
    reply: Vec<u8>,
    /// Requests in a row that were there when this thread looked first.
    streak: u32,
}

impl Worker {
    fn new(shared: Arc<Shared>, device: Device) -> Worker {
        Worker { shared, device, request: vec![0; MOST], reply: Vec::new(), streak: 0 }
    }

    fn run(&mut self) -> io::Result<()> {
        while self.answer_one()? {}
        Ok(())
    }

    /// Takes and answers a request; `false` if it is unmounted.
    fn answer_one(&mut self) -> io::Result<bool> {
        self.shared.turn.take();
        let length = self.next();
        let in_a_hurry = self.streak >= CROWD || !matches!(length, Ok(Some(_)));
        self.shared.turn.pass(sys::clock::monotonic_ns(), in_a_hurry);
        let Some(length) = length? else { return Ok(false) };
        self.shared.handle(&self.request[..length], MOST, &mut self.reply);
        if self.reply.is_empty() {
            return Ok(true);
        }
        match self.device.write(&self.reply) {
            Err(error) if is_unmounted(&error) => Ok(false),
            // Nobody waits for it any more.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(true),
            result => result.map(|()| true),
        }
    }

    /// The length of the next request, or `None` if it is unmounted.
    fn next(&mut self) -> io::Result<Option<usize>> {
        let mut until_ns = None;
        loop {
            match self.device.read(&mut self.request) {
                Ok(length) => {
                    self.streak = if until_ns.is_none() { self.streak + 1 } else { 0 };
                    return Ok(Some(length));
                }
                Err(error) if is_unmounted(&error) => return Ok(None),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            let now_ns = sys::clock::monotonic_ns();
            if now_ns < *until_ns.get_or_insert(now_ns + self.shared.spin_ns) {
                sys::sched::give_way();
            } else {
                self.device.wait()?;
            }
        }
    }
}

fn is_unmounted(error: &Error) -> bool {
    error.raw_os_error() == Some(libc::ENODEV)
}
