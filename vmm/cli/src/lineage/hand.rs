//! Committing to the space that a space was made from: what goes becomes a layer of the parent's,
//! which both lie on from then on.
//!
//! Once the parent's chain has the layer, it is committed; what is left to be done to the child
//! was written down before.

use std::fs;
use std::path::PathBuf;

use cowfs::{CommitFailure, Comparison, LayerPlan, OwnLayer};
use serde::{Deserialize, Serialize};

use super::{Lineage, seal};
use crate::config::SpaceName;
use crate::failure::{Failure, Outcome, While};
use crate::files::OwnFiles;
use crate::lifecycle::Spaces;
use crate::paths::{Paths, SpacePaths, own, replace};

/// What was written down: `handing.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    /// The space that gets the layer.
    parent: String,
    /// What both lie on then, topmost first: the layer, and what the parent has.
    layers: Vec<String>,
    leaves: cowfs::Leaves,
}

/// A parent that is to be committed to: nobody serves it, and no chain changes meanwhile.
pub(crate) struct Recipient {
    name: SpaceName,
    paths: SpacePaths,
    files: OwnFiles,
    _layers: fs::File,
    _stopped: [fs::File; 2],
}

impl Recipient {
    /// What committing the changes at `paths` takes.
    ///
    /// # Errors
    /// Some of it cannot be committed; nothing is changed.
    pub(crate) fn plan<'c>(
        &self,
        own: &OwnLayer,
        compared: &'c Comparison,
        paths: &[PathBuf],
        force: bool,
    ) -> Result<LayerPlan<'c>, CommitFailure> {
        own.plan_layer(compared, paths, force, &self.files.config)
    }
}

impl Spaces {
    /// Holds the space that another was made from.
    ///
    /// # Errors
    /// It is gone, or is served.
    pub(crate) fn recipient(&self, child: &OwnFiles) -> Outcome<Option<Recipient>> {
        let made_from = child.lineage.as_ref().and_then(|lineage| lineage.parent.as_ref());
        let Some(made_from) = made_from else { return Ok(None) };
        let (name, of) = (&child.name, &made_from.name);
        let gone = || {
            Failure::new(format!(
                "space {of}, from which space {name} was made, is gone, so there is nothing to commit to; take the changes out with portspace diff {name} --patch, or portspace mount {name}"
            ))
        };
        let parent: SpaceName = of.parse().map_err(|_| gone())?;
        let paths = self.paths.space(&parent);
        if !paths.configuration().exists() {
            return Err(gone());
        }
        let failed = || format!("space {name} cannot be committed to space {parent}");
        let stopped = self.stopped(&parent, &paths).or_fail(failed)?;
        super::settle(&self.paths, &paths).or_fail(failed)?;
        let files = OwnFiles::of(self, &parent).or_fail(failed)?;
        let owner = files.lineage.as_ref().map(|lineage| &lineage.owner);
        if made_from.owner.as_ref().is_some_and(|made_from| Some(made_from) != owner) {
            return Err(gone());
        }
        let layers = self.hold_layers()?;
        Ok(Some(Recipient { name: parent, paths, files, _layers: layers, _stopped: stopped }))
    }

    /// Commits to the parent, which has all of it when this returns, or nothing.
    ///
    /// # Errors
    /// The host refuses; whatever was interrupted is finished by the next command.
    pub(crate) fn hand(
        &self,
        child: &SpaceName,
        own_layer: OwnLayer,
        plan: &LayerPlan<'_>,
        parent: &Recipient,
    ) -> Outcome<()> {
        let paths = self.paths.space(child);
        // Its files are the layer's as well until they have left it: nobody may write them.
        let _stopped = self.stopped(child, &paths)?;
        let none = || Failure::new(format!("space {} has no chain of layers", parent.name));
        let lineage = parent.files.lineage.clone().ok_or_else(none)?;
        let mut lineage = seal::seal(&self.paths, &parent.name, &parent.paths, lineage)?;
        let id = super::next_layer(&self.paths, &lineage)?;
        let layer = self.paths.layer(&id);
        lineage.layers.insert(0, id.clone());
        let (layers, leaves) = (lineage.layers.clone(), plan.leaves().clone());
        let order = Order { parent: parent.name.to_string(), layers, leaves };
        let failed = || format!("layer {id} cannot be made");
        let made = own(&layer.join("files")).and_then(|()| {
            own_layer.make_layer(plan, &layer.join("files")).or_fail(failed)?;
            replace(&layer.join("from"), child.to_string().as_bytes()).or_fail(failed)?;
            let order = serde_json::to_vec(&order).or_fail(failed)?;
            replace(&paths.handing(), &order).or_fail(failed)
        });
        if let Err(failure) = made {
            // An order that is there all the same finds nothing of the layer in the parent's chain.
            let _ = fs::remove_dir_all(&layer);
            return Err(failure);
        }
        drop(own_layer);
        let chain = parent.paths.lineage();
        let written = lineage.write(&parent.paths);
        let settled = settle(&self.paths, &paths);
        written.or_fail(|| format!("cannot write {}", chain.display()))?;
        settled
    }
}

/// Finishes a commit to a space that was interrupted, or forgets it if the parent has nothing of
/// it; nobody may serve the space meanwhile.
///
/// # Errors
/// It cannot be finished.
pub(super) fn settle(all: &Paths, paths: &SpacePaths) -> Outcome<()> {
    let path = paths.handing();
    let Some(order) = super::written::<Order>(&path)? else { return Ok(()) };
    let named = order.parent.parse::<SpaceName>().ok();
    let parents = named.map_or(Ok(None), |parent| Lineage::load(&all.space(&parent)))?;
    let layer = order.layers.first();
    if parents.is_some_and(|parents| layer.is_some_and(|layer| parents.layers.contains(layer))) {
        let gone = || Failure::new(format!("{} is gone", paths.lineage().display()));
        let mut lineage = Lineage::load(paths)?.ok_or_else(gone)?;
        lineage.layers = order.layers;
        lineage.write(paths).or_fail(|| format!("cannot write {}", paths.lineage().display()))?;
        let config = cowfs::Config::new(Vec::new(), paths.upper(), paths.work());
        let failed = || format!("{} still holds what was committed", paths.named());
        let files = all.layer(&lineage.layers[0]).join("files");
        config.take().or_fail(failed)?.leave(&order.leaves, &files).or_fail(failed)?;
    }
    fs::remove_file(&path).or_fail(|| format!("cannot remove {}", path.display()))
}
