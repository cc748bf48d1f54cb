//! Spaces as their users meet them: real VMs on host A, real IPsec to B and C.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test fails by panicking, and uses sockets as any program would"
)]

mod disks;
mod failures;
mod fair;
mod files;
mod frames;
mod inherited;
mod life;
mod local;
mod observed;
mod overlays;
mod peer;
mod tunnel;
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
            ("a flood from one space does not stop another", life::a_flood),
            (
                "a quiet space keeps its round trip beside a flood",
                fair::a_quiet_space_beside_a_flood,
            ),
            ("two spaces bound to each other talk within the switch", local::two_bound_spaces),
            ("what a space writes stays in its own layer", files::own_layer),
            ("a child of a running space goes its own way", files::a_child_of_a_running_space),
            ("files that are open go on inside where they were", inherited::go_on),
            ("a file that is open and not inside stops the run", inherited::cannot),
            ("what a space writes to its disk stays in its own layer", disks::own_layer),
            ("what a guest flushed survives its VM process", disks::flushed_is_kept),
            ("a space has several disks, each its own", disks::several),
            ("a disk that does not fit its layer is refused and kept", disks::refused),
            ("a file is fetched whole from python's web server", files::a_fetched_file),
            ("nothing but ESP leaves, whatever the guest sends", wire::nothing_but_esp_leaves),
            ("nothing but ESP leaves through a tunnel", tunnel::nothing_but_esp_leaves),
            ("what a hostile peer sends is counted and gets nowhere", peer::nothing_bad_gets_in),
            ("a guest bears garbage that its peer sealed", peer::garbage_from_the_peer),
            ("a narrow SA carries only what it is for", peer::a_narrow_sa),
            ("a space works with every suite", overlays::every_suite),
            ("a space works through tunnels, raw ESP and IPv6", overlays::tunnels),
            ("everything that is counted is shown, and no key", observed::counters),
            ("a silent peer is diagnosed", observed::a_silent_peer),
            ("packets are captured inside and outside", observed::captures),
            ("a plugged space outlives its front ends", observed::a_plugged_space),
            ("a bad file is refused with its place", failures::bad_files),
            ("a port in use is refused with the remedy", failures::a_port_in_use),
            ("an SPI that is taken is refused", failures::an_spi_that_is_taken),
            ("a killed VM process takes nothing else along", failures::a_killed_vm),
            ("a killed switch ends its spaces with a sentence", failures::a_killed_switch),
        ],
    )
}
