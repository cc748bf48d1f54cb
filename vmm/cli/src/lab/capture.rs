//! What passes between A and its peers, seen by a packet socket on A.
//!
//! The socket sees every device of A; the kernel says with each frame which
//! one it passed. Frames of the links to the captured peers count, all of them.

use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::socket::{LinkAddr, recvfrom};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, sockopt};

use super::Peer;

/// What one frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ESP in UDP between the two ports, or raw.
    Esp,
    /// A NAT keepalive: one byte 0xff (RFC 3948 2.3).
    Keepalive,
    /// Anything else: it must not be there.
    Foreign,
}

/// How many frames of each kind passed between A and the captured peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// ESP.
    pub esp: u64,
    /// NAT keepalives.
    pub keepalive: u64,
    /// Anything else.
    pub foreign: u64,
    /// The beginning of the first foreign frame.
    pub first_foreign: Option<Vec<u8>>,
}

impl Counts {
    fn count(&mut self, kind: Kind, frame: &[u8]) {
        match kind {
            Kind::Esp => self.esp += 1,
            Kind::Keepalive => self.keepalive += 1,
            Kind::Foreign => {
                self.foreign += 1;
                let start = &frame[..frame.len().min(64)];
                self.first_foreign.get_or_insert_with(|| start.to_vec());
            }
        }
    }
}

/// Classifies an Ethernet frame: IPv4 without options or fragments, and in it ESP or a keepalive
/// in UDP from `port` to `port`; if that is 0, raw ESP.
pub fn classify(frame: &[u8], port: u16) -> Kind {
    const IP: usize = 20;
    const UDP: usize = 8;
    const PROTOCOLS: [u8; 2] = [50, 17];
    let Some((ethernet, packet)) = frame.split_at_checked(14) else { return Kind::Foreign };
    if ethernet[12..] != [0x08, 0x00] || packet.len() <= IP + UDP || packet[0] != 0x45 {
        return Kind::Foreign;
    }
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let fragmented = word(6) & 0x3fff != 0;
    if packet[9] != PROTOCOLS[usize::from(port != 0)] || fragmented {
        return Kind::Foreign;
    }
    let payload = if port == 0 {
        &packet[IP..]
    } else {
        let ports = [word(IP), word(IP + 2)];
        let length = usize::from(word(IP + 4));
        if ports != [port, port] || length <= UDP {
            return Kind::Foreign;
        }
        // The packet may have been cut by the capture; its length still speaks of all of it.
        &packet[IP + UDP..packet.len().min(IP + length)]
    };
    match payload {
        [0xff] => Kind::Keepalive,
        // Four zero bytes mark IKE (RFC 3948 2.2), SPIs below 256 are reserved.
        [a, b, c, _, ..] if [*a, *b, *c] != [0, 0, 0] => Kind::Esp,
        _ => Kind::Foreign,
    }
}

/// A packet socket on every device of the calling thread's network.
pub struct Capture {
    socket: OwnedFd,
    /// The devices whose frames count.
    devices: Vec<u32>,
    port: u16,
}

impl Capture {
    /// Starts capturing what is ESP in UDP of `port`, or raw if that is 0, or foreign.
    ///
    /// # Errors
    /// Without CAP_NET_RAW in the network's user namespace.
    pub fn start(peers: &[Peer], port: u16) -> io::Result<Self> {
        const ETH_P_ALL: u16 = 3;
        let every = NonZeroU32::new(u32::from(ETH_P_ALL.to_be())).expect("ETH_P_ALL is not zero");
        let socket = rustix::net::socket_with(
            AddressFamily::PACKET,
            SocketType::RAW,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            Some(Protocol::from_raw(every)),
        )?;
        // Only root may exceed net.core.rmem_max; the reader's pace allows for it.
        if sockopt::set_socket_recv_buffer_size_force(&socket, 64 << 20).is_err() {
            sockopt::set_socket_recv_buffer_size(&socket, 64 << 20)?;
        }
        let devices = peers.iter().map(|peer| peer.device()).collect();
        Ok(Self { socket, devices, port })
    }

    /// Counts frames until `stop`, looking every few milliseconds: waking for
    /// every frame would take time from what is measured.
    pub fn count(&self, stop: &AtomicBool) -> Counts {
        let mut counts = Counts::default();
        loop {
            let last = stop.load(Ordering::Acquire);
            self.drain(&mut counts);
            if last {
                return counts;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn drain(&self, counts: &mut Counts) {
        let mut frame = [0; 256];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut frame) {
                Ok((kept, device)) => {
                    // A frame of no device does not exist; were there one, it would count.
                    let device = device.and_then(|device| u32::try_from(device.ifindex()).ok());
                    if device.is_none_or(|device| self.devices.contains(&device)) {
                        counts.count(classify(&frame[..kept], self.port), &frame[..kept]);
                    }
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}
