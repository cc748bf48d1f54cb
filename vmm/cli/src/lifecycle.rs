//! Spaces: started, found, stopped, removed.
//!
//! A space runs while its VM process holds the lock in the runtime directory:
//! the kernel drops the lock with the process, whatever becomes of its number.

use std::fs::{self, File};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use monitor::control::Status;
use serde::{Deserialize, Serialize};
use switch::overlay::{DEFAULT_PORT, Encapsulation, Mode, Overlay};

use crate::config::{Config, SpaceName};
use crate::failure::{Failure, Outcome, While};
use crate::files::OwnFiles;
use crate::paths::{self, Paths, SpacePaths};
use crate::processes::{Background, Given};
use crate::vm::{self, Control};
use crate::{link, locks, mounting, seen};

/// Longest wait for a VM to be ready.
const BOOT_PATIENCE: Duration = Duration::from_secs(15);

/// Longest wait for a machine that was asked to end.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// What `up` wrote down about a running space.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The shared address.
    pub(crate) address: IpAddr,
    /// The overlay's other end.
    pub(crate) peer: IpAddr,
    /// The VM process.
    pub(crate) pid: u32,
    /// The configuration file.
    pub(crate) file: PathBuf,
    /// The directory of the parent that is seen inside.
    pub(crate) root: Option<PathBuf>,
    /// Its disks, in the order in which it sees them.
    pub(crate) disks: Vec<monitor::Disk>,
    /// Guest memory, bytes.
    pub(crate) memory_bytes: u64,
}

/// A space that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) note: Note,
    pub(crate) control: Control,
    pub(crate) paths: SpacePaths,
}

impl Running {
    /// Why it ended, asked once its connection is gone: its last sentence is written by then,
    /// or in a moment.
    pub(crate) fn reason(&self) -> String {
        // Without an end in time there is still what the log says.
        let _ = locks::is_freed(&self.paths.lock(), STOP_PATIENCE);
        vm::reason(&self.paths)
    }
}

/// Every space of this user.
#[derive(Clone, Debug)]
pub(crate) struct Spaces {
    pub(crate) paths: Paths,
}

impl Spaces {
    /// The spaces in the directories of the environment.
    pub(crate) fn open() -> Outcome<Self> {
        Ok(Self { paths: Paths::open()? })
    }

    /// A space that runs.
    ///
    /// # Errors
    /// It does not, with what became of it.
    pub(crate) fn running(&self, name: &SpaceName) -> Outcome<Running> {
        let paths = self.paths.space(name);
        if !locks::is_held(&paths.lock())? {
            return Err(not_running(name, &paths));
        }
        let failed = || format!("cannot read {}", paths.note().display());
        let note = fs::read(paths.note()).or_fail(failed)?;
        let note = serde_json::from_slice(&note).or_fail(failed)?;
        Ok(Running { note, control: Control::of(&paths)?, paths })
    }

    /// Starts a space; when this returns, programs can be run inside.
    ///
    /// # Errors
    /// With the cause in the failing process's own words; nothing of it runs on.
    pub(crate) fn up(&self, file: &Path, config: Config) -> Outcome<Status> {
        let name = config.name.clone();
        let paths = self.paths.space(&name);
        if let Some(root) = &config.files.root {
            mounting::check_root(root).or_fail(|| file.display().to_string())?;
        }
        let control = Control::of(&paths)?;
        paths::own(&paths.runtime)?;
        let lock = lock(&name, &paths)?;
        self.must_not_be_shown(&name)?;
        // The lock is ours: whatever else is there was left by a killed process.
        clear(&paths);
        let is_new = !paths.state.exists();
        let started = self.start(file, config, &paths, lock, &control);
        if started.is_err() {
            // The log stays for who wants to know more; the next start empties it.
            clear(&paths);
            let _ = fs::remove_file(paths.lock());
            if is_new {
                // It never ran: there is nothing of it to keep, nor to list.
                let _ = fs::remove_dir_all(&paths.runtime);
                let _ = fs::remove_dir_all(&paths.state);
                let _ = self.sweep_layers();
            }
        }
        started.map_err(|error| Failure::because(format!("cannot start space {name}"), error))
    }

    fn start(
        &self,
        file: &Path,
        config: Config,
        paths: &SpacePaths,
        lock: File,
        control: &Control,
    ) -> Outcome<Status> {
        paths.keep(file)?;
        let lineage = self.lineage(&config.name, config.parent.as_ref())?;
        seen::give(paths, &config.files)?;
        let files = seen::settings(&self.paths, paths, &config.files, Some(&lineage))?;
        let (address, peer) = (config.overlay.local, config.overlay.peer);
        let (addresses, asked) = (inside(&config.overlay), asked(&config.overlay));
        let memory_bytes = config.memory_bytes;
        let root = lineage.files(&config.files).root;
        let disks = disks(&config, paths)?;
        let spin_us = config.spin_us.unwrap_or(switch::DEFAULT_SPIN_US);
        reachable(&config.overlay)?;
        let attached = link::attach(&self.paths, &config.name, config.overlay, spin_us)?;
        let settings = monitor::Settings {
            spawned_ns: sys::clock::monotonic_ns(),
            name: config.name.to_string(),
            addresses,
            peer: asked,
            mac: attached.mac,
            mtu: attached.mtu,
            memory_bytes,
            spin_us: config.guest_spin_us.unwrap_or(switch::DEFAULT_GUEST_SPIN_US),
            files,
            seal: Some(paths.seal_socket()?),
            disks: disks.clone(),
        };
        let settings = VmSettings { control: paths.control()?, machine: settings };
        let settings = serde_json::to_string(&settings).expect("settings are JSON");
        let given = Given {
            input: Some(attached.vhost_user),
            output: Some(OwnedFd::from(lock)),
            ends_with_us: false,
        };
        let mut vm = Background::start("the VM process", &["vm", &settings], given, &paths.log())?;
        let pid = vm.id();
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let note = Note { address, peer, pid, file, root, disks, memory_bytes };
        if let Err(error) = write_note(&paths.note(), &note) {
            vm.end();
            return Err(error);
        }
        vm.wait_until(BOOT_PATIENCE, || {
            let status = control.status().ok()?;
            status.ready.then_some(status)
        })
    }

    /// Ends a running space and waits for its end; its files stay.
    ///
    /// # Errors
    /// It does not run, or cannot be ended.
    pub(crate) fn stop(&self, name: &SpaceName) -> Outcome<()> {
        let running = self.running(name)?;
        let heard = running.control.stop().is_ok();
        if !(heard && locks::is_freed(&running.paths.lock(), STOP_PATIENCE)?) {
            locks::kill_holder(&running.paths.lock(), running.note.pid)?;
            if !locks::is_freed(&running.paths.lock(), STOP_PATIENCE)? {
                return Err(Failure::new(format!(
                    "space {name} cannot be ended: process {} does not die; see {}",
                    running.note.pid,
                    running.paths.log().display()
                )));
            }
        }
        let _ = fs::remove_dir_all(&running.paths.runtime);
        Ok(())
    }

    /// Removes a space that does not run, with its own layer of files.
    ///
    /// # Errors
    /// It runs, or there is no such space.
    pub(crate) fn remove(&self, name: &SpaceName) -> Outcome<()> {
        let paths = self.paths.space(name);
        if locks::is_held(&paths.lock())? {
            let sentence = format!("space {name} is running; first: portspace stop {name}");
            return Err(Failure::new(sentence));
        }
        self.must_not_be_shown(name)?;
        if !paths.state.exists() && !paths.runtime.exists() {
            return Err(not_running(name, &paths));
        }
        // What a killed commit left half done in the parent is not forgotten.
        if let Ok(files) = OwnFiles::of(self, name)
            && files.config.is_interrupted()
        {
            files.config.take().or_fail(|| format!("cannot remove space {name}"))?;
        }
        for directory in [&paths.runtime, &paths.state] {
            match fs::remove_dir_all(directory) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).or_fail(|| format!("cannot remove {}", directory.display()));
                }
                _ => {}
            }
        }
        // Those of its layers that other spaces are made from stay until the last of them goes.
        self.sweep_layers()
    }

    fn must_not_be_shown(&self, name: &SpaceName) -> Outcome<()> {
        match self.noted(name)? {
            Some(note) => Err(mounting::is_shown(name, Some(&note))),
            None => Ok(()),
        }
    }
}

/// What the VM process is told: the machine, and where it listens.
#[derive(Serialize, Deserialize)]
pub(crate) struct VmSettings {
    pub(crate) control: PathBuf,
    pub(crate) machine: monitor::Settings,
}

/// The disks as the VM process is to open them; it makes the layers that are not there.
fn disks(config: &Config, paths: &SpacePaths) -> Outcome<Vec<monitor::Disk>> {
    if !config.disks.iter().all(|disk| disk.read_only) {
        paths::own(&paths.disks())?;
    }
    let each = config.disks.iter().enumerate().map(|(number, disk)| monitor::Disk {
        image: disk.image.clone(),
        layers: if disk.read_only { Vec::new() } else { vec![paths.disk(number)] },
        writable: !disk.read_only,
    });
    Ok(each.collect())
}

fn write_note(path: &Path, note: &Note) -> Outcome<()> {
    let text = serde_json::to_vec_pretty(note).expect("a note is JSON");
    fs::write(path, text).or_fail(|| format!("cannot write {}", path.display()))
}

/// A space's own addresses.
pub(crate) fn inside(overlay: &Overlay) -> Vec<IpAddr> {
    match overlay.addresses.is_empty() {
        true => vec![overlay.local],
        false => overlay.addresses.clone(),
    }
}

/// Whom the guest asks for an echo at its start: the peer, if the space can reach it.
fn asked(overlay: &Overlay) -> Option<IpAddr> {
    let mut remotes = overlay.sas.iter().flat_map(|pair| &pair.traffic.remote);
    let is_reached = match overlay.mode {
        Mode::Transport => true,
        Mode::Tunnel => remotes.any(|range| range.contains(overlay.peer)),
    };
    is_reached.then_some(overlay.peer)
}

/// Refuses a peer to which this host has no route; whether it answers is not asked.
pub(crate) fn reachable(overlay: &Overlay) -> Outcome<()> {
    if overlay.encapsulation == Encapsulation::Local {
        // Its packets do not leave this host.
        return Ok(());
    }
    let Ok(socket) = UdpSocket::bind((overlay.local, 0)) else {
        // The address is not this host's, or its ports are used up: the switch says which.
        return Ok(());
    };
    // The port does not matter: nothing is sent.
    socket.connect((overlay.peer, DEFAULT_PORT)).or_fail(|| {
        let Overlay { local, peer, .. } = overlay;
        format!("there is no route from {local} to the peer {peer}; correct [overlay] peer, or add a route")
    })
}

/// Takes the lock that the VM process is to hold.
fn lock(name: &SpaceName, paths: &SpacePaths) -> Outcome<File> {
    let held = || {
        Failure::new(format!(
            "space {name} is already running; use it with portspace run {name}, or first: portspace stop {name}"
        ))
    };
    locks::take(&paths.lock())?.ok_or_else(held)
}

/// Removes what only a running space has.
fn clear(paths: &SpacePaths) {
    for file in [paths.runtime.join("vm.sock"), paths.runtime.join("seal.sock"), paths.note()] {
        let _ = fs::remove_file(file);
    }
}

/// Why a space that does not run ended, unless it was stopped or never ran.
pub(crate) fn ended(paths: &SpacePaths) -> Option<String> {
    paths.note().exists().then(|| vm::reason(paths))
}

fn not_running(name: &SpaceName, paths: &SpacePaths) -> Failure {
    let known = paths.state.exists();
    // A note without a holder of the lock: the process was killed or the guest failed.
    let ended = ended(paths);
    Failure::new(match (known, ended) {
        // The VM process's own sentence says it all.
        (_, Some(why)) if why.starts_with(&format!("space {name} ended")) => why,
        (_, Some(why)) => {
            format!("space {name} has ended by itself ({why}); start it again with: portspace up")
        }
        (true, None) => format!("space {name} is stopped; start it with: portspace up"),
        (false, None) => format!("there is no space {name}; portspace ls lists those there are"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_space_runs_while_the_lock_is_held_and_not_a_moment_longer() {
        let root = tempfile::tempdir().unwrap();
        let paths =
            SpacePaths { runtime: root.path().to_owned(), state: root.path().join("state") };
        let name: SpaceName = "red".parse().unwrap();
        assert!(!locks::is_held(&paths.lock()).unwrap());
        let held = lock(&name, &paths).unwrap();
        assert!(locks::is_held(&paths.lock()).unwrap());
        let again = lock(&name, &paths).unwrap_err().to_string();
        assert!(again.starts_with("space red is already running"), "{again}");
        drop(held);
        assert!(!locks::is_held(&paths.lock()).unwrap());
        assert!(lock(&name, &paths).is_ok());
    }

    #[test]
    fn what_became_of_a_space_is_said() {
        let root = tempfile::tempdir().unwrap();
        let paths =
            SpacePaths { runtime: root.path().join("run"), state: root.path().join("state") };
        let name: SpaceName = "red".parse().unwrap();
        assert!(not_running(&name, &paths).to_string().starts_with("there is no space red"));
        fs::create_dir(&paths.state).unwrap();
        assert!(not_running(&name, &paths).to_string().starts_with("space red is stopped"));
        fs::create_dir(&paths.runtime).unwrap();
        fs::write(paths.note(), "{}").unwrap();
        fs::write(paths.log(), "portspace: the guest failed: out of memory\n").unwrap();
        let text = not_running(&name, &paths).to_string();
        assert!(text.contains("has ended by itself (the guest failed: out of memory)"), "{text}");
        fs::write(paths.log(), "guest: hello\n").unwrap();
        let text = not_running(&name, &paths).to_string();
        assert!(text.contains("its VM process was killed"), "{text}");
        fs::remove_file(paths.log()).unwrap();
        let text = not_running(&name, &paths).to_string();
        assert!(text.contains("it was stopped"), "{text}");
    }
}
