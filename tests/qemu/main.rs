//! The switch's vhost-user side against a front end and a driver nobody here
//! wrote: QEMU with Debian's kernel is one more space.

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
        &[("an unmodified QEMU is one more space, killed and plugged in again", traffic::plugged)],
    )
}
