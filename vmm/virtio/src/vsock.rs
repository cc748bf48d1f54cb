//! virtio-vsock, streams (virtio 1.2 5.10): the host connects to ports of the
//! guest. Connections the guest asks for are refused.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use virtio_queue::Queue;

use crate::Memory;
use crate::chain::Chain;
use crate::mmio::{Identity, TRANSPORT_FEATURES};
use crate::ring::{Broken, Ring, Served};

mod connection;

pub use abi::vsock::HEADER;
use abi::vsock::{Header, Operation, STREAM};
pub use connection::{Connection, RECEIVE_BUFFER, SEND_BUFFER, Stage};

/// Device type (virtio 1.2 5).
pub const DEVICE_ID: u32 = 19;

/// Index of the queue for packets to the guest.
pub const RECEIVE: u16 = 0;
/// Index of the queue for packets from the guest.
pub const TRANSMIT: u16 = 1;
/// Index of the queue for events; none ever happens here.
pub const EVENT: u16 = 2;

/// The host's context identifier (virtio 1.2 5.10.4).
pub const HOST_CID: u64 = 2;

/// VIRTIO_VSOCK_F_STREAM.
pub const STREAMS: u64 = 1 << 0;

/// Most connections at a time.
pub const MAX_CONNECTIONS: usize = 64;

/// Most bytes of data in one packet, either way.
pub const MAX_DATA: usize = 64 * 1024;

const QUEUE_SIZE: u16 = 128;

/// Resets kept for packets that belong to no connection; further ones are dropped.
const MAX_REFUSALS: usize = 64;

/// Host ports are counted up from here; those below are for services.
const FIRST_PORT: u32 = 0x1_0000;

/// A connection of one [`Vsock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u32);

/// What the registers of a vsock device show; `guest_cid` is 3 or more.
pub fn identity(guest_cid: u32) -> Identity {
    Identity {
        device_id: DEVICE_ID,
        features: TRANSPORT_FEATURES | STREAMS,
        queue_sizes: vec![QUEUE_SIZE; 3],
        config: u64::from(guest_cid).to_le_bytes().to_vec(),
    }
}

/// An active vsock device and the host's ends of its connections.
#[derive(Debug)]
pub struct Vsock {
    receive: Ring,
    transmit: Ring,
    streams: Streams,
    /// The packet being moved; kept for its allocation.
    scratch: Vec<u8>,
}

impl Vsock {
    /// The device with the queues of its activation.
    ///
    /// # Errors
    /// [`Broken::Setup`] if a queue for packets is not ready or misplaced.
    pub fn new(guest_cid: u32, queues: Vec<Queue>, memory: &Memory) -> Result<Vsock, Broken> {
        let mut queues = queues.into_iter();
        let receive = queues.next().ok_or(Broken::Setup)?;
        let transmit = queues.next().ok_or(Broken::Setup)?;
        Ok(Vsock {
            receive: Ring::new(receive, 0, memory)?,
            transmit: Ring::new(transmit, (HEADER + MAX_DATA) as u32, memory)?,
            streams: Streams::new(u64::from(guest_cid)),
            scratch: Vec::new(),
        })
    }

    /// Starts a connection to a port of the guest; `serve` sends the request.
    /// `None` when there are [`MAX_CONNECTIONS`].
    pub fn connect(&mut self, guest_port: u32) -> Option<ConnectionId> {
        self.streams.connect(guest_port)
    }

    /// A connection that was not closed here; its other end may be gone ([`Connection::stage`]).
    pub fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.streams.connections.get_mut(&id.0).filter(|connection| !connection.abandoned)
    }

    /// Forgets a connection; if it is not over, the guest sees it reset.
    pub fn close(&mut self, id: ConnectionId) {
        self.streams.close(id);
    }

    /// Packets that broke the protocol, since the activation.
    pub fn nonsense(&self) -> u64 {
        self.streams.nonsense
    }

    /// Takes the guest's packets and sends what is due, at most a queue's size
    /// of each. To be called after a kick, and after any other call on this device
    /// or a connection; then the connections' states are worth a look.
    pub fn serve(&mut self, memory: &Memory) -> Served {
        let (streams, scratch) = (&mut self.streams, &mut self.scratch);
        let taken = self.transmit.serve(memory, |chain| streams.take(memory, chain, scratch));
        let given =
            self.receive.serve_while(memory, streams, Streams::anything_due, |streams, chain| {
                scratch.clear();
                let room = chain.writable().checked_sub(HEADER);
                if room.is_some_and(|room| streams.next(room.min(MAX_DATA), scratch)) {
                    chain.write(memory, scratch);
                }
            });
        taken.and(given)
    }
}

/// All connections, by host port, and what they have to say.
#[derive(Debug)]
struct Streams {
    guest_cid: u64,
    connections: BTreeMap<u32, Connection>,
    next_port: u32,
    /// The connection that sent last: the others come first.
    turn: u32,
    refusals: VecDeque<Header>,
    nonsense: u64,
}

impl Streams {
    fn new(guest_cid: u64) -> Streams {
        Streams {
            guest_cid,
            connections: BTreeMap::new(),
            next_port: FIRST_PORT,
            turn: 0,
            refusals: VecDeque::new(),
            nonsense: 0,
        }
    }

    fn connect(&mut self, guest_port: u32) -> Option<ConnectionId> {
        if self.connections.len() >= MAX_CONNECTIONS {
            return None;
        }
        // Ends: fewer ports are taken than there are.
        while self.connections.contains_key(&self.next_port) {
            self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        }
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_PORT);
        self.connections.insert(port, Connection::new(guest_port));
        Some(ConnectionId(port))
    }

    fn close(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id.0) else { return };
        if !connection.abandon() {
            self.connections.remove(&id.0);
        }
    }

    /// One packet of the guest.
    fn take(&mut self, memory: &Memory, chain: &mut Chain, scratch: &mut Vec<u8>) {
        let mut header = [0; HEADER];
        if chain.read(memory, &mut header) < HEADER {
            self.nonsense += 1;
            return;
        }
        let header = Header::parse(&header);
        scratch.clear();
        chain.read_all(memory, scratch);
        // A length beyond the chain's bytes leaves no payload to believe in.
        let payload = scratch.get(..header.length as usize);
        self.accept(&header, payload);
    }

    fn accept(&mut self, header: &Header, payload: Option<&[u8]>) {
        // Whoever else is meant is not here (virtio 1.2 5.10.6.4).
        if header.source_cid != self.guest_cid || header.destination_cid != HOST_CID {
            self.nonsense += 1;
            return;
        }
        let connection = self
            .connections
            .get_mut(&header.destination_port)
            .filter(|connection| connection.guest_port() == header.source_port)
            .filter(|_| header.socket_type == STREAM);
        let Some(connection) = connection else {
            self.refuse(header);
            return;
        };
        if connection.accept(header, payload).is_err() {
            self.nonsense += 1;
            connection.break_off();
        }
    }

    fn refuse(&mut self, header: &Header) {
        if header.operation != Operation::Reset && self.refusals.len() < MAX_REFUSALS {
            self.refusals.push_back(header.answer(Operation::Reset));
        }
    }

    fn anything_due(&self) -> bool {
        !self.refusals.is_empty()
            || self.connections.values().any(|connection| connection.due(MAX_DATA).is_some())
    }

    /// Appends the next packet due, header and at most `most` bytes of data, to `out`.
    /// False if none fits.
    fn next(&mut self, most: usize, out: &mut Vec<u8>) -> bool {
        if let Some(refusal) = self.refusals.pop_front() {
            out.extend_from_slice(&refusal.encode());
            return true;
        }
        let after = (Bound::Excluded(self.turn), Bound::Unbounded);
        let found = self
            .connections
            .range(after)
            .chain(self.connections.range(..=self.turn))
            .find_map(|(&port, connection)| Some((port, connection.due(most)?)));
        let Some((port, due)) = found else { return false };
        let connection = self.connections.get_mut(&port).expect("the port was just found");
        out.resize(HEADER, 0);
        let (buffer, taken) = connection.send_due(due, out);
        let header = Header {
            source_cid: HOST_CID,
            destination_cid: self.guest_cid,
            source_port: port,
            destination_port: connection.guest_port(),
            length: due.length as u32,
            socket_type: STREAM,
            operation: due.operation,
            flags: due.flags,
            buffer,
            taken,
        };
        out[..HEADER].copy_from_slice(&header.encode());
        self.turn = port;
        if connection.abandoned && due.operation == Operation::Reset {
            self.connections.remove(&port);
        }
        true
    }
}

#[cfg(test)]
mod tests;
