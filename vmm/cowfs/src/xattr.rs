//! Extended attributes as the guest sees them.

use crate::host::{Attributes, File};
use crate::layer::{UPPER, Volume};
use crate::node::Orphan;
use crate::space::State;
use crate::stored;
use fuse::record::{TYPE_DIRECTORY, TYPE_REGULAR};
use fuse::{Errno, NodeId, XattrName, reply};

/// An open file, and how it names what the guest asks for.
struct Kept {
    file: File,
    /// It is one of the file space's own: names are mapped.
    ours: bool,
}

impl Kept {
    fn name(&self, name: XattrName<'_>) -> Option<Vec<u8>> {
        let name = name.as_bytes();
        match self.ours {
            true => stored::kept_name(name),
            false => stored::is_seen_below(name).then(|| name.to_vec()),
        }
    }
}

impl State {
    /// GETXATTR: the value, or its length if the guest gives no room.
    pub(crate) fn get_xattr(
        &mut self,
        id: NodeId,
        name: XattrName<'_>,
        size: u32,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        if name.as_bytes().starts_with(b"system.") {
            return Err(Errno::EOPNOTSUPP);
        }
        // Linux asks for the capabilities of each file that is written first.
        if self.nodes.get(id)?.bare {
            return Err(Errno::ENODATA);
        }
        let kept = self.kept(id)?.ok_or(Errno::ENODATA)?;
        let name = kept.name(name).ok_or(Errno::ENODATA)?;
        let value = kept.file.attribute(&name)?.ok_or(Errno::ENODATA)?;
        put(&value, size, limit, out)
    }

    /// LISTXATTR: the names, each with a NUL after it, or their length.
    pub(crate) fn list_xattr(
        &mut self,
        id: NodeId,
        size: u32,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let mut list = Vec::new();
        if let Some(kept) = self.kept(id)? {
            for name in kept.file.attribute_names()? {
                let shown = match kept.ours {
                    true => stored::shown_name(&name),
                    false => stored::is_seen_below(&name).then_some(&name[..]),
                };
                if let Some(shown) = shown {
                    list.extend_from_slice(shown);
                    list.push(0);
                }
            }
        }
        put(&list, size, limit, out)
    }

    /// SETXATTR.
    pub(crate) fn set_xattr(
        &mut self,
        id: NodeId,
        name: XattrName<'_>,
        value: &[u8],
        flags: u32,
    ) -> Result<(), Errno> {
        if name.as_bytes().starts_with(b"system.") {
            return Err(Errno::EOPNOTSUPP);
        }
        let kept = self.changeable(id)?;
        let name = kept.name(name).ok_or(Errno::EPERM)?;
        match self.quota_of(id) {
            Some(quota) => {
                quota.admit(value.len() as u64)?;
                quota.count(&kept.file, || kept.file.set_attribute(&name, value, flags))
            }
            None => kept.file.set_attribute(&name, value, flags),
        }
    }

    /// REMOVEXATTR.
    pub(crate) fn remove_xattr(&mut self, id: NodeId, name: XattrName<'_>) -> Result<(), Errno> {
        if name.as_bytes().starts_with(b"system.") {
            return Err(Errno::EOPNOTSUPP);
        }
        let kept = self.changeable(id)?;
        let name = kept.name(name).ok_or(Errno::ENODATA)?;
        match self.quota_of(id) {
            Some(quota) => quota.count(&kept.file, || kept.file.remove_attribute(&name)),
            None => kept.file.remove_attribute(&name),
        }
    }

    fn changeable(&mut self, id: NodeId) -> Result<Kept, Errno> {
        match self.nodes.get(id)?.kind {
            TYPE_DIRECTORY => self.upper_directory(id).map(|_| ())?,
            TYPE_REGULAR => self.copy_up(id, u64::MAX)?,
            // xattr(7): links and special files have no attributes of users.
            _ => return Err(Errno::EPERM),
        }
        self.nodes.node_mut(id).bare = false;
        self.kept(id)?.ok_or(Errno::EPERM)
    }

    /// The file with its attributes; `None` if it can have none.
    fn kept(&mut self, id: NodeId) -> Result<Option<Kept>, Errno> {
        if id == NodeId::ROOT {
            return Ok(Some(Kept { file: self.root.upper().as_file()?, ours: true }));
        }
        if let Some(merged) = self.bindings.directory(id) {
            let file = match (&merged.upper, merged.lowers.first()) {
                (Some(upper), _) => upper.as_file()?,
                (None, Some(lower)) => lower.directory.as_file()?,
                (None, None) => return Err(Errno::ESTALE),
            };
            return Ok(Some(Kept { file, ours: false }));
        }
        let node = self.nodes.get(id)?;
        if !matches!(node.kind, TYPE_DIRECTORY | TYPE_REGULAR)
            || matches!(node.orphan, Some(Orphan::Gone(_)))
        {
            return Ok(None);
        }
        let layer = node.place.layer;
        let at = self.at(id)?;
        let layered = at.volume() == Volume::Layered;
        let ours = layered && (layer == UPPER || self.layers.is_sealed(layer));
        let (directory, name) = self.directory_of(&at)?;
        match directory.any(name) {
            Ok(file) => Ok(Some(Kept { file, ours })),
            // What the server may not read has nothing to show.
            Err(Errno::EACCES) if !ours => Ok(None),
            Err(errno) => Err(errno),
        }
    }
}

fn put(value: &[u8], size: u32, limit: usize, out: &mut Vec<u8>) -> Result<(), Errno> {
    if size == 0 {
        reply::put_xattr_size(out, value.len() as u32);
        return Ok(());
    }
    if value.len() > size as usize {
        return Err(Errno::ERANGE);
    }
    if value.len() > limit {
        return Err(Errno::E2BIG);
    }
    out.extend_from_slice(value);
    Ok(())
}
