//! Copies of a space's packets, for whoever asked to see them.
//!
//! The switch writes records into a pipe and never waits for its reader: what
//! does not fit is lost, and counted. Without readers a packet costs a branch.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use serde::{Deserialize, Serialize};

use crate::tunnel::Place;

mod outer;
mod record;

pub use record::{Direction, Malformed, Record};

/// Captures at the same time: each costs the loop time.
const MAX_TAPS: usize = 4;

/// Bytes of records that wait for room in the pipe.
const MAX_PENDING: usize = 256 * 1024;

/// Room in the pipe, bytes: what the kernel gives to everybody (pipe(7)).
const PIPE_ROOM: usize = 1024 * 1024;

/// Most bytes of a packet in a record: what other programs ask for at most (tcpdump(8)).
pub const MAX_SNAPLEN: u32 = 262_144;

/// Which packets of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// Those the space sends and gets.
    Inner,
    /// The ESP packets between this host and the peer.
    Outer,
}

/// Why a capture does not begin.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Too many.
    #[error("{MAX_TAPS} captures run already: end one of them (Ctrl-C in its terminal)")]
    Full,
    /// No pipe.
    #[error("no pipe for the packets: {0}; raise the limit of open files (ulimit -n)")]
    Pipe(#[from] rustix::io::Errno),
}

/// Every capture that runs.
#[derive(Default)]
pub struct Taps {
    taps: Vec<Tap>,
    /// Whether some tap wants inner packets; outer ones.
    inner: bool,
    outer: bool,
}

/// One capture.
struct Tap {
    place: Place,
    layer: Layer,
    snaplen: usize,
    pipe: OwnedFd,
    /// Whole records, but for the first, of which a part may be written.
    pending: Vec<u8>,
    /// Packets that found no room.
    lost: u64,
    is_over: bool,
}

impl Taps {
    /// Begins a capture; gives the reader's end of its pipe.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn start(&mut self, place: Place, layer: Layer, snaplen: u32) -> Result<OwnedFd, Refused> {
        self.taps.iter_mut().for_each(Tap::look);
        self.sweep();
        if self.taps.len() >= MAX_TAPS {
            return Err(Refused::Full);
        }
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        // Only the switch must not wait: a reader without packets should.
        let flags = rustix::fs::fcntl_getfl(&ours)? | rustix::fs::OFlags::NONBLOCK;
        rustix::fs::fcntl_setfl(&ours, flags)?;
        // Less room loses packets sooner, and does no other harm.
        let _ = fcntl_setpipe_size(&ours, PIPE_ROOM);
        let snaplen = snaplen.min(MAX_SNAPLEN) as usize;
        let pending = Vec::with_capacity(MAX_PENDING);
        self.taps.push(Tap { place, layer, snaplen, pipe: ours, pending, lost: 0, is_over: false });
        self.note();
        Ok(theirs)
    }

    /// Ends the captures of a space that goes: their readers get what is written, and the end.
    pub fn end(&mut self, place: Place) {
        for tap in self.taps.iter_mut().filter(|tap| tap.place == place) {
            tap.flush();
            tap.is_over = true;
        }
        self.sweep();
    }

    /// Whether [`Taps::inner_in`] and [`Taps::inner_out`] do anything for this space.
    #[inline]
    pub fn wants_inner_of(&self, place: Place) -> bool {
        self.inner && self.taps.iter().any(|tap| (tap.place, tap.layer) == (place, Layer::Inner))
    }

    /// Whether [`Taps::outer_in`] and [`Taps::outer_out`] do anything.
    #[inline]
    pub fn wants_outer(&self) -> bool {
        self.outer
    }

    /// A packet that is given to the space, in `parts`.
    #[inline]
    pub fn inner_in(&mut self, place: Place, now_ns: u64, parts: &[&[u8]]) {
        if self.inner {
            self.add(place, Layer::Inner, Direction::In, now_ns, &[], parts);
        }
    }

    /// A packet from the space, in `parts`.
    #[inline]
    pub fn inner_out(&mut self, place: Place, now_ns: u64, parts: &[&[u8]]) {
        if self.inner {
            self.add(place, Layer::Inner, Direction::Out, now_ns, &[], parts);
        }
    }

    /// An ESP packet from the peer, not yet opened; a port of 0 at `to` says that it came without
    /// UDP. Its outer headers are made anew.
    #[inline]
    pub fn outer_in(
        &mut self,
        place: Place,
        now_ns: u64,
        (from, to): (SocketAddr, SocketAddr),
        tos: u8,
        esp: &[u8],
    ) {
        if self.outer {
            let header = outer::header(from, to, to.port() != 0, tos, esp);
            self.add(place, Layer::Outer, Direction::In, now_ns, header.bytes(), &[esp]);
        }
    }

    /// An ESP packet to the peer, sealed; a port of 0 at `from` says that it goes without UDP.
    #[inline]
    pub fn outer_out(
        &mut self,
        place: Place,
        now_ns: u64,
        (from, to): (SocketAddr, SocketAddr),
        tos: u8,
        esp: &[u8],
    ) {
        if self.outer {
            let header = outer::header(from, to, from.port() != 0, tos, esp);
            self.add(place, Layer::Outer, Direction::Out, now_ns, header.bytes(), &[esp]);
        }
    }

    /// Writes what is pending: to be called once in a turn.
    #[inline]
    pub fn flush(&mut self) {
        if !self.taps.is_empty() {
            self.taps.iter_mut().for_each(Tap::flush);
            self.sweep();
        }
    }

    #[cold]
    fn add(
        &mut self,
        place: Place,
        layer: Layer,
        direction: Direction,
        time_ns: u64,
        header: &[u8],
        parts: &[&[u8]],
    ) {
        for tap in self.taps.iter_mut().filter(|tap| (tap.place, tap.layer) == (place, layer)) {
            tap.add(direction, time_ns, header, parts);
        }
    }

    /// Forgets the captures that are over.
    fn sweep(&mut self) {
        let before = self.taps.len();
        self.taps.retain(|tap| !tap.is_over);
        if self.taps.len() != before {
            self.note();
        }
    }

    fn note(&mut self) {
        self.inner = self.taps.iter().any(|tap| tap.layer == Layer::Inner);
        self.outer = self.taps.iter().any(|tap| tap.layer == Layer::Outer);
    }
}

impl Tap {
    fn add(&mut self, direction: Direction, time_ns: u64, header: &[u8], parts: &[&[u8]]) {
        let all = || std::iter::once(header).chain(parts.iter().copied());
        let original = all().map(<[u8]>::len).sum::<usize>();
        let captured = original.min(self.snaplen);
        if self.pending.len() + record::HEADER + captured > MAX_PENDING {
            self.flush();
            if self.pending.len() + record::HEADER + captured > MAX_PENDING {
                self.lost += 1;
                return;
            }
        }
        let (captured_len, original) = (captured as u32, original as u32);
        let lost = self.lost;
        let head = record::Head { captured: captured_len, original, time_ns, lost, direction };
        self.pending.extend_from_slice(&head.bytes());
        let mut left = captured;
        for part in all() {
            let taken = part.len().min(left);
            self.pending.extend_from_slice(&part[..taken]);
            left -= taken;
        }
    }

    fn flush(&mut self) {
        let mut written = 0;
        while written < self.pending.len() {
            match rustix::io::write(&self.pipe, &self.pending[written..]) {
                Ok(length) => written += length,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                // The reader is gone.
                Err(_) => {
                    self.is_over = true;
                    break;
                }
            }
        }
        self.pending.drain(..written);
    }

    /// Notes whether the reader is gone though there was nothing to write.
    fn look(&mut self) {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let fd = self.pipe.as_fd();
        let mut fds = [PollFd::new(&fd, PollFlags::empty())];
        let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        self.is_over |= polled.is_ok() && fds[0].revents().contains(PollFlags::ERR);
    }
}

#[cfg(test)]
mod tests;
