//! tshark, given the keys, reads what we seal: packets of every suite it knows,
//! and a capture of a space as `portspace capture` writes it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod capture;
mod dissect;

use std::process::ExitCode;

use esp::{Aead, Suite};
use tests::{Case, as_portspace, cases_in_lab};

fn main() -> ExitCode {
    if let Some(code) = as_portspace() {
        return code;
    }
    // tshark 4.0 has no ChaCha20-Poly1305 for ESP, and no 64-bit sequence numbers.
    let known = |suite: &Suite| *suite != Suite::Aead(Aead::ChaCha20Poly1305);
    let mut cases: Vec<Case> = Vec::new();
    for suite in Suite::ALL.into_iter().filter(known) {
        cases.push((
            format!("tshark reads what we seal: {suite}"),
            Box::new(move |lab| {
                dissect::must_be_there();
                dissect::reads_what_we_seal(&lab.a.directory, suite);
            }),
        ));
    }
    cases.push((
        "tshark reads a capture of a space".to_owned(),
        Box::new(|lab| {
            dissect::must_be_there();
            capture::of_a_space(lab);
        }),
    ));
    cases_in_lab("the tests with tshark", &["/dev/kvm", "/dev/net/tun"], cases)
}
