//! What the loop waits for.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::Timespec;

use crate::tunnel::Place;

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A socket has packets: the loop looks at all of them anyway.
    Packets,
    /// A socket has something to say about packets sent earlier.
    NetworkError,
    /// The guest of a space has packets.
    Kick(Place),
    /// A signal asks to end.
    Termination,
    /// Somebody connects to the control socket.
    Listener,
    /// A client has a request.
    Client(u32),
    /// A VM process has a vhost-user message.
    Backend(Place),
    /// A foreign front end connects to the space it is to be the machine of.
    Plug(Place),
}

impl Event {
    fn encode(self) -> u64 {
        let (kind, number) = match self {
            Event::Packets | Event::NetworkError => (0, 0),
            Event::Termination => (1, 0),
            Event::Listener => (2, 0),
            Event::Client(number) => (3, number.into()),
            Event::Backend(place) => (4, place as u64),
            Event::Kick(place) => (5, place as u64),
            Event::Plug(place) => (6, place as u64),
        };
        kind << 32 | number
    }

    fn decode(code: u64, has_error: bool) -> Event {
        let number = code as u32;
        match code >> 32 {
            0 if has_error => Event::NetworkError,
            1 => Event::Termination,
            2 => Event::Listener,
            3 => Event::Client(number),
            4 => Event::Backend(number as Place),
            5 => Event::Kick(number as Place),
            6 => Event::Plug(number as Place),
            _ => Event::Packets,
        }
    }
}

/// An epoll set.
pub(crate) struct Events {
    epoll: OwnedFd,
    /// Room for the next wait.
    spare: Vec<Event>,
}

impl Events {
    pub(crate) fn new() -> io::Result<Events> {
        Ok(Events { epoll: epoll::create(CreateFlags::CLOEXEC)?, spare: Vec::new() })
    }

    /// Reports `event` whenever `fd` is readable; until it is closed.
    pub(crate) fn add(&self, fd: &impl AsFd, event: Event) -> io::Result<()> {
        let data = EventData::new_u64(event.encode());
        Ok(epoll::add(&self.epoll, fd, data, EventFlags::IN)?)
    }

    /// Reports `event` once each time `fd` becomes readable again, without anybody reading it.
    pub(crate) fn add_edge(&self, fd: &impl AsFd, event: Event) -> io::Result<()> {
        let data = EventData::new_u64(event.encode());
        Ok(epoll::add(&self.epoll, fd, data, EventFlags::IN | EventFlags::ET)?)
    }

    /// Reports an edge-triggered `fd` once more if it is readable now.
    pub(crate) fn report_again(&self, fd: &impl AsFd, event: Event) -> io::Result<()> {
        let data = EventData::new_u64(event.encode());
        Ok(epoll::modify(&self.epoll, fd, data, EventFlags::IN | EventFlags::ET)?)
    }

    /// Reports `fd` no more.
    pub(crate) fn remove(&self, fd: &impl AsFd) {
        // Fails only for a descriptor that is not in the set.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits at most `timeout_ns` (`u64::MAX`: for ever) and gives what happened.
    pub(crate) fn wait(&mut self, timeout_ns: u64) -> io::Result<Vec<Event>> {
        let timeout = (timeout_ns != u64::MAX).then_some(Timespec {
            tv_sec: (timeout_ns / 1_000_000_000) as i64,
            tv_nsec: (timeout_ns % 1_000_000_000) as i64,
        });
        let mut room = [MaybeUninit::uninit(); 32];
        let mut due = std::mem::take(&mut self.spare);
        match epoll::wait(&self.epoll, &mut room, timeout.as_ref()) {
            Ok((found, _)) => due.extend(found.iter().map(|event| {
                let flags = event.flags;
                let has_error = flags.contains(EventFlags::ERR);
                Event::decode(event.data.u64(), has_error)
            })),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(due)
    }

    /// Takes a list back that `wait` gave.
    pub(crate) fn recycle(&mut self, due: Vec<Event>) {
        self.spare = due;
    }
}
