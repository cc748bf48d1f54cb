//! A file space on disk behind virtio-fs, which says what it was asked.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use fuse::{Errno, Operation, Request, reply};

use crate::hardware::{Queues, Requests};

/// The directories `lower`, `upper` and `work` below `root`, and the server over them.
pub(crate) struct Shelf {
    space: cowfs::FileSpace,
    replies: VecDeque<(u16, Vec<u8>)>,
    next: u16,
    asked: Vec<String>,
    /// What every WRITE is refused with.
    pub(crate) full: Option<Errno>,
    /// Whether replies wait.
    pub(crate) held: bool,
    pub(crate) root: tempfile::TempDir,
}

impl Shelf {
    /// Over a live parent, of whose changes the guest is not told.
    pub(crate) fn new() -> Shelf {
        Shelf::over(cowfs::LowerLayer::Live)
    }

    /// Over what nobody changes any more.
    pub(crate) fn sealed() -> Shelf {
        Shelf::over(|files| cowfs::LowerLayer::Sealed { files, index: None, own: false })
    }

    fn over(lower: impl Fn(std::path::PathBuf) -> cowfs::LowerLayer) -> Shelf {
        let root = tempfile::tempdir().unwrap();
        let [files, upper, work] = ["lower", "upper", "work"].map(|name| root.path().join(name));
        for directory in [&files, &upper, &work] {
            std::fs::create_dir(directory).unwrap();
        }
        std::fs::create_dir(files.join("sub")).unwrap();
        std::fs::write(files.join("hello"), "hello, space\n").unwrap();
        std::fs::write(files.join("sub/big"), [b'x'; 200_000]).unwrap();
        std::os::unix::fs::symlink("sub/../hello", files.join("link")).unwrap();
        std::os::unix::fs::symlink("loop", files.join("loop")).unwrap();
        let config = cowfs::Config::new(vec![lower(files)], upper, work);
        let space = cowfs::FileSpace::open(config).unwrap();
        let (replies, asked) = (VecDeque::new(), Vec::new());
        Shelf { space, replies, next: 0, asked, full: None, held: false, root }
    }

    /// Names of the requests since this was called last, one space between them.
    pub(crate) fn asked(&mut self) -> String {
        core::mem::take(&mut self.asked).join(" ")
    }

    fn serve(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let request = Request::parse(bytes).unwrap();
        let said = alloc::format!("{:?}", request.operation);
        let end = said.find(|c: char| !c.is_alphanumeric()).unwrap_or(said.len());
        self.asked.push(said[..end].into());
        match (request.operation, self.full) {
            (Operation::Write { .. }, Some(errno)) => {
                reply::fail(out, request.header.unique, errno)
            }
            _ => self.space.handle(bytes, crate::files::MAX_REPLY, out),
        }
    }
}

impl Queues for Shelf {
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

impl Requests for Shelf {
    fn submit(&mut self, request: &[u8]) -> Option<u16> {
        // Few at a time, so that the rest has to wait.
        if self.replies.len() == 2 {
            return None;
        }
        let mut reply = Vec::new();
        self.serve(request, &mut reply);
        self.next += 1;
        self.replies.push_back((self.next, reply));
        Some(self.next)
    }

    fn complete(&mut self, read: &mut dyn FnMut(u16, &[u8])) -> bool {
        if self.held {
            return false;
        }
        let Some((number, reply)) = self.replies.pop_front() else { return false };
        read(number, &reply);
        true
    }
}
