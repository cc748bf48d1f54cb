//! A machine's surroundings in memory: a CPU whose time the test moves, a wire
//! with a peer at its other end, a file space on disk, and programs run over them.

pub(crate) mod device;
pub(crate) mod platter;
pub(crate) mod shelf;

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::net::{Ipv4Addr, Ipv6Addr};

use abi::exec::{self, Kind};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, ChecksumCapabilities, DeviceCapabilities, Medium};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr};

use crate::counters::Counters;
use crate::disk::Disks;
use crate::executor::Executor;
use crate::files::{Calls, Files};
use crate::hardware::{Cpu, Queues, Wire};
use crate::link::{HEADER, Link};
use crate::net::{Identity, Net};
use crate::pipe::{Input, Output};
use crate::programs::{self, System};
use crate::timers::Timers;
use device::{Conditions, Device, PLAIN, Port};
use shelf::Shelf;

pub(crate) const GUEST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);
pub(crate) const GUEST_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
pub(crate) const PEER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x20);
pub(crate) const NOBODY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// Microseconds one turn of the lab takes.
const TURN_US: u64 = 100;

/// A CPU whose time stands still until the test moves it.
#[derive(Default)]
pub(crate) struct TestCpu {
    pub(crate) now_us: Cell<u64>,
    pub(crate) sleeps: RefCell<Vec<Option<u64>>>,
}

impl Cpu for TestCpu {
    fn now_ns(&self) -> u64 {
        self.now_us.get() * 1000
    }

    fn sleep(&self, limit_us: Option<u64>) {
        self.sleeps.borrow_mut().push(limit_us);
        self.now_us.set(self.now_us.get() + limit_us.unwrap_or(0));
    }

    fn heap_used(&self) -> usize {
        4096
    }
}

type Frames = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// One end of a wire.
#[derive(Clone, Default)]
pub(crate) struct End {
    pub(crate) arriving: Frames,
    pub(crate) leaving: Frames,
    pub(crate) armed: Rc<Cell<u32>>,
    pub(crate) long: Rc<Cell<u64>>,
    mtu: usize,
}

/// Both ends of a new wire.
pub(crate) fn wire(mtu: usize) -> (End, End) {
    let guest = End { mtu, ..End::default() };
    let (arriving, leaving) = (guest.leaving.clone(), guest.arriving.clone());
    let peer = End { arriving, leaving, mtu, ..End::default() };
    (guest, peer)
}

impl Wire for End {
    fn mtu(&self) -> usize {
        self.mtu
    }

    fn send_packet(&mut self, packet: &[u8]) -> bool {
        self.leaving.borrow_mut().push_back(packet[HEADER..].to_vec());
        true
    }

    fn refused(&self) -> u64 {
        0
    }

    fn long(&self) -> u64 {
        self.long.get()
    }
}

impl Queues for End {
    fn pending(&self) -> bool {
        !self.arriving.borrow().is_empty()
    }

    fn arm(&mut self) -> bool {
        self.armed.set(self.armed.get() + 1);
        self.pending()
    }

    fn kick(&mut self) -> u32 {
        0
    }
}

pub(crate) struct Arrived(Vec<u8>);

pub(crate) struct Room(Frames);

impl phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl phy::TxToken for Room {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut frame = vec![0; length];
        let answer = fill(&mut frame);
        self.0.borrow_mut().push_back(frame);
        answer
    }
}

impl phy::Device for End {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Room;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Room)> {
        let frame = self.arriving.borrow_mut().pop_front()?;
        Some((Arrived(frame), Room(self.leaving.clone())))
    }

    fn transmit(&mut self, _: Instant) -> Option<Room> {
        Some(Room(self.leaving.clone()))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 14 + self.mtu;
        capabilities.checksum = ChecksumCapabilities::default();
        capabilities
    }
}

/// The peer: answers ARP and echo requests, and serves TCP port 7.
pub(crate) struct Peer {
    pub(crate) end: End,
    interface: Interface,
    sockets: SocketSet<'static>,
    server: SocketHandle,
    /// What the server says when it was asked anything; `None`: what it was told.
    pub(crate) answer: Option<Vec<u8>>,
    said: usize,
    /// Frames seen on the way to the peer.
    pub(crate) seen: Vec<Vec<u8>>,
}

impl Peer {
    pub(crate) fn new(mut end: End) -> Peer {
        let address = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, 2]));
        let mut interface = Interface::new(Config::new(address), &mut end, Instant::ZERO);
        interface.update_ip_addrs(|list| {
            list.push(IpCidr::new(PEER.into(), 24)).unwrap();
            list.push(IpCidr::new(PEER_V6.into(), 0)).unwrap();
        });
        let mut sockets = SocketSet::new(vec![]);
        let buffer = || tcp::SocketBuffer::new(vec![0; 16 * 1024]);
        let mut server = tcp::Socket::new(buffer(), buffer());
        server.listen(7).unwrap();
        let server = sockets.add(server);
        Peer { end, interface, sockets, server, answer: None, said: 0, seen: Vec::new() }
    }

    /// Connects from the peer to a port of the guest.
    pub(crate) fn call(&mut self, port: u16) -> SocketHandle {
        let mut socket = self.stream();
        socket.connect(self.interface.context(), (GUEST, port), 50_000).unwrap();
        self.sockets.add(socket)
    }

    /// Waits on a port of the peer.
    pub(crate) fn listen(&mut self, port: u16) -> SocketHandle {
        let mut socket = self.stream();
        socket.listen(port).unwrap();
        self.sockets.add(socket)
    }

    /// A port of the peer for datagrams.
    pub(crate) fn udp(&mut self, port: u16) -> SocketHandle {
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; 65536]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(port).unwrap();
        self.sockets.add(socket)
    }

    pub(crate) fn udp_socket(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    fn stream(&self) -> tcp::Socket<'static> {
        let buffer = || tcp::SocketBuffer::new(vec![0; 256 * 1024]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_ack_delay(None);
        socket
    }

    pub(crate) fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub(crate) fn turn(&mut self, now_us: u64) {
        self.seen.extend(self.end.arriving.borrow().iter().cloned());
        let now = Instant::from_micros(now_us as i64);
        self.interface.poll(now, &mut self.end, &mut self.sockets);
        let server = self.sockets.get_mut::<tcp::Socket<'_>>(self.server);
        if let Some(answer) = &self.answer {
            if server.can_recv() {
                server.recv(|bytes| (bytes.len(), ())).unwrap();
                self.said = 1;
            }
            if self.said > 0 && server.can_send() {
                self.said += server.send_slice(&answer[self.said - 1..]).unwrap();
                if self.said == answer.len() + 1 {
                    server.close();
                }
            }
        } else if server.can_recv() && server.can_send() {
            let told = server.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap();
            server.send_slice(&told).unwrap();
        } else if server.state() == tcp::State::CloseWait {
            server.close();
        }
        self.interface.poll(now, &mut self.end, &mut self.sockets);
    }
}

/// Everything together.
pub(crate) struct Lab {
    pub(crate) cpu: Rc<TestCpu>,
    pub(crate) executor: Executor,
    pub(crate) timers: Timers,
    pub(crate) net: Rc<Net>,
    link: Link<Port>,
    pub(crate) device: Device,
    pub(crate) peer: Peer,
    pub(crate) calls: Rc<Calls>,
    shelf: Option<Shelf>,
    disks: Disks,
    pub(crate) platter: Option<platter::Platter>,
}

/// What a program did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: u8,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        Lab::under(PLAIN)
    }

    pub(crate) fn under(conditions: Conditions) -> Lab {
        let ((near, other), port) = (wire(conditions.mtu), Port::default());
        let mut link = Link::new(port.clone(), conditions.offloads, conditions.mtu);
        let device = Device::new(port, near, conditions);
        let timers = Timers::default();
        let executor = Executor::default();
        let calls = Rc::new(Calls::new(executor.spawner()));
        let (v4, v6) = (Some(GUEST), Some(GUEST_V6));
        let identity = Identity { v4, v6, mac: [2, 0, 0, 0, 0, 1], seed: 7 };
        let net = Net::new(identity, &mut link, timers.clone());
        Lab {
            cpu: Rc::default(),
            executor,
            timers,
            net,
            link,
            device,
            peer: Peer::new(other),
            calls,
            shelf: None,
            disks: Disks::default(),
            platter: None,
        }
    }

    /// With files.
    pub(crate) fn with_files() -> Lab {
        Lab::over(Shelf::new())
    }

    /// With these files.
    pub(crate) fn over(shelf: Shelf) -> Lab {
        let mut lab = Lab::new();
        lab.shelf = Some(shelf);
        lab.executor.spawner().spawn(lab.calls.clone().mount());
        lab
    }

    /// With a virtio-blk.
    pub(crate) fn with_platter(features: u32) -> Lab {
        let mut lab = Lab::new();
        let platter = platter::Platter::new(features);
        lab.disks.borrow_mut().push(Rc::new(crate::disk::Disk::new(platter.shape())));
        lab.platter = Some(platter);
        lab
    }

    pub(crate) fn shelf(&mut self) -> &mut Shelf {
        self.shelf.as_mut().expect("a lab with files")
    }

    pub(crate) fn root(&self) -> &std::path::Path {
        self.shelf.as_ref().expect("a lab with files").root.path()
    }

    /// Packets the guest did not believe.
    pub(crate) fn refused(&self) -> u64 {
        self.link.refused()
    }

    pub(crate) fn turn(&mut self) {
        let now_us = self.cpu.now_us.get() + TURN_US;
        self.cpu.now_us.set(now_us);
        self.device.carry();
        self.net.ingress(&mut self.link, now_us);
        self.timers.advance(now_us);
        self.executor.run();
        self.net.egress(&mut self.link, now_us);
        self.device.carry();
        self.peer.turn(now_us);
        if let Some(shelf) = &mut self.shelf {
            self.calls.egress(shelf);
            self.calls.ingress(shelf);
        }
        if let Some(platter) = &mut self.platter {
            let disk = self.disks.borrow()[0].clone();
            disk.egress(platter);
            disk.ingress(platter);
        }
    }

    /// What programs may use.
    pub(crate) fn system(&self) -> System {
        System {
            cpu: self.cpu.clone(),
            timers: self.timers.clone(),
            net: Some(self.net.clone()),
            files: Files::new(self.calls.clone(), self.timers.clone()),
            disks: self.disks.clone(),
            counters: Rc::new(Counters::default()),
            image_bytes: 0,
        }
    }

    /// Starts a program; its outcome appears when it has ended.
    pub(crate) fn start(&mut self, line: &str, input: &[u8]) -> Started {
        let mut arguments: Vec<String> = line.split_whitespace().map(String::from).collect();
        let name = arguments.remove(0);
        let (output, stdin) = (Output::default(), Input::default());
        stdin.feed(input);
        stdin.feed(&[]);
        let context = programs::Context {
            system: self.system(),
            arguments,
            directory: "/".into(),
            input: stdin,
            output: output.writer(Kind::Stdout),
            errors: output.writer(Kind::Stderr),
            files: Default::default(),
        };
        let status = Rc::new(Cell::new(None));
        let end = status.clone();
        self.executor.spawner().spawn(async move {
            end.set(Some(programs::run(&name, context).await));
        });
        Started { status, output }
    }

    /// Runs a program to its end, for at most 20 s of the lab's time.
    pub(crate) fn run(&mut self, line: &str, input: &[u8]) -> Outcome {
        let started = self.start(line, input);
        for _ in 0..200_000 {
            self.turn();
            if let Some(outcome) = started.outcome() {
                return outcome;
            }
        }
        panic!("{line} does not end");
    }
}

/// A program that runs.
pub(crate) struct Started {
    status: Rc<Cell<Option<u8>>>,
    output: Output,
}

impl Started {
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        let status = self.status.get()?;
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let frames = self.output.take();
        let mut rest = &frames[..];
        while let Some((kind, payload, used)) = exec::decode(rest).unwrap() {
            let to = if kind == Kind::Stdout { &mut output } else { &mut errors };
            to.extend_from_slice(payload);
            rest = &rest[used..];
        }
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Some(Outcome { status, output: text(output), errors: text(errors) })
    }
}
