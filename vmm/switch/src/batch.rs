//! Sealed packets on their way to the sockets: one buffer, cut into as few messages as possible.

use std::net::SocketAddr;

use sys::socket::{MAX_BYTES, MAX_SEGMENTS, Message};

use crate::tunnel::Crossing;

/// How an ESP packet travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The socket it leaves from; port 0 for raw ESP.
    pub from: SocketAddr,
    /// Where it goes; port 0 for raw ESP.
    pub to: SocketAddr,
    /// The outer header's DSCP and ECN.
    pub tos: u8,
}

impl Route {
    /// Whether the ESP packet follows the IP header directly.
    pub fn is_raw(&self) -> bool {
        self.from.port() == 0
    }
}

/// ESP packets that wait to be sent, one after the other in one buffer.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    /// What goes to other spaces of this host, and to no socket.
    pub crossing: Crossing,
}

/// Packets that the kernel can cut from one message (UDP_SEGMENT).
#[derive(Clone, Copy, Debug)]
struct Run {
    route: Route,
    start: usize,
    end: usize,
    /// Bytes of each packet but the last, which may be shorter and then ends the run.
    segment: usize,
    packets: usize,
}

impl Run {
    fn takes(&self, route: &Route, length: usize) -> bool {
        self.route == *route
            && !route.is_raw()
            && length <= self.segment
            && self.end - self.start == self.packets * self.segment
            && self.packets < MAX_SEGMENTS
            && self.end - self.start + length <= MAX_BYTES
    }
}

impl Batch {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Packets that wait.
    pub fn len(&self) -> usize {
        self.runs.iter().map(|run| run.packets).sum()
    }

    /// Forgets the packets and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.runs.clear();
    }

    /// The buffer, at whose end the next packet is written; [`Batch::sealed`] or
    /// [`Batch::withdraw`] follows.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Keeps what was written to the buffer since `start` as one packet.
    pub(crate) fn sealed(&mut self, start: usize, route: Route) {
        let end = self.bytes.len();
        let length = end - start;
        match self.runs.last_mut() {
            Some(run) if run.takes(&route, length) => {
                run.packets += 1;
                run.end = end;
            }
            _ => self.runs.push(Run { route, start, end, segment: length, packets: 1 }),
        }
    }

    /// Forgets what was written to the buffer since `start`.
    pub(crate) fn withdraw(&mut self, start: usize) {
        self.bytes.truncate(start);
    }

    /// Adds one packet as it is.
    pub fn add(&mut self, route: Route, packet: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(packet);
        self.sealed(start, route);
    }

    /// The packets in order, each with its route.
    pub fn packets(&self) -> impl Iterator<Item = (Route, &[u8])> {
        self.runs.iter().flat_map(|run| {
            let packets = self.bytes[run.start..run.end].chunks(run.segment.max(1));
            packets.map(|packet| (run.route, packet))
        })
    }

    /// The messages of the sockets that `from` accepts.
    pub fn messages<'a>(&'a self, from: impl Fn(&SocketAddr) -> bool, out: &mut Vec<Message<'a>>) {
        out.extend(self.runs.iter().filter(|run| from(&run.route.from)).map(|run| Message {
            from: run.route.from.ip(),
            to: run.route.to,
            tos: run.route.tos,
            bytes: &self.bytes[run.start..run.end],
            segment: run.segment,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn at(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    #[test]
    fn however_packets_are_joined_the_receiver_gets_the_same_ones() {
        bolero::check!().with_type::<Vec<(u8, bool, bool, bool)>>().for_each(|plan| {
            let mut batch = Batch::default();
            let mut added = Vec::new();
            for (number, &(length, other_peer, other_socket, marked)) in plan.iter().enumerate() {
                let route = Route {
                    from: at(if other_socket { 0 } else { 1 }),
                    to: at(10 + u16::from(other_peer)),
                    tos: u8::from(marked),
                };
                let packet = vec![number as u8; 1 + usize::from(length % 4)];
                batch.add(route, &packet);
                added.push((route, packet));
            }
            assert!(batch.packets().eq(added.iter().map(|(route, packet)| (*route, &packet[..]))));
            for from in [at(0), at(1)] {
                let mut messages = Vec::new();
                batch.messages(|socket| *socket == from, &mut messages);
                let received = messages.iter().flat_map(|message| {
                    let segments = message.bytes.len().div_ceil(message.segment);
                    assert!(segments <= if from.port() == 0 { 1 } else { MAX_SEGMENTS });
                    let bytes = message.bytes.chunks(message.segment);
                    bytes.map(|bytes| (message.to, message.tos, bytes))
                });
                let mine = added.iter().filter(|(route, _)| route.from == from);
                assert!(received.eq(mine.map(|(route, bytes)| (route.to, route.tos, &bytes[..]))));
            }
        });
    }

    #[test]
    fn a_packet_that_was_withdrawn_is_not_there() {
        let mut batch = Batch::default();
        batch.buffer().push(1);
        batch.withdraw(0);
        assert!(batch.is_empty() && batch.buffer().is_empty());
    }
}
