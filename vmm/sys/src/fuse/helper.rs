//! fusermount3, which mounts for who may not.

use std::io::{Error, ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::Failure;

const PROGRAM: &str = "fusermount3";

/// Mounts as [`super::mount`] does and receives the connection from the program.
pub(super) fn mount(directory: &Path) -> Result<OwnedFd, Failure> {
    let failed = |source| Failure::Mount { directory: directory.to_owned(), source };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    let mut command = Command::new(PROGRAM);
    command.args(["-o", "fsname=portspace,subtype=portspace,default_permissions,nosuid,nodev"]);
    // The program sends the descriptor to the socket with the number of its standard input.
    command.env("_FUSE_COMMFD", "0").stdin(OwnedFd::from(theirs));
    run(command, directory)?;
    received(&ours).map_err(failed)
}

/// Unmounts as [`super::unmount`] does.
pub(super) fn unmount(directory: &Path) -> Result<(), Failure> {
    let mut command = Command::new(PROGRAM);
    command.args(["-u", "-z"]).stdin(Stdio::null());
    run(command, directory)
}

fn run(mut command: Command, directory: &Path) -> Result<(), Failure> {
    command.arg("--").arg(directory).stdout(Stdio::null());
    let output = command.output().map_err(|source| Failure::Helper { source })?;
    // The command's own copy of the socket is closed with it: only the program's is left.
    drop(command);
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let said = match line.strip_prefix("fusermount3: ").unwrap_or(line) {
        "" => output.status.to_string(),
        line => line.to_owned(),
    };
    Err(Failure::Refused { directory: directory.to_owned(), said })
}

fn received(socket: &UnixStream) -> Result<OwnedFd, Error> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut room);
    let mut byte = [0];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    rights.ok_or_else(|| Error::new(ErrorKind::UnexpectedEof, "fusermount3 sent no descriptor"))
}
