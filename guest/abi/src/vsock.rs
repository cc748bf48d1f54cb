//! The header of every vsock packet (virtio 1.2 5.10.6), little-endian: the same
//! for the device and for the guest's driver.

/// Bytes of a header.
pub const HEADER: usize = 44;

/// The only type of socket here (virtio 1.2 5.10.6: VIRTIO_VSOCK_TYPE_STREAM).
pub const STREAM: u16 = 1;

/// SHUTDOWN: the sender receives no more.
pub const RECEIVES_NO_MORE: u32 = 1;
/// SHUTDOWN: the sender sends no more.
pub const SENDS_NO_MORE: u32 = 2;

/// What a packet does (`op`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Asks for a connection.
    Request,
    /// Accepts it.
    Response,
    /// Refuses or ends it.
    Reset,
    /// Ends a direction, by the flags.
    Shutdown,
    /// Carries bytes.
    Data,
    /// Tells how much was taken.
    CreditUpdate,
    /// Asks for that.
    CreditRequest,
    /// None of these.
    Unknown(u16),
}

impl Operation {
    fn from_number(number: u16) -> Operation {
        match number {
            1 => Operation::Request,
            2 => Operation::Response,
            3 => Operation::Reset,
            4 => Operation::Shutdown,
            5 => Operation::Data,
            6 => Operation::CreditUpdate,
            7 => Operation::CreditRequest,
            other => Operation::Unknown(other),
        }
    }

    fn number(self) -> u16 {
        match self {
            Operation::Request => 1,
            Operation::Response => 2,
            Operation::Reset => 3,
            Operation::Shutdown => 4,
            Operation::Data => 5,
            Operation::CreditUpdate => 6,
            Operation::CreditRequest => 7,
            Operation::Unknown(other) => other,
        }
    }
}

/// A header's fields; nothing is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The sender's context.
    pub source_cid: u64,
    /// The receiver's context.
    pub destination_cid: u64,
    /// The sender's port.
    pub source_port: u32,
    /// The receiver's port.
    pub destination_port: u32,
    /// Bytes of payload.
    pub length: u32,
    /// [`STREAM`], or nothing known.
    pub socket_type: u16,
    /// What the packet does.
    pub operation: Operation,
    /// Of a SHUTDOWN.
    pub flags: u32,
    /// The sender's receive buffer, bytes.
    pub buffer: u32,
    /// Bytes the sender has taken out of it ever, modulo 2^32.
    pub taken: u32,
}

impl Header {
    /// Reads the fields.
    pub fn parse(bytes: &[u8; HEADER]) -> Header {
        Header {
            source_cid: u64::from_le_bytes(field(bytes, 0)),
            destination_cid: u64::from_le_bytes(field(bytes, 8)),
            source_port: u32::from_le_bytes(field(bytes, 16)),
            destination_port: u32::from_le_bytes(field(bytes, 20)),
            length: u32::from_le_bytes(field(bytes, 24)),
            socket_type: u16::from_le_bytes(field(bytes, 28)),
            operation: Operation::from_number(u16::from_le_bytes(field(bytes, 30))),
            flags: u32::from_le_bytes(field(bytes, 32)),
            buffer: u32::from_le_bytes(field(bytes, 36)),
            taken: u32::from_le_bytes(field(bytes, 40)),
        }
    }

    /// The header as it is on the ring.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..8].copy_from_slice(&self.source_cid.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.destination_cid.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.source_port.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.destination_port.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.length.to_le_bytes());
        bytes[28..30].copy_from_slice(&self.socket_type.to_le_bytes());
        bytes[30..32].copy_from_slice(&self.operation.number().to_le_bytes());
        bytes[32..36].copy_from_slice(&self.flags.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.buffer.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.taken.to_le_bytes());
        bytes
    }

    /// A packet back to the sender of this one, without data or credit.
    pub fn answer(&self, operation: Operation) -> Header {
        Header {
            source_cid: self.destination_cid,
            destination_cid: self.source_cid,
            source_port: self.destination_port,
            destination_port: self.source_port,
            length: 0,
            socket_type: self.socket_type,
            operation,
            flags: 0,
            buffer: 0,
            taken: 0,
        }
    }
}

fn field<const N: usize>(bytes: &[u8; HEADER], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("fields lie inside the header")
}
