//! The native guest's image: its segments, its stack and its start page.

use abi::layout::{IMAGE_BASE, START_PAGE};
use abi::start::StartPage;
use elf::ElfBytes;
use elf::abi::{PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, GuestMemoryMmap};

use crate::tables::{self, Access, PAGE, Start};

/// The native guest's image, an ELF file.
pub const NATIVE_GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/native"));

/// Why the native guest cannot be started in this memory.
#[derive(Debug, thiserror::Error)]
pub enum LoadFailure {
    /// The memory is too small or too large.
    #[error("{given_kib} KiB of memory: the native guest takes {least_kib} KiB to {most_kib} KiB")]
    Memory {
        /// What was asked for.
        given_kib: u64,
        /// The least it starts in.
        least_kib: u64,
        /// Where its devices begin.
        most_kib: u64,
    },
    /// The image is no ELF file as this crate's build makes them.
    #[error("the native guest's image is damaged; build portspace again")]
    Image(#[from] elf::ParseError),
    /// The guest's memory does not hold what it must.
    #[error("guest memory could not be written")]
    Write(#[from] GuestMemoryError),
}

/// Loads the native guest `image` and everything it starts with into `memory`.
///
/// `page.heap_start` and `page.memory_bytes` are filled in here; the rest of `page` is the
/// caller's.
///
/// # Errors
/// Memory too small for the image or so large that it meets the devices, or a damaged image.
pub fn load_native(
    memory: &GuestMemoryMmap,
    image: &[u8],
    mut page: StartPage,
) -> Result<Start, LoadFailure> {
    let elf = ElfBytes::<LittleEndian>::minimal_parse(image)?;
    let segments: Vec<_> = elf
        .segments()
        .into_iter()
        .flatten()
        .filter(|segment| segment.p_type == PT_LOAD && segment.p_memsz > 0)
        .collect();
    let image_end = segments.iter().map(|s| s.p_vaddr.saturating_add(s.p_memsz)).max().unwrap_or(0);
    let heap_start = image_end.next_multiple_of(PAGE);
    let memory_bytes = memory.last_addr().0 + 1;
    let least = heap_start + LEAST_HEAP;
    if !(least..=tables::MOST_MEMORY).contains(&memory_bytes)
        || segments.iter().any(|segment| segment.p_vaddr < IMAGE_BASE)
    {
        return Err(LoadFailure::Memory {
            given_kib: memory_bytes / 1024,
            least_kib: least / 1024,
            most_kib: tables::MOST_MEMORY / 1024,
        });
    }

    let mut access = Vec::new();
    for segment in &segments {
        // Memory is fresh and zero: what the file does not hold needs no writing.
        memory.write_slice(elf.segment_data(segment)?, GuestAddress(segment.p_vaddr))?;
        let pages = segment.p_vaddr / PAGE * PAGE
            ..(segment.p_vaddr + segment.p_memsz).next_multiple_of(PAGE);
        let may =
            Access { write: segment.p_flags & PF_W != 0, execute: segment.p_flags & PF_X != 0 };
        access.push((pages, may));
    }
    page.heap_start = heap_start;
    page.memory_bytes = memory_bytes;
    write_start_page(memory, &page)?;
    Ok(tables::write(memory, memory_bytes, elf.ehdr.e_entry, &access)?)
}

/// Loads bare `code` (at most a page) where an image would be, for measuring what KVM can do.
///
/// # Errors
/// Memory of less than 4 MiB.
pub fn load_code(memory: &GuestMemoryMmap, code: &[u8]) -> Result<Start, LoadFailure> {
    memory.write_slice(code, GuestAddress(IMAGE_BASE))?;
    let may = Access { write: false, execute: true };
    let memory_bytes = memory.last_addr().0 + 1;
    Ok(tables::write(memory, memory_bytes, IMAGE_BASE, &[(IMAGE_BASE..IMAGE_BASE + PAGE, may)])?)
}

/// What the kernel needs at the least beside its image: its buffers take 2.8 MB at the start,
/// of which it touches few, and a program that streams takes another.
const LEAST_HEAP: u64 = 5 * 1024 * 1024;

fn write_start_page(memory: &GuestMemoryMmap, page: &StartPage) -> Result<(), GuestMemoryError> {
    let mut bytes = Vec::with_capacity(size_of::<StartPage>());
    for number in [page.magic, page.memory_bytes, page.heap_start, page.tsc_hz, page.wall_ns] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for number in [page.spin_us, page.mtu] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let addresses = [&page.address_v4[..], &page.peer_v4, &page.address_v6, &page.peer_v6];
    for field in addresses.into_iter().chain([&page.mac[..], &[page.given, page.disks]]) {
        bytes.extend_from_slice(field);
    }
    assert_eq!(bytes.len(), size_of::<StartPage>(), "every field of the start page is written");
    memory.write_slice(&bytes, GuestAddress(START_PAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(bytes: usize) -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), bytes)]).unwrap()
    }

    fn page() -> StartPage {
        StartPage {
            magic: abi::start::MAGIC,
            memory_bytes: 0,
            heap_start: 0,
            tsc_hz: 1,
            wall_ns: 2,
            spin_us: 3,
            mtu: 1400,
            address_v4: [192, 0, 2, 10],
            peer_v4: [0; 4],
            address_v6: [0; 16],
            peer_v6: [0; 16],
            mac: [2; 6],
            given: abi::start::HAS_V4,
            disks: 0,
        }
    }

    #[test]
    fn the_native_guest_starts_at_its_entry_in_its_own_image() {
        let memory = memory(16 << 20);
        let start = load_native(&memory, NATIVE_GUEST, page()).unwrap();
        assert!(start.entry >= IMAGE_BASE);
        let magic: u64 = memory.read_obj(GuestAddress(START_PAGE)).unwrap();
        assert_eq!(magic, abi::start::MAGIC);
    }

    #[test]
    fn memory_too_small_for_the_guest_is_refused_with_the_least() {
        let failure = load_native(&memory(1 << 20), NATIVE_GUEST, page()).unwrap_err();
        assert!(matches!(failure, LoadFailure::Memory { given_kib: 1024, .. }), "{failure}");
    }

    #[test]
    fn a_damaged_image_is_refused() {
        let failure = load_native(&memory(16 << 20), b"not ELF", page()).unwrap_err();
        assert!(matches!(failure, LoadFailure::Image(_)), "{failure}");
    }
}
