//! Interfaces and routes of the current network namespace, through rtnetlink(7).

use std::ffi::CString;
use std::io::{self, Error};
use std::net::IpAddr;
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
    pub source: Option<IpAddr>,
}

/// The route of a packet to `destination`, as things are now.
///
/// # Errors
/// [`Failure`]: ENETUNREACH if there is none.
pub fn to(destination: IpAddr) -> Result<Route, Failure> {
    let failed = |source| Failure { what: format!("find a route to {destination}"), source };
    let found = look_up(destination, None, 0).map_err(failed)?;
    let device = found.device.ok_or(io::ErrorKind::NotFound.into()).and_then(name_of);
    Ok(Route { device: device.map_err(failed)?, source: found.source })
}

/// The largest IP packet from `local` to `peer` that the first device on its way takes, or that the
/// route to it is limited to, in bytes.
///
/// What ICMP messages told the kernel about the way beyond is left out, as anybody may send them.
///
/// # Errors
/// [`Failure`]: ENETUNREACH if there is no route.
pub fn path_mtu(local: IpAddr, peer: IpAddr) -> Result<u32, Failure> {
    let what = || format!("find the MTU from {local} to {peer}");
    let failed = |source| Failure { what: what(), source };
    let found = look_up(peer, Some(local), 0).map_err(failed)?;
    let index = found.device.ok_or(io::ErrorKind::NotFound.into()).map_err(failed)?;
    let device = mtu_of(index).map_err(failed)?;
    // The entry as it was configured; the one above may hold what ICMP told.
    let entry = look_up(peer, Some(local), libc::RTM_F_FIB_MATCH).map_err(failed)?;
    Ok(entry.mtu.map_or(device, |mtu| mtu.min(device)))
}

/// What the kernel says about a route.
#[derive(Default)]
struct Found {
    device: Option<u32>,
    source: Option<IpAddr>,
    mtu: Option<u32>,
}

fn look_up(destination: IpAddr, source: Option<IpAddr>, flags: u32) -> io::Result<Found> {
    let mut request = Request::new(libc::RTM_GETROUTE, 0);
    request.bytes.extend_from_slice(&[family(destination), bits(destination), 0, 0, 0, 0, 0, 0]);
    request.bytes.extend_from_slice(&flags.to_ne_bytes());
    request.address(libc::RTA_DST, destination);
    if let Some(source) = source {
        request.address(libc::RTA_SRC, source);
    }
    let answer = request.exchange()?;
    let mut found = Found::default();
    // struct rtmsg is 12 bytes; attributes follow it.
    for (kind, value) in attributes(answer.get(12..).unwrap_or_default()) {
        match kind {
            libc::RTA_OIF => found.device = word(value),
            libc::RTA_PREFSRC => found.source = address(value),
            libc::RTA_METRICS => {
                found.mtu = attributes(value).find(|of| of.0 == RTAX_MTU).and_then(|of| word(of.1));
            }
            _ => {}
        }
    }
    Ok(found)
}

fn mtu_of(index: u32) -> io::Result<u32> {
    let mut request = Request::new(libc::RTM_GETLINK, 0);
    // struct ifinfomsg: family, pad, type, index, flags, change.
    request.bytes.extend_from_slice(&[[0; 4], index.to_ne_bytes(), [0; 4], [0; 4]].concat());
    let answer = request.exchange()?;
    let mut attributes = attributes(answer.get(16..).unwrap_or_default());
    let mtu = attributes.find(|of| of.0 == libc::IFLA_MTU).and_then(|of| word(of.1));
    mtu.ok_or(io::ErrorKind::InvalidData.into())
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
/// An IPv6 address can be bound to at once, as it is not asked for on the link first (RFC 4862 5.4);
/// packets to it are taken a moment later, when the kernel's own thread has routed them.
///
/// # Errors
/// [`Failure`]: EEXIST if it has it already.
pub fn add_address(device: &str, address: IpAddr, prefix_bits: u8) -> Result<(), Failure> {
    let failed = |e| Failure { what: format!("give {device} the address {address}"), source: e };
    let index = index_of(device).map_err(failed)?;
    let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut request = Request::new(libc::RTM_NEWADDR, flags);
    // struct ifaddrmsg: family, prefix length, flags, scope, index.
    request.bytes.extend_from_slice(&[family(address), prefix_bits, libc::IFA_F_NODAD as u8, 0]);
    request.bytes.extend_from_slice(&index.to_ne_bytes());
    request.address(libc::IFA_LOCAL, address);
    request.address(libc::IFA_ADDRESS, address);
    request.exchange().map_err(failed).map(drop)
}

/// Routes the addresses that share the first `prefix_bits` bits of `network` through `device`, from
/// the source address `source` if there is one. The route goes with the device.
///
/// # Errors
/// [`Failure`]: EEXIST if there is such a route already, EINVAL if bits after the first
/// `prefix_bits` are set.
pub fn add(
    network: IpAddr,
    prefix_bits: u8,
    device: &str,
    source: Option<IpAddr>,
) -> Result<(), Failure> {
    let what = || format!("route {network}/{prefix_bits} through {device}");
    let failed = |source| Failure { what: what(), source };
    let index = index_of(device).map_err(failed)?;
    let flags = libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut request = Request::new(libc::RTM_NEWROUTE, flags);
    // struct rtmsg: family, bits of destination and source, TOS, table, who made it, scope, type,
    // flags.
    let (table, maker) = (libc::RT_TABLE_MAIN, libc::RTPROT_STATIC);
    let (scope, kind) = (libc::RT_SCOPE_LINK, libc::RTN_UNICAST);
    let header = [family(network), prefix_bits, 0, 0, table, maker, scope, kind, 0, 0, 0, 0];
    request.bytes.extend_from_slice(&header);
    request.address(libc::RTA_DST, network);
    if let Some(source) = source {
        request.address(libc::RTA_PREFSRC, source);
    }
    request.attribute(libc::RTA_OIF, &index.to_ne_bytes());
    if network.is_ipv6() {
        // The metric that comes before all others; unnamed it would be 1024, after most of them.
        request.attribute(libc::RTA_PRIORITY, &1_u32.to_ne_bytes());
    }
    request.exchange().map_err(failed).map(drop)
}

/// The MTU among a route's metrics (linux/rtnetlink.h).
const RTAX_MTU: u16 = 2;

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn word(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn address(value: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(value).map(IpAddr::from).ok();
    <[u8; 16]>::try_from(value).map(IpAddr::from).ok().or_else(v4)
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

    fn address(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.attribute(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attribute(kind, &v6.octets()),
        }
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
    use std::net::Ipv4Addr;

    #[test]
    fn the_way_to_this_host_is_its_loopback_interface() {
        let here = Ipv4Addr::LOCALHOST.into();
        let route = to(here).unwrap();
        assert_eq!(route, Route { device: "lo".into(), source: Some(here) });
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let failure = bring_up("ps-none", 1400).unwrap_err().to_string();
        assert!(failure.contains("ps-none"), "{failure}");
    }
}
