//! What `stat` shows of a file, and changing it.

use crate::host::{Access, File, Rename, Stat};
use crate::layer::{UPPER, Volume};
use crate::lookup::At;
use crate::node::Orphan;
use crate::role::without_set_id;
use crate::space::State;
use crate::stored::{self, Shown};
use fuse::record::{TYPE_DIRECTORY, TYPE_REGULAR, TYPE_SYMLINK};
use fuse::reply::{AttrReply, StatxReply};
use fuse::request::SetAttr;
use fuse::{Attr, Errno, Handle, NodeId};
use std::sync::Arc;

impl State {
    /// GETATTR.
    pub(crate) fn get_attr(
        &mut self,
        id: NodeId,
        handle: Option<Handle>,
    ) -> Result<AttrReply, Errno> {
        let stat = self.stat_open(id, handle)?;
        let valid_ns = self.attr_valid_ns(id, &stat);
        Ok(AttrReply { valid_ns, attr: self.attr(&stat, id) })
    }

    /// STATX.
    pub(crate) fn get_statx(
        &mut self,
        id: NodeId,
        handle: Option<Handle>,
    ) -> Result<StatxReply, Errno> {
        let stat = self.stat_open(id, handle)?;
        let valid_ns = self.attr_valid_ns(id, &stat);
        let born = (stat.born != fuse::Time::default()).then_some(stat.born);
        Ok(StatxReply { valid_ns, attr: self.attr(&stat, id), born })
    }

    fn stat_open(&mut self, id: NodeId, handle: Option<Handle>) -> Result<Stat, Errno> {
        match handle.and_then(|handle| self.handles.file(handle).ok()) {
            Some(open) if open.node == id => open.file.stat(),
            _ => self.stat(id),
        }
    }

    /// The owner, mode and type shown of a file.
    pub(crate) fn shown(&self, id: NodeId, stat: &Stat) -> Shown {
        let kept = self.nodes.get(id).ok().and_then(|node| node.shown);
        kept.unwrap_or_else(|| self.role.natural(stat))
    }

    /// All that is shown of a file whose attributes on the host are `stat`.
    pub(crate) fn attr(&self, stat: &Stat, id: NodeId) -> Attr {
        let shown = self.shown(id, stat);
        let (major, minor) = shown.device;
        let size = match shown.kind {
            TYPE_REGULAR | TYPE_DIRECTORY | TYPE_SYMLINK => stat.size,
            _ => 0,
        };
        Attr {
            inode: self.nodes.get(id).map_or(stat.inode, |node| node.inode),
            size,
            blocks: stat.blocks,
            accessed: stat.accessed,
            modified: stat.modified,
            changed: stat.changed,
            mode: shown.kind | shown.mode,
            links: self.links(stat, id),
            uid: shown.uid,
            gid: shown.gid,
            // Linux new_encode_dev.
            device: minor & 0xff | major << 8 | (minor & !0xff) << 12,
            block_size: stat.block_size,
            flags: 0,
        }
    }

    fn links(&self, stat: &Stat, id: NodeId) -> u32 {
        let Ok(node) = self.nodes.get(id) else { return stat.links };
        if node.is_directory() {
            // No count of subdirectories: they are in several layers (find(1) takes 1 for that).
            return match (&node.orphan, node.pure) {
                (Some(_), _) => 0,
                (None, true) => stat.links,
                (None, false) => 1,
            };
        }
        match (&node.orphan, &node.indexed) {
            (Some(Orphan::InWork(_)), _) => stat.links.saturating_sub(1),
            (Some(Orphan::Below(..) | Orphan::Gone(_)), _) => 0,
            (_, Some(key)) => {
                self.links_of_indexed(node.place.layer, key, stat).unwrap_or(stat.links)
            }
            _ => stat.links,
        }
    }

    /// SETATTR. What the host may not hold (owner, set-id bits) is kept in an attribute.
    pub(crate) fn set_attr(&mut self, id: NodeId, set: &SetAttr) -> Result<AttrReply, Errno> {
        if let Some(size) = set.size {
            self.set_size(id, set, size)?;
        }
        let owner = set.mode.is_some() || set.uid.is_some() || set.gid.is_some();
        let times = set.accessed.is_some() || set.modified.is_some();
        if owner || times || set.kill_set_id {
            let directory = self.nodes.get(id)?.is_directory();
            match directory {
                true => self.upper_directory(id).map(|_| ())?,
                false => self.copy_up(id, u64::MAX)?,
            }
        }
        if owner {
            self.set_owner(id, set)?;
        } else if set.kill_set_id {
            self.kill_set_id(id)?;
        }
        if times {
            self.set_times(id, set)?;
        }
        self.get_attr(id, set.handle)
    }

    fn set_size(&mut self, id: NodeId, set: &SetAttr, size: u64) -> Result<(), Errno> {
        if size > i64::MAX as u64 {
            return Err(Errno::EFBIG);
        }
        match self.nodes.get(id)?.kind {
            TYPE_REGULAR => {}
            TYPE_DIRECTORY => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        let file = match set.handle {
            Some(handle) => {
                let open = self.handles.file(handle)?;
                if open.node != id || !open.writable {
                    return Err(Errno::EBADF);
                }
                self.copy_up_open(id, size)?;
                Arc::clone(&self.handles.file(handle)?.file)
            }
            None => {
                self.copy_up(id, size)?;
                Arc::new(self.open_at(id, Access::Write)?)
            }
        };
        match self.quota_of(id) {
            Some(quota) => quota.truncate(&file, size),
            None => file.truncate(size),
        }
    }

    /// Opens the regular file `id` where it is.
    pub(crate) fn open_at(&mut self, id: NodeId, access: Access) -> Result<File, Errno> {
        let at = self.at(id)?;
        let (directory, name) = self.directory_of(&at)?;
        directory.file(name, access)
    }

    fn set_owner(&mut self, id: NodeId, set: &SetAttr) -> Result<(), Errno> {
        let stat = self.stat(id)?;
        let mut wanted = self.shown(id, &stat);
        if set.uid.is_some() || set.gid.is_some() {
            wanted = without_set_id(wanted);
        }
        wanted.uid = set.uid.unwrap_or(wanted.uid);
        wanted.gid = set.gid.unwrap_or(wanted.gid);
        if let Some(mode) = set.mode {
            wanted.mode = mode & 0o7777;
        }
        self.show(id, &stat, wanted)
    }

    /// Takes the set-id bits off a file that is being written.
    pub(crate) fn kill_set_id(&mut self, id: NodeId) -> Result<(), Errno> {
        // They are in the attribute or nowhere.
        let Some(shown) = self.nodes.get(id)?.shown else { return Ok(()) };
        let wanted = without_set_id(shown);
        if wanted == shown {
            return Ok(());
        }
        let stat = self.stat(id)?;
        self.show(id, &stat, wanted)
    }

    /// Lets the file, one of the upper or shared, be shown as `wanted`.
    fn show(&mut self, id: NodeId, stat: &Stat, wanted: Shown) -> Result<(), Errno> {
        if id == NodeId::ROOT {
            // On the host the upper stays closed to others, whatever is shown inside.
            self.role.as_kept(wanted).keep(self.root.upper())?;
            self.nodes.node_mut(id).shown = Some(wanted);
            return Ok(());
        }
        if let Some(merged) = self.own_directory(id) {
            let file = merged.upper().as_file()?;
            let layered = merged.is_layered();
            return self.show_by(id, stat, wanted, &file, layered);
        }
        if let Some(Orphan::Gone(_)) = self.nodes.get(id)?.orphan {
            let file = Arc::clone(self.handles.of_node(id).ok_or(Errno::ESTALE)?);
            let layered = self.nodes.get(id)?.place.layer == UPPER;
            return self.show_by(id, stat, wanted, &file, layered);
        }
        let at = self.at(id)?;
        let layered = at.volume() == Volume::Layered;
        let form = self.role.form(&wanted);
        let had = self.nodes.get(id)?.shown.is_some();
        let keeps = matches!(stat.kind(), TYPE_REGULAR | TYPE_DIRECTORY);
        if layered && (form.attribute || had) && !keeps {
            return self.disguise(id, &at, stat, wanted);
        }
        let (directory, name) = self.directory_of(&at)?;
        if layered && (form.attribute || had) {
            self.keep_shown(id, wanted, &directory.any(name)?)?;
        }
        if let Some((uid, gid)) = self.owner_on_host(stat, &wanted, layered) {
            directory.set_owner(name, uid, gid)?;
        }
        if stat.kind() != TYPE_SYMLINK && stat.mode & 0o7777 != form.mode {
            directory.set_mode(name, form.mode)?;
        }
        self.nodes.node_mut(id).shown = (layered && (form.attribute || had)).then_some(wanted);
        Ok(())
    }

    /// The same through an open file.
    fn show_by(
        &mut self,
        id: NodeId,
        stat: &Stat,
        wanted: Shown,
        file: &File,
        layered: bool,
    ) -> Result<(), Errno> {
        let form = self.role.form(&wanted);
        let kept = layered && (form.attribute || self.nodes.get(id)?.shown.is_some());
        if kept {
            self.keep_shown(id, wanted, file)?;
        }
        if let Some((uid, gid)) = self.owner_on_host(stat, &wanted, layered) {
            file.set_owner(uid, gid)?;
        }
        file.set_mode(form.mode)?;
        self.nodes.node_mut(id).shown = kept.then_some(wanted);
        Ok(())
    }

    /// Keeps what is shown in an attribute, which may take a block.
    fn keep_shown(&self, id: NodeId, shown: Shown, file: &File) -> Result<(), Errno> {
        let kept = self.role.as_kept(shown);
        match self.quota_of(id) {
            Some(quota) => quota.count(file, || kept.keep(file)),
            None => kept.keep(file),
        }
    }

    /// The owner the host's file has to get.
    fn owner_on_host(&self, stat: &Stat, wanted: &Shown, layered: bool) -> Option<(u32, u32)> {
        let natural = self.role.natural(stat);
        let other = (natural.uid, natural.gid) != (wanted.uid, wanted.gid);
        // What is shared has no attribute to keep it in: the host decides.
        (other && (self.role.is_root() || !layered)).then_some((wanted.uid, wanted.gid))
    }

    /// The directory `id` itself, where it has no name that could be found in another.
    pub(crate) fn own_directory(&self, id: NodeId) -> Option<Arc<crate::layer::Merged>> {
        let bound = self.bindings.directory(id).filter(|merged| merged.upper.is_some());
        if id == NodeId::ROOT { Some(Arc::clone(&self.root)) } else { bound }
    }

    /// Puts a regular file with an attribute in the place of a link, FIFO or socket whose owner
    /// the host cannot have.
    fn disguise(&mut self, id: NodeId, at: &At, stat: &Stat, wanted: Shown) -> Result<(), Errno> {
        let (staged, ()) = self.stage(|state, temporary| {
            let target = match stat.kind() {
                TYPE_SYMLINK => {
                    let (directory, name) = state.directory_of(at)?;
                    directory.read_link(name)?
                }
                _ => Vec::new(),
            };
            let file = state.work.create(temporary, 0o600)?;
            if file.write(0, &target)? < target.len() {
                return Err(Errno::ENOSPC);
            }
            state.role.as_kept(wanted).keep(&file)?;
            let time = |time| Some(fuse::request::SetTime::At(time));
            file.set_times(time(stat.accessed), time(stat.modified))
        })?;
        let merged = at.merged().cloned();
        match merged {
            Some(merged) => {
                stored::mark_disguises(merged.upper())?;
                let name = crate::node::checked(&at.name);
                self.publish(staged, merged.upper(), name, Rename::Replace)?;
            }
            None => {
                self.discard(&staged);
                return Err(Errno::EPERM);
            }
        }
        let (directory, name) = self.directory_of(at)?;
        let stat = directory.stat(name)?.ok_or(Errno::EIO)?;
        self.nodes.moved(id, crate::layer::Place::new(UPPER, &stat));
        self.nodes.node_mut(id).shown = Some(wanted);
        Ok(())
    }

    fn set_times(&mut self, id: NodeId, set: &SetAttr) -> Result<(), Errno> {
        if let Some(merged) = self.own_directory(id) {
            return merged.upper().as_file()?.set_times(set.accessed, set.modified);
        }
        if let Some(Orphan::Gone(_)) = self.nodes.get(id)?.orphan {
            let file = self.handles.of_node(id).ok_or(Errno::ESTALE)?;
            return file.set_times(set.accessed, set.modified);
        }
        let at = self.at(id)?;
        let (directory, name) = self.directory_of(&at)?;
        directory.set_times(name, set.accessed, set.modified)
    }
}
