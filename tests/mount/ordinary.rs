//! An ordinary user mounts through fusermount3, in no lab: that program gives nothing to a
//! user of namespaces.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use libtest_mimic::{Arguments, Trial};

/// The user and group `nobody`, as whom root runs what an ordinary user does.
const NOBODY: u32 = 65534;

/// What the user does; `$1` is portspace, `$PWD` the user's own directory.
const SCRIPT: &str = r#"
set -eux
portspace=$1
cleanup() { fusermount3 -u -z mnt 2>/dev/null || true; "$portspace" rm red >/dev/null 2>&1 || true; }
trap cleanup EXIT
"$portspace" mount red.toml mnt | grep -F "fusermount3 -u $PWD/mnt"
grep -F " $PWD/mnt fuse.portspace " /proc/self/mounts | grep -q nosuid,nodev
[ "$(cat mnt/notes)" = "the parent's" ]
echo mine >mnt/new
[ "$(stat -c %u mnt/new)" = "$(id -u)" ]
echo changed >mnt/notes
mkdir mnt/directory && mv mnt/new mnt/directory/moved
[ "$(cat parent/notes)" = "the parent's" ]
"$portspace" ls | grep -q mounted
fusermount3 -u mnt
[ "$(cat state/spaces/red/own/upper/directory/moved)" = mine ]
for attempt in 1 2 3 4 5 6 7 8 9 10; do "$portspace" mount red mnt >/dev/null && break; sleep 0.1; done
[ "$(cat mnt/notes)" = changed ]
"$portspace" stop red | grep -q 'no longer mounted'
[ -z "$(ls mnt)" ]
"$portspace" diff red | grep -q '^changed  notes'
"$portspace" commit red | grep -q 'committed to'
[ "$(cat parent/notes)" = changed ] && [ "$(cat parent/directory/moved)" = mine ]
"$portspace" diff red | grep -q 'has changed nothing'
"$portspace" mount red mnt >/dev/null
cp /bin/true mnt/program && chmod u+s mnt/program && echo kept >mnt/kept
"$portspace" stop red
("$portspace" commit red 2>&1 || true) | grep -q 'program: it has a set-id bit'
[ ! -e parent/program ] && [ ! -e parent/kept ]
chmod a-w parent
("$portspace" commit red kept 2>&1 || true) | grep -q 'permission denied; nothing was changed'
chmod u+w parent
"$portspace" commit red kept && [ "$(cat parent/kept)" = kept ]
"$portspace" discard red program
"$portspace" diff red | grep -q 'has changed nothing'
[ -z "$(find . -name '.portspace-commit*')" ]
("$portspace" mount red /usr 2>&1 || true) | grep -q 'fusermount3 refuses /usr'
(PATH=/nowhere "$portspace" mount red mnt 2>&1 || true) | grep -q 'install the package fuse3'
"$portspace" rm red
"#;

/// The suite on the disk itself and in a mounted space: paths of the same length.
const SUITE: &str = r#"
set -eu
portspace=$1
cleanup() { fusermount3 -u -z mnt 2>/dev/null || true; "$portspace" rm red >/dev/null 2>&1 || true; }
trap cleanup EXIT
"$portspace" mount red.toml mnt >&2
mkdir -p mnt/suite raw/suite
for root in raw/suite mnt/suite; do ./pjdfstest -c pjdfstest.toml -p "$PWD/$root" || true; echo "END $root"; done
"#;

/// What the suite may try, and as whom: the user alone.
const FEATURES: &str = "[features]\nposix_fallocate = {}\nrename_ctime = {}\nutime_now = {}\n\
    utimensat = {}\n[settings]\nnaptime = 0.02\nallow_remount = false\n[dummy_auth]\n\
    entries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"]]\n";

/// Names the suite.
const PROGRAM: &str = "PORTSPACE_PJDFSTEST";

fn main() -> ExitCode {
    if let Some(status) = tests::as_portspace() {
        return status;
    }
    let missing = missing();
    let trial =
        |name: &str, missing: Option<String>, test: fn() -> Result<(), String>| match missing {
            Some(reason) => tests::ignored(name, &reason),
            None => Trial::test(name, move || test().map_err(Into::into)),
        };
    let trials = vec![
        trial("a user without any capability mounts a space", missing.clone(), mounts),
        trial("pjdfstest finds no fault as a user", missing.or_else(no_suite), suite),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn mounts() -> Result<(), String> {
    let output = run(SCRIPT);
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(said.into_owned()) }
}

/// What fails in the space fails on the disk as well: a user may do it nowhere.
fn suite() -> Result<(), String> {
    let output = run(SUITE);
    let said = String::from_utf8_lossy(&output.stdout);
    let parts: Vec<&str> = said.split("\nEND ").collect();
    let [plain, space, _] = parts[..] else {
        return Err(format!("{said}\n{}", String::from_utf8_lossy(&output.stderr)));
    };
    let passed = |of: &str| of.lines().filter(|line| line.ends_with("ok")).count();
    let failed = |of: &str| -> Vec<String> {
        let failed = of.lines().filter(|line| line.ends_with("FAILED"));
        failed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    };
    let nowhere = failed(plain);
    let wrong: Vec<_> = failed(space).into_iter().filter(|name| !nowhere.contains(name)).collect();
    let counts = (passed(space), passed(plain));
    // Of a mount Linux does not say how many links a file may have: that one is skipped.
    match wrong.is_empty() && counts.0 + 1 >= counts.1 && counts.1 > 1 {
        true => Ok(()),
        false => Err(format!("failed in the space alone: {wrong:?}; passed: {counts:?}\n{space}")),
    }
}

fn no_suite() -> Option<String> {
    let found = program().metadata().is_ok_and(|metadata| metadata.is_file());
    (!found).then(|| {
        format!("pjdfstest is missing: cargo install pjdfstest --version 0.2.2 --locked, and name it in {PROGRAM}")
    })
}

/// The suite's binary.
fn program() -> PathBuf {
    std::env::var_os(PROGRAM).unwrap_or_default().into()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").map(|seen| std::os::unix::fs::MetadataExt::uid(&seen)).unwrap() == 0
}

/// What this machine lacks.
fn missing() -> Option<String> {
    if Command::new("fusermount3").arg("-V").stdout(Stdio::null()).status().is_err() {
        return Some("fusermount3 is not installed: install the package fuse3".to_owned());
    }
    // Root tries what it needs: a /dev/fuse that everybody may open, in a mount namespace alone.
    let mut probe = match is_root() {
        true => with_device(":"),
        false => Command::new("sh"),
    };
    if !is_root() {
        probe.args(["-c", ": <>/dev/fuse"]);
    }
    let output = probe.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    (!output.status.success()).then(|| format!("there is no /dev/fuse to try with: {said}"))
}

/// A shell of root's where everybody may open /dev/fuse: the machine's own is left as it is.
fn with_device(then: &str) -> Command {
    let script = format!(
        "set -e; mount -t tmpfs -o mode=0755 none /mnt; mknod -m 666 /mnt/fuse c 10 229; \
         mount --bind /mnt/fuse /dev/fuse; umount -l /mnt; : <>/dev/fuse; {then}"
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script, "sh"]);
    command
}

/// Runs `script` as an ordinary user, in a directory of that user's with all it needs.
fn run(script: &str) -> Output {
    let place = tempfile::tempdir().unwrap();
    let home = place.path();
    for directory in ["parent", "mnt", "state", "run"] {
        fs::create_dir(home.join(directory)).unwrap();
        let private = fs::Permissions::from_mode(0o700);
        fs::set_permissions(home.join(directory), private).unwrap();
    }
    fs::write(home.join("parent/notes"), "the parent's\n").unwrap();
    let lower = home.join("parent");
    fs::write(home.join("red.toml"), format!("[files]\nroot = {lower:?}\n")).unwrap();
    // The user may not reach the binary where it was built.
    let binary = home.join("portspace");
    fs::copy("/proc/self/exe", &binary).unwrap();
    fs::write(home.join("pjdfstest.toml"), FEATURES).unwrap();
    if no_suite().is_none() {
        fs::copy(program(), home.join("pjdfstest")).unwrap();
    }
    let mut command = match is_root() {
        true => {
            let everything = ["parent", "parent/notes", "mnt", "state", "run", "red.toml", "."];
            everything.iter().for_each(|path| give(&home.join(path)));
            let ids = format!("--reuid={NOBODY} --regid={NOBODY} --clear-groups");
            with_device(&format!("exec setpriv {ids} sh -c \"$1\" sh \"$2\""))
        }
        false => {
            let mut command = Command::new("sh");
            command.args(["-c", "exec sh -c \"$1\" sh \"$2\"", "sh"]);
            command
        }
    };
    command.args([script, binary.to_str().unwrap()]);
    command
        .env("PORTSPACE_STATE_DIR", home.join("state"))
        .env("PORTSPACE_RUNTIME_DIR", home.join("run"))
        .current_dir(home)
        .stdin(Stdio::null());
    command.output().unwrap()
}

fn give(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}
