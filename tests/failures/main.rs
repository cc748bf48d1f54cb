//! What the user or the machine does wrong, and what becomes of it: one sentence,
//! a non-zero exit, nothing left behind.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod guest;
mod refused;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(status) = tests::as_portspace() {
        return status;
    }
    tests::in_lab(
        "the tests",
        &[
            ("a missing file is named", refused::a_missing_file),
            ("a mistake is named by file, line and field", refused::mistakes),
            ("an address of another host is refused", refused::a_foreign_address),
            ("a peer without a route to it is refused", refused::no_route),
            ("a missing root is refused with its place", refused::a_missing_root),
            ("without /dev/kvm the sentence names it", refused::no_kvm),
            ("bare without /dev/net/tun says so", refused::no_tun),
            ("run in a space that is not there says so", refused::no_such_space),
            ("a guest that panics is quoted by run, ls and inspect", guest::a_panic),
            ("a killed VM process is said to be killed", guest::a_killed_vm),
            ("Ctrl-C ends the program inside with status 130", guest::an_interrupt),
            ("a full disk is the program's error alone", guest::a_full_disk),
            ("a listing that nobody reads ends quietly", guest::an_unread_listing),
            ("output that nobody reads ends run, not the space", guest::a_closed_pipe),
        ],
    )
}
