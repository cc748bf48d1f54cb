//! Spaces as their users meet them: real VMs on host A, real IPsec to B and C.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test fails by panicking, and uses sockets as any program would"
)]

mod failures;
mod life;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(status) = tests::as_portspace() {
        return status;
    }
    tests::in_lab(
        "the tests",
        &[
            ("a space lives from up to rm", life::a_space_lives),
            ("two spaces share an address and reach their own peer alone", life::two_spaces),
            ("what a space writes stays in its own layer", life::files),
            ("nothing but ESP leaves, whatever the guest sends", wire::nothing_but_esp_leaves),
            ("a hostile peer changes nothing and is counted", wire::a_hostile_peer),
            ("a bad file is refused with its place", failures::bad_files),
            ("a port in use is refused with the remedy", failures::a_port_in_use),
            ("an SPI that is taken is refused", failures::an_spi_that_is_taken),
            ("a killed VM process takes nothing else along", failures::a_killed_vm),
            ("a killed switch ends its spaces with a sentence", failures::a_killed_switch),
        ],
    )
}
