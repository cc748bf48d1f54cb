//! TCP connections as programs have them. Nagle's algorithm is off: what is
//! written is sent at once.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::future::poll_fn;
use core::net::{IpAddr, SocketAddr};
use core::task::Poll;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State};
use smoltcp::time::Duration;
use smoltcp::wire::IpListenEndpoint;

use super::{Inner, Net, Unreachable};

/// Bytes kept of each direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// What the peer may send before it is read.
    pub receive: usize,
    /// What may be written before the peer acknowledges it.
    pub send: usize,
}

impl Windows {
    /// For conversations.
    pub const PLAIN: Windows = Windows { receive: 64 * 1024, send: 64 * 1024 };
    /// For streams to the peer: what 5 Gbit/s need for 1 ms.
    pub const SEND: Windows = Windows { receive: 16 * 1024, send: 640 * 1024 };
    /// For streams from the peer.
    pub const RECEIVE: Windows = Windows { receive: 640 * 1024, send: 16 * 1024 };
}

/// How long to wait for an answer to the first packet, microseconds.
const CONNECT_US: u64 = 5_000_000;

/// How long a peer may leave sent bytes unacknowledged.
const SILENCE: Duration = Duration::from_secs(10);

/// How much peers that are connecting to a listener at the same moment may take, and the most there are.
const BACKLOG_BYTES: usize = 512 * 1024;
const BACKLOG: usize = 4;

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailed {
    /// Nothing came back in time.
    Silence,
    /// The peer answered with a reset.
    Refused,
    /// Somebody on the way said so.
    Unreachable(Unreachable),
    /// The space's own address: programs here have no loopback.
    Own,
    /// The space has no address of the peer's family.
    Family,
    /// Port 0, no host's address, or all ports of ours in use.
    Impossible,
}

impl fmt::Display for ConnectFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectFailed::Silence => {
                write!(f, "no answer within {} s", CONNECT_US / 1_000_000)
            }
            ConnectFailed::Refused => f.write_str("connection refused: nobody listens there"),
            ConnectFailed::Unreachable(why) => why.fmt(f),
            ConnectFailed::Own => f.write_str("that is this space itself; it has no loopback"),
            ConnectFailed::Family => f.write_str("this space has no address of that family"),
            ConnectFailed::Impossible => f.write_str("no connection can be made to that"),
        }
    }
}

/// A connection that ended before its end: reset, or silent for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost;

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection was lost")
    }
}

/// Somebody listens on the port already, or it is port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortInUse;

fn socket(windows: Windows, burst: usize) -> Socket<'static> {
    let buffer = |bytes| SocketBuffer::new(vec![0; bytes]);
    // smoltcp sends what lies in a row: whole bursts do up to the ring's end.
    let send = if windows.send > burst * 4 { windows.send / burst * burst } else { windows.send };
    let mut socket = Socket::new(buffer(windows.receive), buffer(send));
    socket.set_nagle_enabled(false);
    // Every turn of the machine acknowledges all that came in it, in what it sends if it sends
    // anything: waiting would stall a peer whose window is one long segment.
    socket.set_ack_delay(None);
    socket.set_timeout(Some(SILENCE));
    socket
}

/// One connection; dropping it resets it, [`TcpStream::close`] ends it in order.
pub struct TcpStream {
    net: Rc<Net>,
    handle: SocketHandle,
    closed: bool,
}

impl Net {
    /// Connects to a peer.
    ///
    /// # Errors
    /// After [`CONNECT_US`] at the latest.
    pub async fn connect(
        self: &Rc<Net>,
        to: SocketAddr,
        windows: Windows,
    ) -> Result<TcpStream, ConnectFailed> {
        let (stream, near) = self.start(to, windows)?;
        let outcome = poll_fn(|cx| {
            let mut inner = self.inner.borrow_mut();
            let socket = inner.tcp(stream.handle);
            match socket.state() {
                State::SynSent | State::SynReceived => {
                    socket.register_send_waker(cx.waker());
                    Poll::Pending
                }
                State::Closed => Poll::Ready(Err(match inner.unreachable.remove(&near) {
                    Some(why) => ConnectFailed::Unreachable(why),
                    None => ConnectFailed::Refused,
                })),
                _ => Poll::Ready(Ok(())),
            }
        });
        match self.timers.within(CONNECT_US, outcome).await {
            None => Err(ConnectFailed::Silence),
            Some(outcome) => outcome.map(|()| stream),
        }
    }

    fn start(
        self: &Rc<Net>,
        to: SocketAddr,
        windows: Windows,
    ) -> Result<(TcpStream, u16), ConnectFailed> {
        let inner = &mut *self.inner.borrow_mut();
        let own = inner.identity.towards(to.ip()).ok_or(ConnectFailed::Family)?;
        if own == to.ip() {
            return Err(ConnectFailed::Own);
        }
        if is_group(to.ip()) {
            return Err(ConnectFailed::Impossible);
        }
        let near = inner.free_port().ok_or(ConnectFailed::Impossible)?;
        inner.unreachable.remove(&near);
        let mut socket = socket(windows, inner.burst);
        socket
            .connect(inner.interface.context(), to, near)
            .map_err(|_| ConnectFailed::Impossible)?;
        let handle = inner.sockets.add(socket);
        Ok((TcpStream { net: self.clone(), handle, closed: false }, near))
    }

    /// Listens on a port of every address, for every peer.
    ///
    /// # Errors
    /// If the port is taken or 0.
    pub fn listen(self: &Rc<Net>, port: u16, windows: Windows) -> Result<Listener, PortInUse> {
        let mut inner = self.inner.borrow_mut();
        let taken = inner.sockets.iter().any(|(_, socket)| match socket {
            smoltcp::socket::Socket::Tcp(socket) => {
                socket.is_listening() && socket.listen_endpoint().port == port
            }
            _ => false,
        });
        if taken || port == 0 {
            return Err(PortInUse);
        }
        let backlog = BACKLOG_BYTES / (windows.receive + windows.send);
        let waiting =
            (0..backlog.clamp(1, BACKLOG)).map(|_| inner.listening(port, windows)).collect();
        Ok(Listener { net: self.clone(), port, windows, waiting })
    }
}

/// Whether an address is a group's or everybody's, which no connection goes to.
fn is_group(address: IpAddr) -> bool {
    address.is_multicast() || address.is_unspecified() || address == IpAddr::from([255; 4])
}

impl Inner {
    fn listening(&mut self, port: u16, windows: Windows) -> SocketHandle {
        let mut socket = socket(windows, self.burst);
        let end = IpListenEndpoint { addr: None, port };
        socket.listen(end).expect("a fresh socket listens on a port that is not 0");
        self.sockets.add(socket)
    }
}

impl TcpStream {
    /// The peer's address and port, while it is connected.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.net.inner.borrow_mut().tcp(self.handle).remote_endpoint().map(SocketAddr::from)
    }

    /// Reads some bytes into `buffer`; 0 at the end of what the peer sends.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn read(&self, buffer: &mut [u8]) -> Result<usize, Lost> {
        poll_fn(|cx| {
            let mut inner = self.net.inner.borrow_mut();
            let socket = inner.tcp(self.handle);
            match socket.recv_slice(buffer) {
                Ok(0) => {
                    socket.register_recv_waker(cx.waker());
                    Poll::Pending
                }
                Ok(count) => Poll::Ready(Ok(count)),
                Err(RecvError::Finished) => Poll::Ready(Ok(0)),
                Err(RecvError::InvalidState) => Poll::Ready(Err(Lost)),
            }
        })
        .await
    }

    /// Passes over what has come, at least one byte; how many it were, 0 at the end.
    ///
    /// # Errors
    /// [`Lost`].
    pub async fn skip(&self) -> Result<usize, Lost> {
        poll_fn(|cx| {
            let mut inner = self.net.inner.borrow_mut();
            let socket = inner.tcp(self.handle);
            let mut total = 0;
            loop {
                match socket.recv(|bytes| (bytes.len(), bytes.len())) {
                    Ok(0) if total == 0 => {
                        socket.register_recv_waker(cx.waker());
                        return Poll::Pending;
                    }
                    Ok(count @ 1..) => total += count,
                    Ok(0) | Err(RecvError::Finished) => return Poll::Ready(Ok(total)),
                    Err(RecvError::InvalidState) => return Poll::Ready(Err(Lost)),
                }
            }
        })
        .await
    }

    /// Ends our direction; what was written still reaches the peer, and it may go on sending.
    pub fn finish(&self) {
        let mut inner = self.net.inner.borrow_mut();
        inner.tcp(self.handle).close();
        inner.next_us = Some(0);
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// [`Lost`]; how much the peer has received is unknown.
    pub async fn write_all(&self, mut bytes: &[u8]) -> Result<(), Lost> {
        poll_fn(|cx| {
            let mut inner = self.net.inner.borrow_mut();
            let socket = inner.tcp(self.handle);
            while !bytes.is_empty() {
                match socket.send_slice(bytes) {
                    Ok(0) => {
                        socket.register_send_waker(cx.waker());
                        return Poll::Pending;
                    }
                    Ok(count) => bytes = &bytes[count..],
                    Err(_) => return Poll::Ready(Err(Lost)),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Ends the connection in order; what was written still reaches the peer.
    pub fn close(mut self) {
        self.closed = true;
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        self.net.inner.borrow_mut().leave(self.handle, self.closed, self.net.timers.now_us());
    }
}

/// A port on which peers are awaited; dropping it ends that.
pub struct Listener {
    net: Rc<Net>,
    port: u16,
    windows: Windows,
    waiting: Vec<SocketHandle>,
}

impl Listener {
    /// The next peer.
    pub async fn accept(&mut self) -> TcpStream {
        poll_fn(|cx| {
            let inner = &mut *self.net.inner.borrow_mut();
            for place in &mut self.waiting {
                let socket = inner.tcp(*place);
                match socket.state() {
                    State::Listen | State::SynReceived => socket.register_recv_waker(cx.waker()),
                    // Gone before it was accepted: smoltcp listens again only by itself from SYN-RECEIVED.
                    State::Closed => {
                        inner.sockets.remove(*place);
                        *place = inner.listening(self.port, self.windows);
                        inner.tcp(*place).register_recv_waker(cx.waker());
                    }
                    _ => {
                        let handle =
                            core::mem::replace(place, inner.listening(self.port, self.windows));
                        let net = self.net.clone();
                        return Poll::Ready(TcpStream { net, handle, closed: false });
                    }
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut inner = self.net.inner.borrow_mut();
        for handle in self.waiting.drain(..) {
            inner.leave(handle, false, self.net.timers.now_us());
        }
    }
}
