use super::flags::valid;
use super::*;
use crate::{Attr, Entry, Lock, Offer, Opened, Session, StatFs, reply};
use alloc::vec::Vec;

fn every_operation() -> Vec<Operation<'static>> {
    [about_names(), about_open_files(), about_sessions_and_attributes()].concat()
}

fn about_names() -> Vec<Operation<'static>> {
    let name = Name::new(b"name").unwrap();
    let new_name = Name::new(b"\xff\xfe").unwrap();
    let target = Target::new(b"../target").unwrap();
    alloc::vec![
        Operation::Lookup { name },
        Operation::Symlink { name, target },
        Operation::MkNod { name, mode: 0o020_600, device: 0x103, umask: 0o77 },
        Operation::MkDir { name, mode: 0o755, umask: 0o22 },
        Operation::Unlink { name },
        Operation::RmDir { name },
        Operation::Rename { name, new_directory: NodeId(4), new_name, flags: 0 },
        Operation::Rename { name, new_directory: NodeId(4), new_name, flags: 1 },
        Operation::Link { target: NodeId(4), name },
        Operation::Create { name, flags: 1, mode: 0o600, umask: 0o77, kill_set_id: false },
        Operation::Create { name, flags: 1, mode: 0o600, umask: 0o77, kill_set_id: true },
        Operation::TmpFile { flags: 2, mode: 0o100_600, umask: 0o77 },
    ]
}

fn about_open_files() -> Vec<Operation<'static>> {
    let handle = Handle(9);
    let read = ReadDir { handle, offset: 1 << 40, size: 4096 };
    let lock = Lock { start: 1, end: i64::MAX as u64, kind: Lock::EXCLUSIVE, pid: 6 };
    alloc::vec![
        Operation::Open { flags: open_flags::READ_WRITE, kill_set_id: false },
        Operation::Open { flags: open_flags::TRUNCATE, kill_set_id: true },
        Operation::Read { handle, offset: 1 << 40, size: 4096 },
        Operation::Write { handle, offset: 1 << 40, data: b"data", kill_set_id: false },
        Operation::Write { handle, offset: 1 << 40, data: b"data", kill_set_id: true },
        Operation::Flush { handle },
        Operation::Release { handle },
        Operation::FSync { handle, data_only: true },
        Operation::OpenDir { flags: 0 },
        Operation::ReadDir(read),
        Operation::ReadDirPlus(read),
        Operation::ReleaseDir { handle },
        Operation::FSyncDir { handle, data_only: false },
        Operation::LSeek { handle, offset: 7, whence: 3 },
        Operation::Fallocate { handle, offset: 1 << 40, length: 1 << 41, mode: 3 },
        Operation::CopyFileRange {
            from: handle,
            from_offset: 1 << 40,
            to_node: NodeId(4),
            to: Handle(10),
            to_offset: 1 << 41,
            length: 1 << 42,
        },
        Operation::GetLock { handle, owner: 1 << 63, lock },
        Operation::SetLock { handle, owner: 1 << 63, lock, wait: false },
        Operation::SetLock { handle, owner: 1 << 63, lock, wait: true },
    ]
}

fn about_sessions_and_attributes() -> Vec<Operation<'static>> {
    let handle = Handle(9);
    let time = Time { seconds: -5, nanoseconds: 999_999_999 };
    let name = XattrName::new(b"user.a/b").unwrap();
    alloc::vec![
        Operation::Init(InitIn { major: 7, minor: 40, max_readahead: 1, flags: 1 << 40 | 3 }),
        Operation::Destroy,
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
            modified: Some(SetTime::At(time)),
            changed: Some(time),
            kill_set_id: true,
        }),
        Operation::ReadLink,
        Operation::SetXattr { name, value: b"a\0b", flags: xattr_flags::REPLACE },
        Operation::SetXattr { name, value: b"", flags: xattr_flags::CREATE },
        Operation::GetXattr { name, size: 0 },
        Operation::ListXattr { size: 1 << 16 },
        Operation::RemoveXattr { name },
        Operation::Statx { handle: None, mask: 0x7ff },
        Operation::Statx { handle: Some(handle), mask: 0xfff },
        Operation::SyncFs,
        Operation::StatFs,
        Operation::Access { mask: 4 },
        Operation::Interrupt { unique: 1 << 62 },
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
                operation if !operation.has_reply() => Rejected::Silently,
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

fn with(put: &dyn Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    reply::start(&mut out, 7);
    put(&mut out);
    reply::finish(&mut out);
    out
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
    let opened = Opened { handle: Handle(8), flags: Opened::PASSTHROUGH, backing: -3 };
    let stat = StatFs { blocks: 1, name_length: 255, fragment_size: 4096, ..StatFs::default() };
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
    // `backing_id`, of fuse_open_out.
    assert_eq!(bytes[bytes.len() - 4..], (-3_i32).to_le_bytes());
    let bytes = with(&|out| reply::put_stat_fs(out, &stat));
    assert_eq!(bytes.len(), 16 + 80);
    assert_eq!(reply::stat_fs(&bytes, 7), Ok(stat));
    let bytes = with(&|out| reply::put_attr(out, &reply::AttrReply { valid_ns: 5, attr }));
    assert_eq!(bytes.len(), 16 + 104);
    assert_eq!(reply::attr(&bytes, 7), Ok(reply::AttrReply { valid_ns: 5, attr }));
    let init = InitIn { major: 7, minor: 40, max_readahead: 4096, flags: u64::MAX };
    let offer =
        Offer { max_write: 1 << 16, atomic_truncate: true, writeback: false, passthrough: true };
    let init = Session::new(offer).init(&init).unwrap();
    assert_eq!(init.max_stack_depth, 1);
    let bytes = with(&|out| reply::put_init(out, &init));
    assert_eq!(bytes.len(), 16 + 64);
    assert_eq!(reply::init(&bytes, 7), Ok(init));
    let mut bytes = Vec::new();
    reply::fail(&mut bytes, 7, Errno::ENOENT);
    assert_eq!(bytes, [16, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(reply::done(&bytes, 7), Err(reply::Refused::Errno(Errno::ENOENT)));
}

#[test]
fn the_replies_about_attributes_and_locks_survive_their_encoding() {
    let bytes = with(&|out| reply::put_xattr_size(out, 1 << 16));
    assert_eq!(bytes.len(), 16 + 8);
    assert_eq!(reply::xattr_size(&bytes, 7), Ok(1 << 16));
    let lock = Lock { start: 1, end: i64::MAX as u64, kind: Lock::NONE, pid: 6 };
    let bytes = with(&|out| reply::put_lock(out, &lock));
    assert_eq!(bytes.len(), 16 + Lock::SIZE);
    assert_eq!(reply::lock(&bytes, 7), Ok(lock));
}

fn statx_reply(born: Option<Time>) -> reply::StatxReply {
    let time = |seconds| Time { seconds, nanoseconds: 999_999_999 };
    let attr = Attr {
        inode: 1,
        size: 1 << 40,
        blocks: 3,
        accessed: time(-4),
        modified: time(5),
        changed: time(6),
        mode: 0o020_644,
        links: 7,
        uid: 8,
        gid: 9,
        device: 0x0010_0a02,
        block_size: 4096,
        flags: 0,
    };
    reply::StatxReply { valid_ns: 1_500_000_000, attr, born }
}

#[test]
fn a_statx_reply_survives_its_encoding() {
    for born in [None, Some(Time { seconds: -1, nanoseconds: 2 })] {
        let expected = statx_reply(born);
        let bytes = with(&|out| reply::put_statx(out, &expected));
        assert_eq!(reply::statx(&bytes, 7), Ok(expected));
    }
}

#[test]
fn a_statx_reply_has_its_fields_where_fuse_h_has_them() {
    let reply = statx_reply(Some(Time { seconds: 77, nanoseconds: 88 }));
    let bytes = with(&|out| reply::put_statx(out, &reply));
    assert_eq!(bytes.len(), 16 + 32 + 256);
    let (out, stat) = bytes[16..].split_at(32);
    let u16_at = |at: usize| u16::from_le_bytes(*stat[at..].first_chunk().unwrap());
    let u32_at = |at: usize| u32::from_le_bytes(*stat[at..].first_chunk().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(*stat[at..].first_chunk().unwrap());
    assert_eq!(out[..12], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0x65, 0xcd, 0x1d]);
    assert_eq!(out[12..], [0; 20]);
    assert_eq!((u32_at(0), u32_at(4), u64_at(8)), (0xfff, 4096, 0));
    assert_eq!((u32_at(16), u32_at(20), u32_at(24), u16_at(28)), (7, 8, 9, 0o020_644));
    assert_eq!((u64_at(32), u64_at(40), u64_at(48), u64_at(56)), (1, 1 << 40, 3, 0));
    // Last read, made, attributes changed, last written.
    let seconds = [64, 80, 96, 112].map(|at| u64_at(at) as i64);
    assert_eq!(seconds, [-4, 77, 6, 5]);
    assert_eq!((u32_at(72), u32_at(88)), (999_999_999, 88));
    assert_eq!([128, 132, 136, 140].map(u32_at), [10, 0x102, 0, 0]);
    // What the server does not know makes no attributes.
    let mut unsure = bytes.clone();
    unsure[16 + 32] &= !1;
    assert_eq!(reply::statx(&unsure, 7), Err(reply::Refused::Malformed));
}

/// A request of `opcode` with `body`, as a client that ignores our types would send it.
fn parse_raw<T>(
    opcode: u32,
    body: &[u8],
    judge: impl FnOnce(Result<Request<'_>, Rejected>) -> T,
) -> T {
    let mut bytes = Vec::new();
    Request { header: header(), operation: Operation::Other { opcode } }.encode(&mut bytes);
    bytes.extend_from_slice(body);
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    judge(Request::parse(&bytes))
}

fn refusal(opcode: u32, body: &[u8]) -> Option<Errno> {
    parse_raw(opcode, body, |parsed| match parsed {
        Err(Rejected::With { errno, .. }) => Some(errno),
        _ => None,
    })
}

#[test]
fn an_extended_attribute_too_long_is_refused_as_linux_does() {
    let set = |size: u32, name: &[u8], value: &[u8]| {
        let mut body = Vec::from(size.to_le_bytes());
        body.extend([0; 4]);
        body.extend_from_slice(name);
        body.extend_from_slice(value);
        refusal(opcode::SETXATTR, &body)
    };
    assert_eq!(set(65_536, b"user.a\0", &[1; 65_536]), None);
    assert_eq!(set(65_537, b"user.a\0", &[1; 65_537]), Some(Errno::E2BIG));
    assert_eq!(set(u32::MAX, b"user.a\0", b"x"), Some(Errno::E2BIG));
    assert_eq!(set(2, b"user.a\0", b"x"), Some(Errno::EINVAL));
    assert_eq!(set(1, b"\0", b"x"), Some(Errno::ERANGE));
    let long = [&[b'a'; 256][..], b"\0"].concat();
    assert_eq!(refusal(opcode::REMOVEXATTR, &long), Some(Errno::ERANGE));
}

#[test]
fn a_file_without_a_name_ignores_the_one_it_is_sent_with() {
    for name in [&b"/\0"[..], b"\0", b"a\0"] {
        let body = [&[2, 0, 0, 0, 0x80, 0x81, 0, 0, 0o77, 0, 0, 0, 0, 0, 0, 0][..], name].concat();
        parse_raw(opcode::TMPFILE, &body, |parsed| {
            let expected = Operation::TmpFile { flags: 2, mode: 0o100_600, umask: 0o77 };
            assert_eq!(parsed.map(|request| request.operation), Ok(expected));
        });
    }
}

#[test]
fn flags_that_were_not_agreed_on_are_refused() {
    let mut body = [0; 56];
    assert_eq!(refusal(opcode::COPY_FILE_RANGE, &body), None);
    body[48] = 1;
    assert_eq!(refusal(opcode::COPY_FILE_RANGE, &body), Some(Errno::EINVAL));
    let mut body = [0; 48];
    assert_eq!(refusal(opcode::SETLK, &body), None);
    body[40] = 1; // FUSE_LK_FLOCK
    assert_eq!(refusal(opcode::SETLK, &body), Some(Errno::EINVAL));
}

#[test]
fn a_time_with_too_many_nanoseconds_is_refused() {
    // `valid`'s bits, and where in fuse_setattr_in their nanoseconds are.
    for (bits, at) in [(valid::ATIME, 56), (valid::MTIME, 60), (valid::CTIME, 64)] {
        let mut body = [0; 88];
        body[..4].copy_from_slice(&bits.to_le_bytes());
        body[at..at + 4].copy_from_slice(&999_999_999_u32.to_le_bytes());
        assert_eq!(refusal(opcode::SETATTR, &body), None);
        body[at..at + 4].copy_from_slice(&1_000_000_000_u32.to_le_bytes());
        assert_eq!(refusal(opcode::SETATTR, &body), Some(Errno::EINVAL));
    }
}
