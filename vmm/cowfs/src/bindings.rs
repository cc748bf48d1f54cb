//! Places inside where the parent's own files are: read-only, or shared on purpose.

use crate::configuration::OpenFailure;
use crate::host::{Directory, Stat};
use crate::layer::Merged;
use crate::node::Seen;
use crate::space::State;
use fuse::{Errno, Name, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file or directory of the parent at a place inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// Where it is seen: a path from the space's root.
    pub at: PathBuf,
    /// What is seen there.
    pub from: PathBuf,
    /// Whether the space may change it, for the parent to see.
    pub write: bool,
}

/// What is bound: the directory itself, or a file by the directory it is in.
#[derive(Clone, Debug)]
enum Bound {
    Directory(Arc<Merged>),
    File(Arc<Merged>, Arc<[u8]>),
}

/// What is bound, and the nodes it has.
#[derive(Debug, Default)]
pub(crate) struct Bindings {
    bound: Vec<(PathBuf, Bound, Stat)>,
    points: HashMap<(NodeId, Arc<[u8]>), NodeId>,
    nodes: HashMap<NodeId, Bound>,
}

impl Bindings {
    /// Opens what is to be bound.
    pub(crate) fn open(bindings: &[Binding]) -> Result<Bindings, OpenFailure> {
        let mut opened = Bindings::default();
        for (number, binding) in bindings.iter().enumerate() {
            let failed = |source| OpenFailure::Directory {
                role: "bound",
                path: binding.from.clone(),
                source,
            };
            let bound = open(number, binding).map_err(failed)?;
            let (Bound::Directory(merged) | Bound::File(merged, _)) = &bound.0;
            if merged.is_of_the_kernel() {
                return Err(OpenFailure::OfTheKernel { path: binding.from.clone() });
            }
            opened.bound.push((binding.at.clone(), bound.0, bound.1));
        }
        Ok(opened)
    }

    /// The node bound at `name` of `directory`.
    pub(crate) fn at(&self, directory: NodeId, name: Name<'_>) -> Option<NodeId> {
        if self.points.is_empty() {
            return None;
        }
        self.points.get(&(directory, Arc::from(name.as_bytes()))).copied()
    }

    /// The directory bound as `id`.
    pub(crate) fn directory(&self, id: NodeId) -> Option<Arc<Merged>> {
        match self.nodes.get(&id)? {
            Bound::Directory(merged) => Some(Arc::clone(merged)),
            Bound::File(..) => None,
        }
    }

    /// The directory and name of the file bound as `id`.
    pub(crate) fn file(&self, id: NodeId) -> Option<(Arc<Merged>, Arc<[u8]>)> {
        match self.nodes.get(&id)? {
            Bound::File(merged, name) => Some((Arc::clone(merged), Arc::clone(name))),
            Bound::Directory(_) => None,
        }
    }
}

fn open(number: usize, binding: &Binding) -> std::io::Result<(Bound, Stat)> {
    let failed = |errno: Errno| std::io::Error::from_raw_os_error(errno.number());
    let from = binding.from.canonicalize()?;
    if from.is_dir() {
        let directory = Directory::root(&from)?;
        let stat = directory.stat_self().map_err(failed)?;
        let merged = Merged::bound(number, binding.write, directory, &stat);
        return Ok((Bound::Directory(Arc::new(merged)), stat));
    }
    let (parent, name) = (from.parent(), from.file_name());
    let (Some(parent), Some(name)) = (parent, name) else {
        return Err(failed(Errno::EINVAL));
    };
    let directory = Directory::root(parent)?;
    let checked = Name::new(name.as_bytes()).map_err(failed)?;
    let stat = directory.stat(checked).map_err(failed)?.ok_or(failed(Errno::ENOENT))?;
    let in_directory = directory.stat_self().map_err(failed)?;
    let merged = Merged::bound(number, binding.write, directory, &in_directory);
    Ok((Bound::File(Arc::new(merged), Arc::from(name.as_bytes())), stat))
}

/// The names of a path.
fn parts(path: &Path) -> Vec<&[u8]> {
    let names = path.components().filter_map(|part| match part {
        std::path::Component::Normal(name) => Some(name.as_bytes()),
        _ => None,
    });
    names.collect()
}

impl State {
    /// Makes the places where something is bound, as far as they are not there, and binds.
    pub(crate) fn bind_all(&mut self) -> Result<(), (PathBuf, Errno)> {
        let bound = self.bindings.bound.clone();
        self.bindings.points.clear();
        self.bindings.nodes.clear();
        for (at, bound, stat) in bound {
            self.bind(&at, bound, &stat).map_err(|errno| (at, errno))?;
        }
        Ok(())
    }

    /// Binds again what nodes that were written out stand for.
    pub(crate) fn rebind_all(&mut self) -> Result<(), (PathBuf, Errno)> {
        for (at, bound, _) in self.bindings.bound.clone() {
            let child = |id, name: &&[u8]| self.nodes.child(id, Name::new(name).ok()?);
            let names = parts(&at);
            let found = names.split_last().and_then(|(last, above)| {
                let directory = above.iter().try_fold(NodeId::ROOT, child)?;
                Some((directory, Arc::from(*last), child(directory, last)?))
            });
            let Some((directory, name, id)) = found else { return Err((at, Errno::ENOENT)) };
            self.bindings.points.insert((directory, name), id);
            self.bindings.nodes.insert(id, bound);
        }
        Ok(())
    }

    fn bind(&mut self, at: &Path, bound: Bound, stat: &Stat) -> Result<(), Errno> {
        let names = parts(at);
        let Some((last, above)) = names.split_last() else { return Err(Errno::EINVAL) };
        let mut directory = NodeId::ROOT;
        for name in above {
            directory = self.place_for(directory, Name::new(name)?, true)?;
        }
        let name = Name::new(last)?;
        self.place_for(directory, name, stat.is_directory())?;
        self.forget_name(directory, name);
        let (merged, place) = match &bound {
            Bound::Directory(merged) | Bound::File(merged, _) => (merged, merged.bound_place(stat)),
        };
        let seen =
            Seen { place, kind: stat.kind(), inode: self.inode(stat), shown: None, indexed: None };
        let merged = Arc::clone(merged);
        let id = self.nodes.insert(seen)?;
        self.nodes.attach(id, directory, name);
        // The place stays known, whatever the guest forgets.
        self.nodes.looked_up(id);
        if stat.is_directory() {
            self.watches.watch(id, directory, &merged, &self.layers);
        }
        self.bindings.points.insert((directory, Arc::from(*last)), id);
        self.bindings.nodes.insert(id, bound);
        Ok(())
    }

    /// The node of `name` in the upper, an empty file or directory if there is none.
    fn place_for(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        is_directory: bool,
    ) -> Result<NodeId, Errno> {
        if let Some(id) = self.bindings.at(directory, name) {
            return Ok(id);
        }
        let merged = self.directory(directory)?;
        let root = (0, 0);
        let entry = match (self.look(directory, &merged, name)?, is_directory) {
            (Some(entry), _) => entry,
            (None, true) => self.make_directory(directory, name, 0o755, root)?,
            (None, false) => {
                self.make_node(directory, name, fuse::record::TYPE_REGULAR | 0o644, 0, root)?
            }
        };
        if is_directory {
            self.upper_directory(entry.node)?;
        }
        Ok(entry.node)
    }

    /// Refused with EBUSY for what is bound and the directories above: mount points stay.
    pub(crate) fn check_movable(&self, directory: NodeId, name: Name<'_>) -> Result<(), Errno> {
        if self.bindings.nodes.is_empty() {
            return Ok(());
        }
        match self.nodes.child(directory, name) {
            Some(id) if self.is_above_binding(id) => Err(Errno::EBUSY),
            _ => Ok(()),
        }
    }

    fn is_above_binding(&self, id: NodeId) -> bool {
        if self.bindings.nodes.contains_key(&id) {
            return true;
        }
        self.bindings.points.keys().any(|(directory, _)| {
            let mut at = *directory;
            loop {
                if at == id {
                    return true;
                }
                match self.nodes.get(at).ok().and_then(|node| node.name()) {
                    Some((parent, _)) => at = parent,
                    None => return false,
                }
            }
        })
    }
}
