//! The files the guest knows: a bounded table that forgets what the guest forgets.

use crate::host::Stat;
use crate::layer::{Merged, Place};
use crate::stored::Shown;
use fuse::record::TYPE_DIRECTORY;
use fuse::{Errno, Name, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Where a file without a name inside is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Orphan {
    /// Under a name in work, because it is open or has no name yet.
    InWork(Arc<[u8]>),
    /// Still the parent's, in the layer of the node's place. It is copied before it is written out.
    #[serde(skip)]
    Below(Arc<Merged>, Arc<[u8]>),
    /// Removed, and not open: what it was is remembered for as long as the guest knows it.
    Gone(Stat),
}

/// How far a file's bytes are on their way to the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Handed {
    #[default]
    No,
    /// They are being read.
    Soon,
    Over,
}

/// A file the guest holds at least one entry of, or the directory of such a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Node {
    /// Directory and name of each entry the guest was told; a directory has one at most.
    names: Vec<(NodeId, Arc<[u8]>)>,
    lookups: u64,
    /// Names of other nodes in this one.
    #[serde(skip)]
    children: usize,
    /// Open handles.
    #[serde(skip)]
    opens: usize,
    /// The kernel's number of the file and where that is, while it is open and the kernel reads
    /// and writes it.
    backing: Option<(i32, Place)>,
    /// Whether the client was handed its bytes, and not told since that they changed.
    #[serde(skip)]
    pub(crate) handed: Handed,
    /// It was made in this session and nobody gave it attributes: there are none to look for.
    pub(crate) bare: bool,
    /// The kernel has written it behind the client's cache.
    passed: bool,
    pub(crate) place: Place,
    /// `S_IFMT` bits as shown inside.
    pub(crate) kind: u32,
    /// As programs see it; stays over copy-up.
    pub(crate) inode: u64,
    /// What the upper's attribute says of the file.
    pub(crate) shown: Option<Shown>,
    /// The file's name in the index of hard links.
    pub(crate) indexed: Option<Arc<[u8]>>,
    /// A directory of one layer: the host counts its subdirectories right.
    pub(crate) pure: bool,
    /// Where the file is when it has no name.
    pub(crate) orphan: Option<Orphan>,
}

impl Node {
    /// Its directory and name, if it has one.
    pub(crate) fn name(&self) -> Option<(NodeId, Arc<[u8]>)> {
        self.names.first().map(|(parent, name)| (*parent, Arc::clone(name)))
    }

    pub(crate) fn names(&self) -> &[(NodeId, Arc<[u8]>)] {
        &self.names
    }

    /// Its names where no guest looks: in the index and in work.
    fn other_names(&self) -> impl Iterator<Item = &[u8]> {
        self.indexed.as_deref().into_iter().chain(self.work_name().map(|name| &**name))
    }

    /// Its name in work, if it has no name inside.
    pub(crate) fn work_name(&self) -> Option<&Arc<[u8]>> {
        match &self.orphan {
            Some(Orphan::InWork(name)) => Some(name),
            _ => None,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind == TYPE_DIRECTORY
    }

    /// Whether the guest holds an entry of it.
    pub(crate) fn is_looked_up(&self) -> bool {
        self.lookups > 0
    }

    pub(crate) fn is_open(&self) -> bool {
        self.opens > 0
    }

    pub(crate) fn backing(&self) -> Option<(i32, Place)> {
        self.backing
    }

    /// Whether nobody but one handle has it open.
    pub(crate) fn is_open_once(&self) -> bool {
        self.opens == 1
    }

    /// Whether pages the client's kernel cached may be older than the file.
    pub(crate) fn was_passed(&self) -> bool {
        self.passed
    }
}

/// What was written out is not what a server writes.
#[derive(Debug)]
pub(crate) struct Broken;

/// The name kept in a node.
pub(crate) fn checked(name: &[u8]) -> Name<'_> {
    Name::new(name).expect("only checked names become nodes")
}

/// What is kept of a file that gets a node.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) place: Place,
    pub(crate) kind: u32,
    pub(crate) inode: u64,
    pub(crate) shown: Option<Shown>,
    pub(crate) indexed: Option<Arc<[u8]>>,
}

/// All nodes. The root is always there and has no name.
#[derive(Debug)]
pub(crate) struct Nodes {
    nodes: HashMap<NodeId, Node>,
    /// The known names of each directory.
    names: HashMap<NodeId, HashMap<Arc<[u8]>, NodeId>>,
    /// Files that are no directories, so that all their names share one node.
    places: HashMap<Place, NodeId>,
    /// Nodes that are gone, with where their file was, for whoever cleans up after them.
    dropped: Vec<(NodeId, Option<Orphan>)>,
    unbacked: Vec<i32>,
    next: u64,
    limit: usize,
}

impl Nodes {
    pub(crate) fn new(root: Seen, limit: usize) -> Nodes {
        let mut nodes = Nodes {
            nodes: HashMap::new(),
            names: HashMap::new(),
            places: HashMap::new(),
            dropped: Vec::new(),
            unbacked: Vec::new(),
            next: NodeId::ROOT.0,
            limit: limit.max(2),
        };
        nodes.add(root);
        nodes
    }

    pub(crate) fn get(&self, id: NodeId) -> Result<&Node, Errno> {
        self.nodes.get(&id).ok_or(Errno::ESTALE)
    }

    /// A node that is known to be there.
    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("the node was found in this request")
    }

    /// The node of `name` in `directory`, if the guest knows it.
    pub(crate) fn child(&self, directory: NodeId, name: Name<'_>) -> Option<NodeId> {
        self.names.get(&directory)?.get(name.as_bytes()).copied()
    }

    /// The names known in `directory`.
    pub(crate) fn names_in(&self, directory: NodeId) -> Vec<(Arc<[u8]>, NodeId)> {
        let names = self.names.get(&directory).into_iter().flatten();
        names.map(|(name, id)| (Arc::clone(name), *id)).collect()
    }

    /// The names in work of all files without one inside.
    pub(crate) fn orphans(&self) -> Vec<Arc<[u8]>> {
        self.nodes.values().filter_map(Node::work_name).cloned().collect()
    }

    /// The node of a file that is no directory, under whatever name.
    pub(crate) fn at(&self, place: Place) -> Option<NodeId> {
        self.places.get(&place).copied()
    }

    /// Makes a node without a name.
    pub(crate) fn insert(&mut self, seen: Seen) -> Result<NodeId, Errno> {
        if self.nodes.len() >= self.limit {
            return Err(Errno::ENFILE);
        }
        Ok(self.add(seen))
    }

    fn add(&mut self, seen: Seen) -> NodeId {
        let Seen { place, kind, inode, shown, indexed } = seen;
        let id = NodeId(self.next);
        // 64 bits are never used up: a node id is never used again.
        self.next += 1;
        let (names, lookups, children, opens, orphan) = (Vec::new(), 0, 0, 0, None);
        let (pure, bare, backing, passed, handed) = (false, false, None, false, Handed::No);
        if kind != TYPE_DIRECTORY {
            self.places.insert(place, id);
        }
        let node = Node {
            names,
            lookups,
            children,
            opens,
            backing,
            handed,
            bare,
            passed,
            place,
            kind,
            inode,
            shown,
            indexed,
            pure,
            orphan,
        };
        self.nodes.insert(id, node);
        id
    }

    /// Gives `id` a name that belongs to no other node.
    pub(crate) fn attach(&mut self, id: NodeId, directory: NodeId, name: Name<'_>) {
        let name: Arc<[u8]> = Arc::from(name.as_bytes());
        let names = self.names.entry(directory).or_default();
        if names.insert(Arc::clone(&name), id) == Some(id) {
            return;
        }
        self.node_mut(directory).children += 1;
        let node = self.node_mut(id);
        node.names.push((directory, name));
        node.orphan = None;
    }

    /// The name is no longer this file's: it was removed or is another file now.
    pub(crate) fn detach(&mut self, directory: NodeId, name: Name<'_>) -> Option<NodeId> {
        let names = self.names.get_mut(&directory)?;
        let id = names.remove(name.as_bytes())?;
        if names.is_empty() {
            self.names.remove(&directory);
        }
        self.node_mut(id)
            .names
            .retain(|(parent, known)| *parent != directory || **known != *name.as_bytes());
        self.node_mut(directory).children -= 1;
        self.drop_unused(directory);
        Some(id)
    }

    /// Gives a renamed file its new name, which belonged to none.
    pub(crate) fn rename(
        &mut self,
        (directory, name): (NodeId, Name<'_>),
        (new_directory, new_name): (NodeId, Name<'_>),
    ) {
        let Some(id) = self.child(directory, name) else { return };
        // The new name first: the directory of the old one may go with its last name.
        self.attach(id, new_directory, new_name);
        self.detach(directory, name);
    }

    /// All files but those in work are one layer lower now.
    pub(crate) fn sink(&mut self) {
        for node in self.nodes.values_mut() {
            match &mut node.orphan {
                Some(Orphan::InWork(_)) => continue,
                Some(Orphan::Below(merged, _)) => *merged = Arc::new(merged.sunk()),
                Some(Orphan::Gone(_)) | None => {}
            }
            node.place = node.place.sunk();
            if let Some((_, place)) = &mut node.backing {
                *place = place.sunk();
            }
            // What is in it may come to be in two layers.
            node.pure = false;
        }
        let nodes = &self.nodes;
        let places = self.places.drain().map(|(place, id)| {
            let now = nodes.get(&id).map_or(place, |node| node.place);
            (now, id)
        });
        self.places = places.collect();
    }

    /// The file is at another place now: it was copied up.
    pub(crate) fn moved(&mut self, id: NodeId, place: Place) {
        let node = self.node_mut(id);
        let (old, directory) = (node.place, node.is_directory());
        node.place = place;
        if !directory {
            if self.at(old) == Some(id) {
                self.places.remove(&old);
            }
            self.places.insert(place, id);
        }
    }

    /// The place may soon be another file's.
    pub(crate) fn displaced(&mut self, id: NodeId) {
        if let Ok(place) = self.get(id).map(|node| node.place)
            && self.at(place) == Some(id)
        {
            self.places.remove(&place);
        }
    }

    /// Counts an entry handed to the guest.
    pub(crate) fn looked_up(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        node.lookups = node.lookups.saturating_add(1);
    }

    /// Takes entries back. What was never handed out is the guest's own loss.
    pub(crate) fn forget(&mut self, id: NodeId, lookups: u64) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.lookups = node.lookups.saturating_sub(lookups);
            self.drop_unused(id);
        }
    }

    /// Counts a handle.
    pub(crate) fn opened(&mut self, id: NodeId) {
        self.node_mut(id).opens += 1;
    }

    /// The kernel knows the file by `number` until its last handle is closed.
    pub(crate) fn backed(&mut self, id: NodeId, number: i32) {
        let node = self.node_mut(id);
        (node.backing, node.passed) = (Some((number, node.place)), true);
    }

    /// Numbers of files that are closed, for whoever tells the kernel.
    pub(crate) fn unbacked(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.unbacked)
    }

    /// Takes a handle back.
    pub(crate) fn closed(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.opens -= 1;
            if node.opens == 0 {
                self.unbacked.extend(node.backing.take().map(|(number, _)| number));
            }
            self.drop_unused(id);
        }
    }

    /// Drops `id` and then its directories, as far as nothing holds them.
    pub(crate) fn drop_unused(&mut self, id: NodeId) {
        let mut unused = vec![id];
        while let Some(id) = unused.pop() {
            let Some(node) = self.nodes.get(&id) else { continue };
            let held = node.lookups > 0 || node.children > 0 || node.opens > 0;
            if id == NodeId::ROOT || held {
                continue;
            }
            self.displaced(id);
            let node = self.nodes.remove(&id).expect("it was there above");
            for (directory, name) in node.names {
                if let Some(names) = self.names.get_mut(&directory) {
                    names.remove(&name);
                    if names.is_empty() {
                        self.names.remove(&directory);
                    }
                }
                self.node_mut(directory).children -= 1;
                unused.push(directory);
            }
            self.dropped.push((id, node.orphan));
        }
    }

    /// Files without a name that are the parent's still.
    pub(crate) fn below(&self) -> Vec<NodeId> {
        let is_below = |node: &Node| matches!(node.orphan, Some(Orphan::Below(..)));
        self.nodes.iter().filter(|(_, node)| is_below(node)).map(|(id, _)| *id).collect()
    }

    /// All that can be written out, and the number of the next.
    pub(crate) fn written(&self) -> (Vec<(NodeId, Node)>, u64) {
        let can_be = |node: &&Node| !matches!(node.orphan, Some(Orphan::Below(..)));
        let written =
            |(id, node): (&NodeId, &Node)| Some((*id, Some(node).filter(can_be)?.clone()));
        (self.nodes.iter().filter_map(written).collect(), self.next)
    }

    /// Those that were written out, in the place of what is there; nothing is open.
    ///
    /// # Errors
    /// They are not what was written: the root is missing, a name is none or has no directory, or
    /// directories are in each other.
    pub(crate) fn resume(&mut self, nodes: Vec<(NodeId, Node)>, next: u64) -> Result<(), Broken> {
        let mut all = Nodes {
            nodes: nodes.into_iter().collect(),
            names: HashMap::new(),
            places: HashMap::new(),
            dropped: Vec::new(),
            unbacked: Vec::new(),
            next,
            limit: self.limit,
        };
        if all.nodes.get(&NodeId::ROOT).is_none_or(|root| !root.is_directory()) {
            return Err(Broken);
        }
        let ids: Vec<_> = all.nodes.keys().copied().collect();
        for id in ids {
            let node = &all.nodes[&id];
            let names = node.names.clone();
            let is_sound = id.0 < next
                && (id != NodeId::ROOT || names.is_empty())
                && (names.len() < 2 || !node.is_directory())
                && node.other_names().all(|name| Name::new(name).is_ok())
                && node.work_name().is_none_or(|name| name.starts_with(b"#"));
            if !is_sound {
                return Err(Broken);
            }
            if !node.is_directory() && !matches!(node.orphan, Some(Orphan::Gone(_))) {
                all.places.insert(node.place, id);
            }
            for (directory, name) in names {
                let above = all.nodes.get_mut(&directory).filter(|above| above.is_directory());
                above.ok_or(Broken)?.children += 1;
                let names = all.names.entry(directory).or_default();
                if Name::new(&name).is_err() || names.insert(name, id).is_some() {
                    return Err(Broken);
                }
            }
        }
        all.is_tree().then(|| *self = all).ok_or(Broken)
    }

    /// Drops all that nothing holds.
    pub(crate) fn sweep(&mut self) {
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        for id in ids {
            if let Some(node) = self.nodes.get_mut(&id)
                && node.opens == 0
            {
                self.unbacked.extend(node.backing.take().map(|(number, _)| number));
            }
            self.drop_unused(id);
        }
    }

    /// Whether no directory is in itself.
    fn is_tree(&self) -> bool {
        let mut sound = HashSet::new();
        for id in self.nodes.keys() {
            let (mut at, mut way) = (*id, HashSet::new());
            while !sound.contains(&at) && way.insert(at) {
                match self.nodes.get(&at).and_then(Node::name) {
                    Some((above, _)) => at = above,
                    None => break,
                }
                if way.contains(&at) {
                    return false;
                }
            }
            sound.extend(way);
        }
        true
    }

    /// The nodes that are gone since this was asked last.
    pub(crate) fn dropped(&mut self) -> Vec<(NodeId, Option<Orphan>)> {
        std::mem::take(&mut self.dropped)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }
}
