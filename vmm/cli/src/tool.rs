//! Plain programs for the demo's hosts: what any blocking program would do.

mod flow;
mod http;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::failure::{Failure, Outcome, While};
use crate::report::Distribution;

pub use flow::{Amount, send_datagrams, send_stream, sink};
pub use http::serve as serve_http;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Round trips made before those that count.
const WARM_UP: u32 = 200;

/// Measures `count` TCP round trips of one byte.
///
/// # Errors
/// Nobody answers at `server`, or stops answering.
pub fn measure(server: SocketAddr, count: u32) -> Outcome<Distribution> {
    let failed = || format!("cannot measure round trips to {server}");
    if count == 0 {
        return Err(Failure::new("no round trips to measure; use a count of 1 or more"));
    }
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE).or_fail(failed)?;
    stream.set_nodelay(true).or_fail(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).or_fail(failed)?;
    for _ in 0..WARM_UP.min(count) {
        round_trip(&mut stream).or_fail(failed)?;
    }
    let mut samples = Vec::with_capacity(count as usize);
    for _ in 0..count {
        samples.push(round_trip(&mut stream).or_fail(failed)?);
    }
    Ok(Distribution::of(samples))
}

/// Nanoseconds from the write of one byte to the read of one.
fn round_trip(stream: &mut TcpStream) -> io::Result<u64> {
    let mut byte = [0x5a];
    let start = sys::clock::monotonic_ns();
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)?;
    Ok(sys::clock::monotonic_ns() - start)
}

/// Sends back what comes, for every connection, until killed.
///
/// # Errors
/// The address is taken.
pub fn echo(address: SocketAddr) -> Outcome<()> {
    let listener = TcpListener::bind(address)
        .or_fail(|| format!("cannot listen on {address}; is another program using it?"))?;
    std::thread::scope(|scope| {
        loop {
            let Ok((stream, _)) = listener.accept() else { continue };
            scope.spawn(move || {
                // A client that leaves ends its own connection alone.
                let _ = echo_one(stream);
            });
        }
    })
}

fn echo_one(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = [0; 4096];
    loop {
        let length = stream.read(&mut bytes)?;
        if length == 0 {
            return Ok(());
        }
        stream.write_all(&bytes[..length])?;
    }
}
