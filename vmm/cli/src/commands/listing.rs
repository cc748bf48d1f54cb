//! `portspace ls`, `inspect`: what there is, for people and as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;

use monitor::control::Status;
use serde::Serialize;
use switch::control::SpaceStatus;

use crate::config::SpaceName;
use crate::failure::{Failure, Outcome};
use crate::lifecycle::{self, Spaces};
use crate::link;

/// One space, as listings show it.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    /// `running`, `starting` or `stopped`.
    state: &'static str,
    address: Option<String>,
    peer: Option<String>,
    file: Option<PathBuf>,
    root: Option<PathBuf>,
    memory_bytes: Option<u64>,
    vm: Option<Status>,
    /// Why it ended, if nobody stopped it.
    ended: Option<String>,
    upper: PathBuf,
    log: PathBuf,
}

/// Lists every space.
pub(super) fn ls(json: bool) -> Outcome<()> {
    let spaces = Spaces::open()?;
    let names = spaces.paths.spaces()?;
    let entries: Vec<Entry> = names.iter().map(|name| entry(&spaces, name)).collect();
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

/// Shows one space, and what the switch says about it.
pub(super) fn inspect(name: &SpaceName, json: bool) -> Outcome<()> {
    #[derive(Serialize)]
    struct Inspection {
        #[serde(flatten)]
        entry: Entry,
        switch: Option<SpaceStatus>,
    }
    let spaces = Spaces::open()?;
    if !spaces.paths.spaces()?.contains(name) {
        let sentence = format!("there is no space {name}; portspace ls lists those there are");
        return Err(Failure::new(sentence));
    }
    let entry = entry(&spaces, name);
    // A space may be looked at although its switch does not answer.
    let status = link::status(&spaces.paths).ok().flatten().unwrap_or_default();
    let switch = status.spaces.into_iter().find(|space| space.space == name.as_str());
    if json {
        return print_json(&Inspection { entry, switch });
    }
    say!("space    {} ({})", entry.name, entry.state);
    if let (Some(address), Some(peer)) = (&entry.address, &entry.peer) {
        say!("network  {address} to {peer}");
    }
    if let Some(why) = &entry.ended {
        say!("ended    {why}");
    }
    if let Some(vm) = &entry.vm {
        say!("memory   VM process {} KiB, guest {} KiB", vm.vm_kib, vm.guest_kib);
        say!("process  {}", vm.pid);
    }
    if let Some(root) = &entry.root {
        say!("parent   {} (read only)", root.display());
    }
    say!("files    {}", entry.upper.display());
    say!("log      {}", entry.log.display());
    match switch {
        Some(switch) => show_switch(&switch),
        None => say!("switch   knows nothing of this space"),
    }
    Ok(())
}

fn show_switch(switch: &SpaceStatus) {
    for pair in &switch.pairs {
        say!(
            "in       SPI {:#x} {}: {} packets, {} bytes; dropped: {}",
            pair.inbound.spi,
            pair.inbound.suite,
            pair.inbound.packets,
            pair.inbound.bytes,
            reasons(&pair.inbound.drops)
        );
        say!(
            "out      SPI {:#x} {}: {} packets, {} bytes",
            pair.outbound.spi,
            pair.outbound.suite,
            pair.outbound.packets,
            pair.outbound.bytes
        );
    }
    say!("dropped  {}", reasons(&switch.drops));
}

/// Counts by reason, in a line.
fn reasons(drops: &BTreeMap<String, u64>) -> String {
    if drops.is_empty() {
        return "nothing".to_owned();
    }
    let each = drops.iter().map(|(reason, count)| format!("{count} {}", reason.replace('_', " ")));
    each.collect::<Vec<_>>().join(", ")
}

fn entry(spaces: &Spaces, name: &SpaceName) -> Entry {
    let paths = spaces.paths.space(name);
    let running = spaces.running(name).ok();
    let vm = running.as_ref().and_then(|running| running.control.status().ok());
    let state = match (&running, &vm) {
        (None, _) => "stopped",
        (Some(_), Some(vm)) if vm.ready => "running",
        (Some(_), _) => "starting",
    };
    let ended = if running.is_none() { lifecycle::ended(&paths) } else { None };
    let note = running.map(|running| running.note);
    Entry {
        name: name.to_string(),
        state,
        address: note.as_ref().map(|note| note.address.to_string()),
        peer: note.as_ref().map(|note| note.peer.to_string()),
        memory_bytes: note.as_ref().map(|note| note.memory_bytes),
        root: note.as_ref().and_then(|note| note.root.clone()),
        file: note.map(|note| note.file),
        vm,
        ended,
        upper: paths.upper(),
        log: paths.log(),
    }
}

/// Prints data as JSON on standard output, one object.
fn print_json(data: &impl Serialize) -> Outcome<()> {
    let text = serde_json::to_string_pretty(data).expect("listings are JSON");
    say!("{text}");
    Ok(())
}
