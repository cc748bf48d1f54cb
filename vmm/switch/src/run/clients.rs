//! The ends of the control socket: who may ask, and what is answered.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use sys::seqpacket::{Connection, Incoming, Listener, MAX_MESSAGE};
use zeroize::{Zeroize, Zeroizing};

use super::Switch;
use super::events::{Event, Events};
use crate::control::{self, Reply, Request};
use crate::tunnel::Place;

/// Clients connected at the same time.
const MAX_CLIENTS: usize = 32;

/// Longest name of a space, bytes.
const MAX_NAME: usize = 64;

/// Everybody who is connected.
#[derive(Default)]
pub(super) struct Clients {
    connected: Vec<(u32, Connection)>,
    last: u32,
}

impl Clients {
    pub(super) fn is_empty(&self) -> bool {
        self.connected.is_empty()
    }

    /// Takes the next connection, if its user may ask.
    pub(super) fn accept(&mut self, listener: &Listener, events: &Events) {
        let Ok(Some(connection)) = listener.accept() else { return };
        let own = rustix::process::geteuid().as_raw();
        let allowed = connection.peer_user().is_ok_and(|user| user == own || user == 0);
        let reason = if !allowed {
            "this switch belongs to another user: start one of your own with `portspace up`"
        } else if self.connected.len() >= MAX_CLIENTS {
            "too many requests at the same time: try again"
        } else {
            self.last = self.last.wrapping_add(1);
            if events.add(&connection, Event::Client(self.last)).is_ok() {
                self.connected.push((self.last, connection));
            }
            return;
        };
        // It is told on its way out; whether it listens is its own affair.
        let _ = control::send(&connection, &Reply::Refused { reason: reason.into() }, &[]);
    }

    /// Answers one request; whoever does not follow the protocol is disconnected, and takes along the
    /// spaces that came with it.
    pub(super) fn serve(&mut self, number: u32, switch: &mut Switch) {
        let Some(at) = self.connected.iter().position(|(n, _)| *n == number) else { return };
        if !serve(&self.connected[at], switch) {
            self.connected.swap_remove(at);
            switch.detach_of(number);
        }
    }
}

/// Reads and answers one message; false if the connection is to end.
fn serve((number, connection): &(u32, Connection), switch: &mut Switch) -> bool {
    let mut buffer = Zeroizing::new(vec![0; MAX_MESSAGE]);
    let (length, fds) = match connection.receive(&mut buffer) {
        Ok(Incoming::Message(length, fds)) => (length, fds),
        Ok(Incoming::Nothing) => return true,
        Ok(Incoming::Closed | Incoming::TooLong) | Err(_) => return false,
    };
    let request = serde_json::from_slice(&buffer[..length]);
    buffer.zeroize();
    let answer = match request {
        Err(error) => {
            Answer::refused(format!("not a request of this version of portspace: {error}"))
        }
        Ok(request) => answer(request, fds.into_iter().next(), *number, switch),
    };
    let fds: Vec<_> = answer.attached.iter().map(|(_, stream)| stream.as_fd()).collect();
    let sent = control::send(connection, &answer.reply, &fds).is_ok();
    if let (false, Some((place, _))) = (sent, answer.attached) {
        switch.detach(place);
    }
    sent
}

/// A reply, and the space that is attached by it with its machine's end of the connection.
struct Answer {
    reply: Reply,
    attached: Option<(Place, UnixStream)>,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Answer {
        Answer { reply, attached: None }
    }
}

impl Answer {
    fn refused(reason: impl ToString) -> Answer {
        Reply::Refused { reason: reason.to_string() }.into()
    }
}

/// Does what a request asks; `fd` is the descriptor that came with it, if one did.
fn answer(request: Request, fd: Option<OwnedFd>, client: u32, switch: &mut Switch) -> Answer {
    match request {
        Request::Status => Reply::Status(switch.status()).into(),
        Request::Attach { space, .. } | Request::Plug { space, .. }
            if space.is_empty() || space.len() > MAX_NAME =>
        {
            Answer::refused(format!("a space's name has 1 to {MAX_NAME} bytes"))
        }
        Request::Attach { space, overlay } => match switch.attach(space, overlay) {
            Err(refusal) => Answer::refused(refusal),
            Ok((place, stream)) => {
                Answer { reply: attached(switch, place), attached: Some((place, stream)) }
            }
        },
        Request::Plug { space, overlay } => {
            let Some(socket) = fd else {
                return Answer::refused("a listening socket has to come with this request");
            };
            match switch.attach_socket(space, overlay, socket, client) {
                Err(refusal) => Answer::refused(refusal),
                Ok(place) => attached(switch, place).into(),
            }
        }
        Request::Extend { space, sas } => with_space(switch, &space, |switch, place| {
            switch.extend(place, sas).map_or_else(Answer::refused, |()| Reply::Done.into())
        }),
        Request::Detach { space } => with_space(switch, &space, |switch, place| {
            switch.detach(place);
            Reply::Done.into()
        }),
    }
}

fn attached(switch: &Switch, place: Place) -> Reply {
    let (mac, mtu) = switch.link_of(place);
    Reply::Attached { mac, mtu }
}

fn with_space(
    switch: &mut Switch,
    name: &str,
    work: impl FnOnce(&mut Switch, Place) -> Answer,
) -> Answer {
    match switch.spaces.named(name) {
        Some(place) => work(switch, place),
        None => Answer::refused(format!("no space of the name {name} is attached")),
    }
}
