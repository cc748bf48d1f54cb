//! Where the switch runs on a machine of two cores.
//!
//! A question to a guest that spins and its answer want the two on cores of their own. A stream that
//! comes in wants the opposite if its packets can be put together, for then the guest has little to
//! do: the other core is needed by what brings the stream, the host's network.

use sys::sched::{Side, TwoCores};

/// How long bytes are counted, nanoseconds.
const WINDOW_NS: u64 = 4_000_000;

/// Bytes in a window that make a stream: half a gigabit per second.
const STREAM: usize = 256 * 1024;

/// Bytes of a frame, on average, of which a guest takes a stream with little work.
const LARGE: usize = 8 * 1024;

/// Moves the calling thread between two cores, if there are two.
pub(super) struct Placement {
    cores: Option<TwoCores>,
    side: Side,
    bytes: usize,
    frames: usize,
    window_ends_ns: u64,
}

impl Placement {
    /// Apart from the guests at first.
    pub(super) fn new() -> Self {
        let placement = Self::on(TwoCores::allowed());
        placement.go();
        placement
    }

    fn on(cores: Option<TwoCores>) -> Self {
        Self { cores, side: Side::Waking, bytes: 0, frames: 0, window_ends_ns: 0 }
    }

    /// So many bytes came and made so many frames for guests.
    pub(super) fn received(&mut self, bytes: usize, frames: usize, now_ns: u64) {
        self.bytes += bytes;
        self.frames += frames;
        if now_ns < self.window_ends_ns {
            return;
        }
        let is_easy = self.bytes >= STREAM && self.bytes / LARGE >= self.frames;
        let side = if is_easy { Side::Spinning } else { Side::Waking };
        (self.bytes, self.frames, self.window_ends_ns) = (0, 0, now_ns + WINDOW_NS);
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
    fn a_stream_that_comes_in_large_frames_is_served_beside_the_guest_until_it_ends() {
        let mut placement = Placement::on(None);
        let mut side = |bytes, frames, now_ns| {
            placement.received(bytes, frames, now_ns);
            placement.side
        };
        assert_eq!(side(100, 1, 1), Side::Waking);
        assert_eq!(side(STREAM, 9, WINDOW_NS), Side::Waking, "the window goes on");
        assert_eq!(side(100, 1, WINDOW_NS + 1), Side::Spinning);
        assert_eq!(side(STREAM - 1, 9, 2 * WINDOW_NS + 1), Side::Waking);
        assert_eq!(side(STREAM, 200, 3 * WINDOW_NS + 1), Side::Waking, "they are small");
    }
}
