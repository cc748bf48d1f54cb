//! In a virtual machine, being woken from a halt takes longer than most requests: while they come
//! one upon the other, cores that have nothing to do wait awake.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use sys::clock::monotonic_ns;
use sys::idle::{self, Latency};
use sys::sched;

/// With more cores than this too many would be awake for the one that is asked.
const MOST_CORES: usize = 8;

/// So many requests ...
const BURST: u64 = 32;
/// ... within this time are a burst, nanoseconds.
const BURST_NS: u64 = 6_400_000;

/// How long cores stay awake after a burst, nanoseconds.
const LINGER_NS: u64 = 5_000_000;

/// Keeps idle cores awake during bursts of requests.
#[derive(Debug)]
pub(crate) struct Awake {
    latency: Latency,
    bursts: Bursts,
    keeper: OnceLock<Thread>,
}

impl Awake {
    /// Where it is of use and this process may; before the jail is entered.
    pub(crate) fn open() -> Option<Awake> {
        let is_of_use = idle::driver().is_ok_and(|driver| driver == idle::HALTING)
            && sched::cores() <= MOST_CORES;
        let latency = is_of_use.then(Latency::open)?.ok()?;
        Some(Awake { latency, bursts: Bursts::default(), keeper: OnceLock::new() })
    }

    /// There was a request.
    pub(crate) fn asked(&self) {
        if self.bursts.is_complete()
            && self.bursts.complete(monotonic_ns())
            && let Some(keeper) = self.keeper.get()
        {
            keeper.unpark();
        }
    }

    /// Keeps cores awake while there are bursts, for as long as the process lives.
    pub(crate) fn keep(&self) {
        self.keeper.get_or_init(thread::current);
        loop {
            while !self.bursts.are_on() {
                thread::park();
            }
            // What is refused needs no end either.
            let _ = self.latency.demand(Some(0));
            while let Some(rest) = self.bursts.rest(monotonic_ns()) {
                thread::park_timeout(rest);
            }
            let _ = self.latency.demand(None);
        }
    }
}

/// Whether requests come one upon the other.
#[derive(Debug, Default)]
struct Bursts {
    requests: AtomicU64,
    /// When the last [`BURST`] of them was complete.
    since_ns: AtomicU64,
    /// Until when cores are to stay awake; 0 while they need not.
    until_ns: AtomicU64,
}

impl Bursts {
    /// Counts a request; true for the last of each [`BURST`].
    fn is_complete(&self) -> bool {
        self.requests.fetch_add(1, Ordering::Relaxed) % BURST == BURST - 1
    }

    /// So many requests have come by now; true if with them the first burst begins.
    fn complete(&self, now_ns: u64) -> bool {
        let took_ns = now_ns.saturating_sub(self.since_ns.swap(now_ns, Ordering::Relaxed));
        took_ns < BURST_NS && self.until_ns.swap(now_ns + LINGER_NS, Ordering::AcqRel) == 0
    }

    fn are_on(&self) -> bool {
        self.until_ns.load(Ordering::Acquire) > 0
    }

    /// How long cores are still to stay awake; `None` ends it.
    fn rest(&self, now_ns: u64) -> Option<Duration> {
        let until_ns = self.until_ns.load(Ordering::Acquire);
        let rest_ns = until_ns.saturating_sub(now_ns);
        let (set, fail) = (Ordering::AcqRel, Ordering::Relaxed);
        // A burst between the two lets it go on.
        let is_over =
            rest_ns == 0 && self.until_ns.compare_exchange(until_ns, 0, set, fail).is_ok();
        (!is_over).then(|| Duration::from_nanos(rest_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_stay_awake_for_a_burst_and_a_while_after_it() {
        let bursts = Bursts::default();
        let ms = |number: u64| number * 1_000_000;
        let left = |now| bursts.rest(now).map(|rest| rest.as_millis());
        assert!(!bursts.complete(ms(100)), "that took 100 ms");
        assert!(bursts.complete(ms(105)));
        assert_eq!(left(ms(105)), Some(5));
        assert!(!bursts.complete(ms(109)), "it goes on");
        assert_eq!(left(ms(111)), Some(3));
        assert!(bursts.are_on());
        assert_eq!((left(ms(114)), bursts.are_on()), (None, false));
        assert!(!bursts.complete(ms(130)), "21 ms for as many");
    }

    #[test]
    fn every_so_many_requests_are_looked_at() {
        let bursts = Bursts::default();
        assert!((1..BURST).all(|_| !bursts.is_complete()));
        assert!(bursts.is_complete() && !bursts.is_complete());
    }
}
