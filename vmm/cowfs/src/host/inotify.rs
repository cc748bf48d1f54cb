//! What the host tells of changes in directories (inotify(7)).

use super::{Directory, refused};
use fuse::Errno;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Something that happened in a watched directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    /// A name came, went, or is another file now.
    Name(&'a [u8]),
    /// The bytes of the file `name` changed.
    Bytes(&'a [u8]),
    /// The attributes of the file `name`, or of the directory itself (empty), changed.
    Attributes(&'a [u8]),
    /// The watch is over: the directory is gone.
    End,
    /// Changes were lost: anything may have happened anywhere.
    Lost,
}

/// Watches on directories.
#[derive(Debug)]
pub(crate) struct Inotify(OwnedFd);

impl Inotify {
    pub(crate) fn new() -> Result<Inotify, Errno> {
        let flags = CreateFlags::NONBLOCK | CreateFlags::CLOEXEC;
        inotify::init(flags).map(Inotify).map_err(refused)
    }

    /// Watches `directory` and gives the watch's number, the same for the same directory.
    ///
    /// Refused with ENOSPC when the user's watches are used up.
    pub(crate) fn watch(&self, directory: &Directory) -> Result<i32, Errno> {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        inotify::add_watch(&self.0, directory.path(), flags).map_err(refused)
    }

    pub(crate) fn end(&self, watch: i32) {
        // A watch whose directory is gone has ended by itself.
        let _ = inotify::remove_watch(&self.0, watch);
    }

    /// Hands over what happened since the last time.
    pub(crate) fn changes(&self, mut each: impl FnMut(i32, Change<'_>)) {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = Reader::new(&self.0, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(io::Errno::INTR) => continue,
                Err(_) => return,
            };
            let (watch, flags) = (event.wd(), event.events());
            let name = event.file_name().map_or(&b""[..], |name| name.to_bytes());
            let names =
                ReadFlags::CREATE | ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
            let ends = ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::UNMOUNT;
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                each(watch, Change::Lost);
            } else if flags.intersects(ends) {
                each(watch, Change::End);
            } else if flags.intersects(names) {
                each(watch, Change::Name(name));
            } else if flags.contains(ReadFlags::MODIFY) {
                each(watch, Change::Bytes(name));
            } else {
                each(watch, Change::Attributes(name));
            }
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
