//! Paths: name by name, each asked of the server unless its last answer still holds.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use fuse::record::{TYPE_DIRECTORY, TYPE_SYMLINK};
use fuse::{Attr, Entry, Errno, Name, NodeId, Operation, reply};

use super::names::{Asked, Held, Known};
use super::{Calls, Failed, Files};

/// Most symbolic links followed in one path, as Linux has it.
const MAX_LINKS: usize = 40;

/// A file a path leads to, which the server must not forget; given back when it is dropped.
pub(super) struct Node {
    pub(super) calls: Rc<Calls>,
    pub(super) id: NodeId,
    kind: u32,
    /// As the walk had them from the server, or as they could be believed at its end.
    attr: Option<Attr>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.calls.names.borrow_mut().release(self.id);
    }
}

impl Node {
    pub(super) fn is_directory(&self) -> bool {
        self.kind == TYPE_DIRECTORY
    }

    /// This guest changed the file, or a name in it.
    pub(super) fn changed(&self) {
        self.calls.names.borrow_mut().changed(self.id);
    }
}

impl Files {
    /// Follows a path. `follow`: also a link at its end.
    pub(super) async fn walk(
        &self,
        directory: &str,
        path: &str,
        follow: bool,
    ) -> Result<Node, Failed> {
        self.calls.mounted().await?;
        if path.is_empty() {
            return Err(Errno::ENOENT.into());
        }
        // Directories on the way down, so that `..` needs no request.
        let mut trail: Vec<Node> = Vec::new();
        let mut names: VecDeque<String> = VecDeque::new();
        let absolute = path.starts_with('/');
        let start = if absolute { "" } else { directory };
        names.extend(start.split('/').chain(path.split('/')).map(String::from));
        let root = self.root();
        let mut links = 0;
        while let Some(name) = names.pop_front() {
            match &name[..] {
                "" | "." => continue,
                ".." => {
                    trail.pop();
                    continue;
                }
                _ => {}
            }
            let node = self.step(trail.last().unwrap_or(&root), &name).await?;
            let last = names.iter().all(|name| name.is_empty());
            if node.kind != TYPE_SYMLINK || (last && !follow) {
                trail.push(node);
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Errno::ELOOP.into());
            }
            let target = self.target(&node).await?;
            if target.starts_with('/') {
                trail.clear();
            }
            target.split('/').rev().for_each(|name| names.push_front(name.into()));
        }
        Ok(trail.pop().unwrap_or(root))
    }

    fn root(&self) -> Node {
        let held = self.calls.names.borrow_mut().root(self.now_us());
        self.node(held)
    }

    /// One name further down.
    async fn step(&self, above: &Node, name: &str) -> Result<Node, Failed> {
        let bytes = name.as_bytes();
        let known = self.calls.names.borrow_mut().find(above.id, bytes, self.now_us());
        match known {
            Some(Known::File(held)) => return Ok(self.node(held)),
            Some(Known::Absent) => return Err(Errno::ENOENT.into()),
            None => {}
        }
        let ask = Operation::Lookup { name: Name::new(bytes)? };
        let asked = self.asked();
        let answer = self.calls.call(above.id, &ask, reply::looked_up).await;
        let valid_ns = match answer {
            Ok(entry) if entry.node != NodeId(0) => {
                return Ok(self.found(above, name, &entry, asked));
            }
            Ok(absent) => absent.name_valid_ns,
            Err(Failed::Errno(Errno::ENOENT)) => 0,
            Err(other) => return Err(other),
        };
        self.calls.names.borrow_mut().absent(above.id, bytes, valid_ns, asked);
        Err(Errno::ENOENT.into())
    }

    /// The node of an entry the server answered with.
    pub(super) fn found(&self, above: &Node, name: &str, entry: &Entry, asked: Asked) -> Node {
        let mut names = self.calls.names.borrow_mut();
        self.node(names.found(above.id, name.as_bytes(), entry, asked))
    }

    fn node(&self, held: Held) -> Node {
        Node { calls: self.calls.clone(), id: held.node, kind: held.kind, attr: held.attr }
    }

    async fn target(&self, link: &Node) -> Result<String, Failed> {
        let read = |bytes: &[u8], unique| {
            reply::body(bytes, unique).map(|text| String::from_utf8_lossy(text).into_owned())
        };
        self.calls.call(link.id, &Operation::ReadLink, read).await
    }

    /// The attributes of what a walk has just found.
    pub(super) async fn attr_of(&self, node: &Node) -> Result<Attr, Failed> {
        if let Some(attr) = node.attr {
            return Ok(attr);
        }
        let asked = self.asked();
        let ask = Operation::GetAttr { handle: None };
        let reply = self.calls.call(node.id, &ask, reply::attr).await?;
        self.calls.names.borrow_mut().describe(node.id, &reply, asked);
        Ok(reply.attr)
    }

    pub(super) fn asked(&self) -> Asked {
        self.calls.names.borrow().asked(self.now_us())
    }

    fn now_us(&self) -> u64 {
        self.timers.now_us()
    }
}

/// Splits a path before its last name; `None` if it has none.
pub(super) fn split(path: &str) -> Option<(&str, &str)> {
    match path.rsplit_once('/') {
        None => Some((".", path)),
        Some((_, "")) => None,
        Some(("", name)) => Some(("/", name)),
        Some((parent, name)) => Some((parent, name)),
    }
}
