//! Spaces' files on the host: through the kernel, by programs that know nothing of it.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_types,
    reason = "a test fails by panicking, and uses files as any program would"
)]

mod busy;
mod chains;
mod ends;
mod files;
mod refused;
mod seen;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use cli::lab::Lab;
use cli::lab::service::Ended;
use tests::{Case, Test, run};

const TESTS: &[Test] = &[
    ("what is written stays in the space's own layer", files::own_layer),
    ("a space that sees the mount's directory does not see itself", files::itself),
    ("a space's machine and its mount see the same files", files::machine),
    ("files of many threads at once are whole", files::at_once),
    ("what is seen, shared and injected is configuration", seen::configured),
    ("portspace's own directories are never seen", seen::not_its_own),
    ("a child has its parent's files, and neither sees what the other writes", chains::apart),
    ("a child of a mounted space sees one point of what it writes", chains::of_a_running_space),
    ("a command that is killed while it seals leaves all whole", chains::killed),
    ("a child is committed to its parent, and that with what it had sealed", chains::committed),
    ("a command that is killed while it commits to a space", chains::killed_while_committing),
    ("a program goes on once its reader does", busy::paused),
    ("a program that waits for a file does not hold up another", busy::waiting),
    ("files of many programs at once are whole", busy::many),
    ("cores stay awake while requests come one upon the other, and no longer", busy::awake),
    ("umount ends the mount process, and it can be mounted again", ends::unmounted),
    ("Ctrl-C unmounts what stays in the foreground", ends::interrupted),
    ("stop ends a mount that is in use", ends::stopped),
    ("a killed mount process is an error to who uses its files", ends::killed),
    ("a directory that cannot be mounted on is refused", refused::directories),
    ("a space that runs, is mounted or is unknown is refused", refused::spaces),
    ("without /dev/fuse the sentence names it", refused::no_device),
    ("a mount process has no way out of its jail", refused::jail),
];

fn main() -> ExitCode {
    if let Some(status) = tests::as_portspace() {
        return status;
    }
    let case = |(name, test): &'static Test| -> Case { ((*name).to_owned(), Box::new(test)) };
    tests::cases_in_lab("the tests", &["/dev/fuse"], TESTS.iter().map(case).collect())
}

/// A space that can be mounted, and where; both go with it.
struct Mounts<'a> {
    lab: &'a Lab,
    /// Its configuration, which keys no overlay: its files are all that is asked of it.
    file: PathBuf,
    /// The parent's directory.
    lower: PathBuf,
    /// Where it is mounted.
    directory: PathBuf,
}

impl<'a> Mounts<'a> {
    /// A space `red` over an empty directory; nothing is mounted yet.
    fn new(lab: &'a Lab) -> Mounts<'a> {
        let (lower, directory) = (lab.a.directory.join("parent"), lab.a.directory.join("mnt"));
        for directory in [&lower, &directory] {
            std::fs::create_dir_all(directory).unwrap();
        }
        let file = lab.a.directory.join("red.toml");
        std::fs::write(&file, format!("[files]\nroot = {lower:?}\n")).unwrap();
        Mounts { lab, file, lower, directory }
    }

    /// `portspace mount` of its file.
    fn mount(&self) -> Ended {
        run(self.lab, &["mount", text(&self.file), text(&self.directory)])
    }

    /// The same for what must succeed.
    fn must_mount(&self) {
        let ended = self.mount();
        assert!(ended.ok(), "{}", ended.why());
        assert!(ended.out.contains("umount"), "how to end it is said: {}", ended.out);
    }

    /// A path in the mount.
    fn at(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }

    /// A path in the space's own layer.
    fn upper(&self, path: &str) -> PathBuf {
        self.lab.a.directory.join("state/spaces/red/own/upper").join(path)
    }

    /// The mount process.
    fn process(&self) -> u64 {
        let note = self.lab.a.directory.join("run/spaces/red/mount.json");
        let note: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(note).unwrap()).unwrap();
        note["pid"].as_u64().unwrap()
    }

    /// Whether the mount is in the table of mounts.
    fn is_there(&self) -> bool {
        let table = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let line = format!(" {} fuse.portspace ", text(&self.directory));
        table.lines().any(|mount| mount.contains(&line))
    }
}

impl Drop for Mounts<'_> {
    fn drop(&mut self) {
        // What a test left; each fails where there is nothing to end.
        run(self.lab, &["stop", "red"]);
        while self.is_there() && umount(&self.directory) {}
        run(self.lab, &["rm", "red"]);
        for directory in [&self.directory, &self.lower] {
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn umount(directory: &Path) -> bool {
    Command::new("umount").arg(directory).output().unwrap().status.success()
}

fn signal(name: &str, pid: u64) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.unwrap().success());
}
