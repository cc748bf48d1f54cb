//! Files through a mounted space, judged by programs that nobody here wrote.
//!
//! Each test has a space of two layers: a lower tree with contents, and its own. What is
//! in the lower tree is the same before and after.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test fails by panicking, and uses files as any program would"
)]

mod killed;
mod mounted;
mod overlay;
mod packages;
mod programs;
mod random;
mod snapshot;
mod sqlite;
mod suites;

use std::process::ExitCode;

use cli::lab::Lab;
use tests::Case;

/// Each by the sentence it proves.
const TESTS: &[tests::Test] = &[
    ("git clones, collects its garbage and finds no fault", programs::git),
    ("a tar archive of many files is extracted as it is elsewhere", packages::tar),
    ("a Debian package is extracted over an older one", packages::dpkg),
    ("rsync copies into, out of and over a lower tree", programs::rsync),
    ("fio reads back what it wrote", programs::fio),
    ("stress-ng finds no fault with files, names and links", programs::stress),
    ("a lower file written at random is what a copy of it becomes", random::lower_file),
    ("a space answers as the kernel's union does", overlay::agree),
    ("fsx finds no fault with a file of the upper layer", suites::fsx_upper),
    ("fsx finds no fault with a file of the lower layer", suites::fsx_lower),
    ("pjdfstest finds no fault", suites::pjdfstest),
    ("what SQLite committed is there after its writer was killed", sqlite::killed_writer),
    ("what SQLite committed is there after the server was killed", sqlite::killed_server),
    ("every file is wholly old or wholly new after the server was killed", killed::whole),
];

fn main() -> ExitCode {
    if let Some(status) = tests::as_portspace() {
        return status;
    }
    let cases = TESTS
        .iter()
        .map(|&(name, test)| -> Case { (name.to_owned(), Box::new(move |lab: &Lab| test(lab))) });
    tests::cases_in_lab("the tests", &["/dev/fuse"], cases.collect())
}
