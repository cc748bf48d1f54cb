//! The space's one network: TCP, UDP, echo requests and raw packets over smoltcp.
//!
//! Every address is on the link: the switch answers ARP and neighbour discovery
//! for all of them and decides by itself what may leave.

mod echo;
mod tcp;
mod udp;

pub use echo::PingFailed;
pub use tcp::{ConnectFailed, Listener, Lost, PortInUse, TcpStream, Windows};
pub use udp::{NotSent, UdpSocket};

use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::task::Waker;

use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::{raw, tcp as socket_tcp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpCidr, IpProtocol, IpVersion};

use crate::hardware::Wire;
use crate::link::ETHERNET;
use crate::timers::Timers;
use echo::{Echo, Heard};

/// Most frames taken, and most rounds of sending, in one turn of the machine.
const BUDGET: usize = 64;

/// Rounds of sending after which the device is told of what there is so far.
const ROUNDS_UNTOLD: usize = 2;

/// When to try again what the device had no room for, if it does not say so earlier, microseconds.
const STUCK_US: u64 = 10_000;

/// Bytes of a TCP and an IPv4 header.
const TCP_IP: usize = 40;

/// How long a connection that a program left may take to end, microseconds.
const LINGER_US: u64 = 5_000_000;

/// First port for the near end of a connection (RFC 6335 6: dynamic ports).
const FIRST_PORT: u16 = 49_152;

/// Who the space is on its network.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The space's own IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The space's own IPv6 address.
    pub v6: Option<Ipv6Addr>,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// Random: sequence numbers and ports come from it.
    pub seed: u64,
}

impl Identity {
    /// The space's own address of the family of `peer`.
    fn towards(&self, peer: IpAddr) -> Option<IpAddr> {
        if peer.is_ipv4() { self.v4.map(IpAddr::V4) } else { self.v6.map(IpAddr::V6) }
    }
}

/// The network's state; programs and the machine share it.
pub struct Net {
    inner: RefCell<Inner>,
    timers: Timers,
}

struct Inner {
    identity: Identity,
    interface: Interface,
    sockets: SocketSet<'static>,
    /// Send echo requests and hear all ICMP, of either family.
    icmp_v4: SocketHandle,
    icmp_v6: SocketHandle,
    mtu: usize,
    /// Bytes of the longest payload of TCP sent at once.
    burst: usize,
    random: Random,
    echoes: BTreeMap<(u16, u16), Echo>,
    /// Why connections from these ports of ours came to nothing.
    unreachable: BTreeMap<u16, Unreachable>,
    /// Connections no program has any more, and when they are ended by force.
    leaving: Vec<(SocketHandle, u64)>,
    packets: VecDeque<Vec<u8>>,
    next_us: Option<u64>,
}

/// What an ICMP Destination Unreachable says (RFC 792), as its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable(pub u8);

impl core::fmt::Display for Unreachable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self.0 {
            0 => "the network is unreachable",
            1 => "the host is unreachable",
            2 => "the protocol is unreachable",
            3 => "the port is unreachable",
            4 => "the packet is too big",
            9 | 10 | 13 => "the overlay's policy forbids it",
            _ => "the destination is unreachable",
        })
    }
}

impl Net {
    /// The network over `link`.
    pub fn new(identity: Identity, link: &mut impl Wire, timers: Timers) -> Rc<Net> {
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(identity.mac)));
        let mut random = Random(identity.seed);
        config.random_seed = random.next();
        let mut interface = Interface::new(config, link, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let own = [identity.v4.map(IpAddr::V4), identity.v6.map(IpAddr::V6)];
            for address in own.into_iter().flatten() {
                // There is room for one of each family.
                let _ = addresses.push(IpCidr::new(address.into(), 0));
            }
        });
        let mut sockets = SocketSet::new(vec![]);
        let buffer = || raw::PacketBuffer::new(vec![raw::PacketMetadata::EMPTY; 8], vec![0; 4096]);
        let mut icmp = |version, protocol| {
            sockets.add(raw::Socket::new(Some(version), Some(protocol), buffer(), buffer()))
        };
        let icmp_v4 = icmp(IpVersion::Ipv4, IpProtocol::Icmp);
        let icmp_v6 = icmp(IpVersion::Ipv6, IpProtocol::Icmpv6);
        let capabilities = link.capabilities();
        let burst = match capabilities.segmentation.tcpv4 {
            Some(frame) => frame.get() - ETHERNET - TCP_IP,
            None => link.mtu().saturating_sub(TCP_IP).max(1),
        };
        let inner = RefCell::new(Inner {
            identity,
            interface,
            sockets,
            icmp_v4,
            icmp_v6,
            mtu: link.mtu(),
            burst,
            random,
            echoes: BTreeMap::new(),
            unreachable: BTreeMap::new(),
            leaving: Vec::new(),
            packets: VecDeque::new(),
            next_us: None,
        });
        Rc::new(Net { inner, timers })
    }

    /// The space's own addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let Identity { v4, v6, .. } = self.inner.borrow().identity;
        [v4.map(IpAddr::V4), v6.map(IpAddr::V6)].into_iter().flatten()
    }

    /// A random number.
    pub fn random(&self) -> u64 {
        self.inner.borrow_mut().random.next()
    }

    /// Sends one packet as it is, whatever is in it: header (see [`crate::link`]) and frame.
    pub fn send_packet(&self, packet: Vec<u8>) {
        self.inner.borrow_mut().packets.push_back(packet);
    }

    /// Packets of [`Net::send_packet`] the device has not taken yet.
    pub fn packets_waiting(&self) -> usize {
        self.inner.borrow().packets.len()
    }

    /// Takes what has arrived; whether there was anything.
    pub fn ingress(&self, link: &mut impl Wire, now_us: u64) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        let now = instant(now_us);
        let mut taken = 0;
        while taken < BUDGET {
            match inner.interface.poll_ingress_single(now, link, &mut inner.sockets) {
                PollIngressSingleResult::None => break,
                _ => taken += 1,
            }
        }
        inner.hear_icmp();
        taken > 0
    }

    /// Sends what sockets and programs have to send, and finds out when to do it next. How
    /// many times the device was told.
    pub fn egress(&self, link: &mut impl Wire, now_us: u64) -> u32 {
        let inner = &mut *self.inner.borrow_mut();
        let now = instant(now_us);
        let (mut told, mut stuck) = (0, false);
        for round in 1..=BUDGET {
            match inner.interface.poll_egress(now, link, &mut inner.sockets) {
                PollResult::None => {
                    stuck = true;
                    break;
                }
                PollResult::SocketStateChanged => {}
            }
            // The device can begin while we go on; whether it sleeps is all that costs.
            if round % ROUNDS_UNTOLD == 0 {
                told += link.kick();
            }
        }
        while let Some(packet) = inner.packets.front() {
            if !link.send_packet(packet) {
                break;
            }
            inner.packets.pop_front();
        }
        inner.reap(now_us);
        let due = inner.interface.poll_at(now, &inner.sockets);
        let reap = inner.leaving.iter().map(|(_, due_us)| *due_us).min();
        let mut due_us = due.map(|due| due.total_micros().max(0) as u64);
        if stuck && due_us.is_some_and(|due_us| due_us <= now_us) {
            // There is something to send, but no room for it: the device says when there is.
            due_us = Some(now_us + STUCK_US);
        }
        inner.next_us = due_us.into_iter().chain(reap).min();
        told + link.kick()
    }

    /// When [`Net::egress`] is due again though nothing happens.
    pub fn next_us(&self) -> Option<u64> {
        self.inner.borrow().next_us
    }
}

impl Inner {
    fn tcp(&mut self, handle: SocketHandle) -> &mut socket_tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Gives up a connection: `politely` lets the peer have what was written.
    fn leave(&mut self, handle: SocketHandle, politely: bool, now_us: u64) {
        let socket = self.tcp(handle);
        if politely {
            socket.close();
        } else {
            socket.abort();
        }
        self.leaving.push((handle, now_us + LINGER_US));
        self.next_us = Some(0);
    }

    fn reap(&mut self, now_us: u64) {
        let sockets = &mut self.sockets;
        self.leaving.retain(|(handle, due_us)| {
            let socket = sockets.get_mut::<socket_tcp::Socket<'_>>(*handle);
            let over =
                matches!(socket.state(), socket_tcp::State::Closed | socket_tcp::State::TimeWait);
            if over || *due_us <= now_us {
                sockets.remove(*handle);
                return false;
            }
            true
        });
    }

    fn hear_icmp(&mut self) {
        let mut heard: Vec<Heard> = Vec::new();
        let icmp = self.sockets.get_mut::<raw::Socket<'_>>(self.icmp_v4);
        while let Ok(packet) = icmp.recv() {
            heard.extend(Heard::parse_v4(packet));
        }
        let icmp = self.sockets.get_mut::<raw::Socket<'_>>(self.icmp_v6);
        while let Ok(packet) = icmp.recv() {
            heard.extend(Heard::parse_v6(packet));
        }
        for message in heard {
            match message {
                Heard::EchoReply { from, ident, seq } => self.echo_answered(from, ident, seq),
                Heard::EchoUnreachable { ident, seq, why } => self.echo_refused(ident, seq, why),
                Heard::TcpUnreachable { to, near, far, why } => {
                    self.tcp_refused(to, near, far, why);
                }
            }
        }
    }

    /// A port no socket of ours has.
    fn free_port(&mut self) -> Option<u16> {
        let range = u16::MAX - FIRST_PORT;
        let start = (self.random.next() % u64::from(range)) as u16;
        (0..range).map(|step| FIRST_PORT + (start + step % range) % range).find(|port| {
            !self.sockets.iter().any(|(_, socket)| match socket {
                smoltcp::socket::Socket::Tcp(socket) => {
                    socket.local_endpoint().is_some_and(|end| end.port == *port)
                        || socket.listen_endpoint().port == *port
                }
                smoltcp::socket::Socket::Udp(socket) => socket.endpoint().port == *port,
                _ => false,
            })
        })
    }
}

/// Numbers a peer cannot guess as long as it does not know the seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn instant(now_us: u64) -> Instant {
    Instant::from_micros(now_us as i64)
}

/// Wakes whoever waits, once.
fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

#[cfg(test)]
pub(crate) mod tests;
