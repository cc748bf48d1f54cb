//! Packets of streams, as the device gives them.

use abi::vsock::{HEADER, Header, Operation, STREAM};

/// Header and data of a packet of a stream; `None` if it is none.
pub(super) fn parse(packet: &[u8]) -> Option<(Header, &[u8])> {
    let (header, data) = packet.split_first_chunk::<HEADER>()?;
    let header = Header::parse(header);
    let known = !matches!(header.operation, Operation::Unknown(_));
    let data = data.get(..header.length as usize)?;
    (known && header.socket_type == STREAM).then_some((header, data))
}
