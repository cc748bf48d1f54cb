//! strongSwan's ESP in user space, keyed by its own IKE: as it is, and against ours.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod keyed;

use std::process::ExitCode;

use tests::{Case, as_portspace, cases_in_lab};

fn main() -> ExitCode {
    if let Some(code) = as_portspace() {
        return code;
    }
    let cases: Vec<Case> = vec![
        ("strongSwan's tunnel carries pings".to_owned(), Box::new(keyed::its_own_tunnel)),
        (
            "our ESP goes on where strongSwan's ended, with the keys of its IKE".to_owned(),
            Box::new(keyed::our_end_of_its_tunnel),
        ),
    ];
    cases_in_lab("the tests with strongSwan", &["/dev/net/tun"], cases)
}
