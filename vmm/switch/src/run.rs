//! The switch process: one thread, one loop over sockets, rings and requests.
//!
//! vhost-user-backend's daemon would start a thread per device; here one loop
//! serves all of them, so that a packet passes no other thread and a batch may
//! hold the packets of many spaces.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use sys::clock::monotonic_ns;
use sys::seqpacket::Listener;
use sys::signal::Termination;
use sys::socket::{Received, Sent};
use sys::udp::{BindFailure, UdpSocket};

use crate::batch::Batch;
use crate::control::{LoopCounters, PairStatus, SpaceStatus, Status};
use crate::frame;
use crate::overlay::Overlay;
use crate::spin::{Idle, Spin};
use crate::tunnel::{Place, Refusal, Tunnels};
use crate::vhost::{Backend, Device, Ended, Kick};

mod clients;
mod events;

use clients::Clients;
pub(crate) use events::{Event, Events};

/// Frames taken from one space before the others get their turn.
const BUDGET: usize = 64;

/// Turns of a busy or spinning loop between two looks at requests.
const TURNS_BETWEEN_REQUESTS: u32 = 256;

/// Spaces one switch serves.
const MAX_SPACES: usize = 1024;

/// How long a switch without spaces waits for the next, nanoseconds.
const PATIENCE_NS: u64 = 5_000_000_000;

/// How the switch is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens for requests; must not exist, or be left over from a dead switch.
    pub control: PathBuf,
    /// How long it looks for packets before it sleeps, microseconds.
    pub spin_us: u32,
}

/// How long to spin where nobody says otherwise, microseconds.
pub const DEFAULT_SPIN_US: u32 = 50;

/// How long a guest spins where nobody says otherwise, microseconds: more than a round trip takes
/// that has to wake it, or it would sleep through every one.
pub const DEFAULT_GUEST_SPIN_US: u32 = 1000;

/// How long after its last packet a guest is taken to spin.
const GUEST_SPIN_NS: u64 = DEFAULT_GUEST_SPIN_US as u64 * 1000;

/// Why the switch cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The control socket.
    #[error("cannot listen for requests at {path}: {source}; is another switch running?")]
    Control {
        /// Its path.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Something every Linux has failed.
    #[error(
        "the switch cannot wait for events: {0}; is the limit of open files (ulimit -n) reached?"
    )]
    Events(#[from] io::Error),
}

/// Why a space is not attached.
#[derive(Debug, thiserror::Error)]
enum AttachRefused {
    #[error("a space of the name {0} is attached already: stop it first (portspace stop {0})")]
    Name(String),
    #[error("the switch serves {MAX_SPACES} spaces already: stop one of them first")]
    Full,
    #[error(transparent)]
    Overlay(#[from] Refusal),
    #[error(transparent)]
    Socket(#[from] BindFailure),
    #[error("no more descriptors for {what}: {source}; raise the limit of open files (ulimit -n)")]
    Resources {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

/// An attached space.
struct Space {
    name: String,
    backend: Backend,
    first_answer_ns: Option<u64>,
    /// Chains were given back since the guest was last told.
    touched: bool,
    /// When it was last told.
    touched_ns: u64,
}

struct Switch {
    tunnels: Tunnels,
    /// By place, as in `tunnels`.
    spaces: Vec<Option<Space>>,
    sockets: Vec<UdpSocket>,
    received: Received,
    batch: Batch,
    events: Events,
    spin: Spin,
    counters: LoopCounters,
    /// When to end if there is still no space.
    end_at_ns: u64,
}

/// Serves spaces until the last one is gone, nobody comes, or a signal asks to end.
///
/// # Errors
/// [`Failure`]; a guest, a VM process or a peer cannot cause one.
pub fn run(options: &Options) -> Result<(), Failure> {
    let listener = listen(options)?;
    let result = serve(options, &listener);
    // Nobody else made it, and a socket nobody listens at only confuses.
    let _ = rustix::fs::unlink(&options.control);
    result
}

fn listen(options: &Options) -> Result<Listener, Failure> {
    let failed = |source| Failure::Control { path: options.control.clone(), source };
    match Listener::bind(&options.control) {
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
            // Left over from a switch that was killed, if nobody listens.
            if sys::seqpacket::Connection::connect(&options.control).is_ok() {
                return Err(failed(e));
            }
            rustix::fs::unlink(&options.control).map_err(|e| failed(e.into()))?;
            Listener::bind(&options.control).map_err(failed)
        }
        result => result.map_err(failed),
    }
}

fn serve(options: &Options, listener: &Listener) -> Result<(), Failure> {
    let events = Events::new()?;
    let termination = Termination::new()?;
    events.add(&termination, Event::Termination)?;
    events.add(listener, Event::Listener)?;
    let mut clients = Clients::default();
    let mut switch = Switch {
        tunnels: Tunnels::default(),
        spaces: Vec::new(),
        sockets: Vec::new(),
        received: Received::default(),
        batch: Batch::default(),
        events,
        spin: Spin::new(options.spin_us, sys::sched::cores()),
        counters: LoopCounters::default(),
        end_at_ns: monotonic_ns() + PATIENCE_NS,
    };
    let mut turns = 0;
    loop {
        let timeout_ns = switch.look(&mut turns);
        if let Some(timeout_ns) = timeout_ns
            && switch.answer(timeout_ns, listener, &mut clients)?
        {
            return Ok(());
        }
    }
}

impl Switch {
    /// Moves packets once; gives how long to wait for events, if it is time to look at them.
    fn look(&mut self, turns: &mut u32) -> Option<u64> {
        *turns += 1;
        let worked = self.turn();
        let now_ns = monotonic_ns();
        let guests = self.spinning_guests(now_ns);
        if worked {
            self.spin.worked();
        }
        // Where spinning is no use, a turn that drained its sockets need not look once more.
        let done = self.spin.crowded(guests) && self.received.drained();
        if worked && !done {
            return self.after(turns);
        }
        if self.spin.idle(now_ns, guests) == Idle::Sleep {
            *turns = 0;
            return Some(self.prepare_to_sleep());
        }
        sys::sched::give_way();
        self.after(turns)
    }

    /// Requests wait for some turns, not for ever.
    fn after(&self, turns: &mut u32) -> Option<u64> {
        if *turns < TURNS_BETWEEN_REQUESTS {
            return None;
        }
        *turns = 0;
        Some(0)
    }

    /// Receives once, takes a bounded number of frames from each space, and sends.
    fn turn(&mut self) -> bool {
        let mut worked = false;
        for at in 0..self.sockets.len() {
            worked |= self.receive(at);
        }
        // A guest that needs no notification spins: its answer is a moment away.
        if worked && self.notify() == 0 {
            let spaces = &self.spaces;
            self.spin.briefly(monotonic_ns, || {
                spaces.iter().flatten().any(|space| space.backend.device().port.has_work())
            });
        }
        let mut frames = 0;
        for (place, space) in self.spaces.iter_mut().enumerate() {
            let Some(space) = space else { continue };
            let mut device = space.backend.device();
            if device.port.has_work() {
                let whose = (place, device.mac());
                let (tunnels, batch) = (&mut self.tunnels, &mut self.batch);
                frames += device.port.transmit(whose, BUDGET, tunnels, batch);
                space.touched = true;
            }
        }
        self.send();
        if frames > 0 {
            self.notify();
        }
        worked || frames > 0
    }

    fn receive(&mut self, at: usize) -> bool {
        let socket = &self.sockets[at];
        self.counters.receive_calls += 1;
        // An error here is one of the network's, which the next packet may not meet.
        let received = socket.receive(&mut self.received).unwrap_or(false);
        socket.errors(|_| {});
        if !received {
            return false;
        }
        let (to, tunnels, spaces) = (socket.local(), &mut self.tunnels, &mut self.spaces);
        for (envelope, datagram) in self.received.datagrams() {
            let (SocketAddr::V4(to), SocketAddr::V4(from)) = (to, envelope.from) else { continue };
            let Some(arrived) = tunnels.open(to, from, datagram) else { continue };
            let place = arrived.place;
            let Some(Some(space)) = spaces.get_mut(place) else { continue };
            let mut device = space.backend.device();
            let mac = device.mac();
            match device.port.deliver(mac, &arrived) {
                Ok(()) => {
                    space.first_answer_ns.get_or_insert_with(monotonic_ns);
                }
                Err(reason) => {
                    if let Some(tunnel) = tunnels.get_mut(place) {
                        tunnel.drops.count(reason);
                    }
                }
            }
            space.touched = true;
        }
        true
    }

    fn send(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut sent = Sent::default();
        for socket in &self.sockets {
            let mut messages = Vec::new();
            let SocketAddr::V4(from) = socket.local() else { continue };
            self.batch.messages(from, &mut messages);
            socket.send(&messages, &mut sent);
        }
        self.batch.clear();
        self.counters.send_calls += sent.calls;
        self.counters.send_lost += sent.lost;
    }

    /// Tells the guests whose chains were given back, each at most once per queue, and only those
    /// that wait; gives how many notifications that took.
    fn notify(&mut self) -> u64 {
        let now_ns = monotonic_ns();
        let mut notifications = 0;
        for space in self.spaces.iter_mut().flatten() {
            if std::mem::take(&mut space.touched) {
                space.touched_ns = now_ns;
                notifications += space.backend.device().notify();
            }
        }
        self.counters.notifications += notifications;
        notifications
    }

    /// How many guests are taken to spin: those that moved packets just now.
    fn spinning_guests(&self, now_ns: u64) -> usize {
        let spins = |space: &&Space| now_ns.saturating_sub(space.touched_ns) < GUEST_SPIN_NS;
        self.spaces.iter().flatten().filter(spins).count()
    }

    /// Arms every queue; gives how long to sleep: not at all if there are frames already.
    fn prepare_to_sleep(&mut self) -> u64 {
        let mut more = false;
        for space in self.spaces.iter().flatten() {
            more |= space.backend.device().port.arm();
        }
        match (more, self.is_empty()) {
            (true, _) => 0,
            (false, true) => self.end_at_ns.saturating_sub(monotonic_ns()).max(1),
            (false, false) => u64::MAX,
        }
    }

    fn is_empty(&self) -> bool {
        self.spaces.iter().all(Option::is_none)
    }

    /// Waits at most `timeout_ns` and answers requests; true if the switch is to end.
    fn answer(
        &mut self,
        timeout_ns: u64,
        listener: &Listener,
        clients: &mut Clients,
    ) -> Result<bool, Failure> {
        let mut due = self.events.wait(timeout_ns)?;
        if timeout_ns > 0 {
            self.counters.wakeups += 1;
            for space in self.spaces.iter().flatten() {
                space.backend.device().port.disarm();
            }
        }
        let mut end = false;
        let had_spaces = !self.is_empty();
        for event in due.drain(..) {
            match event {
                Event::Termination => end = true,
                Event::Listener => clients.accept(listener, &self.events),
                Event::Client(number) => clients.serve(number, self),
                Event::Backend(place) => self.serve_backend(place),
                Event::Packets => {}
            }
        }
        self.events.recycle(due);
        if had_spaces && self.is_empty() {
            // The next `up` may be on its way; a connected one certainly is.
            let patience = if clients.is_empty() { 0 } else { PATIENCE_NS };
            self.end_at_ns = monotonic_ns() + patience;
        }
        Ok(end || self.is_empty() && monotonic_ns() >= self.end_at_ns)
    }

    fn serve_backend(&mut self, place: Place) {
        let Some(Some(space)) = self.spaces.get_mut(place) else { return };
        let handled = space.backend.handle();
        let kicks = space.backend.device().take_kicks();
        let mut watched = match handled {
            Ok(true) => self.events.report_again(&space.backend, Event::Backend(place)),
            _ => Ok(()),
        };
        for kick in kicks {
            match kick {
                Kick::Retired(event) => self.events.remove(&event),
                Kick::Fresh => {
                    if let Some(event) = space.backend.device().kick() {
                        watched = watched.and(self.events.add_edge(event, Event::Packets));
                    }
                }
            }
        }
        match (handled, watched) {
            (Ok(_), Ok(())) => {}
            (Err(Ended::Violation), _) => {
                log::warn!("space {}: its VM process broke the vhost-user protocol", space.name);
                self.detach(place);
            }
            _ => self.detach(place),
        }
    }

    /// Attaches a space; gives the VM process's end of the vhost-user connection.
    fn attach(
        &mut self,
        name: String,
        overlay: Overlay,
    ) -> Result<(Place, UnixStream), AttachRefused> {
        if self.named(&name).is_some() {
            return Err(AttachRefused::Name(name));
        }
        if self.spaces.iter().flatten().count() >= MAX_SPACES {
            return Err(AttachRefused::Full);
        }
        let place = self.tunnels.add(overlay, random_seed)?;
        match self.connect(place, name) {
            Ok(stream) => Ok((place, stream)),
            Err(refused) => {
                self.detach(place);
                Err(refused)
            }
        }
    }

    fn connect(&mut self, place: Place, name: String) -> Result<UnixStream, AttachRefused> {
        let tunnel = self.tunnels.get(place).expect("just added");
        let (local, peer, mtu) = (tunnel.local(), tunnel.peer(), tunnel.mtu());
        let resources = |what| move |source| AttachRefused::Resources { what, source };
        self.open_socket(local)?;
        let (ours, theirs) = UnixStream::pair().map_err(resources("a connection"))?;
        let backend = Backend::new(ours, Device::new(frame::mac(place), mtu))
            .map_err(resources("a connection"))?;
        // Edge-triggered: half a message must not keep the loop awake.
        self.events.add_edge(&backend, Event::Backend(place)).map_err(resources("its events"))?;
        if self.spaces.len() <= place {
            self.spaces.resize_with(place + 1, || None);
        }
        log::info!("space {name} attached: {local} to {peer}");
        self.spaces[place] =
            Some(Space { name, backend, first_answer_ns: None, touched: false, touched_ns: 0 });
        Ok(theirs)
    }

    /// Spaces with one local address and port share one socket.
    fn open_socket(&mut self, local: SocketAddrV4) -> Result<(), AttachRefused> {
        if self.sockets.iter().any(|socket| socket.local() == local.into()) {
            return Ok(());
        }
        let socket = UdpSocket::bind(local.into(), None)?;
        self.events
            .add(&socket, Event::Packets)
            .map_err(|source| AttachRefused::Resources { what: "a socket", source })?;
        self.sockets.push(socket);
        Ok(())
    }

    fn detach(&mut self, place: Place) {
        if let Some(space) = self.spaces.get_mut(place).and_then(Option::take) {
            // The VM process holds the event as well: closing ours would not end the watch.
            if let Some(event) = space.backend.device().kick() {
                self.events.remove(event);
            }
            log::info!("space {} detached", space.name);
        }
        self.tunnels.remove(place);
        let tunnels = &self.tunnels;
        let in_use =
            |socket: &UdpSocket| tunnels.iter().any(|t| socket.local() == t.local().into());
        self.sockets.retain(in_use);
    }

    fn named(&self, name: &str) -> Option<Place> {
        self.spaces.iter().position(|space| space.as_ref().is_some_and(|space| space.name == name))
    }

    fn status(&mut self) -> Status {
        let mut status = Status {
            spaces: Vec::new(),
            strays: self.tunnels.strays.by_name(),
            turns: LoopCounters {
                spins_won: self.spin.won,
                spins_lost: self.spin.lost,
                ..self.counters
            },
        };
        for (place, space) in self.spaces.iter().enumerate() {
            let Some(space) = space else { continue };
            let mut pairs = Vec::new();
            self.tunnels.each_pair(place, |inbound, outbound| {
                pairs.push(PairStatus::new(inbound, outbound));
            });
            let Some(tunnel) = self.tunnels.get(place) else { continue };
            let device = space.backend.device();
            status.spaces.push(SpaceStatus {
                space: space.name.clone(),
                local: tunnel.local(),
                peer: tunnel.peer(),
                mac: device.mac(),
                mtu: tunnel.mtu(),
                running: device.is_running(),
                first_answer_ns: space.first_answer_ns,
                drops: tunnel.drops.by_name(),
                pairs,
            });
        }
        status
    }
}

/// 16 random bytes.
pub(crate) fn random_seed() -> [u8; 16] {
    let mut seed = [0; 16];
    rustix::rand::getrandom(&mut seed[..], rustix::rand::GetRandomFlags::empty())
        .expect("getrandom(2) of 16 bytes never fails nor stops short once the host is up");
    seed
}

#[cfg(test)]
mod tests;
