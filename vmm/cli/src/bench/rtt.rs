//! TCP round trips of one byte: no IPsec, bare IPsec, a personal network.
//!
//! All three in interleaved rounds of one run.

use std::process::ExitCode;

use switch::overlay::Suite;

use super::Output;
use super::orders::fair;
use super::ways::{Way, Ways, echoes};
use crate::failure::Outcome;
use crate::lab::{self, Lab};
use crate::plot;
use crate::progress::Progress;
use crate::report::{Distribution, Figures, Report, Spread};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Rounds per algorithm, each of all three ways.
    pub rounds: u32,
    /// Round trips per measurement.
    pub count: u32,
}

/// `bench rtt`, inside the lab.
///
/// # Errors
/// Something could not be started or measured.
pub fn inside(pace: Pace, suites: &[Suite], output: &Output) -> Outcome<ExitCode> {
    let plots = output.plots()?;
    lab::settle()?;
    let progress = Progress::new();
    progress.step("making hosts A, B, D, E");
    let lab = Lab::build()?;
    let mut report = Report::default();
    measure(&lab, pace, suites, &progress, &mut report)?;
    drop(progress);
    output.print(&report, Report::text);
    plots.write("rtt.svg", &plot::round_trips(&report))?;
    Ok(ExitCode::SUCCESS)
}

/// Fills the report's table.
///
/// # Errors
/// Something could not be started or measured.
pub(crate) fn measure(
    lab: &Lab,
    pace: Pace,
    suites: &[Suite],
    progress: &Progress,
    report: &mut Report,
) -> Outcome<()> {
    let _echoes = echoes(lab)?;
    let orders = fair(Way::ALL.len());
    for (index, &suite) in suites.iter().enumerate() {
        let name = suite.name().to_owned();
        progress.step(&format!("{name}: starting"));
        let ways = Ways::start(lab, suite, 0x2000 + 0x10 * index as u32)?;
        progress.step(&format!("{name}: warming up"));
        for way in Way::ALL {
            ways.round_trips(way, pace.count.min(500))?;
        }
        let mut taken: [Vec<Distribution>; 3] = Default::default();
        for round in 0..pace.rounds {
            progress.step(&format!("{name}: round {} of {}", round + 1, pace.rounds));
            for &way in &orders[round as usize % orders.len()] {
                let figures = progress.quiet(|| ways.round_trips(Way::ALL[way], pace.count))?;
                taken[way].push(figures);
            }
        }
        ways.stop()?;
        enter(report, &name, &taken);
        let ratio = report.ratio_personal_bare[&name];
        progress.done(&format!("{name}: personal / bare {:.2}", ratio.median));
    }
    Ok(())
}

fn enter(report: &mut Report, suite: &str, [base, bare, personal]: &[Vec<Distribution>; 3]) {
    let suite = suite.to_owned();
    report.rtt.base.insert(suite.clone(), Figures::of(base));
    report.rtt.bare.insert(suite.clone(), Figures::of(bare));
    report.rtt.personal.insert(suite.clone(), Figures::of(personal));
    report.ratio_personal_bare.insert(suite, Spread::of_medians(personal, bare));
}
