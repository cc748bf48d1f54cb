//! The VM process's control socket: a line of JSON, then for a run the frames of
//! `abi::exec` in both directions.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Longest request, bytes; arguments and environment of a program have to fit.
pub const MAX_REQUEST: usize = abi::exec::MAX_PAYLOAD;

/// What a client asks for, one per connection, as one line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Run a program; frames of [`abi::exec`] follow in both directions, and
    /// [`abi::exec::Kind::Exit`] is the last.
    Run(Run),
    /// Answer with [`Status`].
    Status {},
    /// Answer with [`Status`] as soon as programs can be run.
    Wait {},
    /// End the machine; the connection closes when it has ended.
    Stop {},
}

/// A program to run inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// The program's name first.
    pub arguments: Vec<String>,
    /// Its working directory, empty for the root.
    pub directory: String,
    /// `NAME=value`, each.
    pub environment: Vec<String>,
    /// Files that are open from the start.
    pub files: Vec<Inherited>,
}

/// A file that is open from the start, as [`abi::exec::Inherited`] has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inherited {
    /// The descriptor's number; 3 and above.
    pub number: u32,
    /// An absolute path inside.
    pub path: String,
    /// Of open(2): the access mode, and `O_APPEND` or not.
    pub flags: u32,
    /// Where it is read and written next, bytes.
    pub offset: u64,
}

/// How a machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The VM process.
    pub pid: u32,
    /// Whether programs can be run.
    pub ready: bool,
    /// When the process started (CLOCK_MONOTONIC).
    pub started_ns: u64,
    /// When programs could be run first (CLOCK_MONOTONIC), if they can.
    pub ready_ns: Option<u64>,
    /// Resident memory of the process without the guest's, KiB.
    pub vm_kib: u64,
    /// Guest memory ever touched, KiB.
    pub guest_kib: u64,
}

/// Sends one request to the machine whose socket is at `path`.
///
/// # Errors
/// Those of the socket: the machine has ended, or is not this user's.
pub fn send(path: &Path, request: &Request) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(path)?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(stream)
}

/// Sends a request that is answered with [`Status`] and waits for it.
///
/// # Errors
/// Those of the socket; an end without an answer is [`io::ErrorKind::UnexpectedEof`].
pub fn ask(path: &Path, request: &Request) -> io::Result<Status> {
    let mut line = String::new();
    BufReader::new(send(path, request)?.take(MAX_REQUEST as u64)).read_line(&mut line)?;
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_str(&line)?)
}
