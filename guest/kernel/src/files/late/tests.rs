use std::format;
use std::vec;

use super::*;
use crate::files::tests::OWN;
use crate::files::{Files, OpenFile};
use crate::lab::Lab;
use crate::lab::shelf::Shelf;
use fuse::reply::AttrReply;
use fuse::request::open_flags::{READ_ONLY, READ_WRITE, WRITE_ONLY};

const FULL: Failed = Failed::Errno(Errno::ENOSPC);

impl Lab {
    /// Over a sealed lower, where the server takes late writes; with a file open.
    fn writing() -> (Lab, Rc<OpenFile>) {
        let mut lab = Lab::with_own(Shelf::sealed());
        let file = lab.open(OWN, READ_WRITE);
        lab.shelf().asked();
        (lab, file)
    }

    fn write(&mut self, file: &Rc<OpenFile>, offset: u64, bytes: &[u8]) -> Result<(), Failed> {
        let (file, bytes) = (file.clone(), bytes.to_vec());
        self.done(async move { file.write(offset, &bytes).await })
    }

    fn size(&mut self, file: &Rc<OpenFile>) -> u64 {
        let file = file.clone();
        self.done(async move { file.size().await.unwrap() })
    }

    fn close(&mut self, file: Rc<OpenFile>) -> Result<(), Failed> {
        self.done(Rc::into_inner(file).expect("nobody else has it").close())
    }
}

/// Writes `count` pieces of `length` bytes one after the other.
fn pieces(lab: &mut Lab, file: &Rc<OpenFile>, count: u64, length: u64) {
    for number in 0..count {
        let piece = vec![number as u8; length as usize];
        assert_eq!(lab.write(file, number * length, &piece), Ok(()));
    }
}

fn expected(count: u64, length: usize) -> Vec<u8> {
    (0..count).flat_map(|number| vec![number as u8; length]).collect()
}

#[test]
fn small_writes_are_few_requests_over_a_sealed_lower_and_all_is_there_after_the_close() {
    let (mut lab, file) = Lab::writing();
    pieces(&mut lab, &file, 100, 100);
    assert_eq!(lab.shelf().asked(), "");
    assert_eq!(lab.close(file), Ok(()));
    assert_eq!(lab.shelf().asked(), "Write Release");
    assert_eq!(lab.bytes("upper/a/b/c/own"), expected(100, 100));

    let (mut lab, file) = Lab::writing();
    pieces(&mut lab, &file, 100, 4096);
    assert_eq!(lab.close(file), Ok(()));
    assert_eq!(lab.shelf().asked().matches("Write").count(), 100 / 16 + 1);
    assert_eq!(lab.bytes("upper/a/b/c/own"), expected(100, 4096));
    assert_eq!(lab.shelf().longest, MAX_IO);
}

#[test]
fn each_write_is_a_request_where_the_server_does_not_take_late_ones() {
    let mut lab = Lab::with_own(Shelf::new());
    let file = lab.open(OWN, WRITE_ONLY);
    lab.shelf().asked();
    pieces(&mut lab, &file, 10, 100);
    assert_eq!(lab.shelf().asked().matches("Write").count(), 10);
}

#[test]
fn each_write_is_a_request_where_the_parent_writes_too() {
    let mut lab = Lab::with_own(Shelf::shared());
    std::fs::write(lab.root().join("shared/there"), "").unwrap();
    let files = lab.system().files;
    let made = lab.done(async move { files.create("/", "shared/made").await.unwrap() });
    for file in [Rc::new(made), lab.open("shared/there", WRITE_ONLY)] {
        lab.shelf().asked();
        pieces(&mut lab, &file, 10, 100);
        assert_eq!(lab.shelf().asked().matches("Write").count(), 10);
    }
}

#[test]
fn a_write_that_does_not_go_on_sends_those_before() {
    let (mut lab, file) = Lab::writing();
    for (offset, asked) in [(0, ""), (10, ""), (5, "Write"), (9, "Write")] {
        assert_eq!(lab.write(&file, offset, &[1; 10]), Ok(()));
        assert_eq!(lab.shelf().asked(), asked, "{offset}");
    }
    assert_eq!(lab.write(&file, 100, &[2; MAX_IO]), Ok(()));
    assert_eq!(lab.shelf().asked(), "Write Write", "one that long is not late");
}

#[test]
fn whoever_asks_for_the_file_sees_what_was_written() {
    let (mut lab, file) = Lab::writing();
    let other = lab.open(OWN, READ_ONLY);
    assert_eq!(lab.read(&other, 0), b"of the space\n");
    assert_eq!(lab.write(&file, 0, b"ON"), Ok(()));
    assert_eq!(lab.read(&other, 0), b"ON the space\n");
    assert_eq!(lab.write(&file, 13, b"and more\n"), Ok(()));
    assert!(lab.seen("ls -l a/b/c").0.contains(" 22 own\n"));
    assert_eq!(lab.write(&file, 22, b"and more\n"), Ok(()));
    assert_eq!(lab.size(&other), 31);
    assert_eq!(lab.write(&file, 0, b"in"), Ok(()));
    assert_eq!(lab.seen(&format!("cat {OWN}")).0, "in the space\nand more\nand more\n");
    assert_eq!(lab.write(&file, 0, b"On"), Ok(()));
    assert_eq!(lab.run(&format!("write {OWN}"), b"new").status, 0);
    assert_eq!(lab.read(&file, 0), b"new");
}

#[test]
fn appending_needs_no_request_for_the_size_once_it_is_known() {
    let (mut lab, file) = Lab::writing();
    for number in 0..50 {
        let size = lab.size(&file);
        assert_eq!(size, 13 + 10 * number);
        assert_eq!(lab.write(&file, size, &[b'x'; 10]), Ok(()));
    }
    assert_eq!(lab.shelf().asked(), "GetAttr");
    assert_eq!(lab.read(&file, 0).len(), 513);
}

#[test]
fn a_size_that_another_writer_moved_is_asked_for() {
    let (mut lab, file) = Lab::writing();
    let other = lab.open(OWN, WRITE_ONLY);
    // The size is asked for, and a late write begun, while a write that is not late is under way.
    lab.shelf().held = true;
    let own = other.clone();
    lab.executor.spawner().spawn(async move { own.write(13, &[1; MAX_IO]).await.unwrap() });
    lab.turns();
    let attr = fuse::Attr { size: 13, ..fuse::Attr::default() };
    let (said, asked) = (AttrReply { valid_ns: u64::MAX, attr }, lab.calls.asked());
    lab.calls.names.borrow_mut().describe(file.remote.node.id, &said, asked);
    assert_eq!(lab.write(&file, 13, b"late"), Ok(()));
    assert_eq!(lab.size(&file), 17);
    lab.shelf().held = false;
    lab.turns();
    assert_eq!(lab.size(&file), 13 + MAX_IO as u64);
}

#[test]
fn why_a_late_write_failed_is_said_by_the_next_operation_or_the_close() {
    let (mut lab, file) = Lab::writing();
    let other = lab.open(OWN, READ_WRITE);
    lab.shelf().full = Some(Errno::ENOSPC);
    assert_eq!(lab.write(&file, 0, b"x"), Ok(()));
    assert_eq!(lab.write(&file, 9, b"y"), Err(FULL), "of the one before");
    assert_eq!(lab.write(&file, 9, b"y"), Ok(()), "it was said");
    assert_eq!(lab.read(&other, 0), b"of the space\n", "who did not write it does not hear of it");
    let (own, same) = (file.clone(), other.clone());
    assert_eq!(lab.done(async move { own.size().await }), Err(FULL));
    assert_eq!(lab.write(&file, 0, b"z"), Ok(()));
    drop(same);
    assert_eq!(lab.close(other), Ok(()));
    assert_eq!(lab.close(file), Err(FULL));
    assert_eq!(lab.shelf().asked().matches("Release").count(), 2, "it is closed all the same");
    let outcome = lab.run(&format!("write {OWN}"), b"text");
    assert_eq!((outcome.status, outcome.errors.contains("no space left")), (1, true));
}

#[test]
fn a_program_that_is_interrupted_leaves_what_it_wrote() {
    let (mut lab, file) = Lab::writing();
    assert_eq!(lab.write(&file, 0, b"ON"), Ok(()));
    drop(file);
    lab.turns();
    assert_eq!(lab.shelf().asked(), "Write Release", "in this order");
    assert_eq!(lab.bytes("upper/a/b/c/own"), b"ON the space\n");

    let file = lab.open(OWN, WRITE_ONLY);
    assert_eq!(lab.write(&file, 0, b"in"), Ok(()));
    let close = |_: Files| Rc::into_inner(file).expect("nobody else has it").close();
    assert_eq!(lab.interrupted(close), "Write Release");
    assert_eq!(lab.seen(&format!("cat {OWN}")).0, "in the space\n");
}

#[test]
fn nothing_is_late_for_more_than_a_second() {
    let (mut lab, file) = Lab::writing();
    for _ in 0..2 {
        assert_eq!(lab.write(&file, 0, b"x"), Ok(()));
        let until_us = lab.cpu.now_us.get() + 2 * ROUND_US;
        while lab.cpu.now_us.get() <= until_us {
            lab.turn();
        }
        lab.turns();
        assert_eq!(
            (&lab.shelf().asked()[..], lab.calls.is_late(file.remote.node.id)),
            ("Write", false)
        );
        (0..10_000).for_each(|_| lab.turn());
        assert_eq!(lab.timers.next_us(), None, "nobody is woken for nothing");
    }
}

#[test]
fn no_more_than_a_bounded_number_of_files_is_late() {
    let mut lab = Lab::with_own(Shelf::sealed());
    let mut files = Vec::new();
    for number in 0..3 * MOST {
        let path = format!("a/{number}");
        let system = lab.system().files;
        let file = lab.done(async move { Rc::new(system.create("/", &path).await.unwrap()) });
        assert_eq!(lab.write(&file, 0, b"text"), Ok(()));
        assert!(lab.calls.late.borrow().files.len() <= MOST);
        files.push(file);
    }
    assert_eq!(lab.shelf().asked().matches("Write").count(), 2 * MOST);
    for (number, file) in files.into_iter().enumerate() {
        assert_eq!(lab.close(file), Ok(()));
        assert_eq!(lab.bytes(&format!("upper/a/{number}")), b"text");
    }
}

#[test]
fn whoever_writes_and_reads_how_everybody_sees_one_file() {
    // Each step: what, which of three open files, where, how much.
    bolero::check!().with_iterations(100).with_type::<Vec<(u8, u8, u16, u8)>>().for_each(|steps| {
        let (mut lab, file) = Lab::writing();
        let mut files = [file, lab.open(OWN, READ_WRITE), lab.open(OWN, READ_WRITE)];
        let mut bytes = b"of the space\n".to_vec();
        let mut next = [0; 3];
        for &(what, which, offset, length) in steps {
            let which = usize::from(which % 3);
            let file = files[which].clone();
            match what % 8 {
                kind @ 0..4 => {
                    let length = (1 + usize::from(length)) * if kind == 3 { 300 } else { 7 };
                    let at = if kind == 0 { usize::from(offset) % 9000 } else { next[which] };
                    bytes.resize(bytes.len().max(at + length), 0);
                    bytes[at..at + length].fill(what);
                    assert_eq!(lab.write(&file, at as u64, &vec![what; length]), Ok(()));
                    next[which] = at + length;
                }
                4 => {
                    let at = usize::from(offset) % (bytes.len() + 9);
                    let read = lab.read(&file, at as u64);
                    let there = bytes.get(at..).unwrap_or_default();
                    assert_eq!(read[..], there[..read.len()]);
                    assert_eq!(read.is_empty(), there.is_empty());
                }
                5 => assert_eq!(lab.size(&file), bytes.len() as u64),
                6 => {
                    let system = lab.system().files;
                    let attr = lab.done(async move { system.attr("/", OWN).await.unwrap() });
                    assert_eq!(attr.size, bytes.len() as u64);
                }
                _ => {
                    drop(file);
                    files[which] = lab.open(OWN, READ_WRITE);
                }
            }
        }
        files.into_iter().for_each(|file| assert_eq!(lab.close(file), Ok(())));
        assert!(lab.bytes("upper/a/b/c/own") == bytes);
        assert_eq!(lab.calls.late.borrow().files.len(), 0);
    });
}
