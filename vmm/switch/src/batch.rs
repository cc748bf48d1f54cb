//! Sealed packets on their way to the sockets: one buffer, cut into as few messages as possible.

use std::net::SocketAddrV4;

use sys::socket::{MAX_BYTES, MAX_SEGMENTS, Message};

/// ESP packets that wait to be sent, one after the other in one buffer.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    packets: Vec<Packet>,
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    start: usize,
    end: usize,
    from: SocketAddrV4,
    to: SocketAddrV4,
}

impl Batch {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Packets that wait.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Forgets the packets and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.packets.clear();
    }

    /// Lets `write` append one packet to the buffer, whose length before is given to it; on an
    /// error the packet is not kept.
    pub(crate) fn add<E>(
        &mut self,
        from: SocketAddrV4,
        to: SocketAddrV4,
        write: impl FnOnce(&mut Vec<u8>, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        let result = write(&mut self.bytes, start);
        match result {
            Ok(()) => self.packets.push(Packet { start, end: self.bytes.len(), from, to }),
            Err(_) => self.bytes.truncate(start),
        }
        result
    }

    /// The packets in order, each with its sender and receiver.
    pub fn packets(&self) -> impl Iterator<Item = (SocketAddrV4, SocketAddrV4, &[u8])> {
        self.packets.iter().map(|p| (p.from, p.to, &self.bytes[p.start..p.end]))
    }

    /// The packets of the socket bound to `from`, neighbours of one length joined to one message.
    pub fn messages<'a>(&'a self, from: SocketAddrV4, out: &mut Vec<Message<'a>>) {
        let mut rest = self.packets.as_slice();
        while let Some((first, others)) = rest.split_first() {
            let segment = first.end - first.start;
            let mut end = first.end;
            let mut joined = 1;
            for next in others {
                // Only the last datagram of a message may be shorter (UDP_SEGMENT).
                let fits = next.to == first.to
                    && next.from == first.from
                    && next.end - next.start <= segment
                    && (end - first.start).is_multiple_of(segment)
                    && next.end - first.start <= MAX_BYTES
                    && joined < MAX_SEGMENTS;
                if !fits {
                    break;
                }
                end = next.end;
                joined += 1;
            }
            if first.from == from {
                out.push(Message {
                    from: (*from.ip()).into(),
                    to: first.to.into(),
                    tos: 0,
                    bytes: &self.bytes[first.start..end],
                    segment,
                });
            }
            rest = &rest[joined..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn at(port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
    }

    #[test]
    fn however_packets_are_joined_the_receiver_gets_the_same_ones() {
        bolero::check!().with_type::<Vec<(u8, bool, bool)>>().for_each(|plan| {
            let mut batch = Batch::default();
            for (number, &(length, other_peer, other_socket)) in plan.iter().enumerate() {
                let (from, to) = (at(1 + u16::from(other_socket)), at(10 + u16::from(other_peer)));
                let done: Result<(), ()> = batch.add(from, to, |bytes, start| {
                    bytes.resize(start + 1 + usize::from(length % 4), number as u8);
                    Ok(())
                });
                done.unwrap();
            }
            for from in [at(1), at(2)] {
                let mut messages = Vec::new();
                batch.messages(from, &mut messages);
                let received = messages.iter().flat_map(|message| {
                    assert!(message.bytes.len().div_ceil(message.segment) <= MAX_SEGMENTS);
                    message.bytes.chunks(message.segment).map(|bytes| (message.to, bytes))
                });
                let mine = batch.packets().filter(|packet| packet.0 == from);
                assert!(received.eq(mine.map(|(_, to, bytes)| (to.into(), bytes))));
            }
        });
    }

    #[test]
    fn a_packet_that_was_not_finished_is_not_there() {
        let mut batch = Batch::default();
        let failed: Result<(), u8> = batch.add(at(1), at(2), |bytes, _| {
            bytes.push(1);
            Err(7)
        });
        assert_eq!((failed, batch.is_empty(), batch.bytes.len()), (Err(7), true, 0));
    }
}
