//! The client over the real server: what it asks, and that what it shows is right.

use std::format;
use std::string::String;
use std::vec::Vec;

use core::cell::RefCell;
use core::future::Future;

use super::*;
use crate::lab::Lab;
use crate::lab::shelf::Shelf;

/// A file of the space's own four names deep.
const OWN: &str = "/a/b/c/own";

impl Lab {
    /// With [`OWN`] in the space's own layer, and the session begun.
    fn with_own(shelf: Shelf) -> Lab {
        let mut lab = Lab::over(shelf);
        let upper = lab.root().join("upper");
        std::fs::create_dir_all(upper.join("a/b/c")).unwrap();
        std::fs::write(upper.join("a/b/c/own"), "of the space\n").unwrap();
        lab.run("cat gone", b"");
        lab.shelf().asked();
        lab
    }

    /// The output of a program that succeeds, and the requests it made.
    fn seen(&mut self, line: &str) -> (String, String) {
        self.shelf().asked();
        let outcome = self.run(line, b"");
        assert_eq!((outcome.status, &outcome.errors[..]), (0, ""), "{line}");
        (outcome.output, self.shelf().asked())
    }

    /// What of them is looked up, asked about, or given back.
    fn asked_of_names(&mut self, line: &str) -> String {
        let asked = self.seen(line).1;
        let names = ["Lookup", "GetAttr", "Forget"];
        asked.split(' ').filter(|request| names.contains(request)).collect::<Vec<_>>().join(" ")
    }

    /// Interrupts what `act` does while the reply to a request waits; the requests of it all.
    fn interrupted<W: Future + 'static>(&mut self, act: impl FnOnce(Files) -> W) -> String {
        self.shelf().asked();
        self.shelf().held = true;
        let (timers, act) = (self.timers.clone(), act(self.system().files));
        self.executor.spawner().spawn(async move {
            assert!(timers.within(500, act).await.is_none(), "its reply waits");
        });
        self.turns();
        self.shelf().held = false;
        self.turns();
        self.shelf().asked()
    }

    /// What `work` gives.
    fn done<T: 'static>(&mut self, work: impl Future<Output = T> + 'static) -> T {
        let done = Rc::new(RefCell::new(None));
        let end = done.clone();
        self.executor.spawner().spawn(async move { *end.borrow_mut() = Some(work.await) });
        (0..1000).take_while(|_| done.borrow().is_none()).for_each(|_| self.turn());
        done.take().expect("it ends")
    }

    fn open(&mut self, path: &'static str, access: u32) -> Rc<OpenFile> {
        let files = self.system().files;
        self.done(async move { Rc::new(files.open_as("/", path, access).await.unwrap()) })
    }

    fn read(&mut self, file: &Rc<OpenFile>, offset: u64) -> Vec<u8> {
        let (file, mut bytes) = (file.clone(), Vec::new());
        self.done(async move {
            file.read(offset, &mut bytes).await.unwrap();
            bytes
        })
    }

    fn turns(&mut self) {
        (0..20).for_each(|_| self.turn());
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.root().join(path)).unwrap()
    }
}

#[test]
fn a_path_of_the_own_layer_is_asked_for_once() {
    for shelf in [Shelf::new(), Shelf::sealed()] {
        let mut lab = Lab::with_own(shelf);
        assert_eq!(lab.asked_of_names(&format!("cat {OWN}")), "Lookup Lookup Lookup Lookup");
        assert_eq!(
            lab.seen(&format!("cat {OWN}")),
            ("of the space\n".into(), "Open Release".into())
        );
        assert_eq!(lab.asked_of_names(&format!("ls -l {OWN}/..")), "");
    }
}

#[test]
fn a_cat_of_four_names_costs_a_fifth_of_the_requests() {
    let count = |limit| {
        let mut lab = Lab::with_own(Shelf::new());
        lab.calls.names.replace(names::Names::new(limit));
        lab.seen(&format!("cat {OWN}"));
        lab.seen(&format!("cat {OWN}")).1.split(' ').count()
    };
    assert_eq!((count(0), count(names::LIMIT)), (10, 2));
}

#[test]
fn a_file_a_live_parent_replaces_is_seen_at_once() {
    let mut lab = Lab::with_files();
    for text in ["one", "two", "and another"] {
        let lower = lab.root().join("lower");
        std::fs::write(lower.join("new"), text).unwrap();
        std::fs::rename(lower.join("new"), lower.join("hello")).unwrap();
        let (said, asked) = lab.seen("cat hello");
        assert_eq!((&said[..], asked.matches("Lookup").count()), (text, 1));
        let long = lab.seen("ls -l").0;
        assert!(long.contains(&format!(" {} hello\n", text.len())), "{long}");
    }
    std::fs::remove_file(lab.root().join("lower/hello")).unwrap();
    assert_eq!(lab.run("cat hello", b"").status, 1);
    std::fs::write(lab.root().join("lower/hello"), "back").unwrap();
    assert_eq!(lab.seen("cat hello").0, "back");
}

#[test]
fn a_name_that_is_not_there_is_asked_for_once_until_it_is_made() {
    let mut lab = Lab::with_own(Shelf::sealed());
    assert_eq!(lab.run("cat sub/made", b"").status, 1);
    lab.shelf().asked();
    assert_eq!(lab.run("cat sub/made", b"").status, 1);
    assert_eq!(lab.shelf().asked(), "");
    assert_eq!(lab.run("write sub/made", b"here").status, 0);
    assert_eq!(lab.seen("cat sub/made").0, "here");
    assert_eq!(lab.seen("ls sub").0, "big\nmade\n");
}

#[test]
fn what_this_guest_writes_shows_in_attributes_and_in_bytes() {
    for shelf in [Shelf::new(), Shelf::sealed()] {
        let mut lab = Lab::with_own(shelf);
        for text in ["longer than it was before", "short", "other"] {
            lab.seen(&format!("cat {OWN}"));
            lab.seen("ls -l a/b/c");
            assert_eq!(lab.run(&format!("write {OWN}"), text.as_bytes()).status, 0);
            let long = lab.seen("ls -l a/b/c").0;
            assert!(long.contains(&format!(" {} own\n", text.len())), "{long}");
            assert_eq!(lab.seen(&format!("cat {OWN}")).0, text);
            assert_eq!(lab.bytes("upper/a/b/c/own"), text.as_bytes());
        }
    }
}

#[test]
fn names_are_bounded_and_the_server_is_told_to_forget() {
    let mut lab = Lab::with_own(Shelf::sealed());
    lab.calls.names.replace(names::Names::new(8));
    let upper = lab.root().join("upper/a");
    (0..40).for_each(|number| std::fs::write(upper.join(format!("{number}")), "").unwrap());
    let mut all = String::new();
    for _ in 0..3 {
        all += &lab.seen("ls -l a").1;
        assert!(lab.calls.names.borrow().count() <= 8);
    }
    let (looked_up, forgotten) = (all.matches("Lookup").count(), all.matches("Forget").count());
    assert!(looked_up > 100 && looked_up - forgotten <= 8, "{looked_up}, {forgotten}");
    assert_eq!(lab.seen(&format!("cat {OWN}")).0, "of the space\n");
}

#[test]
fn a_file_that_is_gone_under_its_name_is_looked_up_anew() {
    let mut lab = Lab::with_own(Shelf::new());
    lab.seen(&format!("cat {OWN}"));
    let own = lab.root().join("upper/a/b/c/own");
    // Not what anybody does: nothing but this space writes there.
    std::fs::rename(&own, own.with_extension("old")).unwrap();
    std::fs::write(&own, "another").unwrap();
    assert_eq!(lab.seen(&format!("cat {OWN}")).0, "another");
}

#[test]
fn what_an_interrupted_program_was_given_is_given_back() {
    let mut lab = Lab::with_own(Shelf::new());
    let find = |files: Files| async move { files.attr("/", "hello").await };
    assert_eq!(lab.interrupted(find), "Lookup Forget");
    let open = |files: Files| async move { files.open("/", OWN).await };
    assert_eq!(lab.interrupted(open), "Lookup Forget");
    lab.seen(&format!("cat {OWN}"));
    assert_eq!(lab.interrupted(open), "Open Release");
    let list = |files: Files| async move { files.list("/", "a").await };
    assert_eq!(lab.interrupted(list), "OpenDir ReleaseDir");
    let make = |files: Files| async move { files.make("/", "a/new").await };
    assert_eq!(lab.interrupted(make), "Create Release Forget");
    assert_eq!(lab.seen("cat a/new").0, "");
}

#[test]
fn what_an_interrupted_program_wrote_is_seen_once_it_is_written() {
    let mut lab = Lab::with_own(Shelf::new());
    lab.seen("ls -l a/b/c");
    let file = lab.open(OWN, open_flags::READ_WRITE);
    assert_eq!(lab.read(&file, 0), b"of the space\n");
    let own = file.clone();
    assert_eq!(lab.interrupted(|_| async move { own.write(0, b"on").await }), "Write");
    assert_eq!(lab.read(&file, 0), b"on the space\n");
    assert_eq!(lab.seen(&format!("cat {OWN}")).0, "on the space\n");
}

#[test]
fn what_was_read_ahead_before_a_write_is_read_again() {
    let mut lab = Lab::with_own(Shelf::new());
    std::fs::write(lab.root().join("upper/a/long"), [b'x'; 3 * MAX_IO]).unwrap();
    let reader = lab.open("a/long", open_flags::READ_ONLY);
    let writer = lab.open("a/long", open_flags::WRITE_ONLY);
    assert_eq!(lab.read(&reader, 0), [b'x'; MAX_IO]);
    lab.done(async move { writer.write(MAX_IO as u64, b"y").await.unwrap() });
    assert_eq!(lab.read(&reader, MAX_IO as u64)[..2], *b"yx");
}
