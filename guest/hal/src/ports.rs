//! The monitor's ports: sleep, power, messages. Each write is an exit (about 19 µs).

use core::arch::asm;
use core::fmt;

use abi::layout::{MESSAGE_PORT, POWER_PORT, SLEEP_PORT};

fn out_u32(port: u16, value: u32) {
    // SAFETY: IOPL is 3; the monitor's ports change no memory of the guest.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack)) }
}

fn out_u8(port: u16, value: u8) {
    // SAFETY: IOPL is 3; the monitor's ports change no memory of the guest.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack)) }
}

/// Sleeps until a device notifies, at most `limit_us` ([`abi::layout::SLEEP_FOREVER`]: no limit).
pub fn sleep(limit_us: u32) {
    out_u32(SLEEP_PORT, limit_us);
}

/// Ends the machine: 0 is a clean power-off.
pub fn power_off(code: u32) -> ! {
    loop {
        out_u32(POWER_PORT, code);
    }
}

/// Writes messages through [`MESSAGE_PORT`]: works before and without any device, one exit a byte.
#[derive(Clone, Copy, Debug)]
pub struct Message;

impl fmt::Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| out_u8(MESSAGE_PORT, byte));
        Ok(())
    }
}
