//! The sockets that sealed packets leave and arrive by: one per address and UDP port,
//! and exactly one for raw ESP of each family.

use std::net::SocketAddr;

use sys::capability::{self, CapabilitySet};
use sys::raw::{EspSocket, Family, OpenFailure};
use sys::socket::{Message, NetworkError, Received, Sent, Socket};
use sys::udp::{BindFailure, UdpSocket};

use crate::batch::Batch;
use crate::control::LoopCounters;

/// What the switch may keep from its start: raw ESP, and ports below 1024.
const WANTED: CapabilitySet = CapabilitySet::NET_RAW.union(CapabilitySet::NET_BIND_SERVICE);

/// What it keeps when the raw sockets are open.
const KEPT: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;

/// Why a tunnel gets no socket.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A UDP socket.
    #[error(transparent)]
    Udp(#[from] BindFailure),
    /// A raw socket.
    #[error(transparent)]
    Raw(#[from] OpenFailure),
    /// No descriptors.
    #[error("cannot watch a socket: {0}; raise the limit of open files (ulimit -n)")]
    Watch(#[source] std::io::Error),
}

/// Every socket in use.
#[derive(Default)]
pub(crate) struct Sockets {
    all: Vec<Socket>,
}

impl Sockets {
    /// Gives up every right this process has but those to open sockets.
    pub(crate) fn drop_other_rights() {
        // Without a right there is nothing to give up, and a filter that forbids it is stricter yet.
        let _ = capability::keep_only(WANTED);
    }

    /// Makes sure that there is a socket for ESP from `local`, whose port is 0 for raw ESP, bound to
    /// one network device if `device` names it; lets `watch` see a new one.
    ///
    /// # Errors
    /// [`Failure`]; the others stay.
    pub(crate) fn open(
        &mut self,
        local: SocketAddr,
        device: Option<&str>,
        watch: impl Fn(&Socket) -> std::io::Result<()>,
    ) -> Result<(), Failure> {
        if self.all.iter().any(|socket| carries(socket, &local)) {
            return Ok(());
        }
        let fresh = if local.port() != 0 {
            vec![UdpSocket::bind(local, device)?.into()]
        } else {
            raw(local, device)?
        };
        fresh.iter().try_for_each(watch).map_err(Failure::Watch)?;
        self.all.extend(fresh);
        Ok(())
    }

    /// Closes the UDP sockets that nobody wants any more. Raw ones stay: the right to open them is
    /// given up.
    pub(crate) fn retain(&mut self, wanted: impl Fn(SocketAddr) -> bool) {
        self.all.retain(|socket| socket.local().is_none_or(&wanted));
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Receives from the socket at `at`, a number below [`Sockets::len`]; gives its UDP port (0: raw)
    /// if there was something.
    pub(crate) fn receive(&self, at: usize, into: &mut Received) -> Option<u16> {
        let socket = &self.all[at];
        // An error here is one of the network's, which the next packet may not meet.
        let received = socket.receive(into).unwrap_or(false);
        received.then(|| socket.local().map_or(0, |local| local.port()))
    }

    /// Sends what the batch holds and empties it.
    pub(crate) fn send(&self, batch: &mut Batch, counters: &mut LoopCounters) {
        let mut sent = Sent::default();
        let mut messages: Vec<Message<'_>> = Vec::new();
        for socket in &self.all {
            batch.messages(|local| carries(socket, local), &mut messages);
            if !messages.is_empty() {
                socket.send(&messages, &mut sent);
                messages.clear();
            }
        }
        drop(messages);
        batch.clear();
        counters.send_calls += sent.calls;
        counters.send_lost += sent.lost;
    }

    /// Takes what the network says about packets sent earlier; whether they were in UDP is given
    /// beside it.
    pub(crate) fn errors(&self, mut each: impl FnMut(&NetworkError<'_>, bool)) {
        for socket in &self.all {
            let is_udp = matches!(socket, Socket::Udp(_));
            socket.errors(|error| each(&error, is_udp));
        }
    }
}

/// Both families' sockets at once: there is one chance to open them.
fn raw(local: SocketAddr, device: Option<&str>) -> Result<Vec<Socket>, Failure> {
    let (wanted, other) = match Family::from(local.ip()) {
        Family::V4 => (Family::V4, Family::V6),
        Family::V6 => (Family::V6, Family::V4),
    };
    let mut sockets = vec![EspSocket::open(wanted, device)?.into()];
    // A host may have one family alone.
    sockets.extend(EspSocket::open(other, device).ok().map(Socket::from));
    let _ = capability::keep_only(KEPT);
    Ok(sockets)
}

fn carries(socket: &Socket, local: &SocketAddr) -> bool {
    match socket {
        Socket::Udp(socket) => socket.local() == *local,
        Socket::Esp(socket) => local.port() == 0 && socket.family() == Family::from(local.ip()),
    }
}
