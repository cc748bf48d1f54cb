//! What the files of a space are: said once, for all that serve them or look at them.

use crate::bindings::Binding;
use crate::configuration::{Config, LowerLayer};
use crate::layer::Crossing;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A space's files, as they are told to the processes that serve them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What is read, topmost first ([`Config::lowers`]).
    pub lowers: Vec<LowerLayer>,
    /// The space's own layer.
    pub upper: PathBuf,
    /// Where files are staged, on the same file system as the upper.
    pub work: PathBuf,
    /// The directory around the upper, in which another takes its place when it is sealed, and
    /// the one to which it goes then; `None`: it never is while it is served.
    pub sealing: Option<(PathBuf, PathBuf)>,
    /// Paths from the root that do not exist inside.
    pub masks: Vec<PathBuf>,
    /// Directories of the host that nothing shows, wherever they come to be.
    pub private: Vec<PathBuf>,
    /// File systems below the root of which something is seen.
    pub crossing: Crossing,
    /// Files of the host at places inside.
    pub bindings: Vec<Binding>,
    /// Most bytes of the space's own layer.
    pub quota: Option<u64>,
}

impl Settings {
    /// Files with nothing masked, bound or bounded.
    pub fn new(lowers: Vec<LowerLayer>, upper: PathBuf, work: PathBuf) -> Settings {
        Settings {
            lowers,
            upper,
            work,
            sealing: None,
            masks: Vec::new(),
            private: Vec::new(),
            crossing: Crossing::All,
            bindings: Vec::new(),
            quota: None,
        }
    }

    /// The file space's configuration; what is not about files has its defaults.
    pub fn config(&self) -> Config {
        let Settings { lowers, upper, work, masks, private, crossing, bindings, quota, .. } =
            self.clone();
        Config { masks, private, crossing, bindings, quota, ..Config::new(lowers, upper, work) }
    }

    /// The paths a process that serves these files has to read.
    pub fn read(&self) -> Vec<&Path> {
        let layers = self.lowers.iter().flat_map(|lower| {
            let index = match lower {
                LowerLayer::Sealed { index, .. } => index.as_deref(),
                LowerLayer::Live(_) | LowerLayer::Given(_) => None,
            };
            [Some(lower.path()), index].into_iter().flatten()
        });
        let sealed = self.sealing.iter().map(|(_, layers)| &**layers);
        layers.chain(sealed).chain(self.bound(false)).collect()
    }

    /// The paths it has to read and to write.
    pub fn written(&self) -> Vec<&Path> {
        let upper = self.sealing.as_ref().map_or(&self.upper, |(room, _)| room);
        [&**upper, &*self.work].into_iter().chain(self.bound(true)).collect()
    }

    fn bound(&self, write: bool) -> impl Iterator<Item = &Path> {
        let bindings = self.bindings.iter().filter(move |binding| binding.write == write);
        bindings.map(|binding| &*binding.from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_survives_being_told_and_names_all_that_is_opened() {
        let lowers = vec![
            LowerLayer::Given("/state/given".into()),
            LowerLayer::Sealed {
                files: "/layers/1/files".into(),
                index: Some("/layers/1/index".into()),
                own: true,
            },
            LowerLayer::Live("/".into()),
        ];
        let bind =
            |at: &str, write| Binding { at: at.into(), from: format!("/host/{at}").into(), write };
        let settings = Settings {
            masks: vec!["home/me/.ssh".into()],
            crossing: Crossing::Only(vec!["home".into()]),
            bindings: vec![bind("in", false), bind("out", true)],
            quota: Some(1 << 30),
            ..Settings::new(lowers, "/state/upper".into(), "/state/work".into())
        };
        let told = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<Settings>(&told).unwrap(), settings);
        let paths =
            |paths: Vec<&Path>| paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            paths(settings.read()),
            ["/state/given", "/layers/1/files", "/layers/1/index", "/", "/host/in"]
        );
        assert_eq!(paths(settings.written()), ["/state/upper", "/state/work", "/host/out"]);
        assert_eq!(settings.config().quota, Some(1 << 30));
    }
}
