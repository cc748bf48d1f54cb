//! Removing a directory and all below it, however deep: a guest made it.

use crate::host::{Directory, Rename};
use fuse::{Errno, Name};

/// Removes `name`, whose name begins with `#`, and all below it.
///
/// Directories are first moved up beside `name`, under names of the same kind: what a killed
/// process leaves is found again, and no more than two are open. What is mounted below is
/// refused with EBUSY.
pub(crate) fn remove_all(directory: &Directory, name: Name<'_>) -> Result<(), Errno> {
    let mut left = vec![name.as_bytes().to_vec()];
    let mut number = 0_u64;
    while let Some(name) = left.pop() {
        let checked = Name::new(&name)?;
        match directory.stat(checked)? {
            None => {}
            Some(stat) if stat.is_directory() => {
                if stat.mode & 0o700 != 0o700 {
                    // Who owns it may; who does not is told by what comes next.
                    let _ = directory.set_mode(checked, 0o700);
                }
                empty(directory, checked, &mut left, &mut number)?;
                directory.remove_directory(checked)?;
            }
            Some(_) => directory.remove(checked)?,
        }
    }
    Ok(())
}

/// Removes the files of a directory and moves its directories up, to `left`.
fn empty(
    directory: &Directory,
    name: Name<'_>,
    left: &mut Vec<Vec<u8>>,
    number: &mut u64,
) -> Result<(), Errno> {
    let inner = directory.directory(name, true)?;
    let mut names = Vec::new();
    inner.list(|name, _, _| names.push(name.as_bytes().to_vec()))?;
    for name in &names {
        let name = Name::new(name)?;
        let Some(stat) = inner.stat(name)? else { continue };
        if !stat.is_directory() {
            inner.remove(name)?;
            continue;
        }
        if stat.mode & 0o700 != 0o700 {
            let _ = inner.set_mode(name, 0o700);
        }
        loop {
            *number += 1;
            let above = format!("#below-{number}").into_bytes();
            match inner.rename(name, directory, Name::new(&above)?, Rename::New) {
                // Left by a process that was killed.
                Err(Errno::EEXIST) => {}
                moved => {
                    moved?;
                    left.push(above);
                    break;
                }
            }
        }
    }
    Ok(())
}
