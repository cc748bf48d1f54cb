//! `[[disks]]`: the images a space sees as its disks.

use std::path::PathBuf;

use abi::layout::Place;
use serde::Deserialize;
use toml::Spanned;

use super::raw::absolute;
use super::{Mistake, Source, at};

/// One disk of a space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The raw image, absolute; it is never written.
    pub image: PathBuf,
    /// The space cannot write the disk; else what it writes is in a layer of its own.
    pub read_only: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDisk {
    image: Spanned<String>,
    format: Option<Spanned<String>>,
    #[serde(default)]
    read_only: bool,
}

/// The disks in their order.
pub(super) fn convert(
    source: &Source<'_>,
    disks: Vec<Spanned<RawDisk>>,
) -> Result<Vec<Disk>, Mistake> {
    let most = Place::DISKS.len();
    if let Some(disk) = disks.get(most) {
        let what = format!("is one disk too many; a space has at most {most}");
        return Err(source.mistake(Some(disk.span()), Some("[[disks]]"), what));
    }
    disks.into_iter().map(|disk| disk.into_inner().convert(source)).collect()
}

impl RawDisk {
    fn convert(self, source: &Source<'_>) -> Result<Disk, Mistake> {
        match &self.format {
            Some(format) if format.get_ref() == "raw" => {}
            Some(format) => {
                let what = format!(
                    "{:?} is no format of an image here; convert it with qemu-img convert -O raw, and write \"raw\"",
                    format.get_ref()
                );
                return Err(at(source, format, what));
            }
            None => {
                let what = "is missing, and never guessed; write format = \"raw\"".to_owned();
                let place = Some("[[disks]] format");
                return Err(source.mistake(Some(self.image.span()), place, what));
            }
        }
        let image = absolute(source, self.image, "write the image's path from / on")?;
        Ok(Disk { image, read_only: self.read_only })
    }
}

#[cfg(test)]
mod tests;
