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
pub(super) const STEPS: [Step; 7] = [
    Sealing::write_down,
    Sealing::make_layer,
    Sealing::move_index,
    Sealing::move_files,
    Sealing::renew,
    Sealing::lengthen_chain,
    Sealing::finish,
];

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

/// Finishes a sealing that was interrupted; nobody may serve the space meanwhile.
///
/// # Errors
/// It cannot be finished.
pub(crate) fn settle(all: &Paths, paths: &SpacePaths) -> Outcome<()> {
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
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.or_fail(|| format!("cannot read {}", path.display()))?,
    };
    let order: Order = serde_json::from_slice(&text).or_fail(|| {
        format!("{} is damaged; remove the space with: portspace rm", path.display())
    })?;
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
        let group = all.layers().join(&lineage.owner);
        own(&group)?;
        let numbers = super::names_in(&group)?.into_iter().filter_map(|name| name.parse().ok());
        let number = numbers.max().unwrap_or(0_u64) + 1;
        let order = Order { layer: format!("{}/{number}", lineage.owner), from: name.to_string() };
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

    fn renew(&self) -> io::Result<()> {
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
        fs::remove_file(self.paths.sealing())
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
