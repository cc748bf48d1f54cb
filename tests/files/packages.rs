//! Archives of many files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use cli::lab::Lab;
use tests::ignore;

use crate::mounted::{Mounted, must, program};
use crate::snapshot::Snapshot;

/// Names the package to extract.
const PACKAGE: &str = "PORTSPACE_DEB";

fn package() -> PathBuf {
    program("dpkg-deb", "the package dpkg");
    match std::env::var_os(PACKAGE) {
        Some(path) => std::path::absolute(path).unwrap(),
        None => ignore(format!(
            "{PACKAGE} does not name a Debian package of many files, such as \
             linux-headers-*-common; fetch one with: apt-get download"
        )),
    }
}

/// Extracts the package as the reference for both tests.
fn extract(package: &Path, into: &Path) {
    must(Command::new("dpkg-deb").arg("-x").arg(package).arg(into));
}

pub(super) fn tar(lab: &Lab) {
    let package = package();
    let mut mounted = Mounted::new(lab, |lower| fs::create_dir(lower.join("usr")).unwrap());
    let (inside, outside) = (mounted.root.clone(), mounted.beside("outside"));
    let start = SystemTime::now();
    fs::create_dir(outside.join("usr")).unwrap();
    for directory in [&inside, &outside] {
        let mut archive = Command::new("dpkg-deb");
        let archive = archive.arg("--fsys-tarfile").arg(&package).stdout(Stdio::piped());
        let mut archive = archive.spawn().unwrap();
        let contents = archive.stdout.take().unwrap();
        must(Command::new("tar").arg("-x").current_dir(directory).stdin(contents));
        assert!(archive.wait().unwrap().success());
    }
    // Where tar makes links last, it leaves the directory's time as it comes.
    let expected = Snapshot::of(&outside).of_before(start);
    assert!(expected.len() > 1000, "only {} files in {}", expected.len(), package.display());
    expected.must_be(&Snapshot::of(&inside).of_before(start), "what was extracted");
    mounted.must_last();
    must(Command::new("rm").arg("-r").arg(inside.join("usr")));
    assert_eq!(fs::read_dir(&inside).unwrap().count(), 0, "all of it can be removed");
    mounted.end();
}

pub(super) fn dpkg(lab: &Lab) {
    let package = package();
    let start = SystemTime::now();
    // The older one: half of the files, with other contents and another mode.
    let mut mounted = Mounted::new(lab, |lower| {
        extract(&package, lower);
        age(lower, &mut 0);
    });
    let (inside, outside) = (mounted.root.clone(), mounted.beside("outside"));
    extract(&package, &inside);
    extract(&package, &outside);
    let [expected, seen] = [&outside, &inside].map(|root| Snapshot::of(root).of_before(start));
    expected.must_be(&seen, "what was extracted");
    mounted.must_last();
    mounted.end();
}

/// Changes or removes every other file.
fn age(directory: &Path, count: &mut usize) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.symlink_metadata().unwrap().is_dir() {
            age(&path, count);
            continue;
        }
        *count += 1;
        match *count % 4 {
            0 => fs::remove_file(&path).unwrap(),
            1 if !path.is_symlink() => fs::write(&path, "older").unwrap(),
            _ => {}
        }
    }
}
