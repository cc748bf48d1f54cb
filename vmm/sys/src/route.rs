//! Interfaces and routes of the current network namespace, through rtnetlink(7).

use std::ffi::CString;
use std::io::{self, Error};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Why an interface or a route is not as asked for.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {source}{}", remedy(.source))]
pub struct Failure {
    what: String,
    /// The kernel's answer.
    #[source]
    source: Error,
}

fn remedy(answer: &Error) -> &'static str {
    match answer.raw_os_error() {
        Some(libc::EPERM) => "; it takes CAP_NET_ADMIN in this network namespace",
        Some(libc::ENETUNREACH) => "; add a route or bring the interface up",
        _ => "",
    }
}

/// How a packet to some address leaves this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The interface's name.
    pub device: String,
    /// The source address the host would choose.
    pub source: Option<Ipv4Addr>,
}

/// The route of a packet to `destination`, as things are now.
///
/// # Errors
/// [`Failure`]: ENETUNREACH if there is none.
pub fn to(destination: Ipv4Addr) -> Result<Route, Failure> {
    let mut request = Request::new(libc::RTM_GETROUTE, 0);
    request.route_header(32, libc::RT_TABLE_UNSPEC, 0, 0, 0);
    request.attribute(libc::RTA_DST, &destination.octets());
    let what = || format!("find a route to {destination}");
    let answer = request.exchange().map_err(|source| Failure { what: what(), source })?;
    let (mut device, mut source) = (None, None);
    // struct rtmsg is 12 bytes; attributes follow it.
    for (kind, value) in attributes(answer.get(12..).unwrap_or_default()) {
        let word = value.first_chunk::<4>();
        match kind {
            libc::RTA_OIF => device = word.map(|bytes| u32::from_ne_bytes(*bytes)),
            libc::RTA_PREFSRC => source = word.map(|bytes| Ipv4Addr::from(*bytes)),
            _ => {}
        }
    }
    let name = device.ok_or(io::ErrorKind::NotFound.into()).and_then(name_of);
    let device = name.map_err(|source| Failure { what: what(), source })?;
    Ok(Route { device, source })
}

/// Sets an interface's MTU in bytes and brings it up.
///
/// # Errors
/// [`Failure`].
pub fn bring_up(device: &str, mtu: u32) -> Result<(), Failure> {
    let failed = |source| Failure { what: format!("bring up {device}"), source };
    let index = index_of(device).map_err(failed)?;
    let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_ACK);
    let up = (libc::IFF_UP as u32).to_ne_bytes();
    // struct ifinfomsg: family, pad, type, index, flags, change.
    let header = [[0; 4], index.to_ne_bytes(), up, up].concat();
    request.bytes.extend_from_slice(&header);
    request.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
    request.exchange().map_err(failed).map(drop)
}

/// Gives an interface an address on a network of `prefix_bits` bits.
///
/// # Errors
/// [`Failure`]: EEXIST if it has it already.
pub fn add_address(device: &str, address: Ipv4Addr, prefix_bits: u8) -> Result<(), Failure> {
    let failed = |e| Failure { what: format!("give {device} the address {address}"), source: e };
    let index = index_of(device).map_err(failed)?;
    let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut request = Request::new(libc::RTM_NEWADDR, flags);
    // struct ifaddrmsg: family, prefix length, flags, scope, index.
    request.bytes.extend_from_slice(&[libc::AF_INET as u8, prefix_bits, 0, 0]);
    request.bytes.extend_from_slice(&index.to_ne_bytes());
    request.attribute(libc::IFA_LOCAL, &address.octets());
    request.attribute(libc::IFA_ADDRESS, &address.octets());
    request.exchange().map_err(failed).map(drop)
}

/// Routes `destination` alone through `device`, from the source address `source`;
/// preferred to any other route. It goes with the device.
///
/// # Errors
/// [`Failure`].
pub fn add_host(destination: Ipv4Addr, device: &str, source: Ipv4Addr) -> Result<(), Failure> {
    let failed = |e| Failure { what: format!("route {destination} through {device}"), source: e };
    let index = index_of(device).map_err(failed)?;
    let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut request = Request::new(libc::RTM_NEWROUTE, flags);
    let (table, protocol) = (libc::RT_TABLE_MAIN, libc::RTPROT_STATIC);
    request.route_header(32, table, protocol, libc::RT_SCOPE_LINK, libc::RTN_UNICAST);
    request.attribute(libc::RTA_DST, &destination.octets());
    request.attribute(libc::RTA_PREFSRC, &source.octets());
    request.attribute(libc::RTA_OIF, &index.to_ne_bytes());
    request.exchange().map_err(failed).map(drop)
}

fn index_of(device: &str) -> io::Result<u32> {
    let name = CString::new(device)?;
    // SAFETY: the name ends in NUL and outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(Error::last_os_error()),
        index => Ok(index),
    }
}

fn name_of(index: u32) -> io::Result<String> {
    let mut name = [0u8; libc::IF_NAMESIZE];
    // SAFETY: the kernel's names with their NUL fit in IF_NAMESIZE bytes, which is what is given.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return Err(Error::last_os_error());
    }
    let length = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..length]).into_owned())
}

/// One rtnetlink request under construction.
struct Request {
    bytes: Vec<u8>,
}

/// Bytes of struct nlmsghdr.
const HEADER: usize = 16;

impl Request {
    fn new(kind: u16, flags: libc::c_int) -> Request {
        let flags = (libc::NLM_F_REQUEST | flags) as u16;
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Request { bytes }
    }

    /// struct rtmsg.
    fn route_header(&mut self, bits: u8, table: u8, protocol: u8, scope: u8, kind: u8) {
        let family = libc::AF_INET as u8;
        self.bytes
            .extend_from_slice(&[family, bits, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0]);
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.bytes.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Sends the request and gives the first answer's payload; an acknowledgement's is empty.
    fn exchange(mut self) -> io::Result<Vec<u8>> {
        let length = self.bytes.len() as u32;
        self.bytes[..4].copy_from_slice(&length.to_ne_bytes());
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        let flags = SocketFlags::CLOEXEC;
        // Protocol 0 is NETLINK_ROUTE.
        let fd: OwnedFd = rustix::net::socket_with(family, kind, flags, None)?;
        rustix::net::sendto(&fd, &self.bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut buffer = vec![0u8; 16 * 1024];
        let (length, _) = rustix::net::recv(&fd, &mut buffer[..], RecvFlags::empty())?;
        buffer.truncate(length);
        let kind = buffer.get(4..6).map_or(0, |b| u16::from_ne_bytes([b[0], b[1]]));
        let payload = buffer.split_off(HEADER.min(buffer.len()));
        if i32::from(kind) != libc::NLMSG_ERROR {
            return Ok(payload);
        }
        match payload.first_chunk::<4>().map(|bytes| i32::from_ne_bytes(*bytes)) {
            Some(0) => Ok(Vec::new()),
            Some(errno) => Err(Error::from_raw_os_error(-errno)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The attributes of an answer from the kernel, up to the first that is cut short.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [a, b, c, d] = *bytes.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]), value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_this_host_is_its_loopback_interface() {
        let route = to(Ipv4Addr::LOCALHOST).unwrap();
        assert_eq!(route, Route { device: "lo".into(), source: Some(Ipv4Addr::LOCALHOST) });
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let failure = bring_up("ps-none", 1400).unwrap_err().to_string();
        assert!(failure.contains("ps-none"), "{failure}");
    }
}
