//! What a process that shows a space's files is told at its start.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Threads that answer requests, if nobody says otherwise.
pub const DEFAULT_THREADS: usize = 4;

/// One space's files, as the command line decided it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The space's name.
    pub name: String,
    /// Its files.
    pub files: cowfs::Settings,
    /// Where it is asked to hold its files still while they are sealed ([`seal::serve`]).
    pub seal: Option<PathBuf>,
    /// Whose kernel they are shown to.
    pub to: Kernel,
}

/// A kernel that asks for files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kernel {
    /// The host's, through /dev/fuse.
    Host(Host),
    /// That of a machine which is not ours, through vhost-user.
    Machine,
}

/// How the host's kernel is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Files of the parent that are not shown: the mount itself, and those that are there before it.
    ///
    /// So no mount is ever seen through itself: each sees at most those made later.
    pub hidden: Vec<PathBuf>,
    /// Threads that answer requests; at least one.
    pub threads: usize,
    /// Idle cores may halt between requests.
    pub frugal: bool,
}
