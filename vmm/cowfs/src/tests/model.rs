//! Random operations against a tree in memory: after each the two agree, and so does the next
//! server; the parent's tree stays as it was.

use super::guest::{Guest, Place};
use fuse::record::{TYPE_DIRECTORY, TYPE_REGULAR, TYPE_SYMLINK};
use fuse::request::rename_flags;
use fuse::{Errno, Handle};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

/// What a path is. Names of one file share it.
#[derive(Clone, Debug)]
enum Thing {
    Directory,
    File(Rc<RefCell<String>>),
    Link(Rc<str>),
}

impl Thing {
    fn is_directory(&self) -> bool {
        matches!(self, Thing::Directory)
    }

    fn is_same(&self, other: &Thing) -> bool {
        match (self, other) {
            (Thing::File(a), Thing::File(b)) => Rc::ptr_eq(a, b),
            (Thing::Link(a), Thing::Link(b)) => Rc::ptr_eq(a, b),
            _ => false,
        }
    }
}

#[derive(Debug, Default)]
struct Tree(BTreeMap<String, Thing>);

const PATHS: [&str; 14] = [
    "a", "b", "c", "a/a", "a/b", "a/c", "b/a", "b/b", "c/a", "a/a/a", "a/a/b", "b/a/a", "c/a/b",
    "a/a/a/a",
];

impl Tree {
    fn get(&self, path: &str) -> Result<&Thing, Errno> {
        self.directory_of(path)?;
        self.0.get(path).ok_or(Errno::ENOENT)
    }

    /// Whether the path's directory is one.
    fn directory_of(&self, path: &str) -> Result<(), Errno> {
        let parents = path.match_indices('/').map(|(end, _)| &path[..end]);
        for parent in parents {
            match self.0.get(parent) {
                None => return Err(Errno::ENOENT),
                Some(Thing::Directory) => {}
                Some(_) => return Err(Errno::ENOTDIR),
            }
        }
        Ok(())
    }

    fn absent(&self, path: &str) -> Result<(), Errno> {
        match self.get(path) {
            Ok(_) => Err(Errno::EEXIST),
            Err(Errno::ENOENT) => self.directory_of(path),
            Err(errno) => Err(errno),
        }
    }

    fn has_names_in(&self, path: &str) -> bool {
        self.0.keys().any(|key| key.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }

    fn write(&mut self, path: &str, text: &str) -> Result<(), Errno> {
        match self.get(path) {
            Ok(Thing::File(content)) => *content.borrow_mut() = text.into(),
            Ok(Thing::Directory) => return Err(Errno::EISDIR),
            Ok(Thing::Link(_)) => return Err(Errno::ELOOP),
            Err(_) => {
                self.absent(path)?;
                self.0.insert(path.into(), Thing::File(Rc::new(RefCell::new(text.into()))));
            }
        }
        Ok(())
    }

    fn append(&mut self, path: &str, text: &str) -> Result<(), Errno> {
        match self.get(path)? {
            Thing::File(content) => content.borrow_mut().push_str(text),
            Thing::Directory => return Err(Errno::EISDIR),
            Thing::Link(_) => return Err(Errno::ELOOP),
        }
        Ok(())
    }

    fn make(&mut self, path: &str, thing: Thing) -> Result<(), Errno> {
        self.absent(path)?;
        self.0.insert(path.into(), thing);
        Ok(())
    }

    fn link(&mut self, old: &str, new: &str) -> Result<(), Errno> {
        let thing = self.get(old)?.clone();
        if self.directory_of(new).is_ok() && thing.is_directory() {
            return Err(Errno::EPERM);
        }
        self.make(new, thing)
    }

    fn unlink(&mut self, path: &str) -> Result<(), Errno> {
        if self.get(path)?.is_directory() {
            return Err(Errno::EISDIR);
        }
        self.0.remove(path);
        Ok(())
    }

    fn rmdir(&mut self, path: &str) -> Result<(), Errno> {
        if !self.get(path)?.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if self.has_names_in(path) {
            return Err(Errno::ENOTEMPTY);
        }
        self.0.remove(path);
        Ok(())
    }

    fn rename(&mut self, old: &str, new: &str) -> Result<(), Errno> {
        self.directory_of(old)?;
        self.directory_of(new)?;
        let source = self.get(old)?.clone();
        if let Ok(target) = self.get(new) {
            match (source.is_directory(), target.is_directory()) {
                _ if old == new || source.is_same(target) => return Ok(()),
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                (true, true) if self.has_names_in(new) => return Err(Errno::ENOTEMPTY),
                _ => {}
            }
        }
        let moved = self.take(old);
        self.put(new, moved);
        Ok(())
    }

    fn exchange(&mut self, one: &str, two: &str) -> Result<(), Errno> {
        self.directory_of(one)?;
        self.directory_of(two)?;
        if self.get(one)?.is_same(self.get(two)?) || one == two {
            return Ok(());
        }
        let [first, second] = [one, two].map(|path| self.take(path));
        self.put(two, first);
        self.put(one, second);
        Ok(())
    }

    /// Takes what is at a path and below it away, by the rest of each path.
    fn take(&mut self, path: &str) -> Vec<(String, Thing)> {
        let is_it = |rest: &str| rest.is_empty() || rest.starts_with('/');
        let rest =
            |key: &String| key.strip_prefix(path).filter(|rest| is_it(rest)).map(String::from);
        let rests: Vec<String> = self.0.keys().filter_map(rest).collect();
        let each = rests.into_iter().filter_map(|rest| {
            let thing = self.0.remove(&format!("{path}{rest}"))?;
            Some((rest, thing))
        });
        each.collect()
    }

    fn put(&mut self, path: &str, things: Vec<(String, Thing)>) {
        self.0.extend(things.into_iter().map(|(rest, thing)| (format!("{path}{rest}"), thing)));
    }

    /// What can be seen: a line for each path.
    fn seen(&self) -> Vec<String> {
        let line = |(path, thing): (&String, &Thing)| match thing {
            Thing::Directory => format!("{path} /"),
            Thing::File(content) => format!("{path} = {}", content.borrow()),
            Thing::Link(target) => format!("{path} -> {target}"),
        };
        let mut lines: Vec<_> = self.0.iter().map(line).collect();
        lines.sort();
        lines
    }
}

/// The same of a guest's view.
fn seen(guest: &mut Guest) -> Vec<String> {
    let (mut lines, mut directories) = (Vec::new(), vec![String::new()]);
    while let Some(directory) = directories.pop() {
        let plus = guest.list_plus(&directory).unwrap();
        let names: Vec<_> = plus.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(guest.list(&directory, 200).unwrap(), names);
        for (name, attr) in plus {
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            match attr.expect("nobody else changes the tree").file_type() {
                TYPE_DIRECTORY => {
                    lines.push(format!("{path} /"));
                    directories.push(path);
                }
                TYPE_REGULAR => lines.push(format!("{path} = {}", guest.read(&path).unwrap())),
                TYPE_SYMLINK => lines.push(format!("{path} -> {}", guest.readlink(&path).unwrap())),
                other => panic!("{path} is {other:o}"),
            }
        }
    }
    lines.sort();
    lines
}

/// The parent's tree, with what must not change.
fn parent(place: &Place, tree: &mut Tree) {
    for (layer, names) in [("below", ["a/a", "a/b", "c/a"]), ("lower", ["a/a/a", "a/b", "b/a/a"])] {
        for name in names {
            if place.path(&format!("{layer}/{name}")).is_dir() {
                continue;
            }
            place.write(&format!("{layer}/{name}"), &format!("{layer} {name}"));
        }
    }
    // `a/a` is a file below and a directory in the lower above it, which hides the file.
    for directory in ["a", "a/a", "b", "b/a", "c"] {
        tree.make(directory, Thing::Directory).unwrap();
    }
    for (path, text) in [
        ("a/a/a", "lower a/a/a"),
        ("a/b", "lower a/b"),
        ("b/a/a", "lower b/a/a"),
        ("c/a", "below c/a"),
    ] {
        tree.write(path, text).unwrap();
    }
    std::os::unix::fs::symlink("a/b", place.path("lower/b/b")).unwrap();
    tree.make("b/b", Thing::Link("a/b".into())).unwrap();
}

fn snapshot(root: &Path, lines: &mut Vec<String>) {
    for entry in std::fs::read_dir(root).unwrap() {
        let (path, data) = entry.map(|e| (e.path(), e.metadata().unwrap())).unwrap();
        let text = match data.is_file() {
            // What stands for a link whose owner the host cannot have may be anything.
            true => String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned(),
            false => "".into(),
        };
        lines.push(format!("{path:?} {text} {:?} {:?}", data.modified(), data.permissions()));
        if data.is_dir() {
            snapshot(&path, lines);
        }
    }
    lines.sort();
}

fn both(place: &Place) -> Vec<String> {
    let mut lines = Vec::new();
    snapshot(&place.path("lower"), &mut lines);
    snapshot(&place.path("below"), &mut lines);
    lines
}

/// A sealed layer.
fn layer(place: &Place, number: usize) -> Vec<String> {
    let mut lines = Vec::new();
    snapshot(&place.path(&format!("layer{number}")), &mut lines);
    lines
}

fn told((operation, first, second): (u8, u8, u8)) -> String {
    const NAMES: [&str; 10] = [
        "write", "append", "mkdir", "symlink", "unlink", "rmdir", "link", "rename", "exchange",
        "rename",
    ];
    let path = |byte| PATHS[usize::from(byte) % PATHS.len()];
    format!("{} {} {}", NAMES[usize::from(operation) % NAMES.len()], path(first), path(second))
}

/// One operation on both; the results must be the same.
fn step(guest: &mut Guest, tree: &mut Tree, (operation, first, second): (u8, u8, u8)) {
    let path = PATHS[usize::from(first) % PATHS.len()];
    let other = PATHS[usize::from(second) % PATHS.len()];
    let text = format!("{first}.{second}");
    let nothing = |_| ();
    let is_within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
    };
    let (ours, expected) = match operation % 10 {
        0 => (guest.write(path, &text), tree.write(path, &text)),
        1 => (guest.append(path, &text), tree.append(path, &text)),
        2 => (guest.mkdir(path).map(nothing), tree.make(path, Thing::Directory)),
        3 => (guest.symlink(path, other).map(nothing), tree.make(path, Thing::Link(other.into()))),
        4 => (guest.unlink(path), tree.unlink(path)),
        5 => (guest.rmdir(path), tree.rmdir(path)),
        6 => (guest.link(path, other).map(nothing), tree.link(path, other)),
        8 => {
            let ours = guest.rename(path, other, rename_flags::EXCHANGE);
            if is_within(path, other) || is_within(other, path) {
                assert!(ours.is_err(), "of a directory with what is in it");
                return;
            }
            (ours, tree.exchange(path, other))
        }
        _ => {
            let ours = guest.rename(path, other, 0);
            let into_itself = is_within(other, path);
            let directory = tree.get(path).is_ok_and(Thing::is_directory);
            if directory && into_itself {
                assert!(ours.is_err());
                return;
            }
            (ours, tree.rename(path, other))
        }
    };
    assert_eq!(ours, expected, "{}", told((operation, first, second)));
}

/// Every so many operations the upper is sealed, if ever: what is seen stays the same.
fn run(operations: &[(u8, u8, u8)], sealed: usize) {
    let (place, mut tree) = (Place::new(), Tree::default());
    parent(&place, &mut tree);
    let before = both(&place);
    let mut layers = Vec::new();
    let mut guest = place.guest();
    assert_eq!(seen(&mut guest), tree.seen());
    for (index, operation) in operations.iter().enumerate() {
        step(&mut guest, &mut tree, *operation);
        assert_eq!(seen(&mut guest), tree.seen(), "after {}", told(*operation));
        if index % sealed == sealed - 1 {
            if index % 2 == 0 {
                drop(guest);
                place.seal();
                guest = place.guest();
            } else {
                place.seal_under(&guest);
            }
            layers.push(layer(&place, layers.len()));
            assert_eq!(seen(&mut guest), tree.seen(), "sealed after {}", told(*operation));
        } else if index % 16 == 15 {
            guest = guest.restart(&place);
        } else if index % 16 == 7 {
            guest = guest.resumed(&place);
            assert_eq!(seen(&mut guest), tree.seen(), "resumed after {}", told(*operation));
        }
    }
    assert_eq!(both(&place), before, "the parent's tree stays as it was");
    for (number, before) in layers.iter().enumerate() {
        assert_eq!(layer(&place, number), *before, "nobody writes what is sealed");
    }
    guest = guest.restart(&place);
    assert_eq!(seen(&mut guest), tree.seen());
    assert_eq!(place.left_in_work(), 0);
    let open = guest.read_at(Handle(1 << 40), 0);
    assert_eq!(open, Err(Errno::EBADF));
}

#[test]
fn any_operations_agree_with_a_tree_in_memory() {
    bolero::check!()
        .with_iterations(60)
        .with_max_len(300)
        .with_type::<Vec<(u8, u8, u8)>>()
        .for_each(|operations| run(operations, usize::MAX));
}

#[test]
fn any_operations_in_a_chain_agree_with_a_tree_in_memory() {
    bolero::check!()
        .with_iterations(60)
        .with_max_len(300)
        .with_type::<(u8, Vec<(u8, u8, u8)>)>()
        .for_each(|(every, operations)| run(operations, 3 + usize::from(every % 16)));
}

#[test]
fn a_long_life_agrees_with_a_tree_in_memory() {
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let operations: Vec<_> = (0..1500)
        .map(|_| {
            let bytes = random().to_le_bytes();
            (bytes[2], bytes[4], bytes[6])
        })
        .collect();
    run(&operations, usize::MAX);
    run(&operations, 150);
}
