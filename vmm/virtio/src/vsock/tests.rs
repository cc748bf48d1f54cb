use super::*;
use crate::driver::{Chaos, Driver, memory};
use abi::vsock::{RECEIVES_NO_MORE, SENDS_NO_MORE};

const CID: u32 = 3;
const PORT: u32 = 1;

/// A guest that speaks for itself, packet by packet.
struct Guest {
    memory: Memory,
    receive: Driver,
    transmit: Driver,
    vsock: Vsock,
    /// What the guest's packets state.
    buffer: u32,
    taken: u32,
}

impl Guest {
    fn new() -> Guest {
        let memory = memory();
        let (receive, transmit) = (Driver::new(&memory, 0, 64), Driver::new(&memory, 1, 64));
        let vsock = Vsock::new(CID, vec![receive.queue(), transmit.queue()], &memory).unwrap();
        let mut guest = Guest { memory, receive, transmit, vsock, buffer: 1000, taken: 0 };
        guest.give_buffers(4);
        guest
    }

    fn give_buffers(&mut self, count: usize) {
        for _ in 0..count {
            self.receive.send(&[], &[HEADER as u32, 4096]);
        }
    }

    fn header(&self, id: ConnectionId, operation: Operation) -> Header {
        Header {
            source_cid: u64::from(CID),
            destination_cid: HOST_CID,
            source_port: PORT,
            destination_port: id.0,
            length: 0,
            socket_type: STREAM,
            operation,
            flags: 0,
            buffer: self.buffer,
            taken: self.taken,
        }
    }

    fn send(&mut self, header: Header, payload: &[u8]) {
        self.transmit.send(&[&header.encode(), payload], &[]);
        assert_eq!(self.vsock.serve(&self.memory).broken, None);
    }

    fn say(&mut self, id: ConnectionId, operation: Operation, flags: u32, payload: &[u8]) {
        let length = payload.len() as u32;
        self.send(Header { flags, length, ..self.header(id, operation) }, payload);
    }

    /// The packets the device sent since the last call; their buffers go back to it.
    fn hear(&mut self) -> Vec<(Header, Vec<u8>)> {
        assert_eq!(self.vsock.serve(&self.memory).broken, None);
        let mut packets = Vec::new();
        while let Some((_, bytes)) = self.receive.take() {
            let (header, payload) = bytes.split_first_chunk().unwrap();
            packets.push((Header::parse(header), payload.to_vec()));
        }
        self.give_buffers(packets.len());
        packets
    }

    /// The only packet the device sent.
    fn hear_one(&mut self) -> (Header, Vec<u8>) {
        let mut packets = self.hear();
        assert_eq!(packets.len(), 1, "{packets:?}");
        packets.remove(0)
    }

    fn hear_operations(&mut self) -> Vec<Operation> {
        self.hear().iter().map(|(header, _)| header.operation).collect()
    }

    fn open(&mut self) -> ConnectionId {
        let id = self.vsock.connect(PORT).unwrap();
        assert_eq!(self.hear_operations(), [Operation::Request]);
        self.say(id, Operation::Response, 0, b"");
        assert_eq!(self.end(id).stage(), Stage::Open);
        id
    }

    fn end(&mut self, id: ConnectionId) -> &mut Connection {
        self.vsock.connection(id).unwrap()
    }

    fn read(&mut self, id: ConnectionId) -> Vec<u8> {
        let mut bytes = vec![0; self.end(id).readable()];
        assert_eq!(self.end(id).read(&mut bytes), bytes.len());
        bytes
    }
}

#[test]
fn the_host_connects_to_a_port_of_the_guest_and_bytes_flow_both_ways() {
    let mut guest = Guest::new();
    let id = guest.vsock.connect(PORT).unwrap();
    assert_eq!(guest.end(id).stage(), Stage::Connecting);
    let (request, _) = guest.hear_one();
    assert_eq!(request.operation, Operation::Request);
    assert_eq!((request.source_cid, request.destination_cid), (2, 3));
    assert_eq!((request.destination_port, request.buffer), (PORT, RECEIVE_BUFFER));

    guest.say(id, Operation::Response, 0, b"");
    assert_eq!(guest.end(id).send(b"to the guest"), 12);
    let (data, bytes) = guest.hear_one();
    assert_eq!((data.operation, &bytes[..]), (Operation::Data, &b"to the guest"[..]));
    assert_eq!(data.length, 12);

    guest.say(id, Operation::Data, 0, b"to the host");
    assert_eq!(guest.read(id), b"to the host");
    assert_eq!(guest.vsock.nonsense(), 0);
}

#[test]
fn bytes_queued_before_the_guest_answers_wait_for_it() {
    let mut guest = Guest::new();
    let id = guest.vsock.connect(PORT).unwrap();
    guest.end(id).send(b"early");
    guest.end(id).finish();
    assert_eq!(guest.hear_operations(), [Operation::Request]);
    guest.say(id, Operation::Response, 0, b"");
    let heard = guest.hear();
    assert_eq!(heard[0].1, b"early");
    assert_eq!((heard[1].0.operation, heard[1].0.flags), (Operation::Shutdown, SENDS_NO_MORE));
}

#[test]
fn a_port_nobody_listens_on_refuses() {
    let mut guest = Guest::new();
    let id = guest.vsock.connect(PORT).unwrap();
    guest.hear();
    guest.say(id, Operation::Reset, 0, b"");
    assert_eq!(guest.end(id).stage(), Stage::Refused);
    guest.vsock.close(id);
    assert!(guest.vsock.connection(id).is_none() && guest.hear().is_empty());
}

#[test]
fn no_more_is_sent_than_the_guest_has_room_for() {
    let mut guest = Guest::new();
    guest.buffer = 10;
    let id = guest.open();
    guest.end(id).send(b"0123456789abcdef");
    let heard = guest.hear();
    assert_eq!(heard[0].1, b"0123456789");
    assert_eq!(heard[1].0.operation, Operation::CreditRequest);
    assert_eq!(heard.len(), 2, "asked once");
    guest.taken = 4;
    guest.say(id, Operation::CreditUpdate, 0, b"");
    assert_eq!(guest.hear().remove(0).1, b"abcd");
    guest.taken = 14;
    guest.say(id, Operation::CreditUpdate, 0, b"");
    assert_eq!(guest.hear_one().1, b"ef");
    assert!(!guest.end(id).sending());
}

#[test]
fn the_guest_hears_of_its_credit_as_the_host_reads() {
    let mut guest = Guest::new();
    let id = guest.open();
    for _ in 0..RECEIVE_BUFFER / 4096 {
        guest.say(id, Operation::Data, 0, &[7; 4096]);
    }
    assert_eq!(guest.hear(), []);
    assert_eq!(guest.read(id).len(), RECEIVE_BUFFER as usize);
    let (update, _) = guest.hear_one();
    assert_eq!((update.operation, update.taken), (Operation::CreditUpdate, RECEIVE_BUFFER));
    guest.say(id, Operation::CreditRequest, 0, b"");
    assert_eq!(guest.hear_operations(), [Operation::CreditUpdate]);
}

#[test]
fn a_guest_that_sends_beyond_its_credit_is_reset() {
    let mut guest = Guest::new();
    let id = guest.open();
    for _ in 0..RECEIVE_BUFFER / 4096 {
        guest.say(id, Operation::Data, 0, &[7; 4096]);
    }
    guest.say(id, Operation::Data, 0, b"x");
    assert_eq!(guest.hear_operations(), [Operation::Reset]);
    assert_eq!(guest.end(id).stage(), Stage::Closed);
    assert_eq!(guest.end(id).readable(), RECEIVE_BUFFER as usize);
    assert_eq!(guest.vsock.nonsense(), 1);
}

#[test]
fn a_guest_that_has_taken_more_than_it_was_sent_is_reset() {
    let mut guest = Guest::new();
    let id = guest.open();
    guest.taken = 1;
    guest.say(id, Operation::CreditUpdate, 0, b"");
    assert_eq!(guest.hear_operations(), [Operation::Reset]);
}

#[test]
fn a_reset_that_knows_of_no_credit_ends_the_connection_all_the_same() {
    let mut guest = Guest::new();
    let id = guest.open();
    guest.end(id).send(b"1234");
    guest.hear();
    guest.taken = 4;
    guest.say(id, Operation::CreditUpdate, 0, b"");
    (guest.buffer, guest.taken) = (0, 0);
    guest.say(id, Operation::Reset, 0, b"");
    assert_eq!(guest.end(id).stage(), Stage::Closed);
    assert_eq!((guest.hear(), guest.vsock.nonsense()), (vec![], 0));
}

#[test]
fn a_guest_that_ends_both_ways_is_answered_with_a_reset_and_its_bytes_stay() {
    let mut guest = Guest::new();
    let id = guest.open();
    guest.say(id, Operation::Data, 0, b"last words");
    guest.say(id, Operation::Shutdown, SENDS_NO_MORE | RECEIVES_NO_MORE, b"");
    assert_eq!(guest.hear_operations(), [Operation::Reset]);
    assert_eq!(guest.end(id).stage(), Stage::Closed);
    assert!(guest.end(id).ended() && guest.end(id).room() == 0);
    assert_eq!(guest.read(id), b"last words");
    guest.vsock.close(id);
    assert!(guest.hear().is_empty());
}

#[test]
fn a_host_that_finished_reads_on_until_the_guest_ends() {
    let mut guest = Guest::new();
    let id = guest.open();
    guest.end(id).finish();
    assert_eq!(guest.end(id).send(b"x"), 0);
    assert_eq!(guest.hear_operations(), [Operation::Shutdown]);
    guest.say(id, Operation::Data, 0, b"still here");
    assert!(!guest.end(id).ended());
    guest.say(id, Operation::Shutdown, SENDS_NO_MORE, b"");
    assert_eq!(guest.hear_operations(), [Operation::Reset]);
    assert_eq!(guest.read(id), b"still here");
}

#[test]
fn a_guest_that_ended_hears_the_rest_and_that_it_is_over() {
    let mut guest = Guest::new();
    let id = guest.open();
    guest.say(id, Operation::Shutdown, SENDS_NO_MORE, b"");
    assert!(guest.end(id).ended());
    guest.end(id).send(b"rest");
    guest.end(id).finish();
    let heard = guest.hear();
    assert_eq!(heard[0].1, b"rest");
    assert_eq!(heard[1].0.flags, SENDS_NO_MORE | RECEIVES_NO_MORE);
    guest.say(id, Operation::Reset, 0, b"");
    assert_eq!(guest.end(id).stage(), Stage::Closed);
}

#[test]
fn a_connection_that_is_closed_early_is_reset() {
    let mut guest = Guest::new();
    let id = guest.open();
    guest.end(id).send(b"never mind");
    guest.vsock.close(id);
    assert!(guest.vsock.connection(id).is_none());
    assert_eq!(guest.hear_operations(), [Operation::Reset]);
    let unasked = guest.vsock.connect(PORT).unwrap();
    guest.vsock.close(unasked);
    assert_eq!(guest.hear(), [], "the guest never heard of it");
}

#[test]
fn several_connections_take_turns() {
    let mut guest = Guest::new();
    guest.buffer = 100_000;
    let (one, two) = (guest.open(), guest.open());
    for id in [one, two] {
        guest.end(id).send(&[1; 3 * 4096]);
    }
    let ports: Vec<_> = guest.hear().iter().map(|(header, _)| header.source_port).collect();
    assert_eq!(ports, [one.0, two.0, one.0, two.0]);
    guest.say(two, Operation::Data, 0, b"2");
    guest.say(one, Operation::Data, 0, b"1");
    assert_eq!((guest.read(one), guest.read(two)), (b"1".to_vec(), b"2".to_vec()));
}

#[test]
fn connections_are_bounded() {
    let mut guest = Guest::new();
    let ids: Vec<_> = (0..MAX_CONNECTIONS).map(|_| guest.vsock.connect(PORT).unwrap()).collect();
    assert_eq!(guest.vsock.connect(PORT), None);
    guest.vsock.close(ids[5]);
    assert!(guest.vsock.connect(PORT).is_some());
}

#[test]
fn a_connection_the_guest_asks_for_is_refused() {
    let mut guest = Guest::new();
    let asked = guest.header(ConnectionId(80), Operation::Request);
    guest.send(asked, b"");
    let (refusal, _) = guest.hear_one();
    assert_eq!(refusal, asked.answer(Operation::Reset));
    assert_eq!((refusal.source_port, refusal.destination_port), (80, PORT));
    guest.send(guest.header(ConnectionId(80), Operation::Reset), b"");
    assert_eq!(guest.hear(), [], "a reset is not answered");
}

#[test]
fn refusals_the_guest_does_not_take_are_bounded() {
    let mut guest = Guest::new();
    for _ in 0..MAX_REFUSALS * 2 {
        guest.send(guest.header(ConnectionId(80), Operation::Request), b"");
    }
    assert!(guest.vsock.streams.refusals.len() <= MAX_REFUSALS);
}

#[test]
fn nonsense_on_a_connection_resets_it() {
    let cases: [fn(Header) -> Header; 6] = [
        |header| Header { operation: Operation::Request, ..header },
        |header| Header { operation: Operation::Response, ..header },
        |header| Header { operation: Operation::Unknown(0), ..header },
        |header| Header { operation: Operation::Unknown(9), ..header },
        |header| Header { operation: Operation::Data, length: 1, ..header },
        |header| Header { operation: Operation::Data, length: u32::MAX, ..header },
    ];
    for case in cases {
        let mut guest = Guest::new();
        let id = guest.open();
        let header = case(guest.header(id, Operation::Data));
        guest.send(header, b"");
        assert_eq!(guest.hear_operations(), [Operation::Reset], "{header:?}");
        assert_eq!(guest.end(id).stage(), Stage::Closed);
    }
}

#[test]
fn a_packet_for_somebody_else_is_dropped_and_one_of_another_type_refused() {
    let mut guest = Guest::new();
    let id = guest.open();
    let header = guest.header(id, Operation::Reset);
    guest.send(Header { source_cid: 4, ..header }, b"");
    guest.send(Header { destination_cid: 1, ..header }, b"");
    guest.transmit.send(&[b"short"], &[]);
    assert_eq!(guest.hear(), []);
    assert_eq!(guest.vsock.nonsense(), 3);
    guest.send(Header { socket_type: 2, operation: Operation::Data, ..header }, b"");
    assert_eq!(guest.hear_operations(), [Operation::Reset]);
    assert_eq!(guest.end(id).stage(), Stage::Open);
}

#[test]
fn a_receive_buffer_without_room_is_given_back_empty() {
    let mut guest = Guest::new();
    guest.hear();
    let mut vsock =
        Vsock::new(CID, vec![guest.receive.queue(), guest.transmit.queue()], &guest.memory)
            .unwrap();
    guest.receive.clear();
    guest.receive.available = 0;
    guest.receive.send(&[], &[HEADER as u32 - 1]);
    vsock.connect(PORT).unwrap();
    assert!(vsock.serve(&guest.memory).notify);
    assert_eq!(guest.receive.take().unwrap().1, b"");
}

#[test]
fn whatever_a_driver_writes_the_vsock_device_gives_every_chain_back() {
    let memory = memory();
    bolero::check!().with_type::<[(Chaos, Chaos); 3]>().for_each(|rounds| {
        let mut drivers = [Driver::new(&memory, 0, 8), Driver::new(&memory, 1, 8)];
        for driver in &drivers {
            driver.clear();
        }
        let queues = drivers.iter().map(Driver::queue).collect();
        let mut vsock = Vsock::new(CID, queues, &memory).unwrap();
        let id = vsock.connect(PORT).unwrap();
        for (receive, transmit) in rounds {
            drivers[0].scribble(receive);
            drivers[1].scribble(transmit);
            let served = vsock.serve(&memory);
            if let Some(connection) = vsock.connection(id) {
                connection.send(b"bytes");
                connection.read(&mut [0; 100]);
            }
            assert!(vsock.receive.settled() && vsock.transmit.settled());
            let broken = vsock.receive.broken().or(vsock.transmit.broken());
            assert_eq!(served.broken.is_some(), broken.is_some());
        }
    });
}

#[test]
fn whatever_packets_a_guest_sends_the_buffers_stay_bounded() {
    type Packet = (u8, u8, u32, u32, u8);
    bolero::check!().with_type::<Vec<Packet>>().for_each(|packets| {
        let mut streams = Streams::new(u64::from(CID));
        let ids = [PORT, PORT, 7].map(|port| streams.connect(port).unwrap());
        let mut out = Vec::new();
        for &(operation, flags, buffer, taken, which) in packets {
            let id = ids[usize::from(which) % 3];
            let header = Header {
                source_cid: u64::from(CID),
                destination_cid: HOST_CID,
                source_port: if which % 32 == 0 { 7 } else { PORT },
                destination_port: id.0,
                length: 0,
                socket_type: STREAM,
                operation: Header::parse(&{
                    let mut bytes = [0; HEADER];
                    bytes[30] = operation % 9;
                    bytes
                })
                .operation,
                flags: u32::from(flags % 4),
                buffer: if buffer % 4 == 0 { buffer } else { buffer % 0x1_0000 },
                taken: if taken % 2 == 0 { 0 } else { taken % 64 },
            };
            streams.accept(&header, Some(&vec![0; usize::from(flags) * 256]));
            if which % 2 == 0 && streams.anything_due() {
                out.clear();
                assert!(streams.next(usize::from(which) + 1, &mut out));
                assert!(out.len() <= HEADER + usize::from(which) + 1);
            }
            if let Some(connection) = streams.connections.get_mut(&id.0) {
                connection.send(&[1; 9]);
                assert!(connection.readable() <= RECEIVE_BUFFER as usize);
            }
        }
    });
}
