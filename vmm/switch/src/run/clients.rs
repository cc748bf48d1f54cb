//! The ends of the control socket: who may ask, and what is answered.

use std::os::fd::AsFd;

use sys::seqpacket::{Connection, Incoming, Listener, MAX_MESSAGE};
use zeroize::{Zeroize, Zeroizing};

use super::Switch;
use super::events::{Event, Events};
use crate::control::{self, Reply, Request};

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

    /// Answers one request; whoever does not follow the protocol is disconnected.
    pub(super) fn serve(&mut self, number: u32, switch: &mut Switch) {
        let Some(at) = self.connected.iter().position(|(n, _)| *n == number) else { return };
        if !answer(&self.connected[at].1, switch) {
            self.connected.swap_remove(at);
        }
    }
}

/// Reads and answers one message; false if the connection is to end.
fn answer(connection: &Connection, switch: &mut Switch) -> bool {
    let mut buffer = Zeroizing::new(vec![0; MAX_MESSAGE]);
    let (length, fds) = match connection.receive(&mut buffer) {
        Ok(Incoming::Message(length, fds)) => (length, fds),
        Ok(Incoming::Nothing) => return true,
        Ok(Incoming::Closed | Incoming::TooLong) | Err(_) => return false,
    };
    // Nobody has to send any.
    drop(fds);
    let request = serde_json::from_slice(&buffer[..length]);
    buffer.zeroize();
    let refused = |reason: String| Reply::Refused { reason };
    let (reply, attached) = match request {
        Err(error) => {
            (refused(format!("not a request of this version of portspace: {error}")), None)
        }
        Ok(Request::Status) => (Reply::Status(switch.status()), None),
        Ok(Request::Detach { space }) => match switch.named(&space) {
            None => (refused(format!("no space of the name {space} is attached")), None),
            Some(place) => {
                switch.detach(place);
                (Reply::Done, None)
            }
        },
        Ok(Request::Attach { space, .. }) if space.is_empty() || space.len() > MAX_NAME => {
            (refused(format!("a space's name has 1 to {MAX_NAME} bytes")), None)
        }
        Ok(Request::Attach { space, overlay }) => match switch.attach(space, overlay) {
            Err(refusal) => (refused(refusal.to_string()), None),
            Ok((place, stream)) => {
                let tunnel = switch.tunnels.get(place).expect("just attached");
                let (mac, mtu) = (crate::frame::mac(place), tunnel.mtu());
                (Reply::Attached { mac, mtu }, Some((place, stream)))
            }
        },
    };
    let fds: Vec<_> = attached.iter().map(|(_, stream)| stream.as_fd()).collect();
    let sent = control::send(connection, &reply, &fds).is_ok();
    if let (false, Some((place, _))) = (sent, attached) {
        switch.detach(place);
    }
    sent
}
