//! What many SAs and many spaces cost the one that is busy.
//!
//! Every size is measured in every round, up and then down again, so that a
//! drift of the machine does not show as growth.

mod fill;
mod lookup;
mod memory;
mod spaces;
mod switch;

use std::process::ExitCode;

use ::switch::overlay::Suite;

use super::Output;
use super::ways::{echo, personal_round_trips};
use crate::failure::Outcome;
use crate::lab::{self, Lab, Peer};
use crate::plot;
use crate::progress::Progress;
use crate::report::{Distribution, Scale};

/// What is measured, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rounds of each part; up and down in turn.
    pub rounds: u32,
    /// Round trips per measurement.
    pub count: u32,
    /// The algorithm of every SA.
    pub suite: Suite,
    /// How many SAs, ascending.
    pub sas: Vec<u32>,
    /// How many running spaces, ascending.
    pub spaces: Vec<u32>,
}

/// `bench scale`, inside the lab.
///
/// # Errors
/// Something could not be started or measured.
pub fn inside(plan: &Plan, output: &Output) -> Outcome<ExitCode> {
    let plots = output.plots()?;
    lab::settle()?;
    let progress = Progress::new();
    let mut scale = Scale { suite: plan.suite.name().to_owned(), ..Scale::default() };
    scale.lookup = lookup::measure(plan, &progress)?;
    progress.step("making hosts A, B");
    let lab = Lab::build()?;
    let _echo = echo(&lab, Peer::B)?;
    scale.sas = switch::measure(&lab, plan, &progress)?;
    scale.spaces = spaces::measure(&lab, plan, &progress)?;
    drop(progress);
    output.print(&scale, Scale::text);
    plots.write("scale.svg", &plot::scale(&scale))?;
    Ok(ExitCode::SUCCESS)
}

/// Something that grows in steps and shrinks by the same steps.
trait Growing {
    /// Grows to the size at this place from the one below it.
    fn grow(&mut self, step: usize) -> Outcome<()>;

    /// Shrinks from the size at this place to the one below it.
    fn shrink(&mut self, step: usize) -> Outcome<()>;
}

/// The round trips of the busy space at every size, in rounds.
fn measure_sizes(
    lab: &Lab,
    plan: &Plan,
    (sizes, what): (&[u32], &str),
    growing: &mut impl Growing,
    progress: &Progress,
) -> Outcome<Vec<Vec<Distribution>>> {
    let mut taken = vec![Vec::new(); sizes.len()];
    let mut measure = |step: usize, round: u32| {
        let (round, rounds) = (round + 1, plan.rounds);
        progress.step(&format!("{} {what}: round {round} of {rounds}", sizes[step]));
        let figures = progress.quiet(|| personal_round_trips(lab, plan.count))?;
        taken[step].push(figures);
        Outcome::Ok(())
    };
    personal_round_trips(lab, plan.count.min(500))?;
    for round in 0..plan.rounds {
        let up = round % 2 == 0;
        let mut steps: Vec<usize> = (0..sizes.len()).collect();
        if !up {
            steps.reverse();
        }
        for step in steps {
            if up {
                progress.step(&format!("{} {what}: filling", sizes[step]));
                growing.grow(step)?;
            }
            measure(step, round)?;
            if !up {
                progress.step(&format!("{} {what}: emptying", sizes[step]));
                growing.shrink(step)?;
            }
        }
    }
    Ok(taken)
}
