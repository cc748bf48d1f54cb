use super::*;
use alloc::vec;

const FILE: u64 = 7;

fn version(size: u64) -> Version {
    Version { size, modified: Time::default(), changed: Time::default() }
}

/// A file of these bytes, open, with all of it kept.
fn filled(limit: usize, bytes: &[u8], keep: bool) -> Pages {
    let mut pages = Pages::new(limit);
    pages.opened(FILE, version(bytes.len() as u64), keep);
    let ticket = pages.ticket(FILE);
    pages.fill(FILE, ticket, 0, bytes, true);
    pages
}

fn read(pages: &mut Pages, offset: u64, most: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let count = pages.read(FILE, offset, most, &mut out)?;
    assert_eq!(count, out.len());
    Some(out)
}

#[test]
fn what_was_read_is_read_again_without_asking() {
    let bytes: Vec<u8> = (0..10_000_u32).map(|n| (n >> 5) as u8).collect();
    let mut pages = filled(1 << 20, &bytes, true);
    assert_eq!(read(&mut pages, 0, 20_000).as_deref(), Some(&bytes[..]));
    assert_eq!(read(&mut pages, 4_000, 200).as_deref(), Some(&bytes[4_000..4_200]));
    assert_eq!(read(&mut pages, 9_999, 20).as_deref(), Some(&bytes[9_999..]));
    assert_eq!(read(&mut pages, 10_000, 20), Some(vec![]), "the end");
    assert_eq!(read(&mut pages, 20_000, 20), None);
}

#[test]
fn where_a_file_ends_is_asked_unless_the_server_answers_for_it() {
    for length in [100, PAGE, 2 * PAGE + 1] {
        let bytes = vec![1; length];
        assert_eq!(read(&mut filled(1 << 20, &bytes, false), length as u64, 9), None);
        assert_eq!(read(&mut filled(1 << 20, &bytes, true), length as u64, 9), Some(vec![]));
    }
}

#[test]
fn pages_outlive_a_close_and_the_next_open_if_the_file_is_the_same() {
    for (size, keep, kept) in [(100, false, true), (100, true, true), (101, false, false)] {
        let mut pages = filled(1 << 20, &[1; 100], keep);
        pages.closed(FILE);
        assert_eq!(pages.count(), 1);
        pages.opened(FILE, version(size), keep);
        assert_eq!(read(&mut pages, 0, 100).is_some(), kept, "{size} {keep}");
    }
    let mut pages = filled(1 << 20, &[1; 100], false);
    let modified = Time { seconds: 1, nanoseconds: 0 };
    pages.opened(FILE, Version { modified, ..version(100) }, false);
    assert_eq!(read(&mut pages, 0, 100), None, "written elsewhere, to the same length");
}

#[test]
fn the_longest_unused_page_goes_first() {
    let mut pages = filled(3 * PAGE, &[1; 3 * PAGE - 1], false);
    assert!(read(&mut pages, 0, 1).is_some());
    pages.opened(8, version(1), false);
    let ticket = pages.ticket(8);
    pages.fill(8, ticket, 0, &[2], true);
    assert_eq!(pages.count(), 3);
    assert!(pages.has(FILE, 0) && !pages.has(FILE, PAGE as u64) && pages.has(8, 0));
}

#[test]
fn own_writes_drop_what_they_touch_and_what_is_on_its_way() {
    let mut pages = filled(1 << 20, &[1; 3 * PAGE + 5], true);
    let late = pages.ticket(FILE);
    pages.written(FILE, PAGE as u64 + 1, 1);
    assert!(pages.has(FILE, 0) && !pages.has(FILE, PAGE as u64));
    assert!(pages.has(FILE, 2 * PAGE as u64) && pages.has(FILE, 3 * PAGE as u64));
    pages.fill(FILE, late, PAGE as u64, &[1; PAGE], false);
    assert!(!pages.has(FILE, PAGE as u64), "it was asked for before the write");
    pages.written(FILE, 9 * PAGE as u64, 1);
    assert!(!pages.has(FILE, 3 * PAGE as u64), "the last page is the last no more");
    let ticket = pages.ticket(FILE);
    pages.fill(FILE, ticket, 12 * PAGE as u64, &[], true);
    pages.fill(FILE, ticket, 3 * PAGE as u64, &[1; 5], true);
    pages.written(FILE, 5 * PAGE as u64, 1);
    assert!(!pages.has(FILE, 3 * PAGE as u64), "whatever is said of places behind it");
    pages.resized(FILE);
    assert_eq!(pages.count(), 0);
}

#[test]
fn nothing_is_kept_of_a_file_that_is_closed_and_has_no_pages() {
    let mut pages = Pages::new(PAGE);
    for inode in 0..100 {
        pages.opened(inode, version(1), false);
        let ticket = pages.ticket(inode);
        pages.closed(inode);
        pages.fill(inode, ticket, 0, &[1], true);
    }
    assert_eq!((pages.files.len(), pages.count()), (0, 0));
    for inode in 0..100 {
        pages.opened(inode, version(1), false);
        let ticket = pages.ticket(inode);
        pages.fill(inode, ticket, 0, &[1], true);
        pages.closed(inode);
    }
    assert_eq!((pages.files.len(), pages.count()), (1, 1));
}

#[test]
fn whatever_is_done_a_cached_byte_is_the_files_and_memory_is_bounded() {
    // Each step: what, where (bytes), how many.
    bolero::check!().with_type::<alloc::vec::Vec<(u8, u16, u16)>>().for_each(|steps| {
        let mut file: Vec<u8> = vec![0; 3 * PAGE];
        let mut pages = Pages::new(4 * PAGE);
        pages.opened(FILE, version(0), true);
        for (number, &(what, offset, length)) in steps.iter().enumerate() {
            let (at, length) = (usize::from(offset), usize::from(length));
            match what % 4 {
                0 => {
                    let start = at - at % PAGE;
                    let ticket = pages.ticket(FILE);
                    let end = file.len().min(start + 2 * PAGE);
                    let bytes = file.get(start..end).unwrap_or_default().to_vec();
                    pages.fill(FILE, ticket, start as u64, &bytes, bytes.len() < 2 * PAGE);
                }
                1 if length > 0 => {
                    pages.written(FILE, at as u64, length as u64);
                    file.resize(file.len().max(at + length), 0);
                    file[at..at + length].fill(number as u8);
                    pages.written(FILE, at as u64, length as u64);
                }
                2 => {
                    pages.resized(FILE);
                    file.resize(at, 0);
                }
                _ => {
                    if let Some(bytes) = read(&mut pages, at as u64, length) {
                        let there = file.get(at..).unwrap_or_default();
                        assert_eq!(&bytes[..], &there[..bytes.len()]);
                        assert!(!bytes.is_empty() || there.is_empty() || length == 0);
                    }
                }
            }
            assert!(pages.count() <= 4);
        }
    });
}
