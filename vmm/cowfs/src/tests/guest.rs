//! A guest that speaks FUSE to a file space in directories of its own.

use crate::{Config, FileSpace, LowerLayer, OpenFailure};
use fuse::dirent::{listing, listing_plus};
use fuse::reply::{self, Refused};
use fuse::request::{InitIn, ReadDir, SetAttr, open_flags};
use fuse::{Attr, Entry, Errno, Handle, Header, Name, NodeId, Opened, Operation, Request, Target};
use std::path::PathBuf;

pub(super) const CAPACITY: usize = 1 << 20;

/// Directories of a space: `lower`, `below` (a second lower), `upper`, `work`.
pub(super) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(super) fn new() -> Place {
        Place::of(tempfile::tempdir().unwrap())
    }

    /// In memory if it can hold all that a disk does, where syncing costs nothing.
    pub(super) fn quick() -> Place {
        let memory = tempfile::tempdir_in("/dev/shm").ok().filter(|directory| {
            let root = crate::host::Directory::root(directory.path()).unwrap();
            crate::stored::set_redirect(&root, b"").is_ok()
        });
        memory.map_or_else(Place::new, Place::of)
    }

    fn of(directory: tempfile::TempDir) -> Place {
        for name in ["lower", "below", "upper", "work", "outside"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        Place { directory }
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    pub(super) fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(super) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    /// What is left in work besides the index of hard links.
    pub(super) fn left_in_work(&self) -> usize {
        std::fs::read_dir(self.path("work")).unwrap().count() - 1
    }

    /// The upper becomes a sealed layer, and a new one takes its place; nobody serves it.
    pub(super) fn seal(&self) {
        let number = self.sealed().len();
        let layer = self.path(&format!("layer{number}"));
        std::fs::rename(self.path("upper"), &layer).unwrap();
        if self.path("work/index").exists() {
            std::fs::rename(self.path("work/index"), layer.with_extension("index")).unwrap();
        }
        std::fs::create_dir(self.path("upper")).unwrap();
    }

    /// The same while `guest` goes on.
    pub(super) fn seal_under(&self, guest: &Guest) {
        let layer = self.path(&format!("layer{}", self.sealed().len()));
        std::fs::create_dir(self.path("next")).unwrap();
        let held = guest.space.hold(&self.path("next")).unwrap();
        std::fs::rename(self.path("work/index"), layer.with_extension("index")).unwrap();
        std::fs::rename(self.path("upper"), &layer).unwrap();
        std::fs::rename(self.path("next"), self.path("upper")).unwrap();
        held.renew().unwrap();
    }

    /// What was sealed, topmost first.
    fn sealed(&self) -> Vec<LowerLayer> {
        let layers = (0..).map(|number| self.path(&format!("layer{number}")));
        let layers = layers.take_while(|layer| layer.exists()).map(|files| {
            let index = Some(files.with_extension("index")).filter(|index| index.exists());
            LowerLayer::Sealed { files, index, own: true }
        });
        let mut layers: Vec<_> = layers.collect();
        layers.reverse();
        layers
    }

    pub(super) fn config(&self) -> Config {
        let live = ["lower", "below"].map(|name| LowerLayer::Live(self.path(name)));
        let lowers = self.sealed().into_iter().chain(live);
        Config::new(lowers.collect(), self.path("upper"), self.path("work"))
    }

    /// What was sealed is forgotten.
    pub(super) fn unseal(&self) {
        for number in 0..self.sealed().len() {
            let layer = self.path(&format!("layer{number}"));
            std::fs::rename(&layer, layer.with_extension("old")).unwrap();
        }
    }

    /// The same over one directory of the host.
    pub(super) fn over_host(&self) -> Config {
        let mut config = self.config();
        config.lowers.pop();
        config
    }

    /// The same with nothing between: what can be committed.
    pub(super) fn base(&self) -> Config {
        let mut config = self.config();
        config.lowers.truncate(1);
        config
    }

    pub(super) fn try_open(&self) -> Result<FileSpace, OpenFailure> {
        FileSpace::open(self.config())
    }

    pub(super) fn guest(&self) -> Guest {
        Guest::new(self.try_open().unwrap())
    }
}

/// Sends one request at a time and reads the answer.
pub(super) struct Guest {
    pub(super) space: FileSpace,
    unique: u64,
    request: Vec<u8>,
    reply: Vec<u8>,
}

pub(super) fn name(name: &str) -> Name<'_> {
    Name::new(name.as_bytes()).unwrap()
}

type Answer<T> = Result<T, Errno>;

impl Guest {
    pub(super) fn new(space: FileSpace) -> Guest {
        let mut guest = Guest::new_on(space);
        guest.init();
        guest
    }

    /// A guest of a session that goes on.
    pub(super) fn new_on(space: FileSpace) -> Guest {
        Guest { space, unique: 0, request: Vec::new(), reply: Vec::new() }
    }

    pub(super) fn init(&mut self) {
        let init = InitIn { major: 7, minor: 40, max_readahead: 1 << 17, flags: u64::MAX };
        self.ask(NodeId(0), Operation::Init(init), reply::init).unwrap();
    }

    /// Ends the server and starts another on the same directories.
    pub(super) fn restart(self, place: &Place) -> Guest {
        drop(self);
        place.guest()
    }

    /// Ends the server and has another go on where it was.
    pub(super) fn resumed(self, place: &Place) -> Guest {
        self.resumed_as(&place.config())
    }

    pub(super) fn resumed_as(self, config: &Config) -> Guest {
        let saved = serde_json::to_string(&self.space.save().unwrap()).unwrap();
        let Guest { space, unique, request, reply } = self;
        drop(space);
        let space = FileSpace::resume(config, serde_json::from_str(&saved).unwrap()).unwrap();
        Guest { space, unique, request, reply }
    }

    pub(super) fn ask<T>(
        &mut self,
        node: NodeId,
        operation: Operation<'_>,
        read: impl FnOnce(&[u8], u64) -> Result<T, Refused>,
    ) -> Answer<T> {
        self.unique += 1;
        self.request.clear();
        let header = Header { unique: self.unique, node, uid: 0, gid: 0, pid: 1 };
        Request { header, operation }.encode(&mut self.request);
        self.space.handle(&self.request, CAPACITY, &mut self.reply);
        read(&self.reply, self.unique).map_err(|refused| match refused {
            Refused::Errno(errno) => errno,
            Refused::Malformed => panic!("malformed reply to {operation:?}: {:?}", self.reply),
        })
    }

    pub(super) fn done(&mut self, node: NodeId, operation: Operation<'_>) -> Answer<()> {
        self.ask(node, operation, reply::done)
    }

    pub(super) fn entry(&mut self, node: NodeId, operation: Operation<'_>) -> Answer<Entry> {
        self.ask(node, operation, reply::entry)
    }

    pub(super) fn forget(&mut self, node: NodeId, lookups: u64) {
        self.request.clear();
        let header = Header { unique: 0, node, uid: 0, gid: 0, pid: 1 };
        Request { header, operation: Operation::Forget { lookups } }.encode(&mut self.request);
        self.space.handle(&self.request, CAPACITY, &mut self.reply);
        assert!(self.reply.is_empty());
    }

    /// Looks a path up from the root, as Linux does with nothing cached.
    pub(super) fn find(&mut self, path: &str) -> Answer<NodeId> {
        let mut node = NodeId::ROOT;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            node = self.entry(node, Operation::Lookup { name: name(part) })?.node;
        }
        Ok(node)
    }

    /// The directory of a path, and its last name.
    pub(super) fn split<'p>(&mut self, path: &'p str) -> Answer<(NodeId, Name<'p>)> {
        let (directory, last) = path.rsplit_once('/').unwrap_or(("", path));
        let node = self.find(directory)?;
        let get = Operation::GetAttr { handle: None };
        match self.ask(node, get, reply::attr)?.attr.file_type() {
            fuse::record::TYPE_DIRECTORY => Ok((node, name(last))),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn attr(&mut self, path: &str) -> Answer<Attr> {
        let node = self.find(path)?;
        let handle = None;
        self.ask(node, Operation::GetAttr { handle }, reply::attr).map(|reply| reply.attr)
    }

    pub(super) fn set(&mut self, path: &str, set: SetAttr) -> Answer<Attr> {
        let node = self.find(path)?;
        self.ask(node, Operation::SetAttr(set), reply::attr).map(|reply| reply.attr)
    }

    pub(super) fn open(&mut self, path: &str, flags: u32) -> Answer<Handle> {
        let node = self.find(path)?;
        let open = Operation::Open { flags, kill_set_id: false };
        self.ask(node, open, reply::opened).map(|opened| opened.handle)
    }

    pub(super) fn read_at(&mut self, handle: Handle, offset: u64) -> Answer<Vec<u8>> {
        let size = 1 << 16;
        self.ask(NodeId::ROOT, Operation::Read { handle, offset, size }, |bytes, unique| {
            reply::body(bytes, unique).map(<[u8]>::to_vec)
        })
    }

    pub(super) fn write_at(&mut self, handle: Handle, offset: u64, data: &[u8]) -> Answer<u32> {
        let write = Operation::Write { handle, offset, data, kill_set_id: false };
        self.ask(NodeId::ROOT, write, reply::written)
    }

    pub(super) fn release(&mut self, handle: Handle) {
        self.done(NodeId::ROOT, Operation::Release { handle }).unwrap();
    }

    pub(super) fn read(&mut self, path: &str) -> Answer<String> {
        let handle = self.open(path, open_flags::READ_ONLY)?;
        let bytes = self.read_at(handle, 0);
        self.release(handle);
        Ok(String::from_utf8(bytes?).unwrap())
    }

    pub(super) fn create(&mut self, path: &str, flags: u32) -> Answer<(Entry, Opened)> {
        let (directory, name) = self.split(path)?;
        let flags = flags | open_flags::READ_WRITE | open_flags::CREATE;
        let create =
            Operation::Create { name, flags, mode: 0o644, umask: 0o22, kill_set_id: false };
        self.ask(directory, create, reply::created)
    }

    /// `echo text > path`.
    pub(super) fn write(&mut self, path: &str, text: &str) -> Answer<()> {
        let (_, opened) = self.create(path, open_flags::TRUNCATE)?;
        assert_eq!(self.write_at(opened.handle, 0, text.as_bytes())?, text.len() as u32);
        self.release(opened.handle);
        Ok(())
    }

    /// `echo text >> path`, the file being there.
    pub(super) fn append(&mut self, path: &str, text: &str) -> Answer<()> {
        let size = self.attr(path)?.size;
        let handle = self.open(path, open_flags::WRITE_ONLY)?;
        self.write_at(handle, size, text.as_bytes())?;
        self.release(handle);
        Ok(())
    }

    pub(super) fn mkdir(&mut self, path: &str) -> Answer<Entry> {
        let (directory, name) = self.split(path)?;
        self.entry(directory, Operation::MkDir { name, mode: 0o755, umask: 0o22 })
    }

    pub(super) fn symlink(&mut self, path: &str, target: &str) -> Answer<Entry> {
        let (directory, name) = self.split(path)?;
        let target = Target::new(target.as_bytes()).unwrap();
        self.entry(directory, Operation::Symlink { name, target })
    }

    pub(super) fn readlink(&mut self, path: &str) -> Answer<String> {
        let node = self.find(path)?;
        self.ask(node, Operation::ReadLink, |bytes, unique| {
            reply::body(bytes, unique).map(|body| String::from_utf8(body.to_vec()).unwrap())
        })
    }

    pub(super) fn unlink(&mut self, path: &str) -> Answer<()> {
        let (directory, name) = self.split(path)?;
        self.done(directory, Operation::Unlink { name })
    }

    pub(super) fn rmdir(&mut self, path: &str) -> Answer<()> {
        let (directory, name) = self.split(path)?;
        self.done(directory, Operation::RmDir { name })
    }

    pub(super) fn rename(&mut self, old: &str, new: &str, flags: u32) -> Answer<()> {
        let (directory, name) = self.split(old)?;
        let (new_directory, new_name) = self.split(new)?;
        self.done(directory, Operation::Rename { name, new_directory, new_name, flags })
    }

    pub(super) fn link(&mut self, old: &str, new: &str) -> Answer<Entry> {
        let target = self.find(old)?;
        let (directory, name) = self.split(new)?;
        self.entry(directory, Operation::Link { target, name })
    }

    /// The names of a directory in order, without `.` and `..`; asked for in pieces of `size`.
    pub(super) fn list(&mut self, path: &str, size: u32) -> Answer<Vec<String>> {
        let node = self.find(path)?;
        let handle = self.ask(node, Operation::OpenDir { flags: 0 }, reply::opened)?.handle;
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let read = Operation::ReadDir(ReadDir { handle, offset, size });
            let piece = self.ask(node, read, |bytes, unique| {
                let body = reply::body(bytes, unique)?;
                let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
                Ok(listing(body).map(|d| (text(d.name), d.next_offset)).collect::<Vec<_>>())
            })?;
            let Some((_, next)) = piece.last() else { break };
            offset = *next;
            names.extend(piece.into_iter().map(|(name, _)| name));
        }
        self.done(node, Operation::ReleaseDir { handle })?;
        names.retain(|name| name != "." && name != "..");
        names.sort();
        Ok(names)
    }

    /// The names with their attributes: those of what is known already are asked for. Entries are
    /// forgotten again.
    pub(super) fn list_plus(&mut self, path: &str) -> Answer<Vec<(String, Option<Attr>)>> {
        let node = self.find(path)?;
        let handle = self.ask(node, Operation::OpenDir { flags: 0 }, reply::opened)?.handle;
        let read = Operation::ReadDirPlus(ReadDir { handle, offset: 0, size: 1 << 20 });
        let all = self.ask(node, read, |bytes, unique| {
            let body = reply::body(bytes, unique)?;
            let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
            Ok(listing_plus(body).map(|(entry, d)| (text(d.name), entry)).collect::<Vec<_>>())
        })?;
        self.done(node, Operation::ReleaseDir { handle })?;
        all.iter().filter_map(|(_, entry)| *entry).for_each(|entry| self.forget(entry.node, 1));
        let mut all: Vec<_> =
            all.into_iter().map(|(name, entry)| (name, entry.map(|entry| entry.attr))).collect();
        all.retain(|(name, _)| name != "." && name != "..");
        for (name, attr) in all.iter_mut().filter(|(_, attr)| attr.is_none()) {
            let lookup = Operation::Lookup { name: Name::new(name.as_bytes()).unwrap() };
            *attr = self.entry(node, lookup).ok().map(|entry| {
                self.forget(entry.node, 1);
                entry.attr
            });
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }
}
