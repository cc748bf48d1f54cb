use super::*;
use crate::lab::shelf::Shelf;
use crate::lab::{End, GUEST, PEER, Peer, TestCpu, wire};
use core::cell::RefCell;
use std::string::String;
use std::vec::Vec;

/// No vsock in these tests.
enum Never {}

impl Queues for Never {
    fn pending(&self) -> bool {
        match *self {}
    }

    fn arm(&mut self) -> bool {
        match *self {}
    }

    fn kick(&mut self) -> u32 {
        match *self {}
    }
}

impl Packets for Never {
    fn receive(&mut self, _: &mut dyn FnMut(&[u8])) -> bool {
        match *self {}
    }

    fn send(&mut self, _: &[u8], _: &[u8]) -> bool {
        match *self {}
    }
}

/// A console that keeps what was said.
#[derive(Clone, Default)]
struct Paper(Rc<RefCell<String>>);

impl Queues for Paper {
    fn pending(&self) -> bool {
        false
    }

    fn arm(&mut self) -> bool {
        false
    }

    fn kick(&mut self) -> u32 {
        1
    }
}

impl Messages for Paper {
    fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.borrow_mut().push_str(std::str::from_utf8(bytes).unwrap());
        true
    }
}

type TestMachine = Machine<End, Never, Shelf, Paper>;

fn machine(peer: Option<IpAddr>) -> (TestMachine, Peer, Rc<TestCpu>, End) {
    let (link, other) = wire(1500);
    let cpu = Rc::new(TestCpu::default());
    let identity = Identity { v4: Some(GUEST), v6: None, mac: [2, 0, 0, 0, 0, 1], seed: 1 };
    let setup = Setup { identity, peer, spin_us: 50, image_bytes: 0 };
    let machine = Machine::new(setup, Some(link.clone()), cpu.clone());
    (machine, Peer::new(other), cpu, link)
}

#[test]
fn the_peer_is_asked_at_once_and_its_answer_is_said() {
    let (mut machine, mut peer, cpu, _) = machine(Some(PEER.into()));
    let paper = Paper::default();
    machine.add_console(paper.clone());
    for _ in 0..10 {
        machine.step();
        peer.turn(cpu.now_us.get());
        cpu.now_us.set(cpu.now_us.get() + 3);
    }
    let said = paper.0.borrow();
    assert!(said.starts_with("192.0.2.20 answered ") && said.ends_with(" us after the start\n"));
}

#[test]
fn a_silent_peer_is_asked_again_every_200_ms() {
    let (mut machine, _silent, cpu, link) = machine(Some(PEER.into()));
    // Enough steps for three questions, whether it spins or sleeps.
    while cpu.now_us.get() < 3_100_000 {
        machine.step();
        cpu.now_us.set(cpu.now_us.get() + 10);
    }
    let asked = link.leaving.borrow().iter().filter(|frame| frame[12..14] == [8, 6]).count();
    assert!((2..=4).contains(&asked), "ARP, once a second: {asked}");
    assert!(cpu.sleeps.borrow().len() > 10);
}

#[test]
fn an_idle_machine_spins_for_its_bound_then_arms_everything_and_sleeps_for_ever() {
    let (mut machine, _peer, cpu, link) = machine(None);
    let mut spun_us = 0;
    while cpu.sleeps.borrow().is_empty() {
        machine.step();
        cpu.now_us.set(cpu.now_us.get() + 1);
        spun_us += 1;
        assert!(spun_us < 1000, "it never sleeps");
    }
    assert!((50..60).contains(&spun_us), "{spun_us}");
    assert_eq!(*cpu.sleeps.borrow(), [None]);
    assert!(link.armed.get() >= 1);
}

#[test]
fn a_frame_that_came_before_arming_is_taken_instead_of_slept_over() {
    let (mut machine, _peer, cpu, link) = machine(None);
    cpu.now_us.set(1000);
    machine.active_us = 0;
    link.arriving.borrow_mut().push_back(std::vec![0xff; 60]);
    machine.sleep(1000);
    assert!(cpu.sleeps.borrow().is_empty());
    machine.step();
    assert!(link.arriving.borrow().is_empty());
}

#[test]
fn a_timer_bounds_the_sleep() {
    let (mut machine, _peer, cpu, _) = machine(None);
    let timers = machine.system.timers.clone();
    machine.executor.spawner().spawn(async move { timers.until(5_000).await });
    while cpu.sleeps.borrow().is_empty() {
        machine.step();
        cpu.now_us.set(cpu.now_us.get() + 1);
    }
    let limit = cpu.sleeps.borrow()[0].expect("a timer is due");
    assert!((4_900..=4_960).contains(&limit), "{limit}");
}

#[test]
fn files_are_mounted_when_their_device_is_added() {
    let (mut machine, _peer, _cpu, _) = machine(None);
    machine.add_files(Some(Shelf::new()));
    let files = machine.system.files.clone();
    let names: Rc<RefCell<Vec<String>>> = Rc::default();
    let seen = names.clone();
    machine.executor.spawner().spawn(async move {
        *seen.borrow_mut() = files.list("/", "sub").await.expect("the directory is there");
    });
    for _ in 0..50 {
        machine.step();
    }
    assert_eq!(*names.borrow(), ["big"]);
}

#[test]
fn a_program_that_runs_before_the_files_device_is_found_waits_for_it() {
    let (mut machine, _peer, _cpu, _) = machine(None);
    let files = machine.system.files.clone();
    let listed: Rc<RefCell<Option<Vec<String>>>> = Rc::default();
    let seen = listed.clone();
    machine.executor.spawner().spawn(async move {
        *seen.borrow_mut() = files.list("/", "sub").await.ok();
    });
    machine.step();
    machine.step();
    machine.add_files(Some(Shelf::new()));
    for _ in 0..50 {
        machine.step();
    }
    assert_eq!(listed.borrow().as_deref(), Some(&[String::from("big")][..]));
}

#[test]
fn a_program_that_waits_for_files_hears_that_there_are_none() {
    let (mut machine, _peer, _cpu, _) = machine(None);
    let files = machine.system.files.clone();
    let heard: Rc<RefCell<Option<crate::files::Failed>>> = Rc::default();
    let seen = heard.clone();
    machine.executor.spawner().spawn(async move {
        *seen.borrow_mut() = files.list("/", "/").await.err();
    });
    machine.step();
    assert_eq!(*heard.borrow(), None);
    machine.add_files(None);
    machine.step();
    assert_eq!(*heard.borrow(), Some(crate::files::Failed::NoFiles));
}
