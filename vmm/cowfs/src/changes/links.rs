//! Names of the parent that stand for a file of the index: the upper has the file, not the name.

use super::walk::{Looked, Walk, join, names_below};
use super::{Means, Thing};
use crate::layer::{Merged, Sight, UPPER};
use crate::stored;
use fuse::{Errno, Name};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

impl Walk<'_, '_> {
    /// Looks for them all over the tree, and no longer than some are missing.
    pub(super) fn find_links(&mut self) {
        let mut missing = self.pending();
        let Ok(root) = self.tree.root.upper().try_clone() else { return };
        let root = self.tree.layers.root(root);
        let mut open = vec![(Rc::new(root), None::<Vec<u8>>, Vec::new())];
        while let Some((above, name, path)) = open.pop() {
            if missing.is_empty() {
                return;
            }
            let merged = match name {
                None => above,
                Some(name) => match self.open_seen(&above, &name) {
                    // Whatever cannot be opened the other walk has told of, or is the parent's.
                    Ok(Some(merged)) => Rc::new(merged),
                    _ => continue,
                },
            };
            let Ok(names) = names_seen(&merged) else { continue };
            for name in names {
                let path = join(&path, &name);
                if let Ok(true) = self.pending_name(&merged, &name, &path, &mut missing) {
                    open.push((Rc::clone(&merged), Some(name), path));
                }
            }
        }
    }

    /// How many names each file of the index still has in the lowers.
    fn pending(&self) -> HashMap<Arc<[u8]>, u32> {
        let Some(Some(index)) = self.tree.indexes.first() else { return HashMap::new() };
        let each = index.keys().filter_map(|key| {
            let file = self.tree.indexed(key).ok()?.opened().ok()?;
            let pending = stored::pending(&file).ok()?;
            (pending > 0).then(|| (Arc::clone(key), pending))
        });
        each.collect()
    }

    fn open_seen(&self, above: &Merged, name: &[u8]) -> Result<Option<Merged>, Errno> {
        let name = Name::new(name)?;
        match self.tree.layers.find(above, name)? {
            Sight::Found(found) => self.tree.layers.open(above, name, found.place).map(Some),
            Sight::Absent { .. } => Ok(None),
        }
    }

    /// Looks at one name; true for a directory.
    fn pending_name(
        &mut self,
        merged: &Merged,
        name: &[u8],
        path: &[u8],
        missing: &mut HashMap<Arc<[u8]>, u32>,
    ) -> Result<bool, Errno> {
        let name = Name::new(name)?;
        let Sight::Found(found) = self.tree.layers.find(merged, name)? else { return Ok(false) };
        if found.stat.is_directory() {
            return Ok(true);
        }
        if found.place.layer == UPPER {
            return Ok(false);
        }
        let found = found.through(&self.tree.indexes, UPPER + 1)?;
        let key = found.place.key();
        let Some(left) = missing.get_mut(&key) else { return Ok(false) };
        *left -= 1;
        if *left == 0 {
            missing.remove(&key);
        }
        self.stand_apart(&merged.below);
        let own: Thing = self.tree.indexed(&key)?;
        let below = merged.path_below(name);
        if let Some(lower) = self.tree.lower(merged, name)? {
            let looked = Looked::new(name, path.to_vec(), below, lower);
            self.file(own, looked, Means::Index(key), None)?;
        }
        Ok(false)
    }
}

pub(super) fn names_seen(merged: &Merged) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = names_below(merged)?;
    let known: HashSet<Vec<u8>> = names.iter().cloned().collect();
    if let Some(upper) = &merged.upper {
        upper.list(|name, _, _| {
            if !known.contains(name.as_bytes()) {
                names.push(name.as_bytes().to_vec());
            }
        })?;
    }
    Ok(names)
}
