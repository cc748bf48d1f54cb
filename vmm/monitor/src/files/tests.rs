use super::*;
use abi::layout::Place;
use cowfs::{Config, LowerLayer};
use std::sync::Arc;
use std::sync::mpsc::{Sender, TryRecvError, channel, sync_channel};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EFD_NONBLOCK;

/// A queue's descriptors, available and used ring, and its buffers.
const TABLE: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const BUFFERS: u64 = 0x10000;

/// The threads' share of a space with an empty lower, and how it is told of moves.
struct Bench {
    _directory: tempfile::TempDir,
    files: Arc<Files>,
    moves: Sender<Move>,
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
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        let signal = Signal { interrupt: Default::default(), wake: event() };
        let (moves, inbox) = channel();
        let files = Files::new(std::sync::Arc::new(space), memory, inbox, event(), signal).unwrap();
        Bench { _directory: directory, files: Arc::new(files), moves, offered: 0 }
    }

    /// The driver is ready, with request queues of 8 and no other.
    fn start(&mut self) {
        use virtio_queue::QueueT;
        let mut queue = virtio::Queue::new(8).unwrap();
        queue.set_size(8);
        queue.set_desc_table_address(Some(TABLE as u32), None);
        queue.set_avail_ring_address(Some(AVAILABLE as u32), None);
        queue.set_used_ring_address(Some(USED as u32), None);
        queue.set_ready(true);
        let queues = vec![virtio::Queue::new(8).unwrap(), queue];
        self.moves.send(Move::Start(Place::Files, 0, queues)).unwrap();
    }

    /// Makes a request of 64 bytes, all zero, available, with room for as long a reply.
    fn offer(&mut self) {
        let (memory, head) = (&self.files.memory, u64::from(self.offered % 4) * 2);
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
        self.files.memory.read_obj(GuestAddress(USED + 2)).unwrap()
    }

    fn give_back(&self, call: Call) {
        self.files.desk().give_back(&self.files.memory, call);
    }

    fn next(&self) -> Next {
        self.files.desk().next(&self.files.memory)
    }

    fn stop(&self) -> std::sync::mpsc::Receiver<()> {
        let (answer, done) = sync_channel(1);
        self.moves.send(Move::Stop(Place::Files, answer)).unwrap();
        done
    }
}

#[test]
fn requests_wait_for_no_other_and_are_left_to_who_is_idle() {
    let mut bench = Bench::new();
    bench.start();
    (0..3).for_each(|_| bench.offer());
    let Next::Serve(slow, false) = bench.next() else { panic!("nobody is idle") };
    bench.files.desk().idle = 1;
    let Next::Serve(quick, true) = bench.next() else { panic!("one waits, and one is idle") };
    bench.give_back(quick);
    assert_eq!(bench.used(), 1);
    let Next::Serve(last, false) = bench.next() else { panic!("none is left") };
    assert!(matches!(bench.next(), Next::Wait));
    assert_eq!(bench.files.desk().idle, 2);
    bench.give_back(last);
    bench.give_back(slow);
    assert_eq!(bench.used(), 3);
}

#[test]
fn a_reset_is_answered_once_nothing_is_busy_and_nothing_is_given_back_after_it() {
    let mut bench = Bench::new();
    bench.start();
    bench.offer();
    bench.offer();
    let Next::Serve(busy, _) = bench.next() else { panic!("a request waits") };
    let done = bench.stop();
    assert!(matches!(bench.next(), Next::Wait), "what waits is the new driver's to ask again");
    assert_eq!(done.try_recv(), Err(TryRecvError::Empty));
    bench.give_back(busy);
    assert_eq!(bench.used(), 0, "the queue is the driver's again");
    assert!(matches!(bench.next(), Next::Reset(_)));
}

#[test]
fn the_threads_answer_what_is_asked_reset_and_end() {
    let mut bench = Bench::new();
    bench.start();
    bench.offer();
    bench.offer();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let files = Arc::clone(&bench.files);
            std::thread::Builder::new().spawn(move || files.run()).unwrap()
        })
        .collect();
    bench.files.ring();
    while bench.used() < 2 {
        std::thread::yield_now();
    }
    bench.offer();
    bench.files.ring();
    while bench.used() < 3 {
        std::thread::yield_now();
    }
    let done = bench.stop();
    bench.files.ring();
    assert_eq!(done.recv(), Ok(()));
    let Bench { files, moves, .. } = bench;
    drop(moves);
    files.ring();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
