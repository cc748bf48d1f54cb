//! Whose eyes see the files: owners as shown inside, and what of them the host can say itself.

use crate::host::{Stat, host_mode, umask, user};
use crate::stored::Shown;
use fuse::record::{TYPE_BLOCK, TYPE_CHARACTER, TYPE_DIRECTORY, TYPE_REGULAR, TYPE_SYMLINK};

const SET_ID: u32 = 0o6000;

/// For whom the files are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// A guest: the server's user is the administrator inside.
    #[default]
    Guest,
    /// The host: owners are the host's own.
    Host,
}

/// The server's user, and how its files are shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Role {
    uid: u32,
    gid: u32,
    view: View,
    /// What the process takes off the permission bits of whatever it makes.
    pub(crate) umask: u32,
}

/// How the host keeps a file that is to be shown in some way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// The type on the host: what an attribute is needed for is a regular file or a directory.
    pub(crate) kind: u32,
    /// Permission bits on the host.
    pub(crate) mode: u32,
    /// The owner to be set, if it is not the server's own.
    pub(crate) owner: Option<(u32, u32)>,
    /// The rest is kept in an attribute.
    pub(crate) attribute: bool,
}

impl Role {
    pub(crate) fn new(view: View) -> Role {
        let (uid, gid) = user();
        Role { uid, gid, view, umask: umask() }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// What is shown of a file without an attribute.
    pub(crate) fn natural(&self, stat: &Stat) -> Shown {
        let guest = self.view == View::Guest;
        Shown {
            uid: if guest && stat.uid == self.uid { 0 } else { stat.uid },
            gid: if guest && stat.gid == self.gid { 0 } else { stat.gid },
            mode: stat.mode & 0o7777,
            kind: stat.kind(),
            device: stat.special,
        }
    }

    /// The attribute says what the guest sees; on the host its administrator is the user.
    pub(crate) fn as_seen(&self, kept: Shown) -> Shown {
        match self.view {
            View::Guest => kept,
            View::Host => Shown {
                uid: if kept.uid == 0 { self.uid } else { kept.uid },
                gid: if kept.gid == 0 { self.gid } else { kept.gid },
                ..kept
            },
        }
    }

    /// The other way round.
    pub(crate) fn as_kept(&self, shown: Shown) -> Shown {
        match self.view {
            View::Guest => shown,
            View::Host => Shown {
                uid: if shown.uid == self.uid { 0 } else { shown.uid },
                gid: if shown.gid == self.gid { 0 } else { shown.gid },
                ..shown
            },
        }
    }

    /// How the host keeps what is shown as `shown`.
    pub(crate) fn form(&self, shown: &Shown) -> Form {
        let device = matches!(shown.kind, TYPE_CHARACTER | TYPE_BLOCK);
        let link = shown.kind == TYPE_SYMLINK;
        let mode = host_mode(shown.mode | shown.kind, !self.is_root());
        let exact = link || mode == shown.mode;
        let (owned, owner) = if self.is_root() {
            let foreign = (shown.uid, shown.gid) != (self.uid, self.gid);
            (true, foreign.then_some((shown.uid, shown.gid)))
        } else {
            let (uid, gid) = match self.view {
                View::Guest => (0, 0),
                View::Host => (self.uid, self.gid),
            };
            ((shown.uid, shown.gid) == (uid, gid), None)
        };
        let attribute = device || !exact || !owned;
        let plain = attribute && shown.kind != TYPE_DIRECTORY;
        let kind = if plain { TYPE_REGULAR } else { shown.kind };
        Form { kind, mode, owner, attribute }
    }
}

/// What is left of the permission bits of a file that somebody else writes or gives away:
/// neither set-user-ID, nor set-group-ID where the group may execute (chown(2), write(2)).
pub(crate) fn without_set_id(shown: Shown) -> Shown {
    let group = if shown.mode & 0o010 != 0 { SET_ID } else { 0o4000 };
    let mode = if shown.kind == TYPE_DIRECTORY { shown.mode } else { shown.mode & !group };
    Shown { mode, ..shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuse::record::TYPE_FIFO;

    fn shown(kind: u32, uid: u32, mode: u32) -> Shown {
        Shown { uid, gid: uid, mode, kind, device: (0, 0) }
    }

    #[test]
    fn set_id_bits_and_device_nodes_never_reach_the_host() {
        for uid in [0, 1000] {
            let role = Role { uid, gid: uid, view: View::Guest, umask: 0 };
            let form = role.form(&shown(TYPE_REGULAR, 0, 0o6755));
            assert_eq!((form.mode & SET_ID, form.attribute), (0, true));
            let form = role.form(&shown(TYPE_CHARACTER, 0, 0o600));
            assert_eq!((form.kind, form.attribute), (TYPE_REGULAR, true));
            let form = role.form(&shown(TYPE_DIRECTORY, 0, 0o2755));
            assert_eq!((form.kind, form.mode, form.attribute), (TYPE_DIRECTORY, 0o755, true));
        }
    }

    #[test]
    fn a_user_keeps_in_an_attribute_what_only_root_may_set() {
        let user = Role { uid: 1000, gid: 1000, view: View::Guest, umask: 0 };
        assert!(!user.form(&shown(TYPE_FIFO, 0, 0o644)).attribute);
        let foreign = user.form(&shown(TYPE_FIFO, 33, 0o644));
        assert_eq!((foreign.kind, foreign.attribute, foreign.owner), (TYPE_REGULAR, true, None));
        let root = Role { uid: 0, gid: 0, view: View::Guest, umask: 0 };
        let foreign = root.form(&shown(TYPE_FIFO, 33, 0o444));
        assert_eq!((foreign.kind, foreign.attribute), (TYPE_FIFO, false));
        assert_eq!((foreign.mode, foreign.owner), (0o444, Some((33, 33))));
    }

    #[test]
    fn the_administrator_inside_is_the_user_outside() {
        let host = Role { uid: 1000, gid: 1000, view: View::Host, umask: 0 };
        let kept = shown(TYPE_REGULAR, 0, 0o4755);
        let on_host = host.as_seen(kept);
        assert_eq!(on_host.uid, 1000);
        assert_eq!(host.as_kept(on_host), kept);
    }
}
