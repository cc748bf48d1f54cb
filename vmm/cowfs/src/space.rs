//! The file space: requests in, replies out.

use crate::ahead::Ahead;
use crate::backing::Backing;
use crate::beside::Beside;
use crate::configuration::{Config, OpenFailure};
use crate::files::Handles;
use crate::host::{Directory, File, Inotify};
use crate::index::Index;
use crate::layer::{Layers, Merged, Place, UPPER};
use crate::lookup::OpenDirectories;
use crate::node::{Nodes, Seen};
use crate::quota::Quota;
use crate::role::{Role, View};
use crate::watch::Watches;
use fuse::request::Rejected;
use fuse::session::Offer;
use fuse::{Errno, NodeId, Operation, Request, Session, reply};
use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

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
    /// Changes by the parent that were told to the client.
    pub parent_changes: u64,
}

/// The parent's files through the space's own copy-on-write layer, served over FUSE.
///
/// Nothing a guest sends makes it panic, write a lower, or open anything outside its
/// directories. The upper stays locked until it is dropped. Several threads may serve at once:
/// names are found and changed one at a time, bytes are read and written beside that.
#[derive(Debug)]
pub struct FileSpace {
    state: Mutex<State>,
    /// Held by who writes bytes outside the lock of the state; taken under that lock.
    pub(crate) writing: RwLock<()>,
    /// A file that was being copied no longer is.
    pub(crate) copied: Condvar,
    notifications: Option<Notifications>,
}

/// Takes a message for the client (`fuse_notify_code`).
pub type Tell<'a> = &'a mut dyn FnMut(&[u8]);

/// Who serves a request, one of several threads that do.
pub trait Server {
    /// Takes a message for the client that goes before the reply.
    fn tell(&mut self, message: &[u8]);

    /// From here on the request may take as long as a disk does, with nothing locked: others are to
    /// be served meanwhile.
    fn step_aside(&mut self);
}

/// Readable when the parent changed something the client may have cached.
#[derive(Debug)]
pub struct Notifications(Arc<Inotify>);

impl AsFd for Notifications {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// All of the space, behind one lock.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) session: Session,
    pub(crate) counters: Counters,
    pub(crate) role: Role,
    pub(crate) layers: Layers,
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
    /// Hard links of each layer's files, by layer.
    pub(crate) indexes: Vec<Option<Index>>,
    pub(crate) watches: Watches,
    pub(crate) bindings: crate::bindings::Bindings,
    pub(crate) quota: Option<Arc<Quota>>,
    pub(crate) backing: Option<Arc<Backing>>,
    /// What the request being served leaves to be handed over.
    pub(crate) ahead: Option<Ahead>,
    /// What was copied for the request being served.
    pub(crate) beside: Option<Beside>,
    /// Files that are being copied.
    pub(crate) copying: HashSet<NodeId>,
}

/// What is done outside the lock: bytes, which wait for a disk.
enum Bytes<'a> {
    Read { file: Arc<File>, offset: u64, size: usize },
    Write { file: Arc<File>, offset: u64, data: &'a [u8], quota: Option<Arc<Quota>> },
    Sync { file: Arc<File>, data_only: bool },
}

impl FileSpace {
    /// Opens the directories, locks the upper and removes what a killed server left in work.
    ///
    /// # Errors
    /// [`OpenFailure`] says which directory cannot be used, why, and what to do.
    pub fn open(config: Config) -> Result<FileSpace, OpenFailure> {
        let space = FileSpace::prepare(&config, &HashSet::new())?;
        let mut state = space.lock();
        state.watch_root();
        state.bind_all().map_err(|(path, source)| OpenFailure::Bind { path, source })?;
        drop(state);
        Ok(space)
    }

    /// The space with nobody to know anything of it; files of work with these names stay.
    pub(crate) fn prepare(
        config: &Config,
        kept: &HashSet<Arc<[u8]>>,
    ) -> Result<FileSpace, OpenFailure> {
        let inotify = match config.notify {
            true => Inotify::new().ok().map(Arc::new),
            false => None,
        };
        let limits = config.limits;
        let opened = config.open(kept)?;
        let backing = config.backing.clone().filter(|_| opened.quota.is_none());
        // What is bound is the host's, which changes it without a word.
        let alone = opened.layers.are_sealed(&opened.layers.roots) && config.bindings.is_empty();
        let offer = Offer {
            max_write: limits.write,
            // A host's programs run from the mount; those of a guest do not while it truncates.
            atomic_truncate: backing.is_some() || config.view == View::Guest,
            writeback: alone && backing.is_none(),
            passthrough: backing.is_some(),
        };
        let root = opened.layers.root(opened.upper);
        let root_seen = opened.root_seen;
        let state = State {
            session: Session::new(offer),
            counters: Counters::default(),
            role: opened.role,
            layers: opened.layers,
            upper_device: opened.upper_device,
            listing_limit: limits.listing,
            root: Arc::new(root),
            root_seen: root_seen.clone(),
            work: opened.work,
            staged: 0,
            node_limit: limits.nodes,
            nodes: Nodes::new(root_seen, limits.nodes),
            directories: OpenDirectories::new(limits.directories),
            handles: Handles::new(limits.handles),
            indexes: opened.indexes,
            watches: Watches::new(inotify.clone()),
            bindings: opened.bindings,
            quota: opened.quota,
            backing,
            ahead: None,
            beside: None,
            copying: HashSet::new(),
        };
        Ok(FileSpace {
            state: Mutex::new(state),
            writing: RwLock::new(()),
            copied: Condvar::new(),
            notifications: inotify.map(Notifications),
        })
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.lock().counters
    }

    /// Forgets the guest, whose device was reset: everything is closed, INIT comes next.
    pub fn reset(&self) {
        self.lock().reset();
    }

    /// Whether the client's kernel reads and writes files by itself, as INIT agreed on.
    pub fn is_passed_through(&self) -> bool {
        self.lock().session.has(fuse::session::capability::PASSTHROUGH)
    }

    /// What becomes readable when [`FileSpace::parent_changed`] has something to tell; `None` if
    /// the configuration asked for no notifications.
    pub fn notifications(&self) -> Option<&Notifications> {
        self.notifications.as_ref()
    }

    /// Hands over messages for the client about what the parent changed (`fuse_notify_code`).
    ///
    /// The client may block each until a request is answered: nothing of the space is locked.
    pub fn parent_changed(&self, send: Tell<'_>) {
        let messages = self.lock().parent_changed();
        messages.iter().for_each(|message| send(message));
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // No invariant spans a panic: each table is left whole by each of its methods.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one request, `fuse_in_header` first, into `reply`, `fuse_out_header` first.
    ///
    /// `reply` is cleared first; it stays empty if there is nothing to answer, and never gets
    /// more than `capacity` bytes.
    pub fn handle(&self, request: &[u8], capacity: usize, reply: &mut Vec<u8>) {
        self.handle_for(request, capacity, reply, None);
    }

    /// The same for one of several threads, whose client takes notifications.
    pub fn handle_for(
        &self,
        request: &[u8],
        capacity: usize,
        reply: &mut Vec<u8>,
        mut server: Option<&mut dyn Server>,
    ) {
        reply.clear();
        let request = match Request::parse(request) {
            Ok(request) => request,
            Err(rejected) => {
                let mut state = self.lock();
                state.counters.requests += 1;
                state.counters.malformed += 1;
                if let Rejected::With { unique, errno } = rejected
                    && capacity >= REPLY_HEADER
                {
                    reply::fail(reply, unique, errno);
                }
                return;
            }
        };
        let unique = request.header.unique;
        let mut state = self.lock();
        state.counters.requests += 1;
        if !request.operation.has_reply() {
            state.forget(&request);
            return;
        }
        // Without room for an answer nothing is done: the guest could not know of it.
        let Some(limit) = capacity.checked_sub(REPLY_HEADER) else {
            state.counters.malformed += 1;
            return;
        };
        reply::start(reply, unique);
        let served = state.session.admit(&request.operation).and_then(|()| {
            let mut step_aside = || {
                if let Some(server) = &mut server {
                    server.step_aside();
                }
            };
            let mut state = self.copy_beside(state, &request, &mut step_aside)?;
            let bytes = state.bytes(&request, limit);
            if !matches!(bytes, Ok(None)) {
                state.end_beside();
            }
            if let Some(bytes) = bytes? {
                let _writing = self.writing.read().unwrap_or_else(PoisonError::into_inner);
                drop(state);
                step_aside();
                return bytes.serve(reply);
            }
            let served = state.serve(&request, limit, reply);
            state.end_beside();
            state.clean_up();
            if let (Some(ahead), Some(server)) = (state.ahead.take(), server) {
                drop(state);
                self.hand_over(&ahead, server);
            }
            served
        });
        let served = if reply.len() > capacity { Err(Errno::EIO) } else { served };
        match served {
            Ok(()) => reply::finish(reply),
            Err(errno) => {
                self.lock().counters.refused += 1;
                reply::fail(reply, unique, errno);
            }
        }
    }
}

impl Bytes<'_> {
    fn serve(self, out: &mut Vec<u8>) -> Result<(), Errno> {
        match self {
            Bytes::Read { file, offset, size } => file.read(offset, size, out),
            Bytes::Write { file, offset, data, quota } => {
                let count = match quota {
                    Some(quota) => quota.write(&file, offset, data)?,
                    None => file.write(offset, data)?,
                };
                reply::put_written(out, count as u32);
                Ok(())
            }
            Bytes::Sync { file, data_only } => file.sync(data_only),
        }
    }
}

impl State {
    pub(crate) fn reset(&mut self) {
        self.session.end();
        self.handles.clear();
        self.directories.clear();
        self.watches.clear();
        let root = self.nodes.node_mut(NodeId::ROOT);
        let root = Seen { shown: root.shown, ..self.root_seen.clone() };
        let nodes = std::mem::replace(&mut self.nodes, Nodes::new(root, self.node_limit));
        for name in nodes.orphans() {
            self.discard_name(&name);
        }
        self.watch_root();
        if self.bind_all().is_err() {
            // What cannot be bound any more is not there; the space goes on.
            self.counters.refused += 1;
        }
    }

    /// The upper is another directory now, which shows what the one before it did.
    pub(crate) fn reseat_root(&mut self, place: Place) {
        self.root_seen.place = place;
        self.nodes.node_mut(NodeId::ROOT).place = place;
    }

    fn forget(&mut self, request: &Request<'_>) {
        match request.operation {
            Operation::Forget { lookups } => self.nodes.forget(request.header.node, lookups),
            Operation::BatchForget(list) => {
                list.iter().for_each(|(node, lookups)| self.nodes.forget(node, lookups));
            }
            _ => {}
        }
        self.clean_up();
    }

    /// What of `request` is done outside the lock.
    fn bytes<'a>(
        &mut self,
        request: &Request<'a>,
        limit: usize,
    ) -> Result<Option<Bytes<'a>>, Errno> {
        Ok(Some(match request.operation {
            Operation::Read { handle, offset, size } => {
                let file = self.readable(handle, offset)?;
                let size = limit.min(size as usize).min(crate::files::MAX_READ);
                Bytes::Read { file, offset, size }
            }
            Operation::Write { handle, offset, data, kill_set_id } => {
                let file = self.writable(handle, offset, kill_set_id)?;
                let quota = self.quota_of(self.handles.file(handle)?.node);
                Bytes::Write { file, offset, data, quota }
            }
            Operation::FSync { handle, data_only } => {
                let file = self.file_to_sync(handle)?;
                Bytes::Sync { file, data_only }
            }
            _ => return Ok(None),
        }))
    }

    fn serve(
        &mut self,
        request: &Request<'_>,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let node = request.header.node;
        let caller = (request.header.uid, request.header.gid);
        let entry = match request.operation {
            Operation::Lookup { name } => self.lookup(node, name),
            Operation::Symlink { name, target } => self.make_symlink(node, name, target, caller),
            Operation::MkDir { name, mode, .. } => self.make_directory(node, name, mode, caller),
            Operation::MkNod { name, mode, device, .. } => {
                self.make_node(node, name, mode, device, caller)
            }
            Operation::Link { target, name } => self.link(target, node, name),
            Operation::Create { name, flags, mode, .. } => {
                let (entry, opened) = self.create(node, name, flags, mode, caller)?;
                reply::put_entry(out, &entry);
                reply::put_opened(out, &opened);
                return Ok(());
            }
            Operation::TmpFile { mode, .. } => {
                let (entry, opened) = self.make_unnamed(node, mode, caller)?;
                reply::put_entry(out, &entry);
                reply::put_opened(out, &opened);
                return Ok(());
            }
            Operation::Unlink { name } => return self.unlink(node, name),
            Operation::RmDir { name } => return self.remove_directory(node, name),
            Operation::Rename { name, new_directory, new_name, flags } => {
                return self.rename((node, name), (new_directory, new_name), flags);
            }
            _ => return self.serve_attributes(request, limit, out),
        };
        entry.map(|entry| reply::put_entry(out, &entry))
    }

    /// What is asked of a file, not of a name.
    fn serve_attributes(
        &mut self,
        request: &Request<'_>,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let node = request.header.node;
        match request.operation {
            Operation::GetAttr { handle } => {
                self.get_attr(node, handle).map(|attr| reply::put_attr(out, &attr))
            }
            Operation::Statx { handle, .. } => {
                self.get_statx(node, handle).map(|statx| reply::put_statx(out, &statx))
            }
            Operation::SetAttr(set) => {
                self.set_attr(node, &set).map(|attr| reply::put_attr(out, &attr))
            }
            Operation::ReadLink => self.read_link(node, out),
            Operation::GetXattr { name, size } => self.get_xattr(node, name, size, limit, out),
            Operation::ListXattr { size } => self.list_xattr(node, size, limit, out),
            Operation::SetXattr { name, value, flags } => self.set_xattr(node, name, value, flags),
            Operation::RemoveXattr { name } => self.remove_xattr(node, name),
            Operation::Access { mask } => self.access(node, mask),
            Operation::StatFs => self.stat_fs().map(|stat| reply::put_stat_fs(out, &stat)),
            Operation::SyncFs => self.root.upper().sync_file_system(),
            _ => self.serve_open(request, limit, out),
        }
    }

    /// What is done with open files, and with the session.
    fn serve_open(
        &mut self,
        request: &Request<'_>,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let node = request.header.node;
        match request.operation {
            Operation::Open { flags, kill_set_id } => self
                .open_file(node, flags, kill_set_id)
                .map(|opened| reply::put_opened(out, &opened)),
            Operation::Flush { handle } => self.handles.file(handle).map(|_| ()),
            Operation::Release { handle } | Operation::ReleaseDir { handle } => {
                self.release(handle)
            }
            Operation::OpenDir { .. } => {
                self.open_directory(node).map(|opened| reply::put_opened(out, &opened))
            }
            Operation::ReadDir(read) => self.list(&read, false, limit, out),
            Operation::ReadDirPlus(read) => self.list(&read, true, limit, out),
            Operation::FSyncDir { handle, .. } => self.sync_directory(handle),
            Operation::LSeek { handle, offset, whence } => {
                self.seek(handle, offset, whence).map(|found| reply::put_offset(out, found))
            }
            Operation::Fallocate { handle, offset, length, mode } => {
                self.allocate(handle, offset, length, mode)
            }
            Operation::CopyFileRange { from, from_offset, to, to_offset, length, .. } => self
                .copy_range((from, from_offset), (to, to_offset), length)
                .map(|count| reply::put_written(out, count)),
            Operation::Init(init) => {
                // A machine that was started anew says so by nothing else.
                if self.session.agreed().is_some() {
                    self.reset();
                }
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
        let node = self.nodes.get(id)?;
        if node.kind != fuse::record::TYPE_SYMLINK {
            return Err(Errno::EINVAL);
        }
        let at = self.at(id)?;
        let (directory, name) = self.directory_of(&at)?;
        let stat = directory.stat(name)?.ok_or(Errno::ESTALE)?;
        if stat.kind() == fuse::record::TYPE_SYMLINK {
            out.extend_from_slice(&directory.read_link(name)?);
            return Ok(());
        }
        // A link whose owner the host cannot have is a file that holds its target.
        let file = directory.file(name, crate::host::Access::Read)?;
        file.read(0, fuse::Target::MAX, out)
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

    fn stat_fs(&self) -> Result<fuse::StatFs, Errno> {
        let mut stat = self.work.stat_fs()?;
        if let Some(quota) = &self.quota {
            quota.narrow(&mut stat);
        }
        Ok(stat)
    }

    /// Ends what belonged to nodes that are gone.
    pub(crate) fn clean_up(&mut self) {
        for number in self.nodes.unbacked() {
            if let Some(backing) = &self.backing {
                backing.close(number);
            }
        }
        for (id, orphan) in self.nodes.dropped() {
            self.directories.close(id);
            self.watches.end(id);
            if let Some(crate::node::Orphan::InWork(name)) = orphan {
                self.discard_name(&name);
            }
        }
    }

    /// The index of hard links of the upper.
    pub(crate) fn own_index(&mut self) -> &mut Index {
        self.indexes[UPPER].as_mut().expect("the upper's index is opened with it")
    }
}
