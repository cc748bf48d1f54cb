//! `raw`: sends Ethernet frames as they are, for tests of what may leave the space.

use alloc::vec::Vec;

use super::{Context, Usage};
use crate::link::{HEADER, LONGEST};

/// Most frames' worth of patience, microseconds.
const LIMIT_US: u64 = 1_000_000;

pub(super) async fn raw(context: &Context) -> Result<u8, Usage> {
    let (header, frames) = match &context.arguments[..] {
        [option, header, frames @ ..] if option == "-g" => {
            (bytes(header).filter(|header| header.len() == HEADER).ok_or(Usage)?, frames)
        }
        frames => (alloc::vec![0; HEADER], frames),
    };
    let packets: Option<Vec<_>> = frames.iter().map(|text| packet(&header, text)).collect();
    let packets = packets.filter(|packets| !packets.is_empty()).ok_or(Usage)?;
    let Some(net) = context.net().await else { return Ok(1) };
    let count = packets.len();
    packets.into_iter().for_each(|packet| net.send_packet(packet));
    let end_us = context.system.timers.now_us() + LIMIT_US;
    while net.packets_waiting() > 0 {
        if context.system.timers.now_us() >= end_us {
            context.complain(format_args!("the network device takes no frames"), "raw").await;
            return Ok(1);
        }
        context.system.timers.after(100).await;
    }
    context.output.print(format_args!("sent {count}\n")).await;
    Ok(0)
}

/// The packet of a frame written in hexadecimal; `None` if it is malformed or of no frame's length.
fn packet(header: &[u8], text: &str) -> Option<Vec<u8>> {
    let frame = bytes(text).filter(|frame| (14..=LONGEST - HEADER).contains(&frame.len()))?;
    Some([header, &frame].concat())
}

/// Bytes written in hexadecimal; spaces and colons between them are allowed.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> =
        text.chars().filter(|c| !matches!(c, ':' | ' ')).map(|c| c.to_digit(16)).collect();
    let (pairs, odd) = digits.as_ref()?.as_chunks::<2>();
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| (high << 4 | low) as u8).collect();
    odd.is_empty().then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_hexadecimal_and_of_a_frames_length() {
        let frame = |text: &str| packet(&[7; HEADER], text).map(|packet| packet[HEADER..].to_vec());
        assert_eq!(frame(&"ff".repeat(14)), Some(alloc::vec![0xff; 14]));
        assert_eq!(frame(&"0a:B1 ".repeat(7)), Some([0x0a, 0xb1].repeat(7)));
        for bad in ["ff".repeat(13), "ff".repeat(LONGEST), "f".repeat(29), "gg".repeat(14)] {
            assert_eq!(frame(&bad), None);
        }
    }
}
