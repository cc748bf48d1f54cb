//! The errors the network reports: ICMP messages about what was sent, and this host's own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;

use super::address::{ADDRESS, Address, parse};
use super::control::{Control, ERROR};
use super::{Descriptor, EMPTY_HEADER};

/// Errors taken per call.
const BOUND: usize = 64;

/// Bytes kept of the packet an error is about.
const QUOTED: usize = 128;

/// Bytes of struct sock_extended_err.
const EXTENDED: usize = size_of::<libc::sock_extended_err>();

/// An error about a packet that was sent earlier.
///
/// Whoever can guess a socket's addresses and ports can forge one: it is a hint, to be believed
/// only as far as `quoted` shows that its sender saw our packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkError<'a> {
    /// The kernel's number for it: EMSGSIZE, ECONNREFUSED, EHOSTUNREACH, ...
    pub errno: i32,
    /// With EMSGSIZE, the largest IP packet that passes, in bytes, if that is told.
    pub mtu: Option<u32>,
    /// Where the packet was sent to.
    pub destination: Option<SocketAddr>,
    /// Who reports it; `None` is this host.
    pub offender: Option<IpAddr>,
    /// The first bytes of the packet's payload after its UDP header, if any, as far as the report
    /// quotes them: of ESP, the SPI and the sequence number first (RFC 4303 2). Empty if this host
    /// reports it.
    pub quoted: &'a [u8],
}

impl NetworkError<'_> {
    /// Its kind, as the standard library sorts them.
    pub fn kind(&self) -> io::ErrorKind {
        io::Error::from_raw_os_error(self.errno).kind()
    }
}

impl Descriptor {
    pub(crate) fn errors(&self, mut each: impl FnMut(NetworkError<'_>)) {
        if !self.has_errors.load(Ordering::Relaxed) {
            return;
        }
        for _ in 0..BOUND {
            let mut quoted = [0; QUOTED];
            let (mut name, mut control) = (Address::EMPTY, Control::<ERROR>::EMPTY);
            let Some((length, used)) = self.take_error(&mut name, &mut control, &mut quoted) else {
                self.has_errors.store(false, Ordering::Relaxed);
                return;
            };
            if let Some(error) = read(&control, used) {
                each(NetworkError { destination: name.get(), quoted: &quoted[..length], ..error });
            }
        }
    }

    /// Takes the first entry of the error queue; gives the lengths of payload and control data.
    fn take_error(
        &self,
        name: &mut Address,
        control: &mut Control<ERROR>,
        quoted: &mut [u8; QUOTED],
    ) -> Option<(usize, usize)> {
        let mut vector = libc::iovec { iov_base: quoted.as_mut_ptr().cast(), iov_len: QUOTED };
        let mut header = EMPTY_HEADER.msg_hdr;
        header.msg_name = (&raw mut *name).cast();
        header.msg_namelen = ADDRESS as libc::socklen_t;
        header.msg_iov = &raw mut vector;
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut *control).cast();
        header.msg_controllen = ERROR;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the header points at a name, a vector with its buffer and a control area that are
        // borrowed exclusively for longer than the call, with their lengths.
        let got = unsafe { libc::recvmsg(self.fd.as_raw_fd(), &raw mut header, flags) };
        let length = usize::try_from(got).ok()?;
        Some((length.min(QUOTED), header.msg_controllen))
    }
}

/// Reads a struct sock_extended_err (ip(7), IP_RECVERR): errno, origin, type, code, pad, info,
/// data, and behind it the address of who reports it.
fn read(control: &Control<ERROR>, used: usize) -> Option<NetworkError<'static>> {
    let (.., data) = control.messages(used).find(|&(level, kind, _)| {
        (level, kind) == (libc::IPPROTO_IP, libc::IP_RECVERR)
            || (level, kind) == (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
    })?;
    let word = |at: usize| data.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes));
    let (errno, info) = (word(0)? as i32, word(8)?);
    let origin = *data.get(4)?;
    let offender = data.get(EXTENDED..).and_then(parse).map(|address| address.ip());
    let tells_mtu = errno == libc::EMSGSIZE && info > 0;
    Some(NetworkError {
        errno,
        mtu: tells_mtu.then_some(info),
        destination: None,
        offender: offender.filter(|_| origin != libc::SO_EE_ORIGIN_LOCAL),
        quoted: &[],
    })
}
