//! A database of the lower tree, its writer or its server killed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cli::lab::Lab;

use crate::mounted::{Mounted, must, program};

/// Rows that are in the lower tree.
const LOWER: u64 = 500;

/// Commits that are waited for before each kill.
const COMMITS: usize = 60;

const KILLS: usize = 5;

const PACKAGE: &str = "the Debian package sqlite3";

fn fill(lower: &Path) {
    let sql = format!(
        "PRAGMA journal_mode=WAL; CREATE TABLE rows(number INTEGER PRIMARY KEY, text TEXT);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {LOWER})
         INSERT INTO rows SELECT i, hex(randomblob(300)) FROM n;"
    );
    must(Command::new("sqlite3").arg(lower.join("rows.db")).arg(sql));
}

/// Starts a writer of rows from `first` on, and waits until it has said of many that they are
/// committed; the last of them.
fn writer(mounted: &Mounted, first: u64) -> (Child, u64) {
    let script = mounted.beside("sql").join("script.sql");
    let mut sql = String::from("PRAGMA synchronous=FULL;\n");
    // Far more than are waited for: it is in the middle of them when it is killed.
    for row in first..first + 100_000 {
        sql += &format!("INSERT INTO rows VALUES({row},hex(randomblob(300)));SELECT {row};\n");
    }
    fs::write(&script, sql).unwrap();
    // A line as soon as it is said. It ends at the first that fails: what failed may be there or not.
    let mut writer = mounted
        .program("stdbuf", "the package coreutils")
        .args(["-oL", "sqlite3", "-bail", "-batch", "rows.db"])
        .stdin(File::open(&script).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let committed = lines.take(COMMITS).last().unwrap().unwrap();
    (writer, committed.parse().unwrap())
}

/// The last row; fails if the database is damaged, or `committed` is not there.
fn checked(mounted: &Mounted, committed: u64) -> u64 {
    let mut sqlite = mounted.program("sqlite3", PACKAGE);
    let said = must(sqlite.args([
        "rows.db",
        "PRAGMA integrity_check; SELECT max(number), count(*) FROM rows; PRAGMA journal_mode;",
    ]));
    let lines: Vec<&str> = said.lines().collect();
    let [integrity, rows, mode] = lines[..] else { panic!("{said}") };
    assert_eq!((integrity, mode), ("ok", "wal"));
    let (last, count) = rows.split_once('|').unwrap();
    assert_eq!(last, count, "every row is there");
    let last = last.parse().unwrap();
    assert!(last >= committed, "{committed} was committed, {last} is the last");
    last
}

pub(super) fn killed_writer(lab: &Lab) {
    program("sqlite3", PACKAGE);
    let mut mounted = Mounted::new(lab, fill);
    let mut last = checked(&mounted, LOWER);
    for _ in 0..KILLS {
        let (mut writer, committed) = writer(&mounted, last + 1);
        writer.kill().unwrap();
        writer.wait().unwrap();
        last = checked(&mounted, committed);
    }
    mounted.must_last();
    checked(&mounted, last);
    mounted.end();
}

pub(super) fn killed_server(lab: &Lab) {
    program("sqlite3", PACKAGE);
    let mut mounted = Mounted::new(lab, fill);
    let mut last = checked(&mounted, LOWER);
    for _ in 0..KILLS {
        let (mut writer, committed) = writer(&mounted, last + 1);
        mounted.kill();
        // It may have failed by itself.
        let _ = writer.kill();
        writer.wait().unwrap();
        mounted.mount();
        last = checked(&mounted, committed);
    }
    mounted.end();
}
