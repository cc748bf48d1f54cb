//! The page cache: bytes of files as they were read, in bounded memory.
//!
//! Pure: it asks nobody. A file is the inode number the server shows, which stays over lookups
//! as node numbers do not; whether its pages are still right is judged when it is opened.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use fuse::{Attr, Time};

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// Most bytes kept.
pub const LIMIT: usize = 2 << 20;

/// What a file's attributes say of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    size: u64,
    modified: Time,
    changed: Time,
}

impl From<&Attr> for Version {
    fn from(attr: &Attr) -> Version {
        Version { size: attr.size, modified: attr.modified, changed: attr.changed }
    }
}

/// The state of a file before its bytes were asked for: they are kept only if it is that still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "bytes without it cannot be kept"]
pub struct Ticket(u64);

/// Pages of files, the longest unused given up first.
#[derive(Debug)]
pub struct Pages {
    limit: usize,
    files: BTreeMap<u64, File>,
    /// Inode and index of each page, by the time of its last use.
    order: BTreeMap<u64, (u64, u64)>,
    clock: u64,
}

#[derive(Debug)]
struct File {
    version: Version,
    /// The server answers for the pages' being right while the file is open.
    steady: bool,
    opens: usize,
    /// Raised whenever bytes on their way may be old.
    epoch: u64,
    /// By index; one that is not whole is the file's last.
    pages: BTreeMap<u64, Page>,
}

#[derive(Debug)]
struct Page {
    bytes: Vec<u8>,
    used: u64,
}

impl Default for Pages {
    fn default() -> Pages {
        Pages::new(LIMIT)
    }
}

impl Pages {
    /// Keeps at most `limit` bytes, in whole pages.
    pub fn new(limit: usize) -> Pages {
        let limit = limit / PAGE;
        Pages { limit, files: BTreeMap::new(), order: BTreeMap::new(), clock: 0 }
    }

    /// Pages kept.
    pub fn count(&self) -> usize {
        self.order.len()
    }

    /// A file was opened whose attributes, just asked for, say `version`. What is kept of it
    /// stays if it is the same version; `keep`: the server answers for its being right while the
    /// file is open (FOPEN_KEEP_CACHE). Each call is owed a [`Pages::closed`].
    pub fn opened(&mut self, inode: u64, version: Version, keep: bool) {
        let fresh = || File { version, steady: keep, opens: 0, epoch: 0, pages: BTreeMap::new() };
        let file = self.files.entry(inode).or_insert_with(fresh);
        file.opens += 1;
        file.steady = keep;
        let same = file.version == version;
        file.version = version;
        if !same {
            file.epoch += 1;
            self.drop_pages(inode, 0, u64::MAX);
        }
    }

    /// The file was closed once.
    pub fn closed(&mut self, inode: u64) {
        let Some(file) = self.files.get_mut(&inode) else { return };
        file.opens = file.opens.saturating_sub(1);
        self.clean_up(inode);
    }

    /// To be taken before bytes of an open file are asked for.
    pub fn ticket(&self, inode: u64) -> Ticket {
        Ticket(self.files.get(&inode).map_or(u64::MAX, |file| file.epoch))
    }

    /// Appends bytes from `offset` on to `out`, at most `most`, and says how many; 0 at the end.
    /// `None`: the server has to be asked.
    pub fn read(
        &mut self,
        inode: u64,
        offset: u64,
        most: usize,
        out: &mut Vec<u8>,
    ) -> Option<usize> {
        let file = self.files.get_mut(&inode)?;
        let mut done = 0;
        while done < most {
            let at = offset + done as u64;
            let Some(page) = file.pages.get_mut(&(at / PAGE as u64)) else { break };
            self.clock += 1;
            let index = at / PAGE as u64;
            self.order.remove(&page.used);
            self.order.insert(self.clock, (inode, index));
            page.used = self.clock;
            let rest = page.bytes.get(at as usize % PAGE..).unwrap_or_default();
            let part = rest.len().min(most - done);
            if part == 0 {
                // The end, if nobody but us moves it.
                return (done > 0 || file.steady).then_some(done);
            }
            out.extend_from_slice(&rest[..part]);
            done += part;
        }
        (done > 0).then_some(done)
    }

    /// Whether there is a page with the byte at `offset`.
    pub fn has(&self, inode: u64, offset: u64) -> bool {
        self.files.get(&inode).is_some_and(|file| file.pages.contains_key(&(offset / PAGE as u64)))
    }

    /// Keeps what the server said is at `offset`, a multiple of [`PAGE`], asked for with `ticket`;
    /// `ends`: it was asked for more. Nothing is kept if the file changed meanwhile.
    pub fn fill(&mut self, inode: u64, ticket: Ticket, offset: u64, bytes: &[u8], ends: bool) {
        let Some(file) = self.files.get_mut(&inode).filter(|file| file.epoch == ticket.0) else {
            return;
        };
        let first = offset / PAGE as u64;
        // At the end of whole pages an empty one says that nothing follows.
        let end = (ends && bytes.len().is_multiple_of(PAGE)).then_some(&bytes[..0]);
        for (index, part) in (first..).zip(bytes.chunks(PAGE).chain(end)) {
            if part.len() < PAGE && !ends {
                break;
            }
            self.clock += 1;
            let page = Page { bytes: part.to_vec(), used: self.clock };
            self.order.insert(self.clock, (inode, index));
            if let Some(old) = file.pages.insert(index, page) {
                self.order.remove(&old.used);
            }
        }
        self.shrink();
    }

    /// Bytes are being written, or were: to be said before and after. What is on its way from
    /// the server may be older or newer, so it is not kept.
    pub fn written(&mut self, inode: u64, offset: u64, length: u64) {
        let Some(file) = self.files.get_mut(&inode) else { return };
        file.epoch += 1;
        let first = offset / PAGE as u64;
        let beyond = offset.saturating_add(length).div_ceil(PAGE as u64);
        // A last page is the last no more if the file grows behind it.
        let short = file.pages.range(..first).filter(|(_, page)| page.bytes.len() < PAGE);
        let short: Vec<u64> = short.map(|(index, _)| *index).collect();
        self.drop_pages(inode, first, beyond);
        for index in short {
            self.drop_pages(inode, index, index + 1);
        }
    }

    /// The file is being cut or made longer, or was: to be said before and after.
    pub fn resized(&mut self, inode: u64) {
        let Some(file) = self.files.get_mut(&inode) else { return };
        file.epoch += 1;
        self.drop_pages(inode, 0, u64::MAX);
    }

    /// Drops pages `from` to before `to`.
    fn drop_pages(&mut self, inode: u64, from: u64, to: u64) {
        let Some(file) = self.files.get_mut(&inode) else { return };
        let mut dropped = file.pages.split_off(&from);
        file.pages.append(&mut dropped.split_off(&to));
        for page in dropped.values() {
            self.order.remove(&page.used);
        }
        self.clean_up(inode);
    }

    fn shrink(&mut self) {
        while self.order.len() > self.limit {
            let Some((_, (inode, index))) = self.order.pop_first() else { return };
            if let Some(file) = self.files.get_mut(&inode) {
                file.pages.remove(&index);
            }
            self.clean_up(inode);
        }
    }

    /// Nothing is kept of a file that is not open and has no pages.
    fn clean_up(&mut self, inode: u64) {
        let unused = |file: &File| file.opens == 0 && file.pages.is_empty();
        if self.files.get(&inode).is_some_and(unused) {
            self.files.remove(&inode);
        }
    }
}

#[cfg(test)]
mod tests;
