//! `raw`: sends Ethernet frames as they are, for tests of what may leave the space.

use alloc::vec::Vec;

use super::{Context, Usage};

/// Most frames' worth of patience, microseconds.
const LIMIT_US: u64 = 1_000_000;

pub(super) async fn raw(context: &Context) -> Result<u8, Usage> {
    let frames: Option<Vec<_>> = context.arguments.iter().map(|text| bytes(text)).collect();
    let frames = frames.filter(|frames| !frames.is_empty()).ok_or(Usage)?;
    let Some(net) = context.net().await else { return Ok(1) };
    let count = frames.len();
    frames.into_iter().for_each(|frame| net.send_frame(frame));
    let end_us = context.system.timers.now_us() + LIMIT_US;
    while net.frames_waiting() > 0 {
        if context.system.timers.now_us() >= end_us {
            context.complain(format_args!("the network device takes no frames"), "raw").await;
            return Ok(1);
        }
        context.system.timers.after(100).await;
    }
    context.output.print(format_args!("sent {count}\n")).await;
    Ok(0)
}

/// Bytes written in hexadecimal; spaces and colons between them are allowed.
/// `None` if they are malformed or no Ethernet frame's length.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> =
        text.chars().filter(|c| !matches!(c, ':' | ' ')).map(|c| c.to_digit(16)).collect();
    let (pairs, odd) = digits.as_ref()?.as_chunks::<2>();
    let bytes: Vec<u8> = pairs.iter().map(|[high, low]| (high << 4 | low) as u8).collect();
    (odd.is_empty() && (14..=1514).contains(&bytes.len())).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_hexadecimal_and_of_a_frames_length() {
        assert_eq!(bytes(&"ff".repeat(14)), Some(alloc::vec![0xff; 14]));
        assert_eq!(bytes(&"0a:B1 ".repeat(7)), Some([0x0a, 0xb1].repeat(7)));
        for bad in ["ff".repeat(13), "ff".repeat(1515), "f".repeat(29), "gg".repeat(14)] {
            assert_eq!(bytes(&bad), None);
        }
    }
}
