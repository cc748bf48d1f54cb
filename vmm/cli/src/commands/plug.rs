//! `portspace plug`: one more space whose machine is somebody else's, such as QEMU.

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode as FileMode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use switch::control::Extent;
use sys::signal::Termination;

use crate::config::Config;
use crate::failure::{Failure, Outcome, While};
use crate::paths::Paths;
use crate::{lifecycle, link};

/// Front ends that may wait: the switch takes one at a time.
const BACKLOG: i32 = 4;

/// Serves front ends at `path` until the user ends it.
pub(super) fn plug(file: &Path, path: &Path, session_keys: Option<&Path>) -> Outcome<()> {
    let config = Config::read(file, session_keys)
        .or_fail(|| "the configuration cannot be used".to_owned())?;
    lifecycle::reachable(&config.overlay)?;
    let termination = Termination::new().or_fail(|| "cannot wait for signals".to_owned())?;
    let name = config.name;
    let inside = lifecycle::inside(&config.overlay);
    let spin_us = config.spin_us.unwrap_or(switch::DEFAULT_SPIN_US);
    let switch = link::find_or_start(&Paths::open()?, spin_us)?;
    let socket = Socket::listen(path)?;
    let extent = switch
        .plug(name.as_str(), config.overlay, socket.listener.as_fd())
        .or_fail(|| format!("cannot plug {name} in: the switch did not take it"))?;
    say!("{}", instructions(name.as_str(), &socket.path, &extent, &inside));
    eprintln!("space {name} waits for a front end at {}; Ctrl-C ends it", path.display());
    let ended_by_user = wait(switch.as_fd(), termination.as_fd())
        .or_fail(|| format!("cannot wait for the end of {name}"))?;
    match ended_by_user {
        true => {
            eprintln!("space {name} is unplugged");
            Ok(())
        }
        false => Err(Failure::new(format!(
            "space {name} has ended: its switch has; see switch.log, and plug it in again"
        ))),
    }
}

/// Waits for either end; true if it is the user's.
fn wait(switch: impl AsFd, signals: impl AsFd) -> rustix::io::Result<bool> {
    loop {
        let (switch, signals) = (switch.as_fd(), signals.as_fd());
        let mut fds = [PollFd::new(&switch, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        if !fds[1].revents().is_empty() {
            return Ok(true);
        }
        // The switch says nothing that was not asked: it hung up.
        if !fds[0].revents().is_empty() {
            return Ok(false);
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

/// How a front end is started, and what to set inside.
fn instructions(name: &str, socket: &Path, extent: &Extent, inside: &[IpAddr]) -> String {
    let mac: Vec<_> = extent.mac.iter().map(|byte| format!("{byte:02x}")).collect();
    let (mac, mtu, socket) = (mac.join(":"), extent.mtu, socket.display());
    let mut text = format!(
        "# QEMU's options for space {name}; its memory has to be shared:\n\
         -object memory-backend-memfd,id=mem0,size=1G,share=on -m 1G -machine memory-backend=mem0 \\\n\
         -chardev socket,id=net0,path={socket},reconnect-ms=1000 \\\n\
         -netdev vhost-user,id=net0,chardev=net0 \\\n\
         -device virtio-net-pci,netdev=net0,mac={mac},host_mtu={mtu}\n\
         # Inside, for the device of this address:\n\
         ip link set dev eth0 mtu {mtu} up\n"
    );
    for address in inside {
        let (family, bits) = if address.is_ipv4() { ("-4", 32) } else { ("-6", 128) };
        text.push_str(&format!("ip {family} address add {address}/{bits} dev eth0\n"));
        text.push_str(&format!("ip {family} route add default dev eth0 src {address}\n"));
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
        let text = instructions("red", Path::new("/run/red.sock"), &extent, &addresses);
        for words in [
            "-chardev socket,id=net0,path=/run/red.sock",
            "mac=02:00:00:00:00:1f,host_mtu=1438",
            "share=on",
            "ip -4 address add 10.1.0.5/32",
            "ip -6 route add default dev eth0 src 2001:db8::5",
        ] {
            assert!(text.contains(words), "{text}");
        }
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
