//! Front ends and drivers nobody here wrote: QEMU with Debian's kernel is one more space of the
//! switch, and sees a space's files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod files;
mod machine;
mod traffic;

use std::process::ExitCode;

use tests::{as_portspace, in_lab};

fn main() -> ExitCode {
    if let Some(code) = as_portspace() {
        return code;
    }
    in_lab(
        "the tests with QEMU",
        &[
            ("an unmodified QEMU is one more space, killed and plugged in again", traffic::plugged),
            ("Linux's own virtio-fs has a space's files", files::seen),
            (
                "Linux writes back what it caches where nobody else changes anything",
                files::written_back,
            ),
        ],
    )
}
