//! The loop of the VM process: console, entropy and vsock, the control socket, and
//! everything that can end the machine.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::Receiver;

use abi::layout::{EXEC_PORT, Place};
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use rustix::net::{SocketFlags, accept_with};
use virtio::Queue;
use virtio::console::Console;
use virtio::entropy::Entropy;
use virtio::vsock::{ConnectionId, Stage, Vsock};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

use crate::bus::Move;
use crate::control::Status;
use crate::memory::{self, OwnMemory};
use crate::relay::{Need, Relay};
use crate::{End, Signal};

/// The guest's own context id (virtio 1.2 5.10.4); 3 is the first that is free.
pub(crate) const GUEST_CID: u32 = 3;

/// Most clients of the control socket at once.
const MAX_CLIENTS: u32 = 64;

/// Most bytes of console output kept in the log: a guest must not fill the disk.
const MAX_CONSOLE: usize = 1 << 20;

/// A device this loop serves: its kick, and how it answers.
pub(crate) struct Port {
    pub(crate) kick: EventFd,
    pub(crate) signal: Signal,
}

/// What the loop owns.
pub(crate) struct EventLoop {
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) own_memory: OwnMemory,
    pub(crate) spawned_ns: u64,
    pub(crate) moves: Receiver<Move>,
    pub(crate) ends: Receiver<End>,
    /// Rung for a move and for an end.
    pub(crate) bell: EventFd,
    pub(crate) console_port: Port,
    pub(crate) entropy_port: Port,
    pub(crate) vsock_port: Port,
    pub(crate) listener: UnixListener,
    /// A second handle on the connection to the switch: its hang-up is the switch's end.
    pub(crate) switch: UnixStream,
    pub(crate) termination: OwnedFd,
    pub(crate) state: State,
}

/// What starts empty.
#[derive(Default)]
pub(crate) struct State {
    console: Option<Console>,
    console_line: Vec<u8>,
    console_bytes: usize,
    entropy: Option<Entropy>,
    vsock: Option<Vsock>,
    /// The connection that finds out when programs can be run.
    knock: Option<ConnectionId>,
    ready_ns: Option<u64>,
    clients: BTreeMap<u32, Relay>,
    pub(crate) end: Option<End>,
}

/// What an event is about; clients are numbered from the last on.
mod token {
    pub(super) const BELL: u32 = 0;
    pub(super) const CONSOLE: u32 = 1;
    pub(super) const ENTROPY: u32 = 2;
    pub(super) const VSOCK: u32 = 3;
    pub(super) const LISTENER: u32 = 4;
    pub(super) const SWITCH: u32 = 5;
    pub(super) const TERMINATION: u32 = 6;
    pub(super) const CLIENTS: u32 = 7;
}

impl MutEventSubscriber for EventLoop {
    fn init(&mut self, ops: &mut EventOps) {
        let waited = [
            Events::with_data(&self.bell, token::BELL, EventSet::IN),
            Events::with_data(&self.console_port.kick, token::CONSOLE, EventSet::IN),
            Events::with_data(&self.entropy_port.kick, token::ENTROPY, EventSet::IN),
            Events::with_data(&self.vsock_port.kick, token::VSOCK, EventSet::IN),
            Events::with_data(&self.listener, token::LISTENER, EventSet::IN),
            Events::with_data(&self.switch, token::SWITCH, EventSet::READ_HANG_UP),
            Events::with_data(&self.termination, token::TERMINATION, EventSet::IN),
        ];
        for events in waited {
            ops.add(events).expect("a new epoll set takes descriptors that are open");
        }
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match events.data() {
            token::BELL => {
                drain(&self.bell);
                self.take_moves();
            }
            token::CONSOLE => {
                drain(&self.console_port.kick);
                self.serve_console();
            }
            token::ENTROPY => {
                drain(&self.entropy_port.kick);
                self.serve_entropy();
            }
            token::VSOCK => drain(&self.vsock_port.kick),
            token::LISTENER => self.accept(ops),
            token::SWITCH => self.finish(End::SwitchGone),
            token::TERMINATION => self.finish(End::Stopped),
            _client => {}
        }
        self.serve_vsock(ops);
    }
}

fn drain(event: &EventFd) {
    // Empty if another wake-up took it already.
    let _ = event.read();
}

impl EventLoop {
    /// Whether programs can be run; until then the bell has to be rung now and then.
    pub(crate) fn ready(&self) -> bool {
        self.state.ready_ns.is_some()
    }

    /// Wakes the loop itself.
    pub(crate) fn ring(&self) {
        // A full counter is one that wakes anyway.
        let _ = self.bell.write(1);
    }

    fn finish(&mut self, end: End) {
        self.state.end.get_or_insert(end);
    }

    fn take_moves(&mut self) {
        while let Ok(what) = self.moves.try_recv() {
            match what {
                Move::Start(place, _, queues) => self.start(place, queues),
                Move::Stop(place, answer) => {
                    self.stop(place);
                    // The vCPU's thread may be gone: then nobody waits.
                    let _ = answer.send(());
                }
                // This loop is who says that it ends.
                Move::End => {}
            }
        }
        if let Ok(end) = self.ends.try_recv() {
            self.finish(end);
        }
    }

    /// A queue that cannot be used is the driver's own loss: its device stays silent.
    fn start(&mut self, place: Place, queues: Vec<Queue>) {
        let (state, memory) = (&mut self.state, &self.memory);
        match place {
            Place::Console => state.console = Console::new(queues, memory).ok(),
            Place::Entropy => state.entropy = Entropy::new(queues, memory).ok(),
            Place::Vsock => state.vsock = Vsock::new(GUEST_CID, queues, memory).ok(),
            _elsewhere => {}
        }
        self.serve_console();
        self.serve_entropy();
    }

    fn stop(&mut self, place: Place) {
        match place {
            Place::Console => self.state.console = None,
            Place::Entropy => self.state.entropy = None,
            Place::Vsock => (self.state.vsock, self.state.knock) = (None, None),
            _elsewhere => {}
        }
    }

    fn serve_console(&mut self) {
        let EventLoop { state, memory, console_port, .. } = self;
        let Some(console) = &mut state.console else { return };
        loop {
            let served = console.serve(memory, |bytes| {
                let room = MAX_CONSOLE.saturating_sub(state.console_bytes);
                state.console_line.extend_from_slice(&bytes[..bytes.len().min(room)]);
                state.console_bytes = state.console_bytes.saturating_add(bytes.len());
            });
            if served.notify {
                console_port.signal.raise();
            }
            while let Some(end) = state.console_line.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = state.console_line.drain(..=end).collect();
                log::info!("guest: {}", String::from_utf8_lossy(&line).trim_end().escape_debug());
            }
            if !served.more {
                return;
            }
        }
    }

    fn serve_entropy(&mut self) {
        let Some(entropy) = &mut self.state.entropy else { return };
        loop {
            let served = entropy.serve(&self.memory, |buffer| {
                rustix::rand::getrandom(buffer, rustix::rand::GetRandomFlags::empty())
                    .expect("getrandom gives up to 256 bytes at once always, more without signals");
            });
            if served.notify {
                self.entropy_port.signal.raise();
            }
            if !served.more {
                return;
            }
        }
    }

    /// Moves bytes between the guest and the clients until nothing moves at once.
    fn serve_vsock(&mut self, ops: &mut EventOps) {
        loop {
            let more = match &mut self.state.vsock {
                Some(vsock) => {
                    let served = vsock.serve(&self.memory);
                    if served.notify {
                        self.vsock_port.signal.raise();
                    }
                    served.more
                }
                None => false,
            };
            let touched = self.serve_clients(ops) | self.knock();
            if !more && !touched {
                return;
            }
        }
    }

    /// Finds out whether the guest runs programs: it does when it takes a connection.
    /// Whether that touched the vsock device.
    fn knock(&mut self) -> bool {
        let state = &mut self.state;
        let (None, Some(vsock)) = (state.ready_ns, &mut state.vsock) else { return false };
        let stage = match state.knock {
            Some(id) => vsock.connection(id).map(|connection| connection.stage()),
            None => None,
        };
        let refused = stage == Some(Stage::Refused);
        match (stage, state.knock) {
            (Some(Stage::Connecting), _) => false,
            (Some(Stage::Open), Some(id)) => {
                vsock.close(id);
                state.ready_ns = Some(sys::clock::monotonic_ns());
                true
            }
            (_, old) => {
                old.into_iter().for_each(|id| vsock.close(id));
                state.knock = vsock.connect(EXEC_PORT);
                // A guest that refuses is asked again at the next event, not at once.
                !refused
            }
        }
    }

    fn accept(&mut self, ops: &mut EventOps) {
        // Not blocking from the start: the jail has no way to change that later.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let Ok(stream) = accept_with(&self.listener, flags).map(UnixStream::from) else { return };
        let Some(number) = (0..MAX_CLIENTS).find(|number| !self.state.clients.contains_key(number))
        else {
            return;
        };
        let events = Events::with_data(&stream, token::CLIENTS + number, EventSet::IN);
        if ops.add(events).is_ok() {
            self.state.clients.insert(number, Relay::new(stream));
        }
    }

    /// Moves what the clients have and take; whether that touched the vsock device.
    fn serve_clients(&mut self, ops: &mut EventOps) -> bool {
        let status =
            || status(self.spawned_ns, self.state.ready_ns, &self.own_memory, &self.memory);
        let (mut over, mut touched) = (Vec::new(), false);
        for (number, client) in &mut self.state.clients {
            match client.pump(self.state.vsock.as_mut(), &status) {
                Need::Events(set) => {
                    let data = token::CLIENTS + number;
                    ops.modify(Events::with_data(client.stream(), data, set))
                        .expect("a client's descriptor is in the epoll set while it is open");
                }
                Need::Over => over.push(*number),
                Need::Stop => {
                    self.state.end.get_or_insert(End::Stopped);
                }
            }
            touched |= client.touched();
        }
        touched |= !over.is_empty();
        for client in over.iter().filter_map(|number| self.state.clients.remove(number)) {
            client.hang_up(self.state.vsock.as_mut());
            ops.remove(Events::empty(client.stream()))
                .expect("a client's descriptor is in the epoll set while it is open");
        }
        touched
    }
}

fn status(
    started_ns: u64,
    ready_ns: Option<u64>,
    own: &OwnMemory,
    memory: &GuestMemoryMmap,
) -> Status {
    Status {
        pid: std::process::id(),
        ready: ready_ns.is_some(),
        started_ns,
        ready_ns,
        vm_kib: own.kib(),
        guest_kib: memory::touched_kib(memory),
    }
}

/// The descriptor of the process's termination signals, as the loop waits for it.
pub(crate) fn termination() -> std::io::Result<OwnedFd> {
    sys::signal::Termination::new()?.as_fd().try_clone_to_owned()
}
