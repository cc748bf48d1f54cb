//! Spaces made from spaces.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cli::lab::Lab;
use tests::{run, tree};

use crate::{Mounts, text};

/// A child of `red`, and where it is mounted.
pub(crate) struct Child<'a> {
    lab: &'a Lab,
    name: &'static str,
    file: PathBuf,
    pub(crate) directory: PathBuf,
}

impl<'a> Child<'a> {
    pub(crate) fn of(lab: &'a Lab, parent: &str, name: &'static str) -> Child<'a> {
        let directory = lab.a.directory.join(format!("mnt-{name}"));
        fs::create_dir_all(&directory).unwrap();
        let file = lab.a.directory.join(format!("{name}.toml"));
        fs::write(&file, format!("[space]\nparent = {parent:?}\n")).unwrap();
        Child { lab, name, file, directory }
    }

    pub(crate) fn mount(&self) -> cli::lab::service::Ended {
        run(self.lab, &["mount", text(&self.file), text(&self.directory)])
    }

    pub(crate) fn must_mount(&self) {
        let ended = self.mount();
        assert!(ended.ok(), "{}", ended.why());
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.directory.join(path)).unwrap()
    }
}

impl Drop for Child<'_> {
    fn drop(&mut self) {
        run(self.lab, &["stop", self.name]);
        run(self.lab, &["rm", self.name]);
        let _ = fs::remove_dir(&self.directory);
    }
}

pub(crate) fn apart(lab: &Lab) {
    let red = Mounts::new(lab);
    fs::create_dir_all(red.lower.join("deep")).unwrap();
    for (path, text) in [("deep/file", "host"), ("gone", "host"), ("plain", "host")] {
        fs::write(red.lower.join(path), text).unwrap();
    }
    fs::hard_link(red.lower.join("plain"), red.lower.join("linked")).unwrap();
    let before = tree(&red.lower);
    red.must_mount();
    fs::write(red.at("plain"), "red").unwrap();
    fs::rename(red.at("deep"), red.at("moved")).unwrap();
    fs::remove_file(red.at("gone")).unwrap();
    assert!(run(lab, &["stop", "red"]).ok());

    let blue = Child::of(lab, "red", "blue");
    blue.must_mount();
    assert_eq!(
        (blue.read("plain"), blue.read("linked"), blue.read("moved/file")),
        ("red".into(), "red".into(), "host".into())
    );
    assert!(!blue.directory.join("gone").exists() && !blue.directory.join("deep").exists());
    red.must_mount();
    fs::write(blue.directory.join("moved/file"), "blue").unwrap();
    fs::write(blue.directory.join("linked"), "blue").unwrap();
    fs::write(red.at("moved/file"), "red").unwrap();
    fs::write(red.at("later"), "red").unwrap();
    assert_eq!((blue.read("moved/file"), blue.read("plain")), ("blue".into(), "blue".into()));
    assert_eq!(fs::read_to_string(red.at("plain")).unwrap(), "red");
    assert!(!blue.directory.join("later").exists());
    let changes = run(lab, &["diff", "blue"]).out;
    assert!(changes.contains("moved/file") && !changes.contains("gone"), "{changes}");
    let shown = run(lab, &["inspect", "blue"]).out;
    assert!(shown.contains("space red") && shown.contains("red/1"), "{shown}");
    assert_eq!(tree(&red.lower), before);

    for command in [["stop", "red"], ["rm", "red"], ["stop", "blue"]] {
        assert!(run(lab, &command).ok());
    }
    let refused = run(lab, &["commit", "blue"]);
    assert!(refused.said.contains("space red, from which space blue was made, is gone"));
    let green = Child::of(lab, "blue", "green");
    green.must_mount();
    blue.must_mount();
    assert_eq!((green.read("moved/file"), green.read("plain")), ("blue".into(), "blue".into()));
    drop(blue);
    assert_eq!(green.read("linked"), "blue", "what its parents wrote stays");
    let layers = lab.a.directory.join("state/layers");
    assert!(layers.join("red/1").exists() && layers.join("blue/1").exists());
    drop(green);
    assert_eq!(fs::read_dir(&layers).unwrap().count(), 0, "the last one takes the layers along");
}

/// Two files in step: the second is never ahead of the first, nor more than one line behind.
const WRITER: &str =
    "exec 3>>first 4>>second; n=0; while :; do n=$((n+1)); echo $n >&3; echo $n >&4; done";

/// A program that writes through the mount of `red` until it is dropped.
struct Writer(std::process::Child);

impl Writer {
    fn start(red: &Mounts<'_>) -> Writer {
        let mut shell = Command::new("bash");
        let writer =
            Writer(shell.args(["-c", WRITER]).current_dir(&red.directory).spawn().unwrap());
        tests::eventually("something is written", || {
            fs::metadata(red.at("second")).is_ok_and(|second| second.len() > 100)
        });
        writer
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether two files are those of one moment of [`WRITER`]; the last line.
fn in_step(first: &str, second: &str) -> u64 {
    let last = |text: &str| {
        let lines: Vec<u64> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert!(lines.iter().copied().eq(1..=lines.len() as u64), "every line once and whole");
        lines.len() as u64
    };
    let (first, second) = (last(first), last(second));
    assert!(first == second || first == second + 1, "{first} and {second}");
    first
}

fn with_quota(red: &Mounts<'_>) {
    // So that the kernel writes nothing by itself.
    let text = format!("[files]\nroot = {:?}\nquota = \"4G\"\n", red.lower);
    fs::write(&red.file, text).unwrap();
}

pub(crate) fn of_a_running_space(lab: &Lab) {
    let red = Mounts::new(lab);
    with_quota(&red);
    red.must_mount();
    let writer = Writer::start(&red);
    let mut points = Vec::new();
    for name in ["blue", "green", "grey"] {
        let child = Child::of(lab, "red", name);
        child.must_mount();
        let point = in_step(&child.read("first"), &child.read("second"));
        fs::write(child.directory.join("first"), name).unwrap();

        points.push((child, point));
    }
    let now = fs::metadata(red.at("first")).unwrap().len();
    tests::eventually("it goes on", || fs::metadata(red.at("first")).unwrap().len() > now);
    drop(writer);
    for (child, _) in &points {
        assert_eq!(child.read("first"), child.name, "what it wrote is its own");
    }
    assert!(points[0].1 <= points[1].1 && points[1].1 <= points[2].1);
    let read = |path| fs::read_to_string(red.at(path)).unwrap();
    let whole = in_step(&read("first"), &read("second"));
    assert!(whole >= points[2].1);
    assert!(run(lab, &["stop", "red"]).ok());
    red.must_mount();
    assert_eq!(in_step(&read("first"), &read("second")), whole, "nothing of it is lost");
    drop(points);
    // Without a quota root's kernel writes files by itself: it is said, and nothing is half done.
    assert!(run(lab, &["stop", "red"]).ok());
    fs::write(&red.file, format!("[files]\nroot = {:?}\n", red.lower)).unwrap();
    red.must_mount();
    let open = fs::OpenOptions::new().append(true).open(red.at("first")).unwrap();
    let blue = Child::of(lab, "red", "blue");
    let refused = blue.mount();
    if !refused.ok() {
        assert!(refused.said.contains("has first open"), "{}", refused.said);
        drop(open);
        tests::eventually("it is closed", || blue.mount().ok());
    }
    assert_eq!(in_step(&blue.read("first"), &blue.read("second")), whole);
}

pub(crate) fn killed(lab: &Lab) {
    let red = Mounts::new(lab);
    with_quota(&red);
    red.must_mount();
    let writer = Writer::start(&red);
    for number in 0..40_u64 {
        let blue = Child::of(lab, "red", "blue");
        let mut command = lab.a.portspace(&["mount", text(&blue.file), text(&blue.directory)]);
        let mut command = command.stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(500 + 700 * number));
        let _ = command.kill();
        let _ = command.wait();
        run(lab, &["stop", "blue"]);
        // The next one makes it, or finds it made.
        blue.must_mount();
        in_step(&blue.read("first"), &blue.read("second"));
        assert!(!lab.a.directory.join("state/spaces/red/sealing.json").exists());
    }
    drop(writer);
    let read = |path| fs::read_to_string(red.at(path)).unwrap();
    let whole = in_step(&read("first"), &read("second"));
    assert!(run(lab, &["stop", "red"]).ok());
    red.must_mount();
    assert_eq!(in_step(&read("first"), &read("second")), whole);
}

fn must(lab: &Lab, command: &[&str]) -> String {
    let ended = run(lab, command);
    assert!(ended.ok(), "{command:?}: {}", ended.why());
    ended.out
}

pub(crate) fn committed(lab: &Lab) {
    let red = Mounts::new(lab);
    fs::create_dir_all(red.lower.join("deep")).unwrap();
    for path in ["deep/file", "gone", "plain", "theirs"] {
        fs::write(red.lower.join(path), "host").unwrap();
    }
    let before = tree(&red.lower);
    red.must_mount();
    fs::write(red.at("plain"), "red").unwrap();
    must(lab, &["stop", "red"]);
    let blue = Child::of(lab, "red", "blue");
    blue.must_mount();
    fs::write(blue.directory.join("plain"), "blue").unwrap();
    fs::write(blue.directory.join("new"), "blue").unwrap();
    fs::write(blue.directory.join("both"), "blue").unwrap();
    fs::rename(blue.directory.join("deep"), blue.directory.join("moved")).unwrap();
    fs::remove_file(blue.directory.join("gone")).unwrap();
    red.must_mount();
    fs::write(red.at("both"), "red").unwrap();
    fs::write(red.at("theirs"), "red").unwrap();
    must(lab, &["stop", "blue"]);

    let refused = run(lab, &["commit", "blue"]);
    assert!(refused.said.contains("space red is mounted"), "{}", refused.said);
    must(lab, &["stop", "red"]);
    let refused = run(lab, &["commit", "blue"]);
    assert!(refused.said.contains("both: the parent made something there"), "{}", refused.said);
    let listed = must(lab, &["commit", "blue", "new", "--dry-run"]);
    assert!(listed.contains("would be committed to space red"), "{listed}");
    let done = must(lab, &["commit", "blue", "new"]);
    assert!(done.contains("1 change committed to space red"), "{done}");
    let left = must(lab, &["diff", "blue"]);
    assert!(left.contains("moved") && left.contains("both") && !left.contains("new"), "{left}");
    must(lab, &["commit", "blue", "--force"]);
    assert!(must(lab, &["diff", "blue"]).contains("has changed nothing of space red"));
    red.must_mount();
    blue.must_mount();
    let view = tree(&red.directory);
    assert_eq!(view, tree(&blue.directory));
    let read = |path| fs::read_to_string(red.at(path)).unwrap();
    assert_eq!(
        ["plain", "new", "both", "theirs", "moved/file"].map(read),
        ["blue", "blue", "blue", "red", "host"]
    );
    assert!(!red.at("gone").exists() && !red.at("deep").exists());
    assert_eq!(tree(&red.lower), before, "the host has nothing of it yet");
    fs::write(red.at("last"), "red").unwrap();
    let view = tree(&red.directory);
    must(lab, &["stop", "red"]);
    must(lab, &["stop", "blue"]);

    // From red it goes on to the host, with all that red had sealed; blue keeps its layers.
    must(lab, &["commit", "red"]);
    assert_eq!(tree(&red.lower), view);
    assert!(must(lab, &["diff", "red"]).contains("has changed nothing of"));
    fs::write(red.lower.join("plain"), "host again").unwrap();
    red.must_mount();
    blue.must_mount();
    assert_eq!(read("plain"), "host again", "nothing is left in the way of the host");
    assert_eq!(blue.read("plain"), "blue");
    fs::write(red.at("plain"), "red again").unwrap();
    let green = Child::of(lab, "red", "green");
    must(lab, &["stop", "red"]);
    green.must_mount();
    must(lab, &["discard", "red", "--yes"]);
    red.must_mount();
    assert_eq!((&*read("plain"), &*green.read("plain")), ("host again", "red again"));
    must(lab, &["stop", "red"]);
}

pub(crate) fn killed_while_committing(lab: &Lab) {
    let red = Mounts::new(lab);
    fs::write(red.lower.join("file"), "host").unwrap();
    red.must_mount();
    must(lab, &["stop", "red"]);
    let blue = Child::of(lab, "red", "blue");
    let mut expected = "host".to_owned();
    for number in 0..30_u64 {
        blue.must_mount();
        assert_eq!(blue.read("file"), expected, "before {number}");
        expected = number.to_string();
        fs::write(blue.directory.join("file"), &expected).unwrap();
        fs::write(blue.directory.join(format!("new-{number}")), "").unwrap();
        must(lab, &["stop", "blue"]);
        // Every other time red has what it had sealed gathered on the way to the host.
        let name = if number % 3 == 2 { "red" } else { "blue" };
        let mut command = lab.a.portspace(&["commit", name]);
        let mut command = command.stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(500 + 400 * number));
        let _ = command.kill();
        let _ = command.wait();
        blue.must_mount();
        assert_eq!(blue.read("file"), expected, "after {number}");
        must(lab, &["stop", "blue"]);
        must(lab, &["commit", "blue"]);
        red.must_mount();
        assert_eq!(fs::read_to_string(red.at("file")).unwrap(), expected);
        assert!(red.at(&format!("new-{number}")).exists());
        must(lab, &["stop", "red"]);
    }
    must(lab, &["commit", "red"]);
    assert_eq!(fs::read_to_string(red.lower.join("file")).unwrap(), expected);
    assert_eq!(fs::read_dir(&red.lower).unwrap().count(), 31);
}
