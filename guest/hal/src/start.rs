//! From the monitor's first jump to the kernel's `main`, and the end in a panic.

use core::fmt::Write;
use core::panic::PanicInfo;

use abi::layout::START_PAGE;
use abi::start::{MAGIC, StartPage};

use crate::heap::Heap;
use crate::ports;

/// Takes over the machine: reads the start page and gives all free memory to `heap`.
///
/// # Safety
/// Called once, first, by [`crate::start!`], with the address the monitor passed.
pub unsafe fn begin(page: u64, heap: &Heap) -> StartPage {
    assert!(page == START_PAGE, "the monitor passes the start page's address");
    // SAFETY: the monitor put the page there, and it is mapped one to one.
    let start = unsafe { (page as *const StartPage).read_volatile() };
    assert!(start.magic == MAGIC, "the start page begins with its magic number");
    let bytes = start.memory_bytes.saturating_sub(start.heap_start);
    // SAFETY: the monitor says that nothing lies between the stack's end and the memory's.
    unsafe { heap.claim(start.heap_start as *mut u8, bytes as usize) };
    start
}

/// Says where and why on the message port and ends the machine.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    // The port takes everything, so there is no error to lose.
    let _ = write!(ports::Message, "{info}");
    ports::power_off(1)
}

/// Makes the crate the bootable image: entry point, allocator, panic handler and
/// the memory functions compiled code calls. `$main` is a `fn(StartPage, &'static Heap) -> !`.
///
/// Entry (the monitor's side is `vmm/boot`): ring 3, RSP in free memory, RDI = start page.
#[macro_export]
macro_rules! start {
    ($main:path) => {
        #[global_allocator]
        static HEAP: $crate::heap::Heap = $crate::heap::Heap::new();

        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::start::panic(info)
        }

        core::arch::global_asm!(
            ".section .text.start, \"ax\"",
            ".globl _start",
            "_start:",
            "xor ebp, ebp",
            "and rsp, -16",
            "call {enter}",
            "ud2",
            enter = sym enter,
        );

        extern "C" fn enter(page: u64) -> ! {
            // SAFETY: this is the first code, and it runs once.
            let start = unsafe { $crate::start::begin(page, &HEAP) };
            $main(start, &HEAP)
        }

        /// Bytes of memory the image takes, from the first section to the end of the last.
        fn image_bytes() -> usize {
            unsafe extern "C" {
                static image_start: u8;
                static image_end: u8;
            }
            (&raw const image_end).addr() - (&raw const image_start).addr()
        }

        /// C 7.24.2.1.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
            // SAFETY: the caller's promise.
            unsafe { $crate::memory::copy(to, from, count) }
        }

        /// C 7.24.2.2.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
            // SAFETY: the caller's promise.
            unsafe { $crate::memory::shift(to, from, count) }
        }

        /// C 7.24.6.1.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn memset(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
            // SAFETY: the caller's promise.
            unsafe { $crate::memory::fill(to, byte, count) }
        }

        /// C 7.24.4.1.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
            // SAFETY: the caller's promise.
            unsafe { $crate::memory::compare(left, right, count) }
        }

        /// Zero if equal.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
            // SAFETY: the caller's promise.
            unsafe { $crate::memory::compare(left, right, count) }
        }

        /// Named by the precompiled `core`; nothing unwinds.
        #[unsafe(no_mangle)]
        extern "C" fn rust_eh_personality() {}

        /// Named by the precompiled `core`; nothing unwinds.
        #[unsafe(no_mangle)]
        extern "C" fn _Unwind_Resume() -> ! {
            $crate::ports::power_off(2)
        }
    };
}
