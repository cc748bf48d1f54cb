//! The main loop: takes from the devices, runs tasks, gives to the devices;
//! spins for a bounded time after the last activity, then sleeps.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::console::Console;
use crate::counters::Counters;
use crate::disk::{Disk, Disks, Shape};
use crate::exec;
use crate::executor::Executor;
use crate::files::{Calls, Files};
use crate::hardware::{Blocks, Cpu, Messages, Packets, Queues, Requests, Wire};
use crate::net::{Identity, Net};
use crate::programs::System;
use crate::timers::Timers;
use crate::vsock::Vsock;

/// How often the peer is asked at the start, and later if it stays silent, microseconds.
const REACH_US: u64 = 200_000;
const REACH_LATER_US: u64 = 5_000_000;

/// Questions to the peer before the slower pace.
const REACH_SOON: u16 = 50;

/// How long a stream is taken to go on after a long packet, and how long to spin meanwhile,
/// microseconds: its packets come in batches, and whoever makes them needs the core more.
const STREAM_US: u64 = 5_000;
const STREAM_SPIN_US: u64 = 10;

/// What the machine is told at its start.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Who the space is on its network.
    pub identity: Identity,
    /// The overlay's peer, whose reachability is to be known.
    pub peer: Option<IpAddr>,
    /// How long to spin after the last activity, microseconds.
    pub spin_us: u64,
    /// Bytes of memory the image takes.
    pub image_bytes: usize,
}

/// The devices that are there.
struct Devices<L, V, F, C> {
    link: Option<L>,
    vsock: Option<V>,
    files: Option<F>,
    console: Option<C>,
    disks: Vec<(Rc<Disk>, Box<dyn Blocks>)>,
}

/// The whole machine.
pub struct Machine<L, V, F, C> {
    devices: Devices<L, V, F, C>,
    system: System,
    vsock: Vsock,
    calls: Rc<Calls>,
    console: Console,
    executor: Executor,
    spin_us: u64,
    /// Time of the last turn that found work, and whether turns since found none.
    active_us: u64,
    idle: bool,
    /// Long packets so far, and until when more are expected.
    long: u64,
    stream_until_us: u64,
}

impl<L: Wire, V: Packets, F: Requests, C: Messages> Machine<L, V, F, C> {
    /// A machine on this network, if there is one, that asks for its peer at the next steps.
    ///
    /// The other devices are added one by one, with steps between: their setup
    /// takes longer than the peer does to answer.
    pub fn new(setup: Setup, mut link: Option<L>, cpu: Rc<dyn Cpu>) -> Self {
        let timers = Timers::default();
        timers.advance(cpu.now_ns() / 1000);
        let (executor, console) = (Executor::default(), Console::default());
        let net = link.as_mut().map(|link| Net::new(setup.identity, link, timers.clone()));
        let calls = Rc::new(Calls::new(executor.spawner()));
        // Programs may be run before the device is found: they wait for their files.
        calls.expect();
        let counters = Rc::new(Counters::default());
        let files = Files::new(calls.clone(), timers.clone());
        let image_bytes = setup.image_bytes;
        let disks = Disks::default();
        let system = System { cpu, timers, net, files, disks, counters, image_bytes };
        if let (Some(net), Some(peer)) = (&system.net, setup.peer) {
            executor.spawner().spawn(reach(net.clone(), peer, system.clone(), console.clone()));
        }
        Machine {
            devices: Devices { link, vsock: None, files: None, console: None, disks: Vec::new() },
            vsock: Vsock::new(),
            calls,
            console,
            executor,
            spin_us: setup.spin_us,
            active_us: system.timers.now_us(),
            idle: false,
            long: 0,
            stream_until_us: 0,
            system,
        }
    }

    /// Adds virtio-vsock; `cid` is the guest's context identifier. Programs can be run from now on.
    pub fn add_vsock(&mut self, device: V, cid: u64) {
        self.devices.vsock = Some(device);
        self.vsock.name(cid);
        exec::start(&self.vsock, self.system.clone(), &self.executor.spawner());
        self.console.say(format_args!("ready"));
    }

    /// Adds virtio-fs, and mounts it. Programs that use files wait until this is called, and hear
    /// that there are none if there is no device.
    pub fn add_files(&mut self, device: Option<F>) {
        self.devices.files = device;
        match self.devices.files {
            Some(_) => self.executor.spawner().spawn(self.calls.clone().mount()),
            None => self.calls.without(),
        }
    }

    /// Adds a virtio-blk: the next disk.
    pub fn add_disk(&mut self, device: Box<dyn Blocks>, shape: Shape) {
        let disk = Rc::new(Disk::new(shape));
        self.system.disks.borrow_mut().push(disk.clone());
        self.devices.disks.push((disk, device));
    }

    /// Adds virtio-console, for what was said and will be said.
    pub fn add_console(&mut self, device: C) {
        self.devices.console = Some(device);
        // Lines may be waiting.
        self.executor.spawner().spawn(async {});
    }

    /// One turn of the machine, then a sleep if it is time for one.
    pub fn step(&mut self) {
        let now_us = self.system.cpu.now_ns() / 1000;
        if self.turn(now_us) {
            self.watch_stream(now_us);
            let counters = &self.system.counters;
            counters.turns.add(1);
            counters.spins_won.add(self.idle.into());
            self.active_us = now_us;
            self.idle = false;
        } else if now_us.saturating_sub(self.active_us) < self.patience_us(now_us) {
            self.idle = true;
            core::hint::spin_loop();
        } else {
            self.sleep(now_us);
        }
    }

    fn watch_stream(&mut self, now_us: u64) {
        let long = self.devices.link.as_ref().map_or(0, Wire::long);
        if long != self.long {
            self.long = long;
            self.stream_until_us = now_us + STREAM_US;
        }
    }

    /// How long to spin now, microseconds.
    fn patience_us(&self, now_us: u64) -> u64 {
        let most = if now_us < self.stream_until_us { STREAM_SPIN_US } else { u64::MAX };
        self.spin_us.min(most)
    }

    /// Takes, runs, gives; whether there was anything to do.
    fn turn(&mut self, now_us: u64) -> bool {
        let Devices { link, vsock, files, console, disks } = &mut self.devices;
        let (net, counters) = (self.system.net.as_ref(), &self.system.counters);
        let mut packets = false;
        if let (Some(link), Some(net)) = (link.as_mut(), net) {
            packets = link.pending();
            if packets {
                net.ingress(link, now_us);
                counters.refused.set(link.refused());
            }
        }
        let mut others = false;
        if let Some(vsock) = vsock.as_mut().filter(|vsock| vsock.pending()) {
            self.vsock.ingress(vsock);
            others = true;
        }
        if let Some(files) = files.as_mut().filter(|files| files.pending()) {
            self.calls.ingress(files);
            others = true;
        }
        for (disk, device) in disks.iter_mut().filter(|(_, device)| device.pending()) {
            others |= disk.ingress(&mut **device);
        }
        others |= console.as_ref().is_some_and(Queues::pending);
        self.system.timers.advance(now_us);
        let ran = self.executor.ready();
        if ran {
            self.executor.run();
        }
        let due = net.and_then(|net| net.next_us()).is_some_and(|due_us| due_us <= now_us);
        if let (Some(link), Some(net)) = (link.as_mut(), net)
            && (packets || ran || due)
        {
            counters.notifies.add(net.egress(link, now_us).into());
        }
        if ran || others {
            if let Some(vsock) = vsock.as_mut() {
                self.vsock.egress(vsock);
                counters.notifies.add(vsock.kick().into());
            }
            if let Some(files) = files.as_mut() {
                self.calls.egress(files);
                counters.notifies.add(files.kick().into());
            }
            for (disk, device) in &mut *disks {
                disk.egress(&mut **device);
                counters.notifies.add(device.kick().into());
            }
            if let Some(console) = console.as_mut() {
                self.console.flush(console);
                counters.notifies.add(console.kick().into());
            }
        }
        packets || others || ran || due
    }

    /// Sleeps until a device or a timer has something, unless one has it already.
    fn sleep(&mut self, now_us: u64) {
        let Devices { link, vsock, files, console, disks } = &mut self.devices;
        // Every one is armed before any is believed to have nothing.
        let mut awake = armed(link) | armed(vsock) | armed(files) | armed(console);
        for (_, device) in disks {
            awake |= device.arm();
        }
        if awake || self.executor.ready() {
            return;
        }
        let timer = self.system.timers.next_us();
        let net = self.system.net.as_ref().and_then(|net| net.next_us());
        let due_us = timer.into_iter().chain(net).min();
        let limit_us = due_us.map(|due_us| due_us.saturating_sub(now_us));
        if limit_us == Some(0) {
            return;
        }
        self.system.counters.sleeps.add(1);
        self.system.counters.spins_lost.add(self.idle.into());
        self.system.cpu.sleep(limit_us);
        self.idle = false;
    }
}

fn armed(device: &mut Option<impl Queues>) -> bool {
    device.as_mut().is_some_and(Queues::arm)
}

/// Asks the peer whether it is there until it says so.
async fn reach(net: Rc<Net>, peer: IpAddr, system: System, console: Console) {
    let ident = net.echo_ident();
    let mut seq: u16 = 0;
    loop {
        let begun_us = system.timers.now_us();
        if net.ping(peer, ident, seq, REACH_US).await.is_ok() {
            let us = system.cpu.now_ns() / 1000;
            console.say(format_args!("{peer} answered {us} us after the start"));
            return;
        }
        seq = seq.wrapping_add(1);
        let pace_us = if seq < REACH_SOON { REACH_US } else { REACH_LATER_US };
        system.timers.until(begun_us + pace_us).await;
    }
}

#[cfg(test)]
mod tests;
