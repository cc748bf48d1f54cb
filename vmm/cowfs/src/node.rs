//! The files the guest knows: a bounded table that forgets what the guest forgets.

use crate::layer::Place;
use fuse::{Errno, Name, NodeId};
use std::collections::HashMap;
use std::sync::Arc;

/// What the guest is shown where the host's own attributes cannot say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Permission and set-id bits.
    pub(crate) mode: u32,
}

/// A file the guest holds at least one entry of, or the directory of such a file.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) parent: NodeId,
    name: Arc<[u8]>,
    /// The name is still this file's; never true again once false.
    attached: bool,
    lookups: u64,
    children: usize,
    pub(crate) place: Place,
    /// `S_IFMT` bits.
    pub(crate) kind: u32,
    /// As programs see it; stays over copy-up.
    pub(crate) inode: u64,
    pub(crate) owner: Option<Owner>,
}

impl Node {
    pub(crate) fn name(&self) -> Arc<[u8]> {
        Arc::clone(&self.name)
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.attached
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind == fuse::record::TYPE_DIRECTORY
    }
}

/// The name kept in a node.
pub(crate) fn checked(name: &[u8]) -> Name<'_> {
    Name::new(name).expect("only checked names become nodes")
}

/// What is kept of a file that gets a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) place: Place,
    pub(crate) kind: u32,
    pub(crate) inode: u64,
    pub(crate) owner: Option<Owner>,
}

/// All nodes. The root is always there and has no name.
#[derive(Debug)]
pub(crate) struct Nodes {
    nodes: HashMap<NodeId, Node>,
    /// The known names of each directory.
    names: HashMap<NodeId, HashMap<Arc<[u8]>, NodeId>>,
    next: u64,
    limit: usize,
}

impl Nodes {
    pub(crate) fn new(root: Seen, limit: usize) -> Nodes {
        let mut nodes = Nodes {
            nodes: HashMap::new(),
            names: HashMap::new(),
            next: NodeId::ROOT.0,
            limit: limit.max(2),
        };
        nodes.add(NodeId(0), Arc::from([]), root);
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

    /// Makes a node for `name` in `directory`, where there was none.
    pub(crate) fn insert(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        seen: Seen,
    ) -> Result<NodeId, Errno> {
        if self.nodes.len() >= self.limit {
            return Err(Errno::ENFILE);
        }
        let name: Arc<[u8]> = Arc::from(name.as_bytes());
        let id = self.add(directory, Arc::clone(&name), seen);
        self.name(directory, name, id);
        Ok(id)
    }

    fn add(&mut self, parent: NodeId, name: Arc<[u8]>, seen: Seen) -> NodeId {
        let Seen { place, kind, inode, owner } = seen;
        let id = NodeId(self.next);
        // 64 bits are never used up: a node id is never used again.
        self.next += 1;
        let (attached, lookups, children) = (true, 0, 0);
        let node = Node { parent, name, attached, lookups, children, place, kind, inode, owner };
        self.nodes.insert(id, node);
        id
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

    /// Drops `id` and then its directories, as far as nothing holds them.
    pub(crate) fn drop_unused(&mut self, mut id: NodeId) {
        while id != NodeId::ROOT
            && let Some(node) = self.nodes.get(&id)
            && node.lookups == 0
            && node.children == 0
        {
            let node = self.nodes.remove(&id).expect("it was there in the condition");
            if node.attached {
                self.unname(node.parent, &node.name);
            }
            id = node.parent;
            self.node_mut(id).children -= 1;
        }
    }

    /// The name is no longer this file's: it was removed or is another file now.
    pub(crate) fn detach(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        if node.attached {
            node.attached = false;
            let (parent, name) = (node.parent, Arc::clone(&node.name));
            self.unname(parent, &name);
        }
    }

    fn name(&mut self, directory: NodeId, name: Arc<[u8]>, id: NodeId) {
        self.names.entry(directory).or_default().insert(name, id);
        self.node_mut(directory).children += 1;
    }

    fn unname(&mut self, directory: NodeId, name: &[u8]) {
        let names = self.names.get_mut(&directory).expect("the node's name is known");
        names.remove(name);
        if names.is_empty() {
            self.names.remove(&directory);
        }
    }

    /// Gives the file a new name, which belonged to none.
    pub(crate) fn rename(&mut self, id: NodeId, directory: NodeId, name: Name<'_>) {
        self.detach(id);
        let name: Arc<[u8]> = Arc::from(name.as_bytes());
        self.name(directory, Arc::clone(&name), id);
        let node = self.node_mut(id);
        let old = std::mem::replace(&mut node.parent, directory);
        (node.name, node.attached) = (name, true);
        self.node_mut(old).children -= 1;
        self.drop_unused(old);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }
}
