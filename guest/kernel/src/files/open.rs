//! An open file: read through the page cache, and ahead of whoever reads it in order.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use fuse::request::SetAttr;
use fuse::{Attr, Errno, Opened, Operation, reply};

use super::cache::{PAGE, Ticket, Version};
use super::calls::Pending;
use super::late::Remote;
use super::walk::Node;
use super::{Failed, MAX_IO};

/// An open file; dropping it closes it without hearing of errors.
pub struct OpenFile {
    pub(super) remote: Rc<Remote>,
    /// Bytes of it when it was opened.
    size: u64,
    /// `FOPEN_*`.
    flags: u32,
    /// Where whoever reads in order reads next.
    next: Cell<u64>,
    ahead: RefCell<Option<Ahead>>,
}

/// A piece that was asked for before anybody wanted it.
struct Ahead {
    offset: u64,
    ticket: Ticket,
    pending: Pending,
}

impl OpenFile {
    /// A file that the server has just opened, whose attributes were `attr` before.
    pub(super) fn new(node: Node, attr: &Attr, opened: Opened) -> OpenFile {
        let keep = opened.flags & Opened::KEEP_CACHE != 0;
        node.calls.pages.borrow_mut().opened(attr.inode, Version::from(attr), keep);
        OpenFile {
            remote: Rc::new(Remote::new(node, attr.inode, opened.handle, keep)),
            size: attr.size,
            flags: opened.flags,
            next: Cell::new(0),
            ahead: RefCell::new(None),
        }
    }

    /// Appends the bytes at `offset`, at most [`MAX_IO`], to `out` and says how many; 0 at the end.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn read(&self, offset: u64, out: &mut Vec<u8>) -> Result<usize, Failed> {
        let (calls, inode) = (&self.remote.node.calls, self.remote.inode);
        let cached = calls.pages.borrow_mut().read(inode, offset, MAX_IO, out);
        if let Some(count) = cached {
            self.next.set(offset + count as u64);
            return Ok(count);
        }
        self.remote.catch_up().await?;
        let start = offset - offset % PAGE as u64;
        // Not what was asked for before a write by whomever: that may be older.
        let ticket = calls.pages.borrow().ticket(inode);
        let right = |ahead: &Ahead| ahead.offset == start && ahead.ticket == ticket;
        let asked = self.ahead.take().filter(right);
        let asked = asked.unwrap_or_else(|| self.ask(start));
        let after = start + MAX_IO as u64;
        if offset == self.next.get() && after < self.size {
            let there = calls.pages.borrow().has(inode, after);
            let ahead = (!there).then(|| self.ask(after));
            self.ahead.replace(ahead);
        }
        let Ahead { ticket, pending, .. } = asked;
        let count = pending
            .reply(|bytes, unique| {
                let body = reply::body(bytes, unique)?;
                let ends = body.len() < MAX_IO;
                calls.pages.borrow_mut().fill(inode, ticket, start, body, ends);
                let wanted = body.get((offset - start) as usize..).unwrap_or_default();
                out.extend_from_slice(wanted);
                Ok(wanted.len())
            })
            .await?;
        self.next.set(offset + count as u64);
        Ok(count)
    }

    fn ask(&self, offset: u64) -> Ahead {
        let Remote { node, inode, handle, .. } = &*self.remote;
        let ticket = node.calls.pages.borrow().ticket(*inode);
        let ask = Operation::Read { handle: *handle, offset, size: MAX_IO as u32 };
        Ahead { offset, ticket, pending: node.calls.ask(node.id, &ask) }
    }

    /// Writes all of `bytes` at `offset`; the server may be told of it late.
    ///
    /// # Errors
    /// They cannot be written, or could not be before; how many were is unknown.
    pub async fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Failed> {
        let calls = &self.remote.node.calls;
        self.ahead.take();
        self.remote.heard()?;
        if bytes.is_empty() {
            return Ok(());
        }
        if calls.write_late(&self.remote, offset, bytes) {
            return Ok(());
        }
        self.remote.catch_up().await?;
        match calls.write_late(&self.remote, offset, bytes) {
            true => Ok(()),
            false => self.remote.put(offset, bytes).await,
        }
    }

    /// Has the server told of all that was written so far.
    ///
    /// # Errors
    /// It could not be written.
    pub async fn flush(&self) -> Result<(), Failed> {
        self.remote.catch_up().await
    }

    /// The file's length now, bytes.
    ///
    /// # Errors
    /// The server does not say, or what was written before could not be.
    pub async fn size(&self) -> Result<u64, Failed> {
        let Remote { node, handle, .. } = &*self.remote;
        self.remote.heard()?;
        if let Some(size) = node.calls.late_size(node.id) {
            return Ok(size);
        }
        self.remote.catch_up().await?;
        Ok(node.attr_now(Some(*handle)).await?.size)
    }

    /// Cuts the file to nothing.
    pub(super) async fn empty(&self) -> Result<(), Failed> {
        let Remote { node, inode, handle, .. } = &*self.remote;
        self.remote.catch_up().await?;
        let cut = SetAttr { handle: Some(*handle), size: Some(0), ..SetAttr::default() };
        node.calls.pages.borrow_mut().resized(*inode);
        let outcome = node.calls.call(node.id, &Operation::SetAttr(cut), reply::attr).await;
        node.calls.pages.borrow_mut().resized(*inode);
        node.changed();
        outcome.map(drop)
    }

    /// Closes the file.
    ///
    /// # Errors
    /// What was written could not be kept.
    pub async fn close(self) -> Result<(), Failed> {
        let Remote { node, handle, open, .. } = &*self.remote;
        let written = self.remote.catch_up().await;
        let flushed = match self.flags & Opened::NO_FLUSH {
            0 => node.calls.call(node.id, &Operation::Flush { handle: *handle }, reply::done).await,
            // The server keeps nothing back.
            _ => Ok(()),
        };
        open.set(false);
        node.calls.call(node.id, &Operation::Release { handle: *handle }, reply::done).await?;
        written?;
        match flushed {
            // A server without FLUSH has nothing to say there.
            Err(Failed::Errno(Errno::ENOSYS)) => Ok(()),
            other => other,
        }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let Remote { node, inode, .. } = &*self.remote;
        node.calls.pages.borrow_mut().closed(*inode);
        // It stays open until that is written.
        node.calls.send_late(node.id);
    }
}
