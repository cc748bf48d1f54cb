//! Programs that everybody uses, and two that look for faults.

use std::fs;
use std::path::Path;
use std::process::Command;

use cli::lab::Lab;

use crate::mounted::{Mounted, must, program};
use crate::snapshot::Snapshot;

/// Files of the tree that the programs work on.
const FILES: usize = 400;

/// Contents that differ from file to file.
pub(super) fn contents(number: usize) -> Vec<u8> {
    (0..500 + number * 37 % 9000).map(|at| (at * (number + 3) / 7) as u8).collect()
}

/// A tree with all that a copying program must copy.
fn fill(root: &Path) {
    for number in 0..FILES {
        let directory = root.join(format!("tree/part{}/inner{}", number % 7, number % 3));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("file{number}")), contents(number)).unwrap();
    }
    let tree = root.join("tree");
    fs::hard_link(tree.join("part0/inner0/file0"), tree.join("linked")).unwrap();
    std::os::unix::fs::symlink("part0/inner0/file0", tree.join("symbolic")).unwrap();
    must(Command::new("mkfifo").arg(tree.join("fifo")));
}

fn git_in(mounted: &Mounted, directory: &str) -> Command {
    let mut git = mounted.program("git", "the Debian package git");
    git.env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(["-c", "user.name=tests", "-c", "user.email=tests@localhost"])
        .args(["-c", "safe.directory=*", "-c", "gc.autoDetach=false"])
        .current_dir(mounted.root.join(directory));
    git
}

pub(super) fn git(lab: &Lab) {
    program("git", "the Debian package git");
    let mut mounted = Mounted::new(lab, fill);
    let run = |directory: &str, arguments: &[&str]| {
        must(git_in(&mounted, directory).args(arguments));
    };
    run("tree", &["init", "--quiet"]);
    run("tree", &["add", "--all"]);
    run("tree", &["commit", "--quiet", "-m", "first"]);
    run("", &["clone", "--quiet", "tree", "clone"]);
    for number in 0..30 {
        let path = mounted.root.join(format!("clone/part{}/changed", number % 7));
        fs::write(path, contents(number)).unwrap();
        run("clone", &["add", "--all"]);
        run("clone", &["commit", "--quiet", "-m", &format!("change {number}")]);
    }
    run("clone", &["gc", "--quiet", "--prune=now"]);
    run("clone", &["push", "--quiet", "origin", "HEAD:refs/heads/changed"]);
    run("tree", &["gc", "--quiet", "--prune=now"]);
    for directory in ["tree", "clone"] {
        run(directory, &["fsck", "--strict", "--full"]);
        let said = must(git_in(&mounted, directory).args(["status", "--porcelain"]));
        assert_eq!(said, "", "{directory}");
    }
    run("tree", &["merge", "--quiet", "changed"]);
    let count = must(git_in(&mounted, "tree").args(["rev-list", "--count", "HEAD"]));
    assert_eq!(count.trim(), "31");
    mounted.must_last();
    mounted.end();
}

pub(super) fn rsync(lab: &Lab) {
    program("rsync", "the Debian package rsync");
    let mut mounted = Mounted::new(lab, fill);
    let [inside, outside] = [&mounted.root, &mounted.beside("outside")].map(Clone::clone);
    let copy = |from: &Path, to: &Path| {
        let mut rsync = mounted.program("rsync", "the Debian package rsync");
        // To the nanosecond: by itself it looks at seconds only.
        must(rsync.args(["-aHX", "--delete", "--modify-window=-1"]).arg(from.join("")).arg(to));
        Snapshot::of(from)
            .must_be(&Snapshot::of(to), &format!("{} as {}", from.display(), to.display()));
    };
    let [tree, inner, outer] = [inside.join("tree"), inside.join("copy"), outside.join("copy")];
    copy(&tree, &inner);
    copy(&tree, &outer);
    // Over lower files: some are changed, some are gone, some are new.
    for number in 0..FILES {
        let name = format!("part{}/inner{}/file{number}", number % 7, number % 3);
        match number % 4 {
            0 => fs::write(outer.join(name), contents(number + 1)).unwrap(),
            1 => fs::remove_file(outer.join(name)).unwrap(),
            2 => fs::rename(outer.join(&name), outer.join(name + ".new")).unwrap(),
            _ => {}
        }
    }
    fs::remove_dir_all(outer.join("part3")).unwrap();
    copy(&outer, &tree);
    mounted.must_last();
    mounted.end();
}

pub(super) fn fio(lab: &Lab) {
    program("fio", "the Debian package fio");
    let mut mounted = Mounted::new(lab, |lower| {
        fs::write(lower.join("lower"), vec![1; 8 << 20]).unwrap();
        fs::write(lower.join("mapped"), vec![1; 8 << 20]).unwrap();
    });
    for (file, engine, pattern) in [
        ("upper", "psync", "randwrite"),
        ("lower", "psync", "randwrite"),
        ("lower", "psync", "write"),
        ("upper", "mmap", "randwrite"),
        ("mapped", "mmap", "randwrite"),
        ("lower", "libaio", "randwrite"),
    ] {
        let mut fio = mounted.program("fio", "the Debian package fio");
        must(
            fio.args(["--name=verified", "--bsrange=512-64k", "--size=8m", "--fallocate=none"])
                .args(["--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--end_fsync=1"])
                .args(["--bs_unaligned=0", "--random_generator=lfsr", "--group_reporting"])
                .args([format!("--filename={file}"), format!("--ioengine={engine}")])
                .arg(format!("--rw={pattern}")),
        );
    }
    mounted.must_last();
    mounted.end();
}

pub(super) fn stress(lab: &Lab) {
    program("stress-ng", "the Debian package stress-ng");
    let mounted = Mounted::new(lab, fill);
    let mut stress = mounted.program("stress-ng", "the Debian package stress-ng");
    must(stress.args(["--temp-path", ".", "--timeout", "6s", "--verify", "--oomable"]).args([
        "--hdd",
        "1",
        "--hdd-bytes",
        "8m",
        "--dir",
        "1",
        "--rename",
        "1",
        "--link",
        "1",
        "--symlink",
        "1",
        "--dentry",
        "1",
        "--filename",
        "1",
        "--fstat",
        "1",
        "--utime",
        "1",
        "--chmod",
        "1",
        "--seek",
        "1",
        "--xattr",
        "1",
    ]));
    let left: Vec<_> =
        fs::read_dir(&mounted.root).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["tree"], "it removes what it made");
    mounted.end();
}
