//! A program's standard input and output, between it and the frames of its run.
//!
//! The program and the pipes' other ends are polled by one task, which polls the
//! program again after it moved bytes: so no end has to wake the other.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt::{self, Write};
use core::future::poll_fn;
use core::task::Poll;

use abi::exec::{self, Kind, MAX_PAYLOAD};

/// Bytes of frames kept for the host before a program has to wait.
const LIMIT: usize = 32 * 1024;

/// What a program writes: frames, in the order written, of either kind.
#[derive(Clone, Default)]
pub struct Output {
    frames: Rc<RefCell<Vec<u8>>>,
}

impl Output {
    /// Frames not yet taken.
    pub fn take(&self) -> Vec<u8> {
        self.frames.take()
    }

    /// Whether there are frames to take.
    pub fn pending(&self) -> bool {
        !self.frames.borrow().is_empty()
    }

    /// The writer of one kind.
    pub fn writer(&self, kind: Kind) -> Writer {
        Writer { output: self.clone(), kind }
    }
}

/// One of a program's outputs.
#[derive(Clone)]
pub struct Writer {
    output: Output,
    kind: Kind,
}

impl Writer {
    /// Writes all of `bytes`; waits while the host does not take them.
    pub async fn write(&self, bytes: &[u8]) {
        for part in bytes.chunks(MAX_PAYLOAD) {
            poll_fn(|_| {
                let mut frames = self.output.frames.borrow_mut();
                if frames.len() > LIMIT {
                    return Poll::Pending;
                }
                exec::encode(self.kind, part, &mut frames);
                Poll::Ready(())
            })
            .await;
        }
    }

    /// Writes formatted text.
    pub async fn print(&self, text: fmt::Arguments<'_>) {
        let mut line = alloc::string::String::new();
        // Writing to a string succeeds.
        let _ = line.write_fmt(text);
        self.write(line.as_bytes()).await;
    }
}

/// What a program reads.
#[derive(Clone, Default)]
pub struct Input {
    shared: Rc<RefCell<InputState>>,
}

#[derive(Default)]
struct InputState {
    bytes: VecDeque<u8>,
    ended: bool,
}

impl Input {
    /// Adds bytes; an empty slice is the end.
    pub fn feed(&self, bytes: &[u8]) {
        let mut state = self.shared.borrow_mut();
        state.ended |= bytes.is_empty();
        state.bytes.extend(bytes);
    }

    /// Bytes not yet read.
    pub fn waiting(&self) -> usize {
        self.shared.borrow().bytes.len()
    }

    /// The next bytes; empty at the end.
    pub async fn read(&self) -> Vec<u8> {
        poll_fn(|_| {
            let mut state = self.shared.borrow_mut();
            if state.bytes.is_empty() && !state.ended {
                return Poll::Pending;
            }
            Poll::Ready(core::mem::take(&mut state.bytes).into())
        })
        .await
    }
}
