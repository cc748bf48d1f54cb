//! Files through a mounted space, against the plain file system and two other unions.
//!
//! All on one disk, with the same lower tree, in interleaved rounds of one run.

mod disk;
mod large;
mod systems;
mod tree;
mod workloads;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::orders::fair;
use crate::failure::{Outcome, While};
use crate::lab;
use crate::progress::Progress;
use crate::report::{FileSystem, Files, Job, Spread};
use systems::{Kind, System};
use tree::Tree;
use workloads::{Start, Workload};

pub use tree::Sizes;

/// What is measured, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rounds, each of every system.
    pub rounds: u32,
    /// How much.
    pub sizes: Sizes,
    /// Also a tree of a million files against one of ten.
    pub large: bool,
}

/// A directory of a run's own, removed with all in it when this is dropped.
#[derive(Debug)]
pub struct Place(PathBuf);

impl Place {
    /// Makes it in `parent`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(parent: &Path) -> Outcome<Self> {
        let failed = || {
            format!(
                "cannot make a directory in {}; choose another by --directory",
                parent.display()
            )
        };
        let name = format!("portspace-bench-{}", std::process::id());
        let path = fs::canonicalize(parent).or_fail(failed)?.join(name);
        fs::create_dir(&path).or_fail(failed)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        systems::open_up(&self.0);
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("portspace: cannot remove {}: {error}", self.0.display());
        }
    }
}

/// `bench files`, inside the lab, in a [`Place`].
///
/// # Errors
/// A system could not be mounted, or does not do what is asked of it.
pub fn inside(plan: &Plan, place: &Path, json: bool) -> Outcome<ExitCode> {
    lab::settle()?;
    let progress = Progress::new();
    progress.step("making a file system");
    let (place, disk) = match disk::make(place) {
        Ok(root) => (root, "an ext4 of its own".to_owned()),
        Err(failure) => (place.to_owned(), format!("the disk as it is: {}", failure.chain())),
    };
    let mut systems = Vec::new();
    let mut file_systems = Vec::new();
    let tree = Tree::new(plan.sizes, plan.rounds);
    let lower = place.join("lower");
    progress.step("making the lower tree");
    tree.populate(&lower)?;
    for kind in Kind::ALL {
        progress.step(&format!("mounting: {}", kind.name()));
        let (system, version, left_out) = match System::set_up(kind, &place, &lower) {
            Ok(Some(system)) => {
                if kind == Kind::Plain {
                    tree.populate(&system.root)?;
                }
                let version = system.version.clone();
                (Some(system), version, None)
            }
            Ok(None) => (None, None, Some(kind.missing())),
            Err(failure) if kind.is_optional() => (None, None, Some(failure.chain())),
            Err(failure) => return Err(failure),
        };
        if let Some(why) = &left_out {
            progress.done(&format!("{} is left out: {why}", kind.name()));
        }
        systems.extend(system);
        file_systems.push(FileSystem { name: kind.name(), version, left_out });
    }
    for system in &systems {
        tree.settle(&system.root)?;
    }
    let mut report = Files { disk, systems: file_systems, jobs: Vec::new(), first_ls: Vec::new() };
    for workload in workloads::all(tree.has_repository()) {
        if workload.start == Start::Cold && !systems::can_drop_caches() {
            continue;
        }
        let jobs = measure(&workload, plan, &tree, &mut systems, &progress)?;
        report.jobs.extend(jobs);
    }
    let kinds: Vec<Kind> = systems.iter().map(|system| system.kind).collect();
    progress.step("unmounting");
    drop(systems);
    if plan.large {
        report.first_ls = large::measure(plan.rounds, &place, &kinds, &progress)?;
    }
    drop(progress);
    super::output::print(json, &report, Files::text);
    Ok(ExitCode::SUCCESS)
}

/// Every round of one workload.
fn measure(
    workload: &Workload,
    plan: &Plan,
    tree: &Tree,
    systems: &mut [System],
    progress: &Progress,
) -> Outcome<Vec<Job>> {
    let name = workload.rows[0].name;
    // By row, then by system.
    let mut taken = vec![vec![Vec::new(); systems.len()]; workload.rows.len()];
    if workload.start == Start::Warm {
        progress.step(&format!("{name}: warming up"));
        for system in &*systems {
            workload.turn(&system.turn(tree, 0))?;
        }
    }
    let orders = fair(systems.len());
    for round in 0..plan.rounds as usize {
        progress.step(&format!("{name}: round {} of {}", round + 1, plan.rounds));
        for &at in &orders[round % orders.len()] {
            let system = &mut systems[at];
            match workload.start {
                Start::Cold => system.chill()?,
                Start::Warm | Start::Fresh => system.sync()?,
            }
            let turn = system.turn(tree, round);
            let failed = || format!("{}: {name}", system.kind.name());
            let seconds = progress.quiet(|| workload.turn(&turn)).or_fail(failed)?;
            for (row, seconds) in taken.iter_mut().zip(seconds) {
                row[at].push(seconds);
            }
        }
    }
    let rows = workload.rows.iter().zip(&taken);
    let jobs: Vec<Job> =
        rows.map(|(row, taken)| job(row.name, row.limit, systems, taken)).collect();
    jobs.iter().for_each(|job| progress.done(&job.line()));
    Ok(jobs)
}

/// A row of the table.
fn job(name: &'static str, limit: Option<f64>, systems: &[System], taken: &[Vec<f64>]) -> Job {
    let of = |kind: Kind| {
        let at = systems.iter().position(|system| system.kind == kind)?;
        Some(taken[at].as_slice())
    };
    let own = of(Kind::Portspace).unwrap_or_default();
    let over = |kind: Kind| Some(Spread::of_ratios(own, of(kind)?));
    let ms = |kind: Kind| {
        let ms: Vec<f64> = of(kind)?.iter().map(|seconds| seconds * 1000.0).collect();
        Some((kind.name(), Spread::of(&ms)))
    };
    Job {
        name,
        ms: Kind::ALL.into_iter().filter_map(ms).collect(),
        over_overlayfs: over(Kind::Overlayfs),
        over_fuse_overlayfs: over(Kind::FuseOverlayfs),
        limit_over_overlayfs: limit,
    }
}
