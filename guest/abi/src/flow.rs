//! Measuring throughput: what a sender and a receiver say to each other, in a
//! space or on an ordinary host.
//!
//! Over TCP the sender sends what it likes and ends its direction; the receiver
//! answers with the bytes it got ([`TCP_ANSWER`] bytes, little-endian) and ends.
//! Over UDP every datagram is a [`Datagram`].

/// Bytes of the receiver's answer over TCP.
pub const TCP_ANSWER: usize = 8;

/// Bytes of a [`Datagram`]'s header, and of the shortest one.
pub const UDP_HEADER: usize = 40;

/// Between two [`Kind::End`] of a sender that waits for its report, microseconds.
pub const END_EVERY_US: u64 = 100_000;

/// How many [`Kind::End`] a sender sends before it gives up.
pub const MOST_ENDS: u32 = 30;

/// What a datagram is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of those that are counted; padded to the length that is measured.
    Data,
    /// The sender has sent all; it wants the report.
    End,
    /// The receiver's report.
    Report,
}

/// A datagram's header, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// What it is.
    pub kind: Kind,
    /// Tells one measurement from another.
    pub run: u32,
    /// Data: its number, from 0. End: how many were sent. Report: how many came.
    pub number: u64,
    /// Report: bytes of payload that came.
    pub bytes: u64,
    /// Report: microseconds from the first to the last that came.
    pub duration_us: u64,
    /// Report: how many came after one with a higher number.
    pub late: u64,
}

impl Datagram {
    /// Number `number` of the measurement `run`.
    pub fn data(run: u32, number: u64) -> Datagram {
        Datagram { kind: Kind::Data, run, number, bytes: 0, duration_us: 0, late: 0 }
    }

    /// The end of a measurement of `sent` datagrams.
    pub fn end(run: u32, sent: u64) -> Datagram {
        Datagram { kind: Kind::End, ..Datagram::data(run, sent) }
    }

    /// Reads a header; `None` if the bytes are none.
    pub fn parse(bytes: &[u8]) -> Option<Datagram> {
        let header: &[u8; UDP_HEADER] = bytes.first_chunk()?;
        let word =
            |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let kind = match word(0) as u32 {
            0 => Kind::Data,
            1 => Kind::End,
            2 => Kind::Report,
            _ => return None,
        };
        let run = (word(0) >> 32) as u32;
        let [number, bytes, duration_us, late] = [8, 16, 24, 32].map(word);
        Some(Datagram { kind, run, number, bytes, duration_us, late })
    }

    /// The header as it is sent.
    pub fn encode(&self) -> [u8; UDP_HEADER] {
        let mut header = [0; UDP_HEADER];
        let first = u64::from(self.run) << 32 | self.kind as u64;
        let words = [first, self.number, self.bytes, self.duration_us, self.late];
        for (place, word) in header.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        header
    }
}

/// What a receiver knows of one measurement over UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    run: u32,
    came: u64,
    bytes: u64,
    late: u64,
    next: u64,
    first_us: u64,
    last_us: u64,
}

impl Tally {
    /// Takes a datagram of `length` bytes that came at `now_us`; the report, if it asks for one.
    ///
    /// Data of a measurement it does not know begins that one and forgets the last.
    pub fn take(&mut self, datagram: &Datagram, length: usize, now_us: u64) -> Option<Datagram> {
        match datagram.kind {
            Kind::Data => {
                if self.came == 0 || self.run != datagram.run {
                    *self = Tally { run: datagram.run, first_us: now_us, ..Tally::default() };
                }
                self.came += 1;
                self.bytes += length as u64;
                self.late += u64::from(datagram.number < self.next);
                self.next = self.next.max(datagram.number.saturating_add(1));
                self.last_us = now_us;
                None
            }
            Kind::End => {
                let known = if self.run == datagram.run { *self } else { Tally::default() };
                Some(Datagram {
                    kind: Kind::Report,
                    run: datagram.run,
                    number: known.came,
                    bytes: known.bytes,
                    duration_us: known.last_us - known.first_us,
                    late: known.late,
                })
            }
            Kind::Report => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_survives_its_encoding_and_nothing_shorter_is_one() {
        let sent = Datagram {
            kind: Kind::Report,
            run: 0xfeed_beef,
            number: 1,
            bytes: 2,
            duration_us: 3,
            late: u64::MAX,
        };
        let bytes = sent.encode();
        assert_eq!(Datagram::parse(&bytes), Some(sent));
        assert_eq!(Datagram::parse(&bytes[..UDP_HEADER - 1]), None);
        assert_eq!(Datagram::parse(&[3; UDP_HEADER]), None);
    }

    #[test]
    fn a_report_says_what_came_and_what_came_late() {
        let mut tally = Tally::default();
        for (number, now_us) in [(0, 100), (2, 110), (1, 120), (4, 150)] {
            assert_eq!(tally.take(&Datagram::data(9, number), 1000, now_us), None);
        }
        let report = tally.take(&Datagram::end(9, 5), UDP_HEADER, 900).expect("asked for");
        assert_eq!(
            (report.number, report.bytes, report.late, report.duration_us),
            (4, 4000, 1, 50)
        );
        let unknown = tally.take(&Datagram::end(8, 5), UDP_HEADER, 900).expect("asked for");
        assert_eq!((unknown.run, unknown.number, unknown.duration_us), (8, 0, 0));
        tally.take(&Datagram::data(10, 0), 500, 1000);
        let next = tally.take(&Datagram::end(10, 1), UDP_HEADER, 1001).expect("asked for");
        assert_eq!((next.number, next.bytes, next.late), (1, 500, 0));
    }
}
