//! How long a loop looks for work before it sleeps: the same rule for the
//! switch and for the bare endpoint that it is compared with.

/// What a loop that found nothing does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Look again at once; whoever waits for this core goes first.
    Spin,
    /// Arm notifications, look once more, and sleep.
    Sleep,
}

/// Looks for a bounded time after the last work, and counts whether that was worth it.
///
/// It yields while it looks, but that is no help to a core that two look on: each turn of the
/// one delays the other. So it looks only while one core stays free of threads that do.
#[derive(Clone, Copy, Debug)]
pub struct Spin {
    bound_ns: u64,
    cores: usize,
    /// When spinning ends, if no work comes.
    until_ns: u64,
    spinning: bool,
    /// Spins that ended with work.
    pub won: u64,
    /// Spins that ended with sleep.
    pub lost: u64,
}

impl Spin {
    /// Spins at most `bound_us` microseconds after the last work, on a machine of `cores`;
    /// 0 sleeps at once.
    pub fn new(bound_us: u32, cores: usize) -> Spin {
        let bound_ns = u64::from(bound_us) * 1000;
        Spin { bound_ns, cores, until_ns: 0, spinning: false, won: 0, lost: 0 }
    }

    /// There was work.
    pub fn worked(&mut self) {
        if std::mem::take(&mut self.spinning) {
            self.won += 1;
        }
    }

    /// Whether no core would be free if this thread spun beside `guests` that do.
    pub fn crowded(&self, guests: usize) -> bool {
        guests + 1 >= self.cores
    }

    /// There was none, and `guests` spin as well.
    pub fn idle(&mut self, now_ns: u64, guests: usize) -> Idle {
        let crowded = self.crowded(guests);
        if !self.spinning {
            if crowded || self.bound_ns == 0 {
                return Idle::Sleep;
            }
            self.spinning = true;
            self.until_ns = now_ns + self.bound_ns;
        } else if crowded || now_ns >= self.until_ns {
            self.spinning = false;
            self.lost += 1;
            return Idle::Sleep;
        }
        Idle::Spin
    }

    /// Looks for `found` alone, for so short a time that yielding would cost more.
    pub fn briefly(&mut self, now_ns: impl Fn() -> u64, mut found: impl FnMut() -> bool) {
        let end_ns = now_ns() + BRIEFLY_NS.min(self.bound_ns);
        while now_ns() < end_ns {
            if found() {
                self.won += 1;
                return;
            }
        }
        self.lost += 1;
    }
}

/// A guest that spins answers a packet within about two microseconds.
const BRIEFLY_NS: u64 = 3000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spin_is_won_by_work_and_lost_by_time() {
        let mut spin = Spin::new(50, 2);
        assert_eq!(spin.idle(1000, 0), Idle::Spin);
        spin.worked();
        spin.worked();
        assert_eq!((spin.won, spin.lost), (1, 0));
        assert_eq!(spin.idle(2000, 0), Idle::Spin);
        assert_eq!(spin.idle(51_999, 0), Idle::Spin);
        assert_eq!(spin.idle(52_000, 0), Idle::Sleep);
        assert_eq!((spin.won, spin.lost), (1, 1));
        assert_eq!(Spin::new(0, 2).idle(0, 0), Idle::Sleep);
    }

    #[test]
    fn nobody_spins_when_no_core_would_be_left() {
        assert_eq!(Spin::new(50, 1).idle(0, 0), Idle::Sleep);
        assert_eq!(Spin::new(50, 4).idle(0, 2), Idle::Spin);
        assert_eq!(Spin::new(50, 4).idle(0, 3), Idle::Sleep);
        let mut spin = Spin::new(50, 2);
        assert_eq!(spin.idle(0, 0), Idle::Spin);
        assert_eq!(spin.idle(0, 1), Idle::Sleep);
        assert_eq!((spin.won, spin.lost), (0, 1));
    }

    #[test]
    fn a_brief_look_ends_with_what_it_looks_for_or_with_time() {
        let clock = std::cell::Cell::new(0);
        let now = || clock.replace(clock.get() + 500);
        let mut spin = Spin::new(50, 2);
        spin.briefly(now, || clock.get() > 1500);
        assert_eq!((spin.won, spin.lost), (1, 0));
        spin.briefly(now, || false);
        assert_eq!((spin.won, spin.lost), (1, 1));
    }
}
