//! Machines with a driver of their own, which may break off or break the protocol.
#![expect(clippy::disallowed_types, reason = "memory is mapped from a file")]

use super::*;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use cowfs::{Config, LowerLayer};
use fuse::request::{Header, InitIn};
use fuse::{Name, NodeId, Operation, Request, reply};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::mmap::{GuestRegionMmap, MmapRegion};
use vm_memory::{Bytes, FileOffset, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

const BYTES: u64 = 1 << 20;
const SIZE: u16 = 8;
/// The request queue's parts, and where a request and its reply are.
const TABLE: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const REQUEST: u64 = 0x10000;
const REPLY: u64 = 0x20000;
const REPLY_BYTES: u32 = 4096;

/// The request queue.
const REQUESTS: usize = 1;

/// What machines connect to, over a parent with a file `there`.
struct Place {
    directory: tempfile::TempDir,
    listener: UnixListener,
    thread: Option<thread::JoinHandle<io::Result<()>>>,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let config = Config::new(vec![LowerLayer::Live(at("lower"))], at("upper"), at("work"));
        std::fs::write(directory.path().join("lower/there"), "").unwrap();
        let machines = Machines::new(FileSpace::open(config).unwrap()).unwrap();
        let listener = UnixListener::bind(directory.path().join("files.sock")).unwrap();
        let ours = listener.try_clone().unwrap();
        let serve = move || machines.serve(ours, None, || ());
        let thread = Some(thread::Builder::new().spawn(serve).unwrap());
        Place { directory, listener, thread }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("files.sock")
    }

    fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Whoever waits for the next machine hears that none comes.
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).unwrap();
        assert!(self.thread.take().unwrap().join().unwrap().is_err());
    }
}

/// A machine that is there.
struct Machine {
    front: Frontend,
    memory: Memory,
    /// Where its memory is to its own process.
    user: u64,
    kick: EventFd,
    call: EventFd,
    asked: u16,
}

impl Machine {
    fn new(place: &Place) -> Machine {
        let file = File::from(sys::memfd::sealed("machine", BYTES).unwrap());
        let fd = file.as_raw_fd();
        let region = MmapRegion::from_file(FileOffset::new(file, 0), BYTES as usize).unwrap();
        let user = region.as_ptr() as u64;
        let info = VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: BYTES,
            userspace_addr: user,
            mmap_offset: 0,
            mmap_handle: fd,
        };
        let region = GuestRegionMmap::new(region, GuestAddress(0)).unwrap();
        let memory = Memory::from_regions(vec![region]).unwrap();
        let mut front = Frontend::from_stream(place.connect(), QUEUES as u64);
        front.set_owner().unwrap();
        let features = front.get_features().unwrap();
        front.set_features(features).unwrap();
        let protocol = front.get_protocol_features().unwrap();
        front.set_protocol_features(protocol).unwrap();
        assert_eq!(front.get_queue_num().unwrap(), QUEUES as u64);
        front.set_mem_table(&[info]).unwrap();
        let event = || EventFd::new(0).unwrap();
        let mut machine = Machine { front, memory, user, kick: event(), call: event(), asked: 0 };
        machine.start(0);
        machine
    }

    /// Has the request queue run from this entry on.
    fn start(&mut self, next: u16) {
        let config = VringConfigData {
            queue_max_size: SIZE,
            queue_size: SIZE,
            flags: 0,
            desc_table_addr: self.user + TABLE,
            used_ring_addr: self.user + USED,
            avail_ring_addr: self.user + AVAILABLE,
            log_addr: None,
        };
        self.front.set_vring_num(REQUESTS, SIZE).unwrap();
        self.front.set_vring_base(REQUESTS, next).unwrap();
        self.front.set_vring_addr(REQUESTS, &config).unwrap();
        self.front.set_vring_call(REQUESTS, &self.call).unwrap();
        self.front.set_vring_kick(REQUESTS, &self.kick).unwrap();
        self.front.set_vring_enable(REQUESTS, true).unwrap();
    }

    /// Makes a request available, without a word.
    fn put(&mut self, node: NodeId, operation: &Operation<'_>) {
        let header = Header { unique: self.unique(), node, uid: 0, gid: 0, pid: 1 };
        let mut bytes = Vec::new();
        Request { header, operation: *operation }.encode(&mut bytes);
        self.memory.write_slice(&bytes, GuestAddress(REQUEST)).unwrap();
        // Readable, and continued by the second; that is writable.
        let descriptors = [
            REQUEST,
            bytes.len() as u64 | 1 << 32 | 1 << 48,
            REPLY,
            u64::from(REPLY_BYTES) | 2 << 32,
        ];
        self.memory.write_obj(descriptors, GuestAddress(TABLE)).unwrap();
        let slot = AVAILABLE + 4 + 2 * u64::from(self.asked % SIZE);
        self.memory.write_obj(0_u16, GuestAddress(slot)).unwrap();
        self.asked += 1;
        let index = GuestAddress(AVAILABLE + 2);
        self.memory.store(self.asked, index, Ordering::SeqCst).unwrap();
    }

    fn unique(&self) -> u64 {
        2 * (u64::from(self.asked) + 1)
    }

    /// Waits until as much was answered as was asked, and gives the last reply's errno, 0 for none.
    fn reply(&self) -> i32 {
        let used = || self.memory.load::<u16>(GuestAddress(USED + 2), Ordering::SeqCst).unwrap();
        while used() != self.asked {
            // Whoever signals has made the event one that does not block.
            let _ = self.call.read();
            thread::yield_now();
        }
        let mut bytes = [0; REPLY_BYTES as usize];
        self.memory.read_slice(&mut bytes, GuestAddress(REPLY)).unwrap();
        let length = u32::from_ne_bytes(*bytes.first_chunk().unwrap()) as usize;
        let unique = 2 * u64::from(self.asked);
        match reply::body(&bytes[..length], unique) {
            Ok(_) => 0,
            Err(refused) => refused.errno().number(),
        }
    }

    fn ask(&mut self, node: NodeId, operation: &Operation<'_>) -> i32 {
        self.put(node, operation);
        self.kick.write(1).unwrap();
        self.reply()
    }

    fn look_up(&mut self, name: &str) -> i32 {
        let name = Name::new(name.as_bytes()).unwrap();
        self.ask(NodeId::ROOT, &Operation::Lookup { name })
    }

    fn mount(&mut self) {
        let (major, minor) = fuse::session::VERSION;
        let init = InitIn { major, minor, max_readahead: 0, flags: 0 };
        assert_eq!(self.ask(NodeId(0), &Operation::Init(init)), 0);
    }
}

#[test]
fn machines_come_one_after_the_other_and_know_nothing_of_those_before() {
    let place = Place::new();
    for _ in 0..2 {
        let mut machine = Machine::new(&place);
        assert_eq!(machine.look_up("there"), libc::EIO, "INIT comes first, for each of them");
        machine.mount();
        assert_eq!(machine.look_up("there"), 0);
        assert_eq!(machine.look_up("nowhere"), libc::ENOENT);
    }
}

#[test]
fn a_machine_that_is_held_goes_on_where_it_was_and_one_started_anew_mounts_again() {
    let place = Place::new();
    let mut machine = Machine::new(&place);
    machine.mount();
    let next = machine.front.get_vring_base(REQUESTS).unwrap();
    assert_eq!(next, u32::from(machine.asked));
    // Asked while nobody looks, and not announced again.
    let name = Name::new(b"there").unwrap();
    machine.put(NodeId::ROOT, &Operation::Lookup { name });
    machine.start(next as u16);
    assert_eq!(machine.reply(), 0, "it is mounted still");
    // Started anew, it knows nothing of that.
    let next = machine.front.get_vring_base(REQUESTS).unwrap();
    machine.start(next as u16);
    machine.mount();
    assert_eq!(machine.look_up("there"), 0);
}

#[test]
fn a_second_machine_is_hung_up_on() {
    let place = Place::new();
    let mut machine = Machine::new(&place);
    let mut second = place.connect();
    assert_eq!(second.read(&mut [0]).unwrap(), 0);
    machine.mount();
    assert_eq!(machine.look_up("there"), 0, "the first is served on");
}

#[test]
fn a_machine_that_breaks_the_protocol_ends_itself_alone() {
    let place = Place::new();
    // No request of this number; half a message; nothing but its end.
    for said in [&[0xff; 64][..], &[1, 0, 0], &[]] {
        let mut bad = place.connect();
        bad.write_all(said).unwrap();
        bad.shutdown(std::net::Shutdown::Write).unwrap();
        // Reset if it said more than was read.
        assert_eq!(bad.read(&mut [0]).unwrap_or(0), 0, "it is hung up on");
    }
    let mut machine = Machine::new(&place);
    machine.mount();
    // What it hands over in place of events and memory is looked at.
    let file = File::from(rustix::fs::memfd_create("no", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    let mut bad = VhostUserMemoryRegionInfo { memory_size: BYTES, ..Default::default() };
    bad.mmap_handle = file.as_raw_fd();
    assert!(machine.front.set_mem_table(&[bad]).is_err() || machine.front.get_features().is_err());
    let mut next = Machine::new(&place);
    next.mount();
    assert_eq!(next.look_up("there"), 0);
}
