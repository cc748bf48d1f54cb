//! Chains of spaces: what a space has written becomes a layer of its own below it and its children.
//!
//! A layer is `layers/OWNER/NUMBER` in the state directory: `files`, the `index` of its hard links,
//! and `from`, the name of the space that wrote it. A space's `lineage.json` names its chain.

mod gather;
mod hand;
mod seal;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::{Files, SpaceName};
use crate::failure::{Failure, Outcome, While};
use crate::lifecycle::Spaces;
use crate::locks;
use crate::mounting;
use crate::paths::{Paths, SpacePaths, own, replace};

/// What a space is made of, as `lineage.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lineage {
    /// The directory of `layers` for what this space has written.
    owner: String,
    /// The space it was made from, and what that saw of the host.
    parent: Option<Parent>,
    /// The layers below the space's own, topmost first.
    layers: Vec<String>,
}

/// The space that another was made from, at that moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parent {
    name: String,
    /// Its directory of `layers`: another space of that name has another.
    #[serde(default)]
    owner: Option<String>,
    root: Option<PathBuf>,
    masks: Vec<PathBuf>,
    mounts: Option<Vec<PathBuf>>,
}

/// A layer of a chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Layer {
    /// `OWNER/NUMBER`.
    pub(crate) id: String,
    /// The space that wrote it, which may be gone.
    pub(crate) from: String,
    /// What it holds.
    pub(crate) files: PathBuf,
}

impl Lineage {
    /// The lineage of a space that has one; a layer of it that is not there is a failure.
    ///
    /// # Errors
    /// It cannot be read, or is no chain.
    pub(crate) fn read(all: &Paths, paths: &SpacePaths) -> Outcome<Option<Lineage>> {
        let Some(lineage) = Lineage::load(paths)? else { return Ok(None) };
        if let Some(missing) =
            lineage.layers.iter().find(|id| !all.layer(id).join("files").is_dir())
        {
            return Err(Failure::new(format!(
                "layer {missing} below {} is gone; bring {} back, or remove the space with: portspace rm",
                paths.named(),
                all.layer(missing).display()
            )));
        }
        Ok(Some(lineage))
    }

    fn load(paths: &SpacePaths) -> Outcome<Option<Lineage>> {
        let path = paths.lineage();
        let Some(lineage) = written::<Lineage>(&path)? else { return Ok(None) };
        let mut seen = HashSet::new();
        if let Some(twice) = lineage.layers.iter().find(|id| !seen.insert(*id)) {
            return Err(Failure::new(format!(
                "the chain of {} has a loop: layer {twice} is below itself; correct {}",
                paths.named(),
                path.display()
            )));
        }
        if let Some(wrong) = lineage.layers.iter().find(|id| !is_id(id)) {
            return Err(Failure::new(format!(
                "{wrong:?} in {} names no layer; correct it, or remove the space with: portspace rm",
                path.display()
            )));
        }
        Ok(Some(lineage))
    }

    fn write(&self, paths: &SpacePaths) -> io::Result<()> {
        replace(&paths.lineage(), &serde_json::to_vec_pretty(self)?)
    }

    /// What of the host is seen: for a child what its parent saw, with its own masks besides.
    pub(crate) fn files(&self, own: &Files) -> Files {
        let Some(parent) = &self.parent else { return own.clone() };
        let masks = parent.masks.iter().chain(&own.masks).cloned().collect();
        let (root, mounts) = (parent.root.clone(), parent.mounts.clone());
        Files { root, masks, mounts, ..own.clone() }
    }

    /// The space it was made from; `None` for the host.
    pub(crate) fn parent(&self) -> Option<&str> {
        self.parent.as_ref().map(|parent| &*parent.name)
    }

    /// The layers of what the space wrote before others were made from it, topmost first.
    pub(crate) fn own(&self) -> impl Iterator<Item = &str> {
        self.layers.iter().filter(|id| self.is_own(id)).map(String::as_str)
    }

    /// The directory of what this space has written.
    pub(crate) fn home(&self, all: &Paths) -> PathBuf {
        all.layers().join(&self.owner)
    }

    /// The layers below the space's own, topmost first.
    pub(crate) fn layers(&self, all: &Paths) -> Vec<Layer> {
        let layer = |id: &String| {
            let from = fs::read_to_string(all.layer(id).join("from")).unwrap_or_default();
            Layer { id: id.clone(), from, files: all.layer(id).join("files") }
        };
        self.layers.iter().map(layer).collect()
    }

    /// The same for a file space: those the space has written itself, and those of others.
    pub(crate) fn sealed(&self, all: &Paths) -> [Vec<cowfs::LowerLayer>; 2] {
        let sealed = |id: &String| {
            let index = Some(all.layer(id).join("index")).filter(|index| index.is_dir());
            let files = all.layer(id).join("files");
            cowfs::LowerLayer::Sealed { files, index, own: self.is_own(id) }
        };
        let (own, others): (Vec<_>, Vec<_>) = self.layers.iter().partition(|id| self.is_own(id));
        [own, others].map(|layers| layers.into_iter().map(sealed).collect())
    }

    fn is_own(&self, id: &str) -> bool {
        id.split_once('/').is_some_and(|(owner, _)| owner == self.owner)
    }
}

/// What was written down in a file of a space, if it is there.
fn written<T: DeserializeOwned>(path: &Path) -> Outcome<Option<T>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.or_fail(|| format!("cannot read {}", path.display()))?,
    };
    let damaged = || format!("{} is damaged; remove the space with: portspace rm", path.display());
    serde_json::from_slice(&text).map(Some).or_fail(damaged)
}

/// The name of the next layer that a space seals.
fn next_layer(all: &Paths, lineage: &Lineage) -> Outcome<String> {
    let home = lineage.home(all);
    own(&home)?;
    let numbers = names_in(&home)?.into_iter().filter_map(|name| name.parse().ok());
    let number = numbers.max().unwrap_or(0_u64) + 1;
    Ok(format!("{}/{number}", lineage.owner))
}

/// Whether this is `OWNER/NUMBER`, which is no way out of the directory of layers.
fn is_id(id: &str) -> bool {
    let Some((owner, number)) = id.split_once('/') else { return false };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !owner.is_empty() && owner.bytes().all(plain) && number.parse::<u64>().is_ok()
}

/// Finishes what an interrupted command had begun with a chain; nobody may serve the space
/// meanwhile.
///
/// # Errors
/// It cannot be finished.
pub(crate) fn settle(all: &Paths, paths: &SpacePaths) -> Outcome<()> {
    seal::settle(all, paths)?;
    gather::settle(paths)?;
    hand::settle(all, paths)
}

impl Spaces {
    /// The chain of a space that is about to be served and whose lock is held: the one it has, or
    /// a new one, on `parent` if the configuration names one.
    ///
    /// # Errors
    /// The parent is none, or in use; or the space was made from another.
    pub(crate) fn lineage(&self, name: &SpaceName, parent: Option<&SpaceName>) -> Outcome<Lineage> {
        let paths = self.paths.space(name);
        let orders = [paths.sealing(), paths.gathering(), paths.handing()];
        if orders.iter().any(|order| order.exists()) {
            let _layers = self.hold_layers()?;
            settle(&self.paths, &paths)?;
        }
        if let Some(lineage) = Lineage::read(&self.paths, &paths)? {
            own(&lineage.home(&self.paths))?;
            return match lineage.parent() == parent.map(SpaceName::as_str) {
                true => Ok(lineage),
                false => Err(Failure::new(format!(
                    "space {name} was made from {}, and stays so: correct [space] parent, or remove the space first with: portspace rm {name}",
                    lineage.parent().map_or("the host".into(), |parent| format!("space {parent}"))
                ))),
            };
        }
        let _layers = self.hold_layers()?;
        let lineage = match parent {
            None => Lineage { owner: self.new_owner(name)?, parent: None, layers: Vec::new() },
            Some(parent) => self.child_of(name, parent)?,
        };
        lineage.write(&paths).or_fail(|| format!("cannot write {}", paths.lineage().display()))?;
        Ok(lineage)
    }

    /// Nobody else adds or removes layers meanwhile.
    fn hold_layers(&self) -> Outcome<fs::File> {
        let layers = self.paths.layers();
        own(&layers)?;
        let file = fs::File::open(&layers);
        let failed = || format!("cannot lock {}", layers.display());
        let file = file.or_fail(failed)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).or_fail(failed)?;
        Ok(file)
    }

    /// A directory for layers that no space has.
    fn new_owner(&self, name: &SpaceName) -> Outcome<String> {
        let taken = |owner: &str| self.paths.layers().join(owner).exists();
        let numbered = (2..).map(|number: u32| format!("{name}-{number}"));
        let mut owners = std::iter::once(name.to_string()).chain(numbered);
        let owner = owners.find(|owner| !taken(owner)).expect("there are names without end");
        own(&self.paths.layers().join(&owner))?;
        Ok(owner)
    }

    /// Seals what the parent has written, and starts a chain on it.
    fn child_of(&self, name: &SpaceName, parent: &SpaceName) -> Outcome<Lineage> {
        let above = self.paths.space(parent);
        let failed = || format!("space {name} cannot be made from space {parent}");
        if !above.configuration().exists() {
            let sentence = format!(
                "[space] parent: there is no space {parent}; start or mount it once, or write \"base\""
            );
            return Err(Failure::new(sentence));
        }
        let lineage = self.sealed(parent, &above).or_fail(failed)?;
        let kept = crate::config::FilesConfig::read(&above.configuration(), Some(parent))
            .or_fail(|| format!("the configuration of space {parent} cannot be used"))?;
        let Files { root, masks, mounts, .. } = lineage.files(&kept.files);
        let owner = Some(lineage.owner);
        let parent = Some(Parent { name: parent.to_string(), owner, root, masks, mounts });
        Ok(Lineage { owner: self.new_owner(name)?, parent, layers: lineage.layers })
    }

    /// The parent's chain with all it has written so far.
    fn sealed(&self, name: &SpaceName, paths: &SpacePaths) -> Outcome<Lineage> {
        let mount = self.noted(name)?;
        let is_served = locks::is_held(&paths.lock())? || mount.is_some();
        let _stopped = if is_served { None } else { Some(self.stopped(name, paths)?) };
        if !is_served {
            settle(&self.paths, paths)?;
        }
        let lineage = match Lineage::read(&self.paths, paths)? {
            Some(lineage) => lineage,
            None => Lineage { owner: self.new_owner(name)?, parent: None, layers: Vec::new() },
        };
        lineage.write(paths).or_fail(|| format!("cannot write {}", paths.lineage().display()))?;
        match is_served {
            true => {
                let mounted = mount.as_ref().and_then(|note| note.at.directory());
                seal::seal_served(&self.paths, name, paths, mounted)
            }
            false => seal::seal(&self.paths, name, paths, lineage),
        }
    }

    /// Keeps a space that is neither running nor mounted from being either.
    fn stopped(&self, name: &SpaceName, paths: &SpacePaths) -> Outcome<[fs::File; 2]> {
        own(&paths.runtime)?;
        let vm = locks::take(&paths.lock())?.ok_or_else(|| {
            Failure::new(format!("space {name} is running; first: portspace stop {name}"))
        })?;
        if let Some(note) = self.noted(name)? {
            return Err(mounting::is_shown(name, Some(&note)));
        }
        let mount = locks::take(&paths.mount_lock())?;
        Ok([vm, mount.ok_or_else(|| mounting::is_shown(name, None))?])
    }

    /// Removes the layers that are in no chain any more.
    ///
    /// # Errors
    /// A chain cannot be read, and then nothing is removed; or a layer cannot be.
    pub(crate) fn sweep_layers(&self) -> Outcome<()> {
        let layers = self.paths.layers();
        if !layers.exists() {
            return Ok(());
        }
        let _held = self.hold_layers()?;
        let (mut used, mut owners) = (HashSet::new(), HashSet::new());
        for name in self.paths.spaces()? {
            let paths = self.paths.space(&name);
            if let Some(lineage) = Lineage::load(&paths)? {
                used.extend(lineage.layers);
                owners.insert(lineage.owner);
            }
            used.extend(seal::unfinished(&paths)?);
        }
        for owner in names_in(&layers)? {
            for number in names_in(&layers.join(&owner))? {
                let id = format!("{owner}/{number}");
                if !used.contains(&id) {
                    let path = layers.join(&id);
                    fs::remove_dir_all(&path)
                        .or_fail(|| format!("cannot remove {}", path.display()))?;
                }
            }
            if !owners.contains(&owner) {
                // One with layers that are used stays.
                let _ = fs::remove_dir(layers.join(&owner));
            }
        }
        Ok(())
    }
}

fn names_in(directory: &Path) -> Outcome<Vec<String>> {
    let failed = || format!("cannot list {}", directory.display());
    let entries = fs::read_dir(directory).or_fail(failed)?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}
