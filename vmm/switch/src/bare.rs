//! Bare IPsec: the same tunnels and the same spinning, with a TUN device in the place of a VM.
//!
//! Packets of this network namespace to the peer are routed into the device,
//! sealed, and sent from a socket that is bound to the interface the peer was
//! reached through before: sealed packets do not come back.

use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};

use esp::icmp::{Unreachable, unreachable};
use esp::ip::Packet;
use sys::clock::monotonic_ns;
use sys::route;
use sys::signal::Termination;
use sys::socket::{Received, Sent};
use sys::tun::{self, Tun};
use sys::udp::{BindFailure, UdpSocket};

use crate::batch::Batch;
use crate::control::LoopCounters;
use crate::overlay::Overlay;
use crate::run::{Event, Events, random_seed};
use crate::spin::{Idle, Spin};
use crate::tunnel::{Place, Refusal, Stopped, Tunnels};

/// Packets taken from the device before the socket gets its turn; as from a space.
const BUDGET: usize = 64;

/// Turns of a busy or spinning loop between two looks at signals.
const TURNS_BETWEEN_SIGNALS: u32 = 256;

/// How a bare endpoint is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The device's name; a `%d` becomes the first free number.
    pub device: String,
    /// How long it looks for packets before it sleeps, microseconds.
    pub spin_us: u32,
}

/// Why there is no bare endpoint.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The overlay.
    #[error(transparent)]
    Overlay(#[from] Refusal),
    /// The TUN device.
    #[error(transparent)]
    Tun(#[from] tun::Failure),
    /// An interface or a route.
    #[error(transparent)]
    Route(#[from] route::Failure),
    /// The socket.
    #[error(transparent)]
    Socket(#[from] BindFailure),
    /// The peer is this host.
    #[error("{peer} is reached through the loopback interface: the peer is another host")]
    Loopback {
        /// The peer.
        peer: Ipv4Addr,
    },
    /// Strict reverse path filtering.
    #[error(
        "{device} drops the peer's packets, as the way back to it leads into the tunnel: set strict \
         reverse path filtering to loose (sysctl net.ipv4.conf.all.rp_filter=2 or \
         net.ipv4.conf.{device}.rp_filter=2)"
    )]
    ReversePath {
        /// The interface.
        device: String,
    },
    /// Something every Linux has failed.
    #[error("cannot wait for packets: {0}")]
    Events(#[from] io::Error),
}

/// A bare endpoint that is set up.
pub struct Endpoint {
    tunnels: Tunnels,
    place: Place,
    tun: Tun,
    socket: UdpSocket,
    events: Events,
    spin: Spin,
    counters: LoopCounters,
    received: Received,
    batch: Batch,
}

/// Runs the bare end of `overlay` in the current network namespace until SIGINT, SIGTERM or
/// SIGHUP; `ready` is told the device's name when packets can flow. The device and its route
/// go with the process, however it ends.
///
/// # Errors
/// [`Failure`].
pub fn bare(
    overlay: Overlay,
    options: &Options,
    ready: impl FnOnce(&str),
) -> Result<LoopCounters, Failure> {
    let termination = Termination::new()?;
    let endpoint = Endpoint::new(overlay, options)?;
    endpoint.events.add(&termination, Event::Termination)?;
    ready(endpoint.tun.name());
    endpoint.serve()
}

impl Endpoint {
    fn new(overlay: Overlay, options: &Options) -> Result<Endpoint, Failure> {
        let mut tunnels = Tunnels::default();
        let place = tunnels.add(overlay, random_seed)?;
        let tunnel = tunnels.get(place).expect("just added");
        let (local, peer, mtu) = (tunnel.local(), *tunnel.peer().ip(), tunnel.mtu());
        let outer = route::to(peer.into())?.device;
        if outer == "lo" {
            return Err(Failure::Loopback { peer });
        }
        if filters_strictly(&outer) {
            return Err(Failure::ReversePath { device: outer });
        }
        let socket = UdpSocket::bind(local.into(), Some(&outer))?;
        let tun = Tun::create(&options.device)?;
        route::bring_up(tun.name(), mtu.into())?;
        route::add(peer.into(), 32, tun.name(), Some((*local.ip()).into()))?;
        let events = Events::new()?;
        events.add(&tun, Event::Packets)?;
        events.add(&socket, Event::Packets)?;
        Ok(Endpoint {
            tunnels,
            place,
            tun,
            socket,
            events,
            spin: Spin::new(options.spin_us, sys::sched::cores()),
            counters: LoopCounters::default(),
            received: Received::default(),
            batch: Batch::default(),
        })
    }

    fn serve(mut self) -> Result<LoopCounters, Failure> {
        let mut turns = 0;
        loop {
            turns += 1;
            let timeout_ns = if self.turn() {
                self.spin.worked();
                0
            } else if self.spin.idle(monotonic_ns(), 0) == Idle::Sleep {
                self.counters.wakeups += 1;
                u64::MAX
            } else {
                sys::sched::give_way();
                0
            };
            if timeout_ns == 0 && turns < TURNS_BETWEEN_SIGNALS {
                continue;
            }
            turns = 0;
            let due = self.events.wait(timeout_ns)?;
            if due.contains(&Event::Termination) {
                self.counters.spins_won = self.spin.won;
                self.counters.spins_lost = self.spin.lost;
                return Ok(self.counters);
            }
            self.events.recycle(due);
        }
    }

    /// Receives once, takes a bounded number of packets from the device, and sends.
    fn turn(&mut self) -> bool {
        self.counters.receive_calls += 1;
        let received = self.socket.receive(&mut self.received).unwrap_or(false);
        self.socket.errors(|_| {});
        if received {
            let to = self.socket.local();
            for (envelope, datagram) in self.received.datagrams() {
                let (SocketAddr::V4(to), SocketAddr::V4(from)) = (to, envelope.from) else {
                    continue;
                };
                if let Some(arrived) = self.tunnels.open(to, from, datagram) {
                    // The host may refuse a packet; to the peer it is lost.
                    self.tun.write(&[IoSlice::new(&arrived.header), IoSlice::new(arrived.payload)]);
                }
            }
        }
        let mut packet = [0; 2048];
        let mut taken = 0;
        while taken < BUDGET {
            let Ok(Some(length)) = self.tun.read(&mut packet) else { break };
            taken += 1;
            self.seal(&packet[..length]);
        }
        if taken > 0 {
            let (mut messages, mut sent) = (Vec::new(), Sent::default());
            if let SocketAddr::V4(from) = self.socket.local() {
                self.batch.messages(from, &mut messages);
            }
            self.socket.send(&messages, &mut sent);
            self.batch.clear();
            self.counters.send_calls += sent.calls;
            self.counters.send_lost += sent.lost;
        }
        received || taken > 0
    }

    fn seal(&mut self, packet: &[u8]) {
        let why = match self.tunnels.seal(self.place, packet, &mut self.batch) {
            Ok(()) | Err(Stopped::Silently(_)) => return,
            Err(Stopped::Prohibited) => Unreachable::Prohibited,
            Err(Stopped::TooBig(mtu)) => Unreachable::TooBig(mtu),
        };
        if let Some((error, length)) = frame::unreachable(packet, why) {
            self.tun.write(&[IoSlice::new(&error[..length])]);
        }
    }
}

/// Whether the kernel wants the way back to a packet's source to be the way it came (RFC 3704);
/// the stricter of the two settings holds. Where they cannot be read, it is taken not to.
fn filters_strictly(device: &str) -> bool {
    let setting = |device: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/{device}/rp_filter");
        let text = std::fs::read_to_string(path).ok()?;
        text.trim().parse::<u8>().ok()
    };
    setting("all").max(setting(device)) == Some(1)
}
