//! UDP sockets as programs have them.

use alloc::rc::Rc;
use alloc::vec;
use core::fmt;
use core::future::poll_fn;
use core::net::SocketAddr;
use core::task::Poll;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, SendError, Socket};
use smoltcp::wire::IpEndpoint;

use super::{Inner, Net, PortInUse, Windows};

/// Bytes of a datagram for which one place is kept.
const DATAGRAM: usize = 512;

/// Bytes of a UDP header.
const HEADER: usize = 8;

/// Why a datagram was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// It does not fit the MTU: at most so many bytes do.
    TooLong(usize),
    /// The space has no address of the peer's family.
    Family,
    /// Port 0, or no host's address.
    Impossible,
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotSent::TooLong(most) => write!(f, "a datagram takes at most {most} bytes there"),
            NotSent::Family => f.write_str("this space has no address of that family"),
            NotSent::Impossible => f.write_str("nothing can be sent to that"),
        }
    }
}

/// One port for datagrams; dropping it gives the port back.
pub struct UdpSocket {
    net: Rc<Net>,
    handle: SocketHandle,
}

impl Net {
    /// Opens a port for datagrams; without a number, any that is free.
    ///
    /// # Errors
    /// If the port is taken or 0.
    pub fn udp(
        self: &Rc<Net>,
        port: Option<u16>,
        windows: Windows,
    ) -> Result<UdpSocket, PortInUse> {
        let inner = &mut *self.inner.borrow_mut();
        let port = port.or_else(|| inner.free_port()).ok_or(PortInUse)?;
        let taken = inner.sockets.iter().any(|(_, socket)| match socket {
            smoltcp::socket::Socket::Udp(socket) => socket.endpoint().port == port,
            _ => false,
        });
        let buffer = |bytes| {
            PacketBuffer::new(vec![PacketMetadata::EMPTY; bytes / DATAGRAM], vec![0; bytes])
        };
        let mut socket = Socket::new(buffer(windows.receive), buffer(windows.send));
        if taken || socket.bind(port).is_err() {
            return Err(PortInUse);
        }
        Ok(UdpSocket { net: self.clone(), handle: inner.sockets.add(socket) })
    }
}

impl Inner {
    fn udp(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }
}

impl UdpSocket {
    /// Sends one datagram: `length` bytes that `fill` writes, all of them; waits for room.
    ///
    /// # Errors
    /// It can never be sent.
    pub async fn send(
        &self,
        to: SocketAddr,
        length: usize,
        fill: impl Fn(&mut [u8]),
    ) -> Result<(), NotSent> {
        let end = IpEndpoint::from(to);
        poll_fn(|cx| {
            let inner = &mut *self.net.inner.borrow_mut();
            if inner.identity.towards(to.ip()).is_none() {
                return Poll::Ready(Err(NotSent::Family));
            }
            let most = inner.mtu - if to.is_ipv4() { 20 } else { 40 } - HEADER;
            if length > most {
                return Poll::Ready(Err(NotSent::TooLong(most)));
            }
            let socket = inner.udp(self.handle);
            match socket.send(length, end) {
                Ok(bytes) => {
                    fill(bytes);
                    Poll::Ready(Ok(()))
                }
                Err(SendError::BufferFull) => {
                    socket.register_send_waker(cx.waker());
                    Poll::Pending
                }
                Err(SendError::Unaddressable) => Poll::Ready(Err(NotSent::Impossible)),
            }
        })
        .await
    }

    /// Waits for a datagram and hands it to `read` with its sender.
    pub async fn receive<R>(&self, mut read: impl FnMut(&[u8], SocketAddr) -> R) -> R {
        poll_fn(|cx| {
            let mut inner = self.net.inner.borrow_mut();
            let socket = inner.udp(self.handle);
            match socket.recv() {
                Ok((bytes, from)) => Poll::Ready(read(bytes, from.endpoint.into())),
                Err(_) => {
                    socket.register_recv_waker(cx.waker());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl Drop for UdpSocket {
    fn drop(&mut self) {
        self.net.inner.borrow_mut().sockets.remove(self.handle);
    }
}
