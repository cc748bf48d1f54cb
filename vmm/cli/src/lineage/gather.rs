//! Gathering: what a space had sealed for others comes back into its own layer, and it lies on
//! what it was made from again. The others keep the layers.

use std::fs;

use serde::{Deserialize, Serialize};

use super::Lineage;
use crate::failure::{Failure, Outcome, While};
use crate::files::{self, OwnFiles};
use crate::lifecycle::Spaces;
use crate::paths::{SpacePaths, replace};
use crate::progress::Progress;

/// What was written down: `gathering.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    /// The layers that are left out of the chain.
    layers: Vec<String>,
    left: cowfs::Gathered,
}

impl Spaces {
    /// Brings what a space had sealed back into its own layer; nobody may serve it meanwhile.
    ///
    /// # Errors
    /// It is served, or the host refuses; what is seen inside is as it was.
    pub(crate) fn gather(&self, files: &OwnFiles, progress: &Option<Progress>) -> Outcome<()> {
        let (name, paths) = (&files.name, self.paths.space(&files.name));
        let Some(lineage) = &files.lineage else { return Ok(()) };
        let layers: Vec<_> = lineage.own().map(str::to_owned).collect();
        if layers.is_empty() {
            return Ok(());
        }
        let _stopped = self.stopped(name, &paths)?;
        let failed = || format!("what space {name} had sealed for others cannot be gathered");
        let mut looked = |number| files::counted(progress, "gathering what was sealed", number);
        let left = files.config.gather(&mut looked).or_fail(failed)?;
        let order = serde_json::to_vec(&Order { layers, left }).or_fail(failed)?;
        replace(&paths.gathering(), &order).or_fail(failed)?;
        settle(&paths)?;
        // What stays now goes with the next space that is removed.
        let _ = self.sweep_layers();
        Ok(())
    }

    /// Leaves out what a space had sealed, and with it all that was changed there.
    ///
    /// # Errors
    /// It is served, or the chain cannot be written.
    pub(crate) fn forget_sealed(&self, files: &OwnFiles) -> Outcome<()> {
        let paths = self.paths.space(&files.name);
        let Some(lineage) = &files.lineage else { return Ok(()) };
        let layers: Vec<_> = lineage.own().map(str::to_owned).collect();
        let _stopped = self.stopped(&files.name, &paths)?;
        leave_out(&paths, &layers)?;
        let _ = self.sweep_layers();
        Ok(())
    }
}

/// Finishes a gathering that was interrupted; nobody may serve the space meanwhile.
///
/// # Errors
/// It cannot be finished.
pub(super) fn settle(paths: &SpacePaths) -> Outcome<()> {
    let path = paths.gathering();
    let Some(order) = super::written::<Order>(&path)? else { return Ok(()) };
    leave_out(paths, &order.layers)?;
    let own = cowfs::Config::new(Vec::new(), paths.upper(), paths.work());
    let failed = || format!("what {} had sealed cannot be gathered", paths.named());
    own.settle_gathered(&order.left).or_fail(failed)?;
    fs::remove_file(&path).or_fail(|| format!("cannot remove {}", path.display()))
}

fn leave_out(paths: &SpacePaths, layers: &[String]) -> Outcome<()> {
    let gone = || Failure::new(format!("{} is gone", paths.lineage().display()));
    let mut lineage = Lineage::load(paths)?.ok_or_else(gone)?;
    lineage.layers.retain(|id| !layers.contains(id));
    lineage.write(paths).or_fail(|| format!("cannot write {}", paths.lineage().display()))
}
