//! Sealing: a space's own layer becomes one of the chain, and an empty one takes its place.
//!
//! What is to be done is written down first, so that whoever comes after a killed command does
//! the rest; each step may be done again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Lineage;
use crate::config::SpaceName;
use crate::failure::{Failure, Outcome, While};
use crate::paths::{Paths, SpacePaths, own, replace};

/// What was written down: `sealing.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    layer: String,
    from: String,
}

/// A sealing on its way.
pub(super) struct Sealing {
    paths: SpacePaths,
    order: Order,
    /// Where the layer is to be.
    layer: PathBuf,
}

type Step = fn(&Sealing) -> io::Result<()>;

/// All there is to be done, in this order.
pub(super) const STEPS: [Step; 7] =
    [BEFORE[0], BEFORE[1], MOVES[0], MOVES[1], AFTER[0], AFTER[1], LAST[0]];

/// What changes nothing yet.
pub(super) const BEFORE: [Step; 2] = [Sealing::write_down, Sealing::make_layer];
/// What nobody may be written under. Once the files are moved, the layer is sealed.
pub(super) const MOVES: [Step; 2] = [Sealing::move_index, Sealing::move_files];
pub(super) const AFTER: [Step; 2] = [Sealing::renew, Sealing::lengthen_chain];
const LAST: [Step; 1] = [Sealing::finish];

/// Seals what the space has written; one that has written nothing has nothing to seal.
///
/// Nobody may serve the space meanwhile.
pub(super) fn seal(
    all: &Paths,
    name: &SpaceName,
    paths: &SpacePaths,
    lineage: Lineage,
) -> Outcome<Lineage> {
    if is_empty(&paths.upper()).or_fail(|| format!("cannot look at {}", paths.upper().display()))? {
        return Ok(lineage);
    }
    // Finishes a commit, and takes away what was being made.
    let nothing = cowfs::Config::new(Vec::new(), paths.upper(), paths.work());
    let own = nothing.take().or_fail(|| format!("what space {name} wrote cannot be sealed"))?;
    let sealing = Sealing::new(all, name, paths, &lineage)?;
    for step in STEPS {
        sealing.do_step(step)?;
    }
    drop(own);
    Ok(Lineage::load(paths)?.unwrap_or(lineage))
}

/// Seals what a space has written that runs, or is mounted on `mounted`, and goes on.
pub(super) fn seal_served(
    all: &Paths,
    name: &SpaceName,
    paths: &SpacePaths,
    mounted: Option<&Path>,
) -> Outcome<Lineage> {
    let lineage = || {
        let none = || Failure::new(format!("{} is gone", paths.lineage().display()));
        Lineage::load(paths)?.ok_or_else(none)
    };
    if let Some(order) = read(paths)? {
        let layer = all.layer(&order.layer);
        let sealing = Sealing { paths: paths.clone(), order, layer };
        // Moved, it is what the process went on from; else nothing was done that counts.
        if sealing.layer.join("files").exists() {
            AFTER.iter().chain(&LAST).try_for_each(|step| sealing.do_step(*step))?;
        }
    }
    if is_empty(&paths.upper()).or_fail(|| format!("cannot look at {}", paths.upper().display()))? {
        return lineage();
    }
    if let Some(directory) = mounted
        && let Ok(directory) = File::open(directory)
    {
        // What the kernel keeps for the mount is written first: it belongs to this moment.
        let _ = rustix::fs::syncfs(&directory);
    }
    let sealing = match read(paths)? {
        Some(order) => {
            let layer = all.layer(&order.layer);
            Sealing { paths: paths.clone(), order, layer }
        }
        None => Sealing::new(all, name, paths, &lineage()?)?,
    };
    sealing.do_step(Sealing::make_next)?;
    BEFORE.iter().try_for_each(|step| sealing.do_step(*step))?;
    let holding = match ::seal::Holding::ask(&paths.seal_socket()?) {
        Ok(holding) => holding,
        Err(failure) => {
            sealing.take_back();
            return Err(failure).or_fail(|| format!("space {name} cannot be held still"));
        }
    };
    MOVES.iter().chain(&AFTER).try_for_each(|step| sealing.do_step(*step))?;
    // Should it end now, the layer is sealed nevertheless.
    let renewed = holding.renew().or_fail(|| format!("space {name} does not go on"));
    LAST.iter().try_for_each(|step| sealing.do_step(*step))?;
    renewed?;
    lineage()
}

/// Finishes a sealing that was interrupted; nobody may serve the space meanwhile.
///
/// # Errors
/// It cannot be finished.
pub(super) fn settle(all: &Paths, paths: &SpacePaths) -> Outcome<()> {
    let Some(order) = read(paths)? else { return Ok(()) };
    let layer = all.layer(&order.layer);
    let sealing = Sealing { paths: paths.clone(), order, layer };
    STEPS[1..].iter().try_for_each(|step| sealing.do_step(*step))
}

/// The layer that an interrupted sealing makes, if there is one.
pub(super) fn unfinished(paths: &SpacePaths) -> Outcome<Option<String>> {
    Ok(read(paths)?.map(|order| order.layer))
}

fn read(paths: &SpacePaths) -> Outcome<Option<Order>> {
    let path = paths.sealing();
    let Some(order) = super::written::<Order>(&path)? else { return Ok(None) };
    match super::is_id(&order.layer) {
        true => Ok(Some(order)),
        false => Err(Failure::new(format!("{} names no layer; remove it", path.display()))),
    }
}

/// Whether a space has written nothing at all.
fn is_empty(upper: &Path) -> io::Result<bool> {
    let mut names = [0; 4096];
    // Its own mode and owner are written as well.
    let is_plain = match rustix::fs::listxattr(upper, &mut names) {
        Ok(length) => {
            !names[..length].split(|byte| *byte == 0).any(|name| name.starts_with(b"user."))
        }
        Err(rustix::io::Errno::OPNOTSUPP) => true,
        Err(errno) => return Err(errno.into()),
    };
    Ok(is_plain && fs::read_dir(upper)?.next().is_none())
}

impl Sealing {
    pub(super) fn new(
        all: &Paths,
        name: &SpaceName,
        paths: &SpacePaths,
        lineage: &Lineage,
    ) -> Outcome<Sealing> {
        let order = Order { layer: super::next_layer(all, lineage)?, from: name.to_string() };
        let layer = all.layer(&order.layer);
        Ok(Sealing { paths: paths.clone(), order, layer })
    }

    pub(super) fn do_step(&self, step: Step) -> Outcome<()> {
        step(self).or_fail(|| format!("layer {} cannot be made", self.order.layer))
    }

    fn write_down(&self) -> io::Result<()> {
        replace(&self.paths.sealing(), &serde_json::to_vec(&self.order)?)
    }

    fn make_layer(&self) -> io::Result<()> {
        own(&self.layer).map_err(|failure| io::Error::other(failure.chain()))?;
        replace(&self.layer.join("from"), self.order.from.as_bytes())
    }

    fn move_index(&self) -> io::Result<()> {
        move_once(&self.paths.work().join("index"), &self.layer.join("index"))
    }

    fn move_files(&self) -> io::Result<()> {
        move_once(&self.paths.upper(), &self.layer.join("files"))
    }

    /// Makes the layer that the process goes on in; one that was made in vain is another's.
    pub(super) fn make_next(&self) -> io::Result<()> {
        let next = self.paths.next_upper();
        match fs::remove_dir(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        own(&next).map_err(|failure| io::Error::other(failure.chain()))
    }

    /// Forgets what was written down, if nothing was moved.
    fn take_back(&self) {
        // A layer that is in no chain goes with the next space that is removed.
        if fs::remove_file(self.layer.join("from")).is_ok() && fs::remove_dir(&self.layer).is_ok() {
            let _ = fs::remove_dir(self.paths.next_upper());
            let _ = fs::remove_file(self.paths.sealing());
        }
    }

    fn renew(&self) -> io::Result<()> {
        if !self.paths.upper().exists() {
            move_once(&self.paths.next_upper(), &self.paths.upper())?;
        }
        own(&self.paths.upper()).map_err(|failure| io::Error::other(failure.chain()))
    }

    fn lengthen_chain(&self) -> io::Result<()> {
        let lineage =
            Lineage::load(&self.paths).map_err(|failure| io::Error::other(failure.chain()))?;
        let mut lineage = lineage.ok_or(io::ErrorKind::NotFound)?;
        if !lineage.layers.contains(&self.order.layer) {
            lineage.layers.insert(0, self.order.layer.clone());
            lineage.write(&self.paths)?;
        }
        Ok(())
    }

    fn finish(&self) -> io::Result<()> {
        match fs::remove_file(self.paths.sealing()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Moves a directory, unless that was done before.
fn move_once(from: &Path, to: &Path) -> io::Result<()> {
    if to.exists() || !from.exists() {
        return Ok(());
    }
    fs::rename(from, to)?;
    for directory in [from.parent(), to.parent()].into_iter().flatten() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}
