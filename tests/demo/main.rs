//! The demo as a black box, run and interrupted.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use cli::lab::service::finish;
use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use tests::{as_portspace, eventually, ignored, means};

const RUN: &str = "the demo's checks are all ok and its JSON has the stable form";
const ORDINARY: &str = "the demo runs for a user without any capability";
const INTERRUPTED: &str = "an interrupted demo says so and leaves no process";
const KILLED: &str = "a killed demo leaves no process";

/// Longest wait for a whole demo: 5 s on an idle machine, and it measures, so much
/// longer where other programs take every core.
const LONGEST: Duration = Duration::from_secs(150);

/// Each test by the sentence it proves.
const TESTS: [(&str, fn()); 4] = [
    (RUN, the_demo_runs),
    (ORDINARY, an_ordinary_user_runs_it),
    (INTERRUPTED, the_demo_is_interrupted),
    (KILLED, the_demo_is_killed),
];

fn main() -> ExitCode {
    if let Some(status) = as_portspace() {
        return status;
    }
    if std::env::args().nth(1).as_deref() == Some("tests-try") {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let means = means();
    let trials = TESTS.map(|(name, test)| match &means {
        Err(reason) => ignored(name, reason),
        Ok(()) => Trial::test(name, move || {
            test();
            Ok(())
        }),
    });
    // One at a time: the demo measures.
    libtest_mimic::run(&Arguments { test_threads: Some(1), ..arguments }, trials.into()).exit_code()
}

fn demo() -> Command {
    quietly(Command::new("/proc/self/exe"))
}

fn quietly(mut command: Command) -> Command {
    command.args(["demo", "--json"]).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn the_demo_runs() {
    judge(demo());
}

/// Uid 1000 of a user namespace, mapped to whoever runs the tests: what that user may
/// open can be opened, and no device's permissions are changed.
fn an_ordinary_user_runs_it() {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-user=1000", "--map-group=1000"]);
    command.arg(std::env::current_exe().unwrap());
    judge(quietly(command));
}

fn judge(mut demo: Command) {
    let ended = finish(&mut demo, LONGEST).unwrap();
    assert!(ended.status.is_some(), "it did not end within {LONGEST:?}");
    let report: Value = serde_json::from_str(&ended.out).unwrap();
    for check in report["checks"].as_array().unwrap() {
        assert_eq!(check["ok"], true, "{check}");
    }
    assert!(ended.ok());
    let names: Vec<_> = report["spaces"].as_array().unwrap().iter().map(|s| &s["name"]).collect();
    assert_eq!(names, ["red", "blue"]);
    for way in ["base", "bare", "personal"] {
        for (algorithm, times) in report["rtt"][way].as_object().unwrap() {
            assert!(times["p50_us"].as_f64().unwrap() > 1.0, "{way} {algorithm}");
        }
    }
    assert_eq!(report["ratio_personal_bare"].as_object().unwrap().len(), 3);
}

fn the_demo_is_interrupted() {
    let (mut child, inside) = in_the_middle();
    signal("INT", &child);
    assert!(!ends(&mut child), "an interrupted demo is no success");
    eventually("all of it is gone", || inside.iter().all(|pid| !alive(*pid)));
}

fn the_demo_is_killed() {
    let (mut child, inside) = in_the_middle();
    signal("KILL", &child);
    assert!(!ends(&mut child));
    eventually("all of it is gone", || inside.iter().all(|pid| !alive(*pid)));
}

/// A demo whose two machines run, and every process of it.
fn in_the_middle() -> (Child, Vec<u32>) {
    let mut child = demo().stdout(Stdio::null()).spawn().unwrap();
    eventually("two machines run", || {
        assert!(child.try_wait().unwrap().is_none(), "the demo ended early");
        descendants(child.id()).into_iter().filter(|pid| is_machine(*pid)).count() == 2
    });
    let inside = descendants(child.id());
    (child, inside)
}

fn is_machine(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(b"vm")
}

fn signal(name: &str, child: &Child) {
    let arguments = [format!("-{name}"), child.id().to_string()];
    assert!(Command::new("kill").args(arguments).status().unwrap().success());
}

fn ends(child: &mut Child) -> bool {
    eventually("the demo ends", || child.try_wait().unwrap().is_some());
    child.wait().unwrap().success()
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    list.unwrap_or_default().split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn descendants(pid: u32) -> Vec<u32> {
    children(pid).into_iter().flat_map(|child| [vec![child], descendants(child)].concat()).collect()
}

/// Whether a process runs: one that has ended may wait for its new parent to notice (proc_pid_stat(5)).
fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().unwrap_or_default().trim_start().chars().next();
    state.is_some_and(|state| !"ZX".contains(state))
}
