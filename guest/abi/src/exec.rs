//! Running a program inside: frames on one vsock connection per run.
//!
//! A frame is `kind u8, length u32, payload`. The host opens the connection to
//! [`crate::layout::EXEC_PORT`] and sends one [`Kind::Run`]; the guest ends it
//! with one [`Kind::Exit`]. The length is checked before anything is kept.

use alloc::string::String;
use alloc::vec::Vec;

/// Longest payload of a frame, bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// Bytes before the payload.
pub const HEADER: usize = 5;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Host to guest: a [`Run`], encoded.
    Run = 1,
    /// Host to guest: bytes of standard input; an empty payload is its end.
    Stdin = 2,
    /// Host to guest: end the program (the user pressed Ctrl-C); no payload.
    Interrupt = 3,
    /// Guest to host: bytes of standard output.
    Stdout = 4,
    /// Guest to host: bytes of standard error.
    Stderr = 5,
    /// Guest to host: the exit status, one byte; the last frame.
    Exit = 6,
}

/// Why bytes are no frame; the connection is to be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No such kind.
    Kind(u8),
    /// A payload of more than [`MAX_PAYLOAD`] bytes is announced.
    TooLong(u32),
}

/// Appends one frame to `out`.
///
/// # Panics
/// If `payload` is longer than [`MAX_PAYLOAD`].
pub fn encode(kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    assert!(payload.len() <= MAX_PAYLOAD, "callers cut payloads to MAX_PAYLOAD");
    out.push(kind as u8);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(payload);
}

/// A frame's kind, its payload and the bytes it took, header included.
pub type Frame<'a> = (Kind, &'a [u8], usize);

/// The first frame of `bytes` and how many bytes it took, or `None` while it is incomplete.
///
/// # Errors
/// [`Malformed`] as soon as the header shows it.
pub fn decode(bytes: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
    let [kind, length @ ..] = *header;
    let kind = match kind {
        1 => Kind::Run,
        2 => Kind::Stdin,
        3 => Kind::Interrupt,
        4 => Kind::Stdout,
        5 => Kind::Stderr,
        6 => Kind::Exit,
        other => return Err(Malformed::Kind(other)),
    };
    let length = u32::from_le_bytes(length);
    if length as usize > MAX_PAYLOAD {
        return Err(Malformed::TooLong(length));
    }
    Ok(rest.get(..length as usize).map(|payload| (kind, payload, HEADER + payload.len())))
}

/// What to run: the program's name and arguments, its directory, environment and open files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The program's name first.
    pub arguments: Vec<String>,
    /// An absolute path, or empty for the root.
    pub directory: String,
    /// `NAME=value`, each.
    pub environment: Vec<String>,
    /// Files that are open from the start.
    pub files: Vec<Inherited>,
}

/// A file that is open from the start: opened by its path in the space's own view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inherited {
    /// The descriptor's number; 3 and above.
    pub number: u32,
    /// An absolute path inside.
    pub path: String,
    /// Of open(2): an access mode, and [`Inherited::APPEND`] or not.
    pub flags: u32,
    /// Where it is read and written next, bytes from the beginning.
    pub offset: u64,
}

impl Inherited {
    /// `O_APPEND` of Linux: each write goes to the end.
    pub const APPEND: u32 = 0o2000;
    /// `O_ACCMODE` of Linux: 0 to read, 1 to write, 2 for both.
    pub const ACCESS: u32 = 3;
}

impl Run {
    /// The payload of a [`Kind::Run`] frame: each list as a u32 count and its
    /// strings, each string as a u32 length and UTF-8; then a u32 count of files, each as
    /// number u32, path, flags u32, offset u64.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_list(&mut out, &self.arguments);
        put_string(&mut out, &self.directory);
        put_list(&mut out, &self.environment);
        out.extend_from_slice(&(self.files.len() as u32).to_le_bytes());
        for file in &self.files {
            out.extend_from_slice(&file.number.to_le_bytes());
            put_string(&mut out, &file.path);
            out.extend_from_slice(&file.flags.to_le_bytes());
            out.extend_from_slice(&file.offset.to_le_bytes());
        }
        out
    }

    /// Reads a payload of [`Run::encode`]; `None` if it is malformed or has bytes left over.
    pub fn decode(mut bytes: &[u8]) -> Option<Run> {
        let run = Run {
            arguments: take_list(&mut bytes)?,
            directory: take_string(&mut bytes)?,
            environment: take_list(&mut bytes)?,
            // Every file takes twenty bytes at least, so the bytes bound the loop.
            files: (0..take_u32(&mut bytes)?)
                .map(|_| take_file(&mut bytes))
                .collect::<Option<_>>()?,
        };
        bytes.is_empty().then_some(run)
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_list(out: &mut Vec<u8>, list: &[String]) {
    out.extend_from_slice(&(list.len() as u32).to_le_bytes());
    for text in list {
        put_string(out, text);
    }
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    let (number, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*number))
}

fn take_string(bytes: &mut &[u8]) -> Option<String> {
    let length = take_u32(bytes)? as usize;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    core::str::from_utf8(text).ok().map(String::from)
}

fn take_file(bytes: &mut &[u8]) -> Option<Inherited> {
    let (number, path) = (take_u32(bytes)?, take_string(bytes)?);
    let flags = take_u32(bytes)?;
    let (offset, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(Inherited { number, path, flags, offset: u64::from_le_bytes(*offset) })
}

fn take_list(bytes: &mut &[u8]) -> Option<Vec<String>> {
    // Every string takes at least its length's four bytes, so the bytes bound the loop.
    (0..take_u32(bytes)?).map(|_| take_string(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_run_survives_its_encoding_and_no_prefix_of_it_does() {
        let run = Run {
            arguments: vec!["cat".into(), "ü".into()],
            directory: "/work".into(),
            environment: vec!["A=1".into()],
            files: vec![Inherited { number: 3, path: "/notes".into(), flags: 2, offset: 1 << 40 }],
        };
        let bytes = run.encode();
        assert_eq!(Run::decode(&bytes), Some(run));
        for cut in 0..bytes.len() {
            assert_eq!(Run::decode(&bytes[..cut]), None);
        }
    }

    #[test]
    fn a_frame_is_whole_or_not_there_and_never_too_long() {
        let mut bytes = Vec::new();
        encode(Kind::Stdout, b"hello", &mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(decode(&bytes[..cut]), Ok(None));
        }
        assert_eq!(decode(&bytes), Ok(Some((Kind::Stdout, &b"hello"[..], 10))));
        assert_eq!(decode(&[4, 1, 0, 1, 0]), Err(Malformed::TooLong(0x1_0001)));
        assert_eq!(decode(&[0, 0, 0, 0, 0]), Err(Malformed::Kind(0)));
    }
}
