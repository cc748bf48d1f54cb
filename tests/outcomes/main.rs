//! What guests and peers do wrong: each is counted under its own reason, and
//! changes nothing else.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test fails by panicking, and uses sockets as any program would"
)]

mod guest;
mod peer;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(status) = tests::as_portspace() {
        return status;
    }
    tests::in_lab(
        "the tests",
        &[
            ("each frame that may not leave is dropped for its own reason", guest::each_frame),
            ("ARP is answered by the switch and never leaves", guest::arp),
            ("each packet of a hostile peer is dropped for its own reason", peer::each_packet),
            ("a packet outside an SA's narrow selector is dropped for that", peer::selectors),
        ],
    )
}
