//! The switch: owns the shared address's ESP traffic and hands it out by SPI.

pub mod batch;
pub mod control;
pub mod drops;
pub mod frame;
pub mod overlay;
pub mod port;
pub mod spin;
pub mod tunnel;
pub mod vhost;
