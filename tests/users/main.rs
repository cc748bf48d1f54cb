//! Who uses spaces, and how: ordinary users, several commands at once, and what
//! is left when a process is killed.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test fails by panicking, and uses files as any program would"
)]

mod atonce;
mod killed;
mod ordinary;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(status) = tests::as_portspace() {
        return status;
    }
    tests::in_lab(
        "the tests",
        &[
            ("a user without any capability has spaces", ordinary::a_space_lives),
            ("without the right to /dev/kvm the sentence says how to get it", ordinary::no_right),
            ("a user's directories that others may enter are refused", ordinary::open_directories),
            ("of many that start one space at once, one does", atonce::starts),
            ("many programs run in a space at once", atonce::runs),
            ("a stop ends the program that runs inside, and says so", atonce::a_stop),
            ("a space that runs is not removed", atonce::a_removal),
            ("a layer that another VM has open is refused", atonce::one_layer),
            ("a refused start leaves no process, socket or file", killed::a_refused_start),
            ("a killed bare endpoint takes its device and route along", killed::bare),
            ("a killed command leaves the space as it was", killed::a_run),
        ],
    )
}
