//! How much memory the lab's processes take.

use std::path::Path;

use crate::failure::{Failure, Outcome, While};
use crate::lab::Lab;

/// Memory of the switch of A, KiB.
pub(super) fn switch_kib(lab: &Lab) -> Outcome<u64> {
    let socket = lab.a.directory.join("run/switch.sock");
    pss_kib(pid_with_argument(&socket)?)
}

/// Memory of a process, of what it shares its share, KiB.
pub(super) fn pss_kib(pid: u32) -> Outcome<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).or_fail(|| format!("cannot read {path}"))?;
    pss(&text).ok_or_else(|| Failure::new(format!("{path} does not say Pss")))
}

fn pss(rollup: &str) -> Option<u64> {
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The process that was started with this argument; the caller was not.
fn pid_with_argument(argument: &Path) -> Outcome<u32> {
    let argument = argument.as_os_str().as_encoded_bytes();
    let processes = std::fs::read_dir("/proc").or_fail(|| "cannot list /proc".to_owned())?;
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let started_so = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).any(|word| word == argument)
    };
    let mut pids = pids.filter(started_so);
    pids.next().ok_or_else(|| Failure::new("the switch of A does not run any more"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_memory_is_read_and_not_that_of_a_kind() {
        let text = "00400000-7ffd [rollup]\nRss:   1200 kB\nPss:     840 kB\nPss_Anon: 7 kB\n";
        assert_eq!(pss(text), Some(840));
        assert_eq!(pss("Pss_Anon: 7 kB\n"), None);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(pss_kib(std::process::id()).unwrap() > 100);
    }
}
