//! The switch process: one thread, one loop over sockets, rings and requests.
//!
//! vhost-user-backend's daemon would start a thread per device; here one loop
//! serves all of them, so that a packet passes no other thread and a batch may
//! hold the packets of many spaces.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use sys::clock::monotonic_ns;
use sys::seqpacket::Listener;
use sys::signal::Termination;
use sys::socket::Received;

use crate::batch::Batch;
use crate::capture::Taps;
use crate::control::LoopCounters;
use crate::sockets::Sockets;
use crate::spin::{Idle, Spin};
use crate::tunnel::Tunnels;

mod clients;
mod events;
mod placement;
mod report;
mod spaces;
mod traffic;
mod upkeep;

use clients::Clients;
pub(crate) use events::{Event, Events};
use placement::Placement;
use spaces::Spaces;
use upkeep::Upkeep;

/// Turns of a busy or spinning loop between two looks at requests.
const TURNS_BETWEEN_REQUESTS: u32 = 256;

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

struct Switch {
    tunnels: Tunnels,
    spaces: Spaces,
    sockets: Sockets,
    received: Received,
    batch: Batch,
    events: Events,
    spin: Spin,
    placement: Placement,
    upkeep: Upkeep,
    counters: LoopCounters,
    taps: Taps,
    /// When to end if there is still no space.
    end_at_ns: u64,
}

/// Serves spaces until the last one is gone, nobody comes, or a signal asks to end.
///
/// # Errors
/// [`Failure`]; a guest, a VM process or a peer cannot cause one.
pub fn run(options: &Options) -> Result<(), Failure> {
    Sockets::drop_other_rights();
    let cores = sys::sched::cores();
    let listener = listen(options)?;
    let result = serve(options, &listener, cores);
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

fn serve(options: &Options, listener: &Listener, cores: usize) -> Result<(), Failure> {
    let events = Events::new()?;
    let termination = Termination::new()?;
    events.add(&termination, Event::Termination)?;
    events.add(listener, Event::Listener)?;
    let mut clients = Clients::default();
    let mut switch = Switch {
        tunnels: Tunnels::default(),
        spaces: Spaces::default(),
        sockets: Sockets::default(),
        received: Received::default(),
        batch: Batch::default(),
        events,
        spin: Spin::new(options.spin_us, cores),
        placement: Placement::new(),
        upkeep: Upkeep::default(),
        counters: LoopCounters::default(),
        taps: Taps::default(),
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
        let now_ns = monotonic_ns();
        let worked = self.turn(now_ns);
        let guests = self.spaces.spinning(now_ns);
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
            return Some(self.prepare_to_sleep(now_ns));
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

    /// Arms every queue; gives how long to sleep: not at all if there are frames already.
    fn prepare_to_sleep(&mut self, now_ns: u64) -> u64 {
        if self.spaces.arm(now_ns) {
            return 0;
        }
        let until_ns = match self.spaces.is_empty() {
            true => self.end_at_ns,
            false => self.upkeep.due_ns().min(self.spaces.held_until(now_ns)),
        };
        match until_ns {
            u64::MAX => u64::MAX,
            until_ns => until_ns.saturating_sub(now_ns).max(1),
        }
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
            self.spaces.disarm();
        }
        let mut end = false;
        let had_spaces = !self.spaces.is_empty();
        for event in due.drain(..) {
            match event {
                Event::Termination => end = true,
                Event::Listener => clients.accept(listener, &self.events),
                Event::Client(number) => clients.serve(number, self),
                Event::Backend(place) => self.serve_backend(place),
                Event::Plug(place) => self.plug(place),
                Event::Kick(place) => self.spaces.wake(place, monotonic_ns()),
                Event::Packets => {}
                Event::NetworkError => self.hear_errors(),
            }
        }
        self.events.recycle(due);
        self.keep_up();
        if had_spaces && self.spaces.is_empty() {
            // The next `up` may be on its way; a connected one certainly is.
            let patience = if clients.is_empty() { 0 } else { PATIENCE_NS };
            self.end_at_ns = monotonic_ns() + patience;
        }
        Ok(end || self.spaces.is_empty() && monotonic_ns() >= self.end_at_ns)
    }
}

/// The longest packet this host sends from `local` to `peer`, bytes.
pub(crate) fn path_mtu(local: IpAddr, peer: IpAddr) -> Result<u16, sys::route::Failure> {
    let mtu = sys::route::path_mtu(local, peer)?;
    Ok(u16::try_from(mtu).unwrap_or(u16::MAX))
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
