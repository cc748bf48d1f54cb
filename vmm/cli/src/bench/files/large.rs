//! The first `ls` in a tree of a million files, against one of ten.

use std::fs::{self, File};
use std::path::Path;

use super::systems::{self, Kind, System};
use super::workloads::timed;
use crate::bench::orders::fair;
use crate::failure::{Failure, Outcome, While};
use crate::progress::Progress;
use crate::report::{Growth, Spread};

/// Entries of the root of both trees: `ls` shows the same of both.
const TOP: usize = 10;

/// Directories in each entry of the large one's root, and files in each of those.
const INNER: usize = 100;
const EACH: usize = 1000;

/// Mounts both trees of every kind in turns, from empty caches where that can be, and lists them.
pub(super) fn measure(
    rounds: u32,
    place: &Path,
    kinds: &[Kind],
    progress: &Progress,
) -> Outcome<Vec<Growth>> {
    progress.step("making a tree of a million files");
    let trees = ["ten", "million"].map(|name| place.join(name));
    populate(&trees).or_fail(|| format!("cannot fill {}; is its disk full?", place.display()))?;
    // By kind, then by tree.
    let mut taken = vec![[Vec::new(), Vec::new()]; kinds.len()];
    let orders = fair(kinds.len());
    for round in 0..rounds as usize {
        progress.step(&format!("first ls: round {} of {rounds}", round + 1));
        for &at in &orders[round % orders.len()] {
            for tree in [round % 2, 1 - round % 2] {
                let ms = progress.quiet(|| first_ls(kinds[at], place, &trees[tree]))?;
                taken[at][tree].push(ms);
            }
        }
    }
    let growth = |(kind, [ten, million]): (&Kind, &[Vec<f64>; 2])| Growth {
        name: kind.name(),
        ten_ms: Spread::of(ten),
        million_ms: Spread::of(million),
        ratio: Spread::of_ratios(million, ten),
    };
    Ok(kinds.iter().zip(&taken).map(growth).collect())
}

/// Milliseconds from the mount to the last entry's attributes.
fn first_ls(kind: Kind, place: &Path, tree: &Path) -> Outcome<f64> {
    let home = place.join(format!("{}-first-ls", kind.name()));
    let mut system = System::unmounted(kind, &home, tree)?;
    if kind == Kind::Plain {
        system.root = tree.to_owned();
    }
    if systems::can_drop_caches() {
        systems::drop_caches()?;
    }
    let mut found = 0;
    let seconds = timed(|| {
        system.mount()?;
        let failed = || format!("cannot list {}", system.root.display());
        for entry in fs::read_dir(&system.root).or_fail(failed)? {
            entry.and_then(|entry| entry.metadata()).or_fail(failed)?;
            found += 1;
        }
        Ok(())
    })?;
    system.unmount()?;
    match found == TOP {
        true => Ok(seconds * 1000.0),
        false => Err(Failure::new(format!("{}: {found} entries for {TOP}", kind.name()))),
    }
}

/// Ten files; and ten directories that hold a million, of few inodes: names are what counts.
fn populate([ten, million]: &[std::path::PathBuf; 2]) -> std::io::Result<()> {
    fs::create_dir(ten)?;
    for at in 0..TOP {
        File::create_new(ten.join(format!("entry{at}")))?;
        let top = million.join(format!("entry{at}"));
        for inner in 0..INNER {
            let directory = top.join(format!("inner{inner:02}"));
            fs::create_dir_all(&directory)?;
            let first = directory.join("file000");
            File::create_new(&first)?;
            for each in 1..EACH {
                fs::hard_link(&first, directory.join(format!("file{each:03}")))?;
            }
        }
    }
    Ok(())
}
