//! Capture files as Wireshark reads them: pcapng (draft-ietf-opsawg-pcapng), one interface each.

use std::borrow::Cow;
use std::io::{self, Write};
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};

use pcap_file::pcapng::{PcapNgBlock, PcapNgWriteError, PcapNgWriter};
use switch::capture::{Direction, Record};

/// The flags of a packet that came in, and of one that went out.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// A file with one interface.
pub(crate) struct Writer<W: Write> {
    to: PcapNgWriter<W>,
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
        let program = concat!("portspace ", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            options: vec![SectionHeaderOption::UserApplication(Cow::Borrowed(program))],
            ..SectionHeaderBlock::default()
        };
        let to = PcapNgWriter::with_section_header(to, section).map_err(cause)?;
        let mut writer = Self { to, offset_ns, lost: 0, packets: 0, bytes: 0 };
        writer.block(InterfaceDescriptionBlock {
            // Packets begin with an IPv4 or IPv6 header.
            linktype: DataLink::RAW,
            snaplen,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(interface)),
                InterfaceDescriptionOption::IfDescription(Cow::Borrowed(description)),
                InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
            ],
        })?;
        Ok(writer)
    }

    /// Adds a packet.
    pub(crate) fn packet(&mut self, record: &Record<'_>) -> io::Result<()> {
        let flags = match record.direction {
            Direction::In => INBOUND,
            Direction::Out => OUTBOUND,
        };
        let mut options = vec![EnhancedPacketOption::Flags(flags)];
        if record.lost > self.lost {
            options.push(EnhancedPacketOption::DropCount(record.lost - self.lost));
            self.lost = record.lost;
        }
        self.packets += 1;
        self.block(EnhancedPacketBlock {
            interface_id: 0,
            timestamp: self.time(record.time_ns),
            original_len: record.original,
            data: Cow::Borrowed(record.packet),
            options,
        })
    }

    /// Packets written, and packets that were lost on the way.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.packets, self.lost)
    }

    /// Bytes of the file so far, its first block not counted.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Shows what is written to who reads along.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.to.get_mut().flush()
    }

    /// Ends the file at `time_ns`, with why it ended.
    pub(crate) fn finish(mut self, time_ns: u64, why: &str) -> io::Result<W> {
        self.block(InterfaceStatisticsBlock {
            interface_id: 0,
            timestamp: self.time(time_ns),
            options: vec![
                InterfaceStatisticsOption::Common(CommonOption::Comment(Cow::Borrowed(why))),
                InterfaceStatisticsOption::IsbIfRecv(self.packets + self.lost),
                InterfaceStatisticsOption::IsbIfDrop(self.lost),
            ],
        })?;
        self.flush()?;
        Ok(self.to.into_inner())
    }

    fn time(&self, monotonic_ns: u64) -> Duration {
        Duration::from_nanos(monotonic_ns.wrapping_add(self.offset_ns))
    }

    fn block<'a>(&mut self, block: impl PcapNgBlock<'a>) -> io::Result<()> {
        self.bytes += self.to.write_pcapng_block(block).map_err(cause)? as u64;
        Ok(())
    }
}

/// Only the file can fail: what is written is valid.
fn cause(error: PcapNgWriteError) -> io::Error {
    match error {
        PcapNgWriteError::Io(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;

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
        let bytes = writer.finish(7, "Ctrl-C").unwrap();
        assert!(written < bytes.len() as u64);

        let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
        let Some(Ok((Block::InterfaceDescription(interface), _))) = reader.next_block() else {
            panic!("an interface comes first");
        };
        assert_eq!((interface.linktype, interface.snaplen), (DataLink::RAW, 96));
        let Some(Ok((Block::EnhancedPacket(read), _))) = reader.next_block() else {
            panic!("then the packet");
        };
        assert_eq!((&read.data[..], read.original_len), (packet.packet, 1400));
        assert_eq!(read.timestamp, Duration::from_nanos((1 << 60) + 5));
        let options = [EnhancedPacketOption::Flags(OUTBOUND), EnhancedPacketOption::DropCount(3)];
        assert_eq!(read.options, options);
        let Some(Ok((Block::InterfaceStatistics(end), _))) = reader.next_block() else {
            panic!("then the statistics");
        };
        assert!(end.options.contains(&InterfaceStatisticsOption::IsbIfRecv(4)));
        assert!(reader.next_block().is_none());
    }
}
