//! The harness of the whole-system tests: real processes, real VMs, in hosts made
//! out of network namespaces.
//!
//! A test binary is the portspace binary under test at the same time: the lab
//! starts `/proc/self/exe` in its roles.
#![expect(clippy::disallowed_types, reason = "tests use files and sockets as any program would")]

mod linux;
mod python;
mod space;
mod tree;

use std::fs::OpenOptions;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;

use cli::lab::{self, Lab};
use libtest_mimic::{Arguments, Completion, Trial};

pub use linux::{Linux, SHELL, Said};
pub use python::python;
pub use space::{PATIENCE, Space, echo_server, eventually, in_hex, run};
pub use tree::{Tree, tree};

/// A test by the sentence it proves. It panics where that is wrong.
pub type Test = (&'static str, fn(&Lab));

/// A test of a table, made for one row of it.
pub type Case = (String, Box<dyn FnOnce(&Lab) + Send>);

/// The first argument of the process that runs the tests inside the lab.
const INSIDE: &str = "tests-inside";

/// The first argument of a process that only finds out whether there can be a lab.
const TRY: &str = "tests-try";

/// Whether this process is to be portspace, started by the lab: then it is, and its status is given.
pub fn as_portspace() -> Option<ExitCode> {
    const ROLES: &[&str] = &[
        "up",
        "run",
        "ls",
        "inspect",
        "stop",
        "rm",
        "mount",
        "diff",
        "commit",
        "discard",
        "bare",
        "plug",
        "switch",
        "sa",
        "policy",
        "capture",
        "switch-process",
        "vm",
        "mount-process",
        "tool",
        "lab-threshold",
        "demo",
    ];
    let first = std::env::args().nth(1)?;
    let is_role = ROLES.contains(&first.as_str()) || first == "demo-inside";
    is_role.then(cli::main)
}

/// Runs `tests` one after the other inside a lab of their own, or ignores them all with the reason.
pub fn in_lab(what: &str, tests: &'static [Test]) -> ExitCode {
    let cases = tests.iter().map(|(name, test)| -> Case { ((*name).to_owned(), Box::new(test)) });
    cases_in_lab(what, &["/dev/kvm", "/dev/net/tun"], cases.collect())
}

/// The same for tests that were made, and need these `devices` alone.
pub fn cases_in_lab(what: &str, devices: &[&str], cases: Vec<Case>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(TRY) => ExitCode::SUCCESS,
        Some(INSIDE) => {
            lab::settle().expect("the first process of a lab settles in it");
            let lab: &'static Lab = Box::leak(Box::new(Lab::build().expect("hosts can be made")));
            let trials = cases.into_iter().map(|(name, test)| trial(&name, move || test(lab)));
            let mut arguments = Arguments::from_iter(arguments);
            arguments.filter = arguments.filter.take().filter(|filter| filter != INSIDE);
            arguments.test_threads = Some(1);
            libtest_mimic::run(&arguments, trials.collect()).exit_code()
        }
        _ => {
            let listed = arguments.iter().any(|argument| argument == "--list");
            let missing = if listed { Err(String::new()) } else { means_of(devices) };
            if let Err(reason) = missing {
                let trials = cases.iter().map(|(name, _)| ignored(name, &reason)).collect();
                return libtest_mimic::run(&Arguments::from_args(), trials).exit_code();
            }
            let inside: Vec<String> = std::iter::once(INSIDE.to_owned()).chain(arguments).collect();
            lab::enter(what, &inside).unwrap_or_else(|failure| {
                eprintln!("{}", failure.chain());
                ExitCode::FAILURE
            })
        }
    }
}

/// A test that panics where it is wrong, and is ignored where it calls [`ignore`].
fn trial(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::ignorable_test(name, move || match std::panic::catch_unwind(AssertUnwindSafe(test)) {
        Ok(()) => Ok(Completion::Completed),
        Err(panic) => match panic.downcast::<Missing>() {
            Ok(missing) => Ok(Completion::ignored_with(missing.0)),
            Err(panic) => std::panic::resume_unwind(panic),
        },
    })
}

/// What a test lacks; unwinds through it, so that all it started ends.
struct Missing(String);

/// Ends the test as ignored: the machine lacks something that it alone needs.
pub fn ignore(reason: impl Into<String>) -> ! {
    std::panic::resume_unwind(Box::new(Missing(reason.into())))
}

/// A test that says why it is not run.
pub fn ignored(name: &str, reason: &str) -> Trial {
    let reason = reason.to_owned();
    Trial::ignorable_test(name, move || Ok(Completion::ignored_with(reason)))
}

/// Whether this machine has what tests of spaces need.
///
/// # Errors
/// What is missing, as a reason to ignore a test.
pub fn means() -> Result<(), String> {
    means_of(&["/dev/kvm", "/dev/net/tun"])
}

/// Whether there can be a lab here, and there are these devices.
fn means_of(devices: &[&str]) -> Result<(), String> {
    for device in devices {
        let opened = OpenOptions::new().read(true).write(true).open(device);
        opened.map_err(|error| format!("{device} cannot be opened: {error}"))?;
    }
    match lab::enter("a lab", &[TRY.to_owned()]) {
        Ok(code) if code == ExitCode::SUCCESS => Ok(()),
        Ok(_) => Err("namespaces cannot be made".to_owned()),
        Err(failure) => Err(format!("namespaces cannot be made: {}", failure.chain())),
    }
}
