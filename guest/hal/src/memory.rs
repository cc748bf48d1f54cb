//! The memory functions that compiled code calls by name (C 7.24), without a C library.
//!
//! Written with string instructions, so that the compiler cannot turn a loop in
//! here into a call to itself. Short runs avoid `rep`, whose start costs about 30 ns.

use core::arch::asm;

/// Runs of at most this many bytes are moved by plain loads and stores.
const SHORT: usize = 128;

/// `memcpy`.
///
/// # Safety
/// As in C: both areas are `count` bytes long and do not overlap.
#[inline(always)]
pub unsafe fn copy(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if count <= SHORT {
        // SAFETY: the caller's promise; a forward copy of areas that do not overlap.
        unsafe { copy_short(to, from, count) };
    } else {
        // SAFETY: the caller's promise; DF is clear by the ABI.
        unsafe {
            asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _,
                inout("rsi") from => _, options(nostack, preserves_flags));
        }
    }
    to
}

/// Copies forward, sixteen bytes at a time, then one at a time.
#[inline(always)]
unsafe fn copy_short(to: *mut u8, from: *const u8, count: usize) {
    // SAFETY: reads and writes exactly `count` bytes of areas the caller vouches for.
    unsafe {
        asm!(
            "sub {n}, 16",
            "jb 3f",
            "2:",
            "movups {x}, [{s}]",
            "movups [{d}], {x}",
            "add {s}, 16",
            "add {d}, 16",
            "sub {n}, 16",
            "jae 2b",
            "3:",
            "test {n:l}, 8",
            "jz 4f",
            "mov {t}, [{s}]",
            "mov [{d}], {t}",
            "add {s}, 8",
            "add {d}, 8",
            "4:",
            "and {n}, 7",
            "jz 6f",
            "5:",
            "mov {t:l}, [{s}]",
            "mov [{d}], {t:l}",
            "inc {s}",
            "inc {d}",
            "dec {n}",
            "jnz 5b",
            "6:",
            n = inout(reg) count => _, s = inout(reg) from => _, d = inout(reg) to => _,
            t = out(reg) _, x = out(xmm_reg) _, options(nostack),
        );
    }
}

/// `memmove`.
///
/// # Safety
/// As in C: both areas are `count` bytes long; they may overlap.
#[inline(always)]
pub unsafe fn shift(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= count {
        // A forward copy in steps of at most 16 bytes, each read before it is
        // written, is right when `to` lies before `from`, overlapping or not.
        // SAFETY: the caller's promise.
        return unsafe { copy(to, from, count) };
    }
    // SAFETY: the caller's promise; `to` lies inside `from`, so the copy goes
    // backward, and DF is cleared again as the ABI wants it.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") count => _,
            inout("rdi") to.wrapping_add(count).wrapping_sub(1) => _,
            inout("rsi") from.wrapping_add(count).wrapping_sub(1) => _, options(nostack));
    }
    to
}

/// `memset`.
///
/// # Safety
/// As in C: the area is `count` bytes long.
#[inline(always)]
pub unsafe fn fill(to: *mut u8, byte: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller's promise; DF is clear by the ABI.
    unsafe {
        asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _,
            in("al") byte as u8, options(nostack, preserves_flags));
    }
    to
}

/// `memcmp`, and `bcmp` where only zero or not matters.
///
/// # Safety
/// As in C: both areas are `count` bytes long.
#[inline(always)]
pub unsafe fn compare(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's promise.
    let left = unsafe { core::slice::from_raw_parts(left, count) };
    // SAFETY: as above.
    let right = unsafe { core::slice::from_raw_parts(right, count) };
    let (left_words, left_rest) = left.as_chunks::<8>();
    let (right_words, right_rest) = right.as_chunks::<8>();
    for (a, b) in left_words.iter().zip(right_words) {
        if u64::from_ne_bytes(*a) != u64::from_ne_bytes(*b) {
            return if u64::from_be_bytes(*a) < u64::from_be_bytes(*b) { -1 } else { 1 };
        }
    }
    for (a, b) in left_rest.iter().zip(right_rest) {
        if a != b {
            return i32::from(*a) - i32::from(*b);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const LENGTHS: [usize; 16] = [0, 1, 7, 8, 9, 15, 16, 17, 31, 33, 63, 127, 128, 129, 300, 1500];

    fn pattern(count: usize) -> Vec<u8> {
        (0..count).map(|at| (at * 31 + 7) as u8).collect()
    }

    #[test]
    fn copies_of_every_length_are_exact() {
        for count in LENGTHS {
            let from = pattern(count);
            let mut to = std::vec![0xee; count + 2];
            let middle = to[1..].as_mut_ptr();
            // SAFETY: both have the length, and they are two allocations.
            unsafe { copy(middle, from.as_ptr(), count) };
            assert_eq!(&to[1..=count], &from[..]);
            assert_eq!((to[0], to[count + 1]), (0xee, 0xee));
        }
    }

    #[test]
    fn overlapping_moves_equal_copy_within() {
        for count in LENGTHS {
            for (from, to) in [(0, 1), (1, 0), (0, 8), (8, 0), (3, 20), (20, 3), (5, 5)] {
                let mut ours = pattern(count + 20);
                let mut theirs = ours.clone();
                let start = ours.as_mut_ptr();
                // SAFETY: both ends lie within the vector.
                unsafe { shift(start.wrapping_add(to), start.wrapping_add(from), count) };
                theirs.copy_within(from..from + count, to);
                assert_eq!(ours, theirs, "{count} bytes from {from} to {to}");
            }
        }
    }

    #[test]
    fn fills_and_comparisons_agree_with_slices() {
        for count in LENGTHS {
            let mut filled = std::vec![0; count];
            // SAFETY: the vector has the length.
            unsafe { fill(filled.as_mut_ptr(), 0x5a, count) };
            assert!(filled.iter().all(|byte| *byte == 0x5a));
            let left = pattern(count);
            for at in [0, count / 2, count.saturating_sub(1)].into_iter().filter(|at| *at < count) {
                let mut right = left.clone();
                right[at] = right[at].wrapping_add(1);
                // SAFETY: both have the length.
                let order = unsafe { compare(left.as_ptr(), right.as_ptr(), count) };
                assert_eq!(order.signum(), left.cmp(&right) as i32);
            }
            // SAFETY: both are the same vector.
            assert_eq!(unsafe { compare(left.as_ptr(), left.as_ptr(), count) }, 0);
        }
    }
}
