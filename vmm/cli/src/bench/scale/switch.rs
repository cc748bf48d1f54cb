//! Round trips of one busy space while the switch holds further SAs.

use super::fill::Fill;
use super::memory::switch_kib;
use super::{Growing, Plan, measure_sizes};
use crate::bench::ways::{SPACE, start_personal, stop};
use crate::failure::Outcome;
use crate::lab::Lab;
use crate::progress::Progress;
use crate::report::{Figures, Sas, Spread};

/// The SPIs of the busy space.
const SPI: u32 = 0x3000;

/// A switch with one busy space, and what fills it.
struct Filled<'a> {
    lab: &'a Lab,
    /// How many pairs of SAs at each step, the busy space's included.
    sizes: &'a [u32],
    fill: Fill,
    /// How many there were, and the switch's memory, when each step was reached first.
    seen: Vec<(u32, u64)>,
}

/// Measures every size.
pub(super) fn measure(lab: &Lab, plan: &Plan, progress: &Progress) -> Outcome<Vec<Sas>> {
    progress.step("starting the busy space");
    let far = start_personal(lab, plan.suite, SPI)?;
    let fill = Fill::new(lab, plan.suite)?;
    let mut filled = Filled { lab, sizes: &plan.sas, fill, seen: vec![(0, 0); plan.sas.len()] };
    let what = (&plan.sas[..], "SA pairs in the switch");
    let taken = measure_sizes(lab, plan, what, &mut filled, progress)?;
    let Filled { mut fill, seen, .. } = filled;
    fill.shrink_to(0)?;
    // Without us and its last space the switch ends: the next one begins with empty hands.
    drop(fill);
    stop(lab, SPACE)?;
    drop(far);
    let rows = plan.sas.iter().zip(&taken).zip(&seen).map(|((&wanted, rounds), seen)| Sas {
        wanted: wanted.into(),
        pairs: seen.0.into(),
        rtt: Figures::of(rounds),
        growth: Spread::of_medians(rounds, &taken[0]),
        switch_kib: seen.1,
    });
    Ok(rows.collect())
}

impl Growing for Filled<'_> {
    fn grow(&mut self, step: usize) -> Outcome<()> {
        self.fill.grow_to(self.sizes[step] - 1)?;
        // The first time: what was freed in between need not be given back.
        if self.seen[step].0 == 0 {
            self.seen[step] = (self.fill.pairs() + 1, switch_kib(self.lab)?);
        }
        Ok(())
    }

    fn shrink(&mut self, step: usize) -> Outcome<()> {
        let below = step.checked_sub(1).map_or(1, |step| self.sizes[step]);
        self.fill.shrink_to(below - 1)
    }
}
