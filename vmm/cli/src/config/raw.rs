//! The file as TOML has it, and the conversion of all but its overlay.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use switch::overlay::Limits;

use super::disk::{self, RawDisk};
use super::files::{Dns, RawFiles};
use super::overlay::{Own, RawOverlay};
use super::word::{Word, Words, parse_size};
use super::{Config, FilesConfig, Keyed, Mistake, NotAName, Source, SpaceName, at};

const PAGE: u64 = 4096;
const DEFAULT_MEMORY: u64 = 64 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    space: Space,
    overlay: RawOverlay,
    #[serde(default)]
    ports: Ports,
    #[serde(default)]
    files: RawFiles,
    #[serde(default)]
    disks: Vec<Spanned<RawDisk>>,
    #[serde(default)]
    tuning: Tuning,
    #[serde(default)]
    limits: RawLimits,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Space {
    name: Option<Spanned<String>>,
    parent: Option<Spanned<String>>,
    address: Option<Spanned<Words>>,
    guest: Option<Spanned<String>>,
    memory: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ports {
    inherit: Option<Spanned<Vec<String>>>,
    hide: Option<Spanned<Vec<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tuning {
    spin_us: Option<Spanned<u32>>,
    guest_spin_us: Option<Spanned<u32>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    packets: Option<Spanned<u64>>,
    bytes: Option<Spanned<Word>>,
}

fn at_most_a_second(
    source: &Source<'_>,
    spin: Option<Spanned<u32>>,
) -> Result<Option<u32>, Mistake> {
    match spin {
        Some(spin) if *spin.get_ref() > 1_000_000 => {
            Err(at(source, &spin, "is longer than a second; use at most 1000000"))
        }
        spin => Ok(spin.map(Spanned::into_inner)),
    }
}

impl File {
    pub(super) fn convert(
        self,
        source: &Source<'_>,
        stem: &str,
        keyed: Keyed,
    ) -> Result<Config, Mistake> {
        let name = self.space.name(source, stem)?;
        let parent = self.space.parent(source, &name)?;
        let memory_bytes = self.space.convert(source)?;
        self.ports.convert(source)?;
        let files = self.files.convert(source, &self.overlay.dns, parent.is_none())?;
        let disks = disk::convert(source, self.disks)?;
        let spin_us = at_most_a_second(source, self.tuning.spin_us)?;
        let guest_spin_us = at_most_a_second(source, self.tuning.guest_spin_us)?;
        let limits = self.limits.convert(source)?;
        let own = Own { addresses: self.space.address, limits };
        let overlay = self.overlay.convert(source, own, keyed)?;
        Ok(Config { name, parent, memory_bytes, spin_us, guest_spin_us, overlay, files, disks })
    }
}

/// What of a file is about files; what else it says is somebody else's to judge.
#[derive(Deserialize)]
pub(super) struct FilesAlone {
    #[serde(default)]
    space: Space,
    #[serde(default)]
    files: RawFiles,
    #[serde(default)]
    overlay: Names,
}

/// What of an overlay is about files.
#[derive(Default, Deserialize)]
struct Names {
    dns: Dns,
}

impl FilesAlone {
    pub(super) fn convert(self, source: &Source<'_>, stem: &str) -> Result<FilesConfig, Mistake> {
        let name = self.space.name(source, stem)?;
        let parent = self.space.parent(source, &name)?;
        let files = self.files.convert(source, &self.overlay.dns, parent.is_none())?;
        Ok(FilesConfig { name, parent, files })
    }
}

impl Space {
    /// The space's name: the file's own, if it says nothing else.
    fn name(&self, source: &Source<'_>, stem: &str) -> Result<SpaceName, Mistake> {
        match &self.name {
            Some(name) => name
                .get_ref()
                .parse()
                .map_err(|error: NotAName| at(source, name, error.to_string())),
            None => stem.parse().map_err(|error| {
                let what = format!("the file's own name is the default, but {error}; add a name");
                source.mistake(None, Some("[space] name"), what)
            }),
        }
    }

    /// The space it is made from; `None` for the host.
    fn parent(&self, source: &Source<'_>, name: &SpaceName) -> Result<Option<SpaceName>, Mistake> {
        let Some(parent) = self.parent.as_ref().filter(|parent| parent.get_ref() != "base") else {
            return Ok(None);
        };
        let named: SpaceName = parent
            .get_ref()
            .parse()
            .map_err(|error: NotAName| at(source, parent, format!("{error}; or use \"base\"")))?;
        if named == *name {
            let what = "is the space itself, a loop; name another space, or use \"base\"";
            return Err(at(source, parent, what));
        }
        Ok(Some(named))
    }

    /// The guest's memory in bytes; what has one meaning yet is checked, the addresses are not.
    fn convert(&self, source: &Source<'_>) -> Result<u64, Mistake> {
        one_of(source, &self.guest, "native", |guest| match guest {
            "linux" => "the Linux guest is not available yet; use \"native\"".to_owned(),
            _ => format!("{guest:?} is no guest; use \"native\""),
        })?;
        let Some(memory) = &self.memory else { return Ok(DEFAULT_MEMORY) };
        let bytes = parse_size(memory.get_ref()).ok_or_else(|| {
            at(source, memory, "is no size; write a whole number and K, M or G, like \"64M\"")
        })?;
        if !(16 << 20..=3 << 30).contains(&bytes) || bytes % PAGE != 0 {
            return Err(at(source, memory, "is not a size a guest can have; use 16M to 3G"));
        }
        Ok(bytes)
    }
}

impl Ports {
    fn convert(&self, source: &Source<'_>) -> Result<(), Mistake> {
        for (ports, what) in [
            (&self.inherit, "inherited ports are not available yet; remove the field"),
            // Nothing is inherited, so everything is hidden already: only nonsense is refused.
            (&self.hide, ""),
        ] {
            let Some(ports) = ports else { continue };
            if let Some(bad) = ports.get_ref().iter().find(|port| !is_port(port)) {
                let what = format!("{bad:?} is no port; write \"tcp/22\" or \"udp/53\"");
                return Err(at(source, ports, what));
            }
            if !what.is_empty() && !ports.get_ref().is_empty() {
                return Err(at(source, ports, what));
            }
        }
        Ok(())
    }
}

impl RawLimits {
    fn convert(self, source: &Source<'_>) -> Result<Limits, Mistake> {
        let nothing = "0 would let nothing out; write what may be sent in a second, or remove it";
        let packets_per_s = match self.packets {
            Some(packets) if *packets.get_ref() == 0 => {
                return Err(at(source, &packets, nothing));
            }
            packets => packets.map(Spanned::into_inner),
        };
        let bytes_per_s = match self.bytes {
            None => None,
            Some(bytes) => match bytes.get_ref().size() {
                None => return Err(at(source, &bytes, NO_SIZE)),
                Some(0) => return Err(at(source, &bytes, nothing)),
                size => size,
            },
        };
        Ok(Limits { packets_per_s, bytes_per_s })
    }
}

/// What is wrong with a size in bytes.
pub(super) const NO_SIZE: &str =
    "is no size; write a whole number of bytes, with K, M, G or T if you like, like \"10M\"";

fn one_of(
    source: &Source<'_>,
    value: &Option<Spanned<String>>,
    only: &str,
    what: impl Fn(&str) -> String,
) -> Result<(), Mistake> {
    match value {
        Some(value) if value.get_ref() != only => Err(at(source, value, what(value.get_ref()))),
        _ => Ok(()),
    }
}

pub(super) fn absolute(
    source: &Source<'_>,
    text: Spanned<String>,
    remedy: &str,
) -> Result<PathBuf, Mistake> {
    let path = PathBuf::from(text.get_ref());
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(at(source, &text, format!("is not absolute; {remedy}")))
    }
}

fn is_port(text: &str) -> bool {
    text.strip_prefix("tcp/")
        .or_else(|| text.strip_prefix("udp/"))
        .and_then(|port| port.parse::<u16>().ok())
        .is_some_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use crate::config::FilesConfig;

    #[test]
    fn what_is_about_files_is_read_whatever_keys_the_overlay() {
        let text = "[overlay]\nlocal = \"192.0.2.10\"\n[files]\nroot = \"/srv\"\n";
        let files = FilesConfig::parse("f.toml", "red", text).unwrap();
        assert_eq!((files.name.as_str(), files.files.root), ("red", Some("/srv".into())));
        let named = FilesConfig::parse("f.toml", "F", "[space]\nname = \"blue\"").unwrap();
        assert_eq!((named.name.as_str(), named.files.root), ("blue", None));
    }

    #[test]
    fn mistakes_about_files_are_named_as_ever() {
        let mistake = |text| FilesConfig::parse("f.toml", "red", text).unwrap_err().to_string();
        assert!(mistake("[files]\nroot = \"srv\"").starts_with("f.toml:2: [files] root: is not"));
        assert!(mistake("[files]\nroots = \"/srv\"").contains("unknown field"));
        assert!(mistake("[space]\nname = \"Red\"").contains("cannot name a space"));
    }
}
