//! The switch: owns the shared address's ESP traffic and hands it out by SPI.
