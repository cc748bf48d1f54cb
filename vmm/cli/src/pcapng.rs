//! Capture files as Wireshark reads them: pcapng (draft-ietf-opsawg-pcapng), the blocks needed.
//!
//! Written here because the crates that could have not been kept for years, and
//! four blocks are little.

use std::io::{self, Write};

use switch::capture::{Direction, Record};

/// Packets begin with an IPv4 or IPv6 header (tcpdump.org, LINKTYPE_RAW).
const LINKTYPE_RAW: u16 = 101;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

/// Options of all blocks, and of those of an interface, a packet, its statistics.
const END: u16 = 0;
const COMMENT: u16 = 1;
const APPLICATION: u16 = 4;
const NAME: u16 = 2;
const DESCRIPTION: u16 = 3;
const RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;
const DROPS: u16 = 4;
const RECEIVED: u16 = 4;
const DROPPED: u16 = 5;

/// A file with one interface.
pub(crate) struct Writer<W> {
    to: W,
    /// From CLOCK_MONOTONIC to the time of day, nanoseconds.
    offset_ns: u64,
    lost: u64,
    packets: u64,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a file of packets of `interface`, of which `snaplen` bytes are kept.
    pub(crate) fn new(
        to: W,
        interface: &str,
        description: &str,
        snaplen: u32,
        offset_ns: u64,
    ) -> io::Result<Self> {
        let mut writer = Self { to, offset_ns, lost: 0, packets: 0, bytes: 0 };
        let mut section = Vec::new();
        section.extend(0x1a2b_3c4d_u32.to_le_bytes());
        section.extend([1, 0, 0, 0]);
        section.extend(u64::MAX.to_le_bytes());
        let program = concat!("portspace ", env!("CARGO_PKG_VERSION"));
        option(&mut section, APPLICATION, program.as_bytes());
        option(&mut section, END, &[]);
        writer.block(SECTION, &section)?;
        let mut block = Vec::new();
        block.extend(LINKTYPE_RAW.to_le_bytes());
        block.extend([0, 0]);
        block.extend(snaplen.to_le_bytes());
        option(&mut block, NAME, interface.as_bytes());
        option(&mut block, DESCRIPTION, description.as_bytes());
        // 10^-9 seconds.
        option(&mut block, RESOLUTION, &[9]);
        option(&mut block, END, &[]);
        writer.block(INTERFACE, &block)?;
        Ok(writer)
    }

    /// Adds a packet.
    pub(crate) fn packet(&mut self, record: &Record<'_>) -> io::Result<()> {
        let time = record.time_ns.wrapping_add(self.offset_ns);
        let mut block = Vec::with_capacity(record.packet.len() + 64);
        block.extend(0_u32.to_le_bytes());
        block.extend(((time >> 32) as u32).to_le_bytes());
        block.extend((time as u32).to_le_bytes());
        block.extend((record.packet.len() as u32).to_le_bytes());
        block.extend(record.original.to_le_bytes());
        block.extend(record.packet);
        pad(&mut block);
        let direction: u32 = match record.direction {
            Direction::In => 1,
            Direction::Out => 2,
        };
        option(&mut block, FLAGS, &direction.to_le_bytes());
        if record.lost > self.lost {
            option(&mut block, DROPS, &(record.lost - self.lost).to_le_bytes());
            self.lost = record.lost;
        }
        option(&mut block, END, &[]);
        self.packets += 1;
        self.block(PACKET, &block)
    }

    /// Packets written, and packets that were lost on the way.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.packets, self.lost)
    }

    /// Bytes of the file so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Shows what is written to who reads along.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }

    /// Ends the file, with why it ended.
    pub(crate) fn finish(mut self, why: &str) -> io::Result<W> {
        let mut block = Vec::new();
        block.extend([0; 12]);
        option(&mut block, COMMENT, why.as_bytes());
        option(&mut block, RECEIVED, &(self.packets + self.lost).to_le_bytes());
        option(&mut block, DROPPED, &self.lost.to_le_bytes());
        option(&mut block, END, &[]);
        self.block(STATISTICS, &block)?;
        self.to.flush()?;
        Ok(self.to)
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> io::Result<()> {
        let length = (body.len() + 12) as u32;
        self.to.write_all(&kind.to_le_bytes())?;
        self.to.write_all(&length.to_le_bytes())?;
        self.to.write_all(body)?;
        self.to.write_all(&length.to_le_bytes())?;
        self.bytes += u64::from(length);
        Ok(())
    }
}

fn option(block: &mut Vec<u8>, code: u16, value: &[u8]) {
    block.extend(code.to_le_bytes());
    block.extend((value.len() as u16).to_le_bytes());
    block.extend(value);
    pad(block);
}

/// Everything begins at a multiple of 4.
fn pad(block: &mut Vec<u8>) {
    block.resize(block.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks of a file: kind and body.
    fn blocks(mut bytes: &[u8]) -> Vec<(u32, &[u8])> {
        let word =
            |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let mut blocks = Vec::new();
        while !bytes.is_empty() {
            let length = word(bytes, 4) as usize;
            assert_eq!((length % 4, word(bytes, length - 4) as usize), (0, length));
            blocks.push((word(bytes, 0), &bytes[8..length - 4]));
            bytes = &bytes[length..];
        }
        blocks
    }

    #[test]
    fn a_file_is_a_section_an_interface_packets_and_statistics() {
        let offset_ns = 1 << 60;
        let mut writer = Writer::new(Vec::new(), "red", "inner packets", 96, offset_ns).unwrap();
        let packet = Record {
            time_ns: 5,
            direction: Direction::Out,
            original: 1400,
            lost: 3,
            packet: &[0x45, 0, 0, 1, 2],
        };
        writer.packet(&packet).unwrap();
        assert_eq!(writer.counts(), (1, 3));
        let written = writer.bytes();
        let bytes = writer.finish("Ctrl-C").unwrap();
        let blocks = blocks(&bytes);
        let kinds: Vec<_> = blocks.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [SECTION, INTERFACE, PACKET, STATISTICS]);
        assert_eq!(blocks[1].1[..8], [101, 0, 0, 0, 96, 0, 0, 0]);
        let body = blocks[2].1;
        assert_eq!(body[4..8], (offset_ns >> 32_u32).to_le_bytes()[..4]);
        assert_eq!(body[8..20], [5, 0, 0, 0, 5, 0, 0, 0, 0x78, 5, 0, 0]);
        assert_eq!(body[20..28], [0x45, 0, 0, 1, 2, 0, 0, 0]);
        assert_eq!(body[28..36], [2, 0, 4, 0, 2, 0, 0, 0]);
        assert_eq!(body[36..48], [4, 0, 8, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        assert!(written < bytes.len() as u64);
    }
}
