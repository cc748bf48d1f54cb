//! Open files and directories.

use crate::host::File;
use crate::layer::UPPER;
use crate::listing::Listing;
use crate::lookup;
use crate::node::checked;
use crate::space::FileSpace;
use fuse::dirent::{Dirent, ListingWriter};
use fuse::record::{TYPE_DIRECTORY, TYPE_REGULAR, TYPE_SYMLINK};
use fuse::request::{ReadDir, open_flags};
use fuse::{Errno, Handle, NodeId, Opened};
use std::collections::HashMap;
use std::sync::Arc;

/// Most bytes of one READ.
const MAX_READ: usize = 4 << 20;

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

    fn add(&mut self, open: Open) -> Opened {
        let handle = Handle(self.next);
        self.next += 1;
        self.open.insert(handle, open);
        Opened { handle, flags: 0, backing: 0 }
    }

    pub(crate) fn add_file(&mut self, node: NodeId, file: File, writable: bool) -> Opened {
        self.add(Open::File(OpenFile { node, file: Arc::new(file), writable }))
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

    pub(crate) fn close(&mut self, handle: Handle) -> Result<(), Errno> {
        self.open.remove(&handle).map(|_| ()).ok_or(Errno::EBADF)
    }

    /// A file through which the node is open, one that may be written before others.
    pub(crate) fn of_node(&self, node: NodeId) -> Option<&Arc<File>> {
        let files = self.open.values().filter_map(|open| match open {
            Open::File(file) if file.node == node => Some(file),
            _ => None,
        });
        files.max_by_key(|file| file.writable).map(|file| &file.file)
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

impl FileSpace {
    /// OPEN: a file opened to be written is copied up now.
    pub(crate) fn open_file(&mut self, id: NodeId, flags: u32) -> Result<Opened, Errno> {
        self.handles.room()?;
        let node = self.nodes.get(id)?;
        match node.kind {
            TYPE_REGULAR => {}
            TYPE_DIRECTORY => return Err(Errno::EISDIR),
            TYPE_SYMLINK => return Err(Errno::ELOOP),
            // The guest's own kernel serves FIFOs, sockets and devices.
            _ => return Err(Errno::ENXIO),
        }
        if !node.is_attached() {
            return Err(Errno::ESTALE);
        }
        let (parent, name) = (node.parent, node.name());
        let truncate = flags & open_flags::TRUNCATE != 0;
        let writable = truncate || flags & open_flags::ACCESS_MODE != open_flags::READ_ONLY;
        let merged = match writable {
            true => self.copy_up(id, if truncate { 0 } else { u64::MAX })?,
            false => self.directory(parent)?,
        };
        let place = self.nodes.get(id)?.place;
        let layer = merged.layer(place.layer).ok_or(Errno::ESTALE)?;
        let file = layer.file(checked(&name), writable)?;
        if place.layer != UPPER && crate::layer::Place::new(place.layer, &file.stat()?) != place {
            return Err(Errno::ESTALE);
        }
        if truncate {
            file.truncate(0)?;
        }
        Ok(self.handles.add_file(id, file, writable))
    }

    /// READ: appends to `out`.
    pub(crate) fn read(
        &mut self,
        handle: Handle,
        offset: u64,
        size: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let open = self.handles.file(handle)?;
        if offset > i64::MAX as u64 {
            return Err(Errno::EINVAL);
        }
        open.file.read(offset, size.min(MAX_READ), out)
    }

    /// WRITE.
    pub(crate) fn write(&mut self, handle: Handle, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let open = self.handles.file(handle)?;
        if !open.writable {
            return Err(Errno::EBADF);
        }
        if offset > i64::MAX as u64 {
            return Err(Errno::EFBIG);
        }
        Ok(open.file.write(offset, data)? as u32)
    }

    /// FSYNC: the bytes, and the name if the file is new in the upper.
    pub(crate) fn sync_file(&mut self, handle: Handle, data_only: bool) -> Result<(), Errno> {
        let open = self.handles.file(handle)?.clone();
        if !open.writable {
            return Ok(());
        }
        open.file.sync(data_only)?;
        match self.nodes.get(open.node) {
            Ok(node) if node.is_attached() => {
                let parent = node.parent;
                self.directory(parent)?.upper.as_ref().map_or(Ok(()), |upper| upper.sync())
            }
            _ => Ok(()),
        }
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

    /// OPENDIR.
    pub(crate) fn open_directory(&mut self, id: NodeId) -> Result<Opened, Errno> {
        self.handles.room()?;
        self.directory(id)?;
        Ok(self.handles.add(Open::Directory(OpenDirectory { node: id, listing: None })))
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
                Listing::of(&self.hidden, &merged, self.listing_limit, |of, raw| {
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
            let entry = match plus && offset > 1 {
                // A name that vanished or cannot be looked at is listed without its file.
                true => self
                    .hidden
                    .find(&merged, checked(dirent.name))
                    .and_then(|sight| sight.found())
                    .and_then(|found| self.adopt(id, &merged, checked(dirent.name), &found))
                    .ok(),
                false => None,
            };
            let inode = entry.as_ref().map_or(dirent.inode, |entry| entry.attr.inode);
            let dirent = Dirent { inode, ..dirent };
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

fn dots(name: &'static [u8], inode: u64, next_offset: u64) -> Dirent<'static> {
    Dirent { inode, next_offset, kind: Dirent::DIRECTORY, name }
}
