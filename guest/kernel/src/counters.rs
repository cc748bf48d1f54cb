//! What the machine did, counted; the program `stat` shows it.

use core::cell::Cell;

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Something arrived while the machine was spinning.
    pub spins_won: Count,
    /// Nothing arrived while the machine was spinning: it went to sleep.
    pub spins_lost: Count,
    /// The machine slept.
    pub sleeps: Count,
    /// A device was told of new buffers.
    pub notifies: Count,
    /// Packets from the network device that were malformed, or of a wrong checksum.
    pub refused: Count,
    /// Turns of the main loop that found work.
    pub turns: Count,
    /// Programs started.
    pub runs: Count,
}

/// One count.
#[derive(Debug, Default)]
pub struct Count(Cell<u64>);

impl Count {
    /// Adds to it.
    pub fn add(&self, more: u64) {
        self.0.set(self.0.get().wrapping_add(more));
    }

    /// Makes it what was counted elsewhere.
    pub fn set(&self, total: u64) {
        self.0.set(total);
    }

    /// How many there were.
    pub fn total(&self) -> u64 {
        self.0.get()
    }
}
