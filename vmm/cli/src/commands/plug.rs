//! `portspace plug`: one more space whose machine is somebody else's, such as QEMU.

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode as FileMode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use switch::control::Extent;
use sys::signal::Termination;

use super::SessionKeys;
use crate::config::{Config, FilesConfig};
use crate::failure::{Failure, Outcome, While};
use crate::lifecycle::Spaces;
use crate::mounting::Server;
use crate::{lifecycle, link};

/// Front ends that may wait: the switch takes one at a time.
const BACKLOG: i32 = 4;

/// The name by which a machine mounts the files.
const TAG: &str = "files";

/// What `portspace plug` is told.
#[derive(Args)]
pub(super) struct Options {
    /// Its configuration (TOML)
    file: PathBuf,
    /// Where the machine's network card connects (vhost-user)
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// Where its file system connects (vhost-user), to have the space's files as well
    #[arg(long, value_name = "PATH")]
    files: Option<PathBuf>,
    #[command(flatten)]
    keys: SessionKeys,
}

/// Serves a foreign machine, and the next once it is gone, until the user ends it.
pub(super) fn plug(options: &Options) -> Outcome<()> {
    let config = Config::read(&options.file, options.keys.session_keys.as_deref())
        .or_fail(|| "the configuration cannot be used".to_owned())?;
    lifecycle::reachable(&config.overlay)?;
    let termination = Termination::new().or_fail(|| "cannot wait for signals".to_owned())?;
    let name = config.name.clone();
    let inside = lifecycle::inside(&config.overlay);
    let spin_us = config.spin_us.unwrap_or(switch::DEFAULT_SPIN_US);
    let spaces = Spaces::open()?;
    let switch = link::find_or_start(&spaces.paths, spin_us)?;
    let socket = Socket::listen(&options.socket)?;
    let files = options.files.as_deref().map(Socket::listen).transpose()?;
    let seen = FilesConfig { name: name.clone(), parent: config.parent, files: config.files };
    // First, for if it is not taken nothing of its files is to stay; it goes with this process.
    let extent = switch
        .plug(name.as_str(), config.overlay, socket.listener.as_fd())
        .or_fail(|| format!("cannot plug {name} in: the switch did not take it"))?;
    let server = files
        .as_ref()
        .map(|files| spaces.plug_files(&seen, &options.file, files.listener.as_fd(), &files.path));
    let server = server.transpose()?;
    let files = files.as_ref().map(|files| &*files.path);
    say!("{}", instructions(name.as_str(), &socket.path, files, &extent, &inside));
    eprintln!("space {name} waits for a machine at {}; Ctrl-C ends it", socket.path.display());
    let end = wait(switch.as_fd(), server.as_ref(), termination.as_fd())
        .or_fail(|| format!("cannot wait for the end of {name}"))?;
    let stay = || format!("; its files stay until portspace rm {name}");
    match (end, server) {
        (End::User, server) => {
            server.as_ref().map_or(Ok(()), |server| spaces.hide(&name, &server.note))?;
            eprintln!("space {name} is unplugged{}", server.map(|_| stay()).unwrap_or_default());
            Ok(())
        }
        (End::Files, Some(_)) if !spaces.paths.space(&name).mount_note().exists() => {
            eprintln!("space {name} was stopped{}", stay());
            Ok(())
        }
        (End::Files, Some(mut server)) => {
            let ended = server.process.wait().err();
            let why = ended.unwrap_or_else(|| Failure::new("its files are shown no longer"));
            Err(Failure::because(format!("space {name} has ended"), why))
        }
        (_, server) => {
            server.map_or(Ok(()), |server| spaces.hide(&name, &server.note))?;
            Err(Failure::new(format!(
                "space {name} has ended: its switch has; see switch.log, and plug it in again"
            )))
        }
    }
}

/// What ended a space that is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    User,
    Switch,
    Files,
}

/// Waits for the first of them.
fn wait(switch: impl AsFd, files: Option<&Server>, signals: impl AsFd) -> rustix::io::Result<End> {
    let files = files.map(|server| server.process.watch()).transpose()?;
    let watched =
        [(End::User, Some(signals.as_fd())), (End::Files, files.as_ref().map(AsFd::as_fd))];
    // The switch says nothing that was not asked: it hangs up.
    let watched = watched.into_iter().chain([(End::Switch, Some(switch.as_fd()))]);
    let watched: Vec<_> = watched.filter_map(|(end, fd)| Some((end, fd?))).collect();
    loop {
        let each = watched.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN));
        let mut fds: Vec<_> = each.collect();
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        let first = fds.iter().position(|fd| !fd.revents().is_empty());
        if let Some(first) = first {
            return Ok(watched[first].0);
        }
    }
}

/// A listening socket that goes with this process.
struct Socket {
    listener: OwnedFd,
    /// Absolute: front ends start elsewhere.
    path: std::path::PathBuf,
}

impl Socket {
    /// Listens at `path`; a socket that a killed process left there is replaced.
    fn listen(path: &Path) -> Outcome<Self> {
        let failed = || format!("cannot listen at {}", path.display());
        clear(path)?;
        let absolute = std::path::absolute(path).or_fail(failed)?;
        let address = SocketAddrUnix::new(path).or_fail(failed)?;
        let listener = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .or_fail(failed)?;
        rustix::net::bind(&listener, &address).or_fail(failed)?;
        let socket = Self { listener, path: absolute };
        // Whoever connects has the space's network: the user alone, before the first can.
        rustix::fs::chmod(path, FileMode::RUSR | FileMode::WUSR).or_fail(failed)?;
        rustix::net::listen(&socket.listener, BACKLOG).or_fail(failed)?;
        Ok(socket)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a socket that nobody listens at.
fn clear(path: &Path) -> Outcome<()> {
    let failed = || format!("cannot look at {}", path.display());
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        result => result.or_fail(failed)?,
    };
    if !metadata.file_type().is_socket() {
        let sentence = format!("{} exists and is no socket; name another path", path.display());
        return Err(Failure::new(sentence));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).or_fail(|| format!("cannot remove {}", path.display()))
        }
        Err(error) => Err(error).or_fail(failed),
        Ok(_) => Err(Failure::new(format!(
            "another program listens at {}; end it, or name another path",
            path.display()
        ))),
    }
}

/// How a machine is started, and what to do inside.
fn instructions(
    name: &str,
    socket: &Path,
    files: Option<&Path>,
    extent: &Extent,
    inside: &[IpAddr],
) -> String {
    let mac: Vec<_> = extent.mac.iter().map(|byte| format!("{byte:02x}")).collect();
    let (mac, mtu, socket) = (mac.join(":"), extent.mtu, socket.display());
    let mut text = format!(
        "# QEMU's options for space {name}; its memory has to be shared:\n\
         -object memory-backend-memfd,id=mem0,size=1G,share=on -m 1G -machine memory-backend=mem0 \\\n\
         -chardev socket,id=net0,path={socket},reconnect-ms=1000 \\\n\
         -netdev vhost-user,id=net0,chardev=net0 \\\n\
         -device virtio-net-pci,netdev=net0,mac={mac},host_mtu={mtu}"
    );
    if let Some(files) = files {
        let files = files.display();
        text.push_str(&format!(
            " \\\n-chardev socket,id=fs0,path={files} -device vhost-user-fs-pci,chardev=fs0,tag={TAG}"
        ));
    }
    text.push_str(&format!(
        "\n# Inside, for the device of this address:\nip link set dev eth0 mtu {mtu} up\n"
    ));
    for address in inside {
        let (family, bits) = if address.is_ipv4() { ("-4", 32) } else { ("-6", 128) };
        text.push_str(&format!("ip {family} address add {address}/{bits} dev eth0\n"));
        text.push_str(&format!("ip {family} route add default dev eth0 src {address}\n"));
    }
    if files.is_some() {
        text.push_str(&format!("# Its files:\nmount -t virtiofs {TAG} /mnt\n"));
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_instructions_name_everything_a_machine_needs() {
        let extent = Extent { mac: [2, 0, 0, 0, 0, 0x1f], mtu: 1438 };
        let addresses = ["10.1.0.5".parse().unwrap(), "2001:db8::5".parse().unwrap()];
        let files = Path::new("/run/files.sock");
        let text =
            instructions("red", Path::new("/run/red.sock"), Some(files), &extent, &addresses);
        for words in [
            "-chardev socket,id=net0,path=/run/red.sock",
            "mac=02:00:00:00:00:1f,host_mtu=1438",
            "share=on",
            "ip -4 address add 10.1.0.5/32",
            "ip -6 route add default dev eth0 src 2001:db8::5",
            "-chardev socket,id=fs0,path=/run/files.sock",
            "vhost-user-fs-pci,chardev=fs0,tag=files",
            "mount -t virtiofs files /mnt",
        ] {
            assert!(text.contains(words), "{text}");
        }
        let text = instructions("red", Path::new("/run/red.sock"), None, &extent, &addresses);
        assert!(!text.contains("fs"), "no files were asked for: {text}");
    }

    #[test]
    fn a_dead_socket_is_replaced_and_all_else_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("red.sock");
        drop(UnixListener::bind(&path).unwrap());
        let socket = Socket::listen(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
        let again = Socket::listen(&path).err().unwrap().to_string();
        assert!(again.contains("another program listens at"), "{again}");
        drop(socket);
        assert!(!path.exists());
        fs::write(&path, "precious").unwrap();
        let file = Socket::listen(&path).err().unwrap().to_string();
        assert!(file.contains("is no socket"), "{file}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
