//! virtio-vsock, the guest's side: streams the host opens to ports of ours (virtio 1.2 5.10.6).

mod packet;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::poll_fn;
use core::task::{Context, Poll, Waker};

use crate::hardware::Packets;
pub use abi::vsock::HEADER;
use abi::vsock::{Header, Operation, RECEIVES_NO_MORE, SENDS_NO_MORE, STREAM};

/// Bytes kept of what the host sends on one stream: the credit it is given.
const BUFFER: u32 = 64 * 1024;

/// Most bytes of data in one packet of ours.
pub const MAX_DATA: usize = 16 * 1024;

/// Most packets that wait for the device before streams have to wait.
const OUTBOX: usize = 32;

/// Most packets taken in one turn of the machine.
const BUDGET: usize = 64;

/// The streams; cheap to clone.
#[derive(Clone)]
pub struct Vsock {
    shared: Rc<RefCell<State>>,
}

struct State {
    cid: u64,
    listeners: BTreeMap<u32, Backlog>,
    /// By the host's context and port, and ours.
    streams: BTreeMap<Name, Connection>,
    outbox: VecDeque<(Header, Vec<u8>)>,
}

type Name = (u64, u32, u32);

#[derive(Default)]
struct Backlog {
    arrived: VecDeque<Name>,
    waker: Option<Waker>,
}

/// One stream.
#[derive(Default)]
struct Connection {
    incoming: VecDeque<u8>,
    /// Bytes read by the program ever, modulo 2^32, and what the host knows of that.
    taken: u32,
    told: u32,
    /// Bytes sent ever, modulo 2^32, and how much the host has room for and has taken.
    sent: u32,
    host_buffer: u32,
    host_taken: u32,
    /// The host sends no more, receives no more, is gone.
    ended: bool,
    deaf: bool,
    reset: bool,
    /// No program has it any more: it stays until the host has seen the end.
    left: bool,
    waker: Option<Waker>,
}

/// The host has gone, or reads no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl Vsock {
    /// No streams yet.
    pub fn new() -> Vsock {
        let state = State {
            cid: 0,
            listeners: BTreeMap::new(),
            streams: BTreeMap::new(),
            outbox: VecDeque::new(),
        };
        Vsock { shared: Rc::new(RefCell::new(state)) }
    }

    /// Sets the guest's context identifier; nothing flows before.
    pub fn name(&self, cid: u64) {
        self.shared.borrow_mut().cid = cid;
    }

    /// Listens on a port, from now on.
    pub fn listen(&self, port: u32) -> Listener {
        self.shared.borrow_mut().listeners.insert(port, Backlog::default());
        Listener { vsock: self.clone(), port }
    }

    /// Takes packets from the device; whether there were any.
    pub fn ingress(&self, device: &mut impl Packets) -> bool {
        let mut state = self.shared.borrow_mut();
        let taken = (0..BUDGET).take_while(|_| device.receive(&mut |packet| state.accept(packet)));
        taken.count() > 0
    }

    /// Gives packets to the device.
    pub fn egress(&self, device: &mut impl Packets) {
        let mut state = self.shared.borrow_mut();
        let state = &mut *state;
        let before = state.outbox.len();
        while let Some((header, data)) = state.outbox.front() {
            if !device.send(&header.encode(), data) {
                break;
            }
            state.outbox.pop_front();
        }
        if before >= OUTBOX && state.outbox.len() < OUTBOX {
            state.streams.values_mut().for_each(Connection::wake);
        }
    }
}

impl State {
    fn accept(&mut self, packet: &[u8]) {
        // The host is trusted to follow the protocol; a packet that does not is dropped.
        let Some((header, data)) = packet::parse(packet) else { return };
        if header.operation == Operation::Request {
            return self.request(&header);
        }
        let name = (header.source_cid, header.source_port, header.destination_port);
        let Some(stream) = self.streams.get_mut(&name) else {
            if header.operation != Operation::Reset {
                self.outbox.push_back((header.answer(Operation::Reset), Vec::new()));
            }
            return;
        };
        stream.host_buffer = header.buffer;
        stream.host_taken = header.taken;
        stream.wake();
        match header.operation {
            Operation::Data if !stream.left => stream.incoming.extend(data),
            Operation::Shutdown => {
                stream.ended |= header.flags & SENDS_NO_MORE != 0;
                stream.deaf |= header.flags & RECEIVES_NO_MORE != 0;
                if stream.ended && stream.deaf && stream.left {
                    self.streams.remove(&name);
                    self.outbox.push_back((header.answer(Operation::Reset), Vec::new()));
                }
            }
            Operation::Reset => {
                stream.reset = true;
                if stream.left {
                    self.streams.remove(&name);
                }
            }
            Operation::CreditRequest => self.post(name, Operation::CreditUpdate, 0, Vec::new()),
            _ => {}
        }
    }

    fn request(&mut self, header: &Header) {
        let name = (header.source_cid, header.source_port, header.destination_port);
        let Some(backlog) = self.listeners.get_mut(&header.destination_port) else {
            self.outbox.push_back((header.answer(Operation::Reset), Vec::new()));
            return;
        };
        backlog.arrived.push_back(name);
        wake(&mut backlog.waker);
        let (host_buffer, host_taken) = (header.buffer, header.taken);
        let stream = Connection { host_buffer, host_taken, ..Connection::default() };
        self.streams.insert(name, stream);
        self.post(name, Operation::Response, 0, Vec::new());
    }

    /// Queues a packet of a stream, which tells the host its credit as well.
    fn post(&mut self, name: Name, operation: Operation, flags: u32, data: Vec<u8>) {
        let Some(stream) = self.streams.get_mut(&name) else { return };
        stream.told = stream.taken;
        let (cid, port, own_port) = name;
        let header = Header {
            source_cid: self.cid,
            destination_cid: cid,
            source_port: own_port,
            destination_port: port,
            length: data.len() as u32,
            socket_type: STREAM,
            operation,
            flags,
            buffer: BUFFER,
            taken: stream.taken,
        };
        self.outbox.push_back((header, data));
    }
}

impl Connection {
    fn wake(&mut self) {
        wake(&mut self.waker);
    }

    fn credit(&self) -> usize {
        let unseen = self.sent.wrapping_sub(self.host_taken);
        self.host_buffer.saturating_sub(unseen) as usize
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Default for Vsock {
    fn default() -> Vsock {
        Vsock::new()
    }
}

/// A port of ours.
pub struct Listener {
    vsock: Vsock,
    port: u32,
}

impl Listener {
    /// The next stream the host opens.
    pub async fn accept(&self) -> Stream {
        let name = poll_fn(|cx| {
            let mut state = self.vsock.shared.borrow_mut();
            let backlog = state.listeners.get_mut(&self.port).expect("listened on until dropped");
            match backlog.arrived.pop_front() {
                Some(name) => Poll::Ready(name),
                None => {
                    backlog.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
        Stream { vsock: self.vsock.clone(), name }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.vsock.shared.borrow_mut().listeners.remove(&self.port);
    }
}

/// One stream; dropping it ends it after what was written.
///
/// It is polled by one task: the last one to poll is woken.
pub struct Stream {
    vsock: Vsock,
    name: Name,
}

impl Stream {
    /// Appends what has arrived to `buffer`; `Ok(0)` at the host's end.
    pub fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<Result<usize, Gone>> {
        let state = &mut *self.vsock.shared.borrow_mut();
        let Some(stream) = state.streams.get_mut(&self.name) else { return Poll::Ready(Err(Gone)) };
        let count = stream.incoming.len();
        if count > 0 {
            buffer.extend(stream.incoming.drain(..));
            stream.taken = stream.taken.wrapping_add(count as u32);
            if stream.taken.wrapping_sub(stream.told) >= BUFFER / 4 && !stream.reset {
                state.post(self.name, Operation::CreditUpdate, 0, Vec::new());
            }
            return Poll::Ready(Ok(count));
        }
        if stream.ended {
            return Poll::Ready(Ok(0));
        }
        if stream.reset {
            return Poll::Ready(Err(Gone));
        }
        stream.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether the host has reset the stream.
    pub fn gone(&self) -> bool {
        let state = self.vsock.shared.borrow();
        state.streams.get(&self.name).is_none_or(|stream| stream.reset)
    }

    /// Sends some of `bytes`, which are not empty, and says how many.
    pub fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Gone>> {
        let state = &mut *self.vsock.shared.borrow_mut();
        let room = state.outbox.len() < OUTBOX;
        let Some(stream) = state.streams.get_mut(&self.name) else { return Poll::Ready(Err(Gone)) };
        if stream.reset || stream.deaf {
            return Poll::Ready(Err(Gone));
        }
        let count = bytes.len().min(stream.credit()).min(MAX_DATA);
        if count == 0 || !room {
            stream.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        stream.sent = stream.sent.wrapping_add(count as u32);
        state.post(self.name, Operation::Data, 0, bytes[..count].to_vec());
        Poll::Ready(Ok(count))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let state = &mut *self.vsock.shared.borrow_mut();
        let Some(stream) = state.streams.get_mut(&self.name) else { return };
        if stream.reset {
            state.streams.remove(&self.name);
            return;
        }
        stream.left = true;
        stream.incoming.clear();
        let over = stream.ended && stream.deaf;
        let (operation, flags) = match over {
            true => (Operation::Reset, 0),
            false => (Operation::Shutdown, SENDS_NO_MORE | RECEIVES_NO_MORE),
        };
        state.post(self.name, operation, flags, Vec::new());
        if over {
            state.streams.remove(&self.name);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
