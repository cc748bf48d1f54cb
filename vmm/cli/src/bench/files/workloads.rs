//! What is done with files, in the same way on every system.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use sys::clock::monotonic_ns;

use super::systems::sync;
use super::tree::{Noise, Tree};
use crate::failure::{Failure, Outcome, While};

/// Bytes of a small read or write.
const PAGE: usize = 4096;

/// Bytes of a read in sequence.
const BLOCK: usize = 128 << 10;

/// How often a file is read in sequence where it is in the cache: once is over too soon.
const WARM_READS: usize = 4;

/// What a turn begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// A turn that does not count went before.
    Warm,
    /// Every cache is empty, and the system mounted anew.
    Cold,
    /// Files that nobody has touched.
    Fresh,
}

/// One figure of a turn.
pub(super) struct Row {
    pub(super) name: &'static str,
    /// The goal: at most so many times overlayfs.
    pub(super) limit: Option<f64>,
}

/// Something to do.
pub(super) struct Workload {
    pub(super) rows: &'static [Row],
    pub(super) start: Start,
    work: fn(&Turn<'_>) -> Outcome<Vec<f64>>,
}

impl Workload {
    /// Does it; the seconds of each row.
    pub(super) fn turn(&self, turn: &Turn<'_>) -> Outcome<Vec<f64>> {
        (self.work)(turn)
    }
}

/// One system's turn in a round.
pub(super) struct Turn<'a> {
    pub(super) root: &'a Path,
    /// Of the file system that all are on.
    pub(super) disk: &'a Path,
    pub(super) tree: &'a Tree,
    pub(super) round: usize,
}

const WARM_METADATA: Option<f64> = Some(1.5);
const COLD_METADATA: Option<f64> = Some(3.0);
const CHANGES: Option<f64> = Some(3.0);
const SEQUENTIAL: Option<f64> = Some(1.1);

/// Every workload; those of git only with a repository.
pub(super) fn all(has_repository: bool) -> Vec<Workload> {
    use Start::{Cold, Fresh, Warm};
    let status: [Workload; 2] = [
        one(Warm, &[Row { name: "git status, warm", limit: WARM_METADATA }], status),
        one(Cold, &[Row { name: "git status, cold", limit: COLD_METADATA }], status),
    ];
    let others = [
        one(Warm, &[Row { name: "find, warm", limit: WARM_METADATA }], find),
        one(Cold, &[Row { name: "find, cold", limit: COLD_METADATA }], find),
        one(Warm, &EXTRACT, extract),
        one(Warm, &CHANGE, change),
        one(Warm, &[Row { name: "open and read small files, warm", limit: None }], read_small),
        one(Cold, &[Row { name: "open and read small files, cold", limit: None }], read_small),
        one(Warm, &[Row { name: "sequential read, warm", limit: SEQUENTIAL }], read_warm),
        one(Cold, &[Row { name: "sequential read, cold", limit: SEQUENTIAL }], read_large),
        one(Warm, &[Row { name: "sequential write", limit: None }], write_large),
        one(Warm, &RANDOM, random),
        one(Fresh, &[Row { name: "first 4 KiB writes, lower", limit: None }], write_lower),
    ];
    status.into_iter().filter(|_| has_repository).chain(others).collect()
}

const EXTRACT: [Row; 2] = [
    Row { name: "extract small files", limit: CHANGES },
    Row { name: "remove them", limit: CHANGES },
];

const CHANGE: [Row; 3] = [
    Row { name: "create 4 KiB files", limit: CHANGES },
    Row { name: "rename them", limit: CHANGES },
    Row { name: "unlink them", limit: CHANGES },
];

const RANDOM: [Row; 3] = [
    Row { name: "random 4 KiB reads, lower", limit: None },
    Row { name: "random 4 KiB reads, upper", limit: None },
    Row { name: "random 4 KiB writes, upper", limit: None },
];

fn one(start: Start, rows: &'static [Row], work: fn(&Turn<'_>) -> Outcome<Vec<f64>>) -> Workload {
    Workload { rows, start, work }
}

/// Seconds that `work` takes.
pub(super) fn timed(work: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    let start_ns = monotonic_ns();
    work()?;
    Ok((monotonic_ns() - start_ns) as f64 / 1e9)
}

/// The same for work on files below `root`.
fn timed_io(root: &Path, work: impl FnOnce() -> std::io::Result<()>) -> Outcome<f64> {
    timed(|| work().or_fail(|| format!("files in {}", root.display())))
}

fn status(turn: &Turn<'_>) -> Outcome<Vec<f64>> {
    Ok(vec![timed(|| turn.tree.status(turn.root))?])
}

/// The kind, size and times of every file, as `find -newer` needs them.
fn find(turn: &Turn<'_>) -> Outcome<Vec<f64>> {
    let mut found = 0;
    let seconds = timed_io(turn.root, || {
        // Git's own files are not of the same number everywhere.
        for entry in fs::read_dir(turn.root.join("repository"))? {
            let entry = entry?;
            if entry.metadata()?.is_dir() && entry.file_name() != ".git" {
                found += walk(&entry.path())?;
            }
        }
        Ok(())
    })?;
    let expected = turn.tree.small.len();
    if found != expected {
        return Err(Failure::new(format!("{found} files are found where {expected} are")));
    }
    Ok(vec![seconds])
}

fn walk(directory: &Path) -> std::io::Result<usize> {
    let mut found = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        found += match entry.metadata()?.is_dir() {
            true => walk(&entry.path())?,
            false => 1,
        };
    }
    Ok(found)
}

fn extract(turn: &Turn<'_>) -> Outcome<Vec<f64>> {
    let target = turn.root.join("extracted");
    let extract = timed_io(turn.root, || {
        fs::create_dir(&target)?;
        turn.tree.extract(&target)
    })?;
    sync(turn.disk)?;
    let remove = timed_io(turn.root, || fs::remove_dir_all(&target))?;
    Ok(vec![extract, remove])
}

fn change(turn: &Turn<'_>) -> Outcome<Vec<f64>> {
    let target = turn.root.join("changed");
    fs::create_dir(&target).or_fail(|| format!("cannot make {}", target.display()))?;
    let names = |prefix: &'static str| {
        let target = &target;
        (0..turn.tree.sizes.changes).map(move |at| target.join(format!("{prefix}{at:05}")))
    };
    let [old, new] = ["old", "new"].map(|prefix| names(prefix).collect::<Vec<PathBuf>>());
    let page = [7; PAGE];
    let create = timed_io(turn.root, || {
        old.iter().try_for_each(|name| File::create_new(name)?.write_all(&page))
    })?;
    let rename = timed_io(turn.root, || {
        old.iter().zip(&new).try_for_each(|(old, new)| fs::rename(old, new))
    })?;
    let unlink = timed_io(turn.root, || new.iter().try_for_each(fs::remove_file))?;
    fs::remove_dir(&target).or_fail(|| format!("cannot remove {}", target.display()))?;
    Ok(vec![create, rename, unlink])
}

fn read_small(turn: &Turn<'_>) -> Outcome<Vec<f64>> {
    let root = turn.root.join("repository");
    let mut buffer = [0; 2 * PAGE];
    let mut wrong = None;
    let seconds = timed_io(turn.root, || {
        for small in &turn.tree.small {
            let mut file = File::open(root.join(&small.name))?;
            let length = file.read(&mut buffer)?;
            if file.read(&mut buffer[length..])? != 0 || length != turn.tree.contents(small).len() {
                wrong = Some(&small.name);
            }
        }
        Ok(())
    })?;
    match wrong {
        Some(name) => Err(Failure::new(format!("{} has not its length", name.display()))),
        None => Ok(vec![seconds]),
    }
}

fn read_large(turn: &Turn<'_>) -> Outcome<Vec<f64>> {
    let mut total = 0;
    let mut buffer = vec![0; BLOCK];
    let seconds = timed_io(turn.root, || {
        let mut file = File::open(turn.root.join("large"))?;
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(()),
                length => total += length,
            }
        }
    })?;
    match total == turn.tree.sizes.large_bytes {
        true => Ok(vec![seconds]),
        false => Err(Failure::new(format!("the large file has {total} bytes"))),
    }
}

fn read_warm(turn: &Turn<'_>) -> Outcome<Vec<f64>> {
    let mut seconds = 0.0;
    for _ in 0..WARM_READS {
        seconds += read_large(turn)?[0];
    }
    Ok(vec![seconds / WARM_READS as f64])
}

fn write_large(turn: &Turn<'_>) -> Outcome<Vec<f64>> {
    let path = turn.root.join("written");
    let seconds = timed_io(turn.root, || turn.tree.fill(&path, turn.tree.sizes.large_bytes))?;
    fs::remove_file(&path).or_fail(|| format!("cannot remove {}", path.display()))?;
    Ok(vec![seconds])
}

fn random(turn: &Turn<'_>) -> Outcome<Vec<f64>> {
    let upper = turn.root.join("upper");
    if !upper.exists() {
        let written = turn.tree.fill(&upper, turn.tree.sizes.scattered_bytes);
        written.or_fail(|| format!("cannot write {}", upper.display()))?;
    }
    let lower = turn.root.join("scattered/read");
    let read = |path: &Path| {
        timed_io(turn.root, || {
            let file = File::open(path)?;
            let mut page = [0; PAGE];
            scattered(turn, |offset| file.read_exact_at(&mut page, offset))
        })
    };
    let seconds = [read(&lower)?, read(&upper)?];
    Ok([&seconds[..], &[write(turn, &upper)?]].concat())
}

fn write_lower(turn: &Turn<'_>) -> Outcome<Vec<f64>> {
    Ok(vec![write(turn, &turn.root.join("scattered").join(turn.round.to_string()))?])
}

fn write(turn: &Turn<'_>, path: &Path) -> Outcome<f64> {
    timed_io(turn.root, || {
        let file = OpenOptions::new().write(true).open(path)?;
        let page = [9; PAGE];
        scattered(turn, |offset| file.write_all_at(&page, offset))
    })
}

/// Accesses whole pages of a file without order.
fn scattered(
    turn: &Turn<'_>,
    mut access: impl FnMut(u64) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut random = Noise::new();
    let pages = turn.tree.sizes.scattered_bytes / PAGE;
    (0..turn.tree.sizes.accesses).try_for_each(|_| access((random.below(pages) * PAGE) as u64))
}
