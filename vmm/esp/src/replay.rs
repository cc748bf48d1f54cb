//! The anti-replay window (RFC 4303 3.4.3, ring of words after RFC 6479).

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
    size: u64,
    /// A ring: the bit of `seq` is `seq % 64` of word `seq / 64 % words`. It is
    /// a power of two and at least one word more than the window, so a word is
    /// cleared before its bits are used again.
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
        let size = u64::from(size.packets());
        let words = (size.div_ceil(WORD) + 1).next_power_of_two();
        ReplayWindow { top: 0, size, words: vec![0; words as usize].into() }
    }

    /// The highest sequence number accepted, 0 before the first.
    pub fn top(&self) -> u64 {
        self.top
    }

    /// Checks that `seq` was not accepted before and is not too old to know.
    ///
    /// # Errors
    /// [`Discard::Replayed`]; also for 0, which no sender uses (RFC 4303 3.3.3).
    pub fn check(&mut self, seq: u64) -> Result<Fresh<'_>, Discard> {
        let seen = if seq > self.top {
            false
        } else if seq == 0 || self.top - seq >= self.size {
            true
        } else {
            self.words[self.word(seq)] & bit(seq) != 0
        };
        if seen { Err(Discard::Replayed) } else { Ok(Fresh { window: self, seq }) }
    }

    fn accept(&mut self, seq: u64) {
        if seq > self.top {
            // Every word the window enters is cleared, at most all of them once.
            let entered = (seq / WORD - self.top / WORD).min(self.words.len() as u64);
            for back in 0..entered {
                let word = self.word(seq - back * WORD);
                self.words[word] = 0;
            }
            self.top = seq;
        }
        let word = self.word(seq);
        self.words[word] |= bit(seq);
    }

    fn word(&self, seq: u64) -> usize {
        (seq / WORD) as usize & (self.words.len() - 1)
    }
}

fn bit(seq: u64) -> u64 {
    1 << (seq % WORD)
}

impl Fresh<'_> {
    /// Marks the number as seen; call it when the packet is authentic, not before.
    pub fn accept(self) {
        self.window.accept(self.seq);
    }

    /// The sequence number.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

#[cfg(test)]
mod tests;
