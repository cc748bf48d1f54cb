//! Replies to programs that were interrupted: what they give is given back.

use fuse::{NodeId, Operation, reply};

use super::calls::Calls;

/// What a reply gives that stays with the server until it is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    Nothing,
    /// An entry, which is to be forgotten.
    Entry,
    /// An open file.
    File,
    /// An open directory.
    Directory,
    /// Both an entry and an open file.
    Made,
    /// What is kept of the file here is no longer right.
    Change,
}

impl Unread {
    /// Of the reply to `operation`.
    pub(super) fn of(operation: &Operation<'_>) -> Unread {
        match operation {
            Operation::Lookup { .. } => Unread::Entry,
            Operation::Open { .. } => Unread::File,
            Operation::OpenDir { .. } => Unread::Directory,
            Operation::Create { .. } => Unread::Made,
            Operation::Write { .. } | Operation::SetAttr(_) => Unread::Change,
            _ => Unread::Nothing,
        }
    }

    /// Gives back what the reply to `unique`, asked about `node`, gives.
    pub(super) fn give_back(self, calls: &Calls, node: NodeId, bytes: &[u8], unique: u64) {
        let forget = |node| calls.tell(node, &Operation::Forget { lookups: 1 });
        match self {
            Unread::Nothing => {}
            Unread::Entry => {
                if let Ok(entry) = reply::entry(bytes, unique) {
                    forget(entry.node);
                }
            }
            Unread::File => {
                calls.names.borrow_mut().changed(node);
                if let Ok(opened) = reply::opened(bytes, unique) {
                    calls.tell(node, &Operation::Release { handle: opened.handle });
                }
            }
            Unread::Directory => {
                if let Ok(opened) = reply::opened(bytes, unique) {
                    calls.tell(node, &Operation::ReleaseDir { handle: opened.handle });
                }
            }
            Unread::Made => {
                calls.names.borrow_mut().changed(node);
                if let Ok((entry, opened)) = reply::created(bytes, unique) {
                    calls.tell(entry.node, &Operation::Release { handle: opened.handle });
                    forget(entry.node);
                }
            }
            Unread::Change => {
                calls.names.borrow_mut().changed(node);
                let inode = calls.names.borrow().inode(node);
                if let Some(inode) = inode {
                    calls.pages.borrow_mut().resized(inode);
                }
            }
        }
    }
}
