//! What is compared: each a directory that shows the same lower tree.

use std::ffi::{CString, OsString};
use std::fs::{self, File, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags};
use sys::clock::monotonic_ns;

use super::tree::Tree;
use super::workloads::Turn;
use crate::failure::{Failure, Outcome, While};
use crate::lab::service::finish;
use crate::processes::last_sentence;

/// Longest wait for a mount, and for its end.
const PATIENCE: Duration = Duration::from_secs(20);

/// Names the fuse-overlayfs to compare with.
const PROGRAM: &str = "PORTSPACE_FUSE_OVERLAYFS";

const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The disk's own file system.
    Plain,
    /// The kernel's union.
    Overlayfs,
    /// The union of rootless containers.
    FuseOverlayfs,
    /// Ours.
    Portspace,
}

impl Kind {
    pub(super) const ALL: [Self; 4] =
        [Self::Plain, Self::Overlayfs, Self::FuseOverlayfs, Self::Portspace];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Overlayfs => "overlayfs",
            Self::FuseOverlayfs => "fuse-overlayfs",
            Self::Portspace => "portspace",
        }
    }

    /// Whether a run goes on without it.
    pub(super) fn is_optional(self) -> bool {
        matches!(self, Self::Overlayfs | Self::FuseOverlayfs)
    }

    /// Why there is none.
    pub(super) fn missing(self) -> String {
        format!(
            "there is no {}; install it (cargo install fuse-overlayfs), or name it in {PROGRAM}",
            self.name()
        )
    }
}

/// One of them, mounted.
#[derive(Debug)]
pub(super) struct System {
    pub(super) kind: Kind,
    /// What shows the tree.
    pub(super) root: PathBuf,
    /// Of the program, if it says so.
    pub(super) version: Option<String>,
    /// Where it keeps its own.
    home: PathBuf,
    lower: PathBuf,
    server: Option<Child>,
}

impl System {
    /// Mounts it in `place`; `None` if there is no such program here.
    pub(super) fn set_up(kind: Kind, place: &Path, lower: &Path) -> Outcome<Option<Self>> {
        let version = match kind {
            Kind::FuseOverlayfs => match version() {
                Some(version) => Some(version),
                None => return Ok(None),
            },
            _ => None,
        };
        let mut system = Self::unmounted(kind, &place.join(kind.name()), lower)?;
        system.version = version;
        system.mount()?;
        Ok(Some(system))
    }

    /// Makes its directories, in `home`.
    pub(super) fn unmounted(kind: Kind, home: &Path, lower: &Path) -> Outcome<Self> {
        for name in ["root", "upper", "work"] {
            let path = home.join(name);
            fs::create_dir_all(&path).or_fail(|| format!("cannot make {}", path.display()))?;
        }
        Ok(Self {
            kind,
            root: home.join("root"),
            version: None,
            home: home.to_owned(),
            lower: lower.to_owned(),
            server: None,
        })
    }

    /// Unmounts it, empties every cache of the kernel, and mounts it again.
    pub(super) fn chill(&mut self) -> Outcome<()> {
        self.unmount()?;
        drop_caches()?;
        self.mount()
    }

    pub(super) fn mount(&mut self) -> Outcome<()> {
        match self.kind {
            Kind::Plain => Ok(()),
            Kind::Overlayfs => self.mount_overlayfs(),
            Kind::FuseOverlayfs => self.mount_fuse_overlayfs(),
            Kind::Portspace => self.mount_portspace(),
        }
        .or_fail(|| format!("cannot mount {}", self.kind.name()))
    }

    pub(super) fn unmount(&mut self) -> Outcome<()> {
        let failed = || format!("cannot unmount {}", self.kind.name());
        match self.kind {
            Kind::Plain => {}
            Kind::Overlayfs | Kind::FuseOverlayfs => {
                rustix::mount::unmount(&self.root, UnmountFlags::empty()).or_fail(failed)?;
                if let Some(mut server) = self.server.take() {
                    server.wait().or_fail(failed)?;
                }
            }
            Kind::Portspace => {
                let ended = finish(&mut self.portspace(&["stop", "bench"]), PATIENCE)?;
                if !ended.ok() {
                    return Err(Failure::because(failed(), ended.why()));
                }
            }
        }
        Ok(())
    }

    /// Its turn in a round.
    pub(super) fn turn<'a>(&'a self, tree: &'a Tree, round: usize) -> Turn<'a> {
        Turn { root: &self.root, disk: &self.home, tree, round }
    }

    /// Writes what waits to be written, so that nobody does it during the next measurement.
    pub(super) fn sync(&self) -> Outcome<()> {
        sync(&self.home)
    }

    /// The layers as both other unions name them.
    fn layers(&self) -> OsString {
        let mut options = OsString::from("lowerdir=");
        options.push(&self.lower);
        options.push(",upperdir=");
        options.push(self.home.join("upper"));
        options.push(",workdir=");
        options.push(self.home.join("work"));
        options
    }

    fn mount_overlayfs(&self) -> Outcome<()> {
        let refused = || "the kernel refuses it".to_owned();
        let mut options = self.layers();
        if is_in_user_namespace() {
            options.push(",userxattr");
        }
        let options = CString::new(options.as_bytes()).or_fail(refused)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount(c"overlay", &self.root, c"overlay", flags, options.as_c_str())
            .or_fail(refused)
    }

    fn mount_fuse_overlayfs(&mut self) -> Outcome<()> {
        let log = self.home.join("log");
        let outside = device(&self.root)?;
        let messages = File::create(&log).or_fail(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(program());
        command.arg("-f").arg("-o").arg(self.layers()).arg(&self.root);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(messages);
        let mut server = command.spawn().or_fail(|| "cannot start it".to_owned())?;
        let start_ns = monotonic_ns();
        while device(&self.root)? == outside {
            let ended = server.try_wait().or_fail(|| "cannot wait for it".to_owned())?;
            if let Some(status) = ended {
                let said = last_sentence(&log).unwrap_or_default();
                return Err(Failure::because(format!("it ended ({status})"), said));
            }
            if u128::from(monotonic_ns() - start_ns) > PATIENCE.as_nanos() {
                let _ = server.kill();
                let _ = server.wait();
                return Err(Failure::new("it does not mount in time"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.server = Some(server);
        Ok(())
    }

    fn mount_portspace(&self) -> Outcome<()> {
        let file = self.home.join("bench.toml");
        let lower = serde_json::to_string(&self.lower).or_fail(|| "an odd path".to_owned())?;
        let text = format!("[space]\nname = \"bench\"\n[files]\nroot = {lower}\n");
        fs::write(&file, text).or_fail(|| format!("cannot write {}", file.display()))?;
        let mut command = self.portspace(&["mount"]);
        command.arg(&file).arg(&self.root);
        let ended = finish(&mut command, PATIENCE)?;
        if ended.ok() { Ok(()) } else { Err(Failure::new(ended.why())) }
    }

    /// This binary, with places of its own.
    fn portspace(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command
            .args(arguments)
            .env("PORTSPACE_RUNTIME_DIR", self.home.join("run"))
            .env("PORTSPACE_STATE_DIR", self.home.join("state"))
            .stdin(Stdio::null());
        command
    }
}

impl Drop for System {
    fn drop(&mut self) {
        // What fails here, the end of the lab does.
        let _ = self.unmount();
    }
}

fn device(path: &Path) -> Outcome<u64> {
    let metadata = fs::metadata(path).or_fail(|| format!("cannot look at {}", path.display()))?;
    Ok(metadata.dev())
}

fn program() -> OsString {
    std::env::var_os(PROGRAM).unwrap_or_else(|| "fuse-overlayfs".into())
}

/// What fuse-overlayfs calls itself; `None`: there is none.
fn version() -> Option<String> {
    let output = Command::new(program()).arg("--version").stdin(Stdio::null()).output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = said.lines().next()?;
    Some(first.rsplit(' ').next().unwrap_or(first).to_owned())
}

/// Writes what waits to be written to the file system of this directory.
pub(super) fn sync(directory: &Path) -> Outcome<()> {
    let failed = || format!("cannot sync {}", directory.display());
    let directory = File::open(directory).or_fail(failed)?;
    rustix::fs::syncfs(directory).or_fail(failed)
}

/// Whether the kernel's caches can be emptied here.
pub(super) fn can_drop_caches() -> bool {
    OpenOptions::new().write(true).open(DROP_CACHES).is_ok()
}

/// Empties the caches of pages, names and inodes.
pub(super) fn drop_caches() -> Outcome<()> {
    rustix::fs::sync();
    fs::write(DROP_CACHES, "3").or_fail(|| format!("cannot write {DROP_CACHES}"))
}

/// Whether the root that this process is, is somebody else outside.
pub(super) fn is_in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Opens the directory that overlayfs keeps closed, so that an ordinary user can remove it.
pub(super) fn open_up(place: &Path) {
    let closed = place.join(Kind::Overlayfs.name()).join("work/work");
    // It is not there if there was no overlayfs.
    let _ = fs::set_permissions(closed, fs::Permissions::from_mode(0o700));
}
