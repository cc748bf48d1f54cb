//! Commands that meet: on one space, or on one layer.

use std::io::{PipeReader, PipeWriter, Read};
use std::process::{Child, Stdio};

use cli::lab::service::finish;
use cli::lab::{Lab, Peer};
use switch::overlay::Cipher;
use tests::{PATIENCE, Space, eventually, run};

pub(crate) fn starts(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    let file = red.file.to_str().unwrap();
    let ends = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..5).map(|_| scope.spawn(|| run(lab, &["up", file]))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(ends.iter().filter(|ended| ended.ok()).count(), 1, "{ends:?}");
    for ended in ends.iter().filter(|ended| !ended.ok()) {
        assert!(ended.said.contains("red is already running"), "{}", ended.said);
    }
    assert!(red.run(&["true"]).ok(), "those that lost did it no harm");
    assert_eq!(run(lab, &["ls"]).out.matches("running").count(), 1);
}

pub(crate) fn runs(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    red.start();
    let red = &red;
    std::thread::scope(|scope| {
        let runs = (0..6).map(|at| {
            scope.spawn(move || {
                let name = format!("/no-file-{at}");
                (red.run(&["cat", &name]), name)
            })
        });
        for run in runs.collect::<Vec<_>>() {
            let (ended, name) = run.join().unwrap();
            assert_eq!(ended.status, Some(1));
            assert!(ended.said.contains(&name), "each has its own words: {}", ended.said);
        }
    });
}

pub(crate) fn a_stop(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    red.start();
    let mut inside = Inside::start(lab, &red);
    assert!(run(lab, &["stop", "red"]).ok());
    eventually("the program ends with its space", || inside.child.try_wait().unwrap().is_some());
    assert_eq!(inside.child.wait().unwrap().code(), Some(1));
    let mut said = String::new();
    inside.errors.read_to_string(&mut said).unwrap();
    assert!(said.contains("space red") && said.contains("portspace up"), "{said}");
    assert!(!said.contains("killed"), "it was stopped, nobody killed it: {said}");
}

/// A program that runs inside until something ends it: its input has no end.
pub(crate) struct Inside {
    pub(crate) child: Child,
    errors: PipeReader,
    _input: PipeWriter,
}

impl Inside {
    /// Starts it in a space whose programs have all ended.
    pub(crate) fn start(lab: &Lab, space: &Space<'_>) -> Inside {
        let runs = || {
            let stat = space.run(&["stat"]).out;
            let runs = stat.lines().find_map(|line| line.strip_prefix("runs ")).unwrap();
            runs.parse::<u64>().unwrap()
        };
        let mut expected = runs();
        let ((input, end), (errors, writes)) = (std::io::pipe().unwrap(), std::io::pipe().unwrap());
        let mut command = lab.a.portspace(&["run", space.name, "--", "cat"]);
        let child = command.stdin(input).stdout(Stdio::null()).stderr(writes).spawn().unwrap();
        eventually("the program runs inside", || {
            expected += 1;
            runs() > expected
        });
        Inside { child, errors, _input: end }
    }
}

pub(crate) fn a_removal(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    red.start();
    let ended = run(lab, &["rm", "red"]);
    assert_eq!(ended.status, Some(1));
    assert!(ended.said.contains("portspace stop red"), "{}", ended.said);
    assert!(red.run(&["true"]).ok());
}

pub(crate) fn one_layer(lab: &Lab) {
    let red = Space::configure(lab, "red", Peer::B, Cipher::Null, None);
    red.start();
    assert!(red.run_with_input(&["write", "/said"], b"by the first").ok());
    // Another runtime directory: another switch, another lock, the same layer of files.
    let file = lab.a.directory.join("elsewhere");
    std::fs::create_dir_all(&file).unwrap();
    let file = file.join("red.toml");
    let text = std::fs::read_to_string(&red.file).unwrap();
    std::fs::write(&file, text.replace("\nport = 4500", "\nport = 4501")).unwrap();
    let elsewhere = lab.a.directory.join("elsewhere/run");
    let mut up = lab.a.portspace(&["up", file.to_str().unwrap()]);
    let ended = finish(up.env("PORTSPACE_RUNTIME_DIR", &elsewhere), PATIENCE).unwrap();
    assert_eq!(ended.status, Some(1), "{}", ended.said);
    assert!(ended.said.contains("upper") && ended.said.contains("in use"), "{}", ended.said);
    assert_eq!(red.run(&["cat", "/said"]).out, "by the first");
}
