//! Our ESP against the Linux kernel's: a kernel that runs as a process, keyed with
//! the same SAs as we are.
#![expect(
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "tests use files and sockets as any program would, and panic where it is wrong"
)]

mod counters;
mod row;
mod uml;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use cli::lab::Lab;
use switch::overlay::Suite;
use tests::{Case, Linux, as_portspace, cases_in_lab, ignore};

use row::{Mode, Row};
use uml::{Family, Neighbour};

/// The suites that go through every mode; the others are no different there.
const EVERYWHERE: [&str; 3] = ["null+hmac-sha256", "aes-cbc-256+hmac-sha256", "aes-gcm-256"];

fn main() -> ExitCode {
    if let Some(code) = as_portspace() {
        return code;
    }
    let peer = Peer::default();
    let mut cases: Vec<Case> = Vec::new();
    for row in rows() {
        let peer = peer.clone();
        cases.push((
            format!("Linux and we carry each other's traffic: {}", row.name()),
            Box::new(move |lab| peer.with(lab, |linux| row.carries(lab, linux))),
        ));
    }
    let counted = |row: &Row| {
        row.in_udp && row.mode == Mode::Transport && EVERYWHERE.contains(&row.suite.name())
    };
    for row in rows().into_iter().filter(counted) {
        let peer = peer.clone();
        cases.push((
            format!("Linux counts exactly what we replay and corrupt: {}", row.name()),
            Box::new(move |lab| {
                peer.with(lab, |linux| counters::replays_and_forgeries(lab, linux, row));
            }),
        ));
    }
    cases_in_lab("the tests with Linux", &["/dev/net/tun"], cases)
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for suite in Suite::ALL {
        let plain =
            Row { suite, mode: Mode::Transport, outer: Family::V4, in_udp: true, esn: false };
        if !EVERYWHERE.contains(&suite.name()) {
            rows.push(plain);
            continue;
        }
        let inner = Family::ALL.map(Mode::Tunnel);
        for mode in [Mode::Transport].into_iter().chain(inner) {
            for outer in Family::ALL {
                for in_udp in [true, false] {
                    for esn in [false, true] {
                        rows.push(Row { mode, outer, in_udp, esn, ..plain });
                    }
                }
            }
        }
    }
    rows
}

/// The one kernel of all tests, booted by the first.
#[derive(Clone, Default)]
struct Peer(Arc<Mutex<Option<Result<Neighbour, String>>>>);

impl Peer {
    fn with(&self, lab: &Lab, test: impl FnOnce(&mut Linux)) {
        // A test that failed leaves the kernel to the next one.
        let mut linux = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match linux.get_or_insert_with(|| uml::boot(lab)) {
            Ok(neighbour) => test(&mut neighbour.linux),
            Err(missing) => ignore(missing.clone()),
        }
    }
}
