//! Open files and directories.

use crate::host::{Access, File, Stat};
use crate::layer::{BOUND, Place, UPPER, Volume};
use crate::listing::Listing;
use crate::lookup;
use crate::node::{Orphan, checked};
use crate::quota::Quota;
use crate::space::State;
use fuse::dirent::{Dirent, ListingWriter};
use fuse::record::{TYPE_DIRECTORY, TYPE_REGULAR, TYPE_SYMLINK};
use fuse::request::{ReadDir, open_flags};
use fuse::session::capability::ATOMIC_TRUNCATE;
use fuse::{Errno, Handle, Name, NodeId, Opened};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Most bytes of one READ.
pub(crate) const MAX_READ: usize = 4 << 20;

/// Files of lowers from so many bytes on are the kernel's to read.
const LARGE: u64 = 4 << 20;

/// A file the guest has open.
#[derive(Clone, Debug)]
pub(crate) struct OpenFile {
    pub(crate) node: NodeId,
    pub(crate) file: Arc<File>,
    pub(crate) writable: bool,
}

/// A directory the guest has open.
#[derive(Debug)]
struct OpenDirectory {
    node: NodeId,
    /// Taken when the listing starts, so that it neither repeats nor skips a name.
    listing: Option<Listing>,
}

#[derive(Debug)]
enum Open {
    File(OpenFile),
    Directory(OpenDirectory),
}

/// What the guest has open, bounded.
#[derive(Debug)]
pub(crate) struct Handles {
    open: HashMap<Handle, Open>,
    next: u64,
    limit: usize,
}

impl Handles {
    pub(crate) fn new(limit: usize) -> Handles {
        Handles { open: HashMap::new(), next: 1, limit }
    }

    /// Whether one more may be opened.
    pub(crate) fn room(&self) -> Result<(), Errno> {
        if self.open.len() < self.limit { Ok(()) } else { Err(Errno::ENFILE) }
    }

    fn add(&mut self, open: Open, flags: u32) -> Opened {
        let handle = Handle(self.next);
        self.next += 1;
        self.open.insert(handle, open);
        Opened { handle, flags, backing: 0 }
    }

    pub(crate) fn file(&self, handle: Handle) -> Result<&OpenFile, Errno> {
        match self.open.get(&handle) {
            Some(Open::File(file)) => Ok(file),
            _ => Err(Errno::EBADF),
        }
    }

    fn directory(&mut self, handle: Handle) -> Result<&mut OpenDirectory, Errno> {
        match self.open.get_mut(&handle) {
            Some(Open::Directory(directory)) => Ok(directory),
            _ => Err(Errno::EBADF),
        }
    }

    /// Closes it; gives the node it was of.
    fn close(&mut self, handle: Handle) -> Result<NodeId, Errno> {
        match self.open.remove(&handle).ok_or(Errno::EBADF)? {
            Open::File(file) => Ok(file.node),
            Open::Directory(directory) => Ok(directory.node),
        }
    }

    /// A file through which the node is open, one that may be written before others.
    pub(crate) fn of_node(&self, node: NodeId) -> Option<&Arc<File>> {
        let files = self.open.values().filter_map(|open| match open {
            Open::File(file) if file.node == node => Some(file),
            _ => None,
        });
        files.max_by_key(|file| file.writable).map(|file| &file.file)
    }

    /// The nodes that are open to be written.
    pub(crate) fn writable(&self) -> impl Iterator<Item = NodeId> {
        self.open.values().filter_map(|open| match open {
            Open::File(file) if file.writable => Some(file.node),
            _ => None,
        })
    }

    /// Lets everything through which the node is open use `file`.
    pub(crate) fn repoint(&mut self, node: NodeId, file: &Arc<File>) {
        for open in self.open.values_mut() {
            if let Open::File(open) = open
                && open.node == node
            {
                open.file = Arc::clone(file);
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        self.open.clear();
    }
}

/// An open file or directory, written out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Written {
    File { node: NodeId, writable: bool },
    Directory { node: NodeId, listing: Option<Listing> },
}

impl Written {
    pub(crate) fn node(&self) -> NodeId {
        match self {
            Written::File { node, .. } | Written::Directory { node, .. } => *node,
        }
    }
}

impl Handles {
    /// All of them, to be written out, and the number of the next.
    pub(crate) fn written(&self) -> (Vec<(Handle, Written)>, u64) {
        let written = |open: &Open| match open {
            Open::File(file) => Written::File { node: file.node, writable: file.writable },
            Open::Directory(open) => {
                Written::Directory { node: open.node, listing: open.listing.clone() }
            }
        };
        (self.open.iter().map(|(handle, open)| (*handle, written(open))).collect(), self.next)
    }
}

impl State {
    /// Opens again what was written out, as far as it is still there: else its handle is none.
    pub(crate) fn reopen(&mut self, open: Vec<(Handle, Written)>, next: u64) {
        self.handles.next = next;
        for (handle, written) in open {
            let id = written.node();
            let open = match written {
                Written::File { writable, .. } => {
                    self.reopen_file(id, writable).ok().map(Open::File)
                }
                Written::Directory { listing, .. } => {
                    let open = Open::Directory(OpenDirectory { node: id, listing });
                    self.nodes.get(id).ok().filter(|node| node.is_directory()).map(|_| open)
                }
            };
            if let (Some(open), true) = (open, handle.0 < next) {
                self.nodes.opened(id);
                self.handles.open.insert(handle, open);
            }
        }
    }

    fn reopen_file(&mut self, node: NodeId, writable: bool) -> Result<OpenFile, Errno> {
        let (place, kind) = (self.nodes.get(node)?.place, self.nodes.get(node)?.kind);
        if kind != TYPE_REGULAR {
            return Err(Errno::EBADF);
        }
        let file = self.open_at(node, access(place, writable))?;
        if Place::new(place.layer, &file.stat()?) != place {
            return Err(Errno::ESTALE);
        }
        Ok(OpenFile { node, file: Arc::new(file), writable })
    }

    /// OPEN: a file opened to be written is copied up now, or with the first write.
    pub(crate) fn open_file(
        &mut self,
        id: NodeId,
        flags: u32,
        kill_set_id: bool,
    ) -> Result<Opened, Errno> {
        self.handles.room()?;
        match self.nodes.get(id)?.kind {
            TYPE_REGULAR => {}
            TYPE_DIRECTORY => return Err(Errno::EISDIR),
            TYPE_SYMLINK => return Err(Errno::ELOOP),
            // The guest's own kernel serves FIFOs, sockets and devices.
            _ => return Err(Errno::ENXIO),
        }
        let truncate = flags & open_flags::TRUNCATE != 0;
        let writable = truncate || flags & open_flags::ACCESS_MODE != open_flags::READ_ONLY;
        self.keep_apart(id, writable)?;
        match self.kept_by_open(flags) {
            Some(keep) => self.copy_up(id, keep)?,
            None if writable && matches!(self.at(id)?.volume(), Volume::ReadOnly(_)) => {
                return Err(Errno::EROFS);
            }
            None => {}
        }
        let place = self.nodes.get(id)?.place;
        let file = self.open_at(id, access(place, writable))?;
        let stat = file.stat()?;
        if Place::new(place.layer, &stat) != place {
            return Err(Errno::ESTALE);
        }
        if truncate {
            if kill_set_id {
                self.kill_set_id(id)?;
            }
            match self.quota_of(id) {
                Some(quota) => quota.truncate(&file, 0)?,
                None => file.truncate(0)?,
            }
        }
        let keep = self.attr_valid_ns(id, &stat) > 0;
        let passed = place.layer == UPPER || (!writable && self.is_passed(id, &stat));
        let opened = self.add_file(id, file, writable, keep, passed);
        if keep && !writable && opened.flags & Opened::PASSTHROUGH == 0 {
            self.note_ahead(id, opened.handle, stat.size);
        }
        Ok(opened)
    }

    /// How many bytes of the file an OPEN copies up, if it does. A client that truncates by itself
    /// does so next: then the first write copies, or a truncation nothing.
    pub(crate) fn kept_by_open(&self, flags: u32) -> Option<u64> {
        let truncate = flags & open_flags::TRUNCATE != 0;
        let writable = flags & open_flags::ACCESS_MODE != open_flags::READ_ONLY;
        match truncate {
            true => Some(0),
            false => (writable && self.session.has(ATOMIC_TRUNCATE)).then_some(u64::MAX),
        }
    }

    /// Whether the kernel is to read a file of a lower itself.
    ///
    /// Who has such a file open does not see what is written once it is copied up, as with
    /// overlayfs: so only large files are, for which it counts, and none that is a lock.
    fn is_passed(&mut self, id: NodeId, stat: &Stat) -> bool {
        stat.size >= LARGE
            && stat.links < 2
            && self.at(id).is_ok_and(|at| at.parent.is_some() && at.volume() == Volume::Layered)
    }

    /// Sees to it that all who have a file open by the kernel's own means have the same.
    ///
    /// # Errors
    /// ESTALE where the kernel still reads another for whoever opened it before: the client looks
    /// the name up again, and finds the file under a new node.
    fn keep_apart(&mut self, id: NodeId, writable: bool) -> Result<(), Errno> {
        let node = self.nodes.get(id)?;
        let Some((_, passed)) = node.backing() else { return Ok(()) };
        if passed == node.place && (passed.layer == UPPER || !writable) {
            return Ok(());
        }
        if node.orphan.is_none() {
            let orphan = match node.place.layer {
                UPPER => Orphan::Gone(self.stat(id)?),
                _ => {
                    let at = self.at(id)?;
                    let merged = at.merged().ok_or(Errno::ESTALE)?;
                    Orphan::Below(Arc::clone(merged), at.name.clone())
                }
            };
            self.nodes.displaced(id);
            for (directory, name) in self.nodes.get(id)?.names().to_vec() {
                self.nodes.detach(directory, checked(&name));
            }
            self.nodes.node_mut(id).orphan = Some(orphan);
        }
        Err(Errno::ESTALE)
    }

    /// A new file, which nobody else has open.
    pub(crate) fn open_new(&mut self, id: NodeId, file: File) -> Opened {
        self.add_file(id, file, true, true, true)
    }

    fn add_file(
        &mut self,
        node: NodeId,
        file: File,
        writable: bool,
        keep: bool,
        passed: bool,
    ) -> Opened {
        let number = self.back(node, &file, passed);
        self.nodes.opened(node);
        let stale = self.nodes.get(node).is_ok_and(|node| node.was_passed());
        let flags = match number {
            Some(_) => Opened::PASSTHROUGH,
            None if keep && !stale => Opened::KEEP_CACHE,
            None => 0,
        };
        let open = OpenFile { node, file: Arc::new(file), writable };
        let opened = self.handles.add(Open::File(open), flags | Opened::NO_FLUSH);
        Opened { backing: number.unwrap_or(0), ..opened }
    }

    /// The number by which the kernel reads and writes the file itself, if it is to.
    ///
    /// All handles of a file do, or none (Linux fs/fuse/iomode.c): the first decides.
    fn back(&mut self, id: NodeId, file: &File, passed: bool) -> Option<i32> {
        let node = self.nodes.get(id).ok()?;
        if node.is_open() || !passed {
            return node.backing().map(|(number, _)| number);
        }
        let backing = self.backing.as_ref()?;
        if !self.session.has(fuse::session::capability::PASSTHROUGH) {
            return None;
        }
        let number = backing.open(file)?;
        self.nodes.backed(id, number);
        Some(number)
    }

    /// RELEASE and RELEASEDIR.
    pub(crate) fn release(&mut self, handle: Handle) -> Result<(), Errno> {
        let node = self.handles.close(handle)?;
        self.nodes.closed(node);
        Ok(())
    }

    /// The file of a READ.
    pub(crate) fn readable(&self, handle: Handle, offset: u64) -> Result<Arc<File>, Errno> {
        let open = self.handles.file(handle)?;
        if offset > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        Ok(Arc::clone(&open.file))
    }

    /// The file of a WRITE.
    pub(crate) fn writable(
        &mut self,
        handle: Handle,
        offset: u64,
        kill_set_id: bool,
    ) -> Result<Arc<File>, Errno> {
        let open = self.handles.file(handle)?;
        if !open.writable {
            return Err(Errno::EBADF);
        }
        if offset > i64::MAX as u64 {
            return Err(Errno::EFBIG);
        }
        let node = open.node;
        self.copy_up_open(node, u64::MAX)?;
        if kill_set_id {
            self.kill_set_id(node)?;
        }
        Ok(Arc::clone(&self.handles.file(handle)?.file))
    }

    /// The file of an FSYNC, whose names are synced now if it is new in the upper.
    pub(crate) fn file_to_sync(&mut self, handle: Handle) -> Result<Arc<File>, Errno> {
        let open = self.handles.file(handle)?;
        let (node, writable, file) = (open.node, open.writable, Arc::clone(&open.file));
        if writable {
            // The host's journal orders a name before the sync of the directory it is in.
            file.sync(false)?;
            for (parent, _) in self.nodes.get(node)?.names().to_vec() {
                if let Some(upper) = &self.directory(parent)?.upper {
                    upper.sync()?;
                }
            }
        }
        Ok(file)
    }

    /// LSEEK.
    pub(crate) fn seek(&mut self, handle: Handle, offset: u64, whence: u32) -> Result<u64, Errno> {
        const SEEK_DATA: u32 = 3;
        const SEEK_HOLE: u32 = 4;
        let open = self.handles.file(handle)?;
        match whence {
            _ if offset > i64::MAX as u64 => Err(Errno::EINVAL),
            SEEK_DATA => open.file.seek(offset, false),
            SEEK_HOLE => open.file.seek(offset, true),
            _ => Err(Errno::EINVAL),
        }
    }

    /// FALLOCATE: reserving, punching holes, zeroing.
    pub(crate) fn allocate(
        &mut self,
        handle: Handle,
        offset: u64,
        length: u64,
        mode: u32,
    ) -> Result<(), Errno> {
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        const ZERO_RANGE: u32 = 0x10;
        if mode & !(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let end = offset.checked_add(length).ok_or(Errno::EFBIG)?;
        if end > i64::MAX as u64 {
            return Err(Errno::EFBIG);
        }
        let file = self.writable(handle, offset, false)?;
        let node = self.handles.file(handle)?.node;
        match self.quota_of(node) {
            Some(quota) => quota.allocate(&file, mode, offset, length),
            None => file.allocate(mode, offset, length),
        }
    }

    /// COPY_FILE_RANGE.
    pub(crate) fn copy_range(
        &mut self,
        (from, from_offset): (Handle, u64),
        (to, to_offset): (Handle, u64),
        length: u64,
    ) -> Result<u32, Errno> {
        let from = self.readable(from, from_offset)?;
        let node = self.handles.file(to)?.node;
        let to = self.writable(to, to_offset, false)?;
        // The reply has 32 bits for the count.
        let length = length.min(1 << 30);
        let copied = match self.quota_of(node) {
            Some(quota) => quota.copy_range(&from, from_offset, &to, to_offset, length)?,
            None => from.copy_range(from_offset, &to, to_offset, length)?,
        };
        Ok(copied as u32)
    }

    /// The quota that counts the bytes of a file; what the parent shares is not the space's own.
    pub(crate) fn quota_of(&self, id: NodeId) -> Option<Arc<Quota>> {
        let own = self.nodes.get(id).is_ok_and(|node| node.place.layer == UPPER);
        self.quota.clone().filter(|_| own)
    }

    /// OPENDIR.
    pub(crate) fn open_directory(&mut self, id: NodeId) -> Result<Opened, Errno> {
        self.handles.room()?;
        self.directory(id)?;
        let flags = match self.watches.is_steady(id) {
            true => Opened::CACHE_DIRECTORY | Opened::KEEP_CACHE,
            false => 0,
        };
        self.nodes.opened(id);
        let open = Open::Directory(OpenDirectory { node: id, listing: None });
        Ok(self.handles.add(open, flags))
    }

    /// FSYNCDIR.
    pub(crate) fn sync_directory(&mut self, handle: Handle) -> Result<(), Errno> {
        let id = self.handles.directory(handle)?.node;
        self.directory(id)?.upper.as_ref().map_or(Ok(()), |upper| upper.sync())
    }

    /// READDIR and READDIRPLUS: appends at most `limit` bytes to `out`.
    ///
    /// Offset 0 and 1 are `.` and `..`; a name's offset is its place in the listing and 2.
    pub(crate) fn list(
        &mut self,
        read: &ReadDir,
        plus: bool,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let open = self.handles.directory(read.handle)?;
        let (id, kept) = (open.node, open.listing.take());
        let merged = self.directory(id)?;
        let listing = match kept {
            Some(listing) if read.offset > 0 => listing,
            _ => {
                let device = self.upper_device;
                Listing::of(&self.layers, &merged, self.listing_limit, |of, raw| {
                    lookup::inode(device, of, raw)
                })?
            }
        };
        let mut writer = ListingWriter::new(out, limit.min(read.size as usize));
        let mut offset = usize::try_from(read.offset).unwrap_or(usize::MAX);
        loop {
            let inode = self.nodes.get(id).map_or(1, |node| node.inode);
            let dirent = match offset {
                0 => dots(b".", inode, 1),
                1 => dots(b"..", inode, 2),
                _ => match listing.get(offset - 2) {
                    Some(dirent) => Dirent { next_offset: dirent.next_offset + 2, ..dirent },
                    None => break,
                },
            };
            if !writer.fits(dirent.name.len(), plus) {
                break;
            }
            let known = if offset > 1 { self.known(id, checked(dirent.name)) } else { None };
            let entry = match plus && offset > 1 && known.is_none() {
                // A name that vanished or cannot be looked at is listed without its file.
                true => self.look(id, &merged, checked(dirent.name)).ok().flatten(),
                false => None,
            };
            let looked = entry.map(|entry| (entry.attr.inode, entry.attr.file_type()));
            let dirent = match looked.or(known) {
                Some((inode, kind)) => Dirent { inode, kind: (kind >> 12) as u8, ..dirent },
                None => dirent,
            };
            let pushed = match plus {
                true => writer.push_plus(entry.as_ref(), &dirent),
                false => writer.push(&dirent),
            };
            debug_assert!(pushed, "it was asked whether it fits");
            offset += 1;
        }
        if let Ok(open) = self.handles.directory(read.handle) {
            open.listing = Some(listing);
        }
        Ok(())
    }
}

impl State {
    /// Inode number and type of a file that the client knows and believes: it need not be looked at.
    fn known(&self, directory: NodeId, name: Name<'_>) -> Option<(u64, u32)> {
        let node = self.nodes.get(self.nodes.child(directory, name)?).ok()?;
        let is_believed = node.place.layer == UPPER || self.watches.is_steady(directory);
        let is_known = node.is_looked_up() && !node.is_directory() && is_believed;
        is_known.then_some((node.inode, node.kind))
    }
}

/// How a file is opened on the host; one of a lower is copied up before it is written.
fn access(place: Place, writable: bool) -> Access {
    match (place.layer, writable) {
        (UPPER | BOUND.., true) => Access::Write,
        (UPPER, false) => Access::Read,
        _ => Access::ReadQuietly,
    }
}

fn dots(name: &'static [u8], inode: u64, next_offset: u64) -> Dirent<'static> {
    Dirent { inode, next_offset, kind: Dirent::DIRECTORY, name }
}
