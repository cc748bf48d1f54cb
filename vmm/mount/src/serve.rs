//! The threads that answer the kernel.

use std::io::{self, Error};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use cowfs::FileSpace;
use sys::fuse::Device;

/// Most bytes of a request and of a reply: 1 MiB of a file, and what stands before it.
const MOST: usize = (1 << 20) + 4096;

/// The file space as the threads share it.
pub(crate) struct Shared(Mutex<FileSpace>);

impl Shared {
    pub(crate) fn new(space: FileSpace) -> Shared {
        Shared(Mutex::new(space))
    }

    fn handle(&self, request: &[u8], capacity: usize, reply: &mut Vec<u8>) {
        // A panic ends the process: nobody sees what one left behind.
        let mut space = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        space.handle(request, capacity, reply);
    }
}

/// Answers requests on a thread for each of `devices` until it is unmounted; calls `served` after
/// the first, which is INIT.
///
/// # Errors
/// The first of any thread; the others may run on, so the process has to end.
pub(crate) fn serve(space: Shared, devices: Vec<Device>, served: impl FnOnce()) -> io::Result<()> {
    let space = Arc::new(space);
    let mut workers: Vec<Worker> =
        devices.into_iter().map(|device| Worker::new(Arc::clone(&space), device)).collect();
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
    space: Arc<Shared>,
    device: Device,
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Worker {
    fn new(space: Arc<Shared>, device: Device) -> Worker {
        Worker { space, device, request: vec![0; MOST], reply: Vec::new() }
    }

    fn run(&mut self) -> io::Result<()> {
        while self.answer_one()? {}
        Ok(())
    }

    /// Takes and answers a request; `false` if it is unmounted.
    fn answer_one(&mut self) -> io::Result<bool> {
        let length = match self.device.read(&mut self.request) {
            Err(error) if is_unmounted(&error) => return Ok(false),
            length => length?,
        };
        self.space.handle(&self.request[..length], MOST, &mut self.reply);
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

fn is_unmounted(error: &Error) -> bool {
    error.raw_os_error() == Some(libc::ENODEV)
}
