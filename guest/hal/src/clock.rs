//! Time from the time-stamp counter.

use core::arch::x86_64::_rdtsc;

/// Time since the guest's start.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The counter at time zero.
    origin: u64,
    /// Nanoseconds per tick, as a fraction of 2^32.
    scale: u64,
}

impl Clock {
    /// A clock that stands at zero now, over a counter of `tsc_hz` ticks per second.
    ///
    /// # Panics
    /// If `tsc_hz` is zero.
    pub fn start(tsc_hz: u64) -> Clock {
        Clock { origin: ticks(), scale: scale(tsc_hz) }
    }

    /// Nanoseconds since the start.
    pub fn now_ns(&self) -> u64 {
        scaled(ticks().wrapping_sub(self.origin), self.scale)
    }
}

/// The time-stamp counter.
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 has the counter, and CR4.TSD is clear.
    unsafe { _rdtsc() }
}

fn scale(tsc_hz: u64) -> u64 {
    assert!(tsc_hz > 0, "the monitor knows the counter's rate");
    ((1_000_000_000_u128 << 32) / u128::from(tsc_hz)) as u64
}

fn scaled(ticks: u64, scale: u64) -> u64 {
    ((u128::from(ticks) * u128::from(scale)) >> 32) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_ticks_is_a_second_for_slow_and_fast_counters() {
        for hz in [1_000_000, 999_999_999, 2_450_000_000, 5_000_000_000] {
            let second = scaled(hz, scale(hz));
            assert!((999_999_990..=1_000_000_000).contains(&second), "{hz} Hz gave {second} ns");
        }
    }

    #[test]
    fn time_does_not_go_back() {
        let clock = Clock::start(2_000_000_000);
        let first = clock.now_ns();
        assert!(clock.now_ns() >= first);
    }
}
