//! `portspace bench`: what is measured, and how much of it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, value_parser};
use switch::overlay::Suite;

use crate::bench::{Output, SUITES, dataplane, files, rtt, scale, throughput};
use crate::failure::{Failure, Outcome};
use crate::lab;

/// The hidden command that measures inside the lab.
pub(super) const INSIDE: &str = "bench-inside";

#[derive(Subcommand)]
pub(super) enum Bench {
    /// TCP round trips of 1 byte: no IPsec, bare IPsec, personal network
    Rtt {
        /// Rounds per algorithm, each of all three ways
        #[arg(long, default_value_t = 12, value_parser = value_parser!(u32).range(1..=1000))]
        rounds: u32,
        /// Round trips per measurement
        #[arg(long, default_value_t = 2000, value_parser = value_parser!(u32).range(1..=10_000_000))]
        count: u32,
        #[command(flatten)]
        suites: Suites,
        #[command(flatten)]
        results: Results,
    },
    /// TCP and UDP throughput, both directions: no IPsec, bare IPsec, personal network
    Throughput {
        /// Rounds per algorithm and stream, each of all ways
        #[arg(long, default_value_t = 6, value_parser = value_parser!(u32).range(1..=1000))]
        rounds: u32,
        /// Seconds of one measurement
        #[arg(long, default_value_t = 0.4, value_parser = seconds)]
        seconds: f64,
        #[command(flatten)]
        suites: Suites,
        #[command(flatten)]
        results: Results,
    },
    /// A packet of 1400 bytes without sockets, against the cipher alone
    Dataplane {
        /// Rounds, each of every way
        #[arg(long, default_value_t = 40, value_parser = value_parser!(u32).range(1..=1_000_000))]
        rounds: u32,
        #[command(flatten)]
        results: Results,
    },
    /// Lookup and round trip with many SAs and with many running spaces
    Scale {
        /// Rounds, each of every size
        #[arg(long, default_value_t = 6, value_parser = value_parser!(u32).range(1..=1000))]
        rounds: u32,
        /// Round trips per measurement
        #[arg(long, default_value_t = 2000, value_parser = value_parser!(u32).range(1..=10_000_000))]
        count: u32,
        /// The algorithm of every SA
        #[arg(long, default_value_t = SUITES[2])]
        suite: Suite,
        /// How many SAs, ascending
        #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 10_000, 1_000_000],
              value_parser = value_parser!(u32).range(1..=4_000_000))]
        sas: Vec<u32>,
        /// How many running spaces, ascending
        #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 128],
              value_parser = value_parser!(u32).range(1..=1000))]
        spaces: Vec<u32>,
        #[command(flatten)]
        results: Results,
    },
    /// Files through a mounted space: plain file system, overlayfs, fuse-overlayfs
    Files {
        /// Rounds, each of every system
        #[arg(long, default_value_t = 4, value_parser = value_parser!(u32).range(1..=100))]
        rounds: u32,
        /// Less of everything: a few seconds instead of minutes
        #[arg(long)]
        quick: bool,
        /// Also the first ls in a tree of a million files (takes minutes)
        #[arg(long)]
        large: bool,
        /// The disk that is measured on: a directory of it
        #[arg(long, value_name = "DIRECTORY", default_value = "/var/tmp")]
        directory: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// The directory that was made for it
        #[arg(long, hide = true)]
        place: Option<PathBuf>,
    },
}

/// Which algorithms.
#[derive(Args)]
pub(super) struct Suites {
    /// Algorithms, such as aes-gcm-256; by default one of each kind
    #[arg(long = "suite", value_name = "SUITE")]
    named: Vec<Suite>,
}

impl Suites {
    fn chosen(self) -> Vec<Suite> {
        if self.named.is_empty() { SUITES.to_vec() } else { self.named }
    }
}

/// Where the results go.
#[derive(Args)]
pub(super) struct Results {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Where the plots are written
    #[arg(long, value_name = "DIRECTORY", default_value = "target/bench")]
    plots: PathBuf,
}

impl Results {
    fn output(self) -> Output {
        Output { json: self.json, plots: self.plots }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.05..=60.0).contains(seconds));
    seconds.ok_or_else(|| "not a number of seconds from 0.05 to 60".to_owned())
}

/// Enters a lab and runs there what this command line says; what needs no lab runs here.
pub(super) fn enter(what: Bench) -> Outcome<ExitCode> {
    if matches!(what, Bench::Dataplane { .. }) {
        return inside(what);
    }
    let place = match &what {
        Bench::Files { directory, .. } => Some(files::Place::make(directory)?),
        _ => None,
    };
    // As it was written, with the one word exchanged: every option goes through.
    let words = std::env::args_os().skip(2).map(|word| word.to_string_lossy().into_owned());
    let mut arguments: Vec<String> = std::iter::once(INSIDE.to_owned()).chain(words).collect();
    if let Some(place) = &place {
        arguments.extend(["--place".to_owned(), place.path().display().to_string()]);
    }
    lab::enter("bench", &arguments)
}

/// Measures, inside the lab.
pub(super) fn inside(what: Bench) -> Outcome<ExitCode> {
    match what {
        Bench::Rtt { rounds, count, suites, results } => {
            let pace = rtt::Pace { rounds, count };
            rtt::inside(pace, &suites.chosen(), &results.output())
        }
        Bench::Throughput { rounds, seconds, suites, results } => {
            let pace = throughput::Pace { rounds, seconds };
            throughput::inside(pace, &suites.chosen(), &results.output())
        }
        Bench::Dataplane { rounds, results } => dataplane::run(rounds, &results.output()),
        Bench::Files { rounds, quick, large, json, place, directory: _ } => {
            let place = place.ok_or_else(|| Failure::new("use: portspace bench files"))?;
            let sizes = if quick { files::Sizes::QUICK } else { files::Sizes::FULL };
            files::inside(&files::Plan { rounds, sizes, large }, &place, json)
        }
        Bench::Scale { rounds, count, suite, sas, spaces, results } => {
            if [&sas, &spaces].iter().any(|sizes| !sizes.is_sorted_by(|a, b| a < b)) {
                return Err(Failure::new(
                    "the sizes of bench scale must ascend: each above the last",
                ));
            }
            let plan = scale::Plan { rounds, count, suite, sas, spaces };
            scale::inside(&plan, &results.output())
        }
    }
}
