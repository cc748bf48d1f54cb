//! Whose turn it is to wait for the next request.
//!
//! One thread has the turn at a time. It answers what it read by itself and takes the turn
//! again, so that one thread, its core and its caches stay warm, and no other is woken for
//! nothing. Another steps in when requests queue up, or when one keeps the first for long.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a thread looks whether the turn is left lying; it steps in when that is so twice.
const TICK: Duration = Duration::from_millis(5);

/// For so many requests after such a one the next is left to another thread at once.
const SLOW: u32 = 64;

/// So long after the last request nobody looks any more.
const QUIET_NS: u64 = 20_000_000;

/// The turn, and those who would have it.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    state: Mutex<State>,
    /// Wakes the one who looks.
    watch: Condvar,
    /// Wakes one of the others.
    spare: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Somebody waits for a request.
    taken: bool,
    /// How often it was taken.
    times: u64,
    /// When a request was read last.
    read_ns: u64,
    /// Somebody looks whether the turn is left lying.
    watched: bool,
    /// How many wait until they are to look.
    spares: usize,
    /// Who looks sleeps until the next request.
    dozing: bool,
    /// Requests queue up: who looks is to take the turn at once.
    hurry: bool,
    /// Requests that may be slow, since one was.
    slow: u32,
}

impl Turn {
    /// Waits until it is the calling thread's turn.
    pub(crate) fn take(&self) {
        let mut state = self.lock();
        loop {
            if !state.taken {
                return self.begin(state);
            }
            if !state.watched {
                return self.watch(state);
            }
            state.spares += 1;
            state = self.spare.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.spares -= 1;
        }
    }

    /// Gives the turn up after a request was read, `now_ns`; in a `hurry` somebody else takes it
    /// at once, if there is anybody.
    pub(crate) fn pass(&self, now_ns: u64, hurry: bool) {
        let mut state = self.lock();
        state.taken = false;
        state.read_ns = now_ns;
        let hurry = hurry || state.slow > 0;
        state.slow = state.slow.saturating_sub(1);
        state.hurry |= hurry;
        if state.watched && (state.dozing || hurry) {
            state.dozing = false;
            self.watch.notify_one();
        }
    }

    /// Looks until the turn is left lying, and takes it.
    fn watch(&self, mut state: MutexGuard<'_, State>) {
        state.watched = true;
        let mut seen = None;
        loop {
            let is_left = seen == Some(state.times);
            if !state.taken && (state.hurry || is_left) {
                if is_left {
                    state.slow = SLOW;
                }
                state.watched = false;
                return self.begin(state);
            }
            seen = (!state.taken).then_some(state.times);
            let is_quiet = state.taken && sys::clock::monotonic_ns() - state.read_ns > QUIET_NS;
            state = if is_quiet {
                state.dozing = true;
                self.watch.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                let waited = self.watch.wait_timeout(state, TICK);
                waited.unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    /// Takes the turn; if nobody looks after it, one who waits is to do so.
    fn begin(&self, mut state: MutexGuard<'_, State>) {
        state.taken = true;
        state.hurry = false;
        state.times += 1;
        if !state.watched && state.spares > 0 {
            self.spare.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic ends the process.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
