//! The smallest HTTP/1.0 file server, for hosts that have no other.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::failure::{Outcome, While};

/// Longest request line and header together, bytes.
const MAX_REQUEST: u64 = 16 * 1024;

/// Serves the plain files of `directory`, one connection at a time, until killed.
///
/// # Errors
/// The address is taken.
pub fn serve(directory: &Path, address: SocketAddr) -> Outcome<()> {
    let listener = TcpListener::bind(address)
        .or_fail(|| format!("cannot listen on {address}; is another program using it?"))?;
    loop {
        let Ok((stream, _)) = listener.accept() else { continue };
        // A client that misbehaves ends its own connection alone.
        let _ = answer(directory, &stream);
    }
}

fn answer(directory: &Path, stream: &TcpStream) -> io::Result<()> {
    use io::Read as _;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut lines = BufReader::new(stream.take(MAX_REQUEST)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let mut out = stream;
    let name = request.strip_prefix("GET /").and_then(|rest| rest.split(' ').next());
    let file = match name {
        // One plain name: no way up, no way down.
        Some(name) if !name.is_empty() && !name.contains('/') && name != ".." => {
            File::open(directory.join(name)).and_then(|file| {
                let metadata = file.metadata()?;
                Ok((file, metadata))
            })
        }
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    match file {
        Ok((mut file, metadata)) if metadata.is_file() => {
            write!(
                out,
                "HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\r\n",
                metadata.len()
            )?;
            io::copy(&mut file, &mut out).map(drop)
        }
        _ => out.write_all(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
    }
}
