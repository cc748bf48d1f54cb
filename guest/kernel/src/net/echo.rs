//! ICMP: echo requests of ours, and what is said about packets of ours (RFC 792, RFC 4443).

use alloc::vec::Vec;
use core::future::poll_fn;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::task::{Poll, Waker};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{raw, tcp};
use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv4Repr, Icmpv6Message, Icmpv6Packet, Icmpv6Repr, IpEndpoint,
    IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr,
};

use super::{Inner, Net, Unreachable, wake};

/// Bytes an echo request carries.
const PAYLOAD: [u8; 32] = *b"portspace portspace portspace...";

/// An echo request on its way.
pub(super) struct Echo {
    to: IpAddr,
    outcome: Option<Result<(), Unreachable>>,
    waker: Option<Waker>,
}

/// Why an echo request was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingFailed {
    /// Nothing came in time.
    Silence,
    /// Somebody on the way said so.
    Unreachable(Unreachable),
    /// The space has no address of the peer's family.
    Family,
}

impl core::fmt::Display for PingFailed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            PingFailed::Silence => f.write_str("no answer"),
            PingFailed::Unreachable(why) => why.fmt(f),
            PingFailed::Family => f.write_str("this space has no address of that family"),
        }
    }
}

/// An ICMP message that is about something of ours.
pub(super) enum Heard {
    EchoReply { from: IpAddr, ident: u16, seq: u16 },
    EchoUnreachable { ident: u16, seq: u16, why: Unreachable },
    TcpUnreachable { to: IpAddr, near: u16, far: u16, why: Unreachable },
}

impl Heard {
    /// Reads an IPv4 packet that carries ICMP; `None` if it is nothing to us.
    pub(super) fn parse_v4(packet: &[u8]) -> Option<Heard> {
        let ip = Ipv4Packet::new_checked(packet).ok()?;
        let icmp = Icmpv4Packet::new_checked(ip.payload()).ok()?;
        if !icmp.verify_checksum() {
            return None;
        }
        match icmp.msg_type() {
            Icmpv4Message::EchoReply => Some(Heard::EchoReply {
                from: ip.src_addr().into(),
                ident: icmp.echo_ident(),
                seq: icmp.echo_seq_no(),
            }),
            Icmpv4Message::DstUnreachable => {
                Heard::about(Quoted::v4(icmp.data())?, Unreachable(icmp.msg_code()))
            }
            _ => None,
        }
    }

    /// Reads an IPv6 packet that carries ICMPv6.
    pub(super) fn parse_v6(packet: &[u8]) -> Option<Heard> {
        let ip = Ipv6Packet::new_checked(packet).ok()?;
        let icmp = Icmpv6Packet::new_checked(ip.payload()).ok()?;
        if ip.next_header() != IpProtocol::Icmpv6
            || !icmp.verify_checksum(&ip.src_addr(), &ip.dst_addr())
        {
            return None;
        }
        // In the numbers of ICMP (RFC 7915 4.2, 5.2).
        let why = match (icmp.msg_type(), icmp.msg_code()) {
            (Icmpv6Message::EchoReply, _) => {
                return Some(Heard::EchoReply {
                    from: ip.src_addr().into(),
                    ident: icmp.echo_ident(),
                    seq: icmp.echo_seq_no(),
                });
            }
            (Icmpv6Message::DstUnreachable, 0) => 0,
            (Icmpv6Message::DstUnreachable, 1 | 5 | 6) => 13,
            (Icmpv6Message::DstUnreachable, 4) => 3,
            (Icmpv6Message::DstUnreachable, _) => 1,
            (Icmpv6Message::PktTooBig, _) => 4,
            _ => return None,
        };
        // Behind ICMPv6's header and its four bytes of whatever.
        Heard::about(Quoted::v6(ip.payload().get(8..)?)?, Unreachable(why))
    }

    /// What a quoted packet of ours was.
    fn about(quoted: Quoted<'_>, why: Unreachable) -> Option<Heard> {
        let Quoted { to, protocol, payload } = quoted;
        let word = |at: usize| Some(u16::from_be_bytes(*payload.get(at..)?.first_chunk()?));
        match protocol {
            IpProtocol::Icmp | IpProtocol::Icmpv6 => {
                Some(Heard::EchoUnreachable { ident: word(4)?, seq: word(6)?, why })
            }
            IpProtocol::Tcp => {
                Some(Heard::TcpUnreachable { to, near: word(0)?, far: word(2)?, why })
            }
            _ => None,
        }
    }
}

/// A packet of ours as an ICMP message quotes it: header and eight bytes are all that must
/// be there (RFC 792), less than its length says.
struct Quoted<'a> {
    to: IpAddr,
    protocol: IpProtocol,
    payload: &'a [u8],
}

impl Quoted<'_> {
    fn v4(quoted: &[u8]) -> Option<Quoted<'_>> {
        let header: &[u8; 20] = quoted.first_chunk()?;
        let payload = quoted.get(usize::from(header[0] & 0xf) * 4..)?;
        let to = Ipv4Addr::from(*header.last_chunk()?).into();
        Some(Quoted { to, protocol: header[9].into(), payload })
    }

    fn v6(quoted: &[u8]) -> Option<Quoted<'_>> {
        let (header, payload) = quoted.split_first_chunk::<40>()?;
        let to = Ipv6Addr::from(*header.last_chunk()?).into();
        Some(Quoted { to, protocol: header[6].into(), payload })
    }
}

impl Net {
    /// A number to tell one program's echo requests from another's.
    pub fn echo_ident(&self) -> u16 {
        self.inner.borrow_mut().random.next() as u16
    }

    /// Sends an echo request and waits for the answer, at most `limit_us`.
    ///
    /// # Errors
    /// Nothing came, or somebody said that it cannot.
    pub async fn ping(
        &self,
        to: IpAddr,
        ident: u16,
        seq: u16,
        limit_us: u64,
    ) -> Result<(), PingFailed> {
        let waiting = Waiting { net: self, key: (ident, seq) };
        {
            let inner = &mut *self.inner.borrow_mut();
            inner.echoes.insert(waiting.key, Echo { to, outcome: None, waker: None });
            let own = inner.identity.towards(to).ok_or(PingFailed::Family)?;
            let (packet, icmp) = match (own, to) {
                (IpAddr::V4(own), IpAddr::V4(to)) => {
                    (request_v4(own, to, ident, seq), inner.icmp_v4)
                }
                (IpAddr::V6(own), IpAddr::V6(to)) => {
                    (request_v6(own, to, ident, seq), inner.icmp_v6)
                }
                _ => return Err(PingFailed::Family),
            };
            // A full buffer is as good as a lost packet.
            let _ = inner.sockets.get_mut::<raw::Socket<'_>>(icmp).send_slice(&packet);
        }
        let answer = poll_fn(|cx| {
            let mut inner = self.inner.borrow_mut();
            let echo = inner.echoes.get_mut(&waiting.key).expect("`Waiting` keeps its echo");
            match echo.outcome {
                Some(outcome) => Poll::Ready(outcome),
                None => {
                    echo.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        });
        match self.timers.within(limit_us, answer).await {
            None => Err(PingFailed::Silence),
            Some(outcome) => outcome.map_err(PingFailed::Unreachable),
        }
    }
}

/// Forgets its echo request when it is dropped.
struct Waiting<'a> {
    net: &'a Net,
    key: (u16, u16),
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.net.inner.borrow_mut().echoes.remove(&self.key);
    }
}

impl Inner {
    pub(super) fn echo_answered(&mut self, from: IpAddr, ident: u16, seq: u16) {
        if let Some(echo) = self.echoes.get_mut(&(ident, seq)).filter(|echo| echo.to == from) {
            echo.outcome = Some(Ok(()));
            wake(&mut echo.waker);
        }
    }

    pub(super) fn echo_refused(&mut self, ident: u16, seq: u16, why: Unreachable) {
        if let Some(echo) = self.echoes.get_mut(&(ident, seq)) {
            echo.outcome = Some(Err(why));
            wake(&mut echo.waker);
        }
    }

    /// Ends a connection that is being made; one that was made survives (RFC 1122 4.2.3.9).
    pub(super) fn tcp_refused(&mut self, to: IpAddr, near: u16, far: u16, why: Unreachable) {
        let Some(own) = self.identity.towards(to) else { return };
        let (local, remote) = (IpEndpoint::new(own.into(), near), IpEndpoint::new(to.into(), far));
        for (_, socket) in self.sockets.iter_mut() {
            let smoltcp::socket::Socket::Tcp(socket) = socket else { continue };
            if socket.state() == tcp::State::SynSent
                && socket.local_endpoint() == Some(local)
                && socket.remote_endpoint() == Some(remote)
            {
                self.unreachable.insert(near, why);
                socket.abort();
            }
        }
    }
}

fn request_v4(from: Ipv4Addr, to: Ipv4Addr, ident: u16, seq: u16) -> Vec<u8> {
    let icmp = Icmpv4Repr::EchoRequest { ident, seq_no: seq, data: &PAYLOAD };
    let ip = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Icmp,
        payload_len: icmp.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = alloc::vec![0; ip.buffer_len() + icmp.buffer_len()];
    let sums = ChecksumCapabilities::default();
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes), &sums);
    icmp.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[ip.buffer_len()..]), &sums);
    bytes
}

fn request_v6(from: Ipv6Addr, to: Ipv6Addr, ident: u16, seq: u16) -> Vec<u8> {
    let icmp = Icmpv6Repr::EchoRequest { ident, seq_no: seq, data: &PAYLOAD };
    let ip = Ipv6Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Icmpv6,
        payload_len: icmp.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = alloc::vec![0; ip.buffer_len() + icmp.buffer_len()];
    ip.emit(&mut Ipv6Packet::new_unchecked(&mut bytes));
    let mut payload = Icmpv6Packet::new_unchecked(&mut bytes[ip.buffer_len()..]);
    icmp.emit(&from, &to, &mut payload, &ChecksumCapabilities::default());
    bytes
}
