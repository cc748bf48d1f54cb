//! Local sockets: messages with descriptors (SOCK_SEQPACKET), who is at the
//! other end, and how much of a stream is there to read.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// Most bytes of one message.
pub const MAX_MESSAGE: usize = 128 * 1024;

/// A connected SOCK_SEQPACKET socket.
#[derive(Debug)]
pub struct Connection(OwnedFd);

/// A listening SOCK_SEQPACKET socket; never blocks.
#[derive(Debug)]
pub struct Listener(OwnedFd);

fn socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

impl Listener {
    /// Listens at `path`, which must not exist.
    ///
    /// # Errors
    /// Those of bind(2): `AddrInUse` if `path` exists.
    pub fn bind(path: &Path) -> io::Result<Listener> {
        let fd = socket(SocketFlags::NONBLOCK)?;
        rustix::net::bind(&fd, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&fd, 16)?;
        Ok(Listener(fd))
    }

    /// The next connection, non-blocking, or `None`.
    ///
    /// # Errors
    /// Those of accept(2) but EAGAIN.
    pub fn accept(&self) -> io::Result<Option<Connection>> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match rustix::net::accept_with(&self.0, flags) {
            Ok(fd) => Ok(Some(Connection(fd))),
            Err(e) if e == rustix::io::Errno::AGAIN || e == rustix::io::Errno::CONNABORTED => {
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }
}

/// What [`Connection::receive`] found.
#[derive(Debug)]
pub enum Incoming {
    /// A message of this many bytes, with its descriptors.
    Message(usize, Vec<OwnedFd>),
    /// Nothing yet.
    Nothing,
    /// The other end is closed.
    Closed,
    /// A message that did not fit, or had more descriptors than are taken; it is gone.
    TooLong,
}

/// Most descriptors taken with one message.
const MAX_FDS: usize = 4;

impl Connection {
    /// Connects to a listener; blocking.
    ///
    /// # Errors
    /// Those of connect(2).
    pub fn connect(path: &Path) -> io::Result<Connection> {
        let fd = socket(SocketFlags::empty())?;
        rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
        Ok(Connection(fd))
    }

    /// A further handle on a connected end that this process was given in place of `file`.
    ///
    /// # Errors
    /// That of fcntl(2).
    pub fn inherited(file: impl AsFd) -> io::Result<Connection> {
        Ok(Connection(rustix::io::fcntl_dupfd_cloexec(file, 3)?))
    }

    /// Two connected ends, non-blocking.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub fn pair() -> io::Result<(Connection, Connection)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (kind, family) = (SocketType::SEQPACKET, AddressFamily::UNIX);
        let (a, b) = rustix::net::socketpair(family, kind, flags, None)?;
        Ok((Connection(a), Connection(b)))
    }

    /// Sends one message with descriptors; whole or not at all.
    ///
    /// # Errors
    /// Those of sendmsg(2); `WouldBlock` if the other end does not read.
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let parts = [IoSlice::new(bytes)];
        rustix::net::sendmsg(&self.0, &parts, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Receives one message into `buffer`.
    ///
    /// # Errors
    /// Those of recvmsg(2) but EAGAIN.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Incoming> {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got = match rustix::net::recvmsg(&self.0, &mut parts, &mut control, flags) {
            Ok(got) => got,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {
                return Ok(Incoming::Nothing);
            }
            Err(rustix::io::Errno::CONNRESET) => return Ok(Incoming::Closed),
            Err(e) => return Err(e.into()),
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Ok(Incoming::TooLong);
        }
        // An empty message cannot be told from the end; nobody here sends one.
        if got.bytes == 0 { Ok(Incoming::Closed) } else { Ok(Incoming::Message(got.bytes, fds)) }
    }

    /// The effective user of the process that connected.
    ///
    /// # Errors
    /// That of getsockopt(2).
    pub fn peer_user(&self) -> io::Result<u32> {
        Ok(rustix::net::sockopt::socket_peercred(&self.0)?.uid.as_raw())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Connection> for OwnedFd {
    fn from(connection: Connection) -> OwnedFd {
        connection.0
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reads the next bytes of a stream without taking them, and says how many bytes the stream holds.
///
/// # Errors
/// Those of recv(2) and ioctl(2); `WouldBlock` if there is nothing, and 0 for the end of the stream.
pub fn peek(stream: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, u64)> {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let (seen, _) = rustix::net::recv(stream.as_fd(), &mut *buffer, flags)?;
    Ok((seen, rustix::io::ioctl_fionread(stream.as_fd())?))
}

/// Whether the other end is closed; what it sent before may still be there to read.
pub fn has_hung_up(stream: impl AsFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let fd = stream.as_fd();
    let mut fds = [PollFd::new(&fd, PollFlags::RDHUP)];
    let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP)
}

/// Bytes of kernel memory that hold what was sent and not yet read by the other end.
///
/// # Errors
/// That of ioctl(2).
pub fn unread_bytes(stream: impl AsFd) -> io::Result<usize> {
    let mut unread: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (TIOCOUTQ) stores one int at the address given, which is ours.
    let result =
        unsafe { libc::ioctl(stream.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut unread) };
    if result == 0 {
        Ok(usize::try_from(unread).unwrap_or(0))
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_carries_its_descriptors_and_too_long_ones_are_refused() {
        let (a, b) = Connection::pair().unwrap();
        let memory = crate::memfd::sealed("test", 4096).unwrap();
        a.send(b"hello", &[memory.as_fd()]).unwrap();
        a.send(b"a longer one", &[]).unwrap();
        let mut buffer = [0; 8];
        let Incoming::Message(5, fds) = b.receive(&mut buffer).unwrap() else { panic!() };
        assert_eq!(crate::memfd::unshrinkable_bytes(&fds[0]), Some(4096));
        assert!(matches!(b.receive(&mut buffer).unwrap(), Incoming::TooLong));
        assert!(matches!(b.receive(&mut buffer).unwrap(), Incoming::Nothing));
        assert_eq!(a.peer_user().unwrap(), rustix::process::geteuid().as_raw());
        drop(a);
        assert!(matches!(b.receive(&mut buffer).unwrap(), Incoming::Closed));
    }

    #[test]
    fn a_stream_tells_what_it_holds_before_it_is_read() {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut buffer = [0; 4];
        assert_eq!(peek(&b, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        std::io::Write::write_all(&mut &a, b"123456").unwrap();
        assert_eq!(peek(&b, &mut buffer).unwrap(), (4, 6));
        assert!(unread_bytes(&a).unwrap() >= 6);
        assert!(!has_hung_up(&b));
        drop(a);
        assert!(has_hung_up(&b));
        let mut rest = [0; 6];
        std::io::Read::read_exact(&mut &b, &mut rest).unwrap();
        assert_eq!(peek(&b, &mut buffer).unwrap().0, 0);
    }
}
