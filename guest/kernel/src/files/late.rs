//! Writes the server is told of late: small ones, gathered file by file into long ones.
//!
//! Only with a server that agreed on FUSE_WRITEBACK_CACHE, and only files whose attributes it
//! answers for: nobody but this guest changes them. Whoever here asks for a file's bytes, size or
//! attributes has the server catch up first: its answers are right, and the times its own.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::future::poll_fn;
use core::task::{Poll, Waker};

use fuse::{Errno, Handle, NodeId, Operation, reply};

use super::Failed;
use super::calls::{Calls, MAX_IO};
use super::walk::Node;

/// Most files written late at once; whoever writes one more waits for the server.
pub(super) const MOST: usize = 16;

/// How often is looked for what has been late since the last time, microseconds.
const ROUND_US: u64 = 500_000;

/// A file the server has open; it is closed when this is dropped.
pub(super) struct Remote {
    pub(super) node: Node,
    pub(super) inode: u64,
    pub(super) handle: Handle,
    /// The server says that nobody but this guest changes the file.
    alone: bool,
    /// Whether it is still to be closed.
    pub(super) open: Cell<bool>,
    /// Why a late write failed that nobody has heard of yet.
    failed: Cell<Option<Failed>>,
}

impl Drop for Remote {
    fn drop(&mut self) {
        if self.open.get() {
            self.node.calls.tell(self.node.id, &Operation::Release { handle: self.handle });
        }
    }
}

impl Remote {
    /// What the server has just opened; `alone`: nobody but this guest changes it.
    pub(super) fn new(node: Node, inode: u64, handle: Handle, alone: bool) -> Remote {
        Remote { node, inode, handle, alone, open: Cell::new(true), failed: Cell::new(None) }
    }

    /// Has the server told of all that was written to the file so far, by whomever.
    ///
    /// # Errors
    /// What was written through this could not be; it is said once.
    pub(super) async fn catch_up(&self) -> Result<(), Failed> {
        self.node.calls.catch_up(self.node.id).await;
        self.heard()
    }

    /// Says why a late write through this failed, once.
    pub(super) fn heard(&self) -> Result<(), Failed> {
        self.failed.take().map_or(Ok(()), Err)
    }

    /// Tells the server to write all of `bytes` at `offset` now.
    pub(super) async fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), Failed> {
        let (calls, length) = (&self.node.calls, bytes.len() as u64);
        calls.pages.borrow_mut().written(self.inode, offset, length);
        let outcome = self.put_pieces(offset, bytes).await;
        calls.pages.borrow_mut().written(self.inode, offset, length);
        calls.changed(self.node.id);
        outcome
    }

    async fn put_pieces(&self, mut offset: u64, mut bytes: &[u8]) -> Result<(), Failed> {
        while !bytes.is_empty() {
            let data = &bytes[..bytes.len().min(MAX_IO)];
            let ask = Operation::Write { handle: self.handle, offset, data, kill_set_id: false };
            let count = self.node.calls.call(self.node.id, &ask, reply::written).await?;
            let count = count as usize;
            if count == 0 || count > data.len() {
                return Err(Errno::EIO.into());
            }
            offset += count as u64;
            bytes = &bytes[count..];
        }
        Ok(())
    }
}

/// What the server was not told of yet.
#[derive(Default)]
pub(super) struct Late {
    /// Whether the server agreed.
    agreed: bool,
    files: BTreeMap<NodeId, Gathered>,
    /// Whether a task sees to it that nothing is late for long.
    watched: bool,
}

/// Writes of one open file, each of which continued the one before.
struct Gathered {
    remote: Rc<Remote>,
    offset: u64,
    /// At most [`MAX_IO`].
    bytes: Vec<u8>,
    /// Bytes of the whole file with these, if that is known.
    size: Option<u64>,
    since_us: u64,
    /// They are on their way, and no more are gathered.
    sent: bool,
    /// Whoever waits for the server to have them.
    waiting: Vec<Waker>,
}

impl Gathered {
    fn new(remote: Rc<Remote>, offset: u64, size: Option<u64>, since_us: u64) -> Gathered {
        let (bytes, waiting) = (Vec::new(), Vec::new());
        Gathered { remote, offset, bytes, size, since_us, sent: false, waiting }
    }

    /// Adds a write that goes on where the last one ended; whether it does and there is room.
    fn add(&mut self, remote: &Rc<Remote>, offset: u64, bytes: &[u8]) -> bool {
        let next = self.offset.saturating_add(self.bytes.len() as u64);
        let goes_on = Rc::ptr_eq(&self.remote, remote) && next == offset && !self.sent;
        if !goes_on || self.bytes.len() + bytes.len() > MAX_IO {
            return false;
        }
        self.bytes.extend_from_slice(bytes);
        let end = offset.saturating_add(bytes.len() as u64);
        self.size = self.size.map(|size| size.max(end));
        true
    }
}

impl Calls {
    /// The server takes late writes.
    pub(super) fn agree_on_late_writes(&self) {
        self.late.borrow_mut().agreed = true;
    }

    /// Whether there is something of the file that the server was not told of.
    pub(super) fn is_late(&self, node: NodeId) -> bool {
        self.late.borrow().files.contains_key(&node)
    }

    /// Gathers a write to be told of later; false if that cannot be now.
    pub(super) fn write_late(
        self: &Rc<Calls>,
        remote: &Rc<Remote>,
        offset: u64,
        bytes: &[u8],
    ) -> bool {
        let node = remote.node.id;
        let late = &mut *self.late.borrow_mut();
        let room = late.agreed && remote.alone && late.files.len() < MOST && bytes.len() < MAX_IO;
        let gathered = match late.files.entry(node) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(vacant) if room => {
                if !core::mem::replace(&mut late.watched, true) {
                    self.spawner.spawn(self.clone().watch_late());
                }
                let now_us = self.now_us();
                let size = self.names.borrow().attr(node, now_us).map(|attr| attr.size);
                vacant.insert(Gathered::new(remote.clone(), offset, size, now_us))
            }
            Entry::Vacant(_) => return false,
        };
        if !gathered.add(remote, offset, bytes) {
            return false;
        }
        self.pages.borrow_mut().written(remote.inode, offset, bytes.len() as u64);
        true
    }

    /// The size of a file with its late writes, if it is known without asking.
    pub(super) fn late_size(&self, node: NodeId) -> Option<u64> {
        self.late.borrow().files.get(&node)?.size
    }

    /// This guest changed the file, other than late.
    pub(super) fn changed(&self, node: NodeId) {
        self.names.borrow_mut().changed(node);
        if let Some(gathered) = self.late.borrow_mut().files.get_mut(&node) {
            gathered.size = None;
        }
    }

    /// Has the server told of all that was written to a file so far, and waits until it is.
    pub(super) async fn catch_up(self: &Rc<Calls>, node: NodeId) {
        self.send_late(node);
        poll_fn(|cx| match self.late.borrow_mut().files.get_mut(&node) {
            Some(Gathered { sent: true, waiting, .. }) => {
                if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                    waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
            // What was written meanwhile may be later still.
            _ => Poll::Ready(()),
        })
        .await;
    }

    /// Sends what was written late to a file, if that is not on its way, by a task of its own:
    /// whoever waits for it may be interrupted.
    pub(super) fn send_late(self: &Rc<Calls>, node: NodeId) {
        let mut late = self.late.borrow_mut();
        let Some(gathered) = late.files.get_mut(&node).filter(|gathered| !gathered.sent) else {
            return;
        };
        gathered.sent = true;
        let (calls, remote, offset) = (self.clone(), gathered.remote.clone(), gathered.offset);
        let bytes = core::mem::take(&mut gathered.bytes);
        self.spawner.spawn(async move {
            let outcome = remote.put(offset, &bytes).await;
            if let Err(failed) = outcome {
                remote.failed.set(Some(failed));
            }
            let told = calls.late.borrow_mut().files.remove(&node);
            told.into_iter().flat_map(|told| told.waiting).for_each(Waker::wake);
        });
    }

    /// Sends what nobody asks for in time.
    async fn watch_late(self: Rc<Calls>) {
        loop {
            self.timers.after(ROUND_US).await;
            let before_us = self.now_us().saturating_sub(ROUND_US);
            let late = self.late.borrow();
            let due = late.files.iter().filter(|(_, gathered)| gathered.since_us <= before_us);
            let due: Vec<NodeId> = due.map(|(node, _)| *node).collect();
            drop(late);
            due.into_iter().for_each(|node| self.send_late(node));
            let late = &mut *self.late.borrow_mut();
            if late.files.is_empty() {
                late.watched = false;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
