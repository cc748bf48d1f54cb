//! Small files of lowers: the client is handed their bytes before it asks for them.
//!
//! Who opens a small file nearly always reads it: this saves the request.

use crate::host::File;
use crate::layer::UPPER;
use crate::node::Handed;
use crate::space::{FileSpace, Server, State};
use fuse::{Handle, NodeId, notify};
use std::sync::Arc;

/// Most bytes of such a file.
const MOST: u64 = 64 << 10;

/// A file that was just opened, and is to be handed over.
#[derive(Debug)]
pub(crate) struct Ahead {
    node: NodeId,
    file: Arc<File>,
    size: u64,
}

impl State {
    /// Notes a file that was opened to be read, if it may be handed over.
    ///
    /// Nobody else has it open: no READ of it is on its way, for which the client would wait with
    /// what is handed over, and no WRITE, which would be newer.
    pub(crate) fn note_ahead(&mut self, id: NodeId, handle: Handle, size: u64) {
        let Ok(node) = self.nodes.get(id) else { return };
        if node.handed == Handed::Over || !(1..=MOST).contains(&size) || !self.is_read_only(id) {
            return;
        }
        if let Ok(open) = self.handles.file(handle) {
            self.ahead = Some(Ahead { node: id, file: Arc::clone(&open.file), size });
            self.nodes.node_mut(id).handed = Handed::Soon;
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
    ///
    /// What was read may be old if the client was told of a change meanwhile. What it is told of
    /// later it is told after this.
    pub(crate) fn hand_over(&self, ahead: &Ahead, server: &mut dyn Server) {
        let Ahead { node, file, size } = ahead;
        let mut data = Vec::new();
        server.step_aside();
        let read = file.read(0, *size as usize, &mut data);
        let mut state = self.lock();
        let is_right = read.is_ok() && data.len() as u64 == *size && state.is_read_only(*node);
        if !is_right || state.nodes.node_mut(*node).handed != Handed::Soon {
            return;
        }
        let mut message = Vec::new();
        notify::store(&mut message, *node, &data);
        server.tell(&message);
        state.nodes.node_mut(*node).handed = Handed::Over;
    }
}
