//! Virtio 1.2 devices over guest memory, the device's side: registers, rings
//! and the devices block, console, entropy, fs and vsock.
//!
//! Pure: guest memory, bytes and callbacks come as arguments. A driver can
//! break its own queue or device, never the process.

pub mod block;
pub mod chain;
pub mod console;
pub mod entropy;
pub mod fs;
pub mod mmio;
pub mod net;
pub mod ring;
pub mod vsock;

#[cfg(test)]
mod driver;

pub use virtio_queue::Queue;

/// Guest memory as every device here takes it.
pub type Memory = vm_memory::GuestMemoryMmap<()>;
