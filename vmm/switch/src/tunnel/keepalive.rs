//! NAT keepalives (RFC 3948 4): one for each peer that nothing was sent to for a while, however
//! many SAs lead there.

use std::collections::HashMap;
use std::net::SocketAddr;

use esp::natt::KEEPALIVE;

use super::Tunnels;
use crate::batch::{Batch, Route};

const SECOND_NS: u64 = 1_000_000_000;

/// What a round of keepalives came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptAlive {
    /// Keepalives written.
    pub sent: u64,
    /// When the next round is due, nanoseconds; `u64::MAX`: never.
    pub due_ns: u64,
}

impl Tunnels {
    /// Writes the keepalives that are due at `now_ns` into `batch`.
    pub fn keep_alive(&mut self, now_ns: u64, batch: &mut Batch) -> KeptAlive {
        // Each mapping of a NAT: the last packet on it, and the shortest silence it is given.
        let mut mappings: HashMap<(SocketAddr, SocketAddr), (u64, u64)> = HashMap::new();
        for tunnel in self.iter().filter(|tunnel| tunnel.keepalive_s > 0) {
            let silence_ns = u64::from(tunnel.keepalive_s) * SECOND_NS;
            let (sent_ns, shortest_ns) =
                mappings.entry((tunnel.local, tunnel.peer)).or_insert((0, silence_ns));
            *sent_ns = tunnel.sent_ns.max(*sent_ns);
            *shortest_ns = silence_ns.min(*shortest_ns);
        }
        let mut kept = KeptAlive { sent: 0, due_ns: u64::MAX };
        for (&(from, to), &(sent_ns, silence_ns)) in &mappings {
            let mut due_ns = sent_ns.saturating_add(silence_ns);
            if due_ns <= now_ns {
                batch.add(Route { from, to, tos: 0 }, &KEEPALIVE);
                kept.sent += 1;
                due_ns = now_ns.saturating_add(silence_ns);
                let theirs = |(local, peer)| (local, peer) == (from, to);
                for tunnel in self.tunnels.iter_mut().flatten() {
                    if theirs((tunnel.local, tunnel.peer)) {
                        tunnel.sent_ns = now_ns;
                    }
                }
            }
            kept.due_ns = kept.due_ns.min(due_ns);
        }
        kept
    }

    /// Whether anything here changes by time alone: lifetimes in seconds, or what is known of a way.
    pub fn ages(&self) -> bool {
        self.iter().any(|tunnel| tunnel.has_lifetime || tunnel.path.is_told())
    }
}
