//! A tree as a value, to be compared with another or with itself later.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Differences that are shown.
const SHOWN: usize = 12;

/// What a file is, without what is the file system's own to choose.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    /// Of everything but directories.
    length: u64,
    links: u64,
    modified: (i64, i64),
    /// A hash of the contents, or of the target.
    contents: u64,
}

/// Every file of a tree, by its path in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeMap<PathBuf, Entry>);

impl Snapshot {
    pub(super) fn of(root: &Path) -> Self {
        let mut entries = BTreeMap::new();
        add(root, Path::new(""), &mut entries);
        Self(entries)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Without the times of what was modified since `start`, which are the clock's.
    pub(super) fn of_before(mut self, start: SystemTime) -> Self {
        let start = start.duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
        let recent = self.0.values_mut().filter(|entry| entry.modified.0 >= start);
        recent.for_each(|entry| entry.modified = (0, 0));
        self
    }

    /// Fails with the first differences.
    pub(super) fn must_be(&self, other: &Self, what: &str) {
        let names: BTreeSet<&PathBuf> = self.0.keys().chain(other.0.keys()).collect();
        let differences: Vec<String> = names
            .into_iter()
            .map(|name| (name, self.0.get(name), other.0.get(name)))
            .filter(|(_, ours, theirs)| ours != theirs)
            .take(SHOWN)
            .map(|(name, ours, theirs)| format!("{}: {ours:?} against {theirs:?}", name.display()))
            .collect();
        assert!(differences.is_empty(), "{what}:\n{}", differences.join("\n"));
    }
}

fn add(root: &Path, path: &Path, entries: &mut BTreeMap<PathBuf, Entry>) {
    // Not joined with nothing: that would end in a slash, and follow.
    let whole = if path == Path::new("") { root.to_owned() } else { root.join(path) };
    let metadata = fs::symlink_metadata(&whole).unwrap_or_else(|error| {
        panic!("{}: {error}", whole.display());
    });
    let is_directory = metadata.is_dir();
    let mut hasher = DefaultHasher::new();
    if metadata.is_file() {
        fs::read(&whole).unwrap().hash(&mut hasher);
    } else if metadata.is_symlink() {
        fs::read_link(&whole).unwrap().hash(&mut hasher);
    }
    let entry = Entry {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        device: metadata.rdev(),
        length: if is_directory { 0 } else { metadata.len() },
        // Unions need not count the directories in a directory.
        links: if is_directory { 0 } else { metadata.nlink() },
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        contents: hasher.finish(),
    };
    entries.insert(path.to_owned(), entry);
    if is_directory {
        for entry in fs::read_dir(&whole).unwrap() {
            add(root, &path.join(entry.unwrap().file_name()), entries);
        }
    }
}
