//! Start, traps, paging, rings and DMA of the native guest; no_std.
#![no_std]
