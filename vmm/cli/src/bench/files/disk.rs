//! A file system of the bench's own, in a file: the same everywhere, and nobody else's.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::systems::is_in_user_namespace;
use crate::failure::{Failure, Outcome, While};
use crate::lab::service::finish;

/// The file's length; only what is used of it takes room.
const BYTES: u64 = 16 << 30;

/// Longest wait for its making.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Makes an ext4 with a journal in `place` and mounts it for this lab alone.
///
/// One without a journal, as some virtual machines have, takes no number of an inode again within
/// minutes of its end, and looks at all of them for each new file.
///
/// # Errors
/// Only root can, and it takes `mkfs.ext4` and loop devices.
pub(super) fn make(place: &Path) -> Outcome<PathBuf> {
    if is_in_user_namespace() {
        return Err(Failure::new("only root makes one"));
    }
    let (image, root) = (place.join("image"), place.join("disk"));
    let made = File::create(&image).and_then(|file| file.set_len(BYTES));
    made.and_then(|()| fs::create_dir(&root)).or_fail(|| format!("in {}", place.display()))?;
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "nodiscard"]).arg(&image))?;
    // Without the kernel's own zeroing of tables in the background.
    run(Command::new("mount").args(["-o", "loop,noinit_itable"]).arg(&image).arg(&root))?;
    Ok(root)
}

fn run(command: &mut Command) -> Outcome<()> {
    let program = command.get_program().display().to_string();
    let ended = finish(command, PATIENCE)?;
    if ended.ok() { Ok(()) } else { Err(Failure::because(program, ended.why())) }
}
