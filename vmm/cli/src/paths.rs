//! Where things are: the runtime and the state directory, the user's own alone.

use std::env;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::config::SpaceName;
use crate::failure::{Failure, Outcome, While};

/// A socket's path must fit into `sun_path`, with its final zero (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

/// The two directories of a user's spaces.
#[derive(Clone, Debug)]
pub struct Paths {
    runtime: PathBuf,
    state: PathBuf,
}

/// The places of one space.
#[derive(Clone, Debug)]
pub struct SpacePaths {
    /// What exists only while the space runs.
    pub runtime: PathBuf,
    /// What stays until `rm`.
    pub state: PathBuf,
}

impl Paths {
    /// The directories of the environment, created if missing.
    ///
    /// # Errors
    /// One is another user's, open to others, or cannot be created.
    pub fn open() -> Outcome<Self> {
        let user = rustix::process::geteuid();
        let set = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let runtime = set("PORTSPACE_RUNTIME_DIR")
            .or_else(|| set("XDG_RUNTIME_DIR").map(|dir| dir.join("portspace")))
            .unwrap_or_else(|| match user.is_root() {
                true => PathBuf::from("/run/portspace"),
                false => PathBuf::from(format!("/tmp/portspace-{}", user.as_raw())),
            });
        let state = set("PORTSPACE_STATE_DIR")
            .or_else(|| set("XDG_STATE_HOME").map(|dir| dir.join("portspace")))
            .or_else(|| set("HOME").map(|dir| dir.join(".local/state/portspace")))
            .ok_or_else(|| {
                Failure::new(
                    "there is no place for the spaces' files; set HOME or PORTSPACE_STATE_DIR",
                )
            })?;
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).or_fail(|| format!("cannot resolve {}", path.display()))
        };
        let (runtime, state) = (absolute(runtime)?, absolute(state)?);
        own(&runtime)?;
        own(&runtime.join("spaces"))?;
        own(&state)?;
        own(&state.join("spaces"))?;
        Ok(Self { runtime, state })
    }

    /// Those of a test.
    #[cfg(test)]
    pub(crate) fn within(directory: &Path) -> Outcome<Self> {
        let (runtime, state) = (directory.join("runtime"), directory.join("state"));
        own(&runtime.join("spaces"))?;
        own(&state.join("spaces"))?;
        Ok(Self { runtime, state })
    }

    /// Both directories: no space sees them.
    pub fn own(&self) -> [&Path; 2] {
        [&self.state, &self.runtime]
    }

    /// Where the layers of all chains are.
    pub fn layers(&self) -> PathBuf {
        self.state.join("layers")
    }

    /// One layer, `OWNER/NUMBER`.
    pub fn layer(&self, id: &str) -> PathBuf {
        self.layers().join(id)
    }

    /// The switch's control socket.
    pub fn switch_socket(&self) -> PathBuf {
        self.runtime.join("switch.sock")
    }

    /// What the switch says.
    pub fn switch_log(&self) -> PathBuf {
        self.runtime.join("switch.log")
    }

    /// Held by whoever looks for the switch and starts it.
    pub fn switch_lock(&self) -> PathBuf {
        self.runtime.join("switch.lock")
    }

    /// The places of one space; nothing is created.
    pub fn space(&self, name: &SpaceName) -> SpacePaths {
        SpacePaths {
            runtime: self.runtime.join("spaces").join(name.as_str()),
            state: self.state.join("spaces").join(name.as_str()),
        }
    }

    /// The spaces that run, ran, or have files, by name.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn spaces(&self) -> Outcome<Vec<SpaceName>> {
        let mut names = Vec::new();
        for directory in [self.runtime.join("spaces"), self.state.join("spaces")] {
            let entries = fs::read_dir(&directory)
                .or_fail(|| format!("cannot list {}", directory.display()))?;
            let found = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
            names.extend(found);
        }
        names.sort();
        names.dedup();
        Ok(names)
    }
}

impl SpacePaths {
    /// The VM process's control socket.
    ///
    /// # Errors
    /// The path is too long for a socket.
    pub fn control(&self) -> Outcome<PathBuf> {
        let path = self.runtime.join("vm.sock");
        // The other one is two bytes longer.
        if path.as_os_str().len() + 2 > LONGEST_SOCKET_PATH {
            return Err(Failure::new(format!(
                "{} is too long for a socket ({LONGEST_SOCKET_PATH} bytes); set PORTSPACE_RUNTIME_DIR to a shorter directory",
                path.display()
            )));
        }
        Ok(path)
    }

    /// Where the process that serves the space is asked to hold its files still.
    ///
    /// # Errors
    /// The path is too long for a socket.
    pub fn seal_socket(&self) -> Outcome<PathBuf> {
        Ok(self.control()?.with_file_name("seal.sock"))
    }

    /// Locked by the VM process while it lives.
    pub fn lock(&self) -> PathBuf {
        self.runtime.join("vm.lock")
    }

    /// What the VM process says.
    pub fn log(&self) -> PathBuf {
        self.runtime.join("vm.log")
    }

    /// What `up` noted about the running space.
    pub fn note(&self) -> PathBuf {
        self.runtime.join("state.json")
    }

    /// Locked by the mount process while it lives.
    pub fn mount_lock(&self) -> PathBuf {
        self.runtime.join("mount.lock")
    }

    /// What the mount process says.
    pub fn mount_log(&self) -> PathBuf {
        self.runtime.join("mount.log")
    }

    /// What `mount` noted about the mount.
    pub fn mount_note(&self) -> PathBuf {
        self.runtime.join("mount.json")
    }

    /// The configuration that the space was last started or mounted with.
    pub fn configuration(&self) -> PathBuf {
        self.state.join("space.toml")
    }

    /// The space's own layer of files.
    pub fn upper(&self) -> PathBuf {
        self.room().join("upper")
    }

    /// The directory around the space's own layer, which holds nothing else.
    pub fn room(&self) -> PathBuf {
        self.state.join("own")
    }

    /// The layer that takes the own one's place when that is sealed.
    pub fn next_upper(&self) -> PathBuf {
        self.room().join("next")
    }

    /// Which layers are below the space's own.
    pub fn lineage(&self) -> PathBuf {
        self.state.join("lineage.json")
    }

    /// What is to be done to make a layer of the space's own.
    pub fn sealing(&self) -> PathBuf {
        self.state.join("sealing.json")
    }

    /// What is to be done to bring sealed layers back into the space's own.
    pub fn gathering(&self) -> PathBuf {
        self.state.join("gathering.json")
    }

    /// What is to be done once the parent space has what is committed to it.
    pub fn handing(&self) -> PathBuf {
        self.state.join("handing.json")
    }

    /// What the space is called in sentences.
    pub fn named(&self) -> String {
        format!("space {}", self.state.file_name().unwrap_or_default().to_string_lossy())
    }

    /// The space's own layer of its disk `number`: the map, and beside it the data.
    pub fn disk(&self, number: usize) -> PathBuf {
        self.disks().join(format!("{number}.qcow2"))
    }

    /// Where the space's own layers of its disks are.
    pub fn disks(&self) -> PathBuf {
        self.state.join("disks")
    }

    /// What a space sees that is shown nothing of the parent.
    pub fn empty(&self) -> PathBuf {
        self.state.join("empty")
    }

    /// Where the space's own layer is prepared.
    pub fn work(&self) -> PathBuf {
        self.state.join("work")
    }

    /// Makes what stays until `rm`, and keeps a copy of the configuration `file` there.
    ///
    /// # Errors
    /// A directory or the copy cannot be made, or a directory is open to others.
    pub fn keep(&self, file: &Path) -> Outcome<()> {
        self.move_layer()?;
        for directory in [&self.state, &self.upper(), &self.work(), &self.empty()] {
            own(directory)?;
        }
        let copy = self.configuration();
        let failed = || format!("cannot write {}", copy.display());
        let text = fs::read(file).or_fail(|| format!("cannot read {}", file.display()))?;
        // Removed, so that the new one is private from its first byte: it may hold keys.
        let _ = fs::remove_file(&copy);
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy);
        opened.or_fail(failed)?.write_all(&text).or_fail(failed)
    }

    /// Brings the own layer of a space of before there were chains to its place of today.
    fn move_layer(&self) -> Outcome<()> {
        let (old, new) = (self.state.join("upper"), self.upper());
        if !old.is_dir() {
            return Ok(());
        }
        own(&self.room())?;
        // An empty directory is replaced; one that holds something is not.
        fs::rename(&old, &new).or_fail(|| {
            format!(
                "{} has two layers of its own: {} and {}; move one of them away",
                self.named(),
                old.display(),
                new.display()
            )
        })
    }

    /// Where the layer of what is injected is.
    pub fn given(&self) -> PathBuf {
        self.state.join("given")
    }
}

/// Writes a file that is there as it was or as it is to be, whatever happens.
///
/// # Errors
/// The disk does not take it.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = fs::File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Creates a directory for this user alone, or checks that it is one.
///
/// # Errors
/// It is another user's, no directory, or open to others.
pub fn own(path: &Path) -> Outcome<()> {
    match DirBuilder::new().mode(0o700).recursive(true).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).or_fail(|| format!("cannot create {}", path.display()));
        }
        _ => {}
    }
    let metadata =
        fs::symlink_metadata(path).or_fail(|| format!("cannot look at {}", path.display()))?;
    let user = rustix::process::geteuid().as_raw();
    if !metadata.is_dir() || metadata.uid() != user {
        return Err(Failure::new(format!(
            "{} is not a directory of this user; remove it, or set PORTSPACE_RUNTIME_DIR and PORTSPACE_STATE_DIR",
            path.display()
        )));
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(Failure::new(format!(
            "{} is open to other users (mode {:o}); run: chmod 700 {0}",
            path.display(),
            metadata.mode() & 0o7777
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_directory_is_made_private_and_an_open_one_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        own(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(own(&path).unwrap_err().to_string().contains("chmod 700"));
    }

    #[test]
    fn a_layer_of_before_there_were_chains_is_kept() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("state");
        let paths = SpacePaths { runtime: root.path().join("run"), state: state.clone() };
        let file = root.path().join("red.toml");
        fs::write(&file, "").unwrap();
        fs::create_dir_all(state.join("upper")).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(state.join("upper"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(state.join("upper/written"), "before").unwrap();
        paths.keep(&file).unwrap();
        assert_eq!(fs::read_to_string(paths.upper().join("written")).unwrap(), "before");
        paths.keep(&file).unwrap();
        fs::create_dir(state.join("upper")).unwrap();
        fs::write(state.join("upper/another"), "layer").unwrap();
        assert!(paths.keep(&file).unwrap_err().to_string().contains("move one of them away"));
        assert_eq!(fs::read_to_string(paths.upper().join("written")).unwrap(), "before");
    }

    #[test]
    fn a_link_to_somebody_elses_directory_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("link");
        std::os::unix::fs::symlink("/", &path).unwrap();
        assert!(own(&path).unwrap_err().to_string().contains("not a directory of this user"));
    }
}
