//! A space's files, mounted for one test on a disk.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use cli::lab::Lab;
use cli::lab::service::finish;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tests::{eventually, ignore};

use crate::snapshot::Snapshot;

const PATIENCE: Duration = Duration::from_secs(20);

/// The mount, its lower tree, and what that was before.
pub(super) struct Mounted<'a> {
    lab: &'a Lab,
    home: TempDir,
    /// Where the files are seen.
    pub(super) root: PathBuf,
    /// The lower tree.
    pub(super) lower: PathBuf,
    before: Snapshot,
    is_mounted: bool,
}

impl<'a> Mounted<'a> {
    /// Has `fill` make the lower tree, and mounts a space over it.
    pub(super) fn new(lab: &'a Lab, fill: impl FnOnce(&Path)) -> Self {
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        // A short name: a socket's must fit into 108 bytes.
        let (root, lower) = (lab.a.directory.join("mnt"), home.path().join("lower"));
        fs::create_dir_all(&root).unwrap();
        fs::create_dir(&lower).unwrap();
        fill(&lower);
        let text = format!("[space]\nname = \"files\"\n[files]\nroot = {:?}\n", lower);
        fs::write(home.path().join("files.toml"), text).unwrap();
        let before = Snapshot::of(&lower);
        let mut mounted = Self { lab, home, root, lower, before, is_mounted: false };
        mounted.mount();
        mounted
    }

    /// A directory beside the mount, on the same disk.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        let path = self.home.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub(super) fn mount(&mut self) {
        let file = self.home.path().join("files.toml");
        let mut command = self.portspace("mount");
        command.arg(file).arg(&self.root);
        let ended = finish(&mut command, PATIENCE).unwrap();
        assert!(ended.ok(), "mount: {}", ended.why());
        self.is_mounted = true;
    }

    /// Unmounts as a user does, and waits for the end of the server.
    pub(super) fn unmount(&mut self) {
        let server = self.server();
        must(Command::new("umount").arg(&self.root));
        self.is_mounted = false;
        eventually("the server ends", || is_dead(server));
    }

    /// Kills the server, and takes away what is left of the mount.
    pub(super) fn kill(&mut self) {
        let server = self.server();
        kill_process(server, Signal::KILL).unwrap();
        must(Command::new("umount").arg("-l").arg(&self.root));
        self.is_mounted = false;
        eventually("the server dies", || is_dead(server));
    }

    /// The server's process.
    pub(super) fn server(&self) -> Pid {
        let note = self.home.path().join("run/spaces/files/mount.json");
        let note: serde_json::Value = serde_json::from_slice(&fs::read(note).unwrap()).unwrap();
        Pid::from_raw(i32::try_from(note["pid"].as_i64().unwrap()).unwrap()).unwrap()
    }

    /// Unmounts, mounts again, and compares with what was seen before.
    pub(super) fn must_last(&mut self) {
        let seen = Snapshot::of(&self.root);
        self.unmount();
        self.mount();
        seen.must_be(&Snapshot::of(&self.root), "after mounting again");
    }

    /// Unmounts; fails if the lower tree is not what it was.
    pub(super) fn end(mut self) {
        self.unmount();
        self.before.must_be(&Snapshot::of(&self.lower), "the lower tree");
    }

    /// A program in the mount; the test is ignored without it.
    pub(super) fn program(&self, name: &str, package: &str) -> Command {
        let mut command = program(name, package);
        command.current_dir(&self.root);
        command
    }

    fn portspace(&self, what: &str) -> Command {
        let mut command = self.lab.a.portspace(&[what]);
        command
            .env("PORTSPACE_RUNTIME_DIR", self.home.path().join("run"))
            .env("PORTSPACE_STATE_DIR", self.home.path().join("state"));
        command
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if self.is_mounted {
            // Whatever state a failed test left it in.
            let _ = Command::new("umount").arg("-l").arg(&self.root).output();
        }
    }
}

/// Whether nothing of a process runs; where nobody waits for it, its first thread stays to be seen.
fn is_dead(process: Pid) -> bool {
    let proc = PathBuf::from(format!("/proc/{}", process.as_raw_nonzero()));
    let stat = fs::read_to_string(proc.join("stat"));
    let is_zombie = |stat: &str| stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"));
    let threads = fs::read_dir(proc.join("task")).map_or(0, Iterator::count);
    threads <= 1 && stat.map_or(true, |stat| is_zombie(&stat))
}

/// A program; the test is ignored without it.
pub(super) fn program(name: &str, package: &str) -> Command {
    if Command::new(name).arg("--version").stdin(Stdio::null()).output().is_err() {
        ignore(format!("{name} is missing: install {package}"));
    }
    let mut command = Command::new(name);
    command.stdin(Stdio::null());
    command
}

/// A program that is named by the environment, or else is in `PATH`.
pub(super) fn named(variable: &str, name: &str, remedy: &str) -> Command {
    let program = std::env::var_os(variable).unwrap_or_else(|| name.into());
    if Command::new(&program).arg("--version").stdin(Stdio::null()).output().is_err() {
        ignore(format!("{name} is missing: {remedy}, and name it in {variable}"));
    }
    let mut command = Command::new(program);
    command.stdin(Stdio::null());
    command
}

/// Runs a program that must succeed; what it printed.
pub(super) fn must(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (out, said) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    let tail: Vec<&str> = out.lines().chain(said.lines()).rev().take(30).collect();
    let program = command.get_program().display().to_string();
    let arguments: Vec<&OsStr> = command.get_args().collect();
    assert!(
        status.success(),
        "{program} {arguments:?}: {status}:\n{}",
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    out.into_owned()
}
