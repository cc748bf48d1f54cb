//! Guest images into guest memory, and the registers to start them with.
//!
//! Pure over guest memory. The native guest is built by this crate's build
//! script and comes with it.

mod native;
pub mod tables;

pub use native::{LoadFailure, NATIVE_GUEST, load_code, load_native};
pub use tables::Start;
