use super::*;
use crate::executor::Executor;
use core::cell::Cell;
use std::vec;

/// The host's end, packet by packet.
pub(crate) struct Host {
    to_guest: VecDeque<Vec<u8>>,
    from_guest: Vec<(Header, Vec<u8>)>,
    full: bool,
    /// Bytes it keeps of a stream.
    pub(crate) buffer: u32,
}

impl Default for Host {
    fn default() -> Host {
        Host { to_guest: VecDeque::new(), from_guest: Vec::new(), full: false, buffer: 10 }
    }
}

impl crate::hardware::Queues for Host {
    fn pending(&self) -> bool {
        !self.to_guest.is_empty()
    }

    fn arm(&mut self) -> bool {
        self.pending()
    }

    fn kick(&mut self) -> u32 {
        0
    }
}

impl Packets for Host {
    fn receive(&mut self, read: &mut dyn FnMut(&[u8])) -> bool {
        self.to_guest.pop_front().inspect(|packet| read(packet)).is_some()
    }

    fn send(&mut self, header: &[u8], payload: &[u8]) -> bool {
        if self.full {
            return false;
        }
        let packet = [header, payload].concat();
        let (header, data) = packet::parse(&packet).expect("the guest sends packets");
        self.from_guest.push((header, data.to_vec()));
        true
    }
}

impl Host {
    fn say(&mut self, operation: Operation, flags: u32, data: &[u8]) {
        let header = Header {
            source_cid: 2,
            destination_cid: 3,
            source_port: 70_000,
            destination_port: 1,
            length: data.len() as u32,
            socket_type: STREAM,
            operation,
            flags,
            buffer: self.buffer,
            taken: self.taken(),
        };
        self.to_guest.push_back([&header.encode()[..], data].concat());
    }

    /// Opens the stream.
    pub(crate) fn open(&mut self) {
        self.say(Operation::Request, 0, b"");
    }

    /// Sends on the stream.
    pub(crate) fn send(&mut self, data: &[u8]) {
        self.say(Operation::Data, 0, data);
    }

    /// Resets the stream.
    pub(crate) fn reset(&mut self) {
        self.say(Operation::Reset, 0, b"");
    }

    /// All the guest has sent on the stream, and whether it has ended it.
    pub(crate) fn stream(&self) -> (Vec<u8>, bool) {
        let bytes = self.from_guest.iter().flat_map(|(_, data)| data.iter().copied()).collect();
        let end = |(header, _): &(Header, Vec<u8>)| header.operation == Operation::Shutdown;
        (bytes, self.from_guest.iter().any(end))
    }

    /// All data so far counts as read.
    fn taken(&self) -> u32 {
        self.from_guest.iter().map(|(_, data)| data.len() as u32).sum()
    }

    fn heard(&mut self) -> Vec<(Operation, Vec<u8>)> {
        self.from_guest.iter().map(|(header, data)| (header.operation, data.clone())).collect()
    }
}

fn vsock() -> Vsock {
    let vsock = Vsock::new();
    vsock.name(3);
    vsock
}

fn turn(vsock: &Vsock, host: &mut Host, executor: &mut Executor) {
    for _ in 0..4 {
        vsock.ingress(host);
        executor.run();
        vsock.egress(host);
    }
}

#[test]
fn bytes_flow_both_ways_within_the_hosts_credit_and_the_end_is_seen() {
    let (vsock, mut host, mut executor) = (vsock(), Host::default(), Executor::default());
    let listener = vsock.listen(1);
    executor.spawner().spawn(async move {
        let stream = listener.accept().await;
        let mut heard = Vec::new();
        while poll_fn(|cx| stream.poll_read(cx, &mut heard)).await != Ok(0) {}
        let mut rest = &heard[..];
        while !rest.is_empty() {
            let sent = poll_fn(|cx| stream.poll_write(cx, rest)).await.expect("the host listens");
            rest = &rest[sent..];
        }
    });
    host.say(Operation::Request, 0, b"");
    host.say(Operation::Data, 0, b"hello, ");
    host.say(Operation::Data, 0, b"guest of ours");
    host.say(Operation::Shutdown, SENDS_NO_MORE, b"");
    turn(&vsock, &mut host, &mut executor);
    assert_eq!(
        host.heard(),
        [(Operation::Response, vec![]), (Operation::Data, b"hello, gue".to_vec())],
        "ten bytes are the host's whole buffer"
    );
    host.say(Operation::CreditUpdate, 0, b"");
    turn(&vsock, &mut host, &mut executor);
    assert_eq!(
        host.heard()[2..],
        [(Operation::Data, b"st of ours".to_vec()), (Operation::Shutdown, vec![])]
    );
    host.say(Operation::Reset, 0, b"");
    turn(&vsock, &mut host, &mut executor);
    assert!(vsock.shared.borrow().streams.is_empty());
}

#[test]
fn a_port_nobody_listens_on_and_a_stream_nobody_knows_are_reset() {
    let (vsock, mut host, mut executor) = (vsock(), Host::default(), Executor::default());
    host.say(Operation::Request, 0, b"");
    host.say(Operation::Data, 0, b"?");
    host.say(Operation::Reset, 0, b"");
    turn(&vsock, &mut host, &mut executor);
    assert_eq!(host.heard(), [(Operation::Reset, vec![]), (Operation::Reset, vec![])]);
    let (reset, _) = &host.from_guest[0];
    assert_eq!((reset.source_cid, reset.destination_cid, reset.destination_port), (3, 2, 70_000));
}

#[test]
fn a_reset_ends_reading_and_writing() {
    let (vsock, mut host, mut executor) = (vsock(), Host::default(), Executor::default());
    let (listener, gone) = (vsock.listen(1), Rc::new(Cell::new(false)));
    let seen = gone.clone();
    executor.spawner().spawn(async move {
        let stream = listener.accept().await;
        let read = poll_fn(|cx| stream.poll_read(cx, &mut Vec::new())).await;
        let written = poll_fn(|cx| stream.poll_write(cx, b"x")).await;
        seen.set((read, written) == (Err(Gone), Err(Gone)));
    });
    host.say(Operation::Request, 0, b"");
    turn(&vsock, &mut host, &mut executor);
    host.say(Operation::Reset, 0, b"");
    turn(&vsock, &mut host, &mut executor);
    assert!(gone.get());
    assert!(vsock.shared.borrow().streams.is_empty());
}

#[test]
fn writing_waits_while_the_device_takes_nothing() {
    let (vsock, mut host, mut executor) = (vsock(), Host::default(), Executor::default());
    let (listener, sent) = (vsock.listen(1), Rc::new(Cell::new(0)));
    let count = sent.clone();
    executor.spawner().spawn(async move {
        let stream = listener.accept().await;
        while count.get() < 100 {
            let written =
                poll_fn(|cx| stream.poll_write(cx, b"x")).await.expect("the host listens");
            count.set(count.get() + written);
        }
    });
    host.say(Operation::Request, 0, b"");
    host.full = true;
    let big = packet::parse(&host.to_guest.pop_front().expect("the request"))
        .map(|(header, _)| Header { buffer: 1000, ..header }.encode().to_vec());
    host.to_guest.extend(big);
    turn(&vsock, &mut host, &mut executor);
    assert_eq!(sent.get(), OUTBOX - 1, "the response takes a place as well");
    host.full = false;
    for _ in 0..20 {
        turn(&vsock, &mut host, &mut executor);
    }
    assert_eq!(sent.get(), 100);
}
