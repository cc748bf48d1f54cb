use alloc::string::{String, ToString};
use std::format;
use std::vec;
use std::vec::Vec;

use crate::lab::{Lab, Outcome};

/// FLUSH, DISCARD and WRITE_ZEROES.
const ALL: u32 = 1 << 9 | 1 << 13 | 1 << 14;

fn done(output: &str) -> Outcome {
    Outcome { status: 0, output: output.to_string(), errors: String::new() }
}

fn failed(errors: &str) -> Outcome {
    Outcome { status: 1, output: String::new(), errors: errors.to_string() }
}

#[test]
fn a_disk_is_read_and_written_by_whole_sectors() {
    let mut lab = Lab::with_platter(ALL);
    assert_eq!(lab.run("blk size", b""), done("1048576\n"));
    let text: Vec<u8> = (0..100_864).map(|at| b'a' + (at / 300 % 26) as u8).collect();
    assert_eq!(lab.run("blk write 1024", &text), done(""));
    let disk = &lab.platter.as_ref().unwrap().bytes;
    assert!(disk[1024..1024 + text.len()] == text && disk[512..1024] == [1; 512]);
    // Nobody takes more of the output here.
    let read = lab.run("blk read 1024 20480", b"");
    assert!(read.status == 0 && read.output.as_bytes() == &text[..20480]);
    let sum = lab.run("blk sha256 1024 100864", b"").output;
    assert_eq!(sum.trim_end(), lab.run("sha256", &text).output.split(' ').next().unwrap());
}

#[test]
fn zeros_and_discards_are_cut_to_what_the_device_takes() {
    let mut lab = Lab::with_platter(ALL);
    for (order, kind, requests) in [("zero", 13, 4), ("discard", 11, 2)] {
        assert_eq!(lab.run(&format!("blk {order} 512 100864"), b""), done(""));
        let platter = lab.platter.as_mut().unwrap();
        assert_eq!(platter.asked.split_off(0), vec![kind; requests]);
        assert!(platter.bytes[512..512 + 100_864].iter().all(|byte| *byte == 0));
        assert_eq!(platter.bytes[512 + 100_864], 198);
        platter.bytes.fill(198);
    }
    assert_eq!(lab.run("blk flush", b""), done(""));
    assert_eq!(lab.platter.as_ref().unwrap().asked, [4]);
}

#[test]
fn what_cannot_be_done_is_said() {
    assert_eq!(Lab::new().run("blk size", b""), failed("0: this space has no such disk\n"));
    let mut lab = Lab::with_platter(ALL);
    assert_eq!(lab.run("blk -d 1 size", b""), failed("1: this space has no such disk\n"));
    for line in ["blk read 1 512", "blk read 0 511", "blk read 1048576 512", "blk zero 512 1048576"]
    {
        assert_eq!(lab.run(line, b""), failed("disk 0: no such sectors on this disk\n"), "{line}");
    }
    assert_eq!(lab.run("blk write 0", b"short"), failed("disk 0: no such sectors on this disk\n"));
    for (status, words) in [
        (1, "the disk reports an error"),
        (2, "this disk cannot do that"),
        (0xff, "the disk reports an error"),
    ] {
        for line in ["blk read 0 512", "blk flush", "blk discard 0 512"] {
            lab.platter.as_mut().unwrap().fails = status;
            assert_eq!(lab.run(line, b""), failed(&format!("disk 0: {words}\n")));
        }
    }
    let mut lab = Lab::with_platter(0);
    assert_eq!(lab.run("blk discard 0 512", b""), failed("disk 0: this disk cannot do that\n"));
    assert_eq!(lab.run("blk flush", b""), done(""), "everything is flushed anyway");
}
