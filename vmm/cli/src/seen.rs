//! Works out what a space sees of the host: what its configuration says, where its layers are,
//! and what no space sees.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cowfs::{Binding, Crossing, LowerLayer, Settings};
use serde::{Deserialize, Serialize};

use crate::config::{Content, Files};
use crate::failure::{Failure, Outcome, While};
use crate::lineage::Lineage;
use crate::paths::{Paths, SpacePaths};

/// Largest file that is injected, bytes.
const MOST_INJECTED: u64 = 16 << 20;

/// The files of a space whose configuration says `files`, on its chain; nothing is made.
///
/// # Errors
/// What is to be seen is not there, or is portspace's own.
pub(crate) fn settings(
    all: &Paths,
    paths: &SpacePaths,
    files: &Files,
    lineage: Option<&Lineage>,
) -> Outcome<Settings> {
    let files = &lineage.map_or_else(|| files.clone(), |lineage| lineage.files(files));
    let private = all.own().map(Path::to_owned).to_vec();
    let root = files.root.clone().unwrap_or_else(|| paths.empty());
    let real_root = fs::canonicalize(&root).unwrap_or_else(|_| root.clone());
    if files.root.is_some() && private.iter().any(|own| is_in(&real_root, own)) {
        let sentence = format!("[files] root: {} is portspace's own; name another", root.display());
        return Err(Failure::new(sentence));
    }
    let bindings = files.binds.iter().map(|bind| {
        let named = || format!("[[files.bind]] source: {} cannot be bound", bind.source.display());
        let real = fs::canonicalize(&bind.source).or_fail(named)?;
        if private.iter().any(|own| is_in(&real, own)) {
            let sentence = format!("{}: it is portspace's own; bind another", named());
            return Err(Failure::new(sentence));
        }
        Ok(Binding { at: bind.path.clone(), from: bind.source.clone(), write: bind.shared })
    });
    let bindings = bindings.collect::<Outcome<Vec<_>>>()?;
    let below = |path: &PathBuf| path.strip_prefix(&root).ok().map(Path::to_owned);
    let own = private.iter().filter_map(|own| {
        let real = fs::canonicalize(own).unwrap_or_else(|_| own.clone());
        real.strip_prefix(&real_root).ok().map(Path::to_owned)
    });
    let masks = files.masks.iter().filter_map(below).chain(own);
    let masks = masks.filter(|path| path.file_name().is_some()).collect();
    let crossing = match &files.mounts {
        None => Crossing::All,
        Some(mounts) if mounts.is_empty() => Crossing::None,
        Some(mounts) => Crossing::Only(mounts.iter().filter_map(below).collect()),
    };
    let given = given_files(paths);
    let given = given.exists().then_some(LowerLayer::Given(given));
    let [own, others] = lineage.map_or_else(Default::default, |lineage| lineage.sealed(all));
    // What the space wrote comes before what it was given; what others wrote does not.
    let lowest = match files.root {
        Some(_) => LowerLayer::Live(root),
        // Nobody changes nothing.
        None => LowerLayer::Sealed { files: root, index: None, own: true },
    };
    let lowers = own.into_iter().chain(given).chain(others).chain([lowest]).collect();
    let quota = files.quota;
    let sealing = lineage.map(|lineage| (paths.room(), lineage.home(all)));
    Ok(Settings {
        sealing,
        masks,
        private,
        crossing,
        bindings,
        quota,
        ..Settings::new(lowers, paths.upper(), paths.work())
    })
}

/// Whether a path is a directory's, by its own name or the one it has without links.
fn is_in(path: &Path, directory: &Path) -> bool {
    let real = fs::canonicalize(directory);
    path.starts_with(directory) || real.is_ok_and(|real| path.starts_with(real))
}

/// What a layer of single files is made of.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Given {
    /// Directories that stand for what is bound there.
    directories: Vec<PathBuf>,
    /// Files, with what is in them.
    files: Vec<(PathBuf, Vec<u8>)>,
}

fn given_files(paths: &SpacePaths) -> PathBuf {
    paths.given().join("files")
}

/// Makes the layer of what is injected, and of places for what is bound, so that neither the
/// parent nor the space's own layer has anything of it. One that is right already stays.
///
/// # Errors
/// A file cannot be read, or the layer not be made.
pub(crate) fn give(paths: &SpacePaths, files: &Files) -> Outcome<()> {
    let mut given = Given { directories: Vec::new(), files: Vec::new() };
    for bind in &files.binds {
        match fs::metadata(&bind.source) {
            Ok(source) if source.is_dir() => given.directories.push(bind.path.clone()),
            // One that is not there is named when it is to be bound.
            _ => given.files.push((bind.path.clone(), Vec::new())),
        }
    }
    // Below what is bound itself there is no place for a place.
    let bound = |path: &PathBuf| {
        path.ancestors().skip(1).any(|above| files.binds.iter().any(|bind| bind.path == above))
    };
    given.directories.retain(|path| !bound(path));
    given.files.retain(|(path, _)| !bound(path));
    for injected in &files.injected {
        let bytes = match &injected.content {
            Content::Text(text) => text.clone().into_bytes(),
            Content::File(file) => read(file).or_fail(|| {
                let path = injected.path.display();
                format!("[files.inject] {path:?}: {} cannot be injected", file.display())
            })?,
        };
        given.files.push((injected.path.clone(), bytes));
    }
    let layer = paths.given();
    let failed = || format!("cannot make {}", layer.display());
    let is_nothing = given.files.is_empty() && given.directories.is_empty();
    let kept = fs::read(layer.join("what.json")).ok();
    let kept = kept.and_then(|text| serde_json::from_slice::<Given>(&text).ok());
    if kept.as_ref() == Some(&given) {
        return Ok(());
    }
    let old = match fs::remove_dir_all(&layer) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    };
    old.or_fail(failed)?;
    if is_nothing {
        return Ok(());
    }
    build(&layer, &given).or_fail(failed)
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(file)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file; name one"));
    }
    if metadata.len() > MOST_INJECTED {
        let what = format!("it is larger than {} MiB; bind it instead", MOST_INJECTED >> 20);
        return Err(io::Error::other(what));
    }
    fs::read(file)
}

fn build(layer: &Path, given: &Given) -> io::Result<()> {
    let staged = layer.with_extension("new");
    match fs::remove_dir_all(&staged) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new().mode(0o700).create(&staged)?;
    let root = staged.join("files");
    let place = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    let directory = |path: &Path| {
        // Made for who sees them inside, whatever the user's umask is.
        let mut made = root.clone();
        fs::DirBuilder::new().recursive(true).create(&made)?;
        for part in path.strip_prefix(&root).into_iter().flatten() {
            made.push(part);
            fs::DirBuilder::new().recursive(true).create(&made)?;
            fs::set_permissions(&made, fs::Permissions::from_mode(0o755))?;
        }
        Ok::<_, io::Error>(())
    };
    for path in &given.directories {
        directory(&place(path))?;
    }
    for (path, bytes) in &given.files {
        let path = place(path);
        directory(path.parent().unwrap_or(&root))?;
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    fs::write(staged.join("what.json"), serde_json::to_vec(given)?)?;
    fs::rename(staged, layer)
}

#[cfg(test)]
mod tests;
