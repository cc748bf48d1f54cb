//! What is told about the switch.

use super::Switch;
use super::spaces::Space;
use crate::control::{LoopCounters, PairStatus, SpaceStatus, Status};
use crate::tunnel::{PairView, Place};

impl Switch {
    /// The switch and all of its spaces.
    pub(super) fn status(&self) -> Status {
        Status {
            spaces: self.spaces.iter().filter_map(|(at, space)| self.space(at, space)).collect(),
            strays: self.tunnels.strays.by_name(),
            turns: LoopCounters {
                spins_won: self.spin.won,
                spins_lost: self.spin.lost,
                ..self.counters
            },
        }
    }

    fn space(&self, place: Place, space: &Space) -> Option<SpaceStatus> {
        let tunnel = self.tunnels.get(place)?;
        let pairs =
            (0..tunnel.pairs()).filter_map(|index| match self.tunnels.pair(place, index)? {
                PairView::Sealed(inbound, outbound) => Some(PairStatus::new(inbound, outbound)),
                PairView::Local(_) => None,
            });
        let running = space.backend.as_ref().is_some_and(|backend| backend.device().is_running());
        Some(SpaceStatus {
            space: space.name.clone(),
            local: tunnel.local(),
            peer: tunnel.peer(),
            mac: crate::frame::mac(place),
            mtu: tunnel.mtu(),
            running,
            first_answer_ns: space.first_answer_ns,
            drops: tunnel.drops.by_name(),
            pairs: pairs.collect(),
        })
    }
}
