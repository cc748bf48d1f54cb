//! The guest's own messages, one line each, to virtio-console.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::RefCell;
use core::fmt::{self, Write};

use crate::hardware::Messages;

/// Longest line, bytes; the rest of a longer one is cut off.
pub const LINE: usize = 256;

/// Lines kept while the device takes none; the oldest make room for new ones.
const KEPT: usize = 64;

/// Where messages go; cheap to clone.
#[derive(Clone, Default)]
pub struct Console {
    lines: Rc<RefCell<VecDeque<String>>>,
}

impl Console {
    /// Says one line.
    pub fn say(&self, line: fmt::Arguments<'_>) {
        let mut text = String::new();
        // Writing to a string succeeds.
        let _ = write!(text, "{line}");
        text.truncate(text.floor_char_boundary(LINE - 1));
        text.push('\n');
        let mut lines = self.lines.borrow_mut();
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(text);
    }

    /// Gives waiting lines to the device; whether there were any it took.
    pub fn flush(&self, device: &mut impl Messages) -> bool {
        let mut lines = self.lines.borrow_mut();
        let before = lines.len();
        while lines.front().is_some_and(|line| device.send(line.as_bytes())) {
            lines.pop_front();
        }
        lines.len() < before
    }
}
