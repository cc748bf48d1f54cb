//! How much goes through: no IPsec, bare IPsec, a personal network.
//!
//! TCP and UDP, both directions, every algorithm, in interleaved rounds of one run.

use std::process::ExitCode;

use switch::overlay::Suite;

use super::flow::Sinks;
use super::orders::fair;
use super::ways::{Way, Ways, echoes};
use super::{Output, strongswan};
use crate::failure::Outcome;
use crate::lab::{self, Lab};
use crate::plot;
use crate::progress::Progress;
use crate::report::{Rate, Row, Sent, Stream, Strongswan, Throughput};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Rounds per algorithm, each of all ways.
    pub rounds: u32,
    /// Seconds of one measurement.
    pub seconds: f64,
}

/// `bench throughput`, inside the lab.
///
/// # Errors
/// Something could not be started or measured.
pub fn inside(pace: Pace, suites: &[Suite], output: &Output) -> Outcome<ExitCode> {
    let plots = output.plots()?;
    lab::settle()?;
    let progress = Progress::new();
    progress.step("making hosts A, B, D, E");
    let lab = Lab::build()?;
    let _echoes = echoes(&lab)?;
    let mut sinks = Sinks::start(&lab)?;
    let mut report = Throughput::default();
    for (index, &suite) in suites.iter().enumerate() {
        progress.step(&format!("{suite}: starting"));
        let ways = Ways::start(&lab, suite, 0x2000 + 0x10 * index as u32)?;
        sinks.start_inside(&lab)?;
        measure(&sinks, suite, pace, &progress, &mut report)?;
        if index + 1 == suites.len() {
            let what = (suite, pace);
            report.strongswan = Some(strongswan::measure(&lab, &ways, &sinks, what, &progress)?);
        }
        sinks.stop_inside();
        ways.stop()?;
    }
    drop(progress);
    output.print(&report, Throughput::text);
    plots.write("throughput.svg", &plot::throughput(&report))?;
    if let Some(Strongswan::Measured(against)) = &report.strongswan {
        plots.write("strongswan.svg", &plot::against(against))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Fills the rows of one algorithm.
fn measure(
    sinks: &Sinks<'_>,
    suite: Suite,
    pace: Pace,
    progress: &Progress,
    report: &mut Throughput,
) -> Outcome<()> {
    let orders = fair(Way::ALL.len());
    for stream in Stream::ALL {
        let name = stream.name();
        let mut taken: [Vec<Sent>; 3] = Default::default();
        for round in 0..pace.rounds {
            progress.step(&format!("{suite}: {name}, round {} of {}", round + 1, pace.rounds));
            for &way in &orders[round as usize % orders.len()] {
                let send = || sinks.send(Way::ALL[way], stream, pace.seconds);
                taken[way].push(progress.quiet(send)?);
            }
        }
        let [base, bare, personal] =
            [0, 1, 2].map(|way: usize| Rate::of(&taken[way], stream.transport));
        let ratio_personal_bare = Sent::ratios(&taken[2], &taken[1]);
        let suite = suite.name().to_owned();
        progress
            .done(&format!("{suite}: {name}: personal / bare {:.2}", ratio_personal_bare.median));
        report.rows.push(Row { suite, stream, base, bare, personal, ratio_personal_bare });
    }
    Ok(())
}
