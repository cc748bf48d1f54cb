//! Commits to a space: it lies on what its child changed, and both see it.

use super::commit::{PATHS, change, tree};
use super::crash::seen;
use super::guest::{Guest, Place};
use crate::host::{Fault, with_fault};
use crate::{CommitFailure, Config, Conflict, FileSpace, LowerLayer, Refusal, Unselectable, What};
use fuse::Errno;
use fuse::request::SetAttr;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A space and a child of it.
struct Family {
    place: Place,
    /// What both lie on, topmost first.
    layers: Vec<String>,
    /// What of it the child was made from.
    base: Vec<String>,
}

impl Family {
    /// `first` is what the parent did before.
    fn new(place: Place, first: impl FnOnce(&mut Guest)) -> Family {
        for name in ["parent", "parent-work"] {
            std::fs::create_dir(place.path(name)).unwrap();
        }
        let mut family = Family { place, layers: Vec::new(), base: Vec::new() };
        first(&mut family.parent());
        family.seal();
        family.base = family.layers.clone();
        family
    }

    fn config(&self, layers: &[String], name: &str, work: &str) -> Config {
        let sealed = |layer: &String| LowerLayer::Sealed {
            files: self.place.path(layer),
            index: Some(self.place.path(&format!("{layer}.index"))).filter(|index| index.exists()),
            own: name == "parent",
        };
        let live = LowerLayer::Live(self.place.path("lower"));
        let lowers = layers.iter().map(sealed).chain([live]).collect();
        Config::new(lowers, self.place.path(name), self.place.path(work))
    }

    fn parents(&self) -> Config {
        self.config(&self.layers, "parent", "parent-work")
    }

    fn childs(&self) -> Config {
        self.config(&self.base, "upper", "work")
    }

    fn parent(&self) -> Guest {
        Guest::new(FileSpace::open(self.parents()).unwrap())
    }

    fn child(&self) -> Guest {
        Guest::new(FileSpace::open(self.childs()).unwrap())
    }

    fn seal(&mut self) {
        let layer = format!("sealed{}", self.layers.len());
        let index = self.place.path(&format!("{layer}.index"));
        std::fs::rename(self.place.path("parent"), self.place.path(&layer)).unwrap();
        std::fs::rename(self.place.path("parent-work/index"), index).unwrap();
        std::fs::create_dir(self.place.path("parent")).unwrap();
        std::fs::create_dir(self.place.path("parent-work/index")).unwrap();
        self.layers.insert(0, layer);
    }

    fn commit(&mut self, paths: &[&str], force: bool) -> Result<(), CommitFailure> {
        let mut own = self.childs().take().unwrap();
        let compared = own.compare(&mut |_| {}).unwrap();
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        let plan = own.plan_layer(&compared, &paths, force, &self.parents())?;
        self.seal();
        let layer = format!("sealed{}", self.layers.len());
        let files = self.place.path(&layer);
        std::fs::create_dir(&files).unwrap();
        if let Err(failure) = own.make_layer(&plan, &files) {
            std::fs::remove_dir_all(&files).unwrap();
            return Err(failure);
        }
        self.layers.insert(0, layer);
        self.base = self.layers.clone();
        let leaves = serde_json::to_string(plan.leaves()).unwrap();
        let leaves = serde_json::from_str(&leaves).unwrap();
        // What fails is done again.
        while own.leave(&leaves, &files).is_err() {}
        while own.leave(&leaves, &files).is_err() {}
        Ok(())
    }

    fn refused(&mut self, paths: &[&str]) -> Vec<(String, Refusal)> {
        let Err(CommitFailure::Refused(refused)) = self.commit(paths, false) else { panic!() };
        refused.into_iter().map(|(path, why)| (path.display().to_string(), why)).collect()
    }

    fn changes(&self) -> Vec<String> {
        let compared = self.childs().compare(&mut |_| {}).unwrap();
        assert!(compared.unreadable.is_empty());
        compared.changes.iter().map(|change| change.path.display().to_string()).collect()
    }
}

fn mode(mode: u32) -> SetAttr {
    SetAttr { mode: Some(mode), ..SetAttr::default() }
}

fn family() -> Family {
    let place = Place::new();
    for path in ["file", "gone", "was/deep/file", "d/host", "replaced/old", "theirs", "hard"] {
        place.write(&format!("lower/{path}"), path);
    }
    std::fs::hard_link(place.path("lower/hard"), place.path("lower/harder")).unwrap();
    Family::new(place, |guest| {
        guest.write("sealed", "sealed").unwrap();
        guest.append("file", "+").unwrap();
    })
}

#[test]
fn both_see_what_the_child_changed_and_what_its_parent_did_elsewhere() {
    let mut family = family();
    let mut parent = family.parent();
    parent.append("theirs", "+").unwrap();
    parent.write("d/new", "parent's").unwrap();
    parent.set("d", mode(0o750)).unwrap();
    drop(parent);
    let mut child = family.child();
    child.append("file", "+").unwrap();
    child.append("sealed", "+").unwrap();
    child.unlink("gone").unwrap();
    child.rename("was", "is", 0).unwrap();
    child.append("is/deep/file", "+").unwrap();
    child.append("d/host", "+").unwrap();
    child.unlink("replaced/old").unwrap();
    child.rmdir("replaced").unwrap();
    child.mkdir("replaced").unwrap();
    child.write("replaced/new", "new").unwrap();
    child.append("hard", "+").unwrap();
    child.write("made", "made").unwrap();
    child.link("made", "made-too").unwrap();
    let view = seen(&mut child);
    drop(child);
    family.commit(&[], false).unwrap();
    assert!(family.changes().is_empty());
    assert!(std::fs::read_dir(family.place.path("upper")).unwrap().next().is_none());
    let mut child = family.child();
    let mut expected: Vec<_> =
        view.into_iter().filter(|line| line != "theirs 100644 theirs").collect();
    expected.extend(["theirs 100644 theirs+", "d/new 100644 parent's"].map(str::to_owned));
    expected
        .iter_mut()
        .filter(|line| *line == "d 40755 ")
        .for_each(|line| *line = "d 40750 ".into());
    expected.sort();
    assert_eq!(seen(&mut child), expected);
    child.write("later", "child's").unwrap();
    drop(child);
    let mut parent = family.parent();
    assert_eq!(seen(&mut parent), expected);
    parent.append("made", "+").unwrap();
    parent.append("harder", "+").unwrap();
    assert_eq!(parent.read("made-too").unwrap(), "made+");
    assert_eq!(parent.read("hard").unwrap(), "hard++");
    assert_eq!(parent.find("later"), Err(Errno::ENOENT));
    assert_eq!(family.child().read("made-too").unwrap(), "made", "neither sees what comes later");
    assert_eq!(family.place.read("lower/file"), "file");
}

#[test]
fn what_the_parent_did_to_the_same_is_refused_until_it_is_overridden() {
    let mut family = family();
    let mut parent = family.parent();
    parent.append("file", "parent's").unwrap();
    parent.write("both", "parent's").unwrap();
    parent.unlink("gone").unwrap();
    parent.write("replaced/new", "parent's").unwrap();
    parent.rename("was", "is", 0).unwrap();
    drop(parent);
    let mut child = family.child();
    child.append("file", "child's").unwrap();
    child.write("both", "child's").unwrap();
    child.append("gone", "child's").unwrap();
    child.unlink("replaced/old").unwrap();
    child.rmdir("replaced").unwrap();
    child.append("was/deep/file", "child's").unwrap();
    child.write("new", "child's").unwrap();
    drop(child);
    let conflict = |path: &str, conflict| (path.to_owned(), Refusal::Conflict(conflict));
    assert_eq!(
        family.refused(&[]),
        [
            conflict("both", Conflict::Appeared),
            conflict("file", Conflict::Changed),
            conflict("gone", Conflict::Gone),
            conflict("was/deep/file", Conflict::Gone),
            conflict("replaced/new", Conflict::Appeared),
        ]
    );
    assert_eq!(family.refused(&["file"]), [conflict("file", Conflict::Changed)]);
    family.commit(&["new"], false).unwrap();
    assert_eq!(family.parent().read("new").unwrap(), "child's");
    assert_eq!(family.child().read("file").unwrap(), "file+child's");
    family.commit(&[], true).unwrap();
    let mut parent = family.parent();
    for (path, text) in [("file", "file+child's"), ("both", "child's"), ("gone", "gonechild's")] {
        assert_eq!(parent.read(path).unwrap(), text);
    }
    assert_eq!(parent.find("replaced"), Err(Errno::ENOENT));
    assert_eq!(parent.read("was/deep/file").unwrap(), "was/deep/filechild's");
    let view = seen(&mut parent);
    assert_eq!(seen(&mut family.child()), view);
}

#[test]
fn one_name_of_a_file_goes_without_what_is_written_to_the_other() {
    let mut family = family();
    let mut child = family.child();
    child.write("one", "text").unwrap();
    child.link("one", "two").unwrap();
    child.append("hard", "+").unwrap();
    drop(child);
    family.commit(&["one"], false).unwrap();
    let mut child = family.child();
    child.append("two", "+").unwrap();
    drop(child);
    assert_eq!(family.parent().read("one").unwrap(), "text");
    assert_eq!(family.child().read("one").unwrap(), "text");
    let linked = family.commit(&["hard"], false);
    assert!(
        matches!(linked, Err(CommitFailure::Selection(Unselectable::Linked { .. }))),
        "{linked:?}"
    );
    family.commit(&["hard", "harder"], false).unwrap();
    let links = |guest: &mut Guest| (guest.attr("hard").unwrap(), guest.attr("harder").unwrap());
    let (hard, harder) = links(&mut family.parent());
    assert_eq!((hard.inode, hard.links), (harder.inode, 2));
    assert_eq!(family.changes(), ["two"]);
    let two = std::fs::metadata(family.place.path("upper/two")).unwrap();
    assert_eq!(two.nlink(), 1);
}

#[test]
fn a_new_directory_hides_what_was_moved_from_its_place() {
    let mut family = family();
    let mut child = family.child();
    child.rename("was/deep", "deep", 0).unwrap();
    child.rmdir("was").unwrap();
    child.mkdir("was").unwrap();
    child.mkdir("was/deep").unwrap();
    let view = seen(&mut child);
    drop(child);
    family.commit(&[], false).unwrap();
    assert_eq!(seen(&mut family.parent()), view);
    assert_eq!(seen(&mut family.child()), view);
}

#[test]
fn a_failure_at_any_step_leaves_both_as_they_were_or_committed() {
    for (step, errno) in (1..).flat_map(|step| [(step, Errno::ENOSPC), (step, Errno::EIO)]) {
        let mut family = family();
        let mut child = family.child();
        child.append("file", "+").unwrap();
        child.unlink("gone").unwrap();
        child.rename("was", "is", 0).unwrap();
        child.append("hard", "+").unwrap();
        let view = seen(&mut child);
        drop(child);
        let before = seen(&mut family.parent());
        let (done, reached) = with_fault(step, Fault::Once(errno), || {
            family.commit(&["file", "is", "hard", "harder"], false)
        });
        let now = seen(&mut family.parent());
        match done {
            Ok(()) => assert!(now.contains(&"is/deep/file 100644 was/deep/file".to_owned())),
            Err(_) => assert_eq!(now, before, "{errno:?} at step {step}"),
        }
        assert_eq!(seen(&mut family.child()), view, "{errno:?} at step {step}");
        family.commit(&[], false).unwrap();
        assert_eq!(seen(&mut family.parent()), view, "{errno:?} at step {step}");
        if !reached {
            assert!(step > 20);
            break;
        }
    }
}

const FIRST: [[u8; 3]; 4] = [[1, 3, 4], [0, 1, 2], [5, 8, 9], [2, 6, 0]];

fn random(before: &[[u8; 3]]) -> Family {
    let place = Place::quick();
    for path in ["a/a/a", "a/a/b", "a/b", "b/a/a", "b/b/x", "c/a"] {
        place.write(&format!("lower/{path}"), path);
    }
    std::fs::hard_link(place.path("lower/a/b"), place.path("lower/b/linked")).unwrap();
    Family::new(place, |guest| FIRST.iter().chain(before).for_each(|step| does(guest, *step)))
}

fn does(guest: &mut Guest, [what, one, two]: [u8; 3]) {
    let path = |number: u8| PATHS[usize::from(number) % PATHS.len()];
    match what % 10 {
        9 => drop(guest.link(path(one), path(two))),
        what => change(guest, [what, one, two]),
    }
}

type Steps = Vec<[u8; 3]>;

#[test]
fn whatever_the_child_did_its_parent_has_it() {
    let check = bolero::check!().with_type::<(Steps, Steps)>().with_iterations(400);
    check.for_each(|(before, steps)| child_alone(before, steps));
}

fn child_alone(before: &[[u8; 3]], steps: &[[u8; 3]]) {
    let mut family = random(before);
    let mut child = family.child();
    steps.iter().for_each(|step| does(&mut child, *step));
    let view = seen(&mut child);
    drop(child);
    for path in ["a", "b/a", "c"] {
        match family.commit(&[path], false) {
            Ok(()) | Err(CommitFailure::Selection(_)) => {}
            // A renamed file whose old name went alone.
            Err(CommitFailure::Refused(refused)) => assert!(
                refused.iter().all(|(_, why)| *why == Refusal::Conflict(Conflict::Gone)),
                "{refused:?}"
            ),
            Err(failure) => panic!("{path}: {failure:?}"),
        }
        assert_eq!(seen(&mut family.child()), view, "{path}");
    }
    family.commit(&[], true).unwrap();
    assert_eq!(seen(&mut family.parent()), view);
    assert_eq!(seen(&mut family.child()), view);
    assert!(family.changes().is_empty(), "{:?}", family.changes());
    // And its own parent has it from there.
    let gathered = family.parents().gather(&mut |_| {}).unwrap();
    family.layers.clear();
    let config = family.parents();
    config.settle_gathered(&gathered).unwrap();
    let mut own = config.take().unwrap();
    let compared = own.compare(&mut |_| {}).unwrap();
    let mut conflicts = compared.changes.iter().filter_map(|change| change.conflict);
    assert!(conflicts.all(|conflict| conflict == Conflict::Gone));
    let plan = own.plan(&compared, &[], true).unwrap();
    own.commit(plan).unwrap();
    drop(own);
    assert_eq!(tree(&family.place.path("lower")), view);
    assert_eq!(seen(&mut family.parent()), view);
}

#[test]
fn whatever_both_did_nothing_of_either_is_lost_without_a_word() {
    let check = bolero::check!().with_type::<(Steps, Steps)>().with_iterations(400);
    check.for_each(|(parents, childs)| parent_and_child(parents, childs));
}

fn parent_and_child(parents: &[[u8; 3]], childs: &[[u8; 3]]) {
    let at = |guest: &mut Guest| -> BTreeMap<String, String> {
        let lines = seen(guest);
        let each = lines.iter().map(|line| line.split_once(' ').unwrap());
        each.map(|(path, rest)| (path.to_owned(), rest.to_owned())).collect()
    };
    let mut family = random(&[]);
    let base = at(&mut family.child());
    let mut parent = family.parent();
    parents.iter().take(4).for_each(|step| does(&mut parent, *step));
    let theirs = at(&mut parent);
    drop(parent);
    let mut child = family.child();
    childs.iter().take(6).for_each(|step| does(&mut child, *step));
    let ours = at(&mut child);
    drop(child);
    let compared = family.childs().compare(&mut |_| {}).unwrap();
    // What lies in a directory that was moved goes with it.
    if compared.changes.iter().any(|change| matches!(change.what, What::Renamed { .. })) {
        return;
    }
    let committed = family.commit(&[], false);
    let all = base.keys().chain(theirs.keys()).chain(ours.keys());
    match committed {
        Err(CommitFailure::Refused(_)) => assert_ne!(base, theirs),
        Err(failure) => panic!("{failure:?}"),
        Ok(()) => {
            let now = at(&mut family.parent());
            for path in all {
                let [base, theirs, ours, now] =
                    [&base, &theirs, &ours, &now].map(|tree| tree.get(path));
                let expected = if ours == base { theirs } else { ours };
                assert!(
                    ours == base || theirs == base || theirs == ours,
                    "{path}: {base:?} {theirs:?} {ours:?}"
                );
                assert_eq!(now, expected, "{path}");
            }
            assert_eq!(at(&mut family.child()), now);
        }
    }
}
