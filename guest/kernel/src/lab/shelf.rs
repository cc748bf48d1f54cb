//! A file space on disk behind virtio-fs, which says what it was asked.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use fuse::session::capability::WRITEBACK_CACHE;
use fuse::{Errno, Operation, Request, reply};

use crate::hardware::{Queues, Requests};

/// The directories `lower`, `upper`, `work` and `shared` below `root`, and the server over them.
pub(crate) struct Shelf {
    space: cowfs::FileSpace,
    replies: VecDeque<(u16, Vec<u8>)>,
    next: u16,
    asked: Vec<String>,
    /// Bytes of the longest WRITE.
    pub(crate) longest: usize,
    /// It says that it takes late writes, whatever it knows better.
    insists: bool,
    /// What every WRITE is refused with.
    pub(crate) full: Option<Errno>,
    /// Whether replies wait.
    pub(crate) held: bool,
    pub(crate) root: tempfile::TempDir,
}

impl Shelf {
    /// Over a live parent, of whose changes the guest is not told.
    pub(crate) fn new() -> Shelf {
        Shelf::over(cowfs::LowerLayer::Live, false)
    }

    /// Over what nobody changes any more.
    pub(crate) fn sealed() -> Shelf {
        Shelf::over(|files| cowfs::LowerLayer::Sealed { files, index: None, own: false }, false)
    }

    /// The same with `shared`, which the parent writes too; late writes are taken nevertheless.
    pub(crate) fn shared() -> Shelf {
        Shelf::over(|files| cowfs::LowerLayer::Sealed { files, index: None, own: false }, true)
    }

    fn over(lower: impl Fn(std::path::PathBuf) -> cowfs::LowerLayer, is_shared: bool) -> Shelf {
        let root = tempfile::tempdir().unwrap();
        let [files, upper, work] = ["lower", "upper", "work"].map(|name| root.path().join(name));
        for directory in [&files, &upper, &work] {
            std::fs::create_dir(directory).unwrap();
        }
        let shared = root.path().join("shared");
        std::fs::create_dir(&shared).unwrap();
        std::fs::create_dir(files.join("sub")).unwrap();
        std::fs::write(files.join("hello"), "hello, space\n").unwrap();
        std::fs::write(files.join("sub/big"), [b'x'; 200_000]).unwrap();
        std::os::unix::fs::symlink("sub/../hello", files.join("link")).unwrap();
        std::os::unix::fs::symlink("loop", files.join("loop")).unwrap();
        let mut config = cowfs::Config::new(vec![lower(files)], upper, work);
        if is_shared {
            config.bindings.push(cowfs::Binding { at: "shared".into(), from: shared, write: true });
        }
        Shelf {
            space: cowfs::FileSpace::open(config).unwrap(),
            replies: VecDeque::new(),
            next: 0,
            asked: Vec::new(),
            longest: 0,
            insists: is_shared,
            full: None,
            held: false,
            root,
        }
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
        if let Operation::Write { data, .. } = request.operation {
            self.longest = self.longest.max(data.len());
        }
        match (request.operation, self.full) {
            (Operation::Write { .. }, Some(errno)) => {
                reply::fail(out, request.header.unique, errno)
            }
            _ => self.space.handle(bytes, crate::files::MAX_REPLY, out),
        }
        if let (Operation::Init(_), true) = (request.operation, self.insists) {
            // fuse_init_out: flags follow the header and three other words.
            let flags = out[28..].first_chunk_mut::<4>().unwrap();
            *flags = (u32::from_ne_bytes(*flags) | WRITEBACK_CACHE as u32).to_ne_bytes();
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
