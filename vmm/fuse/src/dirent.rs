//! Directory listings: `struct fuse_dirent` and `struct fuse_direntplus`.

use crate::bytes::{Fields, Put};
use crate::{Entry, Name};
use alloc::vec::Vec;

/// Bytes of `struct fuse_dirent` before the name.
const FIXED: usize = 24;

/// One name of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirent<'a> {
    /// Inode number as programs see it.
    pub inode: u64,
    /// Where to go on after this name: the offset for the next request.
    pub next_offset: u64,
    /// `DT_*`: the file's type bits, shifted down by 12.
    pub kind: u8,
    /// The name; `.` and `..` may be there, anything else is a [`Name`].
    pub name: &'a [u8],
}

impl<'a> Dirent<'a> {
    /// `DT_UNKNOWN`.
    pub const UNKNOWN: u8 = 0;
    /// `DT_FIFO`.
    pub const FIFO: u8 = 1;
    /// `DT_CHR`.
    pub const CHARACTER: u8 = 2;
    /// `DT_DIR`.
    pub const DIRECTORY: u8 = 4;
    /// `DT_BLK`.
    pub const BLOCK: u8 = 6;
    /// `DT_REG`.
    pub const REGULAR: u8 = 8;
    /// `DT_LNK`.
    pub const SYMLINK: u8 = 10;
    /// `DT_SOCK`.
    pub const SOCKET: u8 = 12;

    fn put(&self, out: &mut Vec<u8>) {
        out.put_u64(self.inode);
        out.put_u64(self.next_offset);
        out.put_u32(self.name.len() as u32);
        out.put_u32(self.kind.into());
        out.extend_from_slice(self.name);
        out.put_zeros(padding(self.name.len()));
    }

    fn take(fields: &mut Fields<'a>) -> Option<Dirent<'a>> {
        let (inode, next_offset) = (fields.u64()?, fields.u64()?);
        let length = fields.u32()? as usize;
        let kind = u8::try_from(fields.u32()?).ok()?;
        let name = fields.bytes(length)?;
        fields.bytes(padding(length))?;
        if !matches!(name, b"." | b"..") {
            Name::new(name).ok()?;
        }
        Some(Dirent { inode, next_offset, kind, name })
    }
}

fn padding(length: usize) -> usize {
    length.wrapping_neg() % 8
}

/// Fills the body of a READDIR or READDIRPLUS reply up to a limit.
pub struct ListingWriter<'a> {
    out: &'a mut Vec<u8>,
    end: usize,
}

impl<'a> ListingWriter<'a> {
    /// Appends to `out`, at most `limit` bytes.
    pub fn new(out: &'a mut Vec<u8>, limit: usize) -> ListingWriter<'a> {
        let end = out.len().saturating_add(limit);
        ListingWriter { out, end }
    }

    /// Whether a name of `length` bytes still fits, with an [`Entry`] (READDIRPLUS) or without.
    pub fn fits(&self, length: usize, plus: bool) -> bool {
        let fixed = if plus { Entry::SIZE + FIXED } else { FIXED };
        self.end - self.out.len() >= fixed + length + padding(length)
    }

    /// Appends a name; `false` and nothing appended if it does not fit.
    #[must_use]
    pub fn push(&mut self, dirent: &Dirent<'_>) -> bool {
        let fits = self.fits(dirent.name.len(), false);
        if fits {
            dirent.put(self.out);
        }
        fits
    }

    /// Appends a name with its entry; `false` and nothing appended if it does not fit.
    ///
    /// `None` (for `.`, `..` and files that vanished) gives no file to the client: node 0.
    #[must_use]
    pub fn push_plus(&mut self, entry: Option<&Entry>, dirent: &Dirent<'_>) -> bool {
        let fits = self.fits(dirent.name.len(), true);
        if fits {
            match entry {
                Some(entry) => entry.put(self.out),
                None => self.out.put_zeros(Entry::SIZE),
            }
            dirent.put(self.out);
        }
        fits
    }
}

/// The names in the body of a READDIR reply; ends early at the first malformed one.
pub fn listing(body: &[u8]) -> impl Iterator<Item = Dirent<'_>> {
    let mut fields = Fields(body);
    core::iter::from_fn(move || Dirent::take(&mut fields))
}

/// The names and entries in the body of a READDIRPLUS reply; ends early at the first malformed.
///
/// Every `Some` entry is owed a forgetting.
pub fn listing_plus(body: &[u8]) -> impl Iterator<Item = (Option<Entry>, Dirent<'_>)> {
    let mut fields = Fields(body);
    core::iter::from_fn(move || {
        let entry = Entry::take(&mut fields)?;
        let dirent = Dirent::take(&mut fields)?;
        Some(((entry.node.0 != 0).then_some(entry), dirent))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_survives_its_encoding_and_stops_at_its_limit() {
        let mut out = Vec::new();
        let dirent = |name| Dirent { inode: 7, next_offset: 3, kind: Dirent::REGULAR, name };
        let mut writer = ListingWriter::new(&mut out, 64);
        assert!(writer.push(&dirent(b"12345678")));
        assert!(writer.push(&dirent(b"x")));
        assert!(!writer.push(&dirent(b"y")));
        assert_eq!(out.len(), 64);
        let names: Vec<_> = listing(&out).collect();
        assert_eq!(names, [dirent(b"12345678"), dirent(b"x")]);
    }

    #[test]
    fn a_listing_with_a_path_for_a_name_ends_there() {
        let mut out = Vec::new();
        let dirent = |name| Dirent { inode: 7, next_offset: 3, kind: Dirent::REGULAR, name };
        let mut writer = ListingWriter::new(&mut out, 4096);
        assert!(writer.push(&dirent(b"..")) && writer.push(&dirent(b"../x")));
        assert_eq!(listing(&out).count(), 1);
    }
}
