//! Finding files: directories through their layers, names, attributes.

use crate::host::Stat;
use crate::layer::{Found, Merged, Place, UPPER};
use crate::node::{Owner, Seen, checked};
use crate::space::FileSpace;
use fuse::reply::AttrReply;
use fuse::{Attr, Entry, Errno, Handle, Name, NodeId};
use std::collections::HashMap;
use std::sync::Arc;

/// The inode number a file had below before it was copied up, in decimal.
pub(crate) const ORIGIN: &str = "user.portspace.origin";
/// Owner and mode as shown inside, `uid:gid:mode` (containers/storage, fuse-overlayfs).
pub(crate) const OWNER: &str = "user.containers.override_stat";

/// Directories kept open, the least recently used ones closed first.
#[derive(Debug)]
pub(crate) struct OpenDirectories {
    kept: HashMap<NodeId, (Arc<Merged>, u64)>,
    uses: u64,
    limit: usize,
}

impl OpenDirectories {
    pub(crate) fn new(limit: usize) -> OpenDirectories {
        OpenDirectories { kept: HashMap::new(), uses: 0, limit: limit.max(2) }
    }

    fn get(&mut self, id: NodeId) -> Option<Arc<Merged>> {
        self.uses += 1;
        let (merged, used) = self.kept.get_mut(&id)?;
        *used = self.uses;
        Some(Arc::clone(merged))
    }

    fn keep(&mut self, id: NodeId, merged: Arc<Merged>) {
        if self.kept.len() >= self.limit {
            let mut uses: Vec<u64> = self.kept.values().map(|(_, used)| *used).collect();
            let half = uses.len() / 2;
            let (_, median, _) = uses.select_nth_unstable(half);
            let median = *median;
            self.kept.retain(|_, (_, used)| *used > median);
        }
        self.kept.insert(id, (merged, self.uses));
    }

    /// Closes one whose layers changed.
    pub(crate) fn close(&mut self, id: NodeId) {
        self.kept.remove(&id);
    }

    /// Closes those whose nodes are gone.
    pub(crate) fn retain(&mut self, wanted: impl Fn(NodeId) -> bool) {
        self.kept.retain(|id, _| wanted(*id));
    }
}

impl FileSpace {
    /// The directory `id` through its layers.
    pub(crate) fn directory(&mut self, id: NodeId) -> Result<Arc<Merged>, Errno> {
        let mut missing = Vec::new();
        let mut at = id;
        let mut merged = loop {
            if at == NodeId::ROOT {
                break Arc::clone(&self.root);
            }
            if let Some(merged) = self.directories.get(at) {
                break merged;
            }
            let node = self.nodes.get(at)?;
            if !node.is_directory() {
                return Err(Errno::ENOTDIR);
            }
            if !node.is_attached() {
                return Err(Errno::ESTALE);
            }
            missing.push(at);
            at = node.parent;
        };
        while let Some(id) = missing.pop() {
            let node = self.nodes.get(id)?;
            let child = self.hidden.open(&merged, checked(&node.name()), node.place)?;
            merged = Arc::new(child);
            self.directories.keep(id, Arc::clone(&merged));
        }
        Ok(merged)
    }

    /// LOOKUP.
    pub(crate) fn lookup(&mut self, directory: NodeId, name: Name<'_>) -> Result<Entry, Errno> {
        let merged = self.directory(directory)?;
        let found = self.hidden.find(&merged, name)?.found()?;
        self.adopt(directory, &merged, name, &found)
    }

    /// The entry of a file that was found: its node, made if the guest does not know it.
    pub(crate) fn adopt(
        &mut self,
        directory: NodeId,
        merged: &Merged,
        name: Name<'_>,
        found: &Found,
    ) -> Result<Entry, Errno> {
        if let Some(id) = self.nodes.child(directory, name) {
            let node = self.nodes.get(id)?;
            if node.place == found.place && node.kind == found.stat.kind() {
                self.refresh(id, merged, name)?;
                return Ok(self.entry(id, &found.stat));
            }
            self.detach(id);
        }
        let seen = self.see(merged, name, found)?;
        let id = self.nodes.insert(directory, name, seen)?;
        Ok(self.entry(id, &found.stat))
    }

    /// A new file of the space's own: it has no attributes to be read.
    pub(crate) fn adopt_new(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        stat: &Stat,
        owner: Option<Owner>,
    ) -> Result<Entry, Errno> {
        if let Some(id) = self.nodes.child(directory, name) {
            self.detach(id);
        }
        let place = Place::new(UPPER, stat);
        let seen = Seen { place, kind: stat.kind(), inode: self.inode(stat), owner };
        let id = self.nodes.insert(directory, name, seen)?;
        Ok(self.entry(id, stat))
    }

    /// Closes a kept directory if the parent replaced or removed one of its lowers.
    fn refresh(&mut self, id: NodeId, parent: &Merged, name: Name<'_>) -> Result<(), Errno> {
        if let Some(merged) = self.directories.get(id)
            && !self.hidden.is_current(&merged, parent, name)?
        {
            self.directories.close(id);
        }
        Ok(())
    }

    /// Ends the tie between a node and its name.
    pub(crate) fn detach(&mut self, id: NodeId) {
        self.nodes.detach(id);
        self.directories.close(id);
    }

    fn see(&self, merged: &Merged, name: Name<'_>, found: &Found) -> Result<Seen, Errno> {
        use fuse::record::{TYPE_DIRECTORY, TYPE_REGULAR};
        let kind = found.stat.kind();
        let mut seen =
            Seen { place: found.place, kind, inode: self.inode(&found.stat), owner: None };
        if found.place.layer == UPPER && matches!(kind, TYPE_DIRECTORY | TYPE_REGULAR) {
            let [origin, owner] = merged.upper().attributes(name, [ORIGIN, OWNER])?;
            let origin = origin.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok());
            seen.inode = origin.unwrap_or(seen.inode);
            seen.owner = owner.and_then(|text| Owner::parse(&text));
        }
        Ok(seen)
    }

    /// Hands the guest an entry of `id`, which it will forget.
    pub(crate) fn entry(&mut self, id: NodeId, stat: &Stat) -> Entry {
        self.nodes.looked_up(id);
        let node = self.nodes.node_mut(id);
        let (inode, owner) = (node.inode, node.owner);
        let attr = self.attr(stat, inode, owner);
        // Nothing may be believed for any time: the parent changes its files when it likes.
        Entry { node: id, generation: 0, name_valid_ns: 0, attr_valid_ns: 0, attr }
    }

    /// GETATTR.
    pub(crate) fn get_attr(
        &mut self,
        id: NodeId,
        handle: Option<Handle>,
    ) -> Result<AttrReply, Errno> {
        let stat = match handle.and_then(|handle| self.handles.file(handle).ok()) {
            Some(open) if open.node == id => open.file.stat()?,
            _ => self.stat(id)?,
        };
        let node = self.nodes.get(id)?;
        Ok(AttrReply { valid_ns: 0, attr: self.attr(&stat, node.inode, node.owner) })
    }

    /// The host's attributes of `id`, which is still the file the guest knows.
    pub(crate) fn stat(&mut self, id: NodeId) -> Result<Stat, Errno> {
        if id == NodeId::ROOT {
            return self.root.upper().stat_self();
        }
        let node = self.nodes.get(id)?;
        if !node.is_attached() {
            return self.handles.of_node(id).ok_or(Errno::ESTALE)?.stat();
        }
        let (parent, name, place) = (node.parent, node.name(), node.place);
        let merged = self.directory(parent)?;
        let layer = merged.layer(place.layer).ok_or(Errno::ESTALE)?;
        let stat = layer.stat(checked(&name))?.ok_or(Errno::ESTALE)?;
        if Place::new(place.layer, &stat) == place { Ok(stat) } else { Err(Errno::ESTALE) }
    }

    /// The inode number shown: the upper's and files beside it have their own.
    pub(crate) fn inode(&self, stat: &Stat) -> u64 {
        inode(self.upper_device, stat.device, stat.inode)
    }

    pub(crate) fn attr(&self, stat: &Stat, inode: u64, owner: Option<Owner>) -> Attr {
        let own = owner.unwrap_or_else(|| self.natural(stat));
        let minor_major = |device: u64| {
            let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
            minor & 0xff | major << 8 | (minor & !0xff) << 12
        };
        Attr {
            inode,
            size: stat.size,
            blocks: stat.blocks,
            accessed: stat.accessed,
            modified: stat.modified,
            changed: stat.changed,
            mode: stat.kind() | own.mode,
            links: if stat.is_directory() { 1 } else { stat.links },
            uid: own.uid,
            gid: own.gid,
            device: minor_major(stat.special),
            block_size: stat.block_size,
            flags: 0,
        }
    }

    /// What is shown without an attribute.
    pub(crate) fn natural(&self, stat: &Stat) -> Owner {
        natural(self.user, stat)
    }

    /// What is made now.
    pub(crate) fn made(&self, mode: u32) -> Owner {
        let (uid, gid) = self.maker;
        Owner { uid, gid, mode: mode & 0o7777 }
    }
}

/// What is shown without an attribute: `user`, if there is one, is the administrator inside.
pub(crate) fn natural(user: Option<(u32, u32)>, stat: &Stat) -> Owner {
    let is_user = |own: fn((u32, u32)) -> u32, id| user.is_some_and(|user| own(user) == id);
    Owner {
        uid: if is_user(|user| user.0, stat.uid) { 0 } else { stat.uid },
        gid: if is_user(|user| user.1, stat.gid) { 0 } else { stat.gid },
        mode: stat.mode & 0o7777,
    }
}

/// Files of other devices are told apart in the upper bits.
pub(crate) fn inode(upper_device: u64, device: u64, inode: u64) -> u64 {
    if device == upper_device {
        return inode;
    }
    let mixed = device.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48;
    inode ^ (mixed | 1) << 48
}

impl Owner {
    /// Reads the attribute's value.
    pub(crate) fn parse(text: &[u8]) -> Option<Owner> {
        let mut parts = std::str::from_utf8(text).ok()?.split(':');
        let uid = parts.next()?.parse().ok()?;
        let gid = parts.next()?.parse().ok()?;
        let mode = u32::from_str_radix(parts.next()?, 8).ok()? & 0o7777;
        Some(Owner { uid, gid, mode })
    }

    /// The attribute's value.
    pub(crate) fn text(self) -> Vec<u8> {
        format!("{}:{}:{:o}", self.uid, self.gid, self.mode).into_bytes()
    }
}
