//! Bare IPsec: the same tunnels and the same spinning, with a TUN device in the place of a VM.
//!
//! Packets of this network namespace to the peer are routed into the device,
//! sealed, and sent from a socket that is bound to the interface the peer was
//! reached through before: sealed packets do not come back.

use std::io::{self, IoSlice};
use std::net::IpAddr;

use esp::icmp::{Unreachable, unreachable};
use esp::ip::Packet;
use esp::offload::{Accepts, MAX_PARTS, Merged, Run};
use sys::clock::monotonic_ns;
use sys::route;
use sys::signal::Termination;
use sys::socket::Received;
use sys::tun::{self, MAX_READ, Tun, VNET_HEADER};
use virtio::net::PacketHeader;

use crate::batch::Batch;
use crate::control::LoopCounters;
use crate::offload;
use crate::overlay::Overlay;
use crate::run::{Event, Events, path_mtu, random_seed};
use crate::sockets::{self, Sockets};
use crate::spin::{Idle, Spin};
use crate::tunnel::{Outgoing, Place, Refusal, Stopped, Tunnel, Tunnels};

/// Packets taken from the device before the socket gets its turn, and their bytes; as from a space.
const BUDGET: usize = 64;
const BYTES: usize = 128 * 1024;

/// Bytes of a packet that are looked at; as of a space's.
const HEAD: usize = 256;

/// The host takes every kind of large packet.
const ACCEPTS: Accepts = Accepts { tcp_v4: true, tcp_v6: true, udp_v4: false, udp_v6: false };

const SECOND_NS: u64 = 1_000_000_000;

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
    Socket(#[from] sockets::Failure),
    /// The peer is this host.
    #[error("{peer} is reached through the loopback interface: the peer is another host")]
    Loopback {
        /// The peer.
        peer: IpAddr,
    },
    /// A local binding.
    #[error(
        "a local binding has no other host to talk to: bare IPsec takes encapsulation udp or raw"
    )]
    Local,
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
    sockets: Sockets,
    events: Events,
    spin: Spin,
    counters: LoopCounters,
    received: Received,
    batch: Batch,
    /// Room for one packet of the device.
    buffer: Vec<u8>,
    /// When keepalives and lifetimes are looked at next, nanoseconds.
    upkeep_ns: u64,
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
        let (own, peer) = (overlay.local, overlay.peer);
        let mut tunnels = Tunnels::default();
        let outer = route::to(peer)?.device;
        if outer == "lo" {
            return Err(Failure::Loopback { peer });
        }
        if own.is_ipv4() && filters_strictly(&outer) {
            return Err(Failure::ReversePath { device: outer });
        }
        let mtu = path_mtu(own, peer)?;
        let place = tunnels.add(overlay, mtu, now_s(), random_seed)?;
        let tunnel = tunnels.get(place).expect("just added");
        if tunnel.is_local() {
            return Err(Failure::Local);
        }
        let events = Events::new()?;
        let mut sockets = Sockets::default();
        let watch = |socket: &_| events.add(socket, Event::Packets);
        let tun = Tun::create_with_offloads(&options.device)?;
        lead_into(&tun, tunnel)?;
        events.add(&tun, Event::Packets)?;
        // Last: with raw sockets open, the right to make devices is given up.
        sockets.open(tunnel.local(), Some(&outer), watch)?;
        Ok(Endpoint {
            tunnels,
            place,
            tun,
            sockets,
            events,
            spin: Spin::new(options.spin_us, sys::sched::cores()),
            counters: LoopCounters::default(),
            received: Received::default(),
            batch: Batch::default(),
            buffer: vec![0; MAX_READ],
            upkeep_ns: 0,
        })
    }

    fn serve(mut self) -> Result<LoopCounters, Failure> {
        let mut turns = 0;
        loop {
            turns += 1;
            let now_ns = monotonic_ns();
            let timeout_ns = if self.turn(now_ns) {
                self.spin.worked();
                0
            } else if self.spin.idle(now_ns, 0) == Idle::Sleep {
                self.counters.wakeups += 1;
                self.upkeep_ns.saturating_sub(now_ns).max(1)
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
            if due.contains(&Event::NetworkError) {
                let (tunnels, now_ns) = (&mut self.tunnels, monotonic_ns());
                self.sockets.errors(|error, is_udp| tunnels.too_big(error, is_udp, now_ns));
            }
            self.events.recycle(due);
            self.keep_up(monotonic_ns());
        }
    }

    /// Sends keepalives that are due and lets SAs grow old, as the switch does.
    fn keep_up(&mut self, now_ns: u64) {
        if now_ns < self.upkeep_ns {
            return;
        }
        let kept = self.tunnels.keep_alive(now_ns, &mut self.batch);
        self.upkeep_ns = kept.due_ns;
        self.counters.keepalives += kept.sent;
        self.sockets.send(&mut self.batch, &mut self.counters);
        self.tunnels.expire(now_ns / SECOND_NS);
        self.tunnels.forget_paths(now_ns);
        if self.tunnels.ages() {
            self.upkeep_ns = self.upkeep_ns.min(now_ns + SECOND_NS);
        }
    }

    /// Receives once, takes a bounded number of packets from the device, and sends.
    fn turn(&mut self, now_ns: u64) -> bool {
        let mut worked = false;
        for at in 0..self.sockets.len() {
            worked |= self.receive(at);
        }
        let (mut taken, mut bytes) = (0, 0);
        while taken < BUDGET && bytes < BYTES {
            let Ok(Some(length)) = self.tun.read(&mut self.buffer) else { break };
            taken += 1;
            bytes += length;
            self.seal(length, now_ns);
        }
        if taken > 0 {
            self.sockets.send(&mut self.batch, &mut self.counters);
        }
        worked || taken > 0
    }

    fn receive(&mut self, at: usize) -> bool {
        self.counters.receive_calls += 1;
        let Some(port) = self.sockets.receive(at, &mut self.received) else { return false };
        let mut run = Run::new(ACCEPTS);
        for (envelope, datagram) in self.received.datagrams() {
            let Some(arrived) = self.tunnels.open(port, &envelope, datagram) else { continue };
            if run.push(&arrived.made, arrived.rest).is_err() {
                run.flush(|packet| write(&self.tun, &packet));
                run.push(&arrived.made, arrived.rest).expect("a run of nothing takes every packet");
            }
        }
        run.flush(|packet| write(&self.tun, &packet));
        true
    }

    /// Seals the packet that was read into the buffer, behind its header.
    fn seal(&mut self, length: usize, now_ns: u64) {
        let Some((header, packet)) = self.buffer[..length].split_first_chunk_mut() else { return };
        let Ok(header) = PacketHeader::parse(header, u64::MAX) else { return };
        let Some(offload) = offload::from_header(&header, 0) else { return };
        let total = packet.len();
        let (head, mut behind) = packet.split_at_mut(total.min(HEAD));
        let rest = |bytes: &mut [u8]| {
            let (now, later) = std::mem::take(&mut behind).split_at_mut(bytes.len());
            bytes.copy_from_slice(now);
            behind = later;
        };
        let outgoing = Outgoing { head, total, offload, rest };
        let why = match self.tunnels.seal(self.place, outgoing, &mut self.batch, now_ns) {
            Ok(_) | Err(Stopped::Silently(_)) => return,
            Err(Stopped::Prohibited) => Unreachable::Prohibited,
            Err(Stopped::TooBig(mtu)) => Unreachable::TooBig(mtu),
        };
        let packet = Packet::parse(&self.buffer[VNET_HEADER..length], total);
        if let Some(error) = packet.ok().and_then(|packet| unreachable(&packet, why)) {
            self.tun.write(&[IoSlice::new(&[0; VNET_HEADER]), IoSlice::new(&error)]);
        }
    }
}

/// Gives the device the space's addresses and leads what it may send into it.
fn lead_into(tun: &Tun, tunnel: &Tunnel) -> Result<(), Failure> {
    route::bring_up(tun.name(), tunnel.mtu().into())?;
    for own in tunnel.own().iter().filter(|own| *own != tunnel.local().ip()) {
        route::add_address(tun.name(), own, bits(own))?;
    }
    let mut led = Vec::new();
    for (policy, _) in tunnel.policies() {
        let (range, own) = (policy.selector.remote, policy.selector.local.first());
        if matches!(policy.action, esp::Action::Protect(_)) && !led.contains(&range) {
            for (network, prefix_bits) in range.prefixes() {
                route::add(network, prefix_bits, tun.name(), Some(own))?;
            }
            led.push(range);
        }
    }
    Ok(())
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Hands a packet to the host, which may refuse it; to the peer it is lost then.
fn write(tun: &Tun, packet: &Merged<'_, '_>) {
    let header = offload::to_header(&packet.offload, 0, packet.headers.len()).bytes();
    let mut parts = heapless::Vec::<IoSlice<'_>, { MAX_PARTS + 2 }>::new();
    let all = [&header[..], packet.headers].into_iter().chain(packet.payloads.iter().copied());
    parts.extend(all.map(IoSlice::new));
    tun.write(&parts);
}

/// Seconds of the clock of SAs' lifetimes.
fn now_s() -> u64 {
    monotonic_ns() / SECOND_NS
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
