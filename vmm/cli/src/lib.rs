//! The portspace command: configuration, lifecycle of spaces, the demo and the
//! benches. The processes it starts are the same binary in other roles.
#![expect(
    clippy::disallowed_types,
    reason = "the command reads files and measures with plain sockets, as any program would"
)]

/// Prints a line of a result; nobody who reads it any more (`| head`) ends the command quietly.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        if writeln!(std::io::stdout(), $($text)*).is_err() {
            std::process::exit(1);
        }
    }};
}

pub mod bench;
mod commands;
pub mod config;
pub mod demo;
pub mod doctor;
mod failure;
mod files;
pub mod lab;
mod lifecycle;
mod lineage;
mod link;
mod locks;
mod mounting;
pub mod paths;
mod pcapng;
mod plot;
mod processes;
mod progress;
pub mod report;
mod seen;
mod table;
pub mod tool;
mod verdict;
mod vm;

use std::process::ExitCode;

use clap::Parser;

pub use failure::{Failure, Outcome};

/// Runs the command line and returns its exit status: 1 for a failure, 2 for wrong usage.
pub fn main() -> ExitCode {
    match commands::Cli::parse().run() {
        Ok(status) => status,
        Err(failure) => {
            eprintln!("portspace: {}", failure.chain());
            ExitCode::FAILURE
        }
    }
}
