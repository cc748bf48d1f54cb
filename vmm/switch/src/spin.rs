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
#[derive(Clone, Copy, Debug)]
pub struct Spin {
    bound_ns: u64,
    /// When spinning ends, if no work comes.
    until_ns: u64,
    spinning: bool,
    /// Spins that ended with work.
    pub won: u64,
    /// Spins that ended with sleep.
    pub lost: u64,
}

impl Spin {
    /// Spins at most `bound_us` microseconds after the last work; 0 sleeps at once.
    pub fn new(bound_us: u32) -> Spin {
        let bound_ns = u64::from(bound_us) * 1000;
        Spin { bound_ns, until_ns: 0, spinning: false, won: 0, lost: 0 }
    }

    /// There was work.
    pub fn worked(&mut self) {
        if std::mem::take(&mut self.spinning) {
            self.won += 1;
        }
    }

    /// There was none; `now` is read only if it matters.
    pub fn idle(&mut self, now_ns: impl FnOnce() -> u64) -> Idle {
        if self.bound_ns == 0 {
            return Idle::Sleep;
        }
        let now_ns = now_ns();
        if !self.spinning {
            self.spinning = true;
            self.until_ns = now_ns + self.bound_ns;
        } else if now_ns >= self.until_ns {
            self.spinning = false;
            self.lost += 1;
            return Idle::Sleep;
        }
        Idle::Spin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spin_is_won_by_work_and_lost_by_time() {
        let mut spin = Spin::new(50);
        assert_eq!(spin.idle(|| 1000), Idle::Spin);
        spin.worked();
        spin.worked();
        assert_eq!((spin.won, spin.lost), (1, 0));
        assert_eq!(spin.idle(|| 2000), Idle::Spin);
        assert_eq!(spin.idle(|| 51_999), Idle::Spin);
        assert_eq!(spin.idle(|| 52_000), Idle::Sleep);
        assert_eq!((spin.won, spin.lost), (1, 1));
        assert_eq!(Spin::new(0).idle(|| 0), Idle::Sleep);
    }
}
