//! A lower file against a copy of it, both changed in the same way.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

use cli::lab::Lab;

use crate::mounted::Mounted;

const LENGTH: usize = 1 << 20;
const CHANGES: usize = 20_000;

/// Numbers without order, the same in every run (xorshift64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

pub(super) fn lower_file(lab: &Lab) {
    let mut random = Random(0x1234_5678_9abc_def1);
    let original: Vec<u8> = (0..LENGTH).map(|_| random.below(256) as u8).collect();
    let mut mounted = Mounted::new(lab, |lower| fs::write(lower.join("file"), &original).unwrap());
    let path = mounted.root.join("file");
    let mut copy = original;
    // Open since before the first write: it must see every later one.
    let reader = File::open(&path).unwrap();
    let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
    for change in 0..CHANGES {
        let at = random.below(LENGTH);
        let length = 1 + random.below(9000);
        match random.below(40) {
            0 => {
                copy.resize(at, 0);
                writer.set_len(at as u64).unwrap();
            }
            1 => {
                copy.resize(LENGTH, 0);
                writer.set_len(LENGTH as u64).unwrap();
            }
            2 => {
                drop(writer);
                writer = OpenOptions::new().write(true).open(&path).unwrap();
            }
            3..20 => {
                let bytes = vec![change as u8; length];
                copy.resize(copy.len().max(at + length), 0);
                copy[at..at + length].copy_from_slice(&bytes);
                writer.write_all_at(&bytes, at as u64).unwrap();
            }
            _ => {
                let mut bytes = vec![0; length];
                let read = reader.read_at(&mut bytes, at as u64).unwrap();
                let end = (at + length).min(copy.len());
                let expected = copy.get(at..end).unwrap_or_default();
                assert!(bytes[..read] == *expected, "change {change}: {length} bytes at {at}");
            }
        }
        assert_eq!(reader.metadata().unwrap().len(), copy.len() as u64, "change {change}");
    }
    drop((reader, writer));
    assert!(fs::read(&path).unwrap() == copy, "in the end");
    mounted.must_last();
    mounted.end();
}
