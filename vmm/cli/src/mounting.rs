//! Spaces' files shown to another kernel than a space's own: mounted on the host, or plugged into
//! a foreign machine; begun, found, ended.
//!
//! A mount process has the files and what leads to the kernel; whoever mounts, unmounts or
//! listens is a command outside of its jail.

use std::fmt;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mount::{Host, Kernel, Settings, Stage};
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

/// What is written down about a mount process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    /// Where the files are shown.
    pub(crate) at: Shown,
    /// The mount process.
    pub(crate) pid: u32,
}

/// Where a space's files are shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Shown {
    /// On this host.
    Mounted {
        /// The directory that is mounted on.
        directory: PathBuf,
        /// The mount's device number, `MAJOR:MINOR`, once it is served.
        device: Option<String>,
    },
    /// In a foreign machine that connects to this socket.
    Plugged(PathBuf),
}

impl Shown {
    /// The directory that is mounted on.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match self {
            Shown::Mounted { directory, .. } => Some(directory),
            Shown::Plugged(_) => None,
        }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shown::Mounted { directory, .. } => write!(f, "mounted on {}", directory.display()),
            Shown::Plugged(socket) => write!(f, "plugged in at {}", socket.display()),
        }
    }
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

/// A mount process that serves.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) note: Note,
    pub(crate) process: Background,
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
    ) -> Outcome<Server> {
        let directory = &checked(directory)?;
        let start = |seen, paths: &SpacePaths, lock| {
            let mounts = fuse::mounts().or_fail(no_table)?.into_iter();
            let hidden = mounts.map(|mounted| mounted.directory).chain([directory.clone()]);
            let How { threads, frugal, ends_with_us } = how;
            let host = Host { hidden: hidden.collect(), threads, frugal };
            let settings = settings(&files.name, seen, paths, Kernel::Host(host))?;
            Starting::begin(&settings, lock, paths, ends_with_us)?.mount(directory)
        };
        self.show("mount", files, file, start)
    }

    /// Shows a space's files to the machines that connect to `listener`, at `socket`, for as long
    /// as this process lives.
    ///
    /// # Errors
    /// As [`Self::mount`].
    pub(crate) fn plug_files(
        &self,
        files: &FilesConfig,
        file: &Path,
        listener: BorrowedFd<'_>,
        socket: &Path,
    ) -> Outcome<Server> {
        let start = |seen, paths: &SpacePaths, lock| {
            let settings = settings(&files.name, seen, paths, Kernel::Machine)?;
            let starting = Starting::begin(&settings, lock, paths, true)?;
            starting.serve(listener, Shown::Plugged(socket.to_owned()))
        };
        self.show("show the files of", files, Some(file), start)
    }

    /// Has `start` begin a mount process with what the space sees and with the lock that the process
    /// is to hold; if that fails, nothing of it stays.
    fn show(
        &self,
        doing: &str,
        files: &FilesConfig,
        file: Option<&Path>,
        start: impl FnOnce(cowfs::Settings, &SpacePaths, File) -> Outcome<Server>,
    ) -> Outcome<Server> {
        let name = &files.name;
        let paths = self.paths.space(name);
        if let Some(root) = &files.files.root {
            check_root(root)?;
        }
        paths::own(&paths.runtime)?;
        await_note(&paths)?;
        if let Ok(note) = read_note(&paths)
            && !is_seen(&note, true)?
        {
            // Unmounted a moment ago: its process is on its way out, or it is told below.
            locks::is_freed(&paths.mount_lock(), END_PATIENCE)?;
        }
        let lock = locks::take(&paths.mount_lock())?;
        let lock = lock.ok_or_else(|| is_shown(name, read_note(&paths).ok().as_ref()))?;
        // One that is left of a killed process must not be taken for that of the next.
        let _ = fs::remove_file(paths.mount_note());
        if locks::is_held(&paths.lock())? {
            return Err(Failure::new(format!(
                "space {name} is running, and what runs inside has its files; first: portspace stop {name}"
            )));
        }
        let is_new = !paths.state.exists();
        let started = (|| {
            if let Some(file) = file {
                paths.keep(file)?;
            }
            let lineage = self.lineage(name, files.parent.as_ref())?;
            seen::give(&paths, &files.files)?;
            let seen = seen::settings(&self.paths, &paths, &files.files, Some(&lineage))?;
            start(seen, &paths, lock)
        })();
        if started.is_err() {
            let _ = fs::remove_file(paths.mount_note());
            let _ = fs::remove_file(paths.mount_lock());
            if is_new {
                // It never was: there is nothing of it to keep, nor to list.
                let _ = fs::remove_dir_all(&paths.runtime);
                let _ = fs::remove_dir_all(&paths.state);
                let _ = self.sweep_layers();
            }
        }
        started.or_fail(|| format!("cannot {doing} space {name}"))
    }

    /// Where the space's files are shown, if anywhere, once the note of a process that was just
    /// started is there.
    ///
    /// # Errors
    /// As [`Self::shown`].
    pub(crate) fn noted(&self, name: &SpaceName) -> Outcome<Option<Note>> {
        await_note(&self.paths.space(name))?;
        self.shown(name)
    }

    /// Where the space's files are shown at this moment, if anywhere, served or not.
    ///
    /// # Errors
    /// The runtime directory or /proc cannot be read.
    pub(crate) fn shown(&self, name: &SpaceName) -> Outcome<Option<Note>> {
        let paths = self.paths.space(name);
        if !paths.mount_note().exists() {
            return Ok(None);
        }
        let note = read_note(&paths)?;
        let is_served = locks::is_held(&paths.mount_lock())?;
        Ok((is_served || is_seen(&note, is_served)?).then_some(note))
    }

    /// Ends what shows the space's files; who still uses them gets errors from then on.
    ///
    /// # Errors
    /// It cannot be unmounted, or its process not be ended.
    pub(crate) fn hide(&self, name: &SpaceName, note: &Note) -> Outcome<()> {
        let paths = self.paths.space(name);
        let failed = || format!("space {name} is still {}", note.at);
        let lock = paths.mount_lock();
        let patience = match note.at.directory() {
            Some(directory) => {
                if is_seen(note, locks::is_held(&lock)?)? {
                    fuse::unmount(directory).or_fail(failed)?;
                }
                END_PATIENCE
            }
            // It is killed, for what it has answered is kept; and who plugged it in finds no note
            // of it then, and knows why.
            None => {
                let _ = fs::remove_file(paths.mount_note());
                Duration::ZERO
            }
        };
        if !locks::is_freed(&lock, patience)? {
            locks::kill_holder(&lock, note.pid)?;
            if !locks::is_freed(&lock, END_PATIENCE)? {
                write_note(&paths, note)?;
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

/// The sentence that refuses what a mount, or a machine, stands against.
pub(crate) fn is_shown(name: &SpaceName, note: Option<&Note>) -> Failure {
    let at = note.map_or_else(|| "shown elsewhere".to_owned(), |note| note.at.to_string());
    Failure::new(format!("space {name} is {at}; first: portspace stop {name}"))
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
    let Shown::Mounted { directory, device } = &note.at else { return Ok(is_served) };
    let found = at(directory)?;
    let is_it =
        |mounted: &fuse::Mounted| device.as_ref().is_none_or(|device| *device == mounted.device);
    let is_it = found.as_ref().is_some_and(is_it);
    Ok(is_it && (is_served || fs::metadata(directory).is_err()))
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

fn settings(
    name: &SpaceName,
    files: cowfs::Settings,
    paths: &SpacePaths,
    to: Kernel,
) -> Outcome<Settings> {
    Ok(Settings { name: name.to_string(), files, seal: Some(paths.seal_socket()?), to })
}

/// A mount process that has opened its files and serves nobody yet.
struct Starting<'a> {
    paths: &'a SpacePaths,
    process: Background,
    command: Connection,
}

impl<'a> Starting<'a> {
    fn begin(
        settings: &Settings,
        lock: File,
        paths: &'a SpacePaths,
        ends_with_us: bool,
    ) -> Outcome<Starting<'a>> {
        let settings = serde_json::to_string(settings).expect("settings are JSON");
        let (command, theirs) = Connection::pair().or_fail(no_word)?;
        let input = Some(OwnedFd::from(theirs));
        let given = Given { input, output: Some(OwnedFd::from(lock)), ends_with_us };
        let arguments = ["mount-process", &settings];
        let log = paths.mount_log();
        let mut process = Background::start("the mount process", &arguments, given, &log)?;
        process.wait_until(PATIENCE, || has_said(&command, Stage::Opened))?;
        Ok(Starting { paths, process, command })
    }

    /// Mounts, and waits until it is served.
    fn mount(mut self, directory: &Path) -> Outcome<Server> {
        let device = fuse::mount(directory).map_err(Failure::from_error);
        let device = device.inspect_err(|_| self.process.end())?;
        let paths = self.paths;
        let mounted = |device| Shown::Mounted { directory: directory.to_owned(), device };
        let noted = self.serve(device, mounted(None)).and_then(|mut server| {
            server.note.at = mounted(at(directory)?.map(|mounted| mounted.device));
            write_note(paths, &server.note).inspect_err(|_| server.process.end())?;
            Ok(server)
        });
        match &noted {
            // Only root may; without it the kernel reads ahead less.
            Ok(_) => drop(fuse::read_ahead(directory, READ_AHEAD_KIB)),
            Err(_) => drop(fuse::unmount(directory)),
        }
        noted
    }

    /// Hands what leads to the kernel over, and waits until that is served.
    fn serve(self, kernel: impl AsFd, at: Shown) -> Outcome<Server> {
        let Starting { paths, mut process, command } = self;
        let note = Note { at, pid: process.id() };
        let served = (|| {
            // Should this command be killed, what is shown is found nevertheless.
            write_note(paths, &note)?;
            let sent = command.send(&[0], &[kernel.as_fd()]);
            // From here on a mount is the mount process's alone: it ends with it.
            drop(kernel);
            sent.or_fail(no_word)?;
            process.wait_until(PATIENCE, || has_said(&command, Stage::Served))
        })();
        match served {
            Ok(()) => Ok(Server { note, process }),
            Err(failure) => {
                process.end();
                Err(failure)
            }
        }
    }
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
