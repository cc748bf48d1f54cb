//! The switch: owns the shared address's ESP traffic and hands it out by SPI.

pub mod addresses;
pub mod bare;
pub mod batch;
pub mod capture;
pub mod card;
pub mod control;
pub mod drops;
pub mod frame;
pub mod limiter;
pub mod metrics;
pub mod offload;
pub mod overlay;
pub mod port;
pub mod run;
pub mod sockets;
pub mod spin;
pub mod status;
pub mod tunnel;

pub use bare::bare;
pub use run::{DEFAULT_GUEST_SPIN_US, DEFAULT_SPIN_US, Failure, Options, run};
