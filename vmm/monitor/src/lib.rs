//! The VM process: one space's machine, devices and file space.
