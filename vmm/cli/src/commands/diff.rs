//! `portspace diff`: what a space has otherwise than its parent.

mod patch;

use std::io::{IsTerminal, stderr, stdout};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use cowfs::{Change, Comparison, FileKind, Side, Unreadable, What, shown};
use serde::Serialize;

use super::listing::print_json;
use crate::config::SpaceName;
use crate::failure::{Outcome, While};
use crate::files::{self, OwnFiles, warn_of};
use crate::lifecycle::Spaces;
use crate::progress::Progress;
use crate::table::count;

/// What `portspace diff` is told.
#[derive(Args)]
pub(super) struct Options {
    /// The space; it may be running or mounted
    name: SpaceName,
    /// Print JSON: an array of changes
    #[arg(long, conflicts_with = "patch")]
    json: bool,
    /// Print what is different within files
    #[arg(long, short)]
    patch: bool,
}

/// One change, as `--json` has it.
#[derive(Serialize)]
pub(super) struct Entry<'a> {
    /// From the space's root; what is no UTF-8 in it is replaced.
    path: String,
    /// Its bytes, if it is no UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<&'a [u8]>,
    /// `added`, `changed`, `deleted`, `renamed`; `unreadable` for what could not be looked at.
    change: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    /// What is different, of what both have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<&'static str>,
    /// Where the parent has a renamed directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_bytes: Option<&'a [u8]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Shape>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Shape>,
    /// What the parent did meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    conflict: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    masked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// What a file is on one side, owners as inside.
#[derive(Serialize)]
struct Shape {
    kind: &'static str,
    /// Octal.
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
}

/// Shows what a space has otherwise than its parent; the status is 1 if not all could be read.
pub(super) fn diff(options: &Options) -> Outcome<ExitCode> {
    let spaces = Spaces::open()?;
    let files = OwnFiles::of(&spaces, &options.name)?;
    let compared = compare(&files)?;
    if options.json {
        let changes = compared.changes.iter().map(entry);
        let entries: Vec<_> = changes.chain(compared.unreadable.iter().map(unreadable)).collect();
        print_json(&entries)?;
    } else if options.patch {
        patch::print(&compared)?;
    } else {
        print(&files, &compared);
    }
    warn_of(&compared.unreadable);
    if let Some(layer) = files.lineage.as_ref().and_then(|lineage| lineage.own().next()) {
        let name = &files.name;
        eprintln!(
            "portspace: what space {name} changed before is in {layer}, which it sealed for others; portspace commit {name} --dry-run lists all of it"
        );
    }
    if let Some(failure) = &compared.parent {
        let name = &files.name;
        eprintln!("portspace: {failure}; until then all that space {name} has of its own is shown");
    }
    Ok(match compared.unreadable.is_empty() && compared.parent.is_none() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Compares, saying on a terminal how far it is.
pub(super) fn compare(files: &OwnFiles) -> Outcome<Comparison> {
    let progress = stderr().is_terminal().then(Progress::new);
    let mut looked = |number| files::counted(&progress, "comparing", number);
    files
        .config
        .compare(&mut looked)
        .or_fail(|| format!("the own files of space {} cannot be read", files.name))
}

fn print(files: &OwnFiles, compared: &Comparison) {
    let (name, parent) = (&files.name, files.parent());
    if compared.changes.is_empty() {
        if compared.unreadable.is_empty() && compared.parent.is_none() {
            say!("space {name} has changed nothing of {parent}");
        }
        return;
    }
    let colours = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for change in &compared.changes {
        say!("{}", line(change, colours));
    }
    say!("{} of {parent} by space {name}", summary(&compared.changes));
}

/// A change in a line.
pub(super) fn line(change: &Change, colours: bool) -> String {
    let (word, colour) = match &change.what {
        What::Added => ("added", "32"),
        What::Changed(_) => ("changed", "33"),
        What::Deleted => ("deleted", "31"),
        What::Renamed { .. } => ("renamed", "36"),
    };
    let place = match &change.what {
        What::Renamed { from, .. } => format!("{}/ -> {}/", shown(from), shown(&change.path)),
        _ => format!("{}{}", shown(&change.path), mark(change)),
    };
    let remarks = remarks(change);
    let remarks = if remarks.is_empty() { String::new() } else { format!("  ({remarks})") };
    let warned = match (change.conflict, change.is_masked) {
        (Some(conflict), _) => format!("  conflict: {}", conflict.sentence()),
        (None, true) => "  masked".to_owned(),
        (None, false) => String::new(),
    };
    match colours {
        false => format!("{word:<8} {place}{remarks}{warned}"),
        true => {
            format!("\x1b[{colour}m{word:<8} {place}\x1b[0m{remarks}\x1b[1;31m{warned}\x1b[0m")
        }
    }
}

/// What a name is followed by, as `ls -F` does.
fn mark(change: &Change) -> &'static str {
    let side = change.after.as_ref().or(change.before.as_ref());
    match side.map(|side| side.kind) {
        Some(FileKind::Directory) if !change.path.as_os_str().is_empty() => "/",
        Some(FileKind::Symlink) => "@",
        Some(FileKind::Fifo) => "|",
        Some(FileKind::Socket) => "=",
        _ => "",
    }
}

/// What is different, the two modes and owners with it.
fn remarks(change: &Change) -> String {
    let parts = match &change.what {
        What::Changed(parts) | What::Renamed { parts, .. } => *parts,
        What::Added | What::Deleted => return String::new(),
    };
    let (Some(before), Some(after)) = (&change.before, &change.after) else {
        return parts.names().join(", ");
    };
    let each = parts.names().into_iter().map(|part| match part {
        "type" => format!("{} to {}", before.kind.name(), after.kind.name()),
        "mode" => format!("mode {:04o} to {:04o}", before.mode, after.mode),
        "owner" => format!("owner {}:{} to {}:{}", before.uid, before.gid, after.uid, after.gid),
        part => part.to_owned(),
    });
    each.collect::<Vec<_>>().join(", ")
}

/// How much there is of each kind, in a line.
pub(super) fn summary(changes: &[Change]) -> String {
    let number = |is: fn(&Change) -> bool| changes.iter().filter(|change| is(change)).count();
    let numbers = [
        (number(|change| change.what == What::Added), "added"),
        (number(|change| matches!(change.what, What::Changed(_))), "changed"),
        (number(|change| change.what == What::Deleted), "deleted"),
        (number(|change| matches!(change.what, What::Renamed { .. })), "renamed"),
    ];
    let each = numbers.iter().filter(|(number, _)| *number > 0);
    let mut text = each.map(|(n, word)| format!("{n} {word}")).collect::<Vec<_>>().join(", ");
    let conflicts = number(|change| change.conflict.is_some());
    if conflicts > 0 {
        text.push_str(&format!(", with {}", count(conflicts as u64, "conflict")));
    }
    text
}

fn bytes_of(path: &Path) -> Option<&[u8]> {
    path.to_str().is_none().then(|| path.as_os_str().as_bytes())
}

pub(super) fn entry(change: &Change) -> Entry<'_> {
    let (word, parts, from) = match &change.what {
        What::Added => ("added", Vec::new(), None),
        What::Deleted => ("deleted", Vec::new(), None),
        What::Changed(parts) => ("changed", parts.names(), None),
        What::Renamed { from, parts } => ("renamed", parts.names(), Some(from)),
    };
    let side = change.after.as_ref().or(change.before.as_ref());
    Entry {
        path: change.path.to_string_lossy().into_owned(),
        path_bytes: bytes_of(&change.path),
        change: word,
        kind: side.map(|side| side.kind.name()),
        parts,
        from: from.map(|from| from.to_string_lossy().into_owned()),
        from_bytes: from.and_then(|from| bytes_of(from)),
        before: change.before.as_ref().map(shape),
        after: change.after.as_ref().map(shape),
        conflict: change.conflict.map(cowfs::Conflict::sentence),
        masked: change.is_masked,
        error: None,
    }
}

fn unreadable(unreadable: &Unreadable) -> Entry<'_> {
    Entry {
        path: unreadable.path.to_string_lossy().into_owned(),
        path_bytes: bytes_of(&unreadable.path),
        change: "unreadable",
        kind: None,
        parts: Vec::new(),
        from: None,
        from_bytes: None,
        before: None,
        after: None,
        conflict: None,
        masked: false,
        error: Some(unreadable.why.to_string()),
    }
}

fn shape(side: &Side) -> Shape {
    let Side { kind, mode, uid, gid, size, .. } = *side;
    Shape { kind: kind.name(), mode: format!("{mode:04o}"), uid, gid, size }
}
