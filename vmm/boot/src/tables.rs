//! What the processor reads to run the native guest in ring 3 from its first
//! instruction: page tables, descriptors and the stubs that report a fault.
//!
//! ```text
//! 0x0000 nothing (null)      0x5000 stubs (ring 0)    0xf000 nothing (guard)
//! 0x1000 start page (read)   0x6000 page tables       0x110000 .. 0x200000 stack
//! 0x2000 GDT                 0xc000 ring-0 stack      0x200000 image, heap, to the end
//! 0x3000 IDT, 0x4000 TSS     0xd000 page directories of the 2nd and 3rd GiB
//! ```

use std::ops::Range;

use abi::layout::{IMAGE_BASE, MESSAGE_PORT, MMIO_BASE, POWER_PORT, START_PAGE};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

/// Bytes of a small page.
pub const PAGE: u64 = 0x1000;

const LARGE: u64 = 0x20_0000;
const GDT: u64 = 0x2000;
const IDT: u64 = 0x3000;
const TSS: u64 = 0x4000;
const STUBS: u64 = 0x5000;
const TABLES: u64 = 0x6000;
const RING0_STACK_END: u64 = 0xd000;
const MORE: u64 = 0xd000;
const SUPERVISOR: Range<u64> = GDT..0xf000;
/// Where in the TSS its I/O permission map is, and the last port it covers.
const PORT_MAP: u64 = 0x68;
const LAST_PORT: u64 = MESSAGE_PORT as u64;
const STACK: Range<u64> = 0x11_0000..0x20_0000;

/// The devices' window begins here: guest memory ends below.
pub const MOST_MEMORY: u64 = 0xc000_0000;

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const UNCACHED: u64 = 1 << 4;
/// Accessed and dirty: set from the start, so that no walk has to.
const SEEN: u64 = 1 << 5 | 1 << 6;
const IS_LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;

/// What the guest may do with a range of its image beside reading it.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Write to it.
    pub write: bool,
    /// Execute it.
    pub execute: bool,
}

/// Where and with what the first vCPU starts; all addresses are guest-physical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// First instruction, in ring 3.
    pub entry: u64,
    /// Top of the stack, 16-byte aligned.
    pub stack: u64,
    /// The first argument: the start page.
    pub argument: u64,
    /// The page-table root.
    pub page_tables: u64,
    /// Base and limit of the descriptor table: null, code 0, data 0, data 3, code 3, TSS.
    pub gdt: (u64, u16),
    /// Base and limit of the interrupt table.
    pub idt: (u64, u16),
    /// Base and limit of the task state, which holds the ring-0 stack.
    pub tss: (u64, u16),
}

/// A power-off value of a ring-0 stub: this bit and the vector of the exception.
///
/// The processor's own frame (error code where the vector has one, RIP, CS, RFLAGS, RSP, SS)
/// is on the ring-0 stack then.
pub const FAULT: u32 = 0x100;

/// Writes the tables for `memory_bytes` of memory with the image's `segments` protected.
pub(crate) fn write(
    memory: &GuestMemoryMmap,
    memory_bytes: u64,
    entry: u64,
    segments: &[(Range<u64>, Access)],
) -> Result<Start, GuestMemoryError> {
    write_page_tables(memory, memory_bytes, segments)?;
    write_words(memory, GDT, &DESCRIPTORS)?;
    write_words(memory, TSS + 4, &[RING0_STACK_END])?;
    // I/O permission by map and not only by I/O privilege level: a KVM without hardware
    // may lose the level (AMD64 vol. 2, 12.2.4). The map is zero: every port up to the last is ours.
    memory.write_slice(&(PORT_MAP as u16).to_le_bytes(), GuestAddress(TSS + 0x66))?;
    write_stubs(memory)?;
    Ok(Start {
        entry,
        // As if called: the return address would be at the stack's end (System V ABI 3.2.2).
        stack: STACK.end - 8,
        argument: START_PAGE,
        page_tables: TABLES,
        gdt: (GDT, (size_of_val(&DESCRIPTORS) - 1) as u16),
        idt: (IDT, (VECTORS * 16 - 1) as u16),
        tss: (TSS, (PORT_MAP + LAST_PORT / 8 + 1) as u16),
    })
}

/// Null, code 0, data 0, data 3 (0x18), code 3 (0x20), TSS (0x28, two words).
const DESCRIPTORS: [u64; 7] = [
    0,
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
    0x0000_8b00_0000_0000 | (TSS << 16) | (PORT_MAP + LAST_PORT / 8 + 1),
    0,
];

/// The processor's exceptions; no interrupts reach the native guest.
const VECTORS: u64 = 32;

/// Bytes of one stub.
const STUB: u64 = 16;

fn write_stubs(memory: &GuestMemoryMmap) -> Result<(), GuestMemoryError> {
    for vector in 0..VECTORS {
        let stub = STUBS + vector * STUB;
        let [low, high] = POWER_PORT.to_le_bytes();
        let [a, b, c, d] = (FAULT | vector as u32).to_le_bytes();
        // mov dx, POWER_PORT; mov eax, FAULT | vector; out dx, eax; jmp to itself
        let code = [0x66, 0xba, low, high, 0xb8, a, b, c, d, 0xef, 0xeb, 0xfe];
        memory.write_slice(&code, GuestAddress(stub))?;
        // A 64-bit interrupt gate for ring 0 (AMD64 vol. 2, 4.8.4); the stubs are below 64 KiB.
        write_words(memory, IDT + vector * 16, &[0x8e00 << 32 | 0x08 << 16 | stub, 0])?;
    }
    Ok(())
}

/// One to one: the first two large pages in small ones (null and guard pages, the image's own
/// protection), then large pages to the end of memory, and the devices' window.
fn write_page_tables(
    memory: &GuestMemoryMmap,
    memory_bytes: u64,
    segments: &[(Range<u64>, Access)],
) -> Result<(), GuestMemoryError> {
    let [pml4, pdpt, pd, low] = [0, 1, 2, 3].map(|n| TABLES + n * PAGE);
    let devices = TABLES + 4 * PAGE;
    let image = TABLES + 5 * PAGE;
    let open = PRESENT | WRITE | USER | SEEN;
    let data = open | NO_EXECUTE;

    write_words(memory, pml4, &[pdpt | open])?;
    for (gigabyte, directory) in (0..memory_bytes.div_ceil(1 << 30)).zip([pd, MORE, MORE + PAGE]) {
        write_words(memory, pdpt + gigabyte * 8, &[directory | open])?;
        for index in 0..512 {
            let address = (gigabyte << 30) + index * LARGE;
            if address < memory_bytes {
                write_words(memory, directory + index * 8, &[address | data | IS_LARGE])?;
            }
        }
    }
    write_words(memory, pd, &[low | open, image | open])?;
    write_words(memory, pdpt + (MMIO_BASE >> 30) * 8, &[devices | open])?;
    let window = MMIO_BASE | data | UNCACHED | IS_LARGE;
    write_words(memory, devices + (MMIO_BASE >> 21) % 512 * 8, &[window])?;

    for address in (PAGE..LARGE).step_by(PAGE as usize) {
        let flags = match address {
            START_PAGE => PRESENT | USER | SEEN | NO_EXECUTE,
            _ if SUPERVISOR.contains(&address) => PRESENT | WRITE | SEEN,
            _ if STACK.contains(&address) => data,
            _ => continue,
        };
        write_words(memory, low + address / PAGE * 8, &[address | flags])?;
    }
    for address in (IMAGE_BASE..IMAGE_BASE + LARGE).step_by(PAGE as usize) {
        let flags = match segments.iter().find(|(range, _)| range.contains(&address)) {
            Some((_, may)) => {
                PRESENT
                    | USER
                    | SEEN
                    | if may.write { WRITE } else { 0 }
                    | if may.execute { 0 } else { NO_EXECUTE }
            }
            None => data,
        };
        write_words(memory, image + (address - IMAGE_BASE) / PAGE * 8, &[address | flags])?;
    }
    Ok(())
}

fn write_words(
    memory: &GuestMemoryMmap,
    address: u64,
    words: &[u64],
) -> Result<(), GuestMemoryError> {
    words
        .iter()
        .zip((address..).step_by(8))
        .try_for_each(|(word, at)| memory.write_slice(&word.to_le_bytes(), GuestAddress(at)))
}
