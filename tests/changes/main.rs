//! What a space changed: shown, committed, discarded; made through a mount by plain programs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use cli::lab::Lab;
use cli::lab::service::Ended;
use serde_json::Value;
use tests::{Case, Test, run, tree};

const TESTS: &[Test] = &[
    ("diff shows what was changed, also while it is mounted", shown),
    ("a patch says what is different within files", patch),
    ("commit gives all of it to the parent, or what was named", committed),
    ("what the parent changed meanwhile is not overwritten", conflicts),
    ("discard brings the parent's files back", discarded),
    ("what is in use is neither committed nor discarded", in_use),
    ("without its parent a space's own files are shown", without_parent),
    ("on a full disk nothing is committed, and nothing lost", full_disk),
    ("a commit that was killed is finished or undone by the next mount", killed),
];

fn main() -> ExitCode {
    if let Some(status) = tests::as_portspace() {
        return status;
    }
    let case = |(name, test): &'static Test| -> Case { ((*name).to_owned(), Box::new(test)) };
    tests::cases_in_lab("the tests", &["/dev/fuse"], TESTS.iter().map(case).collect())
}

/// A space `red` over a directory of its own, and where it is mounted; all goes with it.
struct Red<'a> {
    lab: &'a Lab,
    file: PathBuf,
    parent: PathBuf,
    directory: PathBuf,
}

impl<'a> Red<'a> {
    /// Mounted over a few files.
    fn mounted(lab: &'a Lab) -> Red<'a> {
        let red = Red::new(lab);
        fs::create_dir_all(red.parent.join("d")).unwrap();
        fs::create_dir_all(red.parent.join("theirs/deep")).unwrap();
        let lines: String = (1..=20).map(|number| format!("{number}\n")).collect();
        for (path, text) in
            [("d/lines", &*lines), ("gone", "x"), ("plain", "plain\n"), ("theirs/deep/file", "")]
        {
            fs::write(red.parent.join(path), text).unwrap();
        }
        symlink("before", red.parent.join("link")).unwrap();
        red.mount();
        red
    }

    fn new(lab: &'a Lab) -> Red<'a> {
        let (parent, directory) = (lab.a.directory.join("parent"), lab.a.directory.join("mnt"));
        for directory in [&parent, &directory] {
            fs::create_dir_all(directory).unwrap();
        }
        let file = lab.a.directory.join("red.toml");
        fs::write(&file, format!("[files]\nroot = {parent:?}\n")).unwrap();
        Red { lab, file, parent, directory }
    }

    fn mount(&self) {
        let ended = run(self.lab, &["mount", text(&self.file), text(&self.directory)]);
        assert!(ended.ok(), "{}", ended.why());
    }

    fn stop(&self) {
        let ended = run(self.lab, &["stop", "red"]);
        assert!(ended.ok(), "{}", ended.why());
    }

    /// Some of every kind of change.
    fn change(&self) {
        let text = fs::read_to_string(self.at("d/lines")).unwrap();
        fs::write(self.at("d/lines"), text.replace("\n7\n", "\nseven\n")).unwrap();
        fs::remove_file(self.at("gone")).unwrap();
        fs::remove_file(self.at("link")).unwrap();
        symlink("after", self.at("link")).unwrap();
        fs::rename(self.at("theirs"), self.at("moved")).unwrap();
        fs::create_dir(self.at("new")).unwrap();
        fs::write(self.at("new/binary"), b"a\0b").unwrap();
        fs::set_permissions(self.at("plain"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn at(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.parent.join(path)).unwrap()
    }

    fn ask(&self, arguments: &[&str]) -> Ended {
        run(self.lab, arguments)
    }

    /// What a command that must succeed says.
    fn out(&self, arguments: &[&str]) -> String {
        let ended = self.ask(arguments);
        assert!(ended.ok(), "{arguments:?}: {}", ended.why());
        ended.out
    }

    /// What a command that must be refused says.
    fn refused(&self, arguments: &[&str]) -> String {
        let ended = self.ask(arguments);
        assert!(!ended.ok(), "{arguments:?}: {}", ended.out);
        ended.said
    }
}

impl Drop for Red<'_> {
    fn drop(&mut self) {
        // What a test left; each fails where there is nothing to end.
        run(self.lab, &["stop", "red"]);
        let _ = Command::new("umount").args(["-q", "-l", text(&self.parent)]).status();
        run(self.lab, &["rm", "red"]);
        for directory in [&self.directory, &self.parent] {
            let _ = fs::remove_dir_all(directory);
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

const CHANGES: &str = "\
changed  d/lines  (content)
deleted  gone
changed  link@  (content)
renamed  theirs/ -> moved/
added    new/
added    new/binary
changed  plain  (mode 0644 to 0600)
";

fn shown(lab: &Lab) {
    let red = Red::mounted(lab);
    assert!(red.out(&["diff", "red"]).starts_with("space red has changed nothing of "));
    assert_eq!(red.out(&["diff", "red", "--json"]).trim(), "[]");
    red.change();
    let told = red.out(&["diff", "red"]);
    let summary = format!(
        "2 added, 3 changed, 1 deleted, 1 renamed of {} by space red\n",
        red.parent.display()
    );
    assert_eq!(told, format!("{CHANGES}{summary}"));
    let odd = OsStr::from_bytes(b"\xff\x1b");
    fs::write(red.directory.join(odd), "").unwrap();
    assert!(red.out(&["diff", "red"]).contains(r#"added    "\377\033""#));
    red.stop();
    let told: Value = serde_json::from_str(&red.out(&["diff", "red", "--json"])).unwrap();
    let one = |path: &str| {
        let entries = told.as_array().unwrap();
        entries.iter().find(|entry| entry["path"] == path).unwrap().clone()
    };
    assert_eq!(
        (&one("moved")["change"], &one("moved")["from"]),
        (&"renamed".into(), &"theirs".into())
    );
    assert_eq!(
        (&one("new")["kind"], &one("new")["change"]),
        (&"directory".into(), &"added".into())
    );
    assert_eq!(one("plain")["parts"], serde_json::json!(["mode"]));
    assert_eq!(one("plain")["after"]["mode"], "0600");
    assert_eq!(one("\u{fffd}\u{1b}")["path_bytes"], serde_json::json!([255, 27]));
    assert!(red.refused(&["diff", "blue"]).contains("there is no space blue"));
}

fn patch(lab: &Lab) {
    let red = Red::mounted(lab);
    red.change();
    let patch = red.out(&["diff", "red", "--patch"]);
    for piece in [
        "--- a/d/lines\n+++ b/d/lines\n@@ -4,7 +4,7 @@\n 4\n 5\n 6\n-7\n+seven\n 8\n 9\n 10\n",
        "deleted file mode 100644\n--- a/gone\n+++ /dev/null\n",
        "-before\n\\ No newline at end of file\n+after\n",
        "rename from theirs\nrename to moved\n",
        "Binary files /dev/null and b/new/binary differ\n",
        "old mode 100644\nnew mode 100600\n",
    ] {
        assert!(patch.contains(piece), "{piece} is not in {patch}");
    }
}

fn committed(lab: &Lab) {
    let red = Red::mounted(lab);
    red.change();
    let view = tree(&red.directory);
    red.stop();
    let before = tree(&red.parent);
    let dry = red.out(&["commit", "red", "--dry-run"]);
    assert!(dry.starts_with(CHANGES) && dry.contains("7 changes would be committed to"), "{dry}");
    assert_eq!(tree(&red.parent), before);
    red.out(&["commit", "red", "/d"]);
    assert!(red.read("d/lines").contains("seven") && red.parent.join("gone").exists());
    let refused = red.refused(&["commit", "red", "/d"]);
    assert!(refused.contains("/d has no change"), "{refused}");
    red.out(&["commit", "red"]);
    assert_eq!(tree(&red.parent), view);
    assert!(red.out(&["diff", "red"]).contains("has changed nothing"));
    red.mount();
    assert_eq!(tree(&red.directory), view);
}

fn conflicts(lab: &Lab) {
    let red = Red::mounted(lab);
    fs::write(red.at("plain"), "red's\n").unwrap();
    fs::write(red.at("quiet"), "red's\n").unwrap();
    fs::remove_file(red.at("gone")).unwrap();
    red.stop();
    fs::write(red.parent.join("plain"), "the parent's\n").unwrap();
    fs::write(red.parent.join("gone"), "still needed").unwrap();
    let told = red.out(&["diff", "red"]);
    assert!(told.contains("conflict: the parent changed it meanwhile"), "{told}");
    let before = tree(&red.parent);
    let refused = red.refused(&["commit", "red"]);
    for piece in ["gone: the parent changed it meanwhile", "and 1 more", "--force"] {
        assert!(refused.contains(piece), "{refused}");
    }
    assert_eq!(tree(&red.parent), before);
    red.out(&["discard", "red", "gone"]);
    red.out(&["commit", "red", "--force"]);
    let texts = ["plain", "gone", "quiet"].map(|path| red.read(path));
    assert_eq!(texts, ["red's\n", "still needed", "red's\n"]);
}

fn discarded(lab: &Lab) {
    let red = Red::mounted(lab);
    let parents = tree(&red.parent);
    red.change();
    red.stop();
    red.out(&["discard", "red", "moved", "gone"]);
    let left = red.out(&["diff", "red"]);
    assert!(!left.contains("moved") && !left.contains("gone") && left.contains("new/"), "{left}");
    let refused = red.refused(&["discard", "red"]);
    assert!(refused.contains("--yes"), "{refused}");
    red.out(&["discard", "red", "--yes"]);
    assert!(red.out(&["diff", "red"]).contains("has changed nothing"));
    red.mount();
    assert_eq!(tree(&red.directory), parents);
    assert_eq!(tree(&red.parent), parents);
}

fn in_use(lab: &Lab) {
    let red = Red::mounted(lab);
    red.change();
    for command in ["commit", "discard"] {
        let refused = red.refused(&[command, "red", "gone"]);
        assert!(refused.contains("is mounted on") && refused.contains("stop red"), "{refused}");
    }
    red.out(&["diff", "red"]);
}

fn without_parent(lab: &Lab) {
    let red = Red::mounted(lab);
    fs::write(red.at("plain"), "red's").unwrap();
    red.stop();
    let away = red.parent.with_extension("away");
    fs::rename(&red.parent, &away).unwrap();
    let ended = red.ask(&["diff", "red"]);
    assert!(!ended.ok() && ended.out.contains("plain"), "{}", ended.out);
    assert!(ended.said.contains("cannot open") && ended.said.contains("parent"), "{}", ended.said);
    assert!(red.refused(&["commit", "red"]).contains("cannot open"));
    fs::rename(&away, &red.parent).unwrap();
    red.out(&["commit", "red"]);
    assert_eq!(red.read("plain"), "red's");
}

fn full_disk(lab: &Lab) {
    let red = Red::new(lab);
    let small = ["-t", "tmpfs", "-o", "size=1M", "none", text(&red.parent)];
    assert!(Command::new("mount").args(small).status().unwrap().success());
    fs::write(red.parent.join("file"), "old").unwrap();
    red.mount();
    fs::write(red.at("file"), "new").unwrap();
    fs::write(red.at("large"), vec![1; 2 << 20]).unwrap();
    red.stop();
    let before = tree(&red.parent);
    let refused = red.refused(&["commit", "red"]);
    assert!(refused.contains("large cannot be committed: no space left"), "{refused}");
    assert_eq!(tree(&red.parent), before);
    assert_eq!(fs::read_dir(&red.parent).unwrap().count(), 1);
    red.out(&["commit", "red", "file"]);
    assert_eq!(red.read("file"), "new");
    assert!(red.out(&["diff", "red"]).contains("added    large"));
}

fn killed(lab: &Lab) {
    let red = Red::mounted(lab);
    fs::create_dir(red.at("many")).unwrap();
    for number in 0..300 {
        fs::write(red.at(&format!("many/{number}")), vec![number as u8; 20_000]).unwrap();
        fs::write(red.at(&format!("one-{number}")), "").unwrap();
    }
    red.change();
    let view = tree(&red.directory);
    red.stop();
    let before = tree(&red.parent);
    let journal = lab.a.directory.join("state/spaces/red/work.commit");
    for phase in ["phase stage", "phase take", "phase put", "phase clean"] {
        let mut command = lab.a.portspace(&["commit", "red"]);
        let mut child = command.stdout(Stdio::null()).spawn().unwrap();
        // Perhaps it is over before it is seen to be there.
        while child.try_wait().unwrap().is_none()
            && !fs::read_to_string(&journal).is_ok_and(|text| text.contains(phase))
        {
            std::hint::spin_loop();
        }
        let _ = child.kill();
        child.wait().unwrap();
        red.mount();
        let now = tree(&red.parent);
        assert!(now == before || now == view, "killed in {phase}: {:?}", now.keys());
        assert_eq!(tree(&red.directory), view, "killed in {phase}");
        assert!(!journal.exists(), "killed in {phase}");
        red.stop();
        if now == view {
            break;
        }
    }
    red.ask(&["commit", "red"]);
    assert_eq!(tree(&red.parent), view);
}
