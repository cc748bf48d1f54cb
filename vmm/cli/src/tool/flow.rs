//! Throughput between ordinary hosts, and between them and spaces, in the words of [`abi::flow`].

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use abi::flow::{Datagram, END_EVERY_US, Kind, MOST_ENDS, TCP_ANSWER, Tally, UDP_HEADER};
use serde::Serialize;

use super::PATIENCE;
use crate::failure::{Failure, Outcome, While};

/// Bytes written or read at once.
const PIECE: usize = 128 * 1024;

/// Longest datagram (RFC 768, over IPv4).
const LONGEST: usize = 65_507;

/// How far ahead of its pace a sender of datagrams may be, nanoseconds.
const AHEAD_NS: u64 = 200_000;

/// What was measured; a space's `tcp-send` and `udp-send` print the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flow {
    /// Bytes of payload that came.
    pub bytes: u64,
    /// From the first one sent to the receiver's answer (TCP) or the last one sent (UDP).
    pub seconds: f64,
    /// Those bytes in that time.
    pub bits_per_s: f64,
    /// What became of single datagrams.
    #[serde(flatten)]
    pub datagrams: Option<Datagrams>,
}

/// What became of the datagrams of one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Datagrams {
    /// Sent.
    pub packets: u64,
    /// Came.
    pub received: u64,
    /// Did not come.
    pub lost: u64,
    /// Came after one with a higher number.
    pub late: u64,
}

impl Flow {
    fn of(bytes: u64, ns: u64, datagrams: Option<Datagrams>) -> Flow {
        let seconds = ns as f64 / 1e9;
        let bits_per_s = if ns == 0 { 0.0 } else { bytes as f64 * 8.0 / seconds };
        Flow { bytes, seconds, bits_per_s, datagrams }
    }
}

/// How much to send.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    /// For at most so long.
    pub seconds: f64,
    /// At most so many bytes.
    pub bytes: u64,
}

/// Takes what TCP and UDP peers send to `address` and answers how much it was, until killed.
///
/// # Errors
/// The address is taken.
pub fn sink(address: SocketAddr) -> Outcome<()> {
    let failed = || format!("cannot listen on {address}; is another program using it?");
    let listener = TcpListener::bind(address).or_fail(failed)?;
    let socket = UdpSocket::bind(address).or_fail(failed)?;
    std::thread::scope(|scope| {
        scope.spawn(move || take_datagrams(&socket));
        loop {
            let Ok((stream, _)) = listener.accept() else { continue };
            scope.spawn(move || {
                // A peer that leaves ends its own connection alone.
                let _ = take_stream(stream);
            });
        }
    })
}

fn take_stream(mut stream: TcpStream) -> io::Result<u64> {
    let mut piece = vec![0; PIECE];
    let mut came = 0;
    loop {
        match stream.read(&mut piece)? {
            0 => break,
            count => came += count as u64,
        }
    }
    stream.write_all(&came.to_le_bytes())?;
    Ok(came)
}

fn take_datagrams(socket: &UdpSocket) {
    let (mut tally, mut bytes) = (Tally::default(), vec![0; LONGEST]);
    loop {
        // An error is what became of an answer to a peer that is gone.
        let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
        let now_us = sys::clock::monotonic_ns() / 1000;
        let datagram = Datagram::parse(&bytes[..length]);
        if let Some(answer) = datagram.and_then(|said| tally.take(&said, length, now_us)) {
            let _ = socket.send_to(&answer.encode(), from);
        }
    }
}

/// Sends over TCP to a sink.
///
/// # Errors
/// Nobody takes it, or not all of it.
pub fn send_stream(sink: SocketAddr, amount: Amount) -> Outcome<Flow> {
    let failed = || format!("cannot send to {sink}");
    let mut stream = TcpStream::connect_timeout(&sink, PATIENCE).or_fail(failed)?;
    for set in [TcpStream::set_read_timeout, TcpStream::set_write_timeout] {
        set(&stream, Some(PATIENCE)).or_fail(failed)?;
    }
    let start_ns = sys::clock::monotonic_ns();
    let end_ns = start_ns + (amount.seconds * 1e9) as u64;
    let piece: Vec<u8> = (0..PIECE).map(|at| at as u8).collect();
    let mut sent = 0;
    while sent < amount.bytes && sys::clock::monotonic_ns() < end_ns {
        let count = (amount.bytes - sent).min(PIECE as u64) as usize;
        stream.write_all(&piece[..count]).or_fail(failed)?;
        sent += count as u64;
    }
    stream.shutdown(Shutdown::Write).or_fail(failed)?;
    let mut answer = [0; TCP_ANSWER];
    stream.read_exact(&mut answer).or_fail(failed)?;
    let ns = sys::clock::monotonic_ns() - start_ns;
    let came = u64::from_le_bytes(answer);
    if came != sent {
        return Err(Failure::new(format!("of {sent} bytes {came} came to {sink}")));
    }
    Ok(Flow::of(came, ns, None))
}

/// Sends datagrams of `size` bytes to a sink, at most `bits_per_s` (0: as fast as they go).
///
/// # Errors
/// Nobody answers there, or the size is no datagram's.
pub fn send_datagrams(
    sink: SocketAddr,
    amount: Amount,
    size: usize,
    bits_per_s: u64,
) -> Outcome<Flow> {
    let failed = || format!("cannot send to {sink}");
    if !(UDP_HEADER..=LONGEST).contains(&size) {
        return Err(Failure::new(format!("datagrams are of {UDP_HEADER} to {LONGEST} bytes")));
    }
    let any = if sink.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).or_fail(failed)?;
    socket.connect(sink).or_fail(failed)?;
    let start_ns = sys::clock::monotonic_ns();
    let run = start_ns as u32 ^ std::process::id();
    let end_ns = start_ns + (amount.seconds * 1e9) as u64;
    let mut datagram = vec![0x5a; size];
    let mut sent: u64 = 0;
    let now_ns = loop {
        let now_ns = sys::clock::monotonic_ns();
        if now_ns >= end_ns || sent.saturating_mul(size as u64) >= amount.bytes {
            break now_ns;
        }
        if bits_per_s > 0 {
            let bits = u128::from(sent) * size as u128 * 8;
            let due_ns = start_ns + (bits * 1_000_000_000 / u128::from(bits_per_s)) as u64;
            if due_ns > now_ns + AHEAD_NS {
                std::thread::sleep(Duration::from_nanos(due_ns - AHEAD_NS - now_ns));
            }
        }
        datagram[..UDP_HEADER].copy_from_slice(&Datagram::data(run, sent).encode());
        match socket.send(&datagram) {
            Err(error) if sent == 0 => return Err(error).or_fail(failed),
            // Later ones fail for want of room in a queue: a loss like any other.
            _ => sent += 1,
        }
    };
    let report = ask(&socket, Datagram::end(run, sent)).or_fail(failed)?;
    let Datagram { number: received, bytes, late, .. } = report
        .ok_or_else(|| Failure::new(format!("no receiver of datagrams answers at {sink}")))?;
    let lost = sent.saturating_sub(received);
    let datagrams = Datagrams { packets: sent, received, lost, late };
    Ok(Flow::of(bytes, now_ns - start_ns, Some(datagrams)))
}

/// Asks the receiver for its report until it comes.
fn ask(socket: &UdpSocket, end: Datagram) -> io::Result<Option<Datagram>> {
    socket.set_read_timeout(Some(Duration::from_micros(END_EVERY_US)))?;
    let mut bytes = [0; UDP_HEADER];
    for _ in 0..MOST_ENDS {
        // Refused while nobody listens: that may change, or ends the asking.
        let _ = socket.send(&end.encode());
        while let Ok(length) = socket.recv(&mut bytes) {
            match Datagram::parse(&bytes[..length]) {
                Some(said) if (said.kind, said.run) == (Kind::Report, end.run) => {
                    return Ok(Some(said));
                }
                _ => {}
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_counted_at_both_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| take_stream(listener.accept().unwrap().0).unwrap());
            let flow = send_stream(address, Amount { seconds: 60.0, bytes: 1_000_003 }).unwrap();
            assert_eq!((flow.bytes, taken.join().unwrap()), (1_000_003, 1_000_003));
            let json = serde_json::to_value(flow).unwrap();
            assert!(json["bits_per_s"].as_f64().unwrap() > 0.0 && json.get("lost").is_none());
        });
    }

    #[test]
    fn datagrams_are_counted_and_their_loss_is_seen() {
        let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = sink.local_addr().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // As `take_datagrams`, but every third is lost.
                let (mut tally, mut bytes) = (Tally::default(), [0; 2000]);
                loop {
                    let (length, from) = sink.recv_from(&mut bytes).unwrap();
                    let said = Datagram::parse(&bytes[..length]).unwrap();
                    if said.kind == Kind::Data && said.number % 3 == 2 {
                        continue;
                    }
                    if let Some(answer) = tally.take(&said, length, 0) {
                        sink.send_to(&answer.encode(), from).unwrap();
                        return;
                    }
                }
            });
            let amount = Amount { seconds: 60.0, bytes: 9000 };
            let flow = send_datagrams(address, amount, 1000, 10_000_000).unwrap();
            let datagrams = flow.datagrams.unwrap();
            assert_eq!((datagrams.packets, datagrams.received, datagrams.lost), (9, 6, 3));
            assert_eq!((flow.bytes, datagrams.late), (6000, 0));
        });
    }
}
