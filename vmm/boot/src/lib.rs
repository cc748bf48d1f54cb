//! Guest images into guest memory, and the registers to start them with.
