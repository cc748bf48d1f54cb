//! What bytes are kept in: a file of the host, or one of the tests that fails on demand.

use std::io;

/// Bytes by offset, of a length that stays.
pub trait Store {
    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] beyond the end, and what the medium refuses.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` from `offset` on; after an error any part of them may be there.
    ///
    /// # Errors
    /// What the medium refuses.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Gives the space of a range back, which reads as zeros then; after an error any part may.
    ///
    /// # Errors
    /// What the medium refuses; some cannot do it at all.
    fn release(&mut self, offset: u64, length: u64) -> io::Result<()>;

    /// All that was written and released before survives a power cut after this.
    ///
    /// # Errors
    /// It does not, and trying again does not help: the kernel reports a loss once
    /// and forgets it.
    fn sync(&mut self) -> io::Result<()>;

    /// The first offset from `offset` on that may hold something else than zeros.
    ///
    /// # Errors
    /// What the medium refuses.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>>;

    /// Bytes in all.
    ///
    /// # Errors
    /// What the medium refuses.
    fn length(&self) -> io::Result<u64>;
}
