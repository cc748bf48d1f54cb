//! Where the switch runs on a machine of two cores.
//!
//! A question to a guest that spins and its answer want the two on cores of their own. A stream that
//! comes in wants the opposite: switch and guest work on it in turn, and the other core is needed
//! by what brings it, the host's network.

use sys::sched::{Side, TwoCores};

/// How long bytes are counted, nanoseconds.
const WINDOW_NS: u64 = 4_000_000;

/// Bytes in a window that make a stream: half a gigabit per second.
const STREAM: usize = 256 * 1024;

/// Moves the calling thread between two cores, if there are two.
pub(super) struct Placement {
    cores: Option<TwoCores>,
    side: Side,
    bytes: usize,
    window_ends_ns: u64,
}

impl Placement {
    /// Apart from the guests at first.
    pub(super) fn new() -> Self {
        let placement =
            Self { cores: TwoCores::allowed(), side: Side::Waking, bytes: 0, window_ends_ns: 0 };
        placement.go();
        placement
    }

    /// So many bytes came.
    pub(super) fn received(&mut self, bytes: usize, now_ns: u64) {
        self.bytes += bytes;
        if now_ns < self.window_ends_ns {
            return;
        }
        let side = if self.bytes < STREAM { Side::Waking } else { Side::Spinning };
        (self.bytes, self.window_ends_ns) = (0, now_ns + WINDOW_NS);
        if side != self.side {
            self.side = side;
            self.go();
        }
    }

    fn go(&self) {
        // Where this is refused it is slower, not wrong.
        let _ = self.cores.as_ref().map(|cores| cores.keep_to(self.side));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_comes_in_is_served_beside_the_guest_until_it_ends() {
        let mut placement =
            Placement { cores: None, side: Side::Waking, bytes: 0, window_ends_ns: 0 };
        let mut side = |bytes, now_ns| {
            placement.received(bytes, now_ns);
            placement.side
        };
        assert_eq!(side(100, 1), Side::Waking);
        assert_eq!(side(STREAM, WINDOW_NS), Side::Waking, "the window goes on");
        assert_eq!(side(100, WINDOW_NS + 1), Side::Spinning);
        assert_eq!(side(STREAM - 1, 2 * WINDOW_NS + 1), Side::Waking);
    }
}
