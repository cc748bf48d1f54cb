//! What is written into the pipe of a capture: a head and the packet, again and again.

/// Bytes of a record before the packet.
pub(super) const HEADER: usize = 4 + 4 + 8 + 8 + 1;

/// Which way a packet goes, seen from the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To it.
    In,
    /// From it.
    Out,
}

/// What stands before a packet; all numbers little-endian.
pub(super) struct Head {
    pub(super) captured: u32,
    pub(super) original: u32,
    pub(super) time_ns: u64,
    pub(super) lost: u64,
    pub(super) direction: Direction,
}

impl Head {
    pub(super) fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&self.captured.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.original.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.time_ns.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.lost.to_le_bytes());
        bytes[24] = u8::from(self.direction == Direction::Out);
        bytes
    }
}

/// A packet that was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When, nanoseconds of CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// Which way.
    pub direction: Direction,
    /// How long it was, bytes.
    pub original: u32,
    /// Packets that were lost before it, since the capture began.
    pub lost: u64,
    /// Its beginning.
    pub packet: &'a [u8],
}

/// What comes out of the pipe is no record: another version of the program writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the switch captures otherwise: is an older portspace still running?")]
pub struct Malformed;

impl<'a> Record<'a> {
    /// Takes the first record of `bytes` off, if it is whole.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn take(bytes: &mut &'a [u8]) -> Result<Option<Record<'a>>, Malformed> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let (captured, original) = (word(0), word(4));
        let direction = match head[24] {
            0 => Direction::In,
            1 => Direction::Out,
            _ => return Err(Malformed),
        };
        if captured > original.min(super::MAX_SNAPLEN) {
            return Err(Malformed);
        }
        let Some((packet, rest)) = rest.split_at_checked(captured as usize) else {
            return Ok(None);
        };
        *bytes = rest;
        Ok(Some(Record { time_ns: long(8), direction, original, lost: long(16), packet }))
    }
}
