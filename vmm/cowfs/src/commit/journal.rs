//! What a commit is about to do, so that it can be finished or undone by the next who opens the
//! layer.
//!
//! It lies beside work: what serves a guest is locked into upper and work, and should it be
//! taken over, it cannot leave orders for who is not.

use crate::changes::Stamp;
use crate::host::{Access, Directory, Rename};
use fuse::{Errno, Name};
use serde::{Deserialize, Serialize};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// Longest journal that is read, bytes.
const LONGEST: u64 = 1 << 30;

/// Where the journal of a layer is.
#[derive(Debug)]
pub(crate) struct Desk {
    directory: Directory,
    name: Vec<u8>,
    /// Its name while it is written.
    new: Vec<u8>,
}

impl Desk {
    /// Beside the directory `work`.
    pub(crate) fn beside(work: &Path) -> std::io::Result<Desk> {
        let work = std::path::absolute(work)?;
        let (Some(above), Some(name)) = (work.parent(), work.file_name()) else {
            return Err(std::io::ErrorKind::InvalidInput.into());
        };
        let named = |end: &[u8]| [name.as_bytes(), end].concat();
        let directory = Directory::root(above)?;
        Ok(Desk { directory, name: named(b".commit"), new: named(b".commit-new") })
    }

    /// Whether there is one: a commit was interrupted.
    pub(crate) fn has_journal(&self) -> bool {
        Name::new(&self.name).and_then(|name| self.directory.stat(name)).is_ok_and(|s| s.is_some())
    }
}

/// How far a commit is. Each phase is written down before it begins, and what came before it is
/// on disk by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Copies are made in the stages; nothing of the parent is different.
    Stage,
    /// What goes is taken from the parent into the stages.
    Take,
    /// What comes is put from the stages to its place.
    Put,
    /// The parent is as it is to be: what is left is to be removed.
    Clean,
}

/// A directory of the parent in which one of ours holds what comes and what went: one for each
/// file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stage {
    pub(crate) path: Vec<u8>,
}

/// A file that goes into a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Take {
    pub(crate) stage: usize,
    pub(crate) slot: usize,
    pub(crate) path: Vec<u8>,
    pub(crate) stamp: Option<Stamp>,
}

/// A file that comes out of a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Put {
    pub(crate) stage: usize,
    pub(crate) slot: usize,
    pub(crate) path: Vec<u8>,
    /// It changes places with this file of the parent.
    pub(crate) replaced: Option<Stamp>,
    /// The inode of what comes, by which an exchange is told from none.
    pub(crate) inode: u64,
}

/// Mode and owner of a directory.
pub(crate) type Dress = (u32, u32, u32);

/// A directory of the parent that is shown otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redress {
    pub(crate) path: Vec<u8>,
    pub(crate) old: Dress,
    pub(crate) new: Dress,
}

/// What is done to the upper once the parent has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Settle {
    Remove(Vec<u8>),
    Unmark(Vec<u8>),
    RemoveIfEmpty(Vec<u8>),
    Unindex(Arc<[u8]>),
}

/// A file of the upper that is to count as made after the parent's, which was moved to and fro.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refresh {
    pub(crate) own: Vec<u8>,
    pub(crate) below: Vec<u8>,
    pub(crate) stamp: Stamp,
}

/// All of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Journal {
    pub(crate) phase: Phase,
    /// It is being undone.
    pub(crate) back: bool,
    /// The parent's directory on the host.
    pub(crate) root: Vec<u8>,
    /// The name of our directory in each stage's.
    pub(crate) name: Vec<u8>,
    pub(crate) stages: Vec<Stage>,
    pub(crate) takes: Vec<Take>,
    pub(crate) puts: Vec<Put>,
    pub(crate) redress: Vec<Redress>,
    pub(crate) settle: Vec<Settle>,
    pub(crate) refresh: Vec<Refresh>,
}

impl Journal {
    /// Writes it down: all of it is there, or what was there before.
    pub(crate) fn write(&self, desk: &Desk) -> Result<(), Errno> {
        let Desk { directory, name, new } = desk;
        let (name, new) = (Name::new(name)?, Name::new(new)?);
        let written = (|| {
            if directory.stat(new)?.is_some() {
                directory.remove(new)?;
            }
            let file = directory.create(new, 0o600)?;
            let text = self.text();
            if file.write(0, &text)? < text.len() {
                return Err(Errno::ENOSPC);
            }
            file.sync(false)?;
            directory.rename(new, directory, name, Rename::Replace)
        })();
        if written.is_err() {
            let _ = directory.remove(new);
        }
        written?;
        directory.sync()
    }

    /// Reads it; `None` if no commit was interrupted.
    pub(crate) fn read(desk: &Desk) -> Result<Option<Journal>, Errno> {
        let file = match desk.directory.file(Name::new(&desk.name)?, Access::Read) {
            Err(Errno::ENOENT) => return Ok(None),
            file => file?,
        };
        let mut text = Vec::new();
        file.read(0, file.stat()?.size.min(LONGEST) as usize, &mut text)?;
        Journal::parse(&text).ok_or(Errno::EPROTO).map(Some)
    }

    /// Forgets it: the commit is over.
    pub(crate) fn remove(desk: &Desk) -> Result<(), Errno> {
        match desk.directory.remove(Name::new(&desk.name)?) {
            Err(Errno::ENOENT) => Ok(()),
            removed => removed,
        }
    }

    fn text(&self) -> Vec<u8> {
        let mut text = Text(b"portspace commit 1\n".to_vec());
        let phase = match self.phase {
            Phase::Stage => "stage",
            Phase::Take => "take",
            Phase::Put => "put",
            Phase::Clean => "clean",
        };
        text.line(&["phase", phase, if self.back { "back" } else { "on" }], &[]);
        text.line(&["root"], &[&self.root, &self.name]);
        for stage in &self.stages {
            text.line(&["at"], &[&stage.path]);
        }
        for Take { stage, slot, path, stamp } in &self.takes {
            let stamp = stamp.map_or("-".to_owned(), Stamp::text);
            text.line(&["take", &stage.to_string(), &slot.to_string(), &stamp], &[path]);
        }
        for Put { stage, slot, path, replaced, inode } in &self.puts {
            let stamp = replaced.map_or("-".to_owned(), Stamp::text);
            let numbers = [stage.to_string(), slot.to_string(), inode.to_string()];
            text.line(&["put", &numbers[0], &numbers[1], &numbers[2], &stamp], &[path]);
        }
        for Redress { path, old, new } in &self.redress {
            let (old, new) = (format!("{old:?}"), format!("{new:?}"));
            let plain = |text: &str| text.replace([' ', '(', ')'], "");
            text.line(&["dress", &plain(&old), &plain(&new)], &[path]);
        }
        for settle in &self.settle {
            match settle {
                Settle::Remove(path) => text.line(&["remove"], &[path]),
                Settle::Unmark(path) => text.line(&["unmark"], &[path]),
                Settle::RemoveIfEmpty(path) => text.line(&["prune"], &[path]),
                Settle::Unindex(key) => text.line(&["unindex"], &[key]),
            }
        }
        for Refresh { own, below, stamp } in &self.refresh {
            text.line(&["refresh", &stamp.text()], &[own, below]);
        }
        text.0
    }

    fn parse(text: &[u8]) -> Option<Journal> {
        let text = std::str::from_utf8(text).ok()?;
        let mut lines = text.lines();
        if lines.next()? != "portspace commit 1" {
            return None;
        }
        let mut journal = Journal::empty();
        for line in lines {
            let mut words = line.split(' ');
            match words.next()? {
                "phase" => {
                    journal.phase = match words.next()? {
                        "stage" => Phase::Stage,
                        "take" => Phase::Take,
                        "put" => Phase::Put,
                        "clean" => Phase::Clean,
                        _ => return None,
                    };
                    journal.back = words.next()? == "back";
                }
                "root" => (journal.root, journal.name) = (path(&mut words)?, path(&mut words)?),
                "at" => journal.stages.push(Stage { path: path(&mut words)? }),
                "take" => {
                    let (stage, slot) = (number(&mut words)?, number(&mut words)?);
                    let stamp = stamp(&mut words)?;
                    journal.takes.push(Take { stage, slot, stamp, path: path(&mut words)? });
                }
                "put" => {
                    let (stage, slot) = (number(&mut words)?, number(&mut words)?);
                    let inode = number(&mut words)? as u64;
                    let replaced = stamp(&mut words)?;
                    let path = path(&mut words)?;
                    journal.puts.push(Put { stage, slot, path, replaced, inode });
                }
                "dress" => {
                    let (old, new) = (dress(words.next()?)?, dress(words.next()?)?);
                    journal.redress.push(Redress { old, new, path: path(&mut words)? });
                }
                "remove" => journal.settle.push(Settle::Remove(path(&mut words)?)),
                "unmark" => journal.settle.push(Settle::Unmark(path(&mut words)?)),
                "prune" => journal.settle.push(Settle::RemoveIfEmpty(path(&mut words)?)),
                "unindex" => journal.settle.push(Settle::Unindex(path(&mut words)?.into())),
                "refresh" => {
                    let stamp = stamp(&mut words)??;
                    let (own, below) = (path(&mut words)?, path(&mut words)?);
                    journal.refresh.push(Refresh { own, below, stamp });
                }
                _ => return None,
            }
        }
        let is_sound = |stage: usize| stage < journal.stages.len();
        let sound = journal.takes.iter().all(|take| is_sound(take.stage))
            && journal.puts.iter().all(|put| is_sound(put.stage));
        sound.then_some(journal)
    }

    pub(crate) fn empty() -> Journal {
        Journal {
            phase: Phase::Stage,
            back: false,
            root: Vec::new(),
            name: Vec::new(),
            stages: Vec::new(),
            takes: Vec::new(),
            puts: Vec::new(),
            redress: Vec::new(),
            settle: Vec::new(),
            refresh: Vec::new(),
        }
    }
}

struct Text(Vec<u8>);

impl Text {
    /// Words, then paths with everything but plain letters as `%` and two digits.
    fn line(&mut self, words: &[&str], paths: &[&[u8]]) {
        self.0.extend(words.join(" ").bytes());
        for path in paths {
            self.0.extend(b" /");
            for byte in *path {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'/' | b'#' => {
                        self.0.push(*byte);
                    }
                    byte => self.0.extend(format!("%{byte:02x}").bytes()),
                }
            }
        }
        self.0.push(b'\n');
    }
}

type Words<'a> = std::str::Split<'a, char>;

fn number(words: &mut Words<'_>) -> Option<usize> {
    words.next()?.parse().ok()
}

/// The outer `None` is no stamp at all, the inner one is none of a file.
fn stamp(words: &mut Words<'_>) -> Option<Option<Stamp>> {
    match words.next()? {
        "-" => Some(None),
        text => Stamp::parse(text).map(Some),
    }
}

fn dress(text: &str) -> Option<Dress> {
    let mut numbers = text.split(',').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

fn path(words: &mut Words<'_>) -> Option<Vec<u8>> {
    let mut bytes = words.next()?.strip_prefix('/')?.bytes();
    let mut path = Vec::new();
    while let Some(byte) = bytes.next() {
        path.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_survives_its_text() {
        let stamp = Stamp::parse("1:2:3:-4:5").unwrap();
        let directory = Stamp::parse("7:8").unwrap();
        let path = b"d/\xff %\n/x".to_vec();
        let journal = Journal {
            phase: Phase::Put,
            back: true,
            root: b"/srv".to_vec(),
            name: b".name".to_vec(),
            stages: vec![Stage { path: Vec::new() }, Stage { path: path.clone() }],
            takes: vec![Take { stage: 1, slot: 7, path: path.clone(), stamp: Some(directory) }],
            puts: vec![
                Put { stage: 0, slot: 1, path: path.clone(), replaced: Some(stamp), inode: 77 },
                Put { stage: 0, slot: 2, path: path.clone(), replaced: None, inode: 0 },
            ],
            redress: vec![Redress { path: path.clone(), old: (1, 2, 3), new: (0o755, 5, 6) }],
            settle: vec![
                Settle::Remove(path.clone()),
                Settle::Unmark(Vec::new()),
                Settle::RemoveIfEmpty(path.clone()),
                Settle::Unindex(Arc::from(&b"a-b"[..])),
            ],
            refresh: vec![Refresh { own: path.clone(), below: path, stamp }],
        };
        assert_eq!(Journal::parse(&journal.text()), Some(journal));
    }

    #[test]
    fn a_damaged_journal_is_none() {
        for text in ["", "portspace commit 2\n", "portspace commit 1\ntake 0 0 - /x\n"] {
            assert_eq!(Journal::parse(text.as_bytes()), None);
        }
    }
}
