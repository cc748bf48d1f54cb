//! TCP connections as programs have them. Nagle's algorithm is off: what is
//! written is sent at once.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::future::poll_fn;
use core::net::Ipv4Addr;
use core::task::Poll;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State};
use smoltcp::time::Duration;
use smoltcp::wire::IpListenEndpoint;

use super::{Inner, Net, Unreachable};

/// Bytes kept of each direction of a connection.
const BUFFER: usize = 64 * 1024;

/// How long to wait for an answer to the first packet, microseconds.
const CONNECT_US: u64 = 5_000_000;

/// How long a peer may leave sent bytes unacknowledged.
const SILENCE: Duration = Duration::from_secs(10);

/// How many peers may be connecting to a listener at the same moment.
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
    /// Port 0, address 0.0.0.0, or all ports of ours in use.
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

fn socket() -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
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
        to: Ipv4Addr,
        port: u16,
    ) -> Result<TcpStream, ConnectFailed> {
        let (stream, near) = self.start(to, port)?;
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

    fn start(self: &Rc<Net>, to: Ipv4Addr, port: u16) -> Result<(TcpStream, u16), ConnectFailed> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.interface.ipv4_addr() == Some(to) {
            return Err(ConnectFailed::Own);
        }
        let near = inner.free_port().ok_or(ConnectFailed::Impossible)?;
        inner.unreachable.remove(&near);
        let mut socket = socket();
        socket
            .connect(inner.interface.context(), (to, port), near)
            .map_err(|_| ConnectFailed::Impossible)?;
        let handle = inner.sockets.add(socket);
        Ok((TcpStream { net: self.clone(), handle, closed: false }, near))
    }

    /// Listens on a port of every peer.
    ///
    /// # Errors
    /// If the port is taken or 0.
    pub fn listen(self: &Rc<Net>, port: u16) -> Result<Listener, PortInUse> {
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
        let waiting = (0..BACKLOG).map(|_| inner.listening(port)).collect();
        Ok(Listener { net: self.clone(), port, waiting })
    }
}

impl Inner {
    fn listening(&mut self, port: u16) -> SocketHandle {
        let mut socket = socket();
        let end = IpListenEndpoint { addr: None, port };
        socket.listen(end).expect("a fresh socket listens on a port that is not 0");
        self.sockets.add(socket)
    }
}

impl TcpStream {
    /// The peer's address and port, while it is connected.
    pub fn peer(&self) -> Option<(Ipv4Addr, u16)> {
        let mut inner = self.net.inner.borrow_mut();
        let end = inner.tcp(self.handle).remote_endpoint()?;
        let smoltcp::wire::IpAddress::Ipv4(address) = end.addr;
        Some((address, end.port))
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
                        *place = inner.listening(self.port);
                        inner.tcp(*place).register_recv_waker(cx.waker());
                    }
                    _ => {
                        let handle = core::mem::replace(place, inner.listening(self.port));
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
