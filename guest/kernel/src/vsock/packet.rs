//! `struct virtio_vsock_hdr` (virtio 1.2 5.10.6), little-endian.

/// Bytes of the header.
pub const HEADER: usize = 44;

/// Shutdown: the sender of the packet receives no more.
pub(super) const RECEIVES_NO_MORE: u32 = 1;
/// Shutdown: the sender of the packet sends no more.
pub(super) const SENDS_NO_MORE: u32 = 2;

/// VIRTIO_VSOCK_TYPE_STREAM.
const STREAM: u16 = 1;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Operation {
    Request = 1,
    Response = 2,
    Reset = 3,
    Shutdown = 4,
    Data = 5,
    CreditUpdate = 6,
    CreditRequest = 7,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) source_cid: u64,
    pub(super) destination_cid: u64,
    pub(super) source_port: u32,
    pub(super) destination_port: u32,
    pub(super) length: u32,
    pub(super) operation: Operation,
    pub(super) flags: u32,
    /// Bytes the sender keeps of the stream at most.
    pub(super) buffer: u32,
    /// Bytes the sender has taken ever, modulo 2^32.
    pub(super) taken: u32,
}

impl Header {
    /// Header and data of a packet of a stream; `None` if it is none.
    pub(super) fn parse(packet: &[u8]) -> Option<(Header, &[u8])> {
        let u16_at = |at: usize| Some(u16::from_le_bytes(*packet.get(at..)?.first_chunk()?));
        let u32_at = |at: usize| Some(u32::from_le_bytes(*packet.get(at..)?.first_chunk()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(*packet.get(at..)?.first_chunk()?));
        let operation = match u16_at(30)? {
            1 => Operation::Request,
            2 => Operation::Response,
            3 => Operation::Reset,
            4 => Operation::Shutdown,
            5 => Operation::Data,
            6 => Operation::CreditUpdate,
            7 => Operation::CreditRequest,
            _ => return None,
        };
        if u16_at(28)? != STREAM {
            return None;
        }
        let header = Header {
            source_cid: u64_at(0)?,
            destination_cid: u64_at(8)?,
            source_port: u32_at(16)?,
            destination_port: u32_at(20)?,
            length: u32_at(24)?,
            operation,
            flags: u32_at(32)?,
            buffer: u32_at(36)?,
            taken: u32_at(40)?,
        };
        let data = packet.get(HEADER..)?.get(..header.length as usize)?;
        Some((header, data))
    }

    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..8].copy_from_slice(&self.source_cid.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.destination_cid.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.source_port.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.destination_port.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.length.to_le_bytes());
        bytes[28..30].copy_from_slice(&STREAM.to_le_bytes());
        bytes[30..32].copy_from_slice(&(self.operation as u16).to_le_bytes());
        bytes[32..36].copy_from_slice(&self.flags.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.buffer.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.taken.to_le_bytes());
        bytes
    }

    /// The header of a packet back to the sender of this one, without data or credit.
    pub(super) fn answer(&self, operation: Operation) -> Header {
        Header {
            source_cid: self.destination_cid,
            destination_cid: self.source_cid,
            source_port: self.destination_port,
            destination_port: self.source_port,
            length: 0,
            operation,
            flags: 0,
            buffer: 0,
            taken: 0,
        }
    }
}
