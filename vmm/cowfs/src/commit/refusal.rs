//! What cannot be the parent's, found out before anything is changed.

use crate::changes::{Change, Conflict, Tree, What, bytes_of, path_of, shown};
use crate::host::{groups, user};
use crate::{FileKind, Side};
use std::path::PathBuf;

const SET_ID: u32 = 0o6000;

/// Why a change cannot be committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The parent changed it meanwhile.
    #[error("{}; look at both, then commit with --force or discard it", .0.sentence())]
    Conflict(Conflict),
    /// The place is masked.
    #[error("the place is masked: what is there is not for the parent")]
    Masked,
    /// Something there was given to the space, not by the parent.
    #[error("{} is given to the space by its configuration, and is not the parent's: leave it out", shown(.0))]
    Given(PathBuf),
    /// It holds something that the space does not see.
    #[error("{} lies below it, which the space does not see: remove the directory yourself", shown(.0))]
    Holds(PathBuf),
    /// A set-id bit of an ordinary user.
    #[error("it has a set-id bit, which only root commits; remove it inside with chmod a-s")]
    SetId,
    /// Somebody else's file, of an ordinary user.
    #[error(
        "it is to belong to user {uid} and group {gid}, which only root may do; commit as root, or chown it inside"
    )]
    Owner {
        /// The owner on the host.
        uid: u32,
        /// The group on the host.
        gid: u32,
    },
    /// A device node of an ordinary user.
    #[error("it is a device node, which only root may make; commit as root, or discard it")]
    Device,
    /// A file system is mounted there.
    #[error("another file system is mounted below it; unmount that first")]
    Mount,
    /// A directory that would have to move between file systems.
    #[error("it was renamed from another file system; copy it inside instead")]
    OtherFileSystem,
    /// A directory's extended attributes.
    #[error(
        "extended attributes of a directory that was there cannot be committed; set them on the host"
    )]
    Attributes,
    /// A part of the parent is not to be found.
    #[error("the parent's directory around it is gone; commit that as well")]
    Nowhere,
}

/// What of the files given to the space a change is about, if any: they are not the parent's.
pub(super) fn given(tree: &Tree, change: &Change) -> Option<PathBuf> {
    let given = |path: &[u8]| tree.given(path).map(|given| path_of(&given));
    let own = match change.after {
        Some(after) if after.kind == FileKind::Directory => None,
        _ => given(bytes_of(&change.path)),
    };
    let moves = change.before.is_some_and(|side| side.kind == FileKind::Directory)
        && !matches!(&change.what, What::Changed(parts) if !parts.kind);
    own.or_else(|| given(&change.below).filter(|_| moves))
}

/// The owner of a file in the parent.
///
/// Inside, the server's user and root are both 0: what is not changed stays as it is.
pub(super) fn owner(change: &Change, after: &Side, lower: Option<(u32, u32)>) -> (u32, u32) {
    let (uid, gid) = user();
    let before = change.before.as_ref();
    let kept = |same: bool, id: Option<u32>| id.filter(|_| same);
    let same_uid = before.is_some_and(|before| before.uid == after.uid);
    let same_gid = before.is_some_and(|before| before.gid == after.gid);
    let mine = |id: u32, own: u32| if id == 0 { own } else { id };
    (
        kept(same_uid, lower.map(|(uid, _)| uid)).unwrap_or_else(|| mine(after.uid, uid)),
        kept(same_gid, lower.map(|(_, gid)| gid)).unwrap_or_else(|| mine(after.gid, gid)),
    )
}

/// Why this user cannot make what is shown as `after`, with this owner.
pub(super) fn of_user(after: &Side, owner: (u32, u32)) -> Option<Refusal> {
    let (uid, gid) = user();
    if uid == 0 {
        return None;
    }
    if matches!(after.kind, FileKind::Character | FileKind::Block) {
        return Some(Refusal::Device);
    }
    if after.mode & SET_ID != 0 && after.kind != FileKind::Symlink {
        return Some(Refusal::SetId);
    }
    let is_mine = owner.0 == uid && (owner.1 == gid || groups().contains(&owner.1));
    (!is_mine).then_some(Refusal::Owner { uid: owner.0, gid: owner.1 })
}
