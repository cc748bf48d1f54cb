use super::*;
use crate::{Attr, Entry, Opened, StatFs, reply, session};
use alloc::vec::Vec;

fn every_operation() -> Vec<Operation<'static>> {
    let name = Name::new(b"name").unwrap();
    let new_name = Name::new(b"\xff\xfe").unwrap();
    let target = Target::new(b"../target").unwrap();
    let handle = Handle(9);
    let read = ReadDir { handle, offset: 1 << 40, size: 4096 };
    let at = SetTime::At(Time { seconds: -5, nanoseconds: 999_999_999 });
    alloc::vec![
        Operation::Init(InitIn { major: 7, minor: 38, max_readahead: 1, flags: 1 << 40 | 3 }),
        Operation::Destroy,
        Operation::Lookup { name },
        Operation::Forget { lookups: 3 },
        Operation::GetAttr { handle: None },
        Operation::GetAttr { handle: Some(handle) },
        Operation::SetAttr(SetAttr::default()),
        Operation::SetAttr(SetAttr {
            handle: Some(handle),
            size: Some(1 << 33),
            mode: Some(0o644),
            uid: Some(1),
            gid: Some(2),
            accessed: Some(SetTime::Now),
            modified: Some(at),
        }),
        Operation::ReadLink,
        Operation::Symlink { name, target },
        Operation::MkDir { name, mode: 0o755, umask: 0o22 },
        Operation::Unlink { name },
        Operation::RmDir { name },
        Operation::Rename { name, new_directory: NodeId(4), new_name, flags: 0 },
        Operation::Rename { name, new_directory: NodeId(4), new_name, flags: 1 },
        Operation::Link { target: NodeId(4), name },
        Operation::Open { flags: open_flags::READ_WRITE },
        Operation::Create { name, flags: 1, mode: 0o600, umask: 0o77 },
        Operation::Read { handle, offset: 1 << 40, size: 4096 },
        Operation::Write { handle, offset: 1 << 40, data: b"data" },
        Operation::Flush { handle },
        Operation::Release { handle },
        Operation::FSync { handle, data_only: true },
        Operation::OpenDir { flags: 0 },
        Operation::ReadDir(read),
        Operation::ReadDirPlus(read),
        Operation::ReleaseDir { handle },
        Operation::FSyncDir { handle, data_only: false },
        Operation::StatFs,
        Operation::Access { mask: 4 },
        Operation::LSeek { handle, offset: 7, whence: 3 },
        Operation::Other { opcode: 39 },
    ]
}

fn header() -> Header {
    Header { unique: 77, node: NodeId(5), uid: 1, gid: 2, pid: 3 }
}

#[test]
fn every_request_survives_its_encoding_and_no_prefix_of_it_does() {
    for operation in every_operation() {
        let request = Request { header: header(), operation };
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        assert_eq!(Request::parse(&bytes), Ok(request));
        for cut in 0..bytes.len() {
            assert_eq!(Request::parse(&bytes[..cut]), Err(Rejected::Silently));
        }
    }
}

#[test]
fn a_shortened_body_is_refused_with_an_errno_even_if_the_header_agrees() {
    let lenient = |operation: &Operation<'_>| {
        matches!(operation, Operation::Init(_) | Operation::Other { .. })
    };
    for operation in every_operation().into_iter().filter(|operation| !lenient(operation)) {
        let mut bytes = Vec::new();
        Request { header: header(), operation }.encode(&mut bytes);
        for cut in HEADER_SIZE..bytes.len() {
            let mut short = bytes[..cut].to_vec();
            short[..4].copy_from_slice(&(cut as u32).to_le_bytes());
            let expected = match operation {
                Operation::Forget { .. } => Rejected::Silently,
                _ => Rejected::With { unique: 77, errno: Errno::EINVAL },
            };
            assert_eq!(Request::parse(&short), Err(expected), "{operation:?} cut at {cut}");
        }
        bytes.push(1);
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        assert!(Request::parse(&bytes).is_err(), "{operation:?} with a byte more");
    }
}

#[test]
fn a_batch_of_forgettings_survives_its_encoding() {
    let forgets = [(NodeId(3), 1), (NodeId(u64::MAX), u64::MAX)];
    let mut bytes = Vec::new();
    encode_batch_forget(1, &forgets, &mut bytes);
    let Ok(Request { operation: Operation::BatchForget(list), .. }) = Request::parse(&bytes) else {
        panic!("a batch of forgettings is one");
    };
    assert_eq!(list.iter().collect::<Vec<_>>(), forgets);
    // A count that the bytes do not hold.
    bytes[HEADER_SIZE..HEADER_SIZE + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(Request::parse(&bytes), Err(Rejected::Silently));
}

#[test]
fn a_request_as_linux_sends_it_is_understood() {
    // LOOKUP of "a" in the root, from fuse.h by hand.
    let mut bytes = Vec::from([42, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend([1, 0, 0, 0, 0, 0, 0, 0, 0xe8, 3, 0, 0, 0xe8, 3, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(*b"a\0");
    let request = Request::parse(&bytes).unwrap();
    assert_eq!(request.header, Header { unique: 2, node: NodeId(1), uid: 1000, gid: 1000, pid: 9 });
    assert_eq!(request.operation, Operation::Lookup { name: Name::new(b"a").unwrap() });
}

#[test]
fn every_reply_survives_its_encoding() {
    let attr = Attr { inode: 1, size: 2, mode: 0o100_644, block_size: 4096, ..Attr::default() };
    let entry = Entry {
        node: NodeId(3),
        generation: 4,
        name_valid_ns: 1_500_000_000,
        attr_valid_ns: 1,
        attr,
    };
    let opened = Opened { handle: Handle(8), flags: Opened::KEEP_CACHE };
    let stat = StatFs { blocks: 1, name_length: 255, fragment_size: 4096, ..StatFs::default() };
    let with = |put: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        reply::start(&mut out, 7);
        put(&mut out);
        reply::finish(&mut out);
        out
    };
    let bytes = with(&|out| reply::put_entry(out, &entry));
    assert_eq!(bytes.len(), 16 + 128);
    assert_eq!(reply::entry(&bytes, 7), Ok(entry));
    assert_eq!(reply::entry(&bytes, 8), Err(reply::Refused::Malformed));
    assert_eq!(reply::entry(&bytes[..143], 7), Err(reply::Refused::Malformed));
    let bytes = with(&|out| {
        reply::put_entry(out, &entry);
        reply::put_opened(out, &opened);
    });
    assert_eq!(reply::created(&bytes, 7), Ok((entry, opened)));
    let bytes = with(&|out| reply::put_stat_fs(out, &stat));
    assert_eq!(bytes.len(), 16 + 80);
    assert_eq!(reply::stat_fs(&bytes, 7), Ok(stat));
    let bytes = with(&|out| reply::put_attr(out, &reply::AttrReply { valid_ns: 5, attr }));
    assert_eq!(bytes.len(), 16 + 104);
    assert_eq!(reply::attr(&bytes, 7), Ok(reply::AttrReply { valid_ns: 5, attr }));
    let init = InitIn { major: 7, minor: 38, max_readahead: 4096, flags: u64::MAX };
    let init = session::Session::new(1 << 16).init(&init).unwrap();
    let bytes = with(&|out| reply::put_init(out, &init));
    assert_eq!(bytes.len(), 16 + 64);
    assert_eq!(reply::init(&bytes, 7), Ok(init));
    let mut bytes = Vec::new();
    reply::fail(&mut bytes, 7, Errno::ENOENT);
    assert_eq!(bytes, [16, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(reply::done(&bytes, 7), Err(reply::Refused::Errno(Errno::ENOENT)));
}
