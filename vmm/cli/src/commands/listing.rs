//! `portspace ls`: the spaces there are, for people and as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;

use monitor::control::Status;
use serde::Serialize;
use switch::status::{Machine, SpaceStatus};

use crate::config::SpaceName;
use crate::failure::Outcome;
use crate::lifecycle::{self, Spaces};
use crate::lineage::{Layer, Lineage};
use crate::link;
use crate::mounting::Shown;

/// One space, as listings show it.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    pub(super) name: String,
    /// `running`, `starting`, `mounted` or `stopped`; `plugged` or `awaited` if its machine is not ours.
    pub(super) state: &'static str,
    pub(super) address: Option<String>,
    pub(super) peer: Option<String>,
    pub(super) file: Option<PathBuf>,
    pub(super) root: Option<PathBuf>,
    /// The space it was made from; none for the host.
    pub(super) parent: Option<String>,
    /// The layers between its own and the host, topmost first.
    pub(super) chain: Vec<Layer>,
    pub(super) disks: Vec<monitor::Disk>,
    pub(super) memory_bytes: Option<u64>,
    pub(super) vm: Option<Status>,
    /// Where its files are mounted.
    pub(super) mounted: Option<PathBuf>,
    /// Where a foreign machine connects for its files.
    pub(super) plugged: Option<PathBuf>,
    /// Why it ended, if nobody stopped it.
    pub(super) ended: Option<String>,
    /// Where its own files and its log are, if it has a machine of ours.
    pub(super) upper: Option<PathBuf>,
    pub(super) log: Option<PathBuf>,
}

/// Lists every space.
pub(super) fn ls(json: bool) -> Outcome<()> {
    let spaces = Spaces::open()?;
    let names = spaces.paths.spaces()?;
    let mut entries: Vec<Entry> = names.iter().map(|name| entry(&spaces, name)).collect();
    let overview = link::overview(&spaces.paths);
    for plugged in overview.iter().flat_map(|status| &status.spaces).filter_map(plugged) {
        match entries.iter_mut().find(|entry| entry.name == plugged.name) {
            // Its files are known here, its machine to the switch.
            Some(Entry { state, address, peer, mounted: None, .. }) => {
                (*state, *address, *peer) = (plugged.state, plugged.address, plugged.peer);
            }
            Some(Entry { address, peer, .. }) => {
                (*address, *peer) = (plugged.address, plugged.peer);
            }
            None => entries.push(plugged),
        }
    }
    if json {
        return print_json(&entries);
    }
    if entries.is_empty() {
        say!("no spaces; create one with: portspace up FILE.toml");
        return Ok(());
    }
    say!(
        "{:<16} {:<9} {:<16} {:<16} {:>7} {:>10}",
        "NAME",
        "STATE",
        "ADDRESS",
        "PEER",
        "PID",
        "MEMORY KiB"
    );
    for entry in entries {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        let vm = |part: fn(&Status) -> u64| match &entry.vm {
            Some(vm) => part(vm).to_string(),
            None => "-".to_owned(),
        };
        say!(
            "{:<16} {:<9} {:<16} {:<16} {:>7} {:>10}",
            entry.name,
            entry.state,
            text(&entry.address),
            text(&entry.peer),
            vm(|vm| u64::from(vm.pid)),
            vm(|vm| vm.vm_kib + vm.guest_kib),
        );
        if let Some(why) = &entry.ended {
            say!("{:<16} {why}", "");
        }
    }
    Ok(())
}

/// Counts by reason, in a line.
pub(super) fn reasons(drops: &BTreeMap<String, u64>) -> String {
    if drops.is_empty() {
        return "nothing".to_owned();
    }
    let each = drops.iter().map(|(reason, count)| format!("{count} {}", reason.replace('_', " ")));
    each.collect::<Vec<_>>().join(", ")
}

pub(super) fn entry(spaces: &Spaces, name: &SpaceName) -> Entry {
    let paths = spaces.paths.space(name);
    let running = spaces.running(name).ok();
    let vm = running.as_ref().and_then(|running| running.control.status().ok());
    let (mounted, plugged) = match spaces.shown(name).ok().flatten().map(|note| note.at) {
        Some(Shown::Mounted { directory, .. }) => (Some(directory), None),
        Some(Shown::Plugged(socket)) => (None, Some(socket)),
        None => (None, None),
    };
    let is_shown = mounted.is_some() || plugged.is_some();
    let state = match (&running, &vm) {
        (None, _) if mounted.is_some() => "mounted",
        (None, _) if plugged.is_some() => "plugged",
        (None, _) => "stopped",
        (Some(_), Some(vm)) if vm.ready => "running",
        (Some(_), _) => "starting",
    };
    let ended = if running.is_none() { lifecycle::ended(&paths) } else { None };
    let note = running.map(|running| running.note);
    // What is wrong with a chain is said by what needs it.
    let lineage = Lineage::read(&spaces.paths, &paths).ok().flatten();
    Entry {
        name: name.to_string(),
        state,
        address: note.as_ref().map(|note| note.address.to_string()),
        peer: note.as_ref().map(|note| note.peer.to_string()),
        memory_bytes: note.as_ref().map(|note| note.memory_bytes),
        root: note.as_ref().and_then(|note| note.root.clone()),
        parent: lineage.as_ref().and_then(|lineage| lineage.parent().map(str::to_owned)),
        chain: lineage.map(|lineage| lineage.layers(&spaces.paths)).unwrap_or_default(),
        disks: note.as_ref().map(|note| note.disks.clone()).unwrap_or_default(),
        file: note.map(|note| note.file),
        vm,
        log: Some(if is_shown { paths.mount_log() } else { paths.log() }),
        mounted,
        plugged,
        ended,
        upper: Some(paths.upper()),
    }
}

/// A space whose machine is not ours: the switch alone knows of it.
fn plugged(space: &SpaceStatus) -> Option<Entry> {
    let state = match space.machine {
        Machine::Own => return None,
        Machine::Foreign => "plugged",
        Machine::Awaited => "awaited",
    };
    Some(Entry {
        name: space.space.clone(),
        state,
        address: space.addresses.first().map(ToString::to_string),
        peer: Some(space.peer.ip().to_string()),
        file: None,
        root: None,
        parent: None,
        chain: Vec::new(),
        disks: Vec::new(),
        memory_bytes: None,
        vm: None,
        mounted: None,
        plugged: None,
        ended: None,
        upper: None,
        log: None,
    })
}

/// Prints data as JSON on standard output, one object.
pub(super) fn print_json(data: &impl Serialize) -> Outcome<()> {
    let text = serde_json::to_string_pretty(data).expect("listings are JSON");
    say!("{text}");
    Ok(())
}
