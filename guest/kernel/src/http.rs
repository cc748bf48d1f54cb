//! HTTP/1.1 as far as GET needs it (RFC 9110, RFC 9112): URL, response head, body framing.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Longest response head and longest line between chunks, bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Where a resource is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// The server.
    pub server: SocketAddr,
    /// Path and query, beginning with a slash.
    pub path: String,
}

/// Why a response cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is no HTTP/1 response, or a head without end.
    Head,
    /// Its status is not 200: the status line's code and reason.
    Status(u16, String),
    /// Its length is none, or given twice.
    Length,
    /// A chunk is malformed.
    Chunk,
    /// The connection ended before the body did.
    Short,
    /// It is in a transfer coding other than chunked.
    Coding(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Head => f.write_str("the answer is not HTTP/1.1"),
            Wrong::Status(code, reason) => write!(f, "the server says {code} {reason}"),
            Wrong::Length => f.write_str("the answer's Content-Length is malformed"),
            Wrong::Chunk => f.write_str("the answer's chunks are malformed"),
            Wrong::Short => f.write_str("the connection ended before the file did"),
            Wrong::Coding(coding) => write!(f, "the answer's transfer coding {coding} is unknown"),
        }
    }
}

impl Url {
    /// Reads `http://ADDRESS[:PORT][/PATH]`, an IPv6 address in brackets (RFC 3986 3.2.2); `None` for anything else.
    pub fn parse(text: &str) -> Option<Url> {
        let rest = text.strip_prefix("http://")?;
        let (host, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let (address, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((address, port)) => (IpAddr::from(address.parse::<Ipv6Addr>().ok()?), port),
            None => {
                let at = host.find(':').unwrap_or(host.len());
                (host[..at].parse::<core::net::Ipv4Addr>().ok()?.into(), &host[at..])
            }
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|port| *port != 0)?,
            None if port.is_empty() => 80,
            None => return None,
        };
        let path = path.split('#').next().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        let sane = path.bytes().all(|byte| byte > b' ' && byte != 0x7f);
        let server = SocketAddr::new(address, port);
        sane.then_some(Url { server, path: slash.to_string() + path })
    }

    /// The request for it.
    pub fn request(&self) -> String {
        alloc::format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: portspace\r\nAccept: */*\r\n\
             Accept-Encoding: identity\r\nConnection: close\r\n\r\n",
            self.path,
            self.server
        )
    }
}

/// A response on its way: bytes in, body out.
#[derive(Debug, Default)]
pub struct Response {
    kept: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    /// Bytes of the body still to come.
    Length(u64),
    /// Until the connection ends.
    Close,
    ChunkSize,
    /// Bytes of the chunk still to come, and then its line's end.
    Chunk(u64),
    ChunkEnd,
    Trailer,
    Done,
}

impl Response {
    /// Takes bytes and appends what of them is the body to `body`. True when the body is whole.
    ///
    /// # Errors
    /// The response cannot be used.
    pub fn feed(&mut self, bytes: &[u8], body: &mut Vec<u8>) -> Result<bool, Wrong> {
        // Bytes of a body go straight on; only lines are kept until they are whole.
        let mut kept = core::mem::take(&mut self.kept);
        let mut rest = match kept.is_empty() {
            true => bytes,
            false => {
                kept.extend_from_slice(bytes);
                &kept[..]
            }
        };
        while self.step(&mut rest, body)? {}
        if rest.len() > MAX_HEAD {
            return Err(Wrong::Head);
        }
        self.kept = rest.to_vec();
        Ok(self.state == State::Done)
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// The body is not whole.
    pub fn end(&self) -> Result<(), Wrong> {
        match self.state {
            State::Done | State::Close => Ok(()),
            State::Head => Err(Wrong::Head),
            _ => Err(Wrong::Short),
        }
    }

    /// One step; false if it needs more bytes.
    fn step(&mut self, rest: &mut &[u8], body: &mut Vec<u8>) -> Result<bool, Wrong> {
        match self.state {
            State::Head => {
                let Some(at) = rest.windows(4).position(|four| four == b"\r\n\r\n") else {
                    return Ok(false);
                };
                let head = core::str::from_utf8(&rest[..at]).map_err(|_| Wrong::Head)?;
                self.state = framing(head)?;
                *rest = &rest[at + 4..];
            }
            State::Length(left) | State::Chunk(left) => {
                let count = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                body.extend_from_slice(&rest[..count]);
                *rest = &rest[count..];
                let left = left - count as u64;
                self.state = match self.state {
                    State::Length(_) if left == 0 => State::Done,
                    State::Length(_) => State::Length(left),
                    _ if left == 0 => State::ChunkEnd,
                    _ => State::Chunk(left),
                };
                return Ok(left == 0);
            }
            State::Close => {
                body.extend_from_slice(rest);
                *rest = &[];
                return Ok(false);
            }
            State::ChunkSize => {
                let Some(line) = line(rest)? else { return Ok(false) };
                let digits = line.split(';').next().unwrap_or_default().trim();
                // `from_str_radix` would take a sign.
                let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
                let size = u64::from_str_radix(digits, 16).ok().filter(|_| plain);
                self.state = match size.ok_or(Wrong::Chunk)? {
                    0 => State::Trailer,
                    size => State::Chunk(size),
                };
            }
            State::ChunkEnd => {
                let Some(line) = line(rest)? else { return Ok(false) };
                if !line.is_empty() {
                    return Err(Wrong::Chunk);
                }
                self.state = State::ChunkSize;
            }
            State::Trailer => {
                let Some(line) = line(rest)? else { return Ok(false) };
                if line.is_empty() {
                    self.state = State::Done;
                }
            }
            State::Done => return Ok(false),
        }
        Ok(true)
    }
}

/// Takes a line off the front; `None` while it is not whole.
fn line<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a str>, Wrong> {
    let Some(at) = rest.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
    let line = core::str::from_utf8(&rest[..at]).map_err(|_| Wrong::Chunk)?;
    *rest = &rest[at + 2..];
    Ok(Some(line))
}

/// How the body of a response with this head ends (RFC 9112 6.3).
fn framing(head: &str) -> Result<State, Wrong> {
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.")).ok_or(Wrong::Head)?;
    let (_, status) = status.split_once(' ').ok_or(Wrong::Head)?;
    let (code, reason) = status.split_once(' ').unwrap_or((status, ""));
    let code: u16 = code.parse().map_err(|_| Wrong::Head)?;
    if code != 200 {
        return Err(Wrong::Status(code, reason.to_string()));
    }
    let mut length = None;
    let mut chunked = false;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or(Wrong::Head)?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(Wrong::Coding(value.to_string()));
            }
            chunked = true;
        }
        if name.eq_ignore_ascii_case("content-length") {
            let plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let number: u64 = value.parse().ok().filter(|_| plain).ok_or(Wrong::Length)?;
            if length.is_some_and(|earlier| earlier != number) {
                return Err(Wrong::Length);
            }
            length = Some(number);
        }
    }
    Ok(match (chunked, length) {
        (true, _) => State::ChunkSize,
        (false, Some(0)) => State::Done,
        (false, Some(length)) => State::Length(length),
        (false, None) => State::Close,
    })
}

#[cfg(test)]
mod tests;
