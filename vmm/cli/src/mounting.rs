//! Mounts of spaces' files on the host: made, found, ended.
//!
//! A mount process has the files and the connection to the kernel; whoever mounts or
//! unmounts is a command outside of its jail.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mount::{Settings, Stage};
use serde::{Deserialize, Serialize};
use sys::fuse;
use sys::seqpacket::{Connection, Incoming};

use crate::config::{FilesConfig, SpaceName};
use crate::failure::{Failure, Outcome, While};
use crate::lifecycle::Spaces;
use crate::locks;
use crate::paths::{self, SpacePaths};
use crate::processes::{Background, Given};
use crate::seen;

/// Longest wait for a mount process to open its files, and to serve them.
const PATIENCE: Duration = Duration::from_secs(15);

/// Longest wait for the end of a mount process that is on its way out.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// How far the kernel reads ahead, KiB: as much as one request carries.
const READ_AHEAD_KIB: u32 = 1024;

/// What `mount` wrote down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Where it is mounted.
    pub(crate) directory: PathBuf,
    /// The mount's device number, `MAJOR:MINOR`, once it is served.
    device: Option<String>,
    /// The mount process.
    pub(crate) pid: u32,
}

/// How to mount.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// Threads that answer requests.
    pub(crate) threads: usize,
    /// Idle cores may halt between requests.
    pub(crate) frugal: bool,
    /// The mount process ends with this command.
    pub(crate) ends_with_us: bool,
}

/// A mount that was made.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) note: Note,
    pub(crate) server: Background,
}

impl Spaces {
    /// Mounts a space's files on `directory`; when this returns, they can be used.
    ///
    /// `file` is copied to the space's state if the configuration came from there.
    ///
    /// # Errors
    /// With the cause, in the mount process's own words if it is its; nothing of it stays.
    pub(crate) fn mount(
        &self,
        files: &FilesConfig,
        file: Option<&Path>,
        directory: &Path,
        how: How,
    ) -> Outcome<Mount> {
        let name = &files.name;
        let paths = self.paths.space(name);
        if let Some(root) = &files.files.root {
            check_root(root)?;
        }
        let directory = checked(directory)?;
        paths::own(&paths.runtime)?;
        await_note(&paths)?;
        if let Ok(note) = read_note(&paths)
            && !is_seen(&note, true)?
        {
            // Unmounted a moment ago: its process is on its way out, or it is told below.
            locks::is_freed(&paths.mount_lock(), END_PATIENCE)?;
        }
        let lock = locks::take(&paths.mount_lock())?;
        let lock = lock.ok_or_else(|| is_mounted(name, read_note(&paths).ok().as_ref()))?;
        // One that is left of a killed process must not be taken for that of the next.
        let _ = fs::remove_file(paths.mount_note());
        if locks::is_held(&paths.lock())? {
            return Err(Failure::new(format!(
                "space {name} is running, and what runs inside has its files; first: portspace stop {name}"
            )));
        }
        let is_new = !paths.state.exists();
        let made = (|| {
            if let Some(file) = file {
                paths.keep(file)?;
            }
            let lineage = self.lineage(name, files.parent.as_ref())?;
            seen::give(&paths, &files.files)?;
            let seen = seen::settings(&self.paths, &paths, &files.files, Some(&lineage))?;
            start(name, seen, &paths, lock, &directory, how)
        })();
        if made.is_err() {
            let _ = fs::remove_file(paths.mount_note());
            let _ = fs::remove_file(paths.mount_lock());
            if is_new {
                // It never was: there is nothing of it to keep, nor to list.
                let _ = fs::remove_dir_all(&paths.runtime);
                let _ = fs::remove_dir_all(&paths.state);
                let _ = self.sweep_layers();
            }
        }
        made.or_fail(|| format!("cannot mount space {name}"))
    }

    /// The space's mount, if there is one once the note of a process that was just started is there.
    ///
    /// # Errors
    /// As [`Self::mounted`].
    pub(crate) fn noted_mount(&self, name: &SpaceName) -> Outcome<Option<Note>> {
        await_note(&self.paths.space(name))?;
        self.mounted(name)
    }

    /// The space's mount, if there is one at this moment, served or not.
    ///
    /// # Errors
    /// The runtime directory or /proc cannot be read.
    pub(crate) fn mounted(&self, name: &SpaceName) -> Outcome<Option<Note>> {
        let paths = self.paths.space(name);
        if !paths.mount_note().exists() {
            return Ok(None);
        }
        let note = read_note(&paths)?;
        let is_served = locks::is_held(&paths.mount_lock())?;
        Ok((is_served || is_seen(&note, is_served)?).then_some(note))
    }

    /// Ends the space's mount; who still uses its files gets errors from then on.
    ///
    /// # Errors
    /// It cannot be unmounted, or its process not be ended.
    pub(crate) fn unmount(&self, name: &SpaceName, note: &Note) -> Outcome<()> {
        let paths = self.paths.space(name);
        let failed = || format!("the mount of space {name} cannot be ended");
        let lock = paths.mount_lock();
        if is_seen(note, locks::is_held(&lock)?)? {
            fuse::unmount(&note.directory).or_fail(failed)?;
        }
        if !locks::is_freed(&lock, END_PATIENCE)? {
            locks::kill_holder(&lock, note.pid)?;
            if !locks::is_freed(&lock, END_PATIENCE)? {
                let why = format!(
                    "process {} does not die; see {}",
                    note.pid,
                    paths.mount_log().display()
                );
                return Err(Failure::because(failed(), why));
            }
        }
        let _ = fs::remove_file(paths.mount_note());
        Ok(())
    }
}

/// The sentence that refuses what a mount stands against.
pub(crate) fn is_mounted(name: &SpaceName, note: Option<&Note>) -> Failure {
    let place = note.map(|note| format!(" on {}", note.directory.display()));
    let place = place.unwrap_or_default();
    Failure::new(format!("space {name} is mounted{place}; first: portspace stop {name}"))
}

/// How this user ends a mount.
pub(crate) fn ending(directory: &Path) -> String {
    let command = if rustix::process::geteuid().is_root() { "umount" } else { "fusermount3 -u" };
    format!("{command} {}", directory.display())
}

fn read_note(paths: &SpacePaths) -> Outcome<Note> {
    let failed = || format!("cannot read {}", paths.mount_note().display());
    serde_json::from_slice(&fs::read(paths.mount_note()).or_fail(failed)?).or_fail(failed)
}

/// Gives a mount process a moment of which there is no note: its command is about to write one, or
/// was killed before, and then it goes by itself.
fn await_note(paths: &SpacePaths) -> Outcome<()> {
    let start = sys::clock::monotonic_ns();
    while locks::is_held(&paths.mount_lock())? && read_note(paths).is_err() {
        if u128::from(sys::clock::monotonic_ns() - start) > END_PATIENCE.as_nanos() {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Whether the mount is the one to be seen at its directory.
///
/// The number of one whose process is gone may be another's by now; but that one answers.
fn is_seen(note: &Note, is_served: bool) -> Outcome<bool> {
    let found = at(&note.directory)?;
    let is_it = |mounted: &fuse::Mounted| {
        note.device.as_ref().is_none_or(|device| *device == mounted.device)
    };
    let is_it = found.as_ref().is_some_and(is_it);
    Ok(is_it && (is_served || fs::metadata(&note.directory).is_err()))
}

fn at(directory: &Path) -> Outcome<Option<fuse::Mounted>> {
    let mounts = fuse::mounts().or_fail(no_table)?;
    Ok(mounts.into_iter().find(|mounted| mounted.directory == directory))
}

fn no_table() -> String {
    "cannot read the table of mounts in /proc".to_owned()
}

/// Whether what a space is to see of this host can be seen.
pub(crate) fn check_root(root: &Path) -> Outcome<()> {
    let failed = || {
        let root = root.display();
        format!(
            "[files] root: {root} cannot be listed; name a directory that is there and may be read"
        )
    };
    fs::read_dir(root).map(drop).or_fail(failed)
}

/// The directory's own name, if it can be mounted on.
fn checked(directory: &Path) -> Outcome<PathBuf> {
    let shown = directory.display();
    let absolute = match fs::canonicalize(directory) {
        Ok(absolute) => absolute,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::new(format!("{shown} is not there; make it with: mkdir {shown}")));
        }
        Err(error) => return Err(error).or_fail(|| format!("cannot mount on {shown}")),
    };
    let seen = fs::metadata(&absolute);
    if at(&absolute)?.is_some() {
        return match &seen {
            // Its process was killed: nobody can ever use it again.
            Err(error) if error.kind() == std::io::ErrorKind::NotConnected => {
                fuse::unmount(&absolute).map_err(Failure::from_error)?;
                checked(directory)
            }
            _ => Err(Failure::new(format!(
                "{shown} is a mount of a space already; first: {}",
                ending(&absolute)
            ))),
        };
    }
    if !seen.or_fail(|| format!("cannot mount on {shown}"))?.is_dir() {
        return Err(Failure::new(format!("{shown} is no directory; name an empty one")));
    }
    Ok(absolute)
}

/// Starts the mount process, mounts, and waits until it serves.
fn start(
    name: &SpaceName,
    files: cowfs::Settings,
    paths: &SpacePaths,
    lock: File,
    directory: &Path,
    how: How,
) -> Outcome<Mount> {
    let mounts = fuse::mounts().or_fail(no_table)?.into_iter().map(|mounted| mounted.directory);
    let settings = Settings {
        name: name.to_string(),
        files,
        seal: Some(paths.seal_socket()?),
        hidden: mounts.chain([directory.to_owned()]).collect(),
        threads: how.threads,
        frugal: how.frugal,
    };
    let settings = serde_json::to_string(&settings).expect("settings are JSON");
    let (ours, theirs) = Connection::pair().or_fail(no_word)?;
    let given = Given {
        input: Some(OwnedFd::from(theirs)),
        output: Some(OwnedFd::from(lock)),
        ends_with_us: how.ends_with_us,
    };
    let arguments = ["mount-process", &settings];
    let mut server = Background::start("the mount process", &arguments, given, &paths.mount_log())?;
    server.wait_until(PATIENCE, || has_said(&ours, Stage::Opened))?;
    let device = fuse::mount(directory).map_err(Failure::from_error);
    let device = device.inspect_err(|_| server.end())?;
    let served = serve(paths, directory, device, &ours, &mut server);
    match served {
        Ok(note) => {
            // Only root may; without it the kernel reads ahead less.
            let _ = fuse::read_ahead(directory, READ_AHEAD_KIB);
            Ok(Mount { note, server })
        }
        Err(failure) => {
            let _ = fuse::unmount(directory);
            server.end();
            Err(failure)
        }
    }
}

/// Hands the connection to the kernel over to the mount process, and waits until it serves.
fn serve(
    paths: &SpacePaths,
    directory: &Path,
    device: fuse::Device,
    command: &Connection,
    server: &mut Background,
) -> Outcome<Note> {
    let mut note = Note { directory: directory.to_owned(), device: None, pid: server.id() };
    // Should this command be killed, the mount is found nevertheless.
    write_note(paths, &note)?;
    let sent = command.send(&[0], &[device.as_fd()]);
    // From here on it is the mount process's alone: it ends with it.
    drop(device);
    sent.or_fail(no_word)?;
    server.wait_until(PATIENCE, || has_said(command, Stage::Served))?;
    note.device = at(directory)?.map(|mounted| mounted.device);
    write_note(paths, &note)?;
    Ok(note)
}

fn write_note(paths: &SpacePaths, note: &Note) -> Outcome<()> {
    let text = serde_json::to_vec_pretty(note).expect("a note is JSON");
    let path = paths.mount_note();
    paths::replace(&path, &text).or_fail(|| format!("cannot write {}", path.display()))
}

fn no_word() -> String {
    "cannot speak to the mount process".to_owned()
}

fn has_said(server: &Connection, stage: Stage) -> Option<()> {
    let mut byte = [0];
    match server.receive(&mut byte) {
        Ok(Incoming::Message(1, _)) if byte[0] == stage as u8 => Some(()),
        _ => None,
    }
}
