//! A space's own layer of files, looked at and changed from outside while nobody serves it.

use std::path::PathBuf;

use cowfs::{Unreadable, View, shown};

use crate::config::{Files, FilesConfig, SpaceName};
use crate::failure::{Failure, Outcome, While};
use crate::lifecycle::Spaces;
use crate::lineage::{Lineage, settle};
use crate::locks;
use crate::progress::Progress;
use crate::seen;

/// Files that are looked at between two words about it.
const STRIDE: u64 = 1000;

/// The files of a space that was started or mounted once.
#[derive(Debug)]
pub(crate) struct OwnFiles {
    pub(crate) name: SpaceName,
    /// The parent's directory; `None` if the space sees nothing of the parent.
    pub(crate) root: Option<PathBuf>,
    /// The layers between, if there are any.
    pub(crate) lineage: Option<Lineage>,
    pub(crate) config: cowfs::Config,
}

impl OwnFiles {
    /// The files of a space, as its own copy of the configuration has them.
    ///
    /// # Errors
    /// There is no such space, or its configuration cannot be read.
    pub(crate) fn of(spaces: &Spaces, name: &SpaceName) -> Outcome<OwnFiles> {
        let paths = spaces.paths.space(name);
        let kept = paths.configuration();
        if !kept.exists() {
            return Err(Failure::new(format!(
                "there is no space {name}; portspace ls lists those there are"
            )));
        }
        let files = FilesConfig::read(&kept, Some(name))
            .or_fail(|| "the configuration cannot be used".to_owned())?;
        // Nothing of what is bound is the space's own, wherever that has gone.
        let files = Files { binds: Vec::new(), ..files.files };
        if !locks::is_held(&paths.lock())? && spaces.noted(name)?.is_none() {
            settle(&spaces.paths, &paths)?;
        }
        let lineage = Lineage::read(&spaces.paths, &paths)?;
        let seen = seen::settings(&spaces.paths, &paths, &files, lineage.as_ref())?;
        let root =
            lineage.as_ref().map_or(files.root.clone(), |lineage| lineage.files(&files).root);
        let mounts = sys::fuse::mounts().unwrap_or_default();
        let config = cowfs::Config {
            view: View::Host,
            hidden: mounts.into_iter().map(|mounted| mounted.directory).collect(),
            ..seen.config()
        };
        Ok(OwnFiles { name: name.clone(), root, lineage, config })
    }

    /// What the own layer lies on, as sentences call it: a sealed layer of the space's own, or what
    /// its parent has.
    pub(crate) fn parent(&self) -> String {
        if let Some(id) = self.lineage.as_ref().and_then(|lineage| lineage.own().next()) {
            return format!("layer {id} (sealed for others)");
        }
        let parent = self.lineage.as_ref().and_then(Lineage::parent);
        if let Some(parent) = parent {
            return format!("space {parent}");
        }
        match &self.root {
            Some(root) => root.display().to_string(),
            None => "an empty directory".to_owned(),
        }
    }
}

/// Says on a terminal how many files were looked at; elsewhere nothing.
pub(crate) fn counted(progress: &Option<Progress>, what: &str, files: u64) {
    if let Some(progress) = progress
        && files.is_multiple_of(STRIDE)
    {
        progress.step(&format!("{what}: {files} files"));
    }
}

/// Warns of what could not be looked at; the rest was.
pub(crate) fn warn_of(unreadable: &[Unreadable]) {
    for Unreadable { path, why } in unreadable {
        eprintln!("portspace: {} cannot be looked at: {why}", shown(path));
    }
}
