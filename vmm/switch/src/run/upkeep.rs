//! What has to be done from time to time though no packet comes.

use sys::clock::monotonic_ns;

use super::Switch;

const SECOND_NS: u64 = 1_000_000_000;

/// When the next upkeep is due.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    due_ns: u64,
}

impl Upkeep {
    pub(super) fn due_ns(&self) -> u64 {
        self.due_ns
    }

    /// Something changed: to be seen to at the next occasion.
    pub(super) fn soon(&mut self) {
        self.due_ns = 0;
    }

    /// The clock of the SAs' lifetimes, seconds.
    pub(super) fn now_s(&self) -> u64 {
        monotonic_ns() / SECOND_NS
    }
}

impl Switch {
    /// Sends keepalives that are due, and lets SAs and what is known of ways grow old.
    pub(super) fn keep_up(&mut self) {
        let now_ns = monotonic_ns();
        if now_ns < self.upkeep.due_ns {
            return;
        }
        let kept = self.tunnels.keep_alive(now_ns, &mut self.batch);
        self.counters.keepalives += kept.sent;
        if !self.batch.is_empty() {
            self.sockets.send(&mut self.batch, &mut self.counters);
        }
        self.upkeep.due_ns = kept.due_ns;
        if self.tunnels.ages() {
            self.tunnels.expire(now_ns / SECOND_NS);
            self.tunnels.forget_paths(now_ns);
            self.upkeep.due_ns = self.upkeep.due_ns.min(now_ns + SECOND_NS);
        }
    }

    /// Hears what the network says about packets that were too long.
    pub(super) fn hear_errors(&mut self) {
        let (tunnels, now_ns) = (&mut self.tunnels, monotonic_ns());
        self.sockets.errors(|error, is_udp| tunnels.too_big(error, is_udp, now_ns));
        self.upkeep.soon();
    }
}
