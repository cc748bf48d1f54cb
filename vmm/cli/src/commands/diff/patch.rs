//! `diff --patch`: changes within files, as `git diff` and `patch` have them.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use cowfs::{Change, Comparison, FileKind, Side, What};
use similar::TextDiff;

use crate::failure::{Failure, Outcome};
use crate::files::shown;

/// Longest file whose text is compared, bytes.
const MOST: u64 = 16 << 20;

/// Where a text ends to be looked at for a zero byte, which makes it binary (git).
const LOOKED_AT: usize = 8000;

/// Longest search for the shortest difference of one file.
const PATIENCE: Duration = Duration::from_secs(2);

const NOTHING: &str = "/dev/null";

/// Prints the patch on standard output.
pub(super) fn print(compared: &Comparison) -> Outcome<()> {
    let stdout = io::stdout();
    let terminal = stdout.is_terminal();
    let mut out = BufWriter::new(stdout.lock());
    for change in &compared.changes {
        let mut text = Vec::new();
        one(compared, change, &mut text).expect("memory takes what is written");
        if terminal {
            text = visible(&text);
        }
        if out.write_all(&text).is_err() {
            // Nobody reads it any more.
            return Ok(());
        }
    }
    out.flush().map_err(|error| Failure::because("the patch cannot be written", error))
}

/// Text that cannot order a terminal about: it is a guest's.
fn visible(text: &[u8]) -> Vec<u8> {
    let mut seen = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b'\n' | b'\t' => seen.push(*byte),
            0..32 => seen.extend([b'^', byte + b'@']),
            127 => seen.extend(b"^?"),
            _ => seen.push(*byte),
        }
    }
    seen
}

fn one(compared: &Comparison, change: &Change, out: &mut Vec<u8>) -> io::Result<()> {
    match (&change.what, change.before, change.after) {
        (What::Renamed { from, .. }, before, after) => {
            writeln!(out, "diff --git {} {}", named("a/", from), named("b/", &change.path))?;
            writeln!(out, "rename from {}", shown(from))?;
            writeln!(out, "rename to {}", shown(&change.path))?;
            differences(before, after, out)
        }
        // As git has it: one goes, another comes.
        (What::Changed(parts), before @ Some(_), after @ Some(_)) if parts.kind => {
            file(compared, change, before, None, out)?;
            file(compared, change, None, after, out)
        }
        (_, before, after) => file(compared, change, before, after, out),
    }
}

/// One file: its head, then its text.
fn file(
    compared: &Comparison,
    change: &Change,
    before: Option<Side>,
    after: Option<Side>,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let (a, b) = (named("a/", &change.path), named("b/", &change.path));
    let Some(either) = after.or(before) else { return Ok(()) };
    writeln!(out, "diff --git {a} {b}")?;
    match (before, after) {
        (None, Some(side)) => writeln!(out, "new {} mode {}", word(&side), mode(&side))?,
        (Some(side), None) => writeln!(out, "deleted {} mode {}", word(&side), mode(&side))?,
        _ => differences(before, after, out)?,
    }
    if !matches!(either.kind, FileKind::File | FileKind::Symlink) {
        return Ok(());
    }
    let is_binary = |text: &[u8]| text[..text.len().min(LOOKED_AT)].contains(&0);
    let (one, two) = match compared.texts(change, MOST) {
        // Of a change of type, one side at a time.
        Ok([one, two]) => (one.filter(|_| before.is_some()), two.filter(|_| after.is_some())),
        Err(errno) => return writeln!(out, "{} cannot be read: {errno}", shown(&change.path)),
    };
    let is_long = one.is_none() && before.is_some() || two.is_none() && after.is_some();
    let (one, two) = (one.unwrap_or_default(), two.unwrap_or_default());
    if one == two && !is_long {
        return Ok(());
    }
    let a = if before.is_some() { a } else { NOTHING.to_owned() };
    let b = if after.is_some() { b } else { NOTHING.to_owned() };
    if is_long || is_binary(&one) || is_binary(&two) {
        return writeln!(out, "Binary files {a} and {b} differ");
    }
    let differences = TextDiff::configure().timeout(PATIENCE).diff_lines(&one[..], &two[..]);
    differences.unified_diff().context_radius(3).header(&a, &b).to_writer(out)
}

/// What differs besides the text.
fn differences(before: Option<Side>, after: Option<Side>, out: &mut Vec<u8>) -> io::Result<()> {
    let (Some(before), Some(after)) = (before, after) else { return Ok(()) };
    if before.mode != after.mode && after.kind != FileKind::Symlink {
        writeln!(out, "old mode {}\nnew mode {}", mode(&before), mode(&after))?;
    }
    if (before.uid, before.gid) != (after.uid, after.gid) {
        writeln!(out, "old owner {}:{}", before.uid, before.gid)?;
        writeln!(out, "new owner {}:{}", after.uid, after.gid)?;
    }
    Ok(())
}

fn word(side: &Side) -> &'static str {
    match side.kind {
        // A link is a file to git.
        FileKind::Symlink => "file",
        kind => kind.name(),
    }
}

/// The type and all bits of the mode, as git writes its own.
fn mode(side: &Side) -> String {
    match side.kind {
        FileKind::File => format!("10{:04o}", side.mode),
        FileKind::Symlink => "120000".to_owned(),
        FileKind::Directory => format!("04{:04o}", side.mode),
        FileKind::Fifo => format!("01{:04o}", side.mode),
        FileKind::Socket => format!("14{:04o}", side.mode),
        FileKind::Character => format!("02{:04o}", side.mode),
        FileKind::Block => format!("06{:04o}", side.mode),
    }
}

fn named(prefix: &str, path: &Path) -> String {
    shown(&Path::new(prefix).join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_order_a_terminal_about() {
        assert_eq!(visible(b"+a\tb\x1b[2J\x7f\n"), b"+a\tb^[[2J^?\n");
    }
}
