//! The native guest above its hardware: executor, net, files, programs; no_std.
#![no_std]
