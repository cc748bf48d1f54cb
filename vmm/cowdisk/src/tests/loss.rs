//! Power cuts and failures at every step: what was flushed is there, what was not asked for
//! has not happened.

use std::collections::BTreeSet;

use super::sim::{File, Files, Plan, new_disk};
use crate::layer::Space;
use crate::{CLUSTER, Disk, SECTOR};

/// Three clusters and a part of one.
const SECTORS: usize = (3 * CLUSTER / SECTOR) as usize + 5;

/// A small generator: the same runs every time (Marsaglia's xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[derive(Clone, Copy, Debug)]
enum Order {
    Write,
    Zero(Space),
    Flush,
}

/// What sectors may hold: each is full of one byte.
#[derive(Clone)]
struct Model {
    /// If the process goes on.
    now: Vec<BTreeSet<u8>>,
    /// If the power goes off.
    later: Vec<BTreeSet<u8>>,
}

fn image() -> Vec<u8> {
    (0..SECTORS).flat_map(|sector| [200 + (sector % 50) as u8; SECTOR as usize]).collect()
}

impl Model {
    fn new() -> Model {
        let now: Vec<_> =
            image().chunks(SECTOR as usize).map(|sector| BTreeSet::from([sector[0]])).collect();
        Model { later: now.clone(), now }
    }

    fn changed(&mut self, first: usize, end: usize, byte: u8, well: bool) {
        for sector in first..end {
            if well {
                self.now[sector].clear();
            }
            self.now[sector].insert(byte);
            self.later[sector].insert(byte);
        }
    }

    fn flushed(&mut self) {
        self.later = self.now.clone();
    }
}

fn check(disk: &Disk<File>, allowed: &[BTreeSet<u8>], what: &str) {
    let mut bytes = vec![0; SECTORS * SECTOR as usize];
    disk.read(0, &mut bytes).unwrap();
    for (at, (sector, allowed)) in bytes.chunks(SECTOR as usize).zip(allowed).enumerate() {
        assert!(sector.iter().all(|byte| *byte == sector[0]), "{what}: sector {at} is torn");
        assert!(allowed.contains(&sector[0]), "{what}: sector {at}: {} of {allowed:?}", sector[0]);
    }
}

/// Runs the orders of a seed; an order that fails may have happened in part.
fn run(disk: &mut Disk<File>, model: &mut Model, seed: u64, orders: usize) {
    let mut dice = Dice(seed);
    for tag in 1..=orders as u8 {
        let order = match dice.roll(8) {
            0..4 => Order::Write,
            4 => Order::Zero(Space::Keep),
            5 => Order::Zero(Space::GiveBack),
            _ => Order::Flush,
        };
        // Whole clusters now and then.
        let unit = if dice.roll(3) == 0 { (CLUSTER / SECTOR) as usize } else { 1 };
        let first = dice.roll(SECTORS as u64) as usize / unit * unit;
        let count = (1 + dice.roll(150) as usize).next_multiple_of(unit).min(SECTORS - first);
        let (offset, length) = (first as u64 * SECTOR, count as u64 * SECTOR);
        match order {
            Order::Write => {
                let done = disk.write(offset, &vec![tag; length as usize]).is_ok();
                model.changed(first, first + count, tag, done);
            }
            Order::Zero(space) => {
                let done = disk.zero(offset, length, space).is_ok();
                model.changed(first, first + count, 0, done);
            }
            Order::Flush => {
                if disk.flush().is_ok() {
                    model.flushed();
                }
            }
        }
    }
}

/// Runs the orders once for each step they take, with `plan` at that step.
fn at_every_step(seed: u64, plan: fn(usize) -> Plan, judge: impl Fn(&Files, &Disk<File>, &Model)) {
    const ORDERS: usize = 12;
    let begin = || {
        let (files, disk) = new_disk(&image(), 1);
        files.plan(Plan::Nothing);
        (files, disk, Model::new())
    };
    let (files, mut disk, mut model) = begin();
    run(&mut disk, &mut model, seed, ORDERS);
    check(&disk, &model.now, "without any loss");
    let steps = files.steps();
    for step in 0..=steps {
        let (files, mut disk, mut model) = begin();
        files.plan(plan(step));
        run(&mut disk, &mut model, seed, ORDERS);
        files.plan(Plan::Nothing);
        judge(&files, &disk, &model);
    }
}

#[test]
fn a_power_cut_at_any_step_leaves_what_was_flushed() {
    for seed in 1..=30 {
        at_every_step(seed * 0x9e37_79b9, Plan::PowerOff, |files, _, model| {
            for (what, sides) in [("nothing", 1), ("half", 2), ("nearly all", 20), ("all", 0)] {
                let mut dice = Dice(seed + 77);
                let kept = || match sides {
                    0 => true,
                    sides => dice.roll(sides) != 0,
                };
                let disk = files.after_power_cut(kept).open(1).expect("a map is never torn");
                check(&disk, &model.later, what);
            }
        });
    }
}

#[test]
fn a_killed_process_leaves_what_was_flushed() {
    at_every_step(0xfeed, Plan::PowerOff, |files, _, model| {
        check(&files.as_they_are().open(1).unwrap(), &model.later, "killed");
    });
}

#[test]
fn a_failure_at_any_step_costs_the_failing_order_alone() {
    for seed in 1..=30 {
        at_every_step(seed * 0x51_7cc1, Plan::Fail, |files, disk, model| {
            check(disk, &model.now, "it goes on");
            let mut dice = Dice(seed + 5);
            let after = files.after_power_cut(|| dice.roll(2) == 0).open(1).unwrap();
            check(&after, &model.later, "and after a power cut");
        });
    }
}

#[test]
fn after_a_flush_that_lost_something_nothing_is_promised_any_more() {
    let (files, mut disk) = new_disk(&image(), 1);
    disk.write(0, &[1; 512]).unwrap();
    files.plan(Plan::Fail(0));
    assert!(disk.flush().is_err());
    files.plan(Plan::Nothing);
    assert!(disk.flush().is_err(), "the kernel would say that all is well now");
    assert!(disk.write(0, &[2; 512]).is_err());
    assert!(disk.zero(0, 512, Space::GiveBack).is_err());
    let mut byte = [0];
    disk.read(0, &mut byte).unwrap();
    assert_eq!(byte, [1]);
}

#[test]
fn a_flush_without_space_for_the_map_can_be_tried_again() {
    let (files, mut disk) = new_disk(&image(), 1);
    disk.write(0, &[1; 512]).unwrap();
    files.plan(Plan::Fail(1));
    assert!(disk.flush().is_err());
    files.plan(Plan::Nothing);
    disk.flush().unwrap();
    let mut byte = [0];
    files.after_power_cut(|| false).open(1).unwrap().read(0, &mut byte).unwrap();
    assert_eq!(byte, [1]);
}

#[test]
fn a_flush_of_nothing_asks_the_host_for_nothing() {
    let (files, mut disk) = new_disk(&image(), 1);
    files.plan(Plan::Nothing);
    disk.flush().unwrap();
    assert_eq!(files.steps(), 0);
    disk.write(0, &[1; 512]).unwrap();
    disk.flush().unwrap();
    files.plan(Plan::Nothing);
    disk.write(512, &[1; 512]).unwrap();
    disk.flush().unwrap();
    assert_eq!(files.steps(), 2, "in place: the write and one sync, no map");
}
