//! Names and attributes as the server said they are, for as long as it said so.
//!
//! Pure: it asks nobody, and is told what time it is. Also the account of what the server is
//! owed: each entry it answered with is given back once nobody here knows the file any more.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;

use fuse::record::TYPE_DIRECTORY;
use fuse::reply::AttrReply;
use fuse::{Attr, Entry, NodeId};

/// Most names kept.
pub const LIMIT: usize = 1024;

/// Names of directories, the longest unused given up first.
#[derive(Debug)]
pub struct Names {
    limit: usize,
    files: BTreeMap<NodeId, File>,
    /// Directory and name, by the time of the last use.
    order: BTreeMap<u64, (NodeId, Rc<[u8]>)>,
    clock: u64,
    changes: u64,
    /// Newest change of a file that is not known any more.
    lost: u64,
    forgotten: Vec<Forgotten>,
}

/// A file somebody here knows: a name leads to it, a name is in it, or it is held.
#[derive(Debug)]
struct File {
    /// Entries to be given back.
    lookups: u64,
    /// Names that lead to it, and whoever works with it.
    holds: usize,
    kind: u32,
    attr: Attr,
    attr_until_us: u64,
    /// The last change by this guest: what was asked before does not show it.
    changed: u64,
    names: BTreeMap<Rc<[u8]>, Named>,
}

/// What a name is: a file, or nothing.
#[derive(Debug)]
struct Named {
    file: Option<NodeId>,
    until_us: u64,
    used: u64,
}

/// When the server was asked: its answer is as old as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an answer without it cannot be kept"]
pub struct Asked {
    now_us: u64,
    changes: u64,
}

impl Asked {
    fn until_us(self, valid_ns: u64) -> u64 {
        self.now_us.saturating_add(valid_ns / 1000)
    }
}

/// A file that is held now, and is to be given back with [`Names::release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it is held for ever"]
pub struct Held {
    /// The file.
    pub node: NodeId,
    /// Its type, `TYPE_*`.
    pub kind: u32,
    /// Its attributes, if they can be believed now.
    pub attr: Option<Attr>,
}

/// What is believed of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It is this file.
    File(Held),
    /// It is not there.
    Absent,
}

/// A file the server may forget as well: so many entries are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// The file.
    pub node: NodeId,
    /// Entries.
    pub lookups: u64,
}

impl Default for Names {
    fn default() -> Names {
        Names::new(LIMIT)
    }
}

impl Names {
    /// Keeps at most `limit` names.
    pub fn new(limit: usize) -> Names {
        Names {
            limit,
            files: BTreeMap::new(),
            order: BTreeMap::new(),
            clock: 0,
            changes: 0,
            lost: 0,
            forgotten: Vec::new(),
        }
    }

    /// Names kept.
    pub fn count(&self) -> usize {
        self.order.len()
    }

    /// What the server is to be told since this was called last.
    pub fn forgotten(&mut self) -> Vec<Forgotten> {
        core::mem::take(&mut self.forgotten)
    }

    /// To be taken before the server is asked for anything that is kept here.
    pub fn asked(&self, now_us: u64) -> Asked {
        Asked { now_us, changes: self.changes }
    }

    /// Holds the root, which needs no entry.
    pub fn root(&mut self, now_us: u64) -> Held {
        self.file(NodeId::ROOT, TYPE_DIRECTORY);
        self.hold(NodeId::ROOT, now_us)
    }

    /// What `name` in `directory` is; a file is held. `None`: the server has to be asked.
    pub fn find(&mut self, directory: NodeId, name: &[u8], now_us: u64) -> Option<Known> {
        let names = &mut self.files.get_mut(&directory)?.names;
        let named = names.get_mut(name).filter(|named| now_us < named.until_us)?;
        self.clock += 1;
        if let Some(key) = self.order.remove(&named.used) {
            self.order.insert(self.clock, key);
        }
        named.used = self.clock;
        Some(match named.file {
            Some(node) => Known::File(self.hold(node, now_us)),
            None => Known::Absent,
        })
    }

    /// The server answered that `name` in `directory`, which is held, is a file: it is held now,
    /// with the attributes of the answer unless this guest changed it meanwhile.
    pub fn found(&mut self, directory: NodeId, name: &[u8], entry: &Entry, asked: Asked) -> Held {
        let file = self.file(entry.node, entry.attr.file_type());
        file.lookups += 1;
        file.holds += 1;
        let (node, kind) = (entry.node, file.kind);
        let reply = AttrReply { valid_ns: entry.attr_valid_ns, attr: entry.attr };
        let attr = self.describe(node, &reply, asked).then_some(entry.attr);
        self.name(directory, name, Some(node), asked.until_us(entry.name_valid_ns), asked);
        Held { node, kind, attr }
    }

    /// The server answered that there is no `name` in `directory`, which is held.
    pub fn absent(&mut self, directory: NodeId, name: &[u8], valid_ns: u64, asked: Asked) {
        let changed = self.files.get(&directory).map_or(0, |directory| directory.changed);
        // It may have been made since.
        let valid_ns = if asked.changes < changed { 0 } else { valid_ns };
        self.name(directory, name, None, asked.until_us(valid_ns), asked);
    }

    /// The server said what the attributes of a file are that is held. Whether they still are:
    /// this guest did not change it meanwhile.
    pub fn describe(&mut self, node: NodeId, reply: &AttrReply, asked: Asked) -> bool {
        let Some(file) = self.files.get_mut(&node) else { return false };
        if asked.changes < file.changed {
            return false;
        }
        file.attr = reply.attr;
        file.attr_until_us = asked.until_us(reply.valid_ns);
        true
    }

    /// The attributes of a file, if they can be believed now.
    pub fn attr(&self, node: NodeId, now_us: u64) -> Option<Attr> {
        let file = self.files.get(&node).filter(|file| now_us < file.attr_until_us)?;
        Some(file.attr)
    }

    /// The inode number of a file somebody knows.
    pub fn inode(&self, node: NodeId) -> Option<u64> {
        self.files.get(&node).map(|file| file.attr.inode)
    }

    /// This guest changed a file that is held, or a name in it: what the server said of it before
    /// is not believed, nor what it was asked before.
    pub fn changed(&mut self, node: NodeId) {
        self.changes += 1;
        let Some(file) = self.files.get_mut(&node) else {
            self.lost = self.changes;
            return;
        };
        file.changed = self.changes;
        file.attr_until_us = 0;
        // One that was not there may be now.
        let absent = file.names.iter().filter(|(_, named)| named.file.is_none());
        let absent: Vec<Rc<[u8]>> = absent.map(|(name, _)| name.clone()).collect();
        absent.iter().for_each(|name| self.take(node, name));
    }

    /// Gives back a file that was held.
    pub fn release(&mut self, node: NodeId) {
        if let Some(file) = self.files.get_mut(&node) {
            file.holds = file.holds.saturating_sub(1);
        }
        self.clean_up(node);
    }

    /// Believes nothing any more: the server knows better.
    pub fn clear(&mut self) {
        self.shrink(0);
        self.files.values_mut().for_each(|file| file.attr_until_us = 0);
    }

    fn file(&mut self, node: NodeId, kind: u32) -> &mut File {
        let changed = self.lost;
        self.files.entry(node).or_insert_with(|| File {
            lookups: 0,
            holds: 0,
            kind,
            attr: Attr::default(),
            attr_until_us: 0,
            changed,
            names: BTreeMap::new(),
        })
    }

    fn hold(&mut self, node: NodeId, now_us: u64) -> Held {
        let file = self.files.get_mut(&node).expect("a name leads to a file that is known");
        file.holds += 1;
        let attr = (now_us < file.attr_until_us).then_some(file.attr);
        Held { node, kind: file.kind, attr }
    }

    /// Keeps what a name is until a time, if that is after it was asked for.
    fn name(
        &mut self,
        directory: NodeId,
        name: &[u8],
        file: Option<NodeId>,
        until_us: u64,
        asked: Asked,
    ) {
        self.take(directory, name);
        if until_us <= asked.now_us {
            return;
        }
        let Some(above) = self.files.get_mut(&directory) else { return };
        self.clock += 1;
        let (used, name) = (self.clock, Rc::<[u8]>::from(name));
        above.names.insert(name.clone(), Named { file, until_us, used });
        self.order.insert(used, (directory, name));
        if let Some(below) = file.and_then(|node| self.files.get_mut(&node)) {
            below.holds += 1;
        }
        self.shrink(self.limit);
    }

    /// Gives up a name.
    fn take(&mut self, directory: NodeId, name: &[u8]) {
        let Some(above) = self.files.get_mut(&directory) else { return };
        let Some(named) = above.names.remove(name) else { return };
        self.order.remove(&named.used);
        if let Some(node) = named.file {
            self.release(node);
        }
        self.clean_up(directory);
    }

    fn shrink(&mut self, limit: usize) {
        while self.order.len() > limit {
            let Some((_, (directory, name))) = self.order.pop_first() else { return };
            self.take(directory, &name);
        }
    }

    /// A file nobody knows any more is given back.
    fn clean_up(&mut self, node: NodeId) {
        let unknown = |file: &File| file.holds == 0 && file.names.is_empty();
        if !self.files.get(&node).is_some_and(unknown) {
            return;
        }
        if let Some(File { lookups, changed, .. }) = self.files.remove(&node) {
            self.lost = self.lost.max(changed);
            if lookups > 0 {
                self.forgotten.push(Forgotten { node, lookups });
            }
        }
    }
}

#[cfg(test)]
mod tests;
