//! Making files, directories, links and nodes: each there at one moment, wholly.

use crate::host::{Access, Directory, File, Rename, Stat};
use crate::layer::{Merged, Place, Sight, UPPER};
use crate::node::{Orphan, Seen};
use crate::quota;
use crate::role::Form;
use crate::space::State;
use crate::stored::{self, Shown};
use fuse::record::{
    TYPE_BLOCK, TYPE_CHARACTER, TYPE_DIRECTORY, TYPE_FIFO, TYPE_MASK, TYPE_REGULAR, TYPE_SOCKET,
    TYPE_SYMLINK,
};
use fuse::request::open_flags;
use fuse::{Entry, Errno, Name, NodeId, Opened, Target};
use std::sync::Arc;

/// User and group of the calling program.
type Caller = (u32, u32);

/// What is to be made.
struct Making<'a> {
    shown: Shown,
    /// Of a symbolic link.
    target: &'a [u8],
    /// Of a directory: nothing of a lower shows through.
    opaque: bool,
}

fn shown(kind: u32, mode: u32, (uid, gid): Caller) -> Shown {
    Shown { uid, gid, mode: mode & 0o7777, kind, device: (0, 0) }
}

impl State {
    /// CREATE.
    pub(crate) fn create(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        flags: u32,
        mode: u32,
        caller: Caller,
    ) -> Result<(Entry, Opened), Errno> {
        self.handles.room()?;
        let merged = self.directory(directory)?;
        let bound = self.bindings.at(directory, name).is_some();
        let sight = self.find(&merged, name)?;
        if bound || matches!(sight, Sight::Found(_)) {
            let entry = self.look(directory, &merged, name)?.ok_or(Errno::ENOENT)?;
            let opened = match flags & open_flags::EXCLUSIVE {
                0 => self.open_file(entry.node, flags, false),
                _ => Err(Errno::EEXIST),
            };
            let opened = opened.inspect_err(|_| self.nodes.forget(entry.node, 1))?;
            let attr = self.get_attr(entry.node, Some(opened.handle))?.attr;
            return Ok((Entry { attr, ..entry }, opened));
        }
        let shown = shown(TYPE_REGULAR, mode, caller);
        let merged = self.upper_directory(directory)?;
        let whiteout = matches!(sight, Sight::Absent { whiteout: true });
        let (entry, file) = self.make_in(directory, &merged, whiteout, name, shown, &[])?;
        let file = match file {
            Some(file) => file,
            None => self.open_at(entry.node, Access::Write)?,
        };
        Ok((entry, self.open_new(entry.node, file)))
    }

    /// TMPFILE: a file without a name, kept in work until it gets one or is forgotten.
    pub(crate) fn make_unnamed(
        &mut self,
        directory: NodeId,
        mode: u32,
        caller: Caller,
    ) -> Result<(Entry, Opened), Errno> {
        self.handles.room()?;
        let merged = self.directory(directory)?;
        if !merged.is_layered() {
            return Err(Errno::EOPNOTSUPP);
        }
        let shown = self.inherit(directory, shown(TYPE_REGULAR, mode, caller));
        let making = Making { shown, target: &[], opaque: false };
        let form = self.role.form(&shown);
        let (staged, file) = self.stage(|state, temporary| {
            let file = state.construct(&state.work, temporary, &form, &making)?;
            file.ok_or(Errno::EIO)
        })?;
        let stat = file.stat()?;
        let kept = form.attribute.then_some(shown);
        let id = self.nodes.insert(self.seen_new(&stat, UPPER, kept))?;
        self.nodes.node_mut(id).orphan = Some(Orphan::InWork(staged.keep()));
        let entry = self.entry(directory, id, &stat);
        Ok((entry, self.open_new(id, file)))
    }

    /// MKDIR.
    pub(crate) fn make_directory(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        mode: u32,
        caller: Caller,
    ) -> Result<Entry, Errno> {
        let shown = shown(TYPE_DIRECTORY, mode, caller);
        Ok(self.make(directory, name, shown, &[])?.0)
    }

    /// SYMLINK.
    pub(crate) fn make_symlink(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        target: Target<'_>,
        caller: Caller,
    ) -> Result<Entry, Errno> {
        let shown = shown(TYPE_SYMLINK, 0o777, caller);
        Ok(self.make(directory, name, shown, target.as_bytes())?.0)
    }

    /// MKNOD: device nodes are there inside only.
    pub(crate) fn make_node(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        mode: u32,
        device: u32,
        caller: Caller,
    ) -> Result<Entry, Errno> {
        let kind = match mode & TYPE_MASK {
            0 => TYPE_REGULAR,
            kind @ (TYPE_REGULAR | TYPE_FIFO | TYPE_SOCKET | TYPE_CHARACTER | TYPE_BLOCK) => kind,
            _ => return Err(Errno::EINVAL),
        };
        let mut shown = shown(kind, mode, caller);
        if matches!(kind, TYPE_CHARACTER | TYPE_BLOCK) {
            // Linux new_decode_dev.
            shown.device = ((device & 0xf_ff00) >> 8, device & 0xff | (device >> 12) & 0xf_ff00);
        }
        Ok(self.make(directory, name, shown, &[])?.0)
    }

    /// Makes what is to be shown as `shown`; a regular file comes open.
    fn make(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        shown: Shown,
        target: &[u8],
    ) -> Result<(Entry, Option<File>), Errno> {
        let (merged, whiteout) = self.absent(directory, name)?;
        self.make_in(directory, &merged, whiteout, name, shown, target)
    }

    fn make_in(
        &mut self,
        directory: NodeId,
        merged: &Merged,
        whiteout: bool,
        name: Name<'_>,
        shown: Shown,
        target: &[u8],
    ) -> Result<(Entry, Option<File>), Errno> {
        let quota = self.quota.clone().filter(|_| merged.is_layered());
        if let Some(quota) = &quota {
            quota.admit(0)?;
        }
        let is_directory = shown.kind == TYPE_DIRECTORY;
        let upper = merged.upper();
        let (file, kept) = if merged.is_layered() {
            let shown = self.inherit(directory, shown);
            let opaque = is_directory && !merged.opaque;
            let making = Making { shown, target, opaque };
            let form = self.role.form(&shown);
            let plain = !form.attribute && form.owner.is_none() && !opaque;
            if form.attribute && form.kind != shown.kind {
                stored::mark_disguises(upper)?;
            }
            let file = if plain && !whiteout {
                let file = self.construct(upper, name, &form, &making)?;
                if let Some(quota) = &quota {
                    quota.take(quota::alone(upper, name));
                }
                file
            } else {
                let (staged, file) = self.stage(|state, temporary| {
                    state.construct(&state.work, temporary, &form, &making)
                })?;
                let how = match (whiteout, is_directory) {
                    (false, _) => Rename::New,
                    (true, false) => Rename::Replace,
                    (true, true) => Rename::Exchange,
                };
                self.publish(staged, upper, name, how)?;
                file
            };
            (file, form.attribute.then_some(shown))
        } else {
            if matches!(shown.kind, TYPE_CHARACTER | TYPE_BLOCK) {
                return Err(Errno::EPERM);
            }
            let mode = crate::host::host_mode(shown.mode | shown.kind, false);
            let form = Form { kind: shown.kind, mode, owner: None, attribute: false };
            let making = Making { shown, target, opaque: false };
            (self.construct(upper, name, &form, &making)?, None)
        };
        let stat = upper.stat(name)?.ok_or(Errno::EIO)?;
        let entry = self.adopt_new(directory, name, &stat, merged.top, kept)?;
        Ok((entry, file))
    }

    /// Makes a file of the host, complete but for its place.
    fn construct(
        &self,
        directory: &Directory,
        name: Name<'_>,
        form: &Form,
        making: &Making<'_>,
    ) -> Result<Option<File>, Errno> {
        let mut file = None;
        match form.kind {
            TYPE_REGULAR => {
                let made = directory.create(name, form.mode)?;
                if !making.target.is_empty() && made.write(0, making.target)? < making.target.len()
                {
                    return Err(Errno::ENOSPC);
                }
                file = Some(made);
            }
            TYPE_DIRECTORY => directory.make_directory(name, form.mode)?,
            TYPE_SYMLINK => directory.make_symlink(name, making.target)?,
            kind => directory.make_endpoint(name, kind | form.mode)?,
        }
        if making.opaque {
            self.layers.marks.set_opaque(&directory.directory(name, true)?)?;
        }
        if form.attribute {
            let kept = self.role.as_kept(making.shown);
            match &file {
                Some(file) => kept.keep(file)?,
                None => kept.keep(&directory.any(name)?)?,
            }
        }
        if let Some((uid, gid)) = form.owner {
            directory.set_owner(name, uid, gid)?;
        }
        if form.kind != TYPE_SYMLINK && form.mode & self.role.umask != 0 {
            // The process's umask took bits off.
            directory.set_mode(name, form.mode)?;
        }
        Ok(file)
    }

    /// A directory with the set-group-ID bit hands its group on (mkdir(2), open(2)).
    fn inherit(&self, directory: NodeId, shown: Shown) -> Shown {
        const SET_GROUP_ID: u32 = 0o2000;
        // The bit is never on the host: it is in the attribute or nowhere.
        match self.nodes.get(directory).ok().and_then(|node| node.shown) {
            Some(above) if above.mode & SET_GROUP_ID != 0 => {
                let bit = if shown.kind == TYPE_DIRECTORY { SET_GROUP_ID } else { 0 };
                Shown { gid: above.gid, mode: shown.mode | bit, ..shown }
            }
            _ => shown,
        }
    }

    fn seen_new(&self, stat: &Stat, layer: usize, shown: Option<Shown>) -> Seen {
        Seen {
            place: Place::new(layer, stat),
            kind: shown.map_or(stat.kind(), |shown| shown.kind),
            inode: self.inode(stat),
            shown,
            indexed: None,
        }
    }

    /// A new file of the space's own: it has no attributes to be read.
    fn adopt_new(
        &mut self,
        directory: NodeId,
        name: Name<'_>,
        stat: &Stat,
        layer: usize,
        shown: Option<Shown>,
    ) -> Result<Entry, Errno> {
        self.forget_name(directory, name);
        let id = self.nodes.insert(self.seen_new(stat, layer, shown))?;
        self.nodes.attach(id, directory, name);
        self.nodes.node_mut(id).bare = layer == UPPER;
        if stat.is_directory() {
            // The client may cache its names, of which there are none.
            self.nodes.node_mut(id).pure = layer == UPPER;
            self.watches.is_own(id);
        }
        Ok(self.entry(directory, id, stat))
    }

    /// The upper of `directory`, in which `name` is not there; and whether it is a whiteout.
    fn absent(&mut self, directory: NodeId, name: Name<'_>) -> Result<(Arc<Merged>, bool), Errno> {
        let merged = self.directory(directory)?;
        if self.bindings.at(directory, name).is_some() {
            return Err(Errno::EEXIST);
        }
        match self.layers.find(&merged, name)? {
            Sight::Found(_) => Err(Errno::EEXIST),
            Sight::Absent { whiteout } => Ok((self.upper_directory(directory)?, whiteout)),
        }
    }

    /// LINK.
    pub(crate) fn link(
        &mut self,
        target: NodeId,
        directory: NodeId,
        name: Name<'_>,
    ) -> Result<Entry, Errno> {
        self.directory(directory)?;
        if self.nodes.get(target)?.is_directory() {
            return Err(Errno::EPERM);
        }
        let (merged, whiteout) = self.absent(directory, name)?;
        if self.at(target)?.volume() != merged.volume {
            return Err(Errno::EXDEV);
        }
        self.copy_up(target, u64::MAX)?;
        let at = self.at(target)?;
        if whiteout {
            let (staged, ()) = self.stage(|state, temporary| {
                let (source, old) = state.directory_of(&at)?;
                source.link(old, &state.work, temporary)
            })?;
            self.publish(staged, merged.upper(), name, Rename::Replace)?;
        } else {
            let (source, old) = self.directory_of(&at)?;
            source.link(old, merged.upper(), name)?;
        }
        if self.nodes.get(target)?.shown.is_some_and(|shown| shown.kind != TYPE_REGULAR) {
            stored::mark_disguises(merged.upper())?;
        }
        self.forget_name(directory, name);
        let orphan = self.nodes.node_mut(target).orphan.take();
        self.nodes.attach(target, directory, name);
        if let Some(Orphan::InWork(name)) = orphan {
            self.discard_name(&name);
        }
        let stat = merged.upper().stat(name)?.ok_or(Errno::EIO)?;
        Ok(self.entry(directory, target, &stat))
    }
}
