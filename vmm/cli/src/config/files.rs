//! `[files]`: what of the host is seen inside, as far as the file alone can say.

mod inject;
#[cfg(test)]
mod tests;

pub use inject::{Content, Injected};

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::raw::{NO_SIZE, absolute};
use super::secrets::{home, secrets};
use super::word::Word;
use super::{Mistake, Source, at};

/// What a file says of its space's files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The directory of the parent that is seen inside; `None`: an empty file space.
    pub root: Option<PathBuf>,
    /// Paths on the host of which nothing is seen.
    pub masks: Vec<PathBuf>,
    /// What is mounted below the root and seen, by its paths on the host; `None`: all of it.
    pub mounts: Option<Vec<PathBuf>>,
    /// What of the host is at other places inside.
    pub binds: Vec<Bind>,
    /// Files that are there inside only.
    pub injected: Vec<Injected>,
    /// Most bytes of the space's own layer.
    pub quota: Option<u64>,
}

/// A file or directory of the host at a place inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Where it is inside, absolute.
    pub path: PathBuf,
    /// What it is on the host, absolute.
    pub source: PathBuf,
    /// The space may change it, for the host to see.
    pub shared: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFiles {
    root: Option<Spanned<String>>,
    mask: Option<Spanned<Vec<String>>>,
    mounts: Option<Spanned<Vec<String>>>,
    #[serde(default)]
    bind: Vec<Spanned<RawBind>>,
    inject: Option<toml::map::Map<String, toml::Value>>,
    quota: Option<Spanned<Word>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBind {
    path: Spanned<String>,
    source: Option<Spanned<String>>,
    mode: Option<Spanned<String>>,
}

/// The name servers of `[overlay] dns`, which become a file.
pub(super) type Dns = Option<Spanned<Vec<String>>>;

impl RawFiles {
    /// What the file says; `own_tree` is whether the space has a root of its own.
    ///
    /// # Errors
    /// The first value that has no meaning.
    pub(super) fn convert(
        self,
        source: &Source<'_>,
        dns: &Dns,
        own_tree: bool,
    ) -> Result<Files, Mistake> {
        if let (false, Some(root)) = (own_tree, &self.root) {
            let what = "is the parent's, and cannot be another; remove it, or the parent";
            return Err(at(source, root, what));
        }
        if let (false, Some(mounts)) = (own_tree, &self.mounts) {
            let what = "are the parent's, and cannot be others; remove them, or the parent";
            return Err(at(source, mounts, what));
        }
        let root = self.root.map(|root| absolute(source, root, "write the directory from / on"));
        let root = root.transpose()?;
        let seen = root.as_deref();
        let masks = match (&self.mask, own_tree) {
            (None, _) => secrets().collect(),
            (Some(mask), true) => masks(source, mask, seen)?,
            (Some(mask), false) => masks(source, mask, Some(Path::new("/")))?,
        };
        let mounts = self.mounts.map(|mounts| below(source, &mounts, seen)).transpose()?;
        let mut binds = Vec::new();
        for bind in self.bind {
            let (span, bind) = (bind.span(), bind.into_inner().convert(source)?);
            if let Some(other) = binds.iter().find(|other: &&Bind| other.path == bind.path) {
                let what = format!("{} is bound twice; keep one of the two", other.path.display());
                return Err(source.mistake(Some(span), Some("[[files.bind]] path"), what));
            }
            binds.push(bind);
        }
        let injected = inject::convert(source, self.inject, dns, &binds)?;
        let quota = self.quota.map(|quota| quota_of(source, &quota)).transpose()?;
        Ok(Files { root, masks, mounts, binds, injected, quota })
    }
}

impl RawBind {
    fn convert(self, source: &Source<'_>) -> Result<Bind, Mistake> {
        let path = inside(self.path.get_ref()).ok_or_else(|| at(source, &self.path, NO_PLACE))?;
        let from = self.source.as_ref().unwrap_or(&self.path);
        let from = from_home(from.get_ref()).ok_or_else(|| {
            at(source, from, "is not absolute; write what is bound from / or ~/ on")
        })?;
        let shared = match self.mode.as_ref().map(|mode| mode.get_ref().as_str()) {
            None | Some("read-only") => false,
            Some("shared") => true,
            Some(other) => {
                let what = format!("{other:?} is no mode; use \"read-only\" or \"shared\"");
                return Err(at(source, self.mode.as_ref().unwrap_or(&self.path), what));
            }
        };
        Ok(Bind { path, source: from, shared })
    }
}

/// What is wrong with a place inside.
const NO_PLACE: &str =
    "is no place inside; write a path from / on, below the root and without . or ..";

/// A place inside other than its root.
fn inside(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let mut parts = path.components();
    let is_absolute = parts.next() == Some(Component::RootDir);
    let mut any = false;
    let plain = parts.all(|part| {
        any = true;
        matches!(part, Component::Normal(_))
    });
    // Each part alone once more: `components` takes `/./` for `/`.
    let dots = text.split('/').any(|part| part == "." || part == "..");
    (is_absolute && any && plain && !dots).then(|| path.components().collect())
}

/// A path of the host, absolute or below the user's home.
fn from_home(text: &str) -> Option<PathBuf> {
    let path = match text.strip_prefix("~/") {
        Some(rest) => home()?.join(rest),
        None => PathBuf::from(text),
    };
    path.is_absolute().then_some(path)
}

/// The paths of `mask`: of an empty tree nothing is to be masked.
fn masks(
    source: &Source<'_>,
    given: &Spanned<Vec<String>>,
    root: Option<&Path>,
) -> Result<Vec<PathBuf>, Mistake> {
    let (mut masks, mut others) = (Vec::new(), Vec::new());
    for text in given.get_ref() {
        match text == "default" {
            true => masks.extend(secrets()),
            false => others.push(text.clone()),
        }
    }
    for text in &others {
        masks.push(one_below(source, given, text, root, "a path from / or ~/ on, or \"default\"")?);
    }
    Ok(masks)
}

fn below(
    source: &Source<'_>,
    given: &Spanned<Vec<String>>,
    root: Option<&Path>,
) -> Result<Vec<PathBuf>, Mistake> {
    let each = given.get_ref().iter();
    each.map(|text| one_below(source, given, text, root, "where it is mounted, from / on"))
        .collect()
}

/// A path below the root.
fn one_below(
    source: &Source<'_>,
    given: &Spanned<Vec<String>>,
    text: &str,
    root: Option<&Path>,
    remedy: &str,
) -> Result<PathBuf, Mistake> {
    let path = from_home(text);
    let is_below = |path: &PathBuf| match root {
        Some(root) => path.strip_prefix(root).is_ok_and(|below| below.file_name().is_some()),
        None => true,
    };
    path.filter(is_below).ok_or_else(|| {
        let root = root.unwrap_or(Path::new("/")).display();
        at(source, given, format!("{text:?} is not below the root {root}; write {remedy}"))
    })
}

fn quota_of(source: &Source<'_>, quota: &Spanned<Word>) -> Result<u64, Mistake> {
    match quota.get_ref().size() {
        None => Err(at(source, quota, NO_SIZE)),
        Some(0..65536) => {
            let what = "is too little to write anything; write at least 64K, or remove the field";
            Err(at(source, quota, what))
        }
        Some(size) => Ok(size),
    }
}
