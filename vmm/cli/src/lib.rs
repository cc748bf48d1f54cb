//! The portspace command.

use std::process::ExitCode;

/// Runs the command line and returns its exit status.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
