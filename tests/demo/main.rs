//! The demo as a black box, run and interrupted.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;
use tests::{as_portspace, eventually, ignored, means};

const RUN: &str = "the demo's checks are all ok and its JSON has the stable form";
const INTERRUPTED: &str = "an interrupted demo says so and leaves no process";

fn main() -> ExitCode {
    if let Some(status) = as_portspace() {
        return status;
    }
    if std::env::args().nth(1).as_deref() == Some("tests-try") {
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let trials = match means() {
        Err(reason) => vec![ignored(RUN, &reason), ignored(INTERRUPTED, &reason)],
        Ok(()) => vec![
            Trial::test(RUN, || {
                the_demo_runs();
                Ok(())
            }),
            Trial::test(INTERRUPTED, || {
                the_demo_is_interrupted();
                Ok(())
            }),
        ],
    };
    // One at a time: the demo measures.
    libtest_mimic::run(&Arguments { test_threads: Some(1), ..arguments }, trials).exit_code()
}

fn demo() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["demo", "--json"]).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

fn the_demo_runs() {
    let output = demo().output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for check in report["checks"].as_array().unwrap() {
        assert_eq!(check["ok"], true, "{check}");
    }
    assert!(output.status.success());
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
    let mut child = demo().stdout(Stdio::null()).spawn().unwrap();
    let pid = child.id();
    eventually("the demo has processes", || !children(pid).is_empty());
    std::thread::sleep(Duration::from_millis(500));
    let inside = descendants(pid);
    assert!(Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap().success());
    assert!(!ends(&mut child), "an interrupted demo is no success");
    eventually("all of it is gone", || inside.iter().all(|pid| !alive(*pid)));
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

fn alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}
