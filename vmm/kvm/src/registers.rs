//! The registers a vCPU starts with: 64-bit mode, paging on, ring 3.
//!
//! The values are those that start on hardware and on a KVM that emulates ring 0
//! alike: descriptors as the processor would have loaded them from `boot`'s tables.

use boot::Start;
use kvm_bindings::{kvm_dtable, kvm_regs, kvm_segment, kvm_sregs};

/// CR0: protection, paging, write protection, native x87 errors, extension type, alignment.
const CR0: u64 = 0x8005_0033;
/// CR4: physical-address extension, SSE and its exceptions.
const CR4: u64 = 0x620;
/// EFER: system calls, long mode enabled and active, no-execute.
const EFER: u64 = 0xd01;
/// RFLAGS: I/O privilege level 3, interrupts enabled (none come), and the bit that is always 1.
const RFLAGS: u64 = 0x3202;

/// Sets what a ring-3 start takes.
pub(crate) fn ring3(special: &mut kvm_sregs, start: &Start) {
    paging(special, start);
    special.cs = code(0x23, 3);
    set_data(special, data(0x1b, 3));
}

/// The same in ring 0, to measure it.
pub(crate) fn ring0(special: &mut kvm_sregs, start: &Start) {
    paging(special, start);
    special.cs = code(0x08, 0);
    set_data(special, data(0x10, 0));
}

/// The general registers at the first instruction.
pub(crate) fn first(start: &Start) -> kvm_regs {
    kvm_regs {
        rip: start.entry,
        rsp: start.stack,
        rdi: start.argument,
        rflags: RFLAGS,
        ..Default::default()
    }
}

fn paging(special: &mut kvm_sregs, start: &Start) {
    special.cr0 = CR0;
    special.cr3 = start.page_tables;
    special.cr4 = CR4;
    special.efer = EFER;
    let table = |(base, limit)| kvm_dtable { base, limit, ..Default::default() };
    special.gdt = table(start.gdt);
    special.idt = table(start.idt);
    special.tr = kvm_segment {
        base: start.tss.0,
        limit: start.tss.1.into(),
        selector: 0x28,
        type_: 11,
        present: 1,
        ..Default::default()
    };
}

fn code(selector: u16, dpl: u8) -> kvm_segment {
    kvm_segment { selector, type_: 11, dpl, l: 1, g: 1, ..flat() }
}

fn data(selector: u16, dpl: u8) -> kvm_segment {
    kvm_segment { selector, type_: 3, dpl, db: 1, g: 1, ..flat() }
}

fn flat() -> kvm_segment {
    kvm_segment { limit: u32::MAX, present: 1, s: 1, ..Default::default() }
}

fn set_data(special: &mut kvm_sregs, segment: kvm_segment) {
    for register in
        [&mut special.ds, &mut special.es, &mut special.ss, &mut special.fs, &mut special.gs]
    {
        *register = segment;
    }
}
