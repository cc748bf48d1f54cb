//! Files that a run takes along: those open by number, below what the space sees.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use monitor::control::Inherited;

use crate::failure::{Failure, Outcome, While};

/// Flags of open(2) that a file keeps inside: O_ACCMODE and O_APPEND.
const KEPT: u32 = 0o2003;
/// O_CLOEXEC and O_PATH of open(2), as fdinfo shows them (proc(5)).
const CLOSES: u32 = 0o2_000_000;
const NAMES_ONLY: u32 = 0o10_000_000;

/// The regular files below `root` that whoever started this process left open for it, from 3 on.
///
/// What it opened itself is closed on exec, and so left out.
///
/// # Errors
/// One is below `root` and no path inside leads to it.
pub(super) fn below(root: &Path) -> Outcome<Vec<Inherited>> {
    let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
    let failed = || "cannot list the files that are open".to_owned();
    let mut files = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").or_fail(failed)? {
        let name = entry.or_fail(failed)?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        if let Some(number) = number.filter(|number| *number > 2)
            && let Some(file) = inherited(number, &root)?
        {
            files.push(file);
        }
    }
    files.sort_by_key(|file| file.number);
    Ok(files)
}

/// Descriptor `number` if it is to be taken along.
fn inherited(number: u32, root: &Path) -> Outcome<Option<Inherited>> {
    let place = format!("/proc/self/fd/{number}");
    // It may be this listing's own, and gone.
    let Ok(info) = fs::read_to_string(format!("/proc/self/fdinfo/{number}")) else {
        return Ok(None);
    };
    let Some((offset, flags)) = position(&info) else { return Ok(None) };
    if flags & (CLOSES | NAMES_ONLY) != 0 {
        return Ok(None);
    }
    let (Ok(file), Ok(path)) = (fs::metadata(&place), fs::read_link(&place)) else {
        return Ok(None);
    };
    let Ok(inside) = path.strip_prefix(root) else { return Ok(None) };
    if !file.is_file() {
        return Ok(None);
    }
    let remedy = format!("close it ({number}<&-), or run with --no-files");
    let shown = path.display();
    if file.nlink() == 0 {
        let sentence = format!(
            "descriptor {number} is a removed file, {shown}, which is not inside; {remedy}"
        );
        return Err(Failure::new(sentence));
    }
    let Some(inside) = inside.to_str() else {
        let sentence = format!(
            "descriptor {number}, {shown}: names that are not UTF-8 are not passed; {remedy}"
        );
        return Err(Failure::new(sentence));
    };
    Ok(Some(Inherited { number, path: format!("/{inside}"), flags: flags & KEPT, offset }))
}

/// Offset and flags of a descriptor, as fdinfo shows them (proc(5)).
fn position(info: &str) -> Option<(u64, u32)> {
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some((field("pos:")?.parse().ok()?, u32::from_str_radix(field("flags:")?, 8).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_and_flags_are_read_as_the_kernel_shows_them() {
        let info = "pos:\t12\nflags:\t0102001\nmnt_id:\t29\nino:\t3\n";
        assert_eq!(position(info), Some((12, 0o102_001)));
        assert_eq!(position("pos:\t-1\nflags:\t02\n"), None);
        assert_eq!(position(""), None);
    }

    #[test]
    fn what_this_process_opened_itself_is_not_taken_along() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("own");
        fs::write(&path, "own").unwrap();
        let _open = fs::OpenOptions::new().read(true).open(&path).unwrap();
        assert_eq!(below(directory.path()).unwrap(), []);
    }
}
