//! Small files of lowers: the client is handed their bytes before it asks for them.
//!
//! Who opens a small file nearly always reads it: this saves the request.

use crate::host::{File, Stat};
use crate::layer::UPPER;
use crate::space::{FileSpace, State, Tell};
use fuse::{Handle, NodeId, notify};
use std::sync::Arc;

/// Most bytes of such a file.
const MOST: u64 = 64 << 10;

/// A file that was just opened, and is to be handed over.
#[derive(Debug)]
pub(crate) struct Ahead {
    node: NodeId,
    file: Arc<File>,
    before: Stat,
}

impl State {
    /// Notes a file that was opened to be read, if it may be handed over.
    ///
    /// Nobody else has it open: no READ of it is on its way, for which the client would wait with
    /// what is handed over, and no WRITE, which would be newer.
    pub(crate) fn note_ahead(&mut self, id: NodeId, handle: Handle, before: Stat) {
        let Ok(node) = self.nodes.get(id) else { return };
        if node.stored || !(1..=MOST).contains(&before.size) || !self.is_read_only(id) {
            return;
        }
        if let Ok(open) = self.handles.file(handle) {
            self.ahead = Some(Ahead { node: id, file: Arc::clone(&open.file), before });
        }
    }

    fn is_read_only(&self, id: NodeId) -> bool {
        let node = self.nodes.get(id);
        node.is_ok_and(|node| {
            node.is_open_once() && node.place.layer != UPPER && node.orphan.is_none()
        })
    }
}

impl FileSpace {
    /// Hands the file over. It may wait for a disk, so nothing is locked while it is read.
    pub(crate) fn hand_over(&self, ahead: &Ahead, tell: Tell<'_>) {
        let Ahead { node, file, before } = ahead;
        let mut data = Vec::new();
        if file.read(0, before.size as usize, &mut data).is_err() {
            return;
        }
        let mut message = Vec::new();
        let mut state = self.lock();
        if data.len() as u64 != before.size || !state.is_read_only(*node) {
            return;
        }
        notify::store(&mut message, *node, &data);
        tell(&message);
        let same = |now: Stat| (now.changed, now.size) == (before.changed, before.size);
        if file.stat().is_ok_and(same) {
            state.nodes.node_mut(*node).stored = true;
        } else {
            // The parent wrote it meanwhile, and the client may have been told so before.
            notify::inval_inode(&mut message, *node, 0, 0);
            tell(&message);
        }
    }
}
