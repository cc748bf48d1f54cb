//! Payloads on their way from one space of this host to another, which is bound to it.

use esp::Spi;

/// What waits to be taken in by the other space: one buffer, cut into payloads.
#[derive(Debug, Default)]
pub struct Crossing {
    bytes: Vec<u8>,
    payloads: Vec<Payload>,
}

/// One payload: what ESP would have carried.
#[derive(Clone, Copy, Debug)]
struct Payload {
    from: Spi,
    spi: Spi,
    next_header: u8,
    traffic_class: u8,
    start: usize,
    end: usize,
}

/// A payload that arrives.
#[derive(Debug)]
pub(super) struct Crossed<'a> {
    /// The SPI at which the sender receives: what the receiver is to be bound to.
    pub(super) from: Spi,
    pub(super) spi: Spi,
    pub(super) next_header: u8,
    pub(super) traffic_class: u8,
    pub(super) bytes: &'a mut [u8],
}

impl Crossing {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }

    /// Forgets the payloads and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.payloads.clear();
    }

    /// Lets `write` append one payload from who receives at the first SPI to who receives at the
    /// second; gives its length, or `None` if it had none.
    pub(super) fn add(
        &mut self,
        [from, spi]: [Spi; 2],
        next_header: u8,
        traffic_class: u8,
        write: impl FnOnce(&mut Vec<u8>) -> bool,
    ) -> Option<usize> {
        let start = self.bytes.len();
        if !write(&mut self.bytes) {
            return None;
        }
        let end = self.bytes.len();
        self.payloads.push(Payload { from, spi, next_header, traffic_class, start, end });
        Some(end - start)
    }

    /// Every payload in order; each is a part of the buffer of its own.
    pub(super) fn payloads(&mut self) -> impl Iterator<Item = Crossed<'_>> {
        let mut rest = &mut self.bytes[..];
        self.payloads.iter().map(move |payload| {
            // They lie one after the other, without gaps.
            let (bytes, after) =
                std::mem::take(&mut rest).split_at_mut(payload.end - payload.start);
            rest = after;
            let Payload { from, spi, next_header, traffic_class, .. } = *payload;
            Crossed { from, spi, next_header, traffic_class, bytes }
        })
    }
}
