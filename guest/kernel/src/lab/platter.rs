//! A virtio-blk in memory that judges what a driver asks.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use crate::disk::{MAX_REPLY, MAX_REQUEST, SECTOR, Shape, UNANSWERED};
use crate::hardware::{Blocks, Queues};

const SIZE: usize = 1 << 20;

/// The disk: its bytes, what it can do, and what it was asked.
pub(crate) struct Platter {
    pub(crate) bytes: Vec<u8>,
    features: u32,
    /// Types of the requests so far.
    pub(crate) asked: Vec<u8>,
    /// The next request ends with this status, unless it is zero.
    pub(crate) fails: u8,
    replies: VecDeque<(u16, Vec<u8>)>,
    next: u16,
}

impl Platter {
    pub(crate) fn new(features: u32) -> Platter {
        let bytes = (0..SIZE).map(|at| (at / 512) as u8).collect();
        Platter { bytes, features, asked: vec![], fails: 0, replies: VecDeque::new(), next: 0 }
    }

    pub(crate) fn shape(&self) -> Shape {
        let features = self.features;
        Shape { size: SIZE as u64, features, most_discarded: 100, most_zeroed: 64 }
    }

    fn answer(&mut self, request: &[u8], reply: &mut [u8]) -> u8 {
        let word = |at: usize| u32::from_le_bytes(request[at..at + 4].try_into().unwrap());
        let double = |at: usize| u64::from_le_bytes(request[at..at + 8].try_into().unwrap());
        let at = (double(8) * SECTOR) as usize;
        let data = &request[16..];
        self.asked.push(request[0]);
        match word(0) {
            0 => reply.copy_from_slice(&self.bytes[at..at + reply.len()]),
            1 => self.bytes[at..at + data.len()].copy_from_slice(data),
            4 => {}
            kind @ (11 | 13) => {
                let most = if kind == 11 { 100 } else { 64 };
                assert!(data.len() == 16 && word(24) <= most && word(28) == 0);
                let at = (double(16) * SECTOR) as usize;
                self.bytes[at..at + word(24) as usize * 512].fill(0);
            }
            _ => return 2,
        }
        0
    }
}

impl Queues for Platter {
    fn pending(&self) -> bool {
        !self.replies.is_empty()
    }

    fn arm(&mut self) -> bool {
        self.pending()
    }

    fn kick(&mut self) -> u32 {
        0
    }
}

impl Blocks for Platter {
    fn submit(&mut self, request: &[u8], reply: usize) -> Option<u16> {
        assert!(request.len() <= MAX_REQUEST && (1..=MAX_REPLY).contains(&reply));
        if self.replies.len() == 2 {
            return None;
        }
        let mut bytes = vec![UNANSWERED; reply];
        bytes[reply - 1] = match core::mem::take(&mut self.fails) {
            0 => self.answer(request, &mut bytes[..reply - 1]),
            status => status,
        };
        self.next += 1;
        self.replies.push_back((self.next, bytes));
        Some(self.next)
    }

    fn complete(&mut self, read: &mut dyn FnMut(u16, &[u8])) -> bool {
        let Some((number, reply)) = self.replies.pop_front() else { return false };
        read(number, &reply);
        true
    }
}
