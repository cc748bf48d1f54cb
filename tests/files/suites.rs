//! Suites that look for faults of file systems.

use std::fs;

use cli::lab::Lab;
use tests::ignore;

use crate::mounted::{Mounted, must, named};

const FSX: [&str; 3] = ["PORTSPACE_FSX", "fsx", "cargo install fsx --version 0.3.2 --locked"];
const PJDFSTEST: [&str; 3] =
    ["PORTSPACE_PJDFSTEST", "pjdfstest", "cargo install pjdfstest --version 0.2.2 --locked"];

/// Passes of ext4 with no optional feature; what is skipped there may be skipped here.
const PASSES: usize = 376;

/// Operations of fsx; each is checked against a copy in memory.
const OPERATIONS: &str = "100000";

/// All that Linux can do to a file; it rarely waits for the disk.
const WEIGHTS: &str = "nomsyncafterwrite = true\n[weights]\nread = 10\nwrite = 10\nmapread = 10\n\
     mapwrite = 10\ninvalidate = 1\nfsync = 0.1\nfdatasync = 0.1\nsendfile = 1\nposix_fadvise = 1\n\
     copy_file_range = 1\n";

pub(super) fn fsx_upper(lab: &Lab) {
    fsx(
        lab,
        "upper",
        &format!("{WEIGHTS}close_open = 1\ntruncate = 10\nposix_fallocate = 1\npunch_hole = 1\n"),
    );
}

/// Without changing its length, which would begin with emptying it.
pub(super) fn fsx_lower(lab: &Lab) {
    fsx(lab, "lower", &format!("blockmode = true\n{WEIGHTS}close_open = 0\ntruncate = 0\n"));
}

fn fsx(lab: &Lab, file: &str, configuration: &str) {
    let [variable, name, remedy] = FSX;
    let mut fsx = named(variable, name, remedy);
    let mut mounted = Mounted::new(lab, |lower| {
        fs::write(lower.join("lower"), vec![3; 256 << 10]).unwrap();
    });
    let beside = mounted.beside("fsx");
    let toml = beside.join("fsx.toml");
    fs::write(&toml, configuration).unwrap();
    fsx.args(["-q", "-N", OPERATIONS, "-S", "7", "-f"]).arg(&toml).arg("-P").arg(&beside);
    must(fsx.arg(mounted.root.join(file)));
    mounted.must_last();
    mounted.end();
}

pub(super) fn pjdfstest(lab: &Lab) {
    let [variable, name, remedy] = PJDFSTEST;
    let mut pjdfstest = named(variable, name, remedy);
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    if !map.split_whitespace().eq(["0", "0", "4294967295"]) {
        ignore("it takes root: pjdfstest acts as several users");
    }
    // As deep as a user's directories: the suite's own are made in one of the lower tree.
    let mounted = Mounted::new(lab, |lower| {
        fs::create_dir(lower.join("directory")).unwrap();
        fs::write(lower.join("directory/file"), "of the lower tree").unwrap();
    });
    let toml = mounted.beside("pjdfstest").join("pjdfstest.toml");
    let text = "[features]\nposix_fallocate = {}\nrename_ctime = {}\nutime_now = {}\n\
         utimensat = {}\n[settings]\nnaptime = 0.02\nallow_remount = false\n[dummy_auth]\n\
         entries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"], [\"bin\", \"bin\"]]\n";
    fs::write(&toml, text).unwrap();
    let output = pjdfstest
        .arg("-c")
        .arg(&toml)
        .arg("-p")
        .arg(mounted.root.join("directory"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let summary = said.lines().rev().find_map(|line| line.strip_prefix("Summary: "));
    let summary = summary.unwrap_or_else(|| panic!("no summary: {said}"));
    let count = |what: &str| -> usize {
        let part = summary.split(", ").find_map(|part| part.strip_suffix(what));
        part.unwrap().trim().parse().unwrap()
    };
    let failed: Vec<&str> = said.lines().filter(|line| line.ends_with("FAILED")).collect();
    assert!(count(" failed") == 0, "{summary}: {failed:?}");
    assert!(count(" passed") >= PASSES, "{summary}");
    mounted.end();
}
