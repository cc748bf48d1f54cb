//! The anti-replay window (RFC 4303 3.4.3, a ring of bits as in RFC 6479).

use crate::Discard;

const WORD: u64 = u64::BITS as u64;

/// How many packets may overtake one another: 64 to 4096, 1024 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSize(u16);

/// A window of this many packets is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a replay window of {0} packets is not possible: choose 64 to 4096")]
pub struct WindowSizeError(pub u16);

impl WindowSize {
    /// A window of this many packets.
    ///
    /// # Errors
    /// [`WindowSizeError`] outside 64 to 4096.
    pub const fn new(packets: u16) -> Result<WindowSize, WindowSizeError> {
        if packets < 64 || packets > 4096 {
            return Err(WindowSizeError(packets));
        }
        Ok(WindowSize(packets))
    }

    /// The window, in packets.
    pub const fn packets(self) -> u16 {
        self.0
    }
}

impl Default for WindowSize {
    fn default() -> Self {
        WindowSize(1024)
    }
}

/// Which of the newest sequence numbers were accepted.
#[derive(Debug)]
pub struct ReplayWindow {
    /// The highest number accepted, 0 before the first.
    top: u64,
    size: WindowSize,
    /// A ring of bits, their number a power of two and at least the window: the
    /// bit of `seq` is `seq % 64` of word `seq / 64 % words`, for the numbers up
    /// to `top`. When a number comes to share a bit with an older one, the bit is
    /// cleared before.
    words: Box<[u64]>,
}

/// A sequence number that was never accepted, and the right to accept it.
///
/// The packet is authenticated between check and accept: a forged packet must
/// not move the window. `Fresh` borrows the window, so nothing else can either.
#[must_use = "a sequence number that is not accepted can be replayed"]
pub struct Fresh<'a> {
    window: &'a mut ReplayWindow,
    seq: u64,
}

impl ReplayWindow {
    /// A window that has seen nothing.
    pub fn new(size: WindowSize) -> ReplayWindow {
        let words = u64::from(size.packets()).div_ceil(WORD).next_power_of_two();
        ReplayWindow { top: 0, size, words: vec![0; words as usize].into() }
    }

    /// The highest sequence number accepted, 0 before the first.
    pub fn top(&self) -> u64 {
        self.top
    }

    /// How many numbers it covers.
    pub fn size(&self) -> WindowSize {
        self.size
    }

    /// How many of the numbers it covers were accepted.
    pub fn accepted(&self) -> u16 {
        let is_set = |seq: &u64| self.words[self.word(*seq)] & bit(*seq) != 0;
        (self.bottom().max(1)..=self.top).filter(is_set).count() as u16
    }

    /// The 64-bit number a packet has whose low half is `low`: the one that is
    /// not older than the window, and no more than 2^32 newer (RFC 4303 appendix
    /// A2.2). Only the packet's ICV can say whether it is right.
    ///
    /// # Errors
    /// [`Discard::Replayed`] where there is no such number, at the end of all numbers.
    #[inline]
    pub fn extend(&self, low: u32) -> Result<u64, Discard> {
        let bottom = self.bottom();
        let ahead = low.wrapping_sub(bottom as u32);
        bottom.checked_add(ahead.into()).ok_or(Discard::Replayed)
    }

    /// Checks that `seq` was not accepted before and is not too old to know.
    ///
    /// # Errors
    /// [`Discard::Replayed`]; also for 0, which no sender uses (RFC 4303 3.3.3).
    #[inline]
    pub fn check(&mut self, seq: u64) -> Result<Fresh<'_>, Discard> {
        let seen = if seq > self.top {
            false
        } else if seq == 0 || seq < self.bottom() {
            true
        } else {
            self.words[self.word(seq)] & bit(seq) != 0
        };
        if seen { Err(Discard::Replayed) } else { Ok(Fresh { window: self, seq }) }
    }

    fn accept(&mut self, seq: u64) -> bool {
        let is_newest = seq > self.top;
        if is_newest {
            self.clear(self.top, seq);
            self.top = seq;
        }
        let word = self.word(seq);
        self.words[word] |= bit(seq);
        is_newest
    }

    /// Clears the bits of the numbers between these two; all of them at most once.
    fn clear(&mut self, after: u64, before: u64) {
        let capacity = self.words.len() as u64 * WORD;
        let mut seq = (after + 1).max(before.saturating_sub(capacity));
        while seq < before {
            // As many as are left, or are left in the word.
            let len = (WORD - seq % WORD).min(before - seq);
            let word = self.word(seq);
            self.words[word] &= !(u64::MAX >> (WORD - len) << (seq % WORD));
            seq += len;
        }
    }

    /// The oldest number it covers; 0 as long as it covers all.
    fn bottom(&self) -> u64 {
        self.top.saturating_sub(u64::from(self.size.packets()) - 1)
    }

    fn word(&self, seq: u64) -> usize {
        (seq / WORD) as usize & (self.words.len() - 1)
    }
}

fn bit(seq: u64) -> u64 {
    1 << (seq % WORD)
}

impl Fresh<'_> {
    /// Marks the number as seen; call it when the packet is authentic, not
    /// before. Says whether it is the newest so far, the window's new top.
    #[inline]
    pub fn accept(self) -> bool {
        self.window.accept(self.seq)
    }

    /// The sequence number.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

#[cfg(test)]
mod tests;
