//! What the upper keeps in extended attributes, because the host's own cannot say it.

use crate::host::{Attributes, Directory, Stat};
use fuse::Errno;
use fuse::record::{
    TYPE_BLOCK, TYPE_CHARACTER, TYPE_DIRECTORY, TYPE_FIFO, TYPE_REGULAR, TYPE_SOCKET, TYPE_SYMLINK,
};
use serde::{Deserialize, Serialize};

/// What a file was below when it was copied up: see [`Origin`].
const ORIGIN: &[u8] = b"user.portspace.origin";
/// Where the lowers of a renamed directory are: its path as the lowers have it.
const REDIRECT: &[u8] = b"user.portspace.redirect";
/// Names of a file in the lowers that stand for an entry of the index.
const PENDING: &[u8] = b"user.portspace.pending";
/// When what it stands for in the parent was last looked at, if that is later than it was made.
const SINCE: &[u8] = b"user.portspace.since";
/// Owner, mode, type and device number as shown inside (containers/storage, fuse-overlayfs).
const OVERRIDE: &[u8] = b"user.containers.override_stat";
/// The directory holds regular files that stand for something else: its listing has to look.
const DISGUISES: &[u8] = b"user.portspace.disguises";
/// Before the names of attributes that the guest set and the host may not have.
const INSIDE: &[u8] = b"user.portspace.inside.";
/// overlayfs's mark of an opaque directory: for the administrator's mounts, and for a user's.
const OPAQUE: [&[u8]; 2] = [b"trusted.overlay.opaque", b"user.overlay.opaque"];

/// How a file is shown inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Permission and set-id bits.
    pub(crate) mode: u32,
    /// Type bits.
    pub(crate) kind: u32,
    /// Major and minor number of a device node.
    pub(crate) device: (u32, u32),
}

impl Shown {
    /// The attribute's value, as containers/storage writes it.
    fn text(self) -> Vec<u8> {
        let Shown { uid, gid, mode, device: (major, minor), .. } = self;
        let kind = match self.kind {
            TYPE_DIRECTORY => "dir".into(),
            TYPE_SYMLINK => "symlink".into(),
            TYPE_FIFO => "pipe".into(),
            TYPE_SOCKET => "socket".into(),
            TYPE_CHARACTER => format!("char-{major}-{minor}"),
            TYPE_BLOCK => format!("block-{major}-{minor}"),
            _ => "file".to_owned(),
        };
        format!("{uid}:{gid}:0{mode:o}:{kind}").into_bytes()
    }

    /// Reads the attribute's value; without a type, as before it had one, it is the host's.
    fn parse(text: &[u8], host: u32) -> Option<Shown> {
        let mut parts = std::str::from_utf8(text).ok()?.split(':');
        let uid = parts.next()?.parse().ok()?;
        let gid = parts.next()?.parse().ok()?;
        let mode = u32::from_str_radix(parts.next()?, 8).ok()? & 0o7777;
        let mut words = parts.next().unwrap_or("").split('-');
        let kind = match words.next()? {
            "" => host,
            "file" => TYPE_REGULAR,
            "dir" => TYPE_DIRECTORY,
            "symlink" => TYPE_SYMLINK,
            "pipe" => TYPE_FIFO,
            "socket" => TYPE_SOCKET,
            "char" => TYPE_CHARACTER,
            "block" => TYPE_BLOCK,
            _ => return None,
        };
        // A directory is one on the host and nothing else is: its contents are there.
        if (kind == TYPE_DIRECTORY) != (host == TYPE_DIRECTORY) {
            return None;
        }
        let device = match (words.next(), words.next()) {
            (Some(major), Some(minor)) => (major.parse().ok()?, minor.parse().ok()?),
            _ => (0, 0),
        };
        Some(Shown { uid, gid, mode, kind, device })
    }

    /// As kept for `file`, whose type on the host is `kind`.
    pub(crate) fn read(file: &impl Attributes, kind: u32) -> Result<Option<Shown>, Errno> {
        Ok(file.attribute(OVERRIDE)?.and_then(|text| Shown::parse(&text, kind)))
    }

    /// Keeps it for `file`.
    pub(crate) fn keep(self, file: &impl Attributes) -> Result<(), Errno> {
        file.set_attribute(OVERRIDE, &self.text(), 0)
    }
}

/// What a copied file was below, to show the same inode number and to see what the parent
/// changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The inode number shown inside.
    pub(crate) inode: u64,
    /// Bytes.
    pub(crate) size: u64,
    /// Last write, nanoseconds since 1970.
    pub(crate) modified: i128,
    /// Last change of the attributes, nanoseconds since 1970.
    pub(crate) changed: i128,
}

impl Origin {
    pub(crate) fn of(stat: &Stat, inode: u64) -> Origin {
        Origin { inode, size: stat.size, modified: ns(stat.modified), changed: ns(stat.changed) }
    }

    pub(crate) fn read(file: &impl Attributes) -> Result<Option<Origin>, Errno> {
        let Some(text) = file.attribute(ORIGIN)? else { return Ok(None) };
        let parse = || {
            let mut parts = std::str::from_utf8(&text).ok()?.split(':');
            let inode = parts.next()?.parse().ok()?;
            let number = |part: Option<&str>| part.map_or(Some(0), |text| text.parse().ok());
            let size = number(parts.next())? as u64;
            let (modified, changed) = (number(parts.next())?, number(parts.next())?);
            Some(Origin { inode, size, modified, changed })
        };
        Ok(parse())
    }

    pub(crate) fn keep(self, file: &impl Attributes) -> Result<(), Errno> {
        let Origin { inode, size, modified, changed } = self;
        let text = format!("{inode}:{size}:{modified}:{changed}");
        file.set_attribute(ORIGIN, text.as_bytes(), 0)
    }

    /// The file counts as made here.
    pub(crate) fn forget(file: &impl Attributes) -> Result<(), Errno> {
        match file.remove_attribute(ORIGIN) {
            Err(Errno::ENODATA) => Ok(()),
            removed => removed,
        }
    }
}

/// Nanoseconds since 1970.
fn ns(time: fuse::Time) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
}

/// The time kept by [`set_since`].
pub(crate) fn since(file: &impl Attributes) -> Result<Option<fuse::Time>, Errno> {
    let text = file.attribute(SINCE)?;
    let ns: Option<i128> = text.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok());
    Ok(ns.map(|ns| fuse::Time {
        seconds: ns.div_euclid(1_000_000_000) as i64,
        nanoseconds: ns.rem_euclid(1_000_000_000) as u32,
    }))
}

/// Whatever the parent did up to this time, `file` counts as made after it.
pub(crate) fn set_since(file: &impl Attributes, time: fuse::Time) -> Result<(), Errno> {
    file.set_attribute(SINCE, ns(time).to_string().as_bytes(), 0)
}

/// The path, as the lowers have it, of what is below a renamed directory.
pub(crate) fn redirect(directory: &impl Attributes) -> Result<Option<Vec<u8>>, Errno> {
    directory.attribute(REDIRECT)
}

pub(crate) fn set_redirect(directory: &impl Attributes, path: &[u8]) -> Result<(), Errno> {
    directory.set_attribute(REDIRECT, path, 0)
}

/// Takes everything off the root of an upper that says how it is shown: the parent's shows.
pub(crate) fn forget(root: &Directory) -> Result<(), Errno> {
    for name in root.attribute_names()? {
        if is_ours(&name) || shown_name(&name).is_some() {
            match root.remove_attribute(&name) {
                // The host's own, or an administrator's.
                Ok(()) | Err(Errno::ENODATA | Errno::EPERM) => {}
                failed => return failed,
            }
        }
    }
    Ok(())
}

/// Whatever is below a directory of the upper from now on is at its own place: neither is it
/// renamed, nor does it hide anything.
pub(crate) fn unmark(directory: &impl Attributes) -> Result<(), Errno> {
    for name in [REDIRECT, OPAQUE[0], OPAQUE[1]] {
        match directory.remove_attribute(name) {
            Ok(()) | Err(Errno::ENODATA | Errno::EPERM) => {}
            failed => return failed,
        }
    }
    Ok(())
}

/// Whether an attribute is the one of [`pending`], which every regular file of an index has.
pub(crate) fn is_pending(name: &[u8]) -> bool {
    name == PENDING
}

/// How many names in the lowers stand for a file of the index.
pub(crate) fn pending(file: &impl Attributes) -> Result<u32, Errno> {
    let text = file.attribute(PENDING)?;
    let number = text.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok());
    Ok(number.unwrap_or(0))
}

pub(crate) fn set_pending(file: &impl Attributes, names: u32) -> Result<(), Errno> {
    file.set_attribute(PENDING, names.to_string().as_bytes(), 0)
}

/// Notes that regular files in `directory` may be shown as something else.
pub(crate) fn mark_disguises(directory: &impl Attributes) -> Result<(), Errno> {
    directory.set_attribute(DISGUISES, b"y", 0)
}

pub(crate) fn has_disguises(directory: &impl Attributes) -> bool {
    matches!(directory.attribute(DISGUISES), Ok(Some(_)))
}

/// Which of overlayfs's two marks this server may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marks {
    /// `trusted.overlay.*`: an administrator's mount reads these.
    Trusted,
    /// `user.overlay.*`: a mount with `userxattr` reads these.
    User,
}

impl Marks {
    /// What may be written in `directory`.
    pub(crate) fn probe(directory: &Directory) -> Marks {
        match directory.set_attribute(OPAQUE[0], b"y", 0) {
            Ok(()) => Marks::Trusted,
            Err(_) => Marks::User,
        }
    }

    /// Hides everything below `directory`.
    pub(crate) fn set_opaque(self, directory: &impl Attributes) -> Result<(), Errno> {
        let name = if self == Marks::Trusted { OPAQUE[0] } else { OPAQUE[1] };
        directory.set_attribute(name, b"y", 0)
    }

    /// Whether either mark is there.
    pub(crate) fn is_opaque(self, directory: &impl Attributes) -> Result<bool, Errno> {
        let names = if self == Marks::Trusted { &OPAQUE[..] } else { &OPAQUE[1..] };
        for name in names {
            if directory.attribute(name)?.is_some_and(|value| value == b"y") {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Whether an attribute says how a file is shown, or is seen inside.
pub(crate) fn is_shown(name: &[u8]) -> bool {
    name == OVERRIDE || shown_name(name).is_some()
}

/// Whether an attribute says what a directory hides, or shows of another place.
pub(crate) fn is_mark(name: &[u8]) -> bool {
    name == REDIRECT || OPAQUE.contains(&name)
}

/// Attributes that are the file space's own, or the host's: not seen inside under their names.
fn is_ours(name: &[u8]) -> bool {
    let prefixes = [&b"user.overlay."[..], b"trusted.overlay.", b"user.portspace."];
    prefixes.iter().any(|prefix| name.starts_with(prefix)) || name == OVERRIDE
}

/// Under which name the upper keeps what is `name` inside.
///
/// `None` for what no file here has: access control lists would be kept and not obeyed.
pub(crate) fn kept_name(name: &[u8]) -> Option<Vec<u8>> {
    if name.starts_with(b"system.") {
        return None;
    }
    if name.starts_with(b"user.") && !is_ours(name) {
        return Some(name.to_vec());
    }
    Some([INSIDE, name].concat())
}

/// What an attribute kept by an upper is called inside; `None` if it is not seen.
pub(crate) fn shown_name(kept: &[u8]) -> Option<&[u8]> {
    match kept.strip_prefix(INSIDE) {
        Some(name) => Some(name),
        None => (kept.starts_with(b"user.") && !is_ours(kept)).then_some(kept),
    }
}

/// Whether an attribute of the parent's file is seen inside.
pub(crate) fn is_seen_below(name: &[u8]) -> bool {
    let namespaces = [&b"user."[..], b"security.capability", b"trusted."];
    namespaces.iter().any(|space| name.starts_with(space)) && !is_ours(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_survives_its_text() {
        let shown = |kind, device| Shown { uid: 33, gid: 4, mode: 0o4755, kind, device };
        for (kind, device, host) in [
            (TYPE_REGULAR, (0, 0), TYPE_REGULAR),
            (TYPE_DIRECTORY, (0, 0), TYPE_DIRECTORY),
            (TYPE_CHARACTER, (5, 700), TYPE_REGULAR),
            (TYPE_SYMLINK, (0, 0), TYPE_REGULAR),
            (TYPE_FIFO, (0, 0), TYPE_REGULAR),
        ] {
            let text = shown(kind, device).text();
            assert_eq!(Shown::parse(&text, host), Some(shown(kind, device)));
        }
        assert_eq!(shown(TYPE_CHARACTER, (1, 3)).text(), b"33:4:04755:char-1-3");
        let old = Shown::parse(b"0:0:644", TYPE_REGULAR).unwrap();
        assert_eq!((old.kind, old.mode), (TYPE_REGULAR, 0o644));
    }

    #[test]
    fn a_corrupt_attribute_is_none() {
        for text in
            [&b""[..], b"a:b:c", b"0:0", b"0:0:999:file", b"0:0:644:dir", b"\xff", b"-1:0:0"]
        {
            assert_eq!(Shown::parse(text, TYPE_REGULAR), None);
        }
    }

    #[test]
    fn names_of_our_own_are_kept_apart_from_those_of_the_guest() {
        assert_eq!(kept_name(b"user.mine").as_deref(), Some(&b"user.mine"[..]));
        for name in [&b"user.overlay.opaque"[..], b"security.capability", b"trusted.x", OVERRIDE] {
            let kept = kept_name(name).unwrap();
            assert!(kept.starts_with(INSIDE));
            assert_eq!(shown_name(&kept), Some(name));
            assert_eq!(shown_name(name), None);
        }
        assert_eq!(kept_name(b"system.posix_acl_access"), None);
    }
}
