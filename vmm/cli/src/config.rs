//! Configuration: the raw TOML becomes a [`Config`] by one conversion.
//!
//! An invalid file has no value; its first mistake is a [`Mistake`] with file,
//! line, section, field, what is wrong and what to do.

mod disk;
mod files;
mod keys;
mod overlay;
mod policy;
mod raw;
mod sa;
mod secrets;
mod session;
#[cfg(test)]
mod tests;
mod traffic;
mod word;

pub use disk::Disk;
pub use files::{Bind, Content, Files, Injected};
pub(crate) use traffic::protocol_name;
pub(crate) use word::parse_size;

use std::ops::Range;
use std::path::Path;

use switch::overlay::{Overlay, SaPair};
use toml::Spanned;

/// What is wrong with a configuration file, printed as
/// `FILE:LINE: [section] field: what is wrong; what to do`.
#[derive(Debug, thiserror::Error)]
pub enum Mistake {
    /// The file cannot be read.
    #[error("{file}: cannot be read ({source}); name a readable TOML file")]
    Unreadable {
        /// The file as the user named it.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// What `--session-keys` names holds no SAs for this file.
    #[error("{file}: {what}")]
    Session {
        /// The file as the user named it.
        file: String,
        /// What is wrong; what to do.
        what: String,
    },
    /// A line says something that has no meaning here.
    #[error("{file}:{line}: {place}: {what}")]
    Line {
        /// The file as the user named it.
        file: String,
        /// From 1.
        line: usize,
        /// `[section] field`.
        place: String,
        /// What is wrong; what to do.
        what: String,
    },
}

/// One space, or one bare endpoint: everything a file can say, checked.
#[derive(Debug)]
pub struct Config {
    /// The space's name.
    pub name: SpaceName,
    /// The space it is made from; `None`: the host.
    pub parent: Option<SpaceName>,
    /// Guest memory, bytes; whole pages.
    pub memory_bytes: u64,
    /// Longest spin of the switch or of a bare endpoint before it sleeps, microseconds.
    pub spin_us: Option<u32>,
    /// Longest spin of the guest before it sleeps, microseconds.
    pub guest_spin_us: Option<u32>,
    /// What the space is bound to.
    pub overlay: Overlay,
    /// What of the host is seen inside.
    pub files: Files,
    /// The space's disks, in the order in which it sees them.
    pub disks: Vec<Disk>,
}

/// What a file says of its space's files: enough to serve them, whatever keys the overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesConfig {
    /// The space's name.
    pub name: SpaceName,
    /// The space it is made from; `None`: the host.
    pub parent: Option<SpaceName>,
    /// What of the host is seen inside.
    pub files: Files,
}

/// Names a space: 1 to 32 of `a-z`, `0-9`, `-`; so it is also a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpaceName(String);

/// A name no space can have.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} cannot name a space; use 1 to 32 of a-z, 0-9 and -, not beginning with -")]
pub struct NotAName(String);

impl SpaceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for SpaceName {
    type Err = NotAName;

    fn from_str(text: &str) -> Result<Self, NotAName> {
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = (1..=32).contains(&text.len()) && text.bytes().all(letters);
        if fits && !text.starts_with('-') {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAName(text.to_owned()))
        }
    }
}

impl std::fmt::Display for SpaceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the SAs come from.
enum Keyed {
    /// The file itself.
    ByFile,
    /// A file of session keys, by its name, and what it holds.
    BySession(String, Vec<SaPair>),
}

impl Config {
    /// Reads and converts a file; its SAs are those of the file `session_keys`, if one is named.
    ///
    /// # Errors
    /// The first [`Mistake`] of either file.
    pub fn read(path: &Path, session_keys: Option<&Path>) -> Result<Self, Mistake> {
        let (file, text) = text_of(path)?;
        let stem = stem_of(path);
        let keyed = session_keys.map_or(Ok(Keyed::ByFile), session::read)?;
        Self::convert(&file, &stem, &text, keyed)
    }

    /// Converts the text of a file; `stem` names the space if the text does not.
    ///
    /// # Errors
    /// The first [`Mistake`] of the text.
    pub fn parse(file: &str, stem: &str, text: &str) -> Result<Self, Mistake> {
        Self::convert(file, stem, text, Keyed::ByFile)
    }

    fn convert(file: &str, stem: &str, text: &str, keyed: Keyed) -> Result<Self, Mistake> {
        let source = Source { file, text };
        let raw: raw::File = toml::from_str(text)
            .map_err(|error| source.mistake(error.span(), None, one_line(error.message())))?;
        raw.convert(&source, stem, keyed)
    }
}

impl FilesConfig {
    /// Reads those parts of a file; `name` is the space's if the file does not name it, else it is
    /// the file's own.
    ///
    /// # Errors
    /// The first [`Mistake`] of those parts.
    pub fn read(path: &Path, name: Option<&SpaceName>) -> Result<Self, Mistake> {
        let (file, text) = text_of(path)?;
        let stem = name.map_or_else(|| stem_of(path), SpaceName::to_string);
        Self::parse(&file, &stem, &text)
    }

    fn parse(file: &str, stem: &str, text: &str) -> Result<Self, Mistake> {
        let source = Source { file, text };
        let raw: raw::FilesAlone = toml::from_str(text)
            .map_err(|error| source.mistake(error.span(), None, one_line(error.message())))?;
        raw.convert(&source, stem)
    }
}

/// A file's name for people, and what it holds.
fn text_of(path: &Path) -> Result<(String, String), Mistake> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((file, text)),
        Err(source) => Err(Mistake::Unreadable { file, source }),
    }
}

fn stem_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// A mistake of one value.
fn at<T>(source: &Source<'_>, value: &Spanned<T>, what: impl Into<String>) -> Mistake {
    source.mistake(Some(value.span()), None, what.into())
}

/// The parser's words, on one line, as what is wrong; and what to do.
fn one_line(message: &str) -> String {
    let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let remedy = if words.starts_with("unknown field") {
        "remove or correct the field"
    } else if words.starts_with("missing field") {
        "add the field"
    } else if words.starts_with("duplicate key") {
        "keep one of the two"
    } else {
        "correct the value"
    };
    format!("{words}; {remedy}")
}

/// The file being read: turns spans into places.
struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl Source<'_> {
    /// A mistake at `span`; the place is `[section] field` unless `place` says otherwise.
    fn mistake(&self, span: Option<Range<usize>>, place: Option<&str>, what: String) -> Mistake {
        let line = self.line(span.map_or(0, |span| span.start));
        let place = place.map_or_else(|| self.place(line), str::to_owned);
        Mistake::Line { file: self.file.to_owned(), line, place, what }
    }

    /// The line of a byte, from 1.
    fn line(&self, offset: usize) -> usize {
        self.text[..offset.min(self.text.len())].matches('\n').count() + 1
    }

    /// The section a line belongs to and the field it sets, or a line before it began to.
    fn place(&self, line: usize) -> String {
        let (mut section, mut field) = ("[file]", None);
        for text in self.text.lines().take(line) {
            let text = text.trim();
            let close = if text.starts_with("[[") { "]]" } else { "]" };
            match (text.find(close), text.split_once('=')) {
                (Some(end), _) if text.starts_with('[') => {
                    (section, field) = (&text[..end + close.len()], None);
                }
                // The next line of a list.
                _ if text.starts_with(['"', '\'']) => {}
                (_, Some((name, _))) if !text.starts_with(['[', '#']) => field = Some(name.trim()),
                _ => field = None,
            }
        }
        field.map_or_else(|| section.to_owned(), |field| format!("{section} {field}"))
    }
}
