//! What is in a directory, to be compared.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Every file below a directory: mode, time of change (nanoseconds) and contents.
pub type Tree = BTreeMap<PathBuf, (u32, i64, Vec<u8>)>;

/// Reads every file below `root`; a link's contents are what it says.
///
/// # Panics
/// If one cannot be read.
pub fn tree(root: &Path) -> Tree {
    let mut files = Tree::new();
    read(root, root, &mut files).expect("the files of a test can be read");
    files
}

fn read(root: &Path, directory: &Path, files: &mut Tree) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let (path, seen) = (entry.path(), entry.metadata()?);
        if seen.is_dir() {
            read(root, &path, files)?;
            continue;
        }
        let bytes = match seen.is_symlink() {
            true => std::fs::read_link(&path)?.into_os_string().into_vec(),
            false => std::fs::read(&path)?,
        };
        let changed_ns = seen.mtime() * 1_000_000_000 + seen.mtime_nsec();
        let below = path.strip_prefix(root).expect("it was found there").to_owned();
        files.insert(below, (seen.mode(), changed_ns, bytes));
    }
    Ok(())
}
