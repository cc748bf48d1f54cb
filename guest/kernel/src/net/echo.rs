//! ICMP: echo requests of ours, and what is said about packets of ours (RFC 792).

use alloc::vec::Vec;
use core::future::poll_fn;
use core::net::Ipv4Addr;
use core::task::{Poll, Waker};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::{raw, tcp};
use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv4Repr, IpEndpoint, IpProtocol, Ipv4Packet, Ipv4Repr,
};

use super::{Inner, Net, Unreachable, wake};

/// Bytes an echo request carries.
const PAYLOAD: [u8; 32] = *b"portspace portspace portspace...";

/// An echo request on its way.
pub(super) struct Echo {
    to: Ipv4Addr,
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
}

impl core::fmt::Display for PingFailed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            PingFailed::Silence => f.write_str("no answer"),
            PingFailed::Unreachable(why) => why.fmt(f),
        }
    }
}

/// An ICMP message that is about something of ours.
pub(super) enum Heard {
    EchoReply { from: Ipv4Addr, ident: u16, seq: u16 },
    EchoUnreachable { ident: u16, seq: u16, why: Unreachable },
    TcpUnreachable { to: Ipv4Addr, near: u16, far: u16, why: Unreachable },
}

impl Heard {
    /// Reads an IPv4 packet that carries ICMP; `None` if it is nothing to us.
    pub(super) fn parse(packet: &[u8]) -> Option<Heard> {
        let ip = Ipv4Packet::new_checked(packet).ok()?;
        let icmp = Icmpv4Packet::new_checked(ip.payload()).ok()?;
        if !icmp.verify_checksum() {
            return None;
        }
        match icmp.msg_type() {
            Icmpv4Message::EchoReply => Some(Heard::EchoReply {
                from: ip.src_addr(),
                ident: icmp.echo_ident(),
                seq: icmp.echo_seq_no(),
            }),
            Icmpv4Message::DstUnreachable => {
                Heard::about(icmp.data(), Unreachable(icmp.msg_code()))
            }
            _ => None,
        }
    }

    /// What a quoted packet of ours was. Its header and eight bytes are all that
    /// must be there (RFC 792), less than its length says.
    fn about(quoted: &[u8], why: Unreachable) -> Option<Heard> {
        let header: &[u8; 20] = quoted.first_chunk()?;
        let payload = quoted.get(usize::from(header[0] & 0xf) * 4..)?;
        let word = |at: usize| Some(u16::from_be_bytes(*payload.get(at..)?.first_chunk()?));
        match IpProtocol::from(header[9]) {
            IpProtocol::Icmp => {
                Some(Heard::EchoUnreachable { ident: word(4)?, seq: word(6)?, why })
            }
            IpProtocol::Tcp => Some(Heard::TcpUnreachable {
                to: Ipv4Addr::from(*header.last_chunk()?),
                near: word(0)?,
                far: word(2)?,
                why,
            }),
            _ => None,
        }
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
        to: Ipv4Addr,
        ident: u16,
        seq: u16,
        limit_us: u64,
    ) -> Result<(), PingFailed> {
        let waiting = Waiting { net: self, key: (ident, seq) };
        {
            let inner = &mut *self.inner.borrow_mut();
            inner.echoes.insert(waiting.key, Echo { to, outcome: None, waker: None });
            let packet = request(inner.identity.address, to, ident, seq);
            // A full buffer is as good as a lost packet.
            let _ = inner.sockets.get_mut::<raw::Socket<'_>>(inner.icmp).send_slice(&packet);
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
    pub(super) fn echo_answered(&mut self, from: Ipv4Addr, ident: u16, seq: u16) {
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
    pub(super) fn tcp_refused(&mut self, to: Ipv4Addr, near: u16, far: u16, why: Unreachable) {
        let (local, remote) =
            (IpEndpoint::new(self.identity.address.into(), near), IpEndpoint::new(to.into(), far));
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

fn request(from: Ipv4Addr, to: Ipv4Addr, ident: u16, seq: u16) -> Vec<u8> {
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
