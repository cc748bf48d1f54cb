//! The bootable native guest: wires the kernel to the hardware.
#![no_std]
#![no_main]

use core::fmt::Write;

use abi::start::StartPage;
use hal::heap::Heap;
use hal::ports;

hal::start!(main);

fn main(start: StartPage, _heap: &'static Heap) -> ! {
    let _ = write!(ports::Message, "hello: {} bytes", start.memory_bytes);
    ports::power_off(0)
}
