//! Which directories of the parent are elsewhere: their old places are no deletions.

use super::is_below;
use super::walk::{Walk, join, path_of};
use crate::host::Directory;
use crate::stored;
use fuse::Name;
use fuse::dirent::Dirent;
use std::rc::Rc;

/// A directory of the upper that is to be looked at.
struct Next {
    above: Rc<Directory>,
    /// Empty for the root.
    name: Vec<u8>,
    /// The paths of the directory above, in the space and as the lowers have it.
    path: Vec<u8>,
    below: Vec<u8>,
    /// The directory above hides what the parent has there.
    opaque: bool,
}

impl Walk<'_, '_> {
    /// Notes them, and the redirects to a directory's own place.
    pub(super) fn find_moved(&mut self) {
        let Ok(root) = self.tree.root.upper().try_clone() else { return };
        let (name, path, below) = (Vec::new(), Vec::new(), Vec::new());
        let mut open = vec![Next { above: Rc::new(root), name, path, below, opaque: false }];
        // Those below an opaque directory, by the paths of the parent and the space.
        let mut kept = Vec::new();
        while let Some(mut next) = open.pop() {
            let mut here = Rc::clone(&next.above);
            if !next.name.is_empty() {
                let Ok(name) = Name::new(&next.name) else { continue };
                // What cannot be opened is said by the other walk.
                let Ok(directory) = next.above.directory(name, true) else { continue };
                self.redirected(&directory, &mut next, &mut kept);
                here = Rc::new(directory);
            }
            let Next { path, below, opaque, .. } = next;
            // So is what cannot be listed.
            let _ = here.list(|name, _, kind| {
                if kind == Dirent::DIRECTORY || kind == 0 {
                    open.push(Next {
                        above: Rc::clone(&here),
                        name: name.as_bytes().to_vec(),
                        path: path.clone(),
                        below: below.clone(),
                        opaque,
                    });
                }
            });
        }
        // In the place of a directory that is elsewhere, what came back to its name was moved.
        kept.sort();
        for (below, path) in kept {
            match self.moved.iter().any(|moved| is_below(&below, moved)) {
                true => drop(self.moved.insert(below)),
                false => self.redundant.push(path_of(&path)),
            }
        }
    }

    /// Looks at one directory; `next` is of what is in it from here on.
    fn redirected(
        &mut self,
        directory: &Directory,
        next: &mut Next,
        kept: &mut Vec<(Vec<u8>, Vec<u8>)>,
    ) {
        next.path = join(&next.path, &next.name);
        next.below = join(&next.below, &next.name);
        let marked = self.tree.layers.marks.is_opaque(directory).unwrap_or(false);
        let redirect = stored::redirect(directory).ok().flatten().filter(|_| !marked);
        let opaque = next.opaque;
        next.opaque = marked || opaque && redirect.is_none();
        match redirect {
            None => {}
            Some(redirect) if redirect != next.below => {
                self.moved.insert(redirect.clone());
                next.below = redirect;
            }
            Some(_) if opaque => kept.push((next.below.clone(), next.path.clone())),
            Some(_) => self.redundant.push(path_of(&next.path)),
        }
    }
}
