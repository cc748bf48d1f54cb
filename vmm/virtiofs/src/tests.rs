use super::*;
use cowfs::{Config, LowerLayer};
use std::os::fd::AsFd;
use virtio::fs::REQUEST_LIMIT;
use virtio::ring::Settings;
use vm_memory::{Bytes, GuestAddress};

/// A queue's descriptors, available and used ring, and its buffers.
const TABLE: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const BUFFERS: u64 = 0x10000;

/// The index of the queue for requests.
const REQUESTS: usize = 1;

/// The threads' share of a space with an empty lower, and its driver.
struct Bench {
    _directory: tempfile::TempDir,
    files: Arc<Files<fn(usize)>>,
    memory: Memory,
    offered: u16,
}

impl Bench {
    fn new() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let config = Config::new(vec![LowerLayer::Live(at("lower"))], at("upper"), at("work"));
        let space = FileSpace::open(config).unwrap();
        let memory = Memory::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let notify: fn(usize) = |queue| assert_eq!(queue, REQUESTS);
        let files = Arc::new(Files::new(Arc::new(space), notify).unwrap());
        files.map(memory.clone());
        Bench { _directory: directory, files, memory, offered: 0 }
    }

    /// The driver is ready, with a request queue of 8 and no other.
    fn start(&mut self) {
        self.resume(0);
    }

    /// The queue runs, from this available entry on.
    fn resume(&mut self, next_available: u16) {
        let (descriptors, available, used) = (TABLE, AVAILABLE, USED);
        let settings =
            Settings { size: 8, descriptors, available, used, next_available, event_idx: false };
        let ring = Ring::from_settings(&settings, REQUEST_LIMIT, &self.memory).unwrap();
        self.files.start(REQUESTS, ring);
    }

    /// Makes a request of 64 bytes, all zero, available, with room for as long a reply.
    fn offer(&mut self) {
        let (memory, head) = (&self.memory, u64::from(self.offered % 4) * 2);
        for (index, flags) in [(head, 1_u64), (head + 1, 2)] {
            let descriptor = [BUFFERS + 64 * index, 64 | flags << 32 | (head + 1) << 48];
            memory.write_obj(descriptor, GuestAddress(TABLE + 16 * index)).unwrap();
        }
        let slot = AVAILABLE + 4 + 2 * u64::from(self.offered % 8);
        memory.write_obj(head as u16, GuestAddress(slot)).unwrap();
        self.offered += 1;
        memory.write_obj(self.offered, GuestAddress(AVAILABLE + 2)).unwrap();
    }

    fn used(&self) -> u16 {
        self.memory.read_obj(GuestAddress(USED + 2)).unwrap()
    }

    fn give_back(&self, call: Call) {
        let _ = self.files.give_back(&mut self.files.desk(), call, &self.memory);
    }

    fn next(&self) -> Next {
        self.files.desk().next()
    }

    /// Threads that serve, until the files end.
    fn serve(&self) -> Vec<std::thread::JoinHandle<()>> {
        let serve = |_| {
            let files = Arc::clone(&self.files);
            std::thread::Builder::new().spawn(move || files.run()).unwrap()
        };
        (0..THREADS).map(serve).collect()
    }

    fn await_used(&self, count: u16) {
        while self.used() < count {
            std::thread::yield_now();
        }
    }
}

#[test]
fn requests_wait_for_no_other_and_are_left_to_who_is_idle() {
    let mut bench = Bench::new();
    bench.start();
    (0..3).for_each(|_| bench.offer());
    let Next::Serve(slow, _, false) = bench.next() else { panic!("nobody is idle") };
    bench.files.desk().idle = 1;
    let Next::Serve(quick, _, true) = bench.next() else { panic!("one waits, and one is idle") };
    bench.give_back(quick);
    assert_eq!(bench.used(), 1);
    let Next::Serve(last, _, false) = bench.next() else { panic!("none is left") };
    assert!(matches!(bench.next(), Next::Wait));
    assert_eq!(bench.files.desk().idle, 2);
    bench.give_back(last);
    bench.give_back(slow);
    assert_eq!(bench.used(), 3);
}

#[test]
fn a_queue_is_stopped_once_nothing_is_busy_and_what_waits_stays_the_drivers() {
    let mut bench = Bench::new();
    bench.start();
    bench.offer();
    bench.offer();
    let Next::Serve(busy, _, _) = bench.next() else { panic!("a request waits") };
    let files = Arc::clone(&bench.files);
    let stop = move || files.stop(REQUESTS).unwrap().next_available();
    let stopped = std::thread::Builder::new().spawn(stop).unwrap();
    while bench.files.desk().stopping == 0 {
        std::thread::yield_now();
    }
    assert!(matches!(bench.next(), Next::Wait), "nobody takes another request");
    assert!(!stopped.is_finished());
    bench.give_back(busy);
    let next = stopped.join().unwrap();
    assert_eq!((next, bench.used()), (1, 1), "one was answered, one is to be taken again");
    assert!(matches!(bench.next(), Next::Wait), "no queue runs");
    bench.resume(next);
    let Next::Serve(call, ..) = bench.next() else { panic!("the other waits") };
    bench.give_back(call);
    assert_eq!(bench.used(), 2);
}

#[test]
fn the_threads_answer_what_is_asked_stop_go_on_and_end() {
    let mut bench = Bench::new();
    bench.start();
    bench.offer();
    bench.offer();
    let threads = bench.serve();
    bench.await_used(2);
    bench.offer();
    bench.files.ring();
    bench.await_used(3);
    let next = bench.files.stop(REQUESTS).unwrap().next_available();
    bench.offer();
    bench.files.ring();
    bench.resume(next);
    bench.await_used(4);
    // An event of the driver's own rings as well, until it is not watched any more.
    let kick = sys::eventfd::EventFd::new().unwrap();
    bench.files.watch(&kick.as_fd()).unwrap();
    bench.offer();
    kick.signal();
    bench.await_used(5);
    bench.files.unwatch(&kick.as_fd());
    bench.files.end();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
