//! The file space: requests in, replies out.

use crate::configuration::{Config, OpenFailure, Owners};
use crate::files::Handles;
use crate::host::{self, Directory};
use crate::layer::{Hidden, Lower, Merged, Place, UPPER};
use crate::lookup::{OpenDirectories, natural};
use crate::node::{Nodes, Seen};
use fuse::request::Rejected;
use fuse::{Errno, NodeId, Operation, Request, Session, reply};
use std::sync::Arc;

const REPLY_HEADER: usize = reply::HEADER_SIZE;

/// What happened, for whoever watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests taken.
    pub requests: u64,
    /// Requests that were none.
    pub malformed: u64,
    /// Requests answered with an error.
    pub refused: u64,
    /// Files and directories copied up.
    pub copied_up: u64,
    /// Leftovers in the work directory, removed when the space is opened again.
    pub left_in_work: u64,
}

/// The parent's files through the space's own copy-on-write layer, served over FUSE.
///
/// Nothing a guest sends makes it panic, write a lower, or open anything outside its
/// directories. The upper stays locked until it is dropped.
#[derive(Debug)]
pub struct FileSpace {
    session: Session,
    pub(crate) counters: Counters,
    /// Who is shown as the administrator, if anybody is.
    pub(crate) user: Option<(u32, u32)>,
    /// Whose the file is that is being made.
    pub(crate) maker: (u32, u32),
    pub(crate) hidden: Hidden,
    pub(crate) upper_device: u64,
    pub(crate) listing_limit: usize,
    pub(crate) root: Arc<Merged>,
    root_seen: Seen,
    pub(crate) work: Directory,
    pub(crate) staged: u64,
    node_limit: usize,
    pub(crate) nodes: Nodes,
    pub(crate) directories: OpenDirectories,
    pub(crate) handles: Handles,
}

impl FileSpace {
    /// Opens the directories, locks the upper and removes what a killed server left in work.
    ///
    /// # Errors
    /// [`OpenFailure`] says which directory cannot be used, why, and what to do.
    pub fn open(config: Config) -> Result<FileSpace, OpenFailure> {
        let opened = config.open()?;
        let stat = |directory: &Directory, path: &std::path::Path| {
            directory.stat_self().map_err(|errno| OpenFailure::Directory {
                role: "layer's",
                path: path.to_owned(),
                source: std::io::Error::from_raw_os_error(errno.number()),
            })
        };
        let upper = stat(&opened.upper, &config.upper)?;
        let work = stat(&opened.work, &config.work)?;
        let mut lowers = Vec::new();
        for (index, (directory, path)) in opened.lowers.into_iter().zip(&config.lowers).enumerate()
        {
            let place = Place::new(UPPER + 1 + index, &stat(&directory, path)?);
            lowers.push(Lower { place, directory });
        }
        let user = (config.owners == Owners::Administrator).then(host::user);
        // The upper's own root was made for nobody but the server.
        let natural_root = match config.lowers.first().zip(lowers.first()) {
            Some((path, lower)) => Some(natural(user, &stat(&lower.directory, path)?)),
            None => None,
        };
        let root_seen = Seen {
            place: Place::new(UPPER, &upper),
            kind: upper.kind(),
            inode: upper.inode,
            owner: FileSpace::root_owner(&opened.upper).or(natural_root),
        };
        let limits = config.limits;
        Ok(FileSpace {
            session: Session::new(limits.write),
            counters: Counters::default(),
            user,
            maker: (0, 0),
            hidden: Hidden::new([&upper, &work], &config.hidden),
            upper_device: upper.device,
            listing_limit: limits.listing,
            root: Arc::new(Merged::root(opened.upper, lowers)),
            root_seen,
            work: opened.work,
            staged: 0,
            node_limit: limits.nodes,
            nodes: Nodes::new(root_seen, limits.nodes),
            directories: OpenDirectories::new(limits.directories),
            handles: Handles::new(limits.handles),
        })
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Forgets the guest, whose device was reset: everything is closed, INIT comes next.
    pub fn reset(&mut self) {
        self.session.end();
        self.handles.clear();
        self.directories.retain(|_| false);
        let root = Seen { owner: self.nodes.node_mut(NodeId::ROOT).owner, ..self.root_seen };
        self.nodes = Nodes::new(root, self.node_limit);
    }

    /// Serves one request, `fuse_in_header` first, into `reply`, `fuse_out_header` first.
    ///
    /// `reply` is cleared first; it stays empty if there is nothing to answer, and never gets
    /// more than `capacity` bytes.
    pub fn handle(&mut self, request: &[u8], capacity: usize, reply: &mut Vec<u8>) {
        reply.clear();
        self.counters.requests += 1;
        let request = match Request::parse(request) {
            Ok(request) => request,
            Err(rejected) => {
                self.counters.malformed += 1;
                if let Rejected::With { unique, errno } = rejected
                    && capacity >= REPLY_HEADER
                {
                    reply::fail(reply, unique, errno);
                }
                return;
            }
        };
        let unique = request.header.unique;
        if !request.operation.has_reply() {
            self.forget(&request);
            return;
        }
        // Without room for an answer nothing is done: the guest could not know of it.
        let Some(limit) = capacity.checked_sub(REPLY_HEADER) else {
            self.counters.malformed += 1;
            return;
        };
        if self.user.is_none() {
            self.maker = (request.header.uid, request.header.gid);
        }
        reply::start(reply, unique);
        let served = self.session.admit(&request.operation).and_then(|()| {
            let served = self.serve(&request, limit, reply);
            if reply.len() > capacity { Err(Errno::EIO) } else { served }
        });
        match served {
            Ok(()) => reply::finish(reply),
            Err(errno) => {
                self.counters.refused += 1;
                reply::fail(reply, unique, errno);
            }
        }
    }

    fn forget(&mut self, request: &Request<'_>) {
        match request.operation {
            Operation::Forget { lookups } => self.nodes.forget(request.header.node, lookups),
            Operation::BatchForget(list) => {
                list.iter().for_each(|(node, lookups)| self.nodes.forget(node, lookups));
            }
            _ => {}
        }
    }

    fn serve(
        &mut self,
        request: &Request<'_>,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let node = request.header.node;
        match request.operation {
            Operation::Lookup { name } => {
                self.lookup(node, name).map(|entry| reply::put_entry(out, &entry))
            }
            Operation::GetAttr { handle } => {
                self.get_attr(node, handle).map(|attr| reply::put_attr(out, &attr))
            }
            Operation::SetAttr(set) => {
                self.set_attr(node, &set).map(|attr| reply::put_attr(out, &attr))
            }
            Operation::ReadLink => self.read_link(node, out),
            Operation::Symlink { name, target } => {
                self.make_symlink(node, name, target).map(|entry| reply::put_entry(out, &entry))
            }
            Operation::MkDir { name, mode, .. } => {
                self.make_directory(node, name, mode).map(|entry| reply::put_entry(out, &entry))
            }
            Operation::Link { target, name } => {
                self.link(target, node, name).map(|entry| reply::put_entry(out, &entry))
            }
            Operation::Create { name, flags, mode, .. } => {
                let (entry, opened) = self.create(node, name, flags, mode)?;
                reply::put_entry(out, &entry);
                reply::put_opened(out, &opened);
                Ok(())
            }
            Operation::Unlink { name } => self.unlink(node, name),
            Operation::RmDir { name } => self.remove_directory(node, name),
            Operation::Rename { name, new_directory, new_name, flags } => {
                self.rename(node, name, new_directory, new_name, flags)
            }
            _ => self.serve_open(request, limit, out),
        }
    }

    /// What is done with open files, and what is done without any.
    fn serve_open(
        &mut self,
        request: &Request<'_>,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let node = request.header.node;
        match request.operation {
            Operation::Open { flags } => {
                self.open_file(node, flags).map(|opened| reply::put_opened(out, &opened))
            }
            Operation::Read { handle, offset, size } => {
                self.read(handle, offset, limit.min(size as usize), out)
            }
            Operation::Write { handle, offset, data } => {
                self.write(handle, offset, data).map(|count| reply::put_written(out, count))
            }
            Operation::Flush { handle } => self.handles.file(handle).map(|_| ()),
            Operation::Release { handle } | Operation::ReleaseDir { handle } => {
                self.handles.close(handle)
            }
            Operation::FSync { handle, data_only } => self.sync_file(handle, data_only),
            Operation::OpenDir { .. } => {
                self.open_directory(node).map(|opened| reply::put_opened(out, &opened))
            }
            Operation::ReadDir(read) => self.list(&read, false, limit, out),
            Operation::ReadDirPlus(read) => self.list(&read, true, limit, out),
            Operation::FSyncDir { handle, .. } => self.sync_directory(handle),
            Operation::LSeek { handle, offset, whence } => {
                self.seek(handle, offset, whence).map(|found| reply::put_offset(out, found))
            }
            Operation::StatFs => self.work.stat_fs().map(|stat| reply::put_stat_fs(out, &stat)),
            Operation::Access { mask } => self.access(node, mask),
            Operation::Init(init) => {
                self.session.init(&init).map(|init| reply::put_init(out, &init))
            }
            Operation::Destroy => {
                self.reset();
                Ok(())
            }
            _ => Err(Errno::ENOSYS),
        }
    }

    fn read_link(&mut self, id: NodeId, out: &mut Vec<u8>) -> Result<(), Errno> {
        let stat = self.stat(id)?;
        if stat.kind() != fuse::record::TYPE_SYMLINK {
            return Err(Errno::EINVAL);
        }
        let node = self.nodes.get(id)?;
        let (parent, name, layer) = (node.parent, node.name(), node.place.layer);
        let merged = self.directory(parent)?;
        let layer = merged.layer(layer).ok_or(Errno::ESTALE)?;
        out.extend_from_slice(&layer.read_link(crate::node::checked(&name))?);
        Ok(())
    }

    /// The administrator may do anything but execute what nobody may.
    fn access(&mut self, id: NodeId, mask: u32) -> Result<(), Errno> {
        const EXECUTE: u32 = 1;
        let attr = self.get_attr(id, None)?.attr;
        let regular = attr.file_type() == fuse::record::TYPE_REGULAR;
        if mask & EXECUTE != 0 && regular && attr.mode & 0o111 == 0 {
            return Err(Errno::EACCES);
        }
        Ok(())
    }
}
