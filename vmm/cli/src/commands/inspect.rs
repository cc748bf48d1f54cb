//! `portspace inspect`: one space on one screen, and whether its overlay is up.

use serde::Serialize;
use switch::status::{SpaceStatus, Status};

use super::listing::{Entry, entry, print_json, reasons};
use crate::config::SpaceName;
use crate::failure::{Failure, Outcome};
use crate::lifecycle::Spaces;
use crate::link;
use crate::table::short;
use crate::verdict::{Facts, Verdict, mode, remarks};

/// Pairs of SAs that are shown one by one.
const MOST_PAIRS: usize = 4;

/// Everything about a space; the JSON of `inspect --json`.
#[derive(Serialize)]
struct Inspection {
    /// Absent of a space that is plugged in from a terminal.
    #[serde(flatten)]
    entry: Option<Entry>,
    switch: Option<SpaceStatus>,
    overlay: Option<Judgement>,
}

/// Whether the overlay is up, and why.
#[derive(Serialize)]
struct Judgement {
    up: bool,
    verdict: Verdict,
    sentence: String,
    remarks: Vec<String>,
}

/// Shows one space, and what the switch says about it.
pub(super) fn inspect(name: &SpaceName, json: bool) -> Outcome<()> {
    let spaces = Spaces::open()?;
    let is_known = spaces.paths.spaces()?.contains(name);
    // A space may be looked at although its switch does not answer.
    let told = link::space(&spaces.paths, name).ok().flatten();
    if !is_known && told.is_none() {
        let sentence = format!("there is no space {name}; portspace ls lists those there are");
        return Err(Failure::new(sentence));
    }
    let overlay = told.as_ref().map(|(switch, space)| judge(switch, space));
    let switch = told.map(|(_, space)| space);
    let entry = is_known.then(|| entry(&spaces, name));
    if json {
        return print_json(&Inspection { entry, switch, overlay });
    }
    match &entry {
        Some(entry) => show_entry(entry),
        None => say!("space    {name} (plugged in)"),
    }
    match (&switch, &overlay) {
        (Some(switch), Some(overlay)) => show_switch(switch, overlay),
        _ => say!(
            "overlay  down: the switch knows nothing of this space; start it with: portspace up"
        ),
    }
    Ok(())
}

fn judge(switch: &Status, space: &SpaceStatus) -> Judgement {
    let facts = Facts {
        space,
        strays: &switch.strays,
        unsent: switch.turns.send_lost,
        now_ns: switch.at_ns,
    };
    let verdict = Verdict::of(&facts);
    Judgement {
        up: verdict.is_up(),
        verdict,
        sentence: verdict.sentence(&facts),
        remarks: remarks(&facts),
    }
}

fn show_entry(entry: &Entry) {
    say!("space    {} ({})", entry.name, entry.state);
    if let Some(why) = &entry.ended {
        say!("ended    {why}");
    }
    if let Some(vm) = &entry.vm {
        say!(
            "machine  process {}, {} KiB and {} KiB of the guest's",
            vm.pid,
            vm.vm_kib,
            vm.guest_kib
        );
    }
    if let Some(directory) = &entry.mounted {
        say!("mounted  {}", directory.display());
    }
    if let Some(socket) = &entry.plugged {
        say!("plugged  {}", socket.display());
    }
    if let Some(parent) = &entry.parent {
        say!("parent   space {parent}");
    }
    for layer in &entry.chain {
        say!("layer    {} of space {}", layer.id, layer.from);
    }
    if let Some(root) = &entry.root {
        let what = if entry.parent.is_some() { "host  " } else { "parent" };
        say!("{what}   {} (read only)", root.display());
    }
    if let Some(upper) = &entry.upper {
        say!("files    {}", upper.display());
    }
    for (number, disk) in entry.disks.iter().enumerate() {
        let image = disk.image.display();
        match disk.layers.last() {
            Some(layer) => say!("disk {number}   {image} under {}", layer.display()),
            None => say!("disk {number}   {image} (read only)"),
        }
    }
    if let Some(log) = &entry.log {
        say!("log      {}", log.display());
    }
}

fn show_switch(space: &SpaceStatus, overlay: &Judgement) {
    let addresses: Vec<_> = space.addresses.iter().map(ToString::to_string).collect();
    say!(
        "network  {} ({}, {}) to {}, MTU {}",
        space.local,
        space.encapsulation,
        mode(space.mode),
        space.peer,
        space.mtu
    );
    say!("inside   {}", addresses.join(", "));
    let state = if overlay.up { "up" } else { "down" };
    say!("overlay  {state}: {}", overlay.sentence);
    for remark in &overlay.remarks {
        say!("note     {remark}");
    }
    say!(
        "packets  {} in, {} out; dropped outside of the SAs: {}",
        short(space.received.packets),
        short(space.sent.packets),
        reasons(&space.drops)
    );
    for pair in space.pairs.iter().take(MOST_PAIRS) {
        let (inbound, outbound) = (&pair.inbound, &pair.outbound);
        say!(
            "in       SPI {:#x} {}: {} packets, {} bytes; discarded: {}",
            inbound.spi,
            inbound.suite,
            short(inbound.packets),
            short(inbound.bytes),
            reasons(&inbound.drops)
        );
        say!(
            "out      SPI {:#x} {}: {} packets, {} bytes",
            outbound.spi,
            outbound.suite,
            short(outbound.packets),
            short(outbound.bytes)
        );
    }
    if space.pairs.len() > MOST_PAIRS {
        let more = space.pairs.len() - MOST_PAIRS;
        say!("         and {more} pairs of SAs more: portspace sa ls {}", space.space);
    }
}
