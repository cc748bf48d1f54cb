//! An open file: read through the page cache, and ahead of whoever reads it in order.

use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use fuse::request::SetAttr;
use fuse::{Attr, Errno, Handle, Opened, Operation, reply};

use super::cache::{PAGE, Ticket, Version};
use super::calls::Pending;
use super::walk::Node;
use super::{Failed, MAX_IO};

/// An open file; dropping it closes it without hearing of errors.
pub struct OpenFile {
    node: Node,
    inode: u64,
    /// Bytes of it when it was opened.
    size: u64,
    handle: Handle,
    open: bool,
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
            node,
            inode: attr.inode,
            size: attr.size,
            handle: opened.handle,
            open: true,
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
        let (calls, inode) = (&self.node.calls, self.inode);
        let cached = calls.pages.borrow_mut().read(inode, offset, MAX_IO, out);
        if let Some(count) = cached {
            self.next.set(offset + count as u64);
            return Ok(count);
        }
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
        let ticket = self.node.calls.pages.borrow().ticket(self.inode);
        let ask = Operation::Read { handle: self.handle, offset, size: MAX_IO as u32 };
        Ahead { offset, ticket, pending: self.node.calls.ask(self.node.id, &ask) }
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// They cannot be written; how many were is unknown.
    pub async fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Failed> {
        let (inode, length) = (self.inode, bytes.len() as u64);
        let pages = &self.node.calls.pages;
        self.ahead.take();
        pages.borrow_mut().written(inode, offset, length);
        let outcome = self.put(offset, bytes).await;
        pages.borrow_mut().written(inode, offset, length);
        self.node.changed();
        outcome
    }

    async fn put(&self, mut offset: u64, mut bytes: &[u8]) -> Result<(), Failed> {
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

    /// The file's length now, bytes.
    ///
    /// # Errors
    /// The server does not say.
    pub async fn size(&self) -> Result<u64, Failed> {
        let ask = Operation::GetAttr { handle: Some(self.handle) };
        Ok(self.node.calls.call(self.node.id, &ask, reply::attr).await?.attr.size)
    }

    /// Cuts the file to nothing.
    pub(super) async fn empty(&self) -> Result<(), Failed> {
        let (calls, inode) = (&self.node.calls, self.inode);
        let cut = SetAttr { handle: Some(self.handle), size: Some(0), ..SetAttr::default() };
        calls.pages.borrow_mut().resized(inode);
        let outcome = calls.call(self.node.id, &Operation::SetAttr(cut), reply::attr).await;
        calls.pages.borrow_mut().resized(inode);
        self.node.changed();
        outcome.map(drop)
    }

    /// Closes the file.
    ///
    /// # Errors
    /// What was written could not be kept.
    pub async fn close(mut self) -> Result<(), Failed> {
        let calls = &self.node.calls;
        let flushed = match self.flags & Opened::NO_FLUSH {
            0 => {
                let ask = Operation::Flush { handle: self.handle };
                calls.call(self.node.id, &ask, reply::done).await
            }
            // Nothing is written late here.
            _ => Ok(()),
        };
        self.open = false;
        let ask = Operation::Release { handle: self.handle };
        calls.call(self.node.id, &ask, reply::done).await?;
        match flushed {
            // A server without FLUSH has nothing to say there.
            Err(Failed::Errno(Errno::ENOSYS)) => Ok(()),
            other => other,
        }
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.node.calls.pages.borrow_mut().closed(self.inode);
        if self.open {
            self.node.calls.tell(self.node.id, &Operation::Release { handle: self.handle });
        }
    }
}
