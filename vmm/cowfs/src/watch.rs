//! Telling the client what the parent changed, so that it may cache meanwhile.
//!
//! Each live directory the client knows is watched before its names are read. What is not
//! watched (no notifications wanted, watches used up, a network's file system) is never cached.

use crate::host::{Change, Inotify};
use crate::layer::{Layers, Merged, Volume};
use crate::node::Handed;
use crate::space::State;
use fuse::{Name, NodeId, notify};
use std::collections::HashMap;
use std::sync::Arc;

/// The watches, and whose they are.
#[derive(Debug)]
pub(crate) struct Watches {
    inotify: Option<Arc<Inotify>>,
    /// Each directory's watches, and whether nothing in it changes unnoticed.
    directories: HashMap<NodeId, Watched>,
    /// Each watch's directories: one of the host may be seen at several places.
    watches: HashMap<i32, Vec<NodeId>>,
    /// Changes may have gone unnoticed that the client is to be told of.
    missed: bool,
}

#[derive(Debug)]
struct Watched {
    watches: Vec<i32>,
    steady: bool,
}

impl Watches {
    pub(crate) fn new(inotify: Option<Arc<Inotify>>) -> Watches {
        Watches { inotify, directories: HashMap::new(), watches: HashMap::new(), missed: false }
    }

    /// The directories that are watched.
    pub(crate) fn directories(&self) -> Vec<NodeId> {
        self.directories.keys().copied().collect()
    }

    /// Watches the directory `id`, which is in `above`, before it is read.
    pub(crate) fn watch(&mut self, id: NodeId, above: NodeId, merged: &Merged, layers: &Layers) {
        let above = id == NodeId::ROOT || merged.volume != Volume::Layered || self.is_steady(above);
        let mut watched = Watched { watches: Vec::new(), steady: above || merged.opaque };
        let live = merged.lowers.iter().filter(|lower| !layers.is_sealed(lower.place.layer));
        let mut live: Vec<_> = live.map(|lower| &*lower.directory).collect();
        if merged.redirected && id != NodeId::ROOT && !live.is_empty() && merged.is_layered() {
            // Whoever renames a directory above the lowers' own path is not seen.
            watched.steady = false;
        }
        if let (Volume::Shared(_), Some(upper)) = (merged.volume, &merged.upper) {
            live.push(upper);
        }
        for directory in live {
            let watch = match &self.inotify {
                Some(inotify) if directory.is_local() => inotify.watch(directory).ok(),
                _ => None,
            };
            match watch {
                Some(watch) => {
                    watched.watches.push(watch);
                    let directories = self.watches.entry(watch).or_default();
                    if !directories.contains(&id) {
                        directories.push(id);
                    }
                }
                None => watched.steady = false,
            }
        }
        // The old ones after the new: what is watched by both is never unwatched.
        if let Some(old) = self.directories.insert(id, watched) {
            self.release(id, &old.watches);
        }
    }

    /// Notes a directory that is the space's own, below which no other ever shows.
    pub(crate) fn is_own(&mut self, id: NodeId) {
        self.directories.insert(id, Watched { watches: Vec::new(), steady: true });
    }

    /// Whether nobody has looked into the directory yet.
    pub(crate) fn is_unopened(&self, id: NodeId) -> bool {
        !self.directories.contains_key(&id)
    }

    /// Whether the client is told of every change of the directory's names.
    pub(crate) fn is_steady(&self, id: NodeId) -> bool {
        self.directories.get(&id).is_some_and(|watched| watched.steady)
    }

    /// Ends the watches of a directory the client no longer knows.
    pub(crate) fn end(&mut self, id: NodeId) {
        if let Some(watched) = self.directories.remove(&id) {
            self.release(id, &watched.watches);
        }
    }

    /// Ends those of `watches` that `id` no longer has and no other directory does.
    fn release(&mut self, id: NodeId, watches: &[i32]) {
        let kept = self.directories.get(&id).map_or(&[][..], |watched| &watched.watches);
        for watch in watches.iter().filter(|watch| !kept.contains(watch)) {
            let Some(directories) = self.watches.get_mut(watch) else { continue };
            directories.retain(|directory| *directory != id);
            if directories.is_empty() {
                self.watches.remove(watch);
                if let Some(inotify) = &self.inotify {
                    inotify.end(*watch);
                }
            }
        }
    }

    pub(crate) fn clear(&mut self) {
        let all: Vec<_> = self.directories.keys().copied().collect();
        all.into_iter().for_each(|id| self.end(id));
    }
}

impl State {
    pub(crate) fn watch_root(&mut self) {
        let root = Arc::clone(&self.root);
        self.watches.watch(NodeId::ROOT, NodeId::ROOT, &root, &self.layers);
    }

    /// Watches directories again for which the client may have missed changes.
    pub(crate) fn watch_again(&mut self, directories: Vec<NodeId>) {
        self.watch_root();
        for id in directories {
            // One that is gone is told of by the directory it was in.
            let _ = self.directory(id);
        }
        self.watches.missed = true;
    }

    /// What the client has to be told.
    pub(crate) fn parent_changed(&mut self) -> Vec<Vec<u8>> {
        let Some(inotify) = self.watches.inotify.clone() else { return Vec::new() };
        let mut told = Told::default();
        if std::mem::take(&mut self.watches.missed) {
            self.everything_may_have_changed(&mut told);
        }
        inotify.changes(|watch, change| {
            if change == Change::Lost {
                self.everything_may_have_changed(&mut told);
                return;
            }
            let directories = self.watches.watches.get(&watch).cloned().unwrap_or_default();
            for directory in directories {
                self.changed(directory, change, &mut told);
            }
        });
        self.counters.parent_changes += told.messages.len() as u64;
        told.messages
    }

    fn changed(&mut self, directory: NodeId, change: Change<'_>, told: &mut Told) {
        let child = |name| {
            let name = Name::new(name).ok()?;
            Some((name, self.nodes.child(directory, name)))
        };
        match change {
            Change::Name(name) => {
                let Some((name, child)) = child(name) else { return };
                let known = child.and_then(|id| self.nodes.get(id).ok());
                let is_directory = known.is_some_and(|node| node.is_directory());
                // What is cached below a directory is dropped with its name.
                told.name(directory, name, !is_directory);
                told.bytes(directory);
                if let Some(child) = child {
                    self.bytes_changed(child, told);
                }
                // Directories opened through this one may be others now.
                if is_directory {
                    self.directories.clear();
                }
            }
            Change::Bytes(name) => {
                if let Some((_, Some(child))) = child(name) {
                    self.bytes_changed(child, told);
                }
            }
            Change::Attributes(name) => match child(name) {
                Some((_, Some(child))) => told.attributes(child),
                Some((_, None)) => {}
                None => told.attributes(directory),
            },
            Change::End => {
                self.directories.clear();
                self.watches.end(directory);
                told.bytes(directory);
            }
            Change::Lost => {}
        }
    }

    fn bytes_changed(&mut self, id: NodeId, told: &mut Told) {
        self.nodes.node_mut(id).handed = Handed::No;
        told.bytes(id);
    }

    fn everything_may_have_changed(&mut self, told: &mut Told) {
        self.directories.clear();
        let directories: Vec<_> = self.watches.directories.keys().copied().collect();
        for directory in directories {
            told.bytes(directory);
            for (name, child) in self.nodes.names_in(directory) {
                told.name(directory, crate::node::checked(&name), false);
                self.bytes_changed(child, told);
            }
        }
    }
}

/// Messages for the client.
#[derive(Debug, Default)]
struct Told {
    messages: Vec<Vec<u8>>,
}

impl Told {
    fn push(&mut self, make: impl FnOnce(&mut Vec<u8>)) {
        let mut message = Vec::new();
        make(&mut message);
        // A program that writes a file in small pieces is told of once.
        if self.messages.last() != Some(&message) {
            self.messages.push(message);
        }
    }

    fn name(&mut self, directory: NodeId, name: Name<'_>, expire_only: bool) {
        self.push(|out| notify::inval_entry(out, directory, name, expire_only));
    }

    /// The attributes and all bytes.
    fn bytes(&mut self, id: NodeId) {
        self.push(|out| notify::inval_inode(out, id, 0, 0));
    }

    fn attributes(&mut self, id: NodeId) {
        self.push(|out| notify::inval_inode(out, id, -1, 0));
    }
}
