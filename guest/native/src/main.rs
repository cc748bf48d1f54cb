//! The bootable native guest: gives the kernel its devices and lets it run.
#![no_std]
#![no_main]

extern crate alloc;

mod devices;

use alloc::boxed::Box;
use alloc::rc::Rc;

use abi::layout::{Place, SLEEP_FOREVER};
use abi::start::StartPage;
use hal::clock::{self, Clock};
use hal::heap::Heap;
use hal::mmio::{Device, Kind};
use hal::ports;
use hal::queue::ReceiveQueue;
use kernel::hardware::Cpu;
use kernel::machine::{Machine, Setup};
use kernel::net::Identity;

use devices::{Console, Disk, Files, Vsock, find_link};

hal::start!(main);

/// How long to wait for random bytes, nanoseconds; then the counter has to do.
const ENTROPY_NS: u64 = 20_000_000;

fn main(start: StartPage, heap: &'static Heap) -> ! {
    let clock = Clock::start(start.tsc_hz);
    // Asked for first: the host fills it while the network is set up.
    let entropy = Entropy::ask();
    let link = find_link(start.mtu as usize);
    let seed = entropy.and_then(|entropy| entropy.wait(&clock));
    let setup = Setup {
        identity: Identity {
            v4: start.own_v4(),
            v6: start.own_v6(),
            mac: start.mac,
            seed: seed.unwrap_or_else(clock::ticks),
        },
        peer: start.peer(),
        spin_us: start.spin_us.into(),
        image_bytes: image_bytes(),
    };
    let mut machine = Machine::new(setup, link, Rc::new(Hardware { clock, heap }));
    machine.step();
    // Before programs can be run: none finds a disk missing that is there.
    for place in Place::DISKS.into_iter().take(start.disks.into()) {
        if let Some((device, shape)) = Disk::find(place) {
            machine.add_disk(Box::new(device), shape);
        }
    }
    if let Some((vsock, cid)) = Vsock::find() {
        machine.add_vsock(vsock, cid);
    }
    machine.step();
    if let Some(console) = Console::find() {
        machine.add_console(console);
    }
    machine.step();
    machine.add_files(Files::find());
    loop {
        machine.step();
    }
}

/// The CPU, its clock and its memory.
struct Hardware {
    clock: Clock,
    heap: &'static Heap,
}

impl Cpu for Hardware {
    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn sleep(&self, limit_us: Option<u64>) {
        // A limit that does not fit is hours away: waking early is harmless.
        let limit = limit_us.map(|us| u32::try_from(us).unwrap_or(SLEEP_FOREVER - 1));
        ports::sleep(limit.unwrap_or(SLEEP_FOREVER));
    }

    fn heap_used(&self) -> usize {
        self.heap.used()
    }
}

/// virtio-entropy with one request on its way.
struct Entropy {
    queue: ReceiveQueue,
}

impl Entropy {
    fn ask() -> Option<Entropy> {
        let mut device = Device::find(Place::Entropy, Kind::Entropy)?;
        let mut queue = ReceiveQueue::new(&mut device, 0, 2, 8);
        device.go();
        queue.kick();
        Some(Entropy { queue })
    }

    fn wait(mut self, clock: &Clock) -> Option<u64> {
        let end_ns = clock.now_ns() + ENTROPY_NS;
        while !self.queue.pending() && clock.now_ns() < end_ns {
            core::hint::spin_loop();
        }
        let bytes = self.queue.receive()?;
        bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }
}
