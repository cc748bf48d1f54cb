//! What a guest knows of a space and has open, written out for the server that takes over: another
//! process, or one that resumes a machine which was put aside.

use crate::configuration::{Config, OpenFailure, io_error};
use crate::files;
use crate::layer::Place;
use crate::node::{Node, Orphan};
use crate::space::{FileSpace, State};
use fuse::{Errno, Handle, NodeId};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::PoisonError;

/// All that a server knows and its directories do not say.
///
/// It is good for these directories, on this host, for as long as nobody else served them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// The roots of all layers, the upper first.
    layers: Vec<Place>,
    /// The capabilities that INIT agreed on.
    session: Option<u64>,
    nodes: Vec<(NodeId, Node)>,
    next_node: u64,
    open: Vec<(Handle, files::Written)>,
    next_handle: u64,
    /// Directories of which the client was told that they would be watched.
    watched: Vec<NodeId>,
    /// Names used in work.
    staged: u64,
}

/// Why a space cannot be saved now.
#[derive(Debug, thiserror::Error)]
pub enum SaveFailure {
    /// A server could not open it again.
    #[error("a program has a file open that is nowhere any more; close it and try again")]
    Nowhere,
    /// A removed file of the parent that is open cannot be copied.
    #[error("a removed file of the parent that a program has open cannot be copied: {0}")]
    Copy(std::io::Error),
}

/// Why a saved space cannot be resumed.
#[derive(Debug, thiserror::Error)]
pub enum ResumeFailure {
    /// Its directories.
    #[error(transparent)]
    Open(#[from] OpenFailure),
    /// Layers were added, removed or replaced.
    #[error("the space was saved over other layers; open it anew, for what was open is lost")]
    OtherLayers,
    /// Something is bound now that was not.
    #[error("nothing was bound to {} inside when the space was saved; open it anew", .0.display())]
    OtherBindings(PathBuf),
    /// No server wrote this.
    #[error("what was saved of the space is damaged; open it anew, for what was open is lost")]
    Damaged,
}

impl FileSpace {
    /// Writes out what the guest knows and has open.
    ///
    /// It holds for as long as nothing is served after it; the space is then to be dropped, which
    /// unlocks the upper, and resumed.
    ///
    /// # Errors
    /// [`SaveFailure`]; the space goes on as it was.
    pub fn save(&self) -> Result<Saved, SaveFailure> {
        let mut state = self.lock();
        while !state.copying.is_empty() {
            state = self.copied.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let _still = self.writing.write().unwrap_or_else(PoisonError::into_inner);
        state.save()
    }

    /// Goes on where a space with the same configuration was saved.
    ///
    /// What the parent removed meanwhile of what was open has no handle any more (EBADF). Whoever
    /// takes notifications calls [`parent_changed`](FileSpace::parent_changed) first: the client is
    /// told to believe nothing of the parent's that it has cached.
    ///
    /// # Errors
    /// [`ResumeFailure`]; the directories are as they were.
    pub fn resume(config: &Config, saved: Saved) -> Result<FileSpace, ResumeFailure> {
        let kept = saved.nodes.iter().filter_map(|(_, node)| node.work_name().cloned());
        let space = FileSpace::prepare(config, &kept.collect())?;
        space.lock().resume(saved)?;
        Ok(space)
    }
}

impl State {
    fn save(&mut self) -> Result<Saved, SaveFailure> {
        let (open, next_handle) = self.handles.written();
        let is_gone = |written: &files::Written| {
            let node = self.nodes.get(written.node());
            matches!(written, files::Written::File { .. })
                && node.is_ok_and(|node| matches!(node.orphan, Some(Orphan::Gone(_))))
        };
        if open.iter().any(|(_, written)| is_gone(written)) {
            return Err(SaveFailure::Nowhere);
        }
        for id in self.nodes.below() {
            if self.nodes.node_mut(id).is_open() {
                let failed = |errno| SaveFailure::Copy(io_error(errno));
                self.copy_up(id, u64::MAX).map_err(failed)?;
            } else if let Ok(stat) = self.stat(id) {
                self.nodes.node_mut(id).orphan = Some(Orphan::Gone(stat));
            }
        }
        let (nodes, next_node) = self.nodes.written();
        Ok(Saved {
            layers: self.roots(),
            session: self.session.agreed(),
            nodes,
            next_node,
            open,
            next_handle,
            watched: self.watches.directories(),
            staged: self.staged,
        })
    }

    fn resume(&mut self, saved: Saved) -> Result<(), ResumeFailure> {
        if saved.layers != self.roots() {
            return Err(ResumeFailure::OtherLayers);
        }
        self.session = self.session.resumed(saved.session);
        self.staged = self.staged.max(saved.staged);
        let damaged = |_| ResumeFailure::Damaged;
        self.nodes.resume(saved.nodes, saved.next_node).map_err(damaged)?;
        self.rebind_all().map_err(|(path, _): (_, Errno)| ResumeFailure::OtherBindings(path))?;
        self.reopen(saved.open, saved.next_handle);
        self.watch_again(saved.watched);
        // What could not be opened again may have held nodes.
        self.nodes.sweep();
        self.clean_up();
        Ok(())
    }

    fn roots(&self) -> Vec<Place> {
        let upper = self.nodes.get(NodeId::ROOT).map(|root| root.place);
        upper.into_iter().chain(self.layers.roots.iter().map(|root| root.place)).collect()
    }
}
