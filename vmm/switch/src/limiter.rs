//! How much a space may send: a virtual clock for packets and one for bytes (GCRA, ITU-T I.371).
//!
//! What is too much waits in the guest's own queue: nothing is dropped, and a
//! guest that floods is stopped by itself.

/// How far a space may fall behind its rate and make up for it in one burst, nanoseconds.
const BURST_NS: u64 = 10_000_000;

const SECOND_NS: u128 = 1_000_000_000;

/// What a space may send; without limits, anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limiter {
    packets: Option<Clock>,
    bytes: Option<Clock>,
    is_holding: bool,
    /// Times the space was made to wait.
    pub held: u64,
}

/// A clock that each unit sent moves on by the time it may take.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// Not zero.
    per_second: u64,
    /// When all that was sent would have been sent at exactly the rate.
    due_ns: u64,
}

impl Limiter {
    /// At most so many packets and bytes of IP packet per second; a limit of 0 is one of 1.
    pub fn new(packets_per_s: Option<u64>, bytes_per_s: Option<u64>) -> Limiter {
        let clock = |per_second: u64| Clock { per_second: per_second.max(1), due_ns: 0 };
        Limiter {
            packets: packets_per_s.map(clock),
            bytes: bytes_per_s.map(clock),
            ..Limiter::default()
        }
    }

    /// Until when the space has to wait, if it does.
    pub fn held_until(&self, now_ns: u64) -> Option<u64> {
        let due_ns = [self.packets, self.bytes].into_iter().flatten().map(|c| c.due_ns).max()?;
        (due_ns > now_ns).then_some(due_ns)
    }

    /// Whether the space, which has something to send, has to wait.
    pub fn holds(&mut self, now_ns: u64) -> bool {
        let holds = self.held_until(now_ns).is_some();
        self.held += u64::from(holds && !self.is_holding);
        self.is_holding = holds;
        holds
    }

    /// The space has sent this. It may be more than was left: then it waits the longer.
    pub fn charge(&mut self, now_ns: u64, packets: usize, bytes: usize) {
        for (clock, amount) in [(&mut self.packets, packets), (&mut self.bytes, bytes)] {
            let Some(clock) = clock else { continue };
            let took_ns = amount as u128 * SECOND_NS / u128::from(clock.per_second);
            let earliest_ns = clock.due_ns.max(now_ns.saturating_sub(BURST_NS));
            clock.due_ns = earliest_ns.saturating_add(u64::try_from(took_ns).unwrap_or(u64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What gets through in `seconds` when somebody sends all the time.
    fn flood(mut limiter: Limiter, seconds: u64, bytes: usize) -> u64 {
        let (mut sent, mut now_ns) = (0, 5 * SECOND_NS as u64);
        let end_ns = now_ns + seconds * SECOND_NS as u64;
        while now_ns < end_ns {
            match limiter.held_until(now_ns) {
                Some(until_ns) => now_ns = until_ns,
                None => {
                    limiter.charge(now_ns, 1, bytes);
                    sent += 1;
                }
            }
        }
        sent
    }

    #[test]
    fn a_flood_gets_its_rate_and_one_burst() {
        let sent = flood(Limiter::new(Some(1000), None), 10, 100);
        assert!((10_000..=10_011).contains(&sent), "{sent}");
        let sent = flood(Limiter::new(None, Some(100_000)), 10, 1000);
        assert!((1000..=1003).contains(&sent), "{sent}");
        let sent = flood(Limiter::new(Some(1000), Some(10_000)), 10, 1000);
        assert!((100..=102).contains(&sent), "the stricter one holds: {sent}");
    }

    #[test]
    fn who_sends_little_never_waits_and_without_limits_nobody_does() {
        let mut limiter = Limiter::new(Some(1000), Some(1_000_000));
        for at in 1..10_000 {
            let now_ns = at * 2_000_000;
            assert_eq!(limiter.held_until(now_ns), None);
            limiter.charge(now_ns, 1, 1000);
        }
        let mut none = Limiter::default();
        none.charge(0, 1 << 40, 1 << 50);
        assert_eq!(none.held_until(0), None);
    }

    #[test]
    fn a_wait_is_counted_once_however_often_it_is_asked_for() {
        let mut limiter = Limiter::new(Some(1000), None);
        for _ in 0..3 {
            let now_ns = limiter.held_until(0).unwrap_or(1_000_000_000);
            limiter.charge(now_ns, 100, 0);
            assert!(limiter.holds(now_ns) && limiter.holds(now_ns + 1));
            assert!(!limiter.holds(limiter.held_until(0).unwrap()));
        }
        assert_eq!(limiter.held, 3);
    }

    #[test]
    fn absurd_amounts_are_a_long_wait_and_no_overflow() {
        let mut limiter = Limiter::new(Some(0), None);
        limiter.charge(u64::MAX - 1, usize::MAX, 0);
        limiter.charge(u64::MAX - 1, usize::MAX, 0);
        assert_eq!(limiter.held_until(u64::MAX - 1), Some(u64::MAX));
    }
}
